"""Contract 5: how the runner lives with the application, and how it shuts down."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Self, cast

import anyio
import pytest
from anyio import to_thread, wait_all_tasks_blocked
from tasks_core import (
    Phase,
    RunnerClosedError,
    RunnerSettings,
    Task,
    TaskCancelled,
    TaskConfig,
    TasksAlreadyAddedError,
    TasksScheduler,
    TaskState,
    TasksUninitializedError,
    current_tasks,
)
from tasks_core.asgi import ASGIApp, Message

from tests.conformance.cases import (
    FunctionKind,
    async_function,
    at,
    each_function,
    each_phase,
    finish,
    sync_function,
)
from tests.conformance.driver import GUARD, Server, serve
from tests.conformance.harness import Application, ErrorAnswer, Harness, Route, Text, build

pytestmark = pytest.mark.anyio

Lifespan = Callable[[], AbstractAsyncContextManager[None]]


def noting(log: list[str], opening: Callable[[], object] = lambda: None) -> Lifespan:
    """Make a lifespan that notes its teardown, as one that closes resources."""

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[None, None]:
        opening()
        yield
        log.append("closed")

    return lifespan


def warnings(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    """Return the warnings of the logger ``tasks_core`` that hold these words."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "tasks_core"
        and record.levelno == logging.WARNING
        and words in record.getMessage()
    ]


@contextmanager
def hearing(words: str, times: int = 1) -> Generator[anyio.Event, None, None]:
    """Set an event as soon as so many log records that hold the words have been heard."""
    heard = anyio.Event()
    seen: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if words in record.getMessage():
                seen.append(record.getMessage())
            if len(seen) == times:
                heard.set()

    listener = Listener()
    logger = logging.getLogger("tasks_core")
    logger.addHandler(listener)
    try:
        yield heard
    finally:
        logger.removeHandler(listener)


class Stopping:
    """A shutdown that goes on while the body runs."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._group = anyio.create_task_group()
        self.done = False

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._group.start_soon(self._stop)
        await wait_all_tasks_blocked()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._group.__aexit__(None, None, None)

    async def _stop(self) -> None:
        await self._server.stop()
        self.done = True


@each_function
async def test_start_up_code_schedules(harness: Harness, function_kind: FunctionKind) -> None:
    """5.1 The start-up code of the application's own lifespan can schedule tasks of all phases."""
    made: list[Task] = []

    def opening() -> None:
        tasks = current_tasks()
        made.extend(at(tasks, phase).schedule(function_kind(lambda: "done")) for phase in Phase)

    async with serve(build(harness, lifespan=noting([], opening))):
        assert [await task.wait() for task in made] == ["done"] * 3


async def test_start_up_code_waits_for_its_tasks(harness: Harness) -> None:
    """5.1 What the start-up code schedules runs before the start-up has ended."""
    log: list[str] = []

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[None, None]:
        log.append(await current_tasks().schedule(async_function(lambda: "done")).wait())
        yield

    async with serve(build(harness, lifespan=lifespan)):
        assert log == ["done"]


@each_phase
@each_function
async def test_shielded_tasks_end_before_the_application_closes(
    harness: Harness, function_kind: FunctionKind, phase: Phase
) -> None:
    """5.1 Shielded tasks end before the application's own lifespan code tears down."""
    log: list[str] = []
    release = threading.Event()
    awaited = anyio.Event()
    made: list[Task] = []

    def block() -> None:
        release.wait(GUARD)
        log.append("task")

    async def wait() -> None:
        await awaited.wait()
        log.append("task")

    async def route(tasks: TasksScheduler) -> None:
        function = block if function_kind is sync_function else wait
        made.append(at(tasks, phase).task(shield=True).schedule(function))

    async with serve(build(harness, route, lifespan=noting(log))) as server:
        await server.request()
        async with Stopping(server):
            assert not log
            release.set()
            awaited.set()
    assert log == ["task", "closed"]
    assert made[0].state is TaskState.SUCCEEDED


@each_phase
async def test_cancelled_tasks_end_before_the_application_closes(
    harness: Harness, phase: Phase
) -> None:
    """5.1 Unshielded tasks are cancelled, and end, before the lifespan code tears down."""
    log: list[str] = []
    made: list[Task] = []

    async def function() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append("task")

    async def route(tasks: TasksScheduler) -> None:
        made.append(at(tasks, phase).schedule(function))

    async with serve(build(harness, route, lifespan=noting(log))) as server:
        await server.request()
        await made[0].started.wait()
    assert log == ["task", "closed"]


@each_phase
async def test_a_shutdown_cancels_what_is_not_shielded(harness: Harness, phase: Phase) -> None:
    """5.2 Without a grace period a shutdown cancels unshielded tasks at once."""
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.append(at(tasks, phase).schedule(anyio.sleep_forever))

    async with serve(build(harness, route)) as server:
        await server.request()
        async with Stopping(server):  # the application may still be going down, in threads
            assert made[0].state is TaskState.CANCELLED
        with pytest.raises(TaskCancelled):
            await made[0].wait()


@each_phase
async def test_a_shutdown_waits_for_the_grace_period(harness: Harness, phase: Phase) -> None:
    """5.2 A task that ends within the grace period is not cancelled; the shutdown goes on."""
    release = anyio.Event()
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.append(at(tasks, phase).schedule(release.wait))

    async with serve(build(harness, route, grace_period=60)) as server:
        await server.request()
        async with Stopping(server):
            assert [task.state for task in made] == [TaskState.RUNNING]
            release.set()
    assert made[0].state is TaskState.SUCCEEDED


async def test_a_grace_period_that_ends(harness: Harness) -> None:
    """5.2 When the grace period is over, what is not shielded is cancelled."""
    release = anyio.Event()
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.append(tasks.schedule(anyio.sleep_forever))
        made.append(tasks.task(shield=True).schedule(release.wait))

    async with serve(build(harness, route, grace_period=0.05)) as server:
        await server.request()
        async with Stopping(server):
            with pytest.raises(TaskCancelled):
                await made[0].wait()
            assert [task.state for task in made] == [TaskState.CANCELLED, TaskState.RUNNING]
            release.set()
    assert made[1].state is TaskState.SUCCEEDED


async def test_a_shutdown_waits_for_what_is_shielded(harness: Harness) -> None:
    """5.2 A shutdown waits for shielded tasks, by default without limit."""
    release = anyio.Event()
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.append(tasks.task(shield=True).schedule(release.wait))

    async with serve(build(harness, route, shutdown_timeout=None)) as server:
        await server.request()
        async with Stopping(server) as stopping:
            waits = not stopping.done
            release.set()
    assert waits
    assert made[0].state is TaskState.SUCCEEDED


@each_phase
async def test_a_shutdown_timeout_bounds_the_wait(harness: Harness, phase: Phase) -> None:
    """5.2 Past `shutdown_timeout` shielded tasks are cancelled too; their `finally` blocks run."""
    log: list[str] = []
    made: list[Task] = []

    async def function() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append("finally")

    async def route(tasks: TasksScheduler) -> None:
        made.append(at(tasks, phase).task(shield=True).schedule(function))

    async with serve(build(harness, route, shutdown_timeout=0.05)) as server:
        await server.request()
        await made[0].started.wait()
    assert log == ["finally"]
    assert made[0].state is TaskState.CANCELLED


async def test_a_shutdown_that_waits_says_so(
    harness: Harness, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5.2 While a shutdown waits, warnings name what it waits for, again and again."""
    monkeypatch.setattr("tasks_core._runner.WARN_EVERY", 0.02)
    release = anyio.Event()
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.append(tasks.task(shield=True, name="export 7").schedule(release.wait))

    async with serve(build(harness, route, shutdown_timeout=None)) as server:
        await server.request()
        with hearing("export 7", times=2) as heard:
            async with Stopping(server):
                try:
                    await heard.wait()
                finally:
                    release.set()
    assert made[0].state is TaskState.SUCCEEDED
    assert all(made[0].id in message for message in warnings(caplog, "export 7"))


async def test_what_a_shutdown_cut_short_is_reported(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    """5.3 What did not finish is reported in one record, by name, id, phase and age."""
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        for phase in Phase:
            batch = at(tasks, phase).task(name=f"export {phase}", shield=phase == Phase.AFTER_ROUTE)
            made.append(batch.schedule(anyio.sleep_forever))
        made.append(tasks.task(name="quick").schedule(async_function(int)))

    async with serve(build(harness, route, shutdown_timeout=0.05)) as server:
        await server.request()
        await made[-1].wait()
    (message,) = warnings(caplog, "export")
    for task in made[:-1]:
        assert task.name in message
        assert task.id in message
        assert str(task.phase) in message
    assert message.count("age") == len(Phase)
    assert "quick" not in message


async def test_a_clean_shutdown_reports_nothing(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    """5.3 Where everything has finished, a shutdown has nothing to report."""
    caplog.set_level(logging.DEBUG)
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.extend(at(tasks, phase).schedule(async_function(int)) for phase in Phase)
        made.extend(at(tasks, phase).task(shield=True).schedule(int) for phase in Phase)

    async with serve(build(harness, route)) as server:
        await server.request()
        await finish(made)
    assert not [record for record in caplog.records if record.name == "tasks_core"]


@each_phase
@each_function
async def test_shielded_tasks_that_have_not_begun_still_run(
    harness: Harness, function_kind: FunctionKind, phase: Phase
) -> None:
    """5.4 A shielded task that has not begun when a shutdown starts still runs."""
    ran: list[int] = []
    kept: list[TasksScheduler] = []

    async with serve(build(harness, kept.append)) as server:
        await server.request()
        for number in range(3):
            batch = at(kept[0], phase).task(shield=True)
            batch.schedule(function_kind(partial(ran.append, number)))
        await server.stop()
    assert sorted(ran) == [0, 1, 2]


@pytest.mark.parametrize("phase", [Phase.AFTER_ROUTE, Phase.AFTER_RESPONSE], ids=str)
async def test_tasks_that_wait_for_their_phase(
    harness: Harness, phase: Phase, caplog: pytest.LogCaptureFixture
) -> None:
    """5.4 What waits for its phase when a shutdown starts gets no grace unless it is shielded."""
    inside, release = anyio.Event(), anyio.Event()
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.extend(at(tasks, phase).schedule(async_function(int)) for _ in range(2))
        made.append(at(tasks, phase).task(shield=True).schedule(async_function(int)))
        inside.set()
        await release.wait()
        made.append(at(tasks, phase).schedule(async_function(int)))

    async with (
        serve(build(harness, route, grace_period=60)) as server,
        anyio.create_task_group() as group,
    ):
        group.start_soon(server.request)
        await inside.wait()
        async with Stopping(server):
            assert [task.state for task in made[:2]] == [TaskState.CANCELLED] * 2
            assert made[2].state is TaskState.PENDING
            release.set()
    states = [task.state for task in made[2:]]
    assert states == [TaskState.SUCCEEDED, TaskState.CANCELLED]
    (report,) = warnings(caplog, "left unfinished")
    assert report.count(f"cancelled, waited for {phase})") == 3
    assert all((task.id in report) is (task is not made[2]) for task in made)


async def test_shielded_tasks_that_wait_for_a_thread_still_run(harness: Harness) -> None:
    """5.4 Shielded sync tasks that wait for a thread when a shutdown starts still run."""
    release = threading.Event()
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        batch = tasks.after_response.task(shield=True)
        made.extend(batch.schedule(release.wait, GUARD) for _ in range(5))

    async with serve(build(harness, route, thread_limit=1)) as server:
        await server.request()
        async with Stopping(server):
            assert made[-1].state is TaskState.PENDING
            release.set()
    assert [task.state for task in made] == [TaskState.SUCCEEDED] * 5


async def test_unshielded_tasks_that_wait_for_a_thread_are_cancelled(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    """5.4 Unshielded sync tasks that wait for a thread when a shutdown starts never run."""
    release = threading.Event()
    ran: list[int] = []
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.append(tasks.task(shield=True).schedule(release.wait, GUARD))
        made.extend(tasks.schedule(ran.append, number) for number in range(5))

    async with serve(build(harness, route, thread_limit=1, grace_period=60)) as server:
        await server.request()
        async with Stopping(server):
            assert [task.state for task in made[1:]] == [TaskState.CANCELLED] * 5
            release.set()
    assert not ran
    (report,) = warnings(caplog, "left unfinished")
    assert report.count("cancelled, waited for a thread)") == 5


@each_function
async def test_a_shielded_task_schedules_a_shielded_task(
    harness: Harness, function_kind: FunctionKind
) -> None:
    """5.4 What a shielded task schedules during a shutdown runs if it is shielded as well."""
    release = anyio.Event()
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        async def function() -> None:
            await release.wait()
            inner = tasks.after_response.task(shield=True)
            made.append(inner.schedule(function_kind(lambda: "done")))

        tasks.task(shield=True).schedule(function)

    async with serve(build(harness, route)) as server:
        await server.request()
        async with Stopping(server):
            release.set()
    assert made[0].result == "done"


@each_phase
async def test_tasks_are_refused_once_the_runner_is_closed(harness: Harness, phase: Phase) -> None:
    """5.4 A task that is scheduled once the runner is closed is refused by name."""
    kept: list[TasksScheduler] = []

    async with serve(build(harness, kept.append)) as server:
        await server.request()
        await server.stop()
        with pytest.raises(RunnerClosedError, match="too late"):
            at(kept[0], phase).task(name="too late").schedule(async_function(int))


async def test_requests_after_the_lifespan_are_refused(harness: Harness) -> None:
    """5.4 A request that comes after the lifespan is told that the application has shut down."""
    ran: list[TasksScheduler] = []
    async with serve(build(harness, ran.append, answers=EXPLAINING)) as server:
        await server.stop()
        exchange = await server.request()
    assert exchange.status == 503
    assert_explains(exchange.body.decode(), "lifespan of this application has ended")
    assert not ran


async def test_closing_code_is_refused(harness: Harness) -> None:
    """5.4 The application's own teardown comes after all tasks: what it schedules is refused."""
    log: list[str] = []

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[None, None]:
        tasks = current_tasks()
        yield
        try:
            tasks.schedule(async_function(int))
        except RunnerClosedError:
            log.append("refused")

    async with serve(build(harness, lifespan=lifespan)):
        pass
    assert log == ["refused"]


@each_phase
async def test_shields_inside_a_task_hold(harness: Harness, phase: Phase) -> None:
    """5.5 Shields inside an unshielded task hold; its `except` and `finally` blocks run."""
    release = anyio.Event()
    log: list[str] = []
    made: list[Task] = []

    async def function() -> None:
        try:
            with anyio.CancelScope(shield=True):
                await release.wait()
                log.append("shield")
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            log.append("except")
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
                log.append("finally")

    async def route(tasks: TasksScheduler) -> None:
        made.append(at(tasks, phase).schedule(function))

    async with serve(build(harness, route, lifespan=noting(log))) as server:
        await server.request()
        await made[0].started.wait()
        async with Stopping(server):
            assert not log
            release.set()
    assert log == ["shield", "except", "finally", "closed"]
    assert made[0].state is TaskState.CANCELLED


async def test_a_task_that_does_not_stop_is_named(
    harness: Harness, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5.5 A task that swallows the cancellation is named in the warnings and in the report."""
    monkeypatch.setattr("tasks_core._runner.WARN_EVERY", 0.02)
    monkeypatch.setattr(
        "tasks_core._runner.current_time",
        # Each warning is the last one of its bound: of the waiting, and of the cleaning up.
        lambda: anyio.current_time() + GUARD * len(warnings(caplog, "waiting for stubborn 7")),
    )
    stop = anyio.Event()
    made: list[Task] = []

    async def stubborn() -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await stop.wait()

    async def route(tasks: TasksScheduler) -> None:
        made.append(tasks.task(name="stubborn 7").schedule(stubborn))

    async with serve(build(harness, route, shutdown_timeout=GUARD)) as server:
        await server.request()
        await made[0].started.wait()
        with hearing("left unfinished") as heard:
            async with Stopping(server):
                try:
                    await heard.wait()
                finally:
                    stop.set()
    (report,) = warnings(caplog, "left unfinished")
    assert "stubborn 7" in report
    assert made[0].id in report
    assert len(warnings(caplog, "waiting for stubborn 7")) == 2


EXPLAINING: dict[type[Exception], ErrorAnswer] = {
    TasksUninitializedError: lambda error: Text(str(error), status=503)
}


@pytest.mark.needs("without tasks")
@pytest.mark.parametrize("lifespan", [True, False], ids=["lifespan", "no_lifespan"])
async def test_without_tasks_added(harness: Harness, *, lifespan: bool) -> None:
    """5.6 Where no tasks were added, using them is an error that says so, and what to do."""
    ran: list[TasksScheduler] = []
    routes = {"/": Route(endpoint=ran.append)}
    app = harness.build(Application(routes=routes, answers=EXPLAINING, added=()))
    async with serve(app, lifespan=lifespan) as server:
        exchange = await server.request()
    assert exchange.status == 503
    assert_explains(exchange.body.decode(), "No tasks were added", "add_tasks(app)")
    assert not ran


async def test_current_tasks_outside_of_requests(harness: Harness) -> None:
    """5.6 Outside of requests, `current_tasks` is an error that says so, and what to do."""
    async with serve(build(harness)):
        with pytest.raises(TasksUninitializedError) as caught:
            current_tasks()
    assert_explains(str(caught.value), "No request is being served here", "Pass `tasks` on")


async def test_without_a_lifespan(harness: Harness) -> None:
    """5.6 Where the lifespan never ran, using tasks is an error that says so, and what to do."""
    ran: list[TasksScheduler] = []
    async with serve(build(harness, ran.append, answers=EXPLAINING), lifespan=False) as server:
        exchange = await server.request()
    assert exchange.status == 503
    assert_explains(exchange.body.decode(), "has not been started", "TestClient", "ASGITransport")
    assert not ran


def assert_explains(text: str, cause: str, *remedies: str) -> None:
    """Assert that an error says its cause, and no other one."""
    causes = ("No tasks were added", "No request is being", "has not been started", "has ended")
    assert [said for said in causes if said in text] == [said for said in causes if said in cause]
    for words in (cause, *remedies):
        assert words in text


async def test_a_server_without_lifespan_state(harness: Harness) -> None:
    """5.6 A server that offers no lifespan state serves tasks as any other."""
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.extend(at(tasks, phase).schedule(async_function(lambda: "done")) for phase in Phase)

    async with serve(build(harness, route), state=False) as server:
        exchange = await server.request()
        assert exchange.error is None
        assert [await task.wait() for task in made] == ["done"] * 3


class OutOfOrder(Exception):  # noqa: N818 - a name of the application's
    """The application's own trouble."""


def failing_at(moment: str, error: Exception, begin: Callable[[], object]) -> Lifespan:
    """Make a lifespan that calls ``begin`` when it starts, and raises sooner or later."""

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[None, None]:
        begin()
        if moment == "start_up":
            raise error
        yield
        raise error

    return lifespan


def shape(error: BaseException) -> object:
    """Return an exception's type and, for a group, the shapes of what is in it."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return type(group), [shape(inner) for inner in group.exceptions]
    return type(error)


async def raised(app: ASGIApp) -> Exception:
    """Return what comes out of an application that is started and stopped."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - to be looked at
        async with serve(app):
            pass
    return caught.value


each_moment = pytest.mark.parametrize("moment", ["start_up", "shutdown"])


@each_moment
@pytest.mark.needs("lifespan errors")
async def test_an_error_of_the_lifespan(harness: Harness, moment: str) -> None:
    """5.7 What the application's own lifespan raises comes out as it is."""
    error = OutOfOrder()
    app = build(harness, lifespan=failing_at(moment, error, lambda: None))
    assert await raised(app) is error


@each_moment
@pytest.mark.needs("lifespan errors")
@pytest.mark.parametrize("shield", [False, True], ids=["unshielded", "shielded"])
async def test_tasks_leave_an_error_of_the_lifespan_alone(
    harness: Harness, moment: str, *, shield: bool
) -> None:
    """5.7 It comes out as without tasks also when tasks run, which end as at any shutdown."""
    made: list[Task] = []

    async def function() -> str:
        await wait_all_tasks_blocked()
        return "done"

    def begin() -> None:
        made.append(current_tasks().task(shield=shield).schedule(function))

    plain = failing_at(moment, OutOfOrder(), lambda: None)
    without = harness.build(Application(routes={}, lifespan=plain, added=()))
    app = build(harness, lifespan=failing_at(moment, OutOfOrder(), begin))
    assert shape(await raised(app)) == shape(await raised(without))
    assert made[0].state is (TaskState.SUCCEEDED if shield else TaskState.CANCELLED)


async def _use(app: ASGIApp, made: list[Task]) -> None:
    async with serve(app) as server:
        exchange = await server.request()
        assert exchange.error is None
        assert [await task.wait() for task in made[-3:]] == ["done"] * 3


async def test_an_application_is_started_again(harness: Harness) -> None:
    """5.7 One application may be started, stopped and started again."""
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.extend(at(tasks, phase).schedule(async_function(lambda: "done")) for phase in Phase)

    app = build(harness, route)
    for _ in range(3):
        await _use(app, made)
    assert len(made) == 9


async def test_a_server_that_cancels_the_lifespan_in_the_end(
    harness: Harness, anyio_backend_name: str
) -> None:
    """5.7 A server may cancel the lifespan once it has heard that it is complete, as some do."""
    messages = [{"type": f"lifespan.{moment}"} for moment in ("shutdown", "startup")]
    heard = {moment: anyio.Event() for moment in ("startup", "shutdown")}
    ended: list[str] = []
    cancels: list[Callable[[], object]] = []

    async def receive() -> Message:
        return messages.pop()

    async def send(message: Message) -> None:
        _, moment, how = message["type"].split(".")
        ended.append(how)
        heard[moment].set()

    async def live() -> None:
        if anyio_backend_name == "asyncio":
            cancels.append(cast("asyncio.Task[None]", asyncio.current_task()).cancel)
        await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
        ended.append("ended")

    app = build(harness, lifespan=noting(ended))
    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as group:
            cancels.append(group.cancel_scope.cancel)
            group.start_soon(live)
            await heard["shutdown"].wait()
            cancels[-1]()
    assert ended == ["complete", "closed", "complete", "ended"]


@pytest.mark.needs("trio")
@pytest.mark.parametrize("other", ["asyncio", "trio"], ids=["then_asyncio", "then_trio"])
async def test_an_application_is_started_on_another_event_loop(
    harness: Harness, other: str
) -> None:
    """5.7 It may be started again on another event loop, and even on one of another kind."""
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.extend(at(tasks, phase).schedule(async_function(lambda: "done")) for phase in Phase)

    app = build(harness, route)
    await _use(app, made)
    await to_thread.run_sync(lambda: anyio.run(_use, app, made, backend=other))
    await _use(app, made)
    assert len(made) == 9


@pytest.mark.needs("add twice")
@pytest.mark.parametrize("times", [2, 3])
async def test_adding_tasks_twice(harness: Harness, times: int) -> None:
    """5.7 Adding tasks a second time, without settings, changes nothing."""
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.append(tasks.after_response.schedule(async_function(lambda: "done")))

    first = RunnerSettings(config=TaskConfig(name="first"))
    app = harness.build(
        Application(
            routes={"/": Route(endpoint=route)}, added=[first, *[RunnerSettings()] * (times - 1)]
        )
    )
    async with serve(app) as server:
        await server.request()
        assert await made[0].wait() == "done"
    assert made[0].name == "first"


@pytest.mark.needs("add twice")
@pytest.mark.parametrize(
    "settings",
    [
        RunnerSettings(config=TaskConfig(name="second")),
        RunnerSettings(grace_period=0),
        RunnerSettings(shutdown_timeout=1),
        RunnerSettings(thread_limit=1),
    ],
    ids=["config", "grace_period", "shutdown_timeout", "thread_limit"],
)
async def test_adding_tasks_twice_with_settings(harness: Harness, settings: RunnerSettings) -> None:
    """5.7 Adding tasks a second time with settings, which would be lost, is refused."""
    with pytest.raises(TasksAlreadyAddedError, match="already added"):
        harness.build(Application(routes={}, added=[RunnerSettings(), settings]))


async def test_two_applications_live_side_by_side(harness: Harness) -> None:
    """5.7 Two applications in one process have runners of their own."""
    made: list[Task] = []
    release = anyio.Event()

    async def route(tasks: TasksScheduler) -> None:
        made.append(tasks.task(shield=True).schedule(release.wait))

    one, two = build(harness, route), build(harness, route)
    async with serve(one) as first:
        async with serve(two) as second:
            await second.request()
            await first.request()
            async with Stopping(second) as stopping:
                assert not stopping.done
                release.set()
        assert made[0].state is TaskState.SUCCEEDED
        await first.request()
        await made[-1].wait()
