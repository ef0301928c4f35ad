from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import anyio
import pytest
from anyio import lowlevel, to_thread
from tasks_core import (
    Phase,
    RunnerClosedError,
    RunOn,
    Task,
    TaskConfig,
    TaskRunner,
    TasksScheduler,
    TaskState,
    TasksUninitializedError,
    current_tasks,
)
from tasks_core._layer import LayeredScheduler
from tasks_core.asgi import (
    ApplicationTasks,
    ASGIApp,
    Message,
    Receive,
    Scope,
    Send,
    TasksMiddleware,
    get_scheduler,
    serve,
    serve_route,
    tell_failure,
)

from tests.tasks_core.stage import (
    GUARD,
    Abrupt,
    SomeError,
    fail,
    logged,
    over,
    records,
    states,
    until_cancelled,
)

pytestmark = pytest.mark.anyio

START: Message = {"type": "http.response.start", "status": 200, "headers": []}
BODY: Message = {"type": "http.response.body", "body": b""}
RUN_ON: tuple[RunOn, ...] = ("success", "failure", "always")


class Disconnect(Exception):  # noqa: N818 - as frameworks name it
    """What a framework tells a route that the client has gone."""


class Server:
    """Does with an application what a server does: a lifespan, and requests within."""

    def __init__(self, app: ASGIApp, state: dict[str, Any] | None) -> None:
        self.app = app
        self.state = state
        self.sent: list[str] = []
        self.raised: BaseException | None = None
        self._ready = anyio.Event()
        self._stop = anyio.Event()
        self._messages = iter(("lifespan.startup", "lifespan.shutdown"))

    async def run_lifespan(self) -> None:
        scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0"}}
        if self.state is not None:
            scope["state"] = self.state
        try:
            await self.app(scope, self._receive, self._send)
        except Exception as error:  # noqa: BLE001 - tests look at it
            self.raised = error
        self._ready.set()

    async def _receive(self) -> Message:
        message = next(self._messages)
        if message == "lifespan.shutdown":
            await self._stop.wait()
        return {"type": message}

    async def _send(self, message: Message) -> None:
        self.sent.append(message["type"].removeprefix("lifespan."))
        self._ready.set()

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        error: Exception | None = None
        with anyio.fail_after(GUARD):
            async with anyio.create_task_group() as group:
                group.start_soon(self.run_lifespan)
                await self._ready.wait()
                try:
                    yield
                except Exception as raised:  # noqa: BLE001 - raised again, outside of the group
                    error = raised
                self._stop.set()
        if error is not None:
            raise error

    async def request(self, kind: str = "http", send: Send | None = None) -> list[str]:
        """Serve a request, and return the types of the messages that it was answered with."""
        sent: list[str] = []

        async def receive() -> Message:
            return {"type": f"{kind}.disconnect"}

        async def note(message: Message) -> None:
            sent.append(message["type"])

        scope: Scope = {"type": kind, "path": "/"}
        if self.state is not None:
            scope["state"] = self.state.copy()
        await self.app(scope, receive, send or note)
        return sent


@asynccontextmanager
async def served(app: ASGIApp, *, state: bool = True, **settings: Any) -> AsyncGenerator[Server]:
    """Serve an application behind the middleware."""
    server = Server(TasksMiddleware(app, **settings), {} if state else None)
    async with server.lifespan():
        yield server


def with_lifespan(
    route: Callable[[Scope, Receive, Send], Awaitable[None]],
    up: Callable[[], object] = lambda: None,
    down: Callable[[], object] = lambda: None,
) -> ASGIApp:
    """Make an application of a route and of code to run at start-up and shutdown."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await route(scope, receive, send)
            return
        for act in (up, down):
            name = (await receive())["type"]
            act()
            await send({"type": f"{name}.complete"})

    return app


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    await send(START)
    await send(BODY)


class Request:
    """A route that schedules a task for each phase and outcome, and notes how they end."""

    def __init__(self, then: Callable[[Send], Awaitable[None]], kind: str = "http") -> None:
        self.then = then
        self.kind = kind
        self.tasks: dict[str, Task] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == self.kind
        tasks = get_scheduler(scope)
        for batch in (tasks.after_route, tasks.after_response):
            self.tasks[f"{batch.phase} success"] = batch.schedule(len, "")
            self.tasks[f"{batch.phase} failure"] = batch.task(run_on="failure").schedule(len, "")
        await self.then(send)

    async def outcomes(self) -> tuple[str, str]:
        """Return what ran after the route, and after the response."""
        await over(*self.tasks.values())
        ran = {name for name, task in self.tasks.items() if task.state is TaskState.SUCCEEDED}
        phases = ("after_route", "after_response")
        route, response = (
            " and ".join(kind for kind in ("success", "failure") if f"{phase} {kind}" in ran)
            for phase in phases
        )
        return route, response


# The lifespan


async def test_an_application_schedules_at_start_up_and_in_requests() -> None:
    """The runner is there before the application's own start-up, and all find it (5.1)."""
    scheduled: list[Task] = []

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        assert get_scheduler(scope) is current_tasks() is get_scheduler(scope)
        scheduled.append(get_scheduler(scope).schedule(len, "four"))
        await answer(scope, receive, send)

    def start_up() -> None:
        scheduled.append(current_tasks().after_response.schedule(len, "four"))

    async with served(with_lifespan(route, start_up)) as server:
        assert await server.request() == ["http.response.start", "http.response.body"]
        assert [await task.wait() for task in scheduled] == [4, 4]

    assert server.sent == ["startup.complete", "shutdown.complete"]


async def test_tasks_end_before_the_application_shuts_down() -> None:
    """The application's own shutdown sees no living task, and can schedule none (5.1, 5.4)."""
    seen: list[TaskState] = []

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        scheduled.append(get_scheduler(scope).schedule(until_cancelled))

    def shut_down() -> None:
        seen.append(scheduled[0].state)
        with pytest.raises(RunnerClosedError):
            current_tasks().schedule(len, "four")

    scheduled: list[Task] = []
    async with served(with_lifespan(route, down=shut_down)) as server:
        await server.request()

    assert seen == [TaskState.CANCELLED]
    assert server.raised is None


@pytest.mark.parametrize(
    ("refusal", "level"),
    [
        (None, ""),
        (AssertionError("http\nonly"), "DEBUG"),
        (NotImplementedError(), "DEBUG"),
        (ValueError("no\nlifespan"), "WARNING"),  # these may be errors after all
        (KeyError("method"), "WARNING"),
    ],
)
async def test_an_application_without_a_lifespan_gets_its_tasks(
    refusal: Exception | None, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The middleware answers the server for an application that refuses or returns (5.6)."""
    caplog.set_level("DEBUG", "tasks_core")
    scheduled: list[Task] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scheduled.append(get_scheduler(scope).schedule(until_cancelled))
            await answer(scope, receive, send)
        elif refusal is not None:
            raise refusal

    async with served(app) as server:
        await server.request()
        assert str(scheduled[0].state) == "running"

    assert server.sent == ["startup.complete", "shutdown.complete"]
    assert server.raised is None
    assert scheduled[0].state is TaskState.CANCELLED
    refusals = [one for one in records(caplog) if "refuses the lifespan" in one.getMessage()]
    assert [one.levelname for one in refusals] == ([level] if level else [])
    for one in refusals:
        shown = str(refusal).replace("\n", "\\n")
        assert one.getMessage().endswith(f"{type(refusal).__name__}: {shown}")
    assert len(records(caplog)) == len(refusals) + 1  # and the report of the task


@pytest.mark.parametrize("moment", ["up", "down"])
async def test_an_error_of_the_lifespan_comes_out_as_it_is(moment: str) -> None:
    """What the application raises at start-up or shutdown is the server's to see (5.7)."""
    error = SomeError()

    def fail() -> None:
        current_tasks_at_failure.append(current_tasks())
        raise error

    current_tasks_at_failure: list[TasksScheduler] = []
    code: dict[str, Any] = {moment: fail}
    async with served(with_lifespan(answer, **code)) as server:
        pass

    assert server.raised is error
    assert len(current_tasks_at_failure) == 1


async def test_an_application_may_report_that_its_start_up_failed() -> None:
    """The message passes, and tasks that were scheduled meanwhile end (5.7)."""
    scheduled: list[Task] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        scheduled.append(current_tasks().schedule(until_cancelled))
        await send({"type": "lifespan.startup.failed", "message": "no"})

    async with served(app) as server:
        pass

    assert server.sent == ["startup.failed"]
    assert scheduled[0].state is TaskState.CANCELLED


@pytest.mark.parametrize("how", ["says so", "raises"])
async def test_tasks_end_before_the_server_hears_that_a_start_up_failed(how: str) -> None:
    """Some servers exit as they hear of it, and what is shielded has ended by then (5.2)."""
    steps: list[str] = []

    async def save() -> None:
        await anyio.wait_all_tasks_blocked()
        steps.append("saved")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        current_tasks().task(shield=True).schedule(save)
        if how == "raises":
            raise SomeError
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        steps.append(message["type"])

    with suppress(SomeError):
        await TasksMiddleware(app)({"type": "lifespan"}, receive, send)
    assert steps == ["saved", "lifespan.startup.failed"]


async def test_a_server_without_state_is_no_reason_to_fail() -> None:
    """Requests find the runner all the same, and no state is made up (5.6)."""
    states: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        states.append("state" in scope)
        if scope["type"] == "http":
            assert await get_scheduler(scope).schedule(len, "four").wait() == 4
            await answer(scope, receive, send)

    async with served(app, state=False) as server:
        await server.request()

    assert states == [False, False]


async def test_an_application_may_be_started_again() -> None:
    """Each lifespan has a runner of its own; between them there is none (5.7)."""
    runs: list[int] = []

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        runs.append(await get_scheduler(scope).schedule(len, "four").wait())
        await answer(scope, receive, send)

    app = TasksMiddleware(with_lifespan(route))
    for _ in range(2):
        server = Server(app, None)
        async with server.lifespan():
            await server.request()
        with pytest.raises(TasksUninitializedError):
            await server.request()

    assert runs == [4, 4]


@pytest.mark.parametrize("fails", [False, True])
async def test_lifespans_may_overlap(fails: bool) -> None:  # noqa: FBT001
    """Where the server keeps no state, the end of an older lifespan leaves a newer alone (5.7)."""
    answered: list[bool] = []

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        assert await get_scheduler(scope).schedule(len, "four").wait() == 4
        await answer(scope, receive, send)

    def shut_down() -> None:
        if fails and not answered:
            fail()

    app = TasksMiddleware(with_lifespan(route, down=shut_down))
    older, newer = Server(app, None), Server(app, None)
    begun, stop, ended = anyio.Event(), anyio.Event(), anyio.Event()

    async def run_older() -> None:
        async with older.lifespan():
            begun.set()
            await stop.wait()
        ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(run_older)
        await begun.wait()
        async with newer.lifespan():
            stop.set()
            await ended.wait()
            with suppress(TasksUninitializedError):
                await newer.request()
                answered.append(True)

    assert answered == [True]


async def cause(app: ASGIApp) -> str:
    """Return the error of a request that asks for tasks."""
    with pytest.raises(TasksUninitializedError) as raised:
        await Server(app, {}).request()
    return str(raised.value)


async def ask(scope: Scope, receive: Receive, send: Send) -> None:
    get_scheduler(scope)


async def ask_anywhere(scope: Scope, receive: Receive, send: Send) -> None:
    current_tasks()


async def test_a_task_is_called_once_more_before_its_request_is_answered_and_after() -> None:
    """4.4 And in its handler, and in tasks, whenever these run; not by who sends the answer."""
    calls: list[str] = []

    async def again(task: Task, error: Exception) -> None:
        await task()

    def fail_once() -> None:
        calls.append("fail")
        if calls.count("fail") == 1:
            raise SomeError

    async def call(task: Task) -> None:
        await task()

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        tasks = current_tasks()
        task = tasks.schedule(calls.append, "ran")
        await task.wait()
        await task()
        await send(START)
        with pytest.raises(RuntimeError, match="is called while its request is being answered"):
            await task()
        await tasks.task(on_error=again).schedule(fail_once)._until_over()
        await tasks.schedule(call, task).wait()
        await send(BODY)
        kept.append(task)

    kept: list[Task] = []
    async with served(with_lifespan(route)) as server:
        await server.request()
        await kept[0]()
    assert calls == ["ran", "ran", "fail", "fail", "ran", "ran"]


async def test_a_mounted_applications_response_calls_no_task_either() -> None:
    """4.4 Where its own settings are a layer over the request's."""

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        tasks = current_tasks()
        task = tasks.after_response.schedule(print)
        await send(START)
        said = "is called while its request is being answered"
        with LayeredScheduler(tasks, TaskConfig()), pytest.raises(RuntimeError, match=said):
            await task()
        await send(BODY)

    async with served(with_lifespan(inner)) as server:
        await server.request()


@pytest.mark.parametrize("route", [ask, ask_anywhere])
async def test_without_a_lifespan_the_error_says_so(route: ASGIApp) -> None:
    """As of a test client that runs none: one cause, with what to do about it (2.7, 5.6)."""
    said = await cause(TasksMiddleware(route))
    assert said.startswith("The task runner of this application has not been started")
    assert "write `with TestClient(app) as client:`" in said


async def test_without_a_lifespan_an_application_may_clear_its_scope() -> None:
    """It is not hurt (2.7)."""
    cleared: list[Scope] = []

    async def route(scope: Scope, _: Receive, __: Send) -> None:
        scope.clear()
        cleared.append(scope)

    async def nobody(*_: Any) -> Any:
        """Say nothing."""

    await TasksMiddleware(route)({"type": "http"}, nobody, nobody)
    assert cleared == [{}]


async def test_without_the_middleware_the_error_says_so() -> None:
    """Of a request by the scope; of the context only that there is none (2.7, 5.6)."""
    assert (await cause(ask)).startswith("No tasks were added to the application that serves")
    assert (await cause(ask_anywhere)).startswith("No request is being served here, and no")


async def test_settings_are_checked_when_the_middleware_is_made() -> None:
    """Nonsense is refused where it is written (2.2)."""
    with pytest.raises(ValueError, match="thread_limit"):
        TasksMiddleware(answer, thread_limit=0)


@pytest.mark.parametrize(
    ("app", "says"),
    [
        (None, r"^app must be callable, not NoneType: pass the ASGI application itself"),
        ("app:app", r"^app must be callable, not str: "),
        (len, r"^app must take scope and receive and send, and len does not: "),
        (Request, r"^app must be an instance, not the class Request: Request\(\.\.\.\)$"),
    ],
)
def test_what_is_no_application_is_refused(app: Any, says: str) -> None:
    """At once, and not with the first request (2.2)."""
    with pytest.raises(TypeError, match=says):
        TasksMiddleware(app)


@pytest.mark.parametrize("disconnects", [["x"], [Disconnect], Disconnect, (Disconnect, "x")])
def test_what_cannot_be_looked_for_is_refused(disconnects: Any) -> None:
    """Else it would be found out when a client has gone (2.2)."""
    with pytest.raises(TypeError, match=r"^disconnects is a tuple of exception classes, not "):
        TasksMiddleware(answer, disconnects=disconnects)


def test_settings_beside_tasks_are_refused() -> None:
    """No setting is lost in silence (3.3)."""
    tasks = ApplicationTasks(history=3)
    with pytest.raises(TypeError, match=r"^history would be lost, .* to ApplicationTasks\("):
        TasksMiddleware(answer, tasks=tasks, history=5)
    TasksMiddleware(answer, tasks=tasks, config=None)


@pytest.mark.parametrize(
    ("tasks", "kind"),
    [(TaskRunner(), "TaskRunner"), ({}, "dict"), (ApplicationTasks, "the class ApplicationTasks")],
)
def test_what_are_no_tasks_of_an_application_is_refused(tasks: Any, kind: str) -> None:
    """At once, and not with the first request (2.2)."""
    with pytest.raises(TypeError, match=rf"^tasks is an ApplicationTasks, not {kind}: "):
        TasksMiddleware(answer, tasks=tasks)


async def test_settings_reach_the_tasks() -> None:
    """The middleware's settings are the application's layer (3.3)."""
    request = Request(lambda send: send(START))

    async with served(with_lifespan(request), config=TaskConfig(name="layer")) as server:
        await server.request()

    assert {task.name for task in request.tasks.values()} == {"layer"}


async def test_the_innermost_of_nested_middleware_does_not_start_over() -> None:
    """A request has one state, and its phases come once; settings are a layer (1.4, 3.3)."""
    schedulers: list[TasksScheduler] = []
    scheduled: list[Task] = []

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        assert get_scheduler(scope) is current_tasks()
        schedulers.append(get_scheduler(scope))
        scheduled.append(schedulers[1].after_route.schedule(len, "four"))
        scheduled.append(schedulers[0].after_route.schedule(len, "four"))
        assert schedulers[0].after_route.scheduled == tuple(scheduled)
        schedulers[1].reach(Phase.AFTER_ROUTE)
        await schedulers[1].begun()
        assert all(task.started.is_set() for task in scheduled)
        schedulers[1].fail()
        await answer(scope, receive, send)

    inner = TasksMiddleware(with_lifespan(route), config=TaskConfig(name="inner"))

    async def between(scope: Scope, receive: Receive, send: Send) -> None:
        schedulers.append(get_scheduler(scope))
        await inner(scope, receive, send)
        assert get_scheduler(scope) is current_tasks() is schedulers[0]

    async with served(with_lifespan(between), config=TaskConfig(name="outer")) as server:
        await server.request()
        assert [await task.wait() for task in scheduled] == [4, 4]

    assert [task.name for task in scheduled] == ["inner", "outer"]
    assert repr(schedulers[0]) == repr(schedulers[1])
    assert repr(schedulers[0]) == "<TasksScheduler phase=after_response failed=True>"


async def test_a_request_within_a_request_is_one_of_its_own() -> None:
    """A route may call its own application, and its own tasks are there afterwards (1.6)."""
    scheduled: list[Task] = []

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        tasks = get_scheduler(scope)
        assert tasks is current_tasks()
        scheduled.append(tasks.after_response.schedule(len, scope["path"]))
        if scope["path"] == "/":
            with suppress(SomeError):
                await server.app({**scope, "path": "/inner"}, receive, send)
            assert get_scheduler(scope) is tasks is current_tasks()
            await answer(scope, receive, send)
        else:
            fail()

    async with served(with_lifespan(route)) as server:
        await server.request()
        await over(*scheduled)

    assert [task.state for task in scheduled] == [TaskState.SUCCEEDED, TaskState.SKIPPED]


async def test_an_unknown_kind_of_connection_passes() -> None:
    """What is neither a request nor the lifespan is none of the middleware's business."""
    seen: list[bool] = []

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(TasksUninitializedError):
            get_scheduler(scope)
        seen.append(True)

    async with served(with_lifespan(route)) as server:
        await server.request("telepathy")

    assert seen == [True]


# Phases and outcomes


async def test_phases_follow_the_messages() -> None:
    """After route is before the start has left, after response is when all has ended (1.2, 1.3)."""
    order: list[str] = []
    called = threading.Event()

    async def note(event: str) -> None:
        order.append(event)

    async def send(message: Message) -> None:
        assert called.wait(GUARD)  # a thread has it, though the event loop's is blocked
        order.append(message["type"])

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        tasks = get_scheduler(scope)
        last.append(tasks.after_response.schedule(note, "after response"))
        tasks.after_route.schedule(note, "after route")
        tasks.after_route.schedule(called.set)
        tasks.schedule(note, "immediate")
        order.append("route")
        await send(START)
        await send(BODY)
        order.append("dependencies closed")

    last: list[Task] = []
    async with served(with_lifespan(route)) as server:
        await server.request(send=send)
        await over(*last)

    assert order == [
        "route",
        "immediate",
        "after route",
        "http.response.start",
        "http.response.body",
        "dependencies closed",
        "after response",
    ]


async def test_the_response_waits_for_no_task() -> None:
    """A request ends while its tasks run (1.2)."""
    request = Request(lambda send: send(START))

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        scheduled.append(get_scheduler(scope).after_route.schedule(until_cancelled))
        await request(scope, receive, send)

    scheduled: list[Task] = []
    async with served(with_lifespan(route)) as server:
        assert await server.request() == ["http.response.start"]
        assert scheduled[0].state is TaskState.RUNNING


async def test_a_scheduler_may_be_asked_for_at_any_moment() -> None:
    """Who asks late, in any thread, finds the phases that have come (1.5, 2.3)."""
    seen: list[str] = []

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await to_thread.run_sync(lambda: seen.append(repr(get_scheduler(scope))))

    async with served(with_lifespan(route)) as server:
        await server.request()

    assert seen == ["<TasksScheduler phase=after_route failed=False>"]


async def test_a_task_after_the_response_finds_the_scheduler_in_the_scope() -> None:
    """A task that was given the request may schedule by it (1.5)."""

    async def again(scope: Scope) -> int:
        return await get_scheduler(scope).schedule(len, "four").wait()

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        scheduled.append(get_scheduler(scope).after_response.schedule(again, scope))
        await answer(scope, receive, send)

    scheduled: list[Task] = []
    async with served(with_lifespan(route)) as server:
        await server.request()
        assert await scheduled[0].wait() == 4


async def test_a_task_that_asks_first_after_the_response_finds_the_current_scheduler() -> None:
    """`current_tasks` works in tasks of a request that is over (1.5)."""

    async def again() -> TasksScheduler:
        await gone.wait()
        return current_tasks()

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        scheduled.append(get_scheduler(scope).schedule(again))
        schedulers.append(get_scheduler(scope))
        await answer(scope, receive, send)

    gone = anyio.Event()
    scheduled: list[Task] = []
    schedulers: list[TasksScheduler] = []
    async with served(with_lifespan(route)) as server:
        await server.request()
        gone.set()
        assert await scheduled[0].wait() is schedulers[0]


async def test_a_route_that_answers_succeeds() -> None:
    """Whatever its status (1.6)."""
    request = Request(lambda send: send({**START, "status": 500}))
    async with served(with_lifespan(request)) as server:
        await server.request()
        assert await request.outcomes() == ("success", "success")


@pytest.mark.parametrize("error", [SomeError(), Abrupt()])
async def test_a_route_that_raises_fails(error: BaseException) -> None:
    """The error goes on as it is, and the phases come before it does (1.6)."""

    async def then(_: Send) -> None:
        raise error

    request = Request(then)
    async with served(with_lifespan(request)) as server:
        with pytest.raises(type(error)) as raised:
            await server.request()
        assert raised.value is error
        assert await request.outcomes() == ("failure", "failure")


def say_nothing(scope: Scope, error: Exception) -> None: ...


def say_by_scheduler(scope: Scope, error: Exception) -> None:
    get_scheduler(scope).fail()


def say_in_context(scope: Scope, error: Exception) -> None:
    current_tasks().fail()


@pytest.mark.parametrize(
    ("tell", "outcome"),
    [
        (say_nothing, "success"),
        (say_by_scheduler, "failure"),
        (say_in_context, "failure"),
        (tell_failure, "failure"),
    ],
)
async def test_a_failure_that_the_application_answers_is_told(
    tell: Callable[[Scope, Exception], None], outcome: str
) -> None:
    """An answer is a success, whatever it says, unless somebody says that it is none (1.6)."""

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        async def then(send: Send) -> None:
            try:
                fail()
            except SomeError as error:
                tell(scope, error)
                await send({**START, "status": 500})

        requests.append(Request(then))
        await requests[0](scope, receive, send)

    requests: list[Request] = []
    async with served(with_lifespan(route)) as server:
        await server.request()
        assert await requests[0].outcomes() == (outcome, outcome)


async def test_a_failure_may_be_told_once_the_answer_has_begun() -> None:
    """What comes after the response is a failure's then (1.6)."""

    async def then(send: Send) -> None:
        await send(START)
        current_tasks().fail()

    request = Request(then)
    async with served(with_lifespan(request)) as server:
        await server.request()
        assert await request.outcomes() == ("success", "failure")


async def test_a_failure_of_no_request_is_told_in_vain() -> None:
    """Where nothing serves the request there is nobody to know (1.6)."""
    tell_failure({"type": "http"}, SomeError())
    app = TasksMiddleware(tell_and_answer)
    assert len(await Server(app, None).request()) == 2


async def tell_and_answer(scope: Scope, receive: Receive, send: Send) -> None:
    tell_failure(scope, SomeError())
    await answer(scope, receive, send)


@pytest.mark.parametrize("in_child", [False, True])
async def test_what_an_outer_handler_handles_is_no_failure(
    in_child: bool,  # noqa: FBT001
) -> None:
    """An application may be called within an except block, and send from a child task (1.6)."""

    async def then(send: Send) -> None:
        async def send_start() -> None:
            await send(START)

        if in_child:
            async with anyio.create_task_group() as group:
                group.start_soon(send_start)
        else:
            await send_start()

    request = Request(then)
    async with served(with_lifespan(request)) as server:
        try:
            fail()
        except SomeError:
            await server.request()
            assert isinstance(sys.exception(), SomeError)
        assert await request.outcomes() == ("success", "success")


@pytest.mark.parametrize("status", [200, 500])
async def test_of_a_route_in_a_task_of_its_own_the_status_says_nothing(status: int) -> None:
    """What has returned has succeeded, in whatever task and whoever answers (1.6)."""

    async def then(_: Send) -> None: ...

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(request, scope, receive, send)
        await send({**START, "status": status})

    request = Request(then)
    async with served(with_lifespan(app)) as server:
        await server.request()
        assert await request.outcomes() == ("success", "success")


async def test_a_route_that_answers_in_a_task_of_its_own_succeeds() -> None:
    """Whatever its status, and whoever asks for tasks first (1.6)."""
    request = Request(lambda send: send({**START, "status": 404}))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(request, scope, receive, send)

    async with served(with_lifespan(app)) as server:
        await server.request()
        assert await request.outcomes() == ("success", "success")


async def test_a_start_that_is_sent_late_opens_no_phase_again() -> None:
    """A request that is over stays over, whatever is sent then (1.5)."""

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        got.append((scope, send))

    got: list[tuple[Scope, Send]] = []
    async with served(with_lifespan(route)) as server:
        await server.request()
        ((scope, send),) = got
        await send(START)
        assert repr(get_scheduler(scope)) == "<TasksScheduler phase=after_response failed=False>"


async def test_a_route_that_raises_after_its_answer_has_begun_fails_then() -> None:
    """What ran after the route has run; what comes after the response is a failure's (1.6)."""

    async def then(send: Send) -> None:
        await send(START)
        raise SomeError

    request = Request(then)
    async with served(with_lifespan(request)) as server:
        with pytest.raises(SomeError):
            await server.request()
        assert await request.outcomes() == ("success", "failure")


@pytest.mark.parametrize("takes", [[], ["http.response.start"]])
async def test_a_client_that_takes_no_more_is_no_failure(takes: list[str]) -> None:
    """A server that refuses a message has a client that went away (1.7)."""

    async def refuse(message: Message) -> None:
        if message["type"] not in takes:
            raise OSError

    async def then(send: Send) -> None:
        await send(START)
        await send(BODY)

    request = Request(then)
    async with served(with_lifespan(request)) as server:
        with pytest.raises(OSError):  # noqa: PT011 - it is the server's own
            await server.request(send=refuse)
        assert await request.outcomes() == ("success", "success")


async def test_a_client_that_takes_no_more_is_no_failure_for_who_schedules_then() -> None:
    """It makes no difference whether tasks were used before the client went away (1.7)."""

    async def refuse(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise OSError

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await answer(scope, receive, send)
        finally:
            scheduled.append(get_scheduler(scope).after_response.schedule(len, "four"))

    scheduled: list[Task] = []
    async with served(with_lifespan(route)) as server:
        with pytest.raises(OSError):  # noqa: PT011 - it is the server's own
            await server.request(send=refuse)
        await over(*scheduled)

    assert scheduled[0].state is TaskState.SUCCEEDED


async def test_a_request_that_is_cancelled_brings_its_phases() -> None:
    """No phase is lost with a request that the server cuts off, which has failed (1.6, 1.7)."""
    inside = anyio.Event()

    async def then(send: Send) -> None:
        await send(START)
        await until_cancelled(inside)

    request = Request(then)
    async with served(with_lifespan(request)) as server:
        async with anyio.create_task_group() as group:
            group.start_soon(server.request)
            await inside.wait()
            group.cancel_scope.cancel()
        assert await request.outcomes() == ("success", "failure")


# WebSockets


def websocket(*then: str, error: Exception | None = None) -> Request:
    """Make a WebSocket route that sends messages, in an except block if there is an error."""

    async def send_all(send: Send) -> None:
        for message in then:
            await send({"type": message})

    async def act(send: Send) -> None:
        await send({"type": "websocket.accept"})
        if error is None:
            await send_all(send)
            return
        try:
            raise error
        except type(error):
            await send_all(send)
            if not then:
                raise

    return Request(act, "websocket")


@pytest.mark.parametrize(
    ("request_", "outcomes"),
    [
        (websocket("websocket.send", "websocket.close"), ("success", "success")),
        (websocket("websocket.http.response.start"), ("success", "success")),
        (websocket("websocket.close", error=Disconnect()), ("success", "success")),
        (websocket("websocket.close", error=SomeError()), None),
    ],
)
async def test_a_websocket_that_ends_by_itself_succeeds(
    request_: Request, outcomes: tuple[str, str] | None
) -> None:
    """A route may close, deny or notice that the client has gone (1.6, 1.7, 1.8)."""
    app = with_lifespan(request_)
    async with served(app, disconnects=(Disconnect,)) as server:
        assert (await server.request("websocket"))[0] == "websocket.accept"
        assert outcomes is None or await request_.outcomes() == outcomes


@pytest.mark.parametrize(
    ("error", "outcome"), [(Disconnect(), "success"), (SomeError(), "failure")]
)
async def test_a_websocket_that_raises_fails_unless_its_client_has_gone(
    error: Exception, outcome: str
) -> None:
    """Only the framework's own exceptions for that are no failure (1.6, 1.7)."""
    request = websocket(error=error)
    async with served(with_lifespan(request), disconnects=(Disconnect,)) as server:
        with pytest.raises(type(error)):
            await server.request("websocket")
        assert await request.outcomes() == (outcome, outcome)


@pytest.mark.parametrize(("hears", "outcome"), [(True, "success"), (False, "failure")])
async def test_a_websocket_that_is_cancelled(hears: bool, outcome: str) -> None:  # noqa: FBT001
    """Once it has heard that its client has gone, a cancellation says no more than that (1.7)."""
    inside = anyio.Event()

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        async def then(send: Send) -> None:
            if hears:
                assert (await receive())["type"] == "websocket.disconnect"
            await until_cancelled(inside)

        request.then = then
        await request(scope, receive, send)

    request = Request(lambda _: lowlevel.checkpoint(), "websocket")
    async with served(with_lifespan(route)) as server:
        async with anyio.create_task_group() as group:
            group.start_soon(server.request, "websocket")
            await inside.wait()
            group.cancel_scope.cancel()
        assert await request.outcomes() == (outcome, outcome)


class EmptyError(OSError):
    """What a server may say: an error that is as long as what it holds."""

    def __len__(self) -> int:
        return 0


async def test_a_websocket_that_hears_later_that_its_client_has_gone() -> None:
    """What `send` has raised is no failure then, though it is false in a condition (1.7)."""

    async def refuse(message: Message) -> None:
        raise EmptyError

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        async def then(send: Send) -> None:
            try:
                await send({"type": "websocket.accept"})
            finally:
                assert (await receive())["type"] == "websocket.disconnect"

        request.then = then
        await request(scope, receive, send)

    request = Request(lambda _: lowlevel.checkpoint(), "websocket")
    async with served(with_lifespan(route)) as server:
        with pytest.raises(EmptyError):
            await server.request("websocket", send=refuse)
        assert await request.outcomes() == ("success", "success")


# In an adapter


async def test_an_adapter_may_serve_requests_with_a_runner_of_its_own() -> None:
    """`serve` is all that it takes (6.2)."""
    request = Request(lambda send: send(START))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await serve(request, scope, receive, send, TasksScheduler(runner))

    async with TaskRunner() as runner:
        await Server(app, None).request()
        assert await request.outcomes() == ("success", "success")


async def test_an_adapter_may_run_the_lifespan_by_itself() -> None:
    """`ApplicationTasks` has the runner for its code and for its requests (5.1, 6.2)."""
    tasks = ApplicationTasks(config=TaskConfig(name="layer"))
    request = Request(lambda send: send(START))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await tasks.serve(request, scope, receive, send)

    assert tasks.running_here() is None
    async with tasks.run() as runner:
        assert tasks.running_here() is runner
        assert ApplicationTasks().running_here() is None
        tasks.started()
        task = current_tasks().after_response.schedule(len, "four")
        assert await task.wait() == 4
        assert (task.phase, task.name) == (Phase.AFTER_RESPONSE, "layer")
        await Server(app, None).request()
        assert await request.outcomes() == ("success", "success")
    assert tasks.running_here() is None


async def test_a_route_that_raises_fails_whatever_answers() -> None:
    """Where its end is in sight, a middleware may catch what it has raised (1.6)."""

    async def then(_: Send) -> None:
        fail()

    request = Request(then)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(SomeError):
            await serve_route(request, scope, receive, send)
        scheduled.append(get_scheduler(scope).after_route.schedule(len, "four"))
        await answer(scope, receive, send)

    scheduled: list[Task] = []
    async with served(with_lifespan(app)) as server:
        assert len(await server.request()) == 2
        assert await request.outcomes() == ("failure", "failure")
        assert await scheduled[0].wait() == 4  # who schedules it knows


async def test_a_second_attempt_is_judged_by_itself() -> None:
    """What the first has scheduled goes by its own outcome, and is not lost (1.6)."""
    attempts: list[dict[str, Task]] = []

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        first = not attempts
        tasks = get_scheduler(scope)
        batches = {
            f"{batch.phase} {run_on}": batch.task(run_on=run_on)
            for batch in (tasks.after_route, tasks.after_response)
            for run_on in RUN_ON
        }
        attempts.append({name: batch.schedule(len, "") for name, batch in batches.items()})
        if first:
            fail()
        await answer(scope, receive, send)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(SomeError):
            await serve_route(route, scope, receive, send)
        await serve_route(route, scope, receive, send)

    async with served(with_lifespan(app)) as server:
        await server.request()
        for attempt in attempts:
            await over(*attempt.values())

    for attempt, outcome in zip(attempts, ("failure", "success"), strict=True):
        ran = {name for name, task in attempt.items() if task.state is TaskState.SUCCEEDED}
        assert ran == {name for name in attempt if name.endswith((outcome, "always"))}


async def test_a_second_attempt_may_fail_alone() -> None:
    """What the first has scheduled, and has succeeded with, is not taken back (1.6)."""
    attempts: list[dict[str, Task]] = []

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        after_response = get_scheduler(scope).after_response
        attempts.append(
            {run_on: after_response.task(run_on=run_on).schedule(len, "") for run_on in RUN_ON}
        )
        if len(attempts) > 1:
            fail()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await serve_route(route, scope, receive, send)
        with suppress(SomeError):
            await serve_route(route, scope, receive, send)
        await answer(scope, receive, send)

    async with served(with_lifespan(app)) as server:
        await server.request()
        for attempt in attempts:
            await over(*attempt.values())

    ran = [
        [name for name, task in attempt.items() if task.state is TaskState.SUCCEEDED]
        for attempt in attempts
    ]
    assert ran == [["success", "always"], ["failure", "always"]]


async def test_an_attempt_while_a_failure_is_handled() -> None:
    """What is handled around a route says nothing of that route's own outcome (1.6)."""
    scheduled: list[Task] = []

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        after_response = get_scheduler(scope).after_response
        scheduled.extend(after_response.task(run_on=kind).schedule(len, "") for kind in RUN_ON)
        scheduled.append(after_response.schedule(len, ""))
        fail()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await serve_route(route, scope, receive, send)
        except SomeError:
            with suppress(SomeError):
                await serve_route(route, scope, receive, send)
        await answer(scope, receive, send)

    async with served(with_lifespan(app)) as server:
        await server.request()
        await over(*scheduled)
    assert states(*scheduled) == ["skipped", "succeeded", "succeeded", "skipped"] * 2


@pytest.mark.parametrize("exits", ["handled", "raised"])
@pytest.mark.usefixtures("no_collector")
async def test_what_is_handled_is_not_kept(exits: str) -> None:
    """An exception that is handled where a task is scheduled is let go with the request (2.5)."""
    handled: list[weakref.ref[SomeError]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        tasks = get_scheduler(scope)
        try:
            fail()
        except SomeError as error:
            handled.append(weakref.ref(error))
            tasks.after_response.schedule(len, "")
            if exits == "raised":
                raise
        await answer(scope, receive, send)

    async with served(with_lifespan(app)) as server:
        with suppress(SomeError):
            await server.request()
        server.raised = None
        assert [ref() for ref in handled] == [None]


async def test_a_group_that_is_handled_and_fails_by_its_only_member() -> None:
    """As frameworks do that unpack it: it is known where the group is handled (1.6)."""
    scheduled: list[Task] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        error = SomeError()
        try:
            raise ExceptionGroup("", [error])  # noqa: TRY301 - this is what it is about
        except ExceptionGroup:
            scheduled.append(get_scheduler(scope).after_response.schedule(len, ""))
        raise error

    async with served(with_lifespan(app)) as server:
        with pytest.raises(SomeError):
            await server.request()
        await over(*scheduled)
    assert states(*scheduled) == ["succeeded"]


async def test_a_first_attempt_after_a_failure_is_no_second_one() -> None:
    """Only another attempt at the route begins anew: what failed before any has failed (1.6)."""
    scheduled: list[Task] = []

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        after_response = get_scheduler(scope).after_response
        scheduled.extend(after_response.task(run_on=kind).schedule(len, "") for kind in RUN_ON)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        tell_failure(scope, SomeError())
        await send(START)
        await serve_route(route, scope, receive, send)

    async with served(with_lifespan(app)) as server:
        await server.request()
        await over(*scheduled)
    assert states(*scheduled) == ["skipped", "succeeded", "succeeded"]


async def test_a_request_is_over_when_its_route_is() -> None:
    """A middleware may answer first, and let the route go on: that begins no phase (1.2, 1.3)."""
    order: list[str] = []

    async def note(event: str) -> None:
        order.append(event)

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        tasks = get_scheduler(scope)
        scheduled.append(tasks.after_response.schedule(note, "after response"))
        scheduled.append(tasks.after_route.schedule(note, "after route"))
        await gone.wait()
        order.append("route")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        group.start_soon(serve_route, route, scope, receive, send)
        await anyio.wait_all_tasks_blocked()
        await answer(scope, receive, send)

    gone = anyio.Event()
    scheduled: list[Task] = []
    async with served(with_lifespan(app)) as server:
        async with anyio.create_task_group() as group:
            await server.request()
            order.append("answer")
            gone.set()
        await over(*scheduled)

    assert order == ["answer", "route", "after route", "after response"]


async def test_a_route_outside_of_a_request_is_only_called() -> None:
    """Without a `serve` there is nothing to know (6.2)."""
    server = Server(partial(serve_route, answer), None)
    assert await server.request() == ["http.response.start", "http.response.body"]


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_broken_upload_is_a_failure(moment: str) -> None:
    """The word for a client that has gone is one only once the route has returned (1.6, 1.7)."""

    async def then(send: Send) -> None:
        if moment == "after":
            await send(START)
        raise Disconnect

    request = Request(then)
    async with served(with_lifespan(request), disconnects=(Disconnect,)) as server:
        with pytest.raises(Disconnect):
            await server.request()
        outcome = "failure" if moment == "before" else "success"
        assert await request.outcomes() == (outcome, outcome)


@pytest.mark.parametrize(
    ("kinds", "outcome"),
    [([OSError, Disconnect()], "success"), ([OSError, SomeError()], "failure")],
)
async def test_a_group_of_what_says_that_the_client_has_gone(
    kinds: list[Any], outcome: str
) -> None:
    """A group of only these is no failure; anything else in it is (1.7)."""

    async def refuse(message: Message) -> None:
        raise OSError

    async def then(send: Send) -> None:
        try:
            await send(START)
        except OSError as gone:
            errors = [gone if kind is OSError else kind for kind in kinds]
            raise ExceptionGroup("gone", errors) from None

    request = Request(then)
    async with served(with_lifespan(request), disconnects=(Disconnect,)) as server:
        with pytest.raises(ExceptionGroup):
            await server.request(send=refuse)
        assert await request.outcomes() == ("success", outcome)


async def test_requests_that_use_no_tasks_leave_no_trace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A request without tasks passes, whether it answers or raises."""

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(scope, receive, send)
        raise SomeError

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        raise SomeError

    for app in (route, silent):
        async with served(with_lifespan(app)) as server:
            with pytest.raises(SomeError):
                await server.request()

    assert logged(caplog) == []
