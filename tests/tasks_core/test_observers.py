"""Contract 11.1 to 11.3 and 11.7: who is told of each task's steps."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import Any

import anyio
import pytest
from anyio import from_thread, to_thread
from anyio.lowlevel import checkpoint
from tasks_core import (
    BacklogFullError,
    Phase,
    RunnerClosedError,
    Task,
    TaskObserver,
    TaskRunner,
    TasksScheduler,
    TaskState,
    TaskTimedOut,
    current_task,
)
from tasks_core import _execution as execution
from tasks_core.testing import record

from tests.tasks_core.stage import (
    GUARD,
    Abrupt,
    SomeError,
    fail,
    fail_async,
    logged,
    open_runner,
    over,
    records,
    states,
    until_cancelled,
)

on_both = pytest.mark.anyio
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])

# A shutdown that would wait for ever ends as well.
open_guarded = partial(open_runner, shutdown_timeout=GUARD)

variable = ContextVar[str]("variable", default="unset")


class Noting:
    """An observer that notes what it is told, in a log that several may share."""

    def __init__(self, log: list[str] | None = None, name: str = "") -> None:
        self.log = [] if log is None else log
        self._name = name

    def __call__(self, task: Task) -> None:
        self.log.append(f"{self._name} {task.name} {task.state}".strip())


class Manager(AbstractContextManager[None]):
    """A context manager that notes when it is entered and left, and with what."""

    def __init__(
        self, log: list[str], name: str = "", *, swallows: bool = False, sets: str | None = None
    ) -> None:
        self.log = log
        self.left_with: list[tuple[object, object, object]] = []
        self._name = name
        self._swallows = swallows
        self._sets = sets

    def __call__(self, task: Task) -> AbstractContextManager[object] | None:
        """Be the observer as well."""
        return self if task.state is TaskState.RUNNING else None

    def __enter__(self) -> None:
        self.log.append(f"enter {self._name}".strip())
        if self._sets is not None:
            variable.set(self._sets)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self.log.append(f"leave {self._name}".strip())
        self.left_with.append((exc_type, exc_value, traceback))
        return self._swallows


def left_nothing(runner: TaskRunner) -> bool:
    """Whether the observers of a runner hold on to nothing."""
    observers = runner._observers
    return not (observers._entered or observers._telling)


async def succeed() -> None:
    await checkpoint()


each_kind = pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])


# When they are called.


@on_both
@each_kind
async def test_several_observers_are_told_in_their_order(sync: bool) -> None:  # noqa: FBT001
    """11.1 Of each step each of them, once: when it is scheduled, when it begins, when it is over.

    A context manager is entered between them, and left before they are told of the end.
    """
    log: list[str] = []
    observers: list[TaskObserver] = [Noting(log, "a"), Manager(log, "b"), Noting(log, "c")]

    def work() -> None:
        log.append("function")

    async def work_async() -> None:
        log.append("function")

    async with open_guarded(observers=observers) as runner:
        func: Callable[[], Any] = work if sync else work_async
        await runner.task(name="task").schedule(func).wait()
        assert left_nothing(runner)

    assert log == [
        "a task pending",
        "c task pending",
        "a task running",
        "enter b",
        "c task running",
        "function",
        "leave b",
        "a task succeeded",
        "c task succeeded",
    ]


@on_both
@each_kind
@pytest.mark.parametrize("phase", list(Phase))
async def test_the_steps_of_tasks_of_each_phase(phase: Phase, sync: bool) -> None:  # noqa: FBT001
    """11.1 It is told of one where it is scheduled, not when its phase has come."""
    noting = Noting()
    async with open_guarded(observers=[noting]) as runner:
        with TasksScheduler(runner) as tasks:
            batch = [tasks.task(), tasks.after_route, tasks.after_response][
                list(Phase).index(phase)
            ]
            func: Callable[[], Any] = (lambda: None) if sync else succeed
            task = batch.task(name="task").schedule(func)
            assert noting.log == ["task pending"]
        await task.wait()
        assert left_nothing(runner)
    assert noting.log == ["task pending", "task running", "task succeeded"]


Way = Callable[[TaskRunner], Any]
WAYS: dict[str, tuple[Way, list[str]]] = {}


def way(*told: str) -> Callable[[Way], Way]:
    """Note a way in which tasks end, and of which states observers are told."""

    def note(make: Way) -> Way:
        WAYS[make.__name__] = make, list(told)
        return make

    return note


@way("pending", "running", "failed")
async def fails(runner: TaskRunner) -> None:
    await over(runner.schedule(fail_async))


@way("pending", "running", "failed")
async def fails_in_a_thread(runner: TaskRunner) -> None:
    task: Task[..., Any] = runner.schedule(fail)
    await over(task)


@way("pending", "running", "failed")
async def is_handled(runner: TaskRunner) -> None:
    task: Task[..., Any] = runner.task(on_error=lambda task, _: str(task)).schedule(fail_async)
    await over(task)


@way("pending", "running", "failed")
async def is_handled_badly(runner: TaskRunner) -> None:
    await over(runner.task(on_error=fail_async).schedule(fail_async))


@way("pending", "running", "failed")
async def times_out(runner: TaskRunner) -> None:
    await over(runner.task(timeout=0).schedule(until_cancelled))


@way("pending", "running", "cancelled")
async def is_cancelled(runner: TaskRunner) -> None:
    task = runner.schedule(until_cancelled)
    await task.started.wait()
    task.cancel()
    await over(task)


@way("pending", "running", "cancelled")
async def is_cut_by_the_shutdown(runner: TaskRunner) -> None:
    await runner.schedule(until_cancelled).started.wait()
    await runner.drain()


@way("pending", "cancelled")
async def is_cancelled_before(runner: TaskRunner) -> None:
    runner.schedule(succeed).cancel()


@way("pending", "cancelled")
async def is_cancelled_before_its_phase(runner: TaskRunner) -> None:
    with TasksScheduler(runner) as tasks:
        tasks.after_response.schedule(succeed).cancel()


@way("pending", "cancelled")
async def is_cut_before_it_begins(runner: TaskRunner) -> None:
    TasksScheduler(runner).after_response.schedule(succeed)
    await runner.drain()


@way("pending", "skipped")
async def is_skipped(runner: TaskRunner) -> None:
    with TasksScheduler(runner) as tasks:
        tasks.after_response.schedule(succeed)
        tasks.fail()


@way("pending", "skipped")
async def is_skipped_at_once(runner: TaskRunner) -> None:
    with TasksScheduler(runner) as tasks:
        tasks.reach(Phase.AFTER_RESPONSE)
        tasks.after_route.task(run_on="failure").schedule(succeed)


@way("pending", "skipped")
async def is_recorded(runner: TaskRunner) -> None:
    async with record():
        with TasksScheduler(runner) as tasks:
            tasks.after_route.schedule(succeed)


@way("pending", "running", "succeeded")
async def is_tried_again(runner: TaskRunner) -> None:
    async def twice(attempt: Any) -> None:
        with suppress(SomeError):
            await attempt()
        await attempt()

    def once() -> None:
        if current_task().attempt == 1:
            raise SomeError

    await runner.task(retry=twice).schedule(once).wait()


@way("pending", "running", "succeeded")
async def is_not_attempted(runner: TaskRunner) -> None:
    async def never(attempt: Any) -> None: ...

    await runner.task(retry=never).schedule(succeed).wait()


@way("pending", "running", "succeeded", "pending", "running", "succeeded")
async def waits_its_turn(runner: TaskRunner) -> None:
    batch = runner.task(limit=1)
    tasks = [batch.schedule(succeed) for _ in range(2)]
    await tasks[0].wait()
    await tasks[1].wait()


@way()
async def is_no_call(runner: TaskRunner) -> None:
    func: Any = 1
    with pytest.raises(TypeError):
        runner.schedule(func)


@way()
async def is_refused(runner: TaskRunner) -> None:
    await runner.drain()
    with pytest.raises(RunnerClosedError):
        runner.schedule(succeed)


@way("pending", "cancelled")
async def finds_the_backlog_full(runner: TaskRunner) -> None:
    with TasksScheduler(runner) as tasks:
        batch = tasks.after_response.task(limit=1, backlog=0)
        task = batch.schedule(succeed)
        with pytest.raises(BacklogFullError):
            batch.schedule(succeed)
        task.cancel()


@way("pending", "running", "cancelled")
async def lives_already(runner: TaskRunner) -> None:
    batch = runner.task(unique=True)
    task = batch.schedule(until_cancelled)
    assert batch.schedule(until_cancelled) is task
    await task.started.wait()
    assert batch.schedule(until_cancelled) is task
    task.cancel()
    await over(task)


@on_both
@pytest.mark.parametrize(("make", "told"), WAYS.values(), ids=WAYS)
async def test_the_steps_of_a_task_that(make: Way, told: list[str]) -> None:
    """11.1 A final state ends them; one that never began has no *running*; a refused one none."""
    seen: list[str] = []
    async with open_guarded(observers=[lambda task: seen.append(str(task.state))]) as runner:
        await make(runner)
        assert sorted(seen) == sorted(told)
        if told.count("pending") == 1:
            assert seen == told
        assert left_nothing(runner)
        assert not runner._lanes


@on_both
async def test_once_each_though_many_end_at_once() -> None:
    """11.1 Whatever a hundred tasks do at the same time, each has its steps, in order."""
    seen: dict[Task, list[str]] = {}

    def note(task: Task) -> None:
        seen.setdefault(task, []).append(str(task.state))

    async with open_guarded(observers=[note]) as runner:
        tasks: list[Task] = [
            runner.schedule(func)
            for _ in range(20)
            for func in (succeed, fail_async, fail, until_cancelled, lambda: None)
        ]
        for task in tasks[::3]:
            task.cancel()
    assert set(seen) == set(tasks)
    for told in seen.values():
        assert told[0] == "pending"
        assert told[-1] in {"succeeded", "failed", "cancelled"}
        assert told[1:-1] in ([], ["running"])
    assert left_nothing(runner)


@on_both
@on_asyncio
async def test_a_task_that_cannot_be_started() -> None:
    """11.1 Where the event loop's task factory raises, it fails without having begun."""
    noting, loop = Noting(), asyncio.get_running_loop()

    def refuse(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        raise SomeError

    async with open_guarded(observers=[noting]) as runner:
        loop.set_task_factory(refuse)
        try:
            task = runner.task(name="task").schedule(succeed)
        finally:
            loop.set_task_factory(None)
        await over(task)
    assert noting.log == ["task pending", "task failed"]


@on_both
async def test_what_the_task_says_when_it_is_told() -> None:
    """11.1 The handle has all that belongs to its state: moments, result, error, attempt."""
    seen: list[Any] = []

    def look(task: Task) -> None:
        told = task.record()
        seen.append(
            (told.state.value, told.started_at is not None, told.ended_at is not None, told.attempt)
        )
        seen.append((task.result, type(task.exception)))

    async with open_guarded(observers=[look]) as runner:
        await runner.schedule(len, "four").wait()
        await over(runner.schedule(fail_async))
    assert seen == [
        *[("pending", False, False, 0), (None, type(None))],
        *[("running", True, False, 1), (None, type(None))],
        *[("succeeded", True, True, 1), (4, type(None))],
        *[("pending", False, False, 0), (None, type(None))],
        *[("running", True, False, 1), (None, type(None))],
        *[("failed", True, True, 1), (None, SomeError)],
    ]


# Where they are called.


@on_both
@each_kind
async def test_the_threads_in_which_they_are_called(sync: bool) -> None:  # noqa: FBT001
    """11.1 The first time in the thread that schedules, then on the event loop."""
    threads: list[int] = []
    scheduling: list[int] = []

    async with open_guarded(observers=[lambda _: threads.append(threading.get_ident())]) as runner:
        func: Callable[[], Any] = (lambda: None) if sync else succeed

        def schedule() -> Task:
            scheduling.append(threading.get_ident())
            return runner.schedule(func)

        task = await to_thread.run_sync(schedule)
        await task.wait()

    here = threading.get_ident()
    assert scheduling != [here]
    assert threads == [*scheduling, here, here]


@on_both
@each_kind
async def test_the_contexts_in_which_they_are_called(sync: bool) -> None:  # noqa: FBT001
    """11.1 The first in that of who schedules, the others in the task's own, a copy of it."""
    seen: list[tuple[str, str]] = []

    def look(task: Task) -> None:
        seen.append((str(task.state), variable.get()))
        variable.set(f"{variable.get()}, {task.state}")

    async def work() -> None:
        seen.append(("function", variable.get()))
        variable.set(f"{variable.get()}, function")

    def work_in_thread() -> None:
        seen.append(("function", variable.get()))

    async with open_guarded(observers=[look]) as runner:
        variable.set("caller")
        func: Callable[[], Any] = work_in_thread if sync else work
        await runner.schedule(func).wait()
        here = variable.get()
    # The copy was made before the first call, which so changes nothing of the task's.
    own = "caller, running" if sync else "caller, running, function"
    assert seen == [
        ("pending", "caller"),
        ("running", "caller"),
        ("function", "caller, running"),
        ("succeeded", own),
    ]
    assert here == "caller, pending"


@on_both
async def test_the_current_task_when_it_is_told() -> None:
    """11.1 As it begins and as it ends, what is called finds the task as its own."""
    found: list[Task | None] = []

    def look(task: Task) -> None:
        if task.state is not TaskState.PENDING:
            found.append(current_task())

    async with open_guarded(observers=[look]) as runner:
        task = runner.schedule(succeed)
        await task.wait()
    assert found == [task] * 2


# Around the function.


class Tells(logging.Handler):
    """A logging handler that notes records as they come."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.append(f"record {variable.get()}")


@contextmanager
def telling(log: list[str]) -> Generator[None]:
    handler = Tells(log)
    logger = logging.getLogger("tasks_core")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@on_both
@each_kind
@pytest.mark.parametrize("handled_in_thread", [False, True])
async def test_a_context_manager_is_around_all_of_a_task(
    sync: bool,  # noqa: FBT001
    handled_in_thread: bool,  # noqa: FBT001
) -> None:
    """11.2 The function, the record of its failure and its error handler run within.

    What it sets in the task's context is there in all of them, in threads too.
    """
    log: list[str] = []
    manager = Manager(log, sets="set by the observer")

    def work() -> None:
        log.append(f"function {variable.get()}")
        raise SomeError

    async def work_async() -> None:
        await checkpoint()
        work()

    def handle(task: Task, error: Exception) -> None:
        log.append(f"handler {variable.get()}")

    async def handle_async(task: Task, error: Exception) -> None:
        await checkpoint()
        handle(task, error)

    async with open_guarded(observers=[manager]) as runner:
        with telling(log):
            batch = runner.task(on_error=handle if handled_in_thread else handle_async)
            task: Task[..., Any] = batch.schedule(work if sync else work_async)
            await over(task)
        assert variable.get() == "unset"

    assert log == [
        "enter",
        "function set by the observer",
        "record set by the observer",
        "handler set by the observer",
        "leave",
    ]


@on_both
async def test_context_managers_are_left_in_reverse() -> None:
    """11.2 As nested blocks are."""
    log: list[str] = []
    async with open_guarded(observers=[Manager(log, name) for name in "abc"]) as runner:
        await runner.schedule(succeed).wait()
    assert log == ["enter a", "enter b", "enter c", "leave c", "leave b", "leave a"]


@on_both
@pytest.mark.parametrize("swallows", [False, True])
async def test_it_gets_the_error_and_cannot_swallow_it(
    swallows: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """11.2 What it returns makes no difference: to the task, nor to the next context manager."""
    handled: list[Exception] = []
    log: list[str] = []
    managers = [Manager(log, name, swallows=swallows) for name in "ab"]
    async with open_guarded(observers=managers) as runner:
        batch = runner.task(on_error=lambda _, error: handled.append(error))
        task: Task[..., Any] = batch.schedule(fail_async)
        with pytest.raises(SomeError) as raised:
            await task.wait()
    assert states(task) == ["failed"]
    assert handled == [raised.value]
    for manager in managers:
        ((kind, error, traceback),) = manager.left_with
        assert (kind, error) == (SomeError, raised.value)
        assert traceback is not None
    assert len(logged(caplog, "ERROR")) == 1


@on_both
async def test_it_gets_no_error_where_there_is_none() -> None:
    """11.2 A task that has succeeded, or was cancelled, has not failed."""
    manager = Manager([])
    async with open_guarded(observers=[manager]) as runner:
        await runner.schedule(succeed).wait()
        await is_cancelled(runner)
    assert manager.left_with == [(None, None, None)] * 2


@on_both
async def test_it_gets_what_the_handle_has() -> None:
    """11.2 What is no exception is a `TaskAborted`, a timeout a `TaskTimedOut`."""

    async def abort() -> None:
        raise SystemExit

    manager = Manager([])
    async with open_guarded(observers=[manager]) as runner:
        timed = runner.task(timeout=0)
        tasks: list[Task] = [runner.schedule(abort), timed.schedule(until_cancelled)]
        await over(*tasks)
    assert [error for _, error, _ in manager.left_with] == [task.exception for task in tasks]
    assert manager.left_with[1][0] is TaskTimedOut


@on_both
async def test_it_is_entered_once_for_all_attempts() -> None:
    """11.2 The retry, and what it waits for, is within."""
    log: list[str] = []

    async def twice(attempt: Any) -> None:
        with suppress(SomeError):
            await attempt()
        log.append("waits")
        await attempt()

    def work() -> None:
        log.append(f"attempt {current_task().attempt}")
        if current_task().attempt == 1:
            raise SomeError

    async with open_guarded(observers=[Manager(log)]) as runner:
        await runner.task(retry=twice).schedule(work).wait()
    assert log == ["enter", "attempt 1", "waits", "attempt 2", "leave"]


@on_both
@each_kind
async def test_it_is_around_attempts_in_tasks_of_their_own(
    sync: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """11.2 It is entered and left in the task's own context, wherever its retry attempts it."""
    seen: list[str] = []

    @contextmanager
    def setting() -> Generator[None]:
        token = variable.set("set by the observer")
        try:
            yield
        finally:
            variable.reset(token)  # which raises in another context

    def observe(task: Task) -> AbstractContextManager[None] | None:
        return setting() if task.state is TaskState.RUNNING else None

    async def twice(attempt: Any) -> None:
        for _ in range(2):
            async with anyio.create_task_group() as group:
                group.start_soon(attempt)
        raise SomeError

    def work() -> None:
        seen.append(variable.get())

    async def work_async() -> None:
        work()

    async with open_guarded(observers=[observe]) as runner:
        func: Callable[[], Any] = work if sync else work_async
        await over(runner.task(retry=twice, on_error=lambda _task, _error: work()).schedule(func))
        assert left_nothing(runner)
    assert seen == ["set by the observer"] * 3
    assert len(logged(caplog)) == 1  # of the task, and not of its observer


@on_both
async def test_generators_are_context_managers() -> None:
    """11.2 As `contextlib` makes them, around what the task raises."""
    log: list[str] = []

    @contextmanager
    def span() -> Generator[None]:
        log.append("begin")
        try:
            yield
        except SomeError:
            log.append("failed")
            raise
        finally:
            log.append("end")

    def observe(task: Task) -> AbstractContextManager[None] | None:
        return span() if task.state is TaskState.RUNNING else None

    async with open_guarded(observers=[observe]) as runner:
        await over(runner.schedule(fail_async), runner.schedule(succeed))
    assert sorted(log) == ["begin", "begin", "end", "end", "failed"]


@on_both
async def test_what_is_returned_for_other_states_is_left_alone() -> None:
    """11.2 Only *running* has something to be around of."""
    log: list[str] = []
    manager = Manager(log)

    def observe(task: Task) -> AbstractContextManager[object] | None:
        return None if task.state is TaskState.RUNNING else manager

    async with open_guarded(observers=[observe]) as runner:
        await runner.schedule(succeed).wait()
    assert log == []


@on_both
async def test_what_is_returned_and_is_no_context_manager(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """11.3 The record says what to return; the task goes on."""

    @asynccontextmanager
    async def span() -> AsyncGenerator[None]:
        yield

    def give(what: object, task: Task) -> Any:
        return what if task.state is TaskState.RUNNING else None

    observers: list[TaskObserver] = [partial(give, span()), partial(give, 3)]
    async with open_guarded(observers=observers) as runner:
        assert await runner.schedule(len, "four").wait() == 4
    errors = [record.exc_info[1] for record in records(caplog, "ERROR") if record.exc_info]
    assert [type(error) for error in errors] == [TypeError] * 2
    for error, name in zip(errors, ("_AsyncGeneratorContextManager", "int"), strict=True):
        assert f"context manager or None when a task begins, not {name}: one that is" in str(error)


# What they raise.


class Broken(AbstractContextManager[None]):
    """An observer that raises at one step, by itself or by its context manager."""

    def __init__(self, step: str, error: BaseException) -> None:
        self._step = step
        self._error = error

    def __call__(self, task: Task) -> AbstractContextManager[object] | None:
        if self._step == task.state:
            raise self._error
        return self if task.state is TaskState.RUNNING else None

    def __enter__(self) -> None:
        if self._step == "enter":
            raise self._error

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._step == "leave":
            raise self._error


@on_both
@pytest.mark.parametrize("step", ["pending", "running", "enter", "leave", "succeeded", "failed"])
@pytest.mark.parametrize(
    "error", [LookupError("broken"), SystemExit(1), Abrupt(), asyncio.CancelledError()], ids=repr
)
@pytest.mark.parametrize("elsewhere", [False, True], ids=["loop", "thread"])
async def test_what_an_observer_raises_reaches_nobody(
    step: str,
    error: BaseException,
    elsewhere: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """11.3 Neither the task, nor who schedules it, nor other observers; one ERROR tells of it."""
    log: list[str] = []
    handled: list[Exception] = []
    fails = step == "failed"
    observers: Sequence[TaskObserver] = [
        Noting(log, "a"),
        Broken(step, error),
        Noting(log, "b"),
        Manager(log),
    ]
    async with open_guarded(observers=observers) as runner:
        bystander = runner.task(name="bystander").schedule(until_cancelled)
        await bystander.started.wait()
        log.clear()
        caplog.clear()
        batch = runner.task(name="task", on_error=lambda _, error: handled.append(error))
        func: Callable[..., Any] = fail_async if fails else succeed
        schedule: Callable[[], Task[..., Any]] = partial(batch.schedule, func, "secret")
        if not fails:
            schedule = partial(batch.schedule, func)
        task = await to_thread.run_sync(schedule) if elsewhere else schedule()
        await over(task)
        end = "failed" if fails else "succeeded"
        assert states(task, bystander) == [end, "running"]
        assert left_nothing(runner) is False  # the bystander runs
        ours = [entry for entry in log if "bystander" not in entry]
        told = [f"{name} task {state}" for state in ("pending", "running", end) for name in "ab"]
        assert ours == [*told[:4], "enter", "leave", *told[4:]]
        errors = [one for one in records(caplog, "ERROR") if "Observer" in one.getMessage()]
        assert len(errors) == 1
        assert len(handled) == fails
    assert left_nothing(runner)
    (one,) = errors[:1]
    state = {"enter": "running", "leave": end}.get(step, step)
    assert one.getMessage() == (
        f"Observer Broken failed, of task task (id={task.id}, function={func.__qualname__}, "
        f"phase=immediate) ({state})"
    )
    assert one.exc_info
    assert one.exc_info[1] is error
    assert vars(one)["task_id"] == task.id
    assert "secret" not in caplog.text


@on_both
async def test_observers_are_told_beside_error_handlers(caplog: pytest.LogCaptureFixture) -> None:
    """11.3 An error handler of a task's own takes nothing from them."""
    noting = Noting()
    async with open_guarded(observers=[noting]) as runner:
        batch = runner.task(on_error=lambda task, error: None)
        task: Task[..., Any] = batch.schedule(fail_async)
        await over(task)
    assert noting.log[-1] == "fail_async failed"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("step", ["running", "enter", "leave", "failed", "succeeded"])
@each_kind
def test_ctrl_c_in_an_observer_goes_on(
    step: str,
    sync: bool,  # noqa: FBT001
    backend: str,
) -> None:
    """11.3 A `KeyboardInterrupt` on the event loop is Ctrl-C, and ends that (4.1)."""
    made: list[TaskRunner] = []

    def work() -> None:
        if step == "failed":
            raise SomeError

    async def work_async() -> None:
        work()

    async def main() -> None:
        async with open_guarded(observers=[Broken(step, KeyboardInterrupt())]) as runner:
            made.append(runner)
            func: Callable[[], Any] = work if sync else work_async
            task = runner.schedule(func)
            await over(task)
            await anyio.sleep_forever()

    def interrupted(error: BaseException) -> bool:
        return "KeyboardInterrupt" in repr(error)  # by itself or, on trio, in groups

    with pytest.raises(BaseException, check=interrupted):  # noqa: B017 - it is checked
        anyio.run(main, backend=backend)
    gc.collect()  # asyncio says here that nobody has looked at the task that was interrupted
    assert left_nothing(made[0])
    assert len(made[0].registry) == 0


@on_both
async def test_ctrl_c_in_an_observer_of_what_is_scheduled() -> None:
    """11.3 It goes to who schedules; and of the task, which nobody has then, nothing stays."""
    noting = Noting()
    observers: list[TaskObserver] = [Broken("pending", KeyboardInterrupt()), noting]
    async with open_guarded(observers=observers) as runner:
        batch = runner.task(shield=True, key="key", limit=1, name="task")
        with pytest.raises(KeyboardInterrupt):
            batch.schedule(succeed)
        await anyio.wait_all_tasks_blocked()
        assert len(runner.registry) == 0
        assert not runner._lanes
        assert left_nothing(runner)


# What they do.


@on_both
@pytest.mark.parametrize("elsewhere", [False, True], ids=["loop", "thread"])
@pytest.mark.parametrize("phase", [Phase.IMMEDIATE, Phase.AFTER_RESPONSE])
async def test_an_observer_that_cancels_what_is_scheduled(
    elsewhere: bool,  # noqa: FBT001
    phase: Phase,
) -> None:
    """11.1 The task never begins; all are told of its end once it is told that it waits."""
    log: list[str] = []
    calls: list[str] = []

    def refuse(task: Task) -> None:
        log.append(f"refusing {task.state}")
        if task.state is TaskState.PENDING:
            assert task.cancel()
            log.append("refused")

    async with open_guarded(observers=[Noting(log, "a"), refuse]) as runner:
        with TasksScheduler(runner) as tasks:
            batch = tasks.task() if phase is Phase.IMMEDIATE else tasks.after_response
            named = batch.task(name="task")
            schedule: Callable[[], Task] = lambda: named.schedule(calls.append, "called")  # noqa: E731
            task = await to_thread.run_sync(schedule) if elsewhere else schedule()
        await over(task)
        await anyio.wait_all_tasks_blocked()
        assert left_nothing(runner)
        assert len(runner.registry) == 0
    assert states(task) == ["cancelled"]
    assert calls == []
    assert log == [
        "a task pending",
        "refusing pending",
        "refused",
        "a task cancelled",
        "refusing cancelled",
    ]


@on_both
@pytest.mark.parametrize("elsewhere", [False, True], ids=["loop", "thread"])
@pytest.mark.parametrize("phase", [Phase.IMMEDIATE, Phase.AFTER_RESPONSE])
@pytest.mark.parametrize("limit", [None, 1])
async def test_observers_after_one_that_cancels(
    elsewhere: bool,  # noqa: FBT001
    phase: Phase,
    limit: int | None,
) -> None:
    """11.1 They are told of both steps: it is cancelled once all were told that it waits."""
    noting = Noting()

    def refuse(task: Task) -> None:
        if task.state is TaskState.PENDING:
            assert task.cancel()
            assert task.cancel()
            assert task.state is TaskState.PENDING

    async with open_guarded(observers=[refuse, noting]) as runner:
        with TasksScheduler(runner) as tasks:
            batch = tasks.task() if phase is Phase.IMMEDIATE else tasks.after_response
            schedule = partial(batch.task(name="task", limit=limit).schedule, succeed)
            task = await to_thread.run_sync(schedule) if elsewhere else schedule()
        await over(task)
        assert left_nothing(runner)
        assert not runner._lanes
    assert noting.log == ["task pending", "task cancelled"]


@on_both
async def test_a_shutdown_while_observers_are_told() -> None:
    """11.1 What it cuts short ends once all are told that it waits; the shutdown waits for that."""
    log: list[str] = []
    told, go = threading.Event(), threading.Event()

    def hold(task: Task) -> None:
        if task.state is TaskState.PENDING:
            told.set()
            assert go.wait(GUARD)

    async with open_guarded(observers=[Noting(log, "a"), hold, Noting(log, "b")]) as runner:
        schedule = partial(runner.task(name="task").schedule, succeed)
        async with anyio.create_task_group() as group:
            group.start_soon(to_thread.run_sync, schedule)
            await to_thread.run_sync(told.wait, GUARD)
            group.start_soon(runner.drain)
            await anyio.wait_all_tasks_blocked()
            assert log == ["a task pending"]
            go.set()
        assert left_nothing(runner)
    assert log == ["a task pending", "b task pending", "a task cancelled", "b task cancelled"]


@on_both
@pytest.mark.parametrize("elsewhere", [False, True], ids=["loop", "thread"])
async def test_an_observer_that_schedules(elsewhere: bool) -> None:  # noqa: FBT001
    """11.1 At each step another task, which observers are told of as of any."""
    log: list[str] = []

    def schedule(task: Task) -> None:
        log.append(f"{task.name} {task.state}")
        if task.name == "task":
            runner.task(name=f"after {task.state}").schedule(succeed)

    async with open_guarded(observers=[schedule]) as runner:
        make = partial(runner.task(name="task").schedule, succeed)
        await over(await to_thread.run_sync(make) if elsewhere else make())
        await runner.join()
        assert left_nothing(runner)
    assert log.count("task pending") == 1
    for step in ("pending", "running", "succeeded"):
        assert [entry for entry in log if entry.startswith(f"after {step} ")] == [
            f"after {step} {state}" for state in ("pending", "running", "succeeded")
        ]
    assert len(log) == 12


@on_both
async def test_an_observer_that_schedules_what_waits_for_the_same_key() -> None:
    """9.10 Where a task's end is told, its slot is about to be free, and the next one has it."""
    log: list[str] = []

    def schedule(task: Task) -> None:
        if task.state is TaskState.SUCCEEDED and len(log) < 3:
            log.append(task.name)
            runner.task(key="key", limit=1).schedule(succeed)

    async with open_guarded(observers=[schedule]) as runner:
        runner.task(key="key", limit=1).schedule(succeed)
        await runner.join()
        assert not runner._lanes
    assert log == ["succeed"] * 3


@on_both
async def test_no_observer_is_called_within_the_runners_lock() -> None:
    """11.1 At whichever step, other threads schedule meanwhile, and phases are reached."""
    stuck: list[str] = []

    def look(task: Task) -> None:
        if task.name == "other":
            return
        thread = threading.Thread(target=schedule_other)
        thread.start()
        thread.join(GUARD / 4)
        if thread.is_alive():
            stuck.append(str(task.state))

    def schedule_other() -> None:
        other = TasksScheduler(runner)
        other.after_response.task(name="other", key="other", limit=1).schedule(succeed)
        other.reach(Phase.AFTER_RESPONSE)

    async with open_guarded(observers=[look]) as runner:
        with TasksScheduler(runner) as tasks:
            for batch in (tasks.task(), tasks.after_route, tasks.after_response):
                batch.task(key="key", limit=1).schedule(succeed)
                batch.schedule(fail_async)
                batch.task(run_on="failure").schedule(succeed)
                batch.schedule(until_cancelled)
            tasks.after_response.schedule(succeed).cancel()
            tasks.reach(Phase.AFTER_ROUTE)
            tasks.fail()
        await is_cancelled(runner)
    assert stuck == []


@on_both
async def test_an_observer_may_look_into_the_registry() -> None:
    """11.1 At each step the task is found there, by its id, and counted as what it is."""
    found: list[bool] = []

    def look(task: Task) -> None:
        remembered = runner.get(task.id)
        found.append(remembered is not None and remembered.state is task.state)

    async with open_guarded(observers=[look]) as runner:
        await runner.schedule(succeed).wait()
    assert found == [True] * 3


# Settings.


async def observe_async(task: Task) -> None: ...


def observe_nothing() -> None: ...


def observe_later(task: Task) -> Iterator[None]:
    yield


class ObservesAsync:
    async def __call__(self, task: Task) -> None: ...


@pytest.mark.parametrize(
    ("observers", "says"),
    [
        (None, "observers is a list of functions, not NoneType"),
        (print, "observers is a list of functions, not builtin_function_or_method"),
        ("print", "observers is a list of functions, not str"),
        ({print}, "observers is a list of functions, not set"),
        (iter([print]), "observers is a list of functions, not list_iterator"),
        ([None], "an observer must be callable, not NoneType: pass a function"),
        ([print, "print"], "an observer must be callable, not str: pass a function"),
        ([observe_nothing], "an observer must take the task, and observe_nothing does not: pass"),
        ([observe_later], "an observer is called, and observe_later is a generator function,"),
        ([observe_async], "observers are not async, and observe_async is"),
        ([ObservesAsync()], "observers are not async, and ObservesAsync is"),
        ([partial(observe_async)], "observers are not async, and observe_async is"),
    ],
)
def test_what_cannot_observe_is_refused(observers: Any, says: str) -> None:
    """11.1 Where the runner is made, with what is wrong (3.3)."""
    with pytest.raises(TypeError) as raised:
        TaskRunner(observers=observers)
    assert str(raised.value).startswith(says)


@on_both
async def test_the_list_is_read_once() -> None:
    """11.1 What is done to it after the runner was made makes no difference."""
    noting = Noting()
    observers: list[TaskObserver] = [noting]
    runner = TaskRunner(observers=observers)
    observers.clear()
    async with runner:
        await runner.schedule(succeed).wait()
    assert len(noting.log) == 3


@on_both
async def test_without_observers_nothing_is_done_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """11.7 A task goes the shortest way, sync or async; also once a reader has gone."""

    def attempts(*_: object) -> None:
        raise AssertionError("not the shortest way")

    monkeypatch.setattr(execution, "Attempts", attempts)
    async with open_guarded() as runner:
        with runner.registry.updates():
            pass
        tasks: list[Task] = [runner.schedule(succeed), runner.schedule(len, "")]
        await over(*tasks)
        assert states(*tasks) == ["succeeded"] * 2
        assert not runner._observers.active
        assert runner._observers._entered == {}


@on_both
async def test_from_a_thread_that_the_event_loop_waits_for() -> None:
    """11.1 A sync route schedules in its thread, and is not called back there."""
    log: list[tuple[str, bool]] = []
    here = threading.get_ident()

    def look(task: Task) -> None:
        log.append((str(task.state), threading.get_ident() == here))

    async with open_guarded(observers=[look]) as runner:

        def route() -> None:
            task = runner.schedule(succeed)
            from_thread.run(task.wait)

        await to_thread.run_sync(route)
    assert log == [("pending", False), ("running", True), ("succeeded", True)]
