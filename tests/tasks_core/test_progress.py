"""Contract 7.2: a task says how far it has come, and whoever likes reads that."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import FrozenInstanceError
from enum import StrEnum
from functools import partial
from math import inf, nan
from types import CodeType
from typing import Any

import anyio
import pytest
from anyio import from_thread, to_thread
from tasks_core import (
    Phase,
    Progress,
    Task,
    TasksScheduler,
    TaskState,
    current_task,
)
from tasks_core import _task as module

from tests.tasks_core.stage import (
    GUARD,
    SomeError,
    interrupting,
    open_runner,
    over,
    still_task,
    until_cancelled,
)

pytestmark = pytest.mark.anyio


async def read(task: Task, into: list[float]) -> None:
    """Note what a task reports, until it has ended."""
    async for progress in task.updates():
        into.append(progress.done)  # noqa: PERF401 - one by one, as they come


@pytest.mark.parametrize("sync", [False, True])
async def test_a_task_reports_its_progress(sync: bool) -> None:  # noqa: FBT001
    """In its function and what this calls; the handle and the record have it (7.2)."""

    def work() -> None:
        current_task().report(1, total=4, message="reading")

    async def work_async() -> None:
        await to_thread.run_sync(work)

    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(work if sync else work_async)
        assert (task.progress, task.record().progress) == (None, None)
        await task.wait()

        assert task.progress == Progress(1, 4, "reading")
        assert task.record().progress is task.progress


def test_what_is_left_out_stays() -> None:
    """Only what is said changes (7.2)."""
    task = still_task(until_cancelled)
    told: list[tuple[float, float | None, str | None]] = []
    for report in (
        partial(task.report, 1),
        partial(task.report, 2, message="b"),
        partial(task.report, 3, total=9),
        partial(task.report, 4),
        partial(task.report, 2, total=0, message=""),
        partial(task.report, 0),
    ):
        report()
        progress = task.progress
        assert progress is not None
        told.append((progress.done, progress.total, progress.message))

    assert told == [
        (1, None, None),
        (2, None, "b"),
        (3, 9, "b"),
        (4, 9, "b"),
        (2, 0, ""),
        (0, 0, ""),
    ]


@pytest.mark.parametrize(
    ("done", "total", "fraction"),
    [
        (3, None, None),
        (0, 4, 0.0),
        (1, 4, 0.25),
        (4, 4, 1.0),
        (5, 4, 1.0),
        (0, 0, 1.0),
        (2.5, 5.0, 0.5),
    ],
)
def test_a_fraction_is_from_0_to_1(
    done: float, total: float | None, fraction: float | None
) -> None:
    """Where the total is known: all of nothing is done, and more than all is all (7.2)."""
    assert Progress(done, total).fraction == fraction


def test_the_largest_numbers_have_a_fraction() -> None:
    """No number that is taken is too large for it (7.2)."""
    largest = int(1.7e308)
    assert Progress(largest, 1).fraction == 1.0
    assert Progress(largest, 5e-324).fraction == 1.0
    assert Progress(1, largest).fraction == 1 / largest


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        (("3",), TypeError),
        ((None,), TypeError),
        ((True,), TypeError),
        ((1j,), TypeError),
        ((1, "3"), TypeError),
        ((1, False), TypeError),
        ((1, 3, b"m"), TypeError),
        ((1, 3, 4), TypeError),
        ((-1,), ValueError),
        ((nan,), ValueError),
        ((inf,), ValueError),
        ((10**400,), ValueError),
        ((1, -0.5), ValueError),
        ((1, nan), ValueError),
        ((1, inf), ValueError),
        ((1, 10**400), ValueError),
    ],
    ids=str,
)
def test_what_no_reader_could_use_is_refused(
    values: tuple[Any, ...], refused: type[Exception]
) -> None:
    """What was reported before stays (7.2)."""
    task = still_task(until_cancelled)
    task.report(1, total=2, message="before")
    given: tuple[Any, ...] = (*values, None, None)
    done, total, message = given[:3]
    with pytest.raises(refused):
        Progress(*values)
    with pytest.raises(refused):
        task.report(done, total=total, message=message)

    assert task.progress == Progress(1, 2, "before")


class Step(StrEnum):
    READ = "read"


@pytest.mark.parametrize(
    ("message", "told"),
    [(Step.READ, "read"), ("a\udcffb", "a\\udcffb"), ("é\0\n", "é\\x00\n")],
    ids=ascii,
)
def test_a_message_is_plain_text(message: str, told: str) -> None:
    """An enum's value is taken, and what cannot be encoded is escaped (7.2)."""
    progress = Progress(1, message=message)
    assert progress.message == told
    assert type(progress.message) is str


def test_progress_is_frozen() -> None:
    """A reader cannot change what another one reads (7.2)."""
    progress = Progress(1)
    with pytest.raises(FrozenInstanceError):
        progress.done = 2  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


async def test_updates_come_in_order() -> None:
    """A reader that keeps up gets all that is reported, and the end (7.2)."""
    seen: list[float] = []
    read_so_far = [anyio.Event() for _ in range(5)]

    async def work() -> None:
        for number in range(5):
            current_task().report(number)
            await read_so_far[number].wait()

    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(work)
        async for progress in task.updates():
            seen.append(progress.done)
            read_so_far[int(progress.done)].set()
        assert task.state is TaskState.SUCCEEDED

    assert seen == [0, 1, 2, 3, 4]


async def test_a_slow_reader_gets_the_newest() -> None:
    """The task never waits for it; what was reported in between is left out (7.2)."""
    go, seen = anyio.Event(), list[float]()

    async def work() -> None:
        for number in range(10):
            current_task().report(number)
        await go.wait()
        for number in range(10, 20):
            current_task().report(number)

    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(work)
        async for progress in task.updates():
            seen.append(progress.done)
            go.set()

    assert seen == [9, 19]


@pytest.mark.parametrize("reports", [False, True])
@pytest.mark.parametrize("outcome", ["succeeds", "fails", "is cancelled", "is skipped"])
async def test_updates_end_with_the_task(outcome: str, reports: bool) -> None:  # noqa: FBT001
    """However it ends, and what it reported last is given, also to who comes late (7.2)."""
    go = anyio.Event()

    async def work() -> None:
        await go.wait()
        if reports:
            current_task().report(1)
        if outcome == "fails":
            raise SomeError
        if outcome == "is cancelled":
            current_task().cancel()
            await anyio.sleep_forever()

    seen: list[float] = []
    async with open_runner() as runner, anyio.create_task_group() as group:
        tasks = TasksScheduler(runner)
        task = tasks.after_route.schedule(work)
        group.start_soon(read, task, seen)
        await anyio.wait_all_tasks_blocked()
        if outcome == "is skipped" and reports:
            task.report(1)
        tasks.reach(Phase.AFTER_ROUTE, failed=outcome == "is skipped")
        go.set()
        await over(task)
        found = runner.get(task.id)
        assert found is not None
        for late in (task, found):
            late_seen: list[float] = []
            await read(late, late_seen)
            assert late_seen == [1] * reports

    assert seen == [1] * reports


async def test_the_end_of_updates_stays() -> None:
    """An iterator that has ended goes on saying so (7.2)."""
    async with open_runner() as runner:
        task = TasksScheduler(runner).after_route.schedule(until_cancelled)
        task.cancel()
        updates = task.updates()
        assert aiter(updates) is updates
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await anext(updates)


async def test_many_may_read() -> None:
    """Each gets all, from when it begins to read (7.2)."""
    readers: list[list[float]] = [[], [], []]
    async with open_runner() as runner, anyio.create_task_group() as group:
        task = TasksScheduler(runner).schedule(until_cancelled)
        for reader in readers[:2]:
            group.start_soon(read, task, reader)
        for number in range(3):
            task.report(number)
            await anyio.wait_all_tasks_blocked()
        group.start_soon(read, task, readers[2])
        await anyio.wait_all_tasks_blocked()
        task.cancel()

    assert readers == [[0, 1, 2], [0, 1, 2], [2]]


async def test_a_reader_may_leave() -> None:
    """What was left early is gone, and neither the task nor other readers notice (7.2)."""
    left: list[weakref.ref[AsyncIterator[Progress]]] = []

    async def leave() -> None:
        updates = task.updates()
        left.append(weakref.ref(updates))
        async for _ in updates:
            break
        with anyio.move_on_after(0):
            await anext(updates)

    seen: list[float] = []
    async with open_runner() as runner, anyio.create_task_group() as group:
        task = TasksScheduler(runner).schedule(until_cancelled)
        task.report(1)
        group.start_soon(read, task, seen)
        async with anyio.create_task_group() as readers:
            readers.start_soon(leave)
        gc.collect()
        assert [reader() for reader in left] == [None]
        task.report(2)
        await anyio.wait_all_tasks_blocked()
        task.cancel()
        await over(task)

    assert seen == [1, 2]


@pytest.mark.parametrize("other", ["asyncio", "trio"])
@pytest.mark.parametrize("reported", [False, True])
async def test_a_reader_of_another_event_loop_is_refused(reported: bool, other: str) -> None:  # noqa: FBT001
    """It could not be woken; so it is refused even where there is something to read (7.2)."""
    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(until_cancelled)
        if reported:
            task.report(1)

        def read_there(seen: list[float]) -> None:
            anyio.run(read, task, seen, backend=other)

        seen: list[float] = []
        with pytest.raises(RuntimeError, match="another event loop"):
            await to_thread.run_sync(read_there, seen)
        assert seen == []

        task.cancel()
        await over(task)
        await to_thread.run_sync(read_there, seen)  # of what has ended nothing is waited for
        assert seen == [1] * reported


async def test_waiters_are_not_woken_by_reports() -> None:
    """Who waits for the end waits for that (7.2, 7.4)."""
    go = anyio.Event()

    async def work() -> str:
        for number in range(3):
            current_task().report(number)
            await anyio.lowlevel.checkpoint()
        await go.wait()
        return "done"

    results: list[str] = []
    async with open_runner() as runner, anyio.create_task_group() as group:
        task = TasksScheduler(runner).schedule(work)

        async def wait() -> None:
            results.append(await task.wait())

        group.start_soon(wait)
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert results == []
        go.set()

    assert results == ["done", "done"]


async def test_what_is_reported_too_late_makes_no_difference() -> None:
    """The record of a task that is over does not change; nonsense is refused all the same (7.2)."""
    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(until_cancelled)
        task.report(1)
        assert task.id
        task.cancel()
        await over(task)
        record, found = task.record(), runner.get(task.id)
        assert found is not None

        for handle in (task, found):
            handle.report(2, message="too late")
            assert handle.record() == record
            with pytest.raises(ValueError, match="finite number"):
                handle.report(-1)


async def test_an_error_handler_may_report() -> None:
    """A task is over when its handler is (7.2)."""

    def handle(task: Task, error: Exception) -> None:
        task.report(2, message="undone")

    async def work() -> None:
        current_task().report(1)
        raise SomeError

    async with open_runner() as runner:
        task = TasksScheduler(runner).task(on_error=handle).schedule(work)
        seen: list[float] = []
        await read(task, seen)

        assert seen[-1] == 2
        assert task.progress == Progress(2, None, "undone")


async def test_many_reports_of_a_thread_are_one_errand() -> None:
    """While the event loop is busy a thread that reports does not pile up work for it (7.2)."""
    async with open_runner() as runner, anyio.create_task_group() as group:
        task = TasksScheduler(runner).schedule(until_cancelled)
        seen: list[float] = []
        group.start_soon(read, task, seen)
        group.start_soon(over, task)
        await anyio.wait_all_tasks_blocked()

        def report() -> None:
            for number in range(1000):
                task.report(number)
            errands.append(len(task._backend.inbox))

        errands: list[int] = []
        thread = threading.Thread(target=report)
        thread.start()
        thread.join(GUARD)  # and the event loop with it
        assert errands == [1]
        await to_thread.run_sync(from_thread.run_sync, lambda: None)
        await anyio.wait_all_tasks_blocked()
        assert seen == [999]
        task.cancel()


async def test_a_thread_reports_and_the_loop_reads() -> None:
    """Reports of a thread come in order, and the last one always comes (7.2)."""

    def work() -> None:
        for number in range(2000):
            current_task().report(number)

    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(work)
        seen: list[float] = []
        await read(task, seen)

    assert seen == sorted(set(seen))
    assert seen[-1] == 1999


READING: list[CodeType] = [
    module._Updates.__anext__.__code__,
    Task._until_changed.__code__,
]


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("code", READING, ids=["next", "changed"])
@pytest.mark.parametrize("step", range(10))
async def test_a_report_may_come_while_a_reader_looks(
    step: int,
    code: CodeType,
    ends: bool,  # noqa: FBT001
) -> None:
    """Between whichever two lines a thread reports, the reader gets it (7.2)."""
    seen: list[float] = []
    async with open_runner() as runner, anyio.create_task_group() as group:
        task = TasksScheduler(runner).schedule(until_cancelled)
        await task.started.wait()

        def report() -> None:
            thread = threading.Thread(target=task.report, args=(1,))
            thread.start()
            thread.join(GUARD)
            if ends:
                task.cancel()

        async def read_on() -> None:
            with interrupting(code, step, report) as met:
                in_between.append(met)
                async for progress in task.updates():
                    seen.append(progress.done)
                    task.cancel()

        in_between: list[list[int]] = []
        group.start_soon(read_on)
        await anyio.wait_all_tasks_blocked()
        if in_between == [[]]:  # the reader waits, after fewer lines than that
            report()
        await over(task)

        assert task.progress == Progress(1)
    assert seen == [1]


async def test_a_report_may_come_as_a_reader_begins_to_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A reader that would wait for what has come meanwhile does not (7.2)."""
    event = anyio.Event

    def make() -> anyio.Event:
        monkeypatch.undo()
        thread = threading.Thread(target=task.report, args=(1,))
        thread.start()
        thread.join(GUARD)
        return event()

    async with open_runner() as runner:
        task = TasksScheduler(runner).after_route.schedule(until_cancelled)
        monkeypatch.setattr(module, "Event", make)
        assert await anext(task.updates()) == Progress(1)
        task.cancel()


async def test_reports_and_ends_may_race() -> None:
    """Whatever a thread reports as tasks end, no reader is left waiting (7.2)."""
    async with open_runner() as runner, anyio.create_task_group() as group:
        tasks = TasksScheduler(runner)
        made = [tasks.schedule(until_cancelled) for _ in range(100)]
        for task in made:
            group.start_soon(read, task, list[float]())
        await anyio.wait_all_tasks_blocked()

        def report() -> None:
            for number in range(20):
                for task in made:
                    task.report(number)

        async def cancel() -> None:
            for task in made:
                task.cancel()
                await anyio.lowlevel.checkpoint()

        group.start_soon(to_thread.run_sync, report)
        group.start_soon(cancel)


def test_a_signal_handler_may_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that comes in between, in the same thread, does not wait for itself (7.2)."""
    task = still_task(until_cancelled)
    event = anyio.Event

    def make() -> anyio.Event:
        task.report(1)
        return event()

    def ask() -> None:
        assert not task.started.is_set()

    monkeypatch.setattr(module, "Event", make)
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(GUARD)
    assert not thread.is_alive()
    assert task.progress == Progress(1)


async def test_reports_of_many_threads_do_not_break() -> None:
    """A task may report from several threads at a time, and the parts stay (7.2)."""

    def report(numbers: range) -> None:
        for number in numbers:
            task.report(number)

    async with open_runner() as runner:
        task: Task = TasksScheduler(runner).schedule(until_cancelled)
        task.report(0, total=99, message="all")
        async with anyio.create_task_group() as group:
            for first in range(4):
                numbers: Callable[[], None] = partial(report, range(first, 400, 4))
                group.start_soon(to_thread.run_sync, numbers)
        assert task.progress in {Progress(last, 99, "all") for last in range(396, 400)}
        task.cancel()
