from __future__ import annotations

import asyncio
import gc
import logging
import sys
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, cast

import anyio
import pytest
from anyio import to_thread
from tasks_core import Task, TaskAborted, TaskRunner, TasksScheduler, TaskState

from tests.tasks_core.stage import (
    Abrupt,
    Frozen,
    SomeError,
    fail,
    fail_async,
    fail_in_asyncios_group,
    logged,
    open_runner,
    over,
    records,
    until_cancelled,
)

on_both = pytest.mark.anyio
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])


class Hostile(Exception):  # noqa: N818 - it is an error in more than one way
    """An error that cannot be shown."""

    def __str__(self) -> str:
        raise SystemExit

    def __repr__(self) -> str:
        raise SystemExit


class Indivisible(ExceptionGroup[Exception]):
    """A group that cannot be taken apart."""

    def derive(self, excs: object) -> NoReturn:
        raise KeyError


class HostileCallable:
    """A callable whose name cannot be read, nor anything of it be shown."""

    def __init__(self, raises: type[BaseException] = RuntimeError) -> None:
        self._raises = raises

    def __getattr__(self, name: str) -> NoReturn:
        raise self._raises(name) if name == "__qualname__" else AttributeError(name)

    def __repr__(self) -> str:
        raise self._raises

    def __str__(self) -> str:
        raise self._raises

    def __call__(self, *_: object) -> NoReturn:
        raise SomeError


class Breaking(logging.Handler):
    """A logging handler, or filter, that raises."""

    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.error = error

    def emit(self, record: logging.LogRecord) -> None:
        raise self.error

    def filter(self, record: logging.LogRecord) -> bool:
        raise self.error


def recurse() -> None:
    recurse()


async def recurse_async() -> None:
    await recurse_async()


async def fail_in_group() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep_forever)
        group.start_soon(fail_async)


def raising(error: BaseException) -> Callable[..., NoReturn]:
    def function(*_: object) -> NoReturn:
        raise error

    return function


def raising_async(error: BaseException) -> Callable[..., Coroutine[Any, Any, NoReturn]]:
    async def function(*_: object) -> NoReturn:
        raise error

    return function


@contextmanager
def logger_with(thing: logging.Handler, *, as_filter: bool = False) -> Generator[None]:
    """Hang a handler or a filter to the logger."""
    logger = logging.getLogger("tasks_core")
    (logger.addFilter if as_filter else logger.addHandler)(thing)
    try:
        yield
    finally:
        (logger.removeFilter if as_filter else logger.removeHandler)(thing)


async def others_live(tasks: TasksScheduler, bystander: Task) -> None:
    """Check that the runner still runs tasks, and that another task was left alone."""
    assert bystander.state is TaskState.RUNNING
    assert await tasks.schedule(len, "four").wait() == 4


# Failures and their records (4.1, 4.2)


@on_both
@pytest.mark.parametrize(
    ("func", "kind"),
    [
        (fail, SomeError),
        (fail_async, SomeError),
        (raising(StopIteration()), RuntimeError),
        (raising_async(StopIteration()), RuntimeError),
        (raising(StopAsyncIteration()), StopAsyncIteration),
        (recurse, RecursionError),
        (recurse_async, RecursionError),
        (fail_in_group, ExceptionGroup),
        (raising(Hostile()), Hostile),
        (raising_async(Hostile()), Hostile),
        (HostileCallable(), SomeError),
    ],
)
async def test_a_failure_reaches_nobody_else(
    func: Callable[[], object], kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    """Other tasks and the runner's block go on, and one record tells of it (4.1, 4.2)."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        bystander = tasks.schedule(until_cancelled)
        task = tasks.schedule(func)
        await over(task)

        assert task.state is TaskState.FAILED
        assert type(task.exception) is kind
        (record,) = records(caplog)
        assert record.exc_info
        assert record.exc_info[1] is task.exception
        await others_live(tasks, bystander)


@on_both
@pytest.mark.parametrize("make", [raising, raising_async])
@pytest.mark.parametrize(
    "error",
    [
        SystemExit(1),
        GeneratorExit(),
        Abrupt(),
        BaseExceptionGroup("several", [SomeError(), Abrupt()]),
        BaseExceptionGroup("several", [SystemExit(1)]),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_is_no_exception_is_a_failure_too(
    make: Callable[[BaseException], Callable[[], object]],
    error: BaseException,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Waiters and handlers get an ordinary exception, with the original as its cause (4.1)."""
    handled: list[Exception] = []
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        bystander = tasks.schedule(until_cancelled)
        batch = tasks.task(on_error=lambda _, error: handled.append(error))
        func: Any = make(error)
        task: Task[..., object] = batch.schedule(func)

        with pytest.raises(TaskAborted, match=f"ended by {type(error).__name__}") as raised:
            await task.wait()
        assert raised.value.__cause__ is error
        assert handled == [raised.value]
        assert len(logged(caplog, "ERROR")) == 1
        await others_live(tasks, bystander)


@on_both
@pytest.mark.parametrize("make", [raising, raising_async])
@pytest.mark.parametrize("error", [Frozen(), Indivisible("several", [SomeError()])])
async def test_an_error_that_refuses_to_be_handled_is_a_failure(
    make: Callable[[BaseException], Callable[[], object]],
    error: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A frozen dataclass may be an exception, which refuses a traceback of ours (4.1 to 4.3)."""
    handled: list[Exception] = []
    async with open_runner() as runner:
        batch = runner.task(on_error=lambda _, error: handled.append(error))
        func: Any = make(error)
        task: Task[..., object] = batch.schedule(func)
        for _ in range(2):
            with pytest.raises(type(error)) as raised:
                await task.wait()
            assert raised.value is error

    assert task.state is TaskState.FAILED
    assert handled == [error]
    (record,) = records(caplog, "ERROR")
    assert record.getMessage().endswith("failed")


@on_both
async def test_what_an_error_raises_when_it_is_looked_at_is_the_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A group that cannot be freed of its cancellations ends as a failure, nothing else (4.1)."""

    async def clean_up() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise Indivisible("several", [SomeError(), SomeError()])

    async with open_runner() as runner:
        task = runner.schedule(clean_up)
        await task.started.wait()
        await anyio.wait_all_tasks_blocked()
        task.cancel()
        await over(task)

    assert task.state is TaskState.FAILED
    assert isinstance(task.exception, KeyError)
    (record,) = records(caplog, "ERROR")
    assert "Indivisible" in (record.exc_text or "")


@on_both
@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        BaseExceptionGroup("several", [SomeError(), KeyboardInterrupt()]),
        BaseExceptionGroup("several", [BaseExceptionGroup("more", [KeyboardInterrupt()])]),
    ],
    ids=["bare", "group", "groups"],
)
async def test_a_keyboard_interrupt_in_a_thread_is_a_failure(
    error: BaseException,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ctrl-C never reaches a worker thread, so what is raised there is no Ctrl-C (4.1)."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        bystander = tasks.schedule(until_cancelled)
        handled = tasks.task(on_error=raising(error))
        task: Task[..., object] = handled.schedule(raising(error))

        with pytest.raises(TaskAborted, match=type(error).__name__) as raised:
            await task.wait()
        assert raised.value.__cause__ is error
        assert len(logged(caplog, "ERROR")) == 2  # the task, and its error handler
        await others_live(tasks, bystander)


def interrupted(error: BaseException) -> bool:
    """Whether an exception is a `KeyboardInterrupt`, or a group that holds one."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return group.split(KeyboardInterrupt)[0] is not None
    return isinstance(error, KeyboardInterrupt)


async def interrupt_in_group() -> None:
    async with anyio.create_task_group():
        raise KeyboardInterrupt


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    "func",
    [
        raising_async(KeyboardInterrupt()),
        interrupt_in_group,
    ],
)
def test_a_keyboard_interrupt_in_an_async_task_goes_on(
    func: Callable[[], Awaitable[None]], backend: str
) -> None:
    """Ctrl-C ends the event loop, wherever it hits, and all tasks with it (4.1)."""
    scheduled: list[Task] = []

    async def main() -> None:
        async with open_runner() as runner:
            tasks = TasksScheduler(runner)
            scheduled.append(tasks.schedule(until_cancelled))
            await scheduled[0].started.wait()
            scheduled.append(tasks.schedule(func))
            await scheduled[1].wait()

    with pytest.raises(BaseException, check=interrupted):  # noqa: B017 - it is checked
        anyio.run(main, backend=backend)
    gc.collect()  # asyncio says here that nobody has looked at the task that was interrupted
    assert [task.state for task in scheduled] == [TaskState.CANCELLED] * 2


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_keyboard_interrupt_in_an_error_handler_goes_on(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Ctrl-C may hit an async error handler as well (4.1)."""

    async def main() -> None:
        async with open_runner() as runner:
            handler = raising_async(KeyboardInterrupt())
            task = TasksScheduler(runner).task(on_error=handler).schedule(fail_async)
            await over(task)

    with pytest.raises(BaseException, check=interrupted):  # noqa: B017 - it is checked
        anyio.run(main, backend=backend)
    gc.collect()  # asyncio says here that nobody has looked at the task that was interrupted
    assert len(logged(caplog, "ERROR")) == 1
    assert "was cancelled" in logged(caplog, "WARNING")[0]


@on_both
async def test_a_record_names_the_task_and_not_its_arguments(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Name, id, function and phase are in the message and in the record's fields (4.2)."""
    async with open_runner() as runner:
        task = TasksScheduler(runner).task(name="100 %s").schedule(fail_async, "secret")
        await over(task)

    (record,) = records(caplog)
    assert (record.name, record.levelname) == ("tasks_core", "ERROR")
    assert record.getMessage() == (
        f"Task 100 %s (id={task.id}, function=fail_async, phase=immediate) failed"
    )
    fields = [record.__dict__[name] for name in ("task_id", "task_name", "task_func", "task_phase")]
    assert fields == [task.id, "100 %s", "fail_async", "immediate"]
    assert "SomeError: it failed" in caplog.text
    assert "secret" not in caplog.text


@on_both
@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("func", [fail, fail_async, raising(SystemExit())])
async def test_a_failed_task_is_no_cycle_of_references(func: Callable[[], object]) -> None:
    """It goes, with its error, as soon as nobody holds it, without the collector (4.2)."""

    def handle(task: Task, error: Exception) -> None: ...

    async with open_runner() as runner:
        task = TasksScheduler(runner).task(on_error=handle).schedule(func)
        kept = weakref.ref(task)
        await runner.join()
        assert task.exception is not None
        del task
        # Its thread, and the event loop, may still have in their hands what they did last.
        await to_thread.run_sync(int)
        await anyio.wait_all_tasks_blocked()
        assert kept() is None


# Cancellations that are none of ours


@on_both
@on_asyncio
@pytest.mark.parametrize("on_error", [None, print])
async def test_a_stray_cancellation_is_a_failure(on_error: Any) -> None:
    """A cancelled error that a library lets escape cancels nothing (4.1)."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        bystander = tasks.schedule(until_cancelled)
        for make in (raising, raising_async):
            task = tasks.task(on_error=on_error).schedule(make(asyncio.CancelledError()))
            with pytest.raises(TaskAborted, match="CancelledError"):
                await task.wait()
        await others_live(tasks, bystander)


@on_both
async def test_a_cancellation_raised_again_out_of_its_scope_is_a_failure() -> None:
    """A cancelled error that a task has kept from a scope of its own is a stray one (4.1)."""

    async def work() -> None:
        kept: list[BaseException] = []
        with anyio.move_on_after(0):
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class() as cancelled:
                kept.append(cancelled)
                raise
        raise kept[0]

    async with open_runner() as runner:
        with pytest.raises(TaskAborted, match="Cancelled"):
            await TasksScheduler(runner).schedule(work).wait()


@on_both
@on_asyncio
async def test_awaiting_what_was_cancelled_is_a_failure() -> None:
    """A future that somebody has cancelled cancels nobody who awaits it (4.1)."""
    future = asyncio.get_running_loop().create_future()
    future.cancel()

    async def work() -> None:
        await future

    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(work)
        with pytest.raises(TaskAborted, match="CancelledError"):
            await task.wait()


@on_both
@on_asyncio
async def test_a_task_that_cancels_itself_natively_is_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The event loop's own cancellation ends the task alone, with a warning (4.1)."""

    async def work() -> None:
        current = asyncio.current_task()
        assert current
        current.cancel()
        await asyncio.sleep(0)

    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        bystander = tasks.schedule(until_cancelled)
        task = tasks.task(shield=True).schedule(work)
        await over(task)

        assert task.state is TaskState.CANCELLED
        assert [task.id in message for message in logged(caplog)] == [True]
        assert "was cancelled by the event loop" in caplog.text
        await others_live(tasks, bystander)


@on_both
@on_asyncio
async def test_a_timeout_of_asyncio_within_a_task_is_its_own_affair() -> None:
    """Cancellations that asyncio takes back are not the task's (4.1)."""

    async def work() -> str:
        try:
            async with asyncio.timeout(0):
                await anyio.sleep_forever()
        except TimeoutError:
            await asyncio.sleep(0)
        return "late"

    async with open_runner() as runner:
        assert await TasksScheduler(runner).schedule(work).wait() == "late"


@on_both
async def test_scopes_within_a_task_are_its_own_affair() -> None:
    """A task may cancel scopes and groups of its own (4.1)."""

    async def work() -> str:
        with anyio.move_on_after(0):
            await anyio.sleep_forever()
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            group.cancel_scope.cancel()
        return "goes on"

    async with open_runner() as runner:
        assert await TasksScheduler(runner).schedule(work).wait() == "goes on"


@on_both
async def test_a_cancelled_task_that_fails_while_it_cleans_up_has_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An error of a `finally` block is not swallowed by the cancellation (4.2, 5.5)."""

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            await fail_async()

    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(work)
        await task.started.wait()
        task.cancel()
        with pytest.raises(SomeError):
            await task.wait()

    assert len(logged(caplog)) == len(logged(caplog, "ERROR")) == 1


@on_both
async def test_a_cancelled_group_whose_children_fail_has_failed_without_cancellations(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of a group with errors and cancellations, the errors are the failure (4.1, 4.2)."""
    inside = anyio.Event()

    async def child() -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class() as cancelled:
            raise BaseExceptionGroup("both", [cancelled, SomeError()]) from None

    async def work() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(until_cancelled)
            inside.set()
            await child()

    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(work)
        await inside.wait()
        task.cancel()
        await over(task)

        assert task.state is TaskState.FAILED
        assert isinstance(task.exception, ExceptionGroup)
    assert len(logged(caplog, "ERROR")) == 1


@on_both
async def test_a_group_of_nothing_but_cancellations_is_a_cancellation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A group of cancelled errors is no failure once the task was cancelled (4.1)."""

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class() as cancelled:
            raise BaseExceptionGroup("only", [cancelled]) from None

    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(work)
        await task.started.wait()
        task.cancel()
        await over(task)

        assert task.state is TaskState.CANCELLED
    assert logged(caplog) == []


# Error handlers (4.3, 4.4)


@on_both
@pytest.mark.parametrize("sync", [False, True])
async def test_a_handler_is_called_after_the_failure_was_logged(
    sync: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It gets the task and its error, sync or async (4.3)."""
    seen: list[tuple[Task, Exception, int]] = []

    def handle(task: Task, error: Exception) -> None:
        seen.append((task, error, len(logged(caplog))))

    async def handle_async(task: Task, error: Exception) -> None:
        handle(task, error)

    async with open_runner() as runner:
        batch = TasksScheduler(runner).task(on_error=handle if sync else handle_async)
        task = batch.schedule(fail_async)
        await over(task)

    assert seen == [(task, task.exception, 1)]
    assert len(logged(caplog)) == 1


@on_both
async def test_a_task_that_succeeds_needs_no_handler() -> None:
    """A handler is called for failures only: not for success, skipping or cancellation (4.3)."""
    handled: list[Task] = []

    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        batch = tasks.task(on_error=lambda task, _: handled.append(task))
        succeeds, cancelled = batch.schedule(len, ""), batch.schedule(until_cancelled)
        await cancelled.started.wait()
        cancelled.cancel()
        await over(succeeds, cancelled)

    assert handled == []


def raise_same(task: Task, error: Exception) -> NoReturn:
    raise error


async def raise_same_async(task: Task, error: Exception) -> NoReturn:
    raise error


async def raise_wrapped(task: Task, error: Exception) -> NoReturn:
    raise KeyError("from the handler") from error


async def raise_from_another(task: Task, error: Exception) -> NoReturn:
    raise KeyError("from the handler") from ValueError("the cause")


async def raise_from_none(task: Task, error: Exception) -> NoReturn:
    raise KeyError("from the handler") from None


def raise_plain(task: Task, error: Exception) -> NoReturn:
    raise KeyError("from the handler")


async def raise_while_handling(task: Task, error: Exception) -> NoReturn:
    with suppress(SomeError):
        fail()
    raise KeyError("from the handler") from None


async def raise_in_a_circle(task: Task, error: Exception) -> NoReturn:
    one, other = KeyError("from the handler"), ValueError("the cause")
    one.__cause__, other.__cause__ = other, one
    raise one


async def raise_abruptly(task: Task, error: Exception) -> NoReturn:
    raise SystemExit("from the handler")


async def raise_frozen(task: Task, error: Exception) -> NoReturn:
    raise Frozen("from the handler")


@on_both
@pytest.mark.parametrize("func", [fail_async, raising_async(Abrupt("it failed"))])
@pytest.mark.parametrize(
    ("handler", "shows"),
    [
        (raise_same, ["it failed"]),
        (raise_same_async, ["it failed"]),
        (raise_plain, ["it failed", "from the handler"]),
        (raise_wrapped, ["it failed", "from the handler"]),
        (raise_from_another, ["it failed", "the cause", "from the handler"]),
        (raise_from_none, ["it failed", "from the handler"]),
        (raise_while_handling, ["it failed", "from the handler"]),
        (raise_in_a_circle, ["it failed", "the cause", "from the handler"]),
        (raise_abruptly, ["it failed", "from the handler"]),
        (raise_frozen, ["it failed", "from the handler"]),
    ],
)
async def test_a_handler_that_fails_is_logged_once_with_both_tracebacks(
    func: Callable[[], Awaitable[object]],
    handler: Any,
    shows: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever it raises, the record shows the handler's error and the task's (4.3)."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        bystander = tasks.schedule(until_cancelled)
        task = tasks.task(on_error=handler).schedule(func)
        await over(task)
        await others_live(tasks, bystander)

    failure, of_handler = (record for record in records(caplog) if record.levelname == "ERROR")
    assert failure.getMessage().endswith("failed")
    assert of_handler.getMessage().startswith(f"Error handler {handler.__name__} of task ")
    shown = of_handler.exc_text or ""
    assert [text for text in shows if text not in shown] == []
    assert shown.count("Traceback") >= 1
    assert handler.__name__ in shown  # its line is in a traceback


@on_both
@on_asyncio
async def test_a_stray_cancellation_in_a_handler_is_its_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also where a task group of asyncio's own has failed in the task before (4.1, 4.3)."""
    async with open_runner() as runner:
        handler = raising_async(asyncio.CancelledError())
        tasks = TasksScheduler(runner).task(on_error=handler)
        await over(tasks.schedule(fail_async), tasks.schedule(fail_in_asyncios_group))

    messages = logged(caplog)
    assert len(messages) == 4  # each task, and its error handler
    assert messages == logged(caplog, "ERROR")


@on_both
async def test_a_handler_may_run_the_function_again_and_give_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The retry recipe fails in the end like any handler, once (4.3, 4.4)."""
    attempts: list[str] = []

    async def send(to: str, *, text: str) -> None:
        attempts.append(to + text)
        raise SomeError(f"attempt {len(attempts)}")

    async def retry(task: Task, error: Exception) -> None:
        for _ in range(2):
            try:
                await task.func(*task.args, **task.kwargs)
            except SomeError as again:
                error = again
        raise error

    async with open_runner() as runner:
        task = TasksScheduler(runner).task(on_error=retry).schedule(send, "you", text="!")
        await over(task)

    assert attempts == ["you!"] * 3
    assert len(logged(caplog)) == 2
    assert "attempt 3" in (records(caplog)[1].exc_text or "")


@on_both
async def test_a_handler_may_run_the_task_again() -> None:
    """`await task()` does not call the handler again, which goes on to its end (4.4)."""
    calls: list[str] = []

    def work() -> None:
        calls.append("work")
        if calls.count("work") < 3:
            raise SomeError

    async def retry(task: Task, error: Exception) -> None:
        calls.append("retry")
        with pytest.raises(SomeError):
            await task()
        await task()

    async with open_runner() as runner:
        task = TasksScheduler(runner).task(on_error=retry).schedule(work)
        await over(task)

    assert calls == ["work", "retry", "work", "work"]


@on_both
async def test_a_handler_of_a_shielded_task_is_shielded(caplog: pytest.LogCaptureFixture) -> None:
    """A shutdown waits for the handler of a shielded task (4.3, 5.2)."""
    handling, go, ended = anyio.Event(), anyio.Event(), anyio.Event()

    async def handle(task: Task, error: Exception) -> None:
        handling.set()
        await go.wait()
        ended.set()

    async with open_runner() as runner, anyio.create_task_group() as group:
        TasksScheduler(runner).task(shield=True, on_error=handle).schedule(fail_async)
        await handling.wait()
        group.start_soon(runner.drain)
        await anyio.wait_all_tasks_blocked()
        go.set()

    assert ended.is_set()
    assert logged(caplog, "WARNING") == []


@on_both
async def test_a_handler_that_a_shutdown_cuts_short_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A handler of an unshielded task is cancelled; the task stays failed (4.3, 5.3)."""
    handling = anyio.Event()

    async def handle(task: Task, error: Exception) -> None:
        await until_cancelled(handling)

    async with open_runner() as runner:
        task = TasksScheduler(runner).task(on_error=handle).schedule(fail_async)
        await handling.wait()

    assert task.state is TaskState.FAILED
    (warning,) = logged(caplog, "WARNING")
    assert warning.startswith("Error handler ")
    assert warning.endswith("was cancelled")
    assert task.id in warning


# Hostile surroundings


@on_both
@pytest.mark.parametrize("as_filter", [False, True])
@pytest.mark.parametrize("error", [SomeError, SystemExit, GeneratorExit, Abrupt])
async def test_a_broken_logging_handler_breaks_nothing_else(
    error: type[BaseException],
    as_filter: bool,  # noqa: FBT001
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What could not be logged is written to stderr, and the error handler is called (4.1)."""
    handled: list[Exception] = []
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        with logger_with(Breaking(error), as_filter=as_filter):
            batch = tasks.task(on_error=lambda _, error: handled.append(error))
            task = batch.schedule(fail_async)
            await over(task)
            await over(tasks.task(on_error=raise_plain).schedule(fail_async))

    assert task.state is TaskState.FAILED
    assert handled == [task.exception]
    stderr = capsys.readouterr().err
    assert f"could not log ({error.__name__} in a logging handler): Task fail_async" in stderr


@on_both
async def test_logging_may_fail_without_a_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no stderr either, the task's life goes on (4.1)."""
    async with open_runner() as runner:
        with logger_with(Breaking(SomeError)):
            monkeypatch.setattr(sys, "stderr", None)
            task = TasksScheduler(runner).schedule(fail_async)
            await over(task)
            monkeypatch.undo()

    assert task.state is TaskState.FAILED


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_keyboard_interrupt_while_logging_goes_on(backend: str) -> None:
    """Ctrl-C may hit a logging handler as well (4.1)."""

    async def main() -> None:
        async with open_runner() as runner:
            with logger_with(Breaking(KeyboardInterrupt)):
                await over(TasksScheduler(runner).schedule(fail_async))

    with pytest.raises(BaseException, check=interrupted):  # noqa: B017 - it is checked
        anyio.run(main, backend=backend)
    gc.collect()  # asyncio says here that nobody has looked at the task that was interrupted


@on_both
@pytest.mark.parametrize("handler", [HostileCallable(), HostileCallable(ValueError)])
async def test_hostile_names_break_nothing(
    handler: HostileCallable, caplog: pytest.LogCaptureFixture
) -> None:
    """A function or handler whose name cannot be read is named after its type (4.1)."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        task: Task = tasks.task(on_error=handler).schedule(handler, handler)
        await over(task)

    assert repr(task).startswith("<Task HostileCallable id=")
    assert len(logged(caplog, "ERROR")) == 2


@on_both
async def test_a_name_that_ends_the_program_does_not(caplog: pytest.LogCaptureFixture) -> None:
    """Not even a SystemExit of an attribute keeps a handler's failure from its record (4.1)."""
    async with open_runner() as runner:
        task = TasksScheduler(runner).task(on_error=HostileCallable(SystemExit)).schedule(fail)
        await over(task)

    assert len(logged(caplog, "ERROR")) == 2
    assert logged(caplog, "WARNING") == []


@on_both
async def test_nothing_is_formatted_for_who_does_not_look() -> None:
    """An error whose text ends the program fails the task alone (4.1)."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        with logger_with(logging.StreamHandler()):
            task = tasks.task(on_error=raise_same).schedule(raising_async(Hostile()))
            await over(task)

    assert type(task.exception) is Hostile


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_coroutine_that_is_closed_without_a_loop_is_a_cancellation(
    cancelled: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A task whose event loop is gone is closed by Python: no failure, no error (4.1)."""
    loop = asyncio.new_event_loop()
    cleaned_up: list[str] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cleaned_up.append("yes")

    async def main() -> Task:
        runner = await TaskRunner().__aenter__()
        task = TasksScheduler(runner).schedule(work)
        await task.started.wait()
        if cancelled:
            loop.call_soon(task.cancel)  # in the loop's last turn
        return task

    task = loop.run_until_complete(main())
    loop.close()
    native = task._handle
    assert isinstance(native, asyncio.Task)
    cast("Coroutine[Any, Any, None]", native.get_coro()).close()
    del native
    gc.collect()

    assert cleaned_up == ["yes"]
    assert task.state is TaskState.CANCELLED
    by_the_loop = ["was cancelled by the event loop" in message for message in logged(caplog)]
    assert by_the_loop == ([] if cancelled else [True])
