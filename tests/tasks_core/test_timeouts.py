"""Contract 9.1 to 9.4: how long an attempt may take, and what becomes of one that takes longer."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Any

import anyio
import pytest
from anyio import CancelScope, fail_after, from_thread, get_cancelled_exc_class, to_thread
from anyio.lowlevel import checkpoint
from tasks_core import (
    Phase,
    Task,
    TaskCancelled,
    TaskConfig,
    TasksError,
    TasksScheduler,
    TaskState,
    TaskTimedOut,
)

from tests.tasks_core.clock import LONG, forward, with_clock
from tests.tasks_core.stage import (
    GUARD,
    SomeError,
    fail,
    logged,
    open_runner,
    over,
    records,
    states,
    until_cancelled,
)

pytestmark = pytest.mark.anyio
anyio_backend = with_clock


class Cut:
    """What is cancelled, and how it ends then."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.begun = anyio.Event()
        self._then = then

    async def __call__(self) -> object:
        self.begun.set()
        with suppress(get_cancelled_exc_class()):
            await anyio.sleep_forever()
        return self._then()


async def past(task: Task) -> None:
    """Let a task begin, and put the clock forward past its timeout."""
    await task.started.wait()
    await anyio.wait_all_tasks_blocked()
    forward()
    await over(task)


# What a timeout is (9.1)


@dataclass(frozen=True)
class Frozen(Exception):  # noqa: N818 - what it is
    """An error that refuses whatever is set on it."""

    code: int = 503


async def test_what_is_raised_while_it_is_cut_may_refuse_attributes() -> None:
    """9.2 One that raises while it is cancelled has failed with that, a frozen dataclass too."""

    def fail_frozen() -> None:
        raise Frozen

    async with open_runner() as runner:
        task = runner.task(timeout=LONG).schedule(Cut(fail_frozen))
        await past(task)

    assert isinstance(task.exception, Frozen)


@pytest.mark.parametrize("shield", [False, True])
async def test_an_attempt_that_takes_too_long_has_failed(
    caplog: pytest.LogCaptureFixture,
    shield: bool,  # noqa: FBT001
) -> None:
    """9.1 It is cancelled; logged, handled and waited for like any failure, shielded or not."""
    handled: list[Exception] = []
    async with open_runner() as runner:
        batch = runner.task(
            name="nightly\n",
            timeout=LONG,
            shield=shield,
            on_error=lambda _, error: handled.append(error),
        )
        task = batch.schedule(until_cancelled)
        await past(task)
        with pytest.raises(TaskTimedOut) as raised:
            await task.wait()

    assert task.state is TaskState.FAILED
    assert task.exception is raised.value
    assert handled == [raised.value]
    assert isinstance(raised.value, TimeoutError)
    assert isinstance(raised.value, TasksError)
    assert str(raised.value) == rf"task nightly\n took longer than its timeout of {LONG:g} s"
    (record,) = records(caplog)
    assert record.levelname == "ERROR"
    assert record.exc_info
    assert record.exc_info[1] is raised.value
    assert "was cancelled" not in caplog.text


async def test_a_record_says_that_it_has_timed_out() -> None:
    """9.1 There is no state of its own for that: it is a failure with a type."""
    async with open_runner() as runner:
        task = runner.task(timeout=LONG).schedule(until_cancelled)
        assert task.id
        await past(task)
        found = runner.get(task.id)

    assert found is not None
    for record in (task.record(), found.record()):
        assert record.state is TaskState.FAILED
        assert record.error_type == "TaskTimedOut"
        assert record.error == f"task until_cancelled took longer than its timeout of {LONG:g} s"


async def test_the_traceback_says_where_the_function_was(caplog: pytest.LogCaptureFixture) -> None:
    """9.1 The cause of the error has the function's frames, and none of those that ran it."""

    async def query() -> None:
        await anyio.sleep_forever()

    async def work() -> None:
        await query()

    async with open_runner() as runner:
        task = runner.task(timeout=LONG).schedule(work)
        await anyio.wait_all_tasks_blocked()
        forward()
        await runner.join()  # who waits for the task itself is in the traceback, too

    assert task.exception is not None
    cause = task.exception.__cause__
    assert isinstance(cause, get_cancelled_exc_class())
    names = [frame.name for frame in traceback.extract_tb(cause.__traceback__)]
    assert names[:2] == ["work", "query"]
    assert task.exception.__traceback__ is None
    assert "_attempts.py" not in caplog.text
    assert "_execution.py" not in caplog.text


async def test_a_function_in_time_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """9.1 What ends within its timeout has its result or its own error; the timeout is over."""
    async with open_runner() as runner:
        batch = runner.task(timeout=LONG)
        tasks: list[Task] = [batch.schedule(checkpoint), batch.schedule(len, "four")]
        assert [await task.wait() for task in tasks] == [None, 4]
        failed: Task[..., object] = batch.schedule(fail)
        with pytest.raises(SomeError):
            await failed.wait()
        forward()
        await anyio.wait_all_tasks_blocked()

    assert [task.state for task in tasks] == [TaskState.SUCCEEDED] * 2
    assert len(logged(caplog)) == 1


# What counts (9.1)


async def test_waiting_for_a_phase_does_not_count() -> None:
    """9.1 The clock starts where the function is called."""
    async with open_runner() as runner:
        with TasksScheduler(runner) as tasks:
            task = tasks.after_response.task(timeout=LONG).schedule(checkpoint)
            forward()
            await anyio.wait_all_tasks_blocked()
            assert task.state is TaskState.PENDING
        await task.wait()


async def test_waiting_for_a_slot_of_its_key_does_not_count() -> None:
    """9.1 Tasks that wait for others of their key have all their time then."""
    go = anyio.Event()
    async with open_runner() as runner:
        first = runner.task(key="key", limit=1).schedule(go.wait)
        task = runner.task(key="key", limit=1, timeout=LONG).schedule(checkpoint)
        await first.started.wait()
        forward()
        await anyio.wait_all_tasks_blocked()
        assert task.state is TaskState.PENDING
        go.set()
        await task.wait()


async def test_waiting_for_a_thread_does_not_count() -> None:
    """9.1 A sync function has all its time, however long the only thread is another's."""
    go = threading.Event()
    async with open_runner(thread_limit=1) as runner:
        first = runner.schedule(go.wait, GUARD)
        task = runner.task(timeout=LONG).schedule(from_thread.check_cancelled)
        await first.started.wait()
        forward()
        await anyio.wait_all_tasks_blocked()
        assert task.state is TaskState.PENDING
        go.set()
        await task.wait()


async def test_waiting_for_the_next_attempt_does_not_count() -> None:
    """9.1 A timeout is an attempt's, and each has all of it."""
    attempts: list[int] = []

    async def work() -> None:
        attempts.append(len(attempts))
        forward(LONG / 2)
        await checkpoint()
        if len(attempts) < 2:
            raise SomeError

    async def retry(attempt: Callable[[], Any]) -> None:
        with suppress(SomeError):
            await attempt()
        forward()
        await checkpoint()
        await attempt()

    async with open_runner() as runner:
        task = runner.task(timeout=LONG, retry=retry).schedule(work)
        await over(task)

    assert task.state is TaskState.SUCCEEDED
    assert len(attempts) == 2


async def test_an_error_handler_has_no_timeout() -> None:
    """9.1 It may take longer than the function might."""
    handled: list[str] = []
    handling = anyio.Event()
    go = anyio.Event()

    async def handle(task: Task, error: Exception) -> None:
        handling.set()
        await go.wait()
        handled.append(type(error).__name__)

    async with open_runner() as runner:
        task = runner.task(timeout=LONG, on_error=handle).schedule(until_cancelled)
        await task.started.wait()
        await anyio.wait_all_tasks_blocked()
        forward()
        await handling.wait()
        forward()
        await anyio.wait_all_tasks_blocked()
        assert len(runner.registry) == 1
        go.set()
        await over(task)

    assert handled == ["TaskTimedOut"]


# How it is cancelled (9.1, by the rule of 5.5)


async def test_what_cleans_up_does_so() -> None:
    """9.1 Blocks of `finally` run, and may await in a shielded scope."""
    log: list[str] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with CancelScope(shield=True):
                await checkpoint()
            log.append("cleaned up")

    async with open_runner() as runner:
        task = runner.task(timeout=LONG).schedule(work)
        await past(task)

    assert log == ["cleaned up"]
    assert isinstance(task.exception, TaskTimedOut)


async def test_a_shield_in_the_function_holds() -> None:
    """9.1 What the function shields is not cut, but what comes after that."""
    log: list[str] = []
    go, begun = anyio.Event(), anyio.Event()

    async def work() -> None:
        with CancelScope(shield=True):
            begun.set()
            await go.wait()
            log.append("shielded")
        await checkpoint()
        log.append("not reached")

    async with open_runner() as runner:
        task = runner.task(timeout=LONG).schedule(work)
        await begun.wait()
        forward()
        await anyio.wait_all_tasks_blocked()
        assert task.state is TaskState.RUNNING
        go.set()
        await over(task)

    assert log == ["shielded"]
    assert isinstance(task.exception, TaskTimedOut)


async def test_a_task_group_in_the_function_is_cancelled() -> None:
    """9.1 With all that it runs; and the failure is the timeout, not a group."""
    log: list[str] = []

    async def wait(name: str) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append(name)

    async def work() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(wait, "a")
            group.start_soon(wait, "b")

    async with open_runner() as runner:
        task = runner.task(timeout=LONG).schedule(work)
        await past(task)

    assert sorted(log) == ["a", "b"]
    assert isinstance(task.exception, TaskTimedOut)


async def test_it_gives_back_what_it_had() -> None:
    """9.1 The slot of its key is free for the next one."""
    async with open_runner() as runner:
        batch = runner.task(key="key", limit=1)
        first = batch.task(timeout=LONG).schedule(until_cancelled)
        second = batch.schedule(checkpoint)
        await past(first)
        await second.wait()
        assert not runner._lanes


# Whose error it is (9.2)


async def fail_after_a_while() -> None:
    with fail_after(LONG / 2):
        await anyio.sleep_forever()


def raise_its_own() -> None:
    raise TimeoutError("its own")


async def raise_its_own_async() -> None:
    raise_its_own()


@pytest.mark.parametrize("func", [fail_after_a_while, raise_its_own, raise_its_own_async])
async def test_a_timeout_of_the_functions_own_is_its_own(func: Callable[[], object]) -> None:
    """9.2 A `TimeoutError` that it raises is passed on as it is."""
    async with open_runner() as runner:
        task = runner.task(timeout=LONG).schedule(func)
        await task.started.wait()
        await anyio.wait_all_tasks_blocked()
        forward(LONG / 2)
        await over(task)

    assert task.state is TaskState.FAILED
    assert type(task.exception) is TimeoutError


async def test_who_returns_past_its_time_has_succeeded(caplog: pytest.LogCaptureFixture) -> None:
    """9.2 It has done its work, whether it was cancelled meanwhile or not."""
    go, begun = anyio.Event(), anyio.Event()

    async def work() -> str:
        with CancelScope(shield=True):
            begun.set()
            await go.wait()
        return "done"

    async def block() -> str:
        forward()
        return "done"

    async with open_runner() as runner:
        batch = runner.task(timeout=LONG)
        task = batch.schedule(work)
        await begun.wait()
        forward()
        await anyio.wait_all_tasks_blocked()
        go.set()
        assert await task.wait() == "done"
        assert await batch.schedule(block).wait() == "done"
        swallowing = batch.schedule(Cut(lambda: "swallowed"))
        await past(swallowing)
        assert await swallowing.wait() == "swallowed"
    assert not logged(caplog)


async def test_who_raises_while_it_is_cancelled_has_failed_with_that() -> None:
    """9.2 Its own error counts, as it says more than that it took too long."""
    async with open_runner() as runner:
        task = runner.task(timeout=LONG).schedule(Cut(fail))
        await past(task)

    assert isinstance(task.exception, SomeError)


async def test_who_is_cancelled_is_cancelled() -> None:
    """9.2 `cancel` before the time is over ends it as ever, and the timeout comes to nothing."""
    async with open_runner() as runner:
        task = runner.task(timeout=LONG).schedule(until_cancelled)
        await task.started.wait()
        assert task.cancel()
        forward()
        with pytest.raises(TaskCancelled):
            await task.wait()


@pytest.mark.parametrize("shielded", [False, True])
async def test_cancelled_at_the_same_moment(shielded: bool) -> None:  # noqa: FBT001
    """9.2 If the time is over in the turn in which it is cancelled, it is cancelled."""
    go, begun = anyio.Event(), anyio.Event()

    async def work() -> None:
        with CancelScope(shield=shielded):
            begun.set()
            await go.wait()
        await checkpoint()

    async with open_runner() as runner:
        task = runner.task(timeout=LONG).schedule(work)
        await begun.wait()
        await anyio.wait_all_tasks_blocked()
        forward()
        if shielded:
            await anyio.wait_all_tasks_blocked()  # so the deadline is the first to be seen
        assert task.cancel()
        go.set()
        await over(task)

    assert task.state is TaskState.CANCELLED


async def test_a_shutdown_cuts_it_as_ever(caplog: pytest.LogCaptureFixture) -> None:
    """9.2 What a shutdown cancels has not timed out, and is in its report."""
    async with open_runner() as runner:
        task = runner.task(timeout=LONG).schedule(until_cancelled)
        await task.started.wait()

    assert task.state is TaskState.CANCELLED
    assert "Shutdown left unfinished: until_cancelled" in logged(caplog, "WARNING")[0]


async def test_a_shutdown_ends_with_the_timeout_of_a_shielded_task(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """9.1 Shielded tasks have timeouts too, so a shutdown need not wait for ever."""
    monkeypatch.setattr("tasks_core._runner.WARN_EVERY", GUARD)
    async with open_runner() as runner:
        task = runner.task(timeout=LONG, shield=True).schedule(until_cancelled)
        await task.started.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(runner.drain)
            await anyio.wait_all_tasks_blocked()
            assert task.state is TaskState.RUNNING
            forward()

    assert isinstance(task.exception, TaskTimedOut)
    assert not logged(caplog, "WARNING")


# Sync functions (9.3)


async def test_a_sync_function_that_asks_is_told() -> None:
    """9.3 `from_thread.check_cancelled` raises there, and it has timed out."""
    begun, go = anyio.Event(), threading.Event()
    log: list[str] = []

    def work() -> None:
        from_thread.run_sync(begun.set)
        assert go.wait(GUARD)
        try:
            from_thread.check_cancelled()
        finally:
            log.append("cleaned up")

    async with open_runner() as runner:
        task = runner.task(timeout=LONG).schedule(work)
        await begun.wait()
        forward()
        await anyio.wait_all_tasks_blocked()
        go.set()
        await over(task)

    assert log == ["cleaned up"]
    assert isinstance(task.exception, TaskTimedOut)


@pytest.mark.parametrize("then", [lambda: "done", fail])
async def test_a_sync_function_that_does_not_ask_runs_on(
    then: Callable[[], object],
) -> None:
    """9.3 The task runs as long, keeps its slot and its thread, and ends as the function does."""
    begun, go = anyio.Event(), threading.Event()

    def work() -> object:
        from_thread.run_sync(begun.set)
        assert go.wait(GUARD)
        return then()

    async with open_runner(thread_limit=1) as runner:
        task = runner.task(timeout=LONG, key="key", limit=1).schedule(work)
        next_of_key = runner.task(key="key", limit=1).schedule(checkpoint)
        next_of_thread = runner.schedule(len, "")
        await begun.wait()
        forward()
        await anyio.wait_all_tasks_blocked()
        assert states(task, next_of_key, next_of_thread) == ["running", "pending", "pending"]
        go.set()
        await over(task, next_of_key, next_of_thread)

    assert states(next_of_key, next_of_thread) == ["succeeded"] * 2
    if then is fail:
        assert isinstance(task.exception, SomeError)
    else:
        assert task.result == "done"


async def test_what_a_sync_function_returns_has_what_is_left() -> None:
    """9.3 The timeout is on the call and on what it returns to be awaited."""

    def work() -> Any:
        return until_cancelled()

    async with open_runner() as runner:
        task: Task[..., Any] = runner.task(timeout=LONG).schedule(work)
        await past(task)

    assert isinstance(task.exception, TaskTimedOut)


# What values mean (9.4)


async def test_a_timeout_of_zero_ends_at_the_first_checkpoint() -> None:
    """9.4 Zero is a value: what awaits nothing is done, other things are cut where they await."""
    log: list[str] = []

    async def work() -> None:
        log.append("begun")
        await anyio.sleep_forever()

    async def at_once() -> str:
        return "done"

    go = threading.Event()

    def ask() -> None:
        assert go.wait(GUARD)
        from_thread.check_cancelled()

    async with open_runner(config=TaskConfig(timeout=LONG)) as runner:
        batch = runner.task(timeout=0)
        task = batch.schedule(work)
        await over(task)
        assert await batch.schedule(at_once).wait() == "done"
        assert await batch.schedule(len, "four").wait() == 4
        told = batch.schedule(ask)
        await anyio.wait_all_tasks_blocked()
        go.set()
        await over(told)

    assert log == ["begun"]
    for one in (task, told):
        assert isinstance(one.exception, TaskTimedOut)
        assert str(one.exception).endswith("took longer than its timeout of 0 s")


async def test_a_timeout_for_all_tasks_and_for_one() -> None:
    """9.4 None is "not set here", so the application's stays; `inf` is without limit."""
    async with open_runner(config=TaskConfig(timeout=LONG)) as runner:
        with TasksScheduler(runner) as scheduler:
            after = scheduler.after_route.task(timeout=None).schedule(until_cancelled)
        tasks = [runner.schedule(until_cancelled), after]
        unlimited = runner.task(timeout=inf).schedule(until_cancelled)
        await unlimited.started.wait()
        await past(tasks[0])
        await over(*tasks)
        assert unlimited.state is TaskState.RUNNING

    assert [type(task.exception) for task in tasks] == [TaskTimedOut] * 2


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("sync", [False, True])
async def test_a_timeout_in_each_phase(phase: Phase, sync: bool) -> None:  # noqa: FBT001
    """9.1 Whenever a task begins, and wherever its function runs."""
    begun = anyio.Event()
    done = threading.Event()

    def work() -> None:
        from_thread.run_sync(begun.set)
        assert done.wait(GUARD)
        from_thread.check_cancelled()

    async with open_runner() as runner:
        with TasksScheduler(runner) as tasks:
            batches = [tasks.task(), tasks.after_route, tasks.after_response]
            batch = batches[list(Phase).index(phase)].task(timeout=LONG)
            task: Task[..., Any] = (
                batch.schedule(work) if sync else batch.schedule(until_cancelled, begun)
            )
        await begun.wait()
        await anyio.wait_all_tasks_blocked()
        forward()
        await anyio.wait_all_tasks_blocked()
        done.set()
        await over(task)

    assert isinstance(task.exception, TaskTimedOut)


async def test_a_task_from_another_thread_has_its_timeout() -> None:
    """9.1 Who schedules it makes no difference."""
    async with open_runner() as runner:
        batch = runner.task(timeout=LONG)
        task = await to_thread.run_sync(batch.schedule, until_cancelled)
        await past(task)

    assert isinstance(task.exception, TaskTimedOut)
