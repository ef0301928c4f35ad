"""What a review of the core found, each with the test that failed before it was mended."""

from __future__ import annotations

import asyncio
import gc
import logging
import pickle
import threading
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NoReturn

import anyio
import pytest
from anyio import to_thread
from tasks_core import (
    MountedSettingsError,
    NoCurrentTaskError,
    RunnerClosedError,
    Task,
    TaskAborted,
    TaskCancelled,
    TaskFailed,
    TasksAlreadyAddedError,
    TasksError,
    TaskSkipped,
    TasksScheduler,
    TaskState,
    TasksUninitializedError,
)
from tasks_core._exceptions import Closed, Missing, Skipped
from tasks_core.asgi import Message, Receive, Scope, Send, get_scheduler, serve

from tests.tasks_core.stage import (
    GUARD,
    SomeError,
    fail_async,
    logged,
    open_runner,
    over,
    records,
    until_cancelled,
)

pytestmark = pytest.mark.anyio
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@on_asyncio
@pytest.mark.parametrize("outcome", [TaskState.SUCCEEDED, TaskState.FAILED])
async def test_a_scope_that_is_left_open_is_named(
    outcome: TaskState, caplog: pytest.LogCaptureFixture
) -> None:
    """A task that never leaves a cancel scope keeps its outcome, and is logged for it (4.1)."""
    opened: list[anyio.CancelScope] = []

    async def leave_open() -> None:
        opened.append(anyio.CancelScope().__enter__())
        if outcome is TaskState.FAILED:
            raise SomeError

    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(leave_open)
        await over(task)

    assert task.state is outcome
    assert sum("left a cancel scope open" in line for line in logged(caplog, "ERROR")) == 1
    assert logged(caplog, "WARNING") == []


class Falsy(Exception):  # noqa: N818 - what it is
    def __len__(self) -> int:
        return 0


async def test_an_error_that_is_false_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An exception that counts as false in a condition is an exception all the same (4.2)."""

    async def fail() -> NoReturn:
        raise Falsy

    async with open_runner() as runner:
        await over(TasksScheduler(runner).schedule(fail))

    (record,) = records(caplog, "ERROR")
    assert record.exc_info is not None
    assert record.exc_info[0] is Falsy
    assert record.exc_info[2] is not None


async def test_a_record_factory_may_have_our_attributes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A failure is logged where records have a `task_id` already (4.2)."""
    factory = logging.getLogRecordFactory()

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = factory(*args, **kwargs)
        record.task_id = "theirs"
        return record

    logging.setLogRecordFactory(make)
    try:
        async with open_runner() as runner:
            await over(TasksScheduler(runner).schedule(fail_async))
    finally:
        logging.setLogRecordFactory(factory)

    assert len(logged(caplog, "ERROR")) == 1


@on_asyncio
async def test_a_task_factory_that_refuses_fails_its_task_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What the event loop raises when a task is started is that task's failure (4.1)."""
    loop = asyncio.get_running_loop()

    def refuse(
        loop: asyncio.AbstractEventLoop,
        coro: Any,  # a coroutine; a generator too, says the signature of Python 3.11
        **options: Any,
    ) -> asyncio.Future[Any]:
        if len(refused) < 1:
            refused.append(coro)
            raise SomeError
        return asyncio.Task(coro, loop=loop, **options)

    refused: list[object] = []
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        loop.set_task_factory(refuse)
        try:
            first, second = tasks.schedule(until_cancelled), tasks.schedule(anyio.sleep, 0)
        finally:
            loop.set_task_factory(None)
        await over(first, second)

    assert (first.state, second.state) == (TaskState.FAILED, TaskState.SUCCEEDED)
    assert isinstance(first.exception, SomeError)
    assert len(logged(caplog, "ERROR")) == 1


@on_asyncio
async def test_an_event_loop_makes_its_tasks_in_its_own_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where its `create_task` is not asyncio's, a tool's for instance, that makes ours too."""
    loop = asyncio.get_running_loop()
    plain, made = loop.create_task, list[object]()

    def create_task(coro: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(options.get("name"))
        return plain(coro, **options)

    monkeypatch.setattr(loop, "create_task", create_task)
    async with open_runner() as runner:
        await over(runner.task(name="ours").schedule(anyio.sleep, 0))
    assert "ours" in made


@on_asyncio
@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="Python 3.12 has it")
async def test_tasks_may_start_eagerly() -> None:
    """An event loop that runs a task's first step at once keeps nothing of it (2.4)."""
    loop = asyncio.get_running_loop()

    class Value:
        pass

    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        factory: Any = vars(asyncio)["eager_task_factory"]
        loop.set_task_factory(factory)
        try:
            value = Value()
            kept = weakref.ref(value)

            async def use(value: Value) -> None:
                del value

            task = tasks.schedule(use, value)
        finally:
            loop.set_task_factory(None)
        assert task.state is TaskState.SUCCEEDED
        await task.wait()
        del task, value
        gc.collect()
        assert kept() is None


async def wait_for_the_end(task: Task) -> None:
    await task.wait()


async def wait_for_the_start(task: Task) -> None:
    await task.started.wait()


@pytest.mark.parametrize("ask", [wait_for_the_end, wait_for_the_start])
@pytest.mark.parametrize("other", ["asyncio", "trio"])
async def test_another_event_loop_is_refused(
    ask: Callable[[Task], Awaitable[None]], other: str
) -> None:
    """Who waits on another event loop than the task's gets an error; the task goes on (2.3)."""
    refused: list[str] = []

    async def wait(task: Task) -> None:
        try:
            await ask(task)
        except RuntimeError as error:
            refused.append(str(error))

    go = anyio.Event()
    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(go.wait)
        await to_thread.run_sync(lambda: anyio.run(wait, task, backend=other))
        go.set()
        await task.wait()

    assert [message.partition(":")[0] for message in refused] == [
        "The task belongs to another event loop than the one that runs here"
    ]


async def test_waiting_does_not_lengthen_the_traceback() -> None:
    """The exception that many wait for keeps none of their frames (2.6)."""
    lengths: set[int] = set()
    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(fail_async)
        for _ in range(5):
            with suppress(SomeError):
                await task.wait()
            assert task.exception is not None
            traceback, length = task.exception.__traceback__, 0
            while traceback is not None:
                traceback, length = traceback.tb_next, length + 1
            lengths.add(length)

    assert len(lengths) == 1


@pytest.mark.parametrize(
    "error",
    [
        *map(TasksUninitializedError, Missing),
        MountedSettingsError(["history", "thread_limit"]),
        TasksAlreadyAddedError(),
        NoCurrentTaskError(),
        *(RunnerClosedError("mail", closed) for closed in Closed),
        TaskAborted("SystemExit"),
        TaskFailed("ValueError", "no"),
        TaskCancelled("mail"),
        *(TaskSkipped("mail", why) for why in Skipped),
    ],
    ids=repr,
)
def test_errors_can_be_sent_to_other_processes(error: TasksError) -> None:
    """Every error survives pickling with its message."""
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own

    assert (type(again), str(again)) == (type(error), str(error))


async def test_a_joined_thread_has_scheduled_first() -> None:
    """A task of a thread that has ended begins before one that is scheduled then (1.4, 2.3)."""
    begun: list[str] = []

    async def begin(name: str) -> None:
        begun.append(name)

    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        thread = threading.Thread(target=tasks.schedule, args=(begin, "thread"))
        thread.start()
        thread.join(GUARD)  # the event loop stands still meanwhile
        tasks.schedule(begin, "loop")
        await tasks.begun()

    assert begun == ["thread", "loop"]


class Connection:
    """A server's connection, which holds what it has received."""

    async def receive(self) -> Message:
        return {"type": "http.request"}

    async def send(self, message: Message) -> None: ...


async def test_a_task_does_not_keep_the_connection() -> None:
    """A task that outlives its request keeps nothing of the server's alive (1.7)."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        get_scheduler(scope).schedule(go.wait)
        await send({"type": "http.response.start", "status": 200})

    async def request() -> weakref.ref[Connection]:
        connection, scope = Connection(), {"type": "http"}
        await serve(app, scope, connection.receive, connection.send, TasksScheduler(runner))
        return weakref.ref(connection)

    go = anyio.Event()
    async with open_runner() as runner:
        connection = await request()
        gc.collect()
        assert connection() is None
        go.set()


async def test_a_websocket_that_takes_no_more_is_no_failure() -> None:
    """A client that has gone when the route sends does not keep a phase from coming (1.7)."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        tasks = get_scheduler(scope)
        made.append(tasks.after_response.schedule(anyio.sleep, 0))
        await send({"type": "websocket.send", "text": "gone"})

    async def send(message: Message) -> None:
        raise BrokenPipeError

    made: list[Any] = []
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        with pytest.raises(BrokenPipeError):
            await serve(app, {"type": "websocket"}, Connection().receive, send, tasks)
        await made[0].wait()

    assert made[0].state is TaskState.SUCCEEDED


async def test_a_long_report_names_each_task_once(caplog: pytest.LogCaptureFixture) -> None:
    """Where many tasks did not finish, several records name them (5.3)."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        unfinished = [tasks.schedule(until_cancelled) for _ in range(250)]
        await tasks.begun()

    reports = logged(caplog, "WARNING")
    assert len(reports) == 3
    assert all("".join(reports).count(task.id) == 1 for task in unfinished)
