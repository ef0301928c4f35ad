"""Contract 1.6 to 1.8: failed requests, clients that go away, and every kind of request."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import anyio
import pytest
from tasks_core import (
    Phase,
    Task,
    TaskConfig,
    TaskSkipped,
    TasksScheduler,
    TaskState,
    current_tasks,
)
from tasks_core.asgi import Message

from tests.conformance.cases import (
    RouteKind,
    async_function,
    at,
    each_phase,
    each_route,
    each_wrapping,
    finish,
    noting,
)
from tests.conformance.driver import Exchange, serve
from tests.conformance.harness import (
    Answer,
    Dependency,
    Empty,
    ErrorAnswer,
    File,
    Harness,
    Route,
    ServerSocket,
    SocketRoute,
    Stream,
    Text,
    build,
)

pytestmark = pytest.mark.anyio

LATER = (Phase.AFTER_ROUTE, Phase.AFTER_RESPONSE)


class Refused(Exception):  # noqa: N818 - a name of the application's
    """The application answers this by itself."""


Failure: TypeAlias = Callable[[Harness], Exception]
FAILURES: dict[str, Failure] = {
    "http_error": lambda harness: harness.http_error(418),
    "handled": lambda _: Refused(),
    "unhandled": lambda _: ValueError("unhandled"),
}
each_failure = pytest.mark.parametrize(
    "failure",
    FAILURES.values(),
    ids=FAILURES,
)


class Plan:
    """Schedules two tasks for each later phase, of each ``run_on``; notes which of them run."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.made: dict[str, Task] = {}

    def schedule(self, tasks: TasksScheduler) -> None:
        for phase in LATER:
            for run_on in (None, "success", "failure", "always"):
                name = f"{phase} {run_on}"
                task = async_function(partial(self.ran.append, name))
                batch = at(tasks, phase).task(name=name, run_on=run_on)
                self.made[name] = batch.schedule(task)

    async def assert_outcome(self, *ran: str | None) -> None:
        """Assert that the tasks of these ``run_on`` ran, and that the others were skipped."""
        await finish(self.made.values())
        assert self.ran == [f"{phase} {run_on}" for phase in LATER for run_on in ran]
        for name, task in self.made.items():
            expected = TaskState.SUCCEEDED if name in self.ran else TaskState.SKIPPED
            assert (name, task.state) == (name, expected)

    async def assert_failure(self) -> None:
        await self.assert_outcome("failure", "always")

    async def assert_success(self) -> None:
        await self.assert_outcome(None, "success", "always")


@each_wrapping
@each_route
@each_failure
async def test_later_phases_of_a_failed_request(
    harness: Harness, failure: Failure, route_kind: RouteKind, *, wrapped: bool
) -> None:
    """1.6 A request fails when its route raises: tasks of later phases run if they are for that."""
    plan = Plan()

    def route(tasks: TasksScheduler) -> None:
        plan.schedule(tasks)
        raise failure(harness)

    answers: dict[type[Exception], ErrorAnswer] = {Refused: lambda _: Text(status=200)}
    app = build(harness, route_kind(route), answers=answers, wrapped=wrapped)
    async with serve(app) as server:
        await server.request()
        await plan.assert_failure()


async def _streamed() -> AsyncIterator[bytes]:
    yield b"1"
    await anyio.lowlevel.checkpoint()
    yield b"2"


ERROR_ANSWERS: dict[str, Callable[[Path], Answer]] = {
    "text": lambda _: Text("text"),
    "redirect": lambda _: Text(status=303),
    "error": lambda _: Text(status=500),
    "empty": lambda _: Empty(204),
    "stream": lambda _: Stream(_streamed()),
    "file": File,
}


@each_route
@pytest.mark.parametrize("answer", ERROR_ANSWERS.values(), ids=ERROR_ANSWERS)
async def test_a_failed_request_has_failed_whatever_answers_it(
    harness: Harness, answer: Callable[[Path], Answer], route_kind: RouteKind, tmp_path: Path
) -> None:
    """1.6 The kind of the answer and its status say nothing about whether a request has failed."""
    plan = Plan()
    path = tmp_path / "sorry.html"
    path.write_text("sorry")

    def route(tasks: TasksScheduler) -> None:
        plan.schedule(tasks)
        raise Refused

    app = build(harness, route_kind(route), answers={Refused: lambda _: answer(path)})
    async with serve(app) as server:
        exchange = await server.request()
        assert exchange.error is None
        await plan.assert_failure()


@each_wrapping
async def test_what_is_scheduled_once_the_request_has_failed(
    harness: Harness, *, wrapped: bool
) -> None:
    """1.6 It runs, unless its settings say that it runs on success: who schedules it knows."""
    plan = Plan()

    async def route(_: TasksScheduler) -> None:
        raise Refused

    def answer(_: Exception) -> Text:
        plan.schedule(current_tasks())
        return Text()

    app = build(harness, route, answers={Refused: answer}, wrapped=wrapped)
    async with serve(app) as server:
        await server.request()
        await plan.assert_outcome(None, "failure", "always")


@each_failure
@each_route
async def test_a_mounted_application_may_fail(
    harness: Harness, failure: Failure, route_kind: RouteKind
) -> None:
    """1.6 What is raised in a mounted application fails the request, whatever answers it."""
    plan = Plan()

    def endpoint(tasks: TasksScheduler) -> None:
        plan.schedule(tasks)
        raise failure(harness)

    answers: dict[type[Exception], ErrorAnswer] = {Refused: lambda _: Text()}
    mounted = {"/inner": Route(endpoint=route_kind(endpoint))}
    async with serve(build(harness, mounted=mounted, answers=answers)) as server:
        await server.request("/mounted/inner")
        await plan.assert_failure()


@pytest.mark.needs("validation", "dependencies")
@each_wrapping
@each_route
async def test_validation_error_is_a_failure(
    harness: Harness, route_kind: RouteKind, *, wrapped: bool
) -> None:
    """1.6 A request that the framework's validation refuses has failed."""
    plan = Plan()

    async def around(tasks: TasksScheduler) -> AsyncGenerator[None, None]:
        plan.schedule(tasks)
        yield

    route = Route(
        endpoint=route_kind(lambda _: None), dependency=Dependency(around=around), number=True
    )
    async with serve(build(harness, route, wrapped=wrapped)) as server:
        exchange = await server.request("/?number=one")
        assert 400 <= exchange.status < 500
        await plan.assert_failure()


@each_wrapping
@each_route
@pytest.mark.parametrize("status", [200, 302, 404, 500])
async def test_an_error_that_is_returned_is_a_success(
    harness: Harness, route_kind: RouteKind, status: int, *, wrapped: bool
) -> None:
    """1.6 A response that the route returned is a success, whatever its status."""
    plan = Plan()

    def route(tasks: TasksScheduler) -> Text:
        plan.schedule(tasks)
        return Text(status=status)

    async with serve(build(harness, route_kind(route), wrapped=wrapped)) as server:
        exchange = await server.request()
        assert exchange.status == status
        await plan.assert_success()


@each_route
async def test_an_exception_within_a_route_is_no_failure(
    harness: Harness, route_kind: RouteKind
) -> None:
    """1.6 An exception that the route handles by itself is no failure."""
    plan = Plan()

    def route(tasks: TasksScheduler) -> Text:
        try:
            raise Refused  # noqa: TRY301 - this is what it is about
        except Refused:
            plan.schedule(tasks)
            return Text(status=409)

    async with serve(build(harness, route_kind(route))) as server:
        await server.request()
        await plan.assert_success()


def raise_again(error: LookupError) -> None:
    raise error


def raise_another_from(error: LookupError) -> None:
    raise Refused from error


def raise_another(_: LookupError) -> None:
    raise Refused


def raise_a_group(error: LookupError) -> None:
    raise ExceptionGroup("", [ValueError(), error])


RAISES = [raise_again, raise_another_from, raise_another, raise_a_group]


@each_route
@pytest.mark.parametrize("raises", RAISES)
async def test_what_is_scheduled_while_the_failure_is_handled(
    harness: Harness, route_kind: RouteKind, raises: Callable[[LookupError], None]
) -> None:
    """1.6 Who schedules where an exception is handled knows that the request fails by it."""
    plan = Plan()

    def route(tasks: TasksScheduler) -> None:
        try:
            raise LookupError  # noqa: TRY301 - this is what it is about
        except LookupError as error:
            plan.schedule(tasks)
            raises(error)

    async with serve(build(harness, route_kind(route))) as server:
        await server.request()
        await plan.assert_outcome(None, "failure", "always")


@each_route
async def test_what_is_scheduled_while_something_else_is_handled(
    harness: Harness, route_kind: RouteKind
) -> None:
    """1.6 That the request fails later, by another exception, nobody knows there."""
    plan = Plan()

    def route(tasks: TasksScheduler) -> None:
        try:
            raise LookupError  # noqa: TRY301 - this is what it is about
        except LookupError:
            plan.schedule(tasks)
        raise Refused

    async with serve(build(harness, route_kind(route))) as server:
        await server.request()
        await plan.assert_failure()


@each_failure
async def test_an_error_in_mid_stream_is_a_failure(harness: Harness, failure: Failure) -> None:
    """1.6 A response that raises while it streams fails the request: what comes after it knows."""
    ran: list[str] = []
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> Stream:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"1"
            raise failure(harness)

        for run_on in ("success", "failure", "always"):
            task = async_function(partial(ran.append, run_on))
            made.append(tasks.after_response.task(run_on=run_on).schedule(task))
        return Stream(chunks())

    async with serve(build(harness, route)) as server:
        await server.request()
        await finish(made)
    assert ran == ["failure", "always"]


@each_failure
async def test_immediate_task_of_a_failed_request(harness: Harness, failure: Failure) -> None:
    """1.6 An immediate task runs whatever becomes of its request."""
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.append(tasks.schedule(async_function(lambda: "done")))
        raise failure(harness)

    async with serve(build(harness, route)) as server:
        await server.request()
        assert await made[0].wait() == "done"


@pytest.mark.parametrize("fails", [False, True], ids=["success", "failure"])
async def test_run_on_is_a_setting_like_any_other(harness: Harness, *, fails: bool) -> None:
    """1.6 `run_on` can be chosen for the application, and otherwise for a task."""
    ran: list[str] = []
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        task = async_function(partial(ran.append, "application's"))
        made.append(tasks.after_response.schedule(task))
        task = async_function(partial(ran.append, "task's"))
        made.append(tasks.after_response.task(run_on="success").schedule(task))
        if fails:
            raise harness.http_error(418)

    async with serve(build(harness, route, config=TaskConfig(run_on="failure"))) as server:
        await server.request()
        await finish(made)
    assert ran == (["application's"] if fails else ["task's"])


@pytest.mark.parametrize("phase", LATER, ids=str)
async def test_a_skipped_task_says_so(
    harness: Harness, phase: Phase, caplog: pytest.LogCaptureFixture
) -> None:
    """1.6 A skipped task ends as skipped, with one INFO record that names it."""
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.append(at(tasks, phase).task(name="receipt").schedule(async_function(lambda: None)))
        raise harness.http_error(418)

    caplog.set_level(logging.DEBUG, "tasks_core")
    async with serve(build(harness, route)) as server:
        await server.request()
        with pytest.raises(TaskSkipped, match="receipt"):
            await made[0].wait()
    assert_skipped(made[0], logging.INFO, caplog)


async def test_a_task_that_is_skipped_after_the_answer_says_so(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    """1.6 It is a warning where the client had been answered before the request failed."""
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> Stream:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"1"
            raise ValueError

        batch = tasks.after_response.task(name="receipt")
        made.append(batch.schedule(async_function(lambda: None)))
        return Stream(chunks())

    caplog.set_level(logging.DEBUG, "tasks_core")
    async with serve(build(harness, route)) as server:
        await server.request()
        await finish(made)
    assert_skipped(made[0], logging.WARNING, caplog)


@pytest.mark.parametrize("phase", LATER, ids=str)
async def test_a_task_for_failures_that_is_skipped_makes_little_of_it(
    harness: Harness, phase: Phase, caplog: pytest.LogCaptureFixture
) -> None:
    """1.6 That it is not needed is worth a DEBUG record."""
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        batch = at(tasks, phase).task(name="receipt", run_on="failure")
        made.append(batch.schedule(async_function(lambda: None)))

    caplog.set_level(logging.DEBUG, "tasks_core")
    async with serve(build(harness, route)) as server:
        await server.request()
        await finish(made)
    assert_skipped(made[0], logging.DEBUG, caplog)


def assert_skipped(task: Task, level: int, caplog: pytest.LogCaptureFixture) -> None:
    """Assert that the task named ``receipt`` was skipped, and that one record says so."""
    assert task.state is TaskState.SKIPPED
    (record,) = (record for record in caplog.records if record.name == "tasks_core")
    assert record.levelno == level
    assert "receipt" in record.getMessage()
    assert task.id in record.getMessage()


@each_phase
@pytest.mark.parametrize("fails_from", [0, 1, 2])
async def test_a_send_that_fails(harness: Harness, phase: Phase, fails_from: int) -> None:
    """1.7 A client that takes no more of a response neither cancels a task nor stops a phase."""
    release = anyio.Event()
    made: list[Task] = []

    async def task() -> str:
        await release.wait()
        return "done"

    async def route(tasks: TasksScheduler) -> Stream:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"1"
            yield b"2"

        made.append(at(tasks, phase).schedule(task))
        return Stream(chunks())

    async with serve(build(harness, route)) as server:
        exchange = await server.request(fails_from=fails_from)
        assert len(exchange.messages) == fails_from
        release.set()
        assert await made[0].wait() == "done"


@each_phase
@pytest.mark.parametrize("at_message", [0, 1])
async def test_a_client_that_leaves(harness: Harness, phase: Phase, at_message: int) -> None:
    """1.7 A client that leaves during a response neither cancels a task nor stops a phase."""
    release = anyio.Event()
    made: list[Task] = []
    exchange = Exchange()

    async def task() -> str:
        await release.wait()
        return "done"

    async def route(tasks: TasksScheduler) -> Stream:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"1"
            await exchange.gone.wait()
            await anyio.wait_all_tasks_blocked()
            yield b"2"

        made.append(at(tasks, phase).schedule(task))
        return Stream(chunks())

    def look(_: Message) -> None:
        if len(exchange.messages) == at_message:
            exchange.leave()

    async with serve(build(harness, route)) as server:
        await server.request(exchange=exchange, on_message=look)
        release.set()
        assert await made[0].wait() == "done"


@each_phase
async def test_a_client_that_leaves_before_the_response(harness: Harness, phase: Phase) -> None:
    """1.7 A client that leaves while the route runs neither cancels a task nor stops a phase."""
    made: list[Task] = []
    exchange = Exchange()

    async def route(tasks: TasksScheduler) -> None:
        exchange.leave()
        made.append(at(tasks, phase).schedule(async_function(lambda: "done")))
        await anyio.wait_all_tasks_blocked()

    async with serve(build(harness, route)) as server:
        await server.request(exchange=exchange)
        assert await made[0].wait() == "done"


@each_phase
@pytest.mark.needs("websockets")
async def test_a_websocket_client_that_leaves(harness: Harness, phase: Phase) -> None:
    """1.7 A WebSocket client that leaves neither cancels a task nor stops a phase."""
    release = anyio.Event()
    made: list[Task] = []

    async def task() -> str:
        await release.wait()
        return "done"

    async def route(tasks: TasksScheduler, socket: ServerSocket) -> None:
        await socket.accept()
        made.append(at(tasks, phase).schedule(task))
        while True:
            await socket.receive_text()

    async with serve(build(harness, SocketRoute(route))) as server:
        async with server.websocket() as client:
            assert (await client.receive())["type"] == "websocket.accept"
            client.leave()
        release.set()
        assert await made[0].wait() == "done"


AnswerCase: TypeAlias = tuple[Callable[[Path], Answer | None], str, int, bytes | None]
ANSWERS: dict[str, AnswerCase] = {
    "text": (lambda _: Text("text"), "GET", 200, b"text"),
    "stream": (lambda _: Stream(_streamed()), "GET", 200, b"12"),
    "file": (File, "GET", 200, b"file"),
    "head": (lambda _: None, "HEAD", 200, None),
    "204": (lambda _: Empty(204), "GET", 204, b""),
    "304": (lambda _: Empty(304), "GET", 304, b""),
    "post": (lambda _: Text("made"), "POST", 200, b"made"),
    "delete": (lambda _: Empty(204), "DELETE", 204, b""),
}


@pytest.mark.parametrize("case", ANSWERS.values(), ids=ANSWERS)
@each_route
async def test_phases_of_every_kind_of_answer(
    harness: Harness, route_kind: RouteKind, case: AnswerCase, tmp_path: Path
) -> None:
    """1.8 The phases come as they should around every kind of answer."""
    answer, method, status, body = case
    log: list[str] = []
    made: list[Task] = []
    path = tmp_path / "file.txt"
    path.write_text("file")

    def endpoint(tasks: TasksScheduler) -> Answer | None:
        for phase in reversed(Phase):
            task = async_function(partial(log.append, str(phase)))
            made.append(at(tasks, phase).schedule(task))
        return answer(path)

    async with serve(build(harness, Route(endpoint=route_kind(endpoint), method=method))) as server:
        exchange = await server.request(method=method, on_message=noting(log))
        await finish(made)
    assert exchange.status == status
    assert body is None or exchange.body == body
    assert log == ["immediate", "after_route", "start", "sent", "after_response"]


@pytest.mark.needs("websockets")
async def test_websocket(harness: Harness) -> None:
    """1.8 A WebSocket route's return is "after route", the connection's end "after response"."""
    log: list[str] = []
    made: list[Task] = []

    async def route(tasks: TasksScheduler, socket: ServerSocket) -> None:
        await socket.accept()
        for phase in reversed(LATER):
            task = async_function(partial(log.append, str(phase)))
            made.append(at(tasks, phase).schedule(task))
        while (text := await socket.receive_text()) != "bye":
            echo = tasks.schedule(socket.send_text, text)
            await echo.wait()
        log.append("route")

    async with serve(build(harness, SocketRoute(route))) as server:
        async with server.websocket() as client:
            assert (await client.receive())["type"] == "websocket.accept"
            for text in ("one", "two"):
                client.send(text)
                message = await client.receive()
                assert (message["type"], message["text"]) == ("websocket.send", text)
            client.send("bye")
        await finish(made)
    assert log == ["route", "after_route", "after_response"]


@pytest.mark.needs("websockets")
async def test_websocket_that_its_route_closes(harness: Harness) -> None:
    """1.8 The phases of a WebSocket whose route closes it by itself come when the route returns."""
    log: list[str] = []
    made: list[Task] = []

    async def route(tasks: TasksScheduler, socket: ServerSocket) -> None:
        await socket.accept()
        for phase in reversed(LATER):
            task = async_function(partial(log.append, str(phase)))
            made.append(at(tasks, phase).schedule(task))
        await socket.close()
        await anyio.wait_all_tasks_blocked()
        log.append("route")

    async with serve(build(harness, SocketRoute(route))) as server:
        async with server.websocket() as client:
            assert (await client.receive())["type"] == "websocket.accept"
            assert (await client.receive())["type"] == "websocket.close"
        await finish(made)
    assert log == ["route", "after_route", "after_response"]


@pytest.mark.needs("websockets")
async def test_websocket_that_fails(harness: Harness) -> None:
    """1.8 A WebSocket route that raises has failed."""
    plan = Plan()

    async def route(tasks: TasksScheduler, socket: ServerSocket) -> None:
        await socket.accept()
        plan.schedule(tasks)
        raise ValueError

    async with serve(build(harness, SocketRoute(route))) as server:
        async with server.websocket() as client:
            assert (await client.receive())["type"] == "websocket.accept"
        await plan.assert_failure()


@each_route
async def test_mounted_application(harness: Harness, route_kind: RouteKind) -> None:
    """1.8 In a mounted application tasks work as in the one that it is mounted in."""
    log: list[str] = []
    made: list[Task] = []

    def endpoint(tasks: TasksScheduler) -> None:
        for phase in reversed(Phase):
            task = async_function(partial(log.append, str(phase)))
            made.append(at(tasks, phase).schedule(task))

    mounted = {"/inner": Route(endpoint=route_kind(endpoint))}
    async with serve(build(harness, mounted=mounted)) as server:
        exchange = await server.request("/mounted/inner", on_message=noting(log))
        await finish(made)
    assert exchange.status == 200
    assert log == ["immediate", "after_route", "start", "sent", "after_response"]


@pytest.mark.needs("dependencies")
async def test_all_of_a_request_shares_a_scheduler(harness: Harness) -> None:
    """1.8 Dependencies, sub-dependencies and the route of a request get the same scheduler."""
    got: list[TasksScheduler] = []

    async def around(tasks: TasksScheduler) -> AsyncGenerator[None, None]:
        got.append(tasks)
        yield
        got.append(tasks)

    async def endpoint(tasks: TasksScheduler) -> None:
        got.extend((tasks, current_tasks()))

    dependency = Dependency(around=around, inner=got.append)
    async with serve(build(harness, Route(endpoint=endpoint, dependency=dependency))) as server:
        await server.request()
    assert len(got) == 5
    assert all(tasks is got[0] for tasks in got)


async def test_each_request_has_its_own_scheduler(harness: Harness) -> None:
    """1.8 Requests that are served at the same time have schedulers and phases of their own."""
    log: list[str] = []
    both = anyio.Event()
    got: list[TasksScheduler] = []

    async def route(tasks: TasksScheduler) -> None:
        got.append(tasks)
        tasks.after_route.schedule(async_function(partial(log.append, "after_route")))
        if len(got) == 2:
            both.set()
        await both.wait()
        log.append("route")

    async with serve(build(harness, route)) as server, anyio.create_task_group() as clients:
        clients.start_soon(server.request)
        clients.start_soon(server.request)
    assert got[0] is not got[1]
    assert sorted(log) == ["after_route", "after_route", "route", "route"]
