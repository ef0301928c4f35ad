"""Contract 5.8: tasks that live as long as the process."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any

import anyio
import pytest
from anyio import CancelScope, from_thread, get_cancelled_exc_class
from anyio.lowlevel import checkpoint
from tasks_core import Phase, Task, TaskConfig, TaskRunner, TasksScheduler
from tasks_core.testing import drain, inline, record

from tests.tasks_core.clock import LONG, forward, with_clock
from tests.tasks_core.stage import (
    GUARD,
    SomeError,
    logged,
    open_runner,
    over,
    states,
    until_cancelled,
)

pytestmark = pytest.mark.anyio
anyio_backend = with_clock

# A shutdown that would wait for ever ends as well.
open_guarded = partial(open_runner, shutdown_timeout=GUARD)


class Stopping:
    """A shutdown that goes on while the block runs."""

    def __init__(self, runner: TaskRunner) -> None:
        self._runner = runner
        self._group = anyio.create_task_group()

    async def __aenter__(self) -> None:
        await self._group.__aenter__()
        self._group.start_soon(self._runner.drain)
        await anyio.wait_all_tasks_blocked()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._group.__aexit__(exc_type, exc_value, traceback)


@pytest.mark.parametrize("shield", [None, True])
async def test_a_shutdown_cancels_a_daemon_at_once(
    shield: bool | None,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """5.8 Before the grace period, which others have; also where layers set ``shield``."""
    begun, go = anyio.Event(), anyio.Event()
    async with open_guarded(grace_period=LONG, config=TaskConfig(shield=shield)) as runner:
        daemon = runner.task(daemon=True).schedule(until_cancelled, begun)
        task = runner.task(shield=False).schedule(go.wait)
        await begun.wait()
        async with Stopping(runner):
            assert states(daemon, task) == ["cancelled", "running"]
            go.set()
    assert states(daemon, task) == ["cancelled", "succeeded"]
    assert not logged(caplog)  # that is what is expected of it


async def test_daemon_wins_over_shield() -> None:
    """5.8 In whichever layer each of them is set; and a task may set it back."""
    begun = anyio.Event()
    async with open_guarded(config=TaskConfig(daemon=True)) as runner:
        daemon = runner.task(shield=True).schedule(until_cancelled)
        assert not daemon.config.shielded
        shielded = runner.task(shield=True, daemon=False).schedule(begun.wait)
        assert shielded.config.shielded
        await daemon.started.wait()
        async with Stopping(runner):
            assert states(daemon, shielded) == ["cancelled", "running"]
            begun.set()
    assert states(shielded) == ["succeeded"]


async def test_the_clean_up_of_a_daemon_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """5.8 What it awaits under a shield, without limit; then nothing is reported."""
    cleaning, go, log = anyio.Event(), anyio.Event(), list[str]()

    async def consume() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with CancelScope(shield=True):
                cleaning.set()
                await go.wait()
            log.append("cleaned up")

    async with open_guarded() as runner:
        daemon = runner.task(daemon=True).schedule(consume)
        await daemon.started.wait()
        async with Stopping(runner):
            await cleaning.wait()
            assert states(daemon) == ["running"]
            assert log == []
            go.set()
    assert log == ["cleaned up"]
    assert not logged(caplog)


async def test_a_daemon_that_does_not_end_is_reported(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5.8 Past `shutdown_timeout` and the time to clean up, as any; by name."""
    monkeypatch.setattr("tasks_core._runner.UNWIND_TIME", 0.01)
    go = anyio.Event()

    async def ignore() -> None:
        with CancelScope(shield=True):
            await go.wait()

    async with open_runner(shutdown_timeout=LONG) as runner:
        daemon = runner.task(daemon=True, name="deaf").schedule(ignore)
        await daemon.started.wait()
        async with Stopping(runner):
            forward()
        (report,) = logged(caplog, "WARNING")
        assert report.startswith("Shutdown left unfinished: deaf (")
        assert "still running" in report
        go.set()
        await over(daemon)


async def test_a_daemon_that_has_not_begun(caplog: pytest.LogCaptureFixture) -> None:
    """5.8 Whatever it waits for, a phase or a thread, it is cut, and not reported."""
    go = threading.Event()
    async with open_guarded(thread_limit=1) as runner:
        tasks = TasksScheduler(runner)
        first = runner.task(shield=True).schedule(go.wait, GUARD)
        daemons: list[Task] = [
            runner.task(daemon=True).schedule(len, ""),
            tasks.after_response.task(daemon=True, shield=True).schedule(checkpoint),
        ]
        await first.started.wait()
        async with Stopping(runner):
            assert states(*daemons) == ["cancelled"] * 2
            daemons.append(runner.task(daemon=True).schedule(checkpoint))  # and one that is late
            assert states(*daemons) == ["cancelled"] * 3
            go.set()
    assert not logged(caplog)


async def test_a_sync_daemon_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """5.8 As any sync function (9.3): one that asks ends, and the shutdown waits for it."""
    begun, go = anyio.Event(), threading.Event()

    def listen() -> None:
        from_thread.run_sync(begun.set)
        assert go.wait(GUARD)
        from_thread.check_cancelled()

    async with open_guarded(grace_period=GUARD) as runner:
        daemon = runner.task(daemon=True).schedule(listen)
        await begun.wait()
        async with Stopping(runner):
            assert states(daemon) == ["running"]
            go.set()
    assert states(daemon) == ["cancelled"]
    assert not logged(caplog)


async def test_a_daemon_that_ends_by_itself() -> None:
    """5.8 It is a task like any other: it succeeds or fails, is logged and handled."""
    handled: list[Exception] = []
    async with open_guarded() as runner:
        batch = runner.task(daemon=True, on_error=lambda _, error: handled.append(error))
        assert await batch.schedule(len, "four").wait() == 4

        async def fail() -> None:
            raise SomeError

        with pytest.raises(SomeError):
            await batch.schedule(fail).wait()
    assert len(handled) == 1


async def test_the_error_handler_of_a_daemon_is_cut_too() -> None:
    """5.8 A shutdown cancels what is at work then, the handler as the function."""
    handling, log = anyio.Event(), list[str]()

    async def handle(task: Task, error: Exception) -> None:
        handling.set()
        try:
            await anyio.sleep_forever()
        finally:
            log.append("cut")

    async def fail() -> None:
        raise SomeError

    async with open_guarded(grace_period=GUARD) as runner:
        daemon = runner.task(daemon=True, on_error=handle).schedule(fail)
        await handling.wait()
    assert log == ["cut"]
    assert states(daemon) == ["failed"]


async def test_a_supervised_service(caplog: pytest.LogCaptureFixture) -> None:
    """5.8 With a retry it is begun again when it fails, until the shutdown; that is no failure."""
    calls, third = list[int](), anyio.Event()

    async def consume() -> None:
        calls.append(len(calls))
        if len(calls) < 3:
            raise SomeError
        third.set()
        await anyio.sleep_forever()

    async def for_ever(attempt: Callable[[], Awaitable[Any]]) -> Any:
        while True:
            with suppress(Exception):
                return await attempt()
            await checkpoint()

    async with open_guarded(grace_period=GUARD) as runner:
        daemon = runner.task(daemon=True, retry=for_ever, name="consumer").schedule(consume)
        await third.wait()
    assert calls == [0, 1, 2]
    assert states(daemon) == ["cancelled"]
    assert len(logged(caplog, "WARNING")) == 2
    assert not logged(caplog, "ERROR")


async def test_a_service_that_waits_for_its_next_attempt() -> None:
    """5.8 A shutdown ends the wait, at once."""
    waits = anyio.Event()

    async def consume() -> None:
        raise SomeError

    async def patient(attempt: Callable[[], Awaitable[Any]]) -> Any:
        with suppress(SomeError):
            return await attempt()
        waits.set()
        return await anyio.sleep_forever()

    async with open_guarded(grace_period=GUARD, config=TaskConfig(shield=True)) as runner:
        daemon = runner.task(daemon=True, retry=patient).schedule(consume)
        await waits.wait()
    assert states(daemon) == ["cancelled"]


async def test_a_daemon_that_swallows_its_cancellation(caplog: pytest.LogCaptureFixture) -> None:
    """5.8 It is waited for as any such task (5.5), and has succeeded when it returns."""
    go = anyio.Event()

    async def swallow() -> str:
        with suppress(get_cancelled_exc_class()):
            await anyio.sleep_forever()
        with CancelScope(shield=True):
            await go.wait()
        return "swallowed"

    async with open_guarded() as runner:
        daemon = runner.task(daemon=True).schedule(swallow)
        await daemon.started.wait()
        async with Stopping(runner):
            assert states(daemon) == ["running"]
            go.set()
    assert daemon.result == "swallowed"


# Who waits for tasks does not wait for daemons.


async def test_join_does_not_wait_for_daemons() -> None:
    """5.8 Neither for one that runs nor for one that has not begun; for others it does."""
    go, log = anyio.Event(), list[str]()

    async def work() -> None:
        await go.wait()
        log.append("done")

    async with open_guarded() as runner:
        tasks = TasksScheduler(runner)
        daemons = [
            runner.task(daemon=True).schedule(until_cancelled),
            tasks.after_response.task(daemon=True).schedule(until_cancelled),
            runner.task(daemon=True, key="key", limit=1).schedule(until_cancelled),
            runner.task(daemon=True, key="key", limit=1).schedule(until_cancelled),
        ]
        await runner.join()
        assert not any(task.record().ended_at for task in daemons)
        runner.schedule(work)
        async with anyio.create_task_group() as group:
            group.start_soon(runner.join)
            await anyio.wait_all_tasks_blocked()
            assert log == []
            go.set()
        assert log == ["done"]
        assert states(*daemons) == ["running", "pending", "running", "pending"]


async def test_join_while_a_daemon_ends() -> None:
    """5.8 The end of a daemon neither ends it nor keeps it waiting."""
    go = anyio.Event()
    async with open_guarded() as runner:
        daemon = runner.task(daemon=True).schedule(until_cancelled)
        task = runner.schedule(go.wait)
        await daemon.started.wait()
        joined = anyio.Event()

        async def join() -> None:
            await runner.join()
            joined.set()

        async with anyio.create_task_group() as group:
            group.start_soon(join)
            await anyio.wait_all_tasks_blocked()
            daemon.cancel()
            await over(daemon)
            await anyio.wait_all_tasks_blocked()
            assert not joined.is_set()
            go.set()
        assert states(daemon, task) == ["cancelled", "succeeded"]


@pytest.mark.parametrize("block", [drain, inline])
async def test_blocks_of_the_testing_kit_do_not_wait_for_daemons(block: Any) -> None:
    """5.8 `drain` and `inline` wait for the other tasks, begun or not."""
    async with open_guarded() as runner:
        async with block(timeout=LONG):
            with TasksScheduler(runner) as tasks:
                daemon = tasks.task(daemon=True).schedule(until_cancelled)
                after = tasks.after_response.task(daemon=True).schedule(until_cancelled)
                task = tasks.after_response.schedule(checkpoint)
            await tasks.settle()
        assert states(task) == ["succeeded"]
        for one in (daemon, after):
            await one.started.wait()
        assert states(daemon, after) == ["running"] * 2


async def test_blocks_do_not_wait_for_a_phase_of_daemons() -> None:
    """5.8 Nor for one whose phase nobody reaches."""
    async with open_guarded() as runner:
        async with drain(timeout=LONG):
            tasks = TasksScheduler(runner)
            daemon = tasks.after_response.task(daemon=True).schedule(until_cancelled)
        assert states(daemon) == ["pending"]
        tasks.reach(Phase.AFTER_RESPONSE)
        await daemon.started.wait()


async def test_a_daemon_is_recorded_as_any() -> None:
    """7.5 `record` runs nothing, so there is nothing to wait for."""
    async with open_guarded() as runner:
        async with record() as recorded:
            with TasksScheduler(runner) as tasks:
                tasks.after_response.task(daemon=True).schedule(until_cancelled)
                tasks.schedule(checkpoint)
        recorded.after_response.task(daemon=True).assert_scheduled(until_cancelled)
        recorded.task(daemon=False).assert_scheduled(checkpoint)
        recorded.assert_nothing_else_scheduled()
