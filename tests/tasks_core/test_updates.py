"""Contract 11.5: whoever likes reads the newest record of each task that has changed."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import anyio
import pytest
from anyio import to_thread
from anyio.lowlevel import checkpoint
from tasks_core import (
    Phase,
    Progress,
    Task,
    TaskRecord,
    TaskRunner,
    TasksScheduler,
    Updates,
    current_task,
)

from tests.tasks_core.stage import (
    GUARD,
    SomeError,
    fail_async,
    logged,
    open_runner,
    over,
    states,
    until_cancelled,
)

pytestmark = pytest.mark.anyio

# A shutdown that would wait for ever ends as well.
open_guarded = partial(open_runner, shutdown_timeout=GUARD)


async def succeed() -> None:
    await checkpoint()


class Reading:
    """Reads updates in a task of its own, and notes them."""

    def __init__(self, updates: Updates) -> None:
        self.records: list[TaskRecord] = []
        self.ended = anyio.Event()
        self._updates = updates

    async def run(self) -> None:
        async for one in self._updates:
            self.records.append(one)
        self.ended.set()

    @property
    def states(self) -> list[str]:
        return [str(one.state) for one in self.records]


@asynccontextmanager
async def reads(updates: Updates) -> AsyncGenerator[Reading]:
    """Read while the block runs, and then until the updates end."""
    reading = Reading(updates)
    async with anyio.create_task_group() as group:
        group.start_soon(reading.run)
        yield reading


async def read_all(updates: Updates) -> list[TaskRecord]:
    """Read what there is, and close."""
    updates.close()
    return [one async for one in updates]


# What is given.


async def test_a_life_as_it_is_read() -> None:
    """11.5 Scheduled, begun, each report, and the end: who reads in between sees all of it."""
    steps = [anyio.Event() for _ in range(3)]

    async def work() -> None:
        for number, step in enumerate(steps):
            await step.wait()
            current_task().report(number, total=3)
        await anyio.sleep_forever()

    async with open_guarded() as runner:
        updates = runner.registry.updates()
        async with reads(updates) as reading:
            tasks = TasksScheduler(runner)
            task = tasks.after_response.task(name="export").schedule(work)
            await anyio.wait_all_tasks_blocked()
            tasks.reach(Phase.AFTER_RESPONSE)
            for step in steps:
                await anyio.wait_all_tasks_blocked()
                step.set()
            await anyio.wait_all_tasks_blocked()
            task.cancel()
            await over(task)
            updates.close()

    assert reading.states == ["pending", *["running"] * 4, "cancelled"]
    assert [one.progress and one.progress.done for one in reading.records] == [
        *[None, None, 0, 1, 2, 2]
    ]
    assert {(one.id, one.name) for one in reading.records} == {(task.id, "export")}
    assert reading.records[-1] == task.record()


async def test_who_reads_slowly_never_misses_the_last() -> None:
    """11.5 Each task is given as it is when it is read, in the order of their first changes."""
    async with open_guarded() as runner:
        updates = runner.registry.updates()
        tasks: list[Task] = [
            runner.schedule(func) for func in (succeed, fail_async, lambda: None, until_cancelled)
        ]
        await over(*tasks[:3])
        found = [await anext(updates) for _ in tasks]
        assert sorted(one.id for one in found) == sorted(task.id for task in tasks)
        assert {one.id: str(one.state) for one in found} == {
            task.id: state for task, state in zip(tasks, states(*tasks), strict=True)
        }
        tasks[3].cancel()
        await over(tasks[3])
        last = await anext(updates)
        assert (last.id, str(last.state)) == (tasks[3].id, "cancelled")
        assert await read_all(updates) == []


async def test_a_task_that_changes_often_is_given_once() -> None:
    """11.5 Thousands of reports in between are one record, the newest."""

    async def work() -> None:
        for number in range(5000):
            current_task().report(number)

    async with open_guarded() as runner:
        updates = runner.registry.updates()
        await runner.schedule(work).wait()
        (one,) = await read_all(updates)
    assert one.progress == Progress(4999)
    assert one.state == "succeeded"


async def test_the_order_is_that_of_their_changes() -> None:
    """11.5 Whose turn to be read it is, is decided by the first change that was not read."""
    async with open_guarded() as runner:
        tasks = [runner.schedule(until_cancelled) for _ in range(3)]
        for task in tasks:
            await task.started.wait()
        updates = runner.registry.updates()
        for number in (2, 0, 1, 2):
            tasks[number].report(number)
        found = [(await anext(updates)).id for _ in range(3)]
        assert found == [tasks[number].id for number in (2, 0, 1)]
        tasks[1].report(5)
        assert (await anext(updates)).id == tasks[1].id


async def test_only_what_changes_from_then_on() -> None:
    """11.5 What lived before is in the registry; it is given once it changes."""
    async with open_guarded() as runner:
        task = runner.schedule(until_cancelled)
        await task.started.wait()
        updates = runner.registry.updates()
        runner.schedule(succeed)
        first = await anext(updates)
        assert first.function == "succeed"
        task.report(1)
        await runner.registry.living()[-1].wait()
        found = {one.function async for one in closed(updates)}
        assert found == {"succeed", "until_cancelled"}


def closed(updates: Updates) -> Updates:
    updates.close()
    return updates


async def test_each_attempt_is_a_change() -> None:
    """11.5 A reader sees the number of the attempt, as it is made."""
    go = [anyio.Event(), anyio.Event()]

    async def work() -> None:
        number = current_task().attempt
        await go[number - 1].wait()
        if number == 1:
            raise SomeError

    async def twice(attempt: Any) -> None:
        with suppress(SomeError):
            await attempt()
        await attempt()

    async with open_guarded() as runner:
        updates = runner.registry.updates()
        async with reads(updates) as reading:
            task = runner.task(retry=twice).schedule(work)
            for event in go:
                await anyio.wait_all_tasks_blocked()
                event.set()
            await task.wait()
            updates.close()
    assert [(str(one.state), one.attempt) for one in reading.records][-3:] == [
        ("running", 1),
        ("running", 2),
        ("succeeded", 2),
    ]


async def test_what_is_skipped_or_cut_is_a_change() -> None:
    """11.5 Whatever ends a task that has not begun."""
    async with open_guarded() as runner:
        updates = runner.registry.updates()
        with TasksScheduler(runner) as tasks:
            tasks.after_response.schedule(succeed)
            tasks.after_response.task(run_on="always").schedule(succeed).cancel()
            tasks.fail()
        found = [str(one.state) for one in await read_all(updates)]
    assert sorted(found) == ["cancelled", "skipped"]


async def test_reports_from_threads_are_changes() -> None:
    """11.5 Who waits is woken from any thread."""
    go = threading.Event()

    def work() -> None:
        current_task().report(1)
        assert go.wait(GUARD)
        current_task().report(2)

    async with open_guarded() as runner:
        updates = runner.registry.updates()
        async with reads(updates) as reading:
            task = await to_thread.run_sync(runner.schedule, work)
            while not any(one.progress == Progress(1) for one in reading.records):
                await checkpoint()
            await anyio.wait_all_tasks_blocked()
            await to_thread.run_sync(partial(task.report, 1.5))
            await anyio.wait_all_tasks_blocked()
            assert reading.records[-1].progress == Progress(1.5)
            go.set()
            await task.wait()
            updates.close()
    assert reading.records[-1].progress == Progress(2)
    assert reading.states[-1] == "succeeded"


async def test_no_record_has_arguments_or_results() -> None:
    """11.4 Neither a reader nor a record shows them."""

    async def work(argument: str) -> str:
        await checkpoint()
        return f"result of {argument}"

    async with open_guarded() as runner:
        updates = runner.registry.updates()
        await runner.schedule(work, "secret").wait()
        (one,) = await read_all(updates)
    assert "secret" not in repr(one)


# Who reads.


async def test_several_readers_read_all() -> None:
    """11.5 Each at its own pace; what one has read the other still gets."""
    async with open_guarded() as runner:
        first, second = runner.registry.updates(), runner.registry.updates()
        one = runner.schedule(succeed)
        assert (await anext(first)).id == one.id
        await one.wait()
        other = runner.schedule(succeed)
        await other.wait()
        assert [record.id for record in await read_all(first)] == [one.id, other.id]
        assert [record.id for record in await read_all(second)] == [one.id, other.id]


async def test_a_reader_may_be_read_by_several_tasks() -> None:
    """11.5 Each change is then given to one of them, and the end to all."""
    async with open_guarded() as runner, anyio.create_task_group() as group:
        updates = runner.registry.updates()
        readings = [Reading(updates) for _ in range(3)]
        for reading in readings:
            group.start_soon(reading.run)
        await anyio.wait_all_tasks_blocked()
        tasks = [runner.schedule(until_cancelled) for _ in range(3)]
        await anyio.wait_all_tasks_blocked()
        updates.close()
        for reading in readings:
            await reading.ended.wait()
        found = {one.id for reading in readings for one in reading.records}
        assert found == {task.id for task in tasks}


async def test_a_cancelled_reader_loses_nothing() -> None:
    """11.5 What comes while nobody waits is there for who reads next."""
    async with open_guarded() as runner:
        updates = runner.registry.updates()
        with anyio.move_on_after(0):
            await anext(updates)
        async with anyio.create_task_group() as group:
            group.start_soon(anext, updates)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        task = runner.schedule(succeed)
        await task.wait()
        assert (await anext(updates)).id == task.id


async def test_the_task_itself_may_read() -> None:
    """11.5 A watcher is a task like any other; it sees itself too."""

    async def watch() -> list[str]:
        with runner.registry.updates() as updates:
            current_task().report(1, message="watching")
            return [(await anext(updates)).name]

    async with open_guarded() as runner:
        assert await runner.task(name="watcher").schedule(watch).wait() == ["watcher"]


# What is held.


@pytest.mark.parametrize(("history", "most"), [(0, 1000), (1000, 1000), (1500, 1500)])
async def test_who_does_not_read_holds_a_bounded_number(history: int, most: int) -> None:
    """11.5 The first are dropped: 1000 are held, or as many as are remembered."""
    async with open_guarded(history=history) as runner:
        updates = runner.registry.updates()
        first = [runner.schedule(succeed) for _ in range(50)]
        await runner.join()
        last = [runner.schedule(succeed) for _ in range(most)]
        await runner.join()
        found = {one.id: str(one.state) for one in await read_all(updates)}
    assert found == {task.id: "succeeded" for task in last}
    assert first[0].id not in found


async def test_a_task_is_let_go_when_it_was_read() -> None:
    """11.5 A reader holds what is to be read, and no more."""
    seen: list[weakref.ref[Task]] = []

    async def schedule() -> None:
        task = runner.schedule(succeed)
        seen.append(weakref.ref(task))
        await task.wait()

    async with open_guarded(history=0) as runner:
        updates = runner.registry.updates()
        await schedule()
        await anext(updates)
        await anyio.wait_all_tasks_blocked()
        gc.collect()
        assert seen[0]() is None
        del updates


async def test_a_reader_that_is_dropped_is_forgotten() -> None:
    """11.7 Nobody need close it; then tasks go the shortest way again."""
    async with open_guarded() as runner:
        observers: Any = runner._observers
        updates = runner.registry.updates()
        await runner.schedule(succeed).wait()
        await anext(updates)
        assert observers.active
        del updates
        gc.collect()
        await runner.schedule(succeed).wait()
        assert not observers.active
        assert len(observers._readers) == 0
        assert observers._entered == {}
        assert observers._telling == {}


async def test_a_reader_that_is_closed_holds_nothing_new() -> None:
    """11.7 Also while somebody still has it."""
    async with open_guarded() as runner:
        updates = runner.registry.updates()
        updates.close()
        await runner.schedule(succeed).wait()
        await runner.schedule(succeed).wait()
        assert not updates._changed
        assert not runner._observers.active


async def test_a_task_that_has_begun_before_anybody_reads() -> None:
    """11.5 Its next steps are given, and nothing is left behind."""
    go = anyio.Event()
    async with open_guarded() as runner:
        task = runner.schedule(go.wait)
        await task.started.wait()
        updates = runner.registry.updates()
        go.set()
        await task.wait()
        (one,) = await read_all(updates)
        assert (one.id, str(one.state), one.attempt) == (task.id, "succeeded", 1)
        assert runner._observers._entered == {}


# How it ends.


async def test_closing_ends_it_once_all_is_read() -> None:
    """11.5 What had changed by then is given; closing again does nothing."""
    async with open_guarded() as runner:
        updates = runner.registry.updates()
        tasks = [runner.schedule(succeed) for _ in range(3)]
        await over(*tasks)
        updates.close()
        updates.close()
        await over(runner.schedule(succeed))
        assert [one.id async for one in updates] == [task.id for task in tasks]
        with pytest.raises(StopAsyncIteration):
            await anext(updates)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["loop", "thread"])
async def test_closing_wakes_who_waits(elsewhere: bool) -> None:  # noqa: FBT001
    """11.5 From any thread."""
    async with open_guarded() as runner, anyio.create_task_group() as group:
        updates = runner.registry.updates()
        reading = Reading(updates)
        group.start_soon(reading.run)
        await anyio.wait_all_tasks_blocked()
        if elsewhere:
            await to_thread.run_sync(updates.close)
        else:
            updates.close()
        await reading.ended.wait()


async def test_leaving_it_reads_no_more() -> None:
    """11.5 A block that is left, by an error too, holds nothing."""
    async with open_guarded() as runner:
        updates = runner.registry.updates()
        with suppress(SomeError), updates as entered:
            assert entered is updates
            await runner.schedule(succeed).wait()
            raise SomeError
        with pytest.raises(StopAsyncIteration):
            await anext(updates)
        assert not updates._changed


@pytest.mark.parametrize("grace_period", [0, GUARD])
async def test_a_shutdown_ends_it_as_it_begins(
    grace_period: float, caplog: pytest.LogCaptureFixture
) -> None:
    """11.5 Who streams it does not hold that up: tasks that live are still at work then."""
    go = anyio.Event()
    async with open_guarded(grace_period=grace_period) as runner:
        updates = runner.registry.updates()
        task = runner.task(shield=True).schedule(go.wait)
        await task.started.wait()
        async with reads(updates) as reading, anyio.create_task_group() as group:
            await anyio.wait_all_tasks_blocked()
            group.start_soon(runner.drain)
            await reading.ended.wait()
            assert reading.states[-1] == "running"
            assert states(task) == ["running"]
            go.set()
    assert not logged(caplog)


@pytest.mark.parametrize("closed_already", [False, True])
async def test_a_reader_that_comes_too_late(closed_already: bool) -> None:  # noqa: FBT001
    """11.5 One that is made during a shutdown, or after it, has ended at once."""
    go = anyio.Event()
    async with open_guarded() as runner:
        task = runner.task(shield=True).schedule(go.wait)
        await task.started.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(runner.drain)
            await anyio.wait_all_tasks_blocked()
            if closed_already:
                go.set()
                await task.wait()
            task.report(1)
            assert [one async for one in runner.registry.updates()] == []
            go.set()
    assert [one async for one in runner.registry.updates()] == []


def test_a_reader_before_the_runner_is_entered() -> None:
    """11.5 It waits for what is to come."""

    async def main() -> list[str]:
        runner = TaskRunner()
        updates = runner.registry.updates()
        async with runner:
            await runner.schedule(succeed).wait()
            return [str((await anext(updates)).state)]

    for backend in ("asyncio", "trio"):
        assert anyio.run(main, backend=backend) == ["succeeded"]


# Event loops.


@pytest.mark.parametrize("other", ["asyncio", "trio"])
async def test_a_second_event_loop_is_refused(other: str) -> None:
    """11.5 It would never be woken there; each reads one of its own."""

    async def read() -> None:
        with pytest.raises(RuntimeError, match=r"read on another event loop: call registry\.upda"):
            await anext(updates)

    async with open_guarded() as runner:
        updates = runner.registry.updates()
        await runner.schedule(succeed).wait()
        await anext(updates)
        await to_thread.run_sync(partial(anyio.run, read, backend=other))
        await runner.schedule(succeed).wait()
        await anext(updates)  # it still works where it has begun


@pytest.mark.parametrize("other", ["asyncio", "trio"])
async def test_it_can_be_read_on_a_threads_own_event_loop(other: str) -> None:
    """11.5 Changes wake a reader there, and so does the shutdown."""
    found: list[TaskRecord] = []
    waits, go = threading.Event(), anyio.Event()

    async def read() -> None:
        async for one in runner.registry.updates():
            found.append(one)
            waits.set()

    async with open_guarded() as runner:
        task = runner.schedule(go.wait)
        async with anyio.create_task_group() as group:
            group.start_soon(to_thread.run_sync, partial(anyio.run, read, backend=other))
            await task.started.wait()
            while not waits.is_set():
                task.report(1)
                await checkpoint()
            task.report(2)
            go.set()
            await task.wait()
            await runner.drain()
    assert (found[-1].id, found[-1].progress) == (task.id, Progress(2))
    assert found[-1].state == "succeeded"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_reader_whose_event_loop_has_ended() -> None:
    """11.5 Tasks that change go on, and so does the shutdown."""
    kept: list[Updates] = []

    async def read() -> None:
        kept.append(runner.registry.updates())
        with anyio.move_on_after(0.01):
            await anext(kept[0])

    async with open_guarded() as runner:
        await to_thread.run_sync(asyncio.run, read())
        # As if it still waited there.
        kept[0]._event = anyio.Event()
        await runner.schedule(succeed).wait()
        kept[0]._event = anyio.Event()


# The progress of one task (7.2).


async def read_progress(updates: AsyncIterator[Progress], into: list[float]) -> None:
    async for progress in updates:
        into.append(progress.done)  # noqa: PERF401 - one by one, as they come


@pytest.mark.parametrize("reports", [0, 1])
@pytest.mark.parametrize("shield", [False, True])
async def test_updates_of_a_task_end_as_the_drain_begins(
    reports: int,
    shield: bool,  # noqa: FBT001
) -> None:
    """11.5 The task is still at work, and who streams its progress does not hold up a deploy."""
    go, ended = anyio.Event(), anyio.Event()
    found, late = list[float](), list[float]()

    async def work() -> None:
        for number in range(reports):
            current_task().report(number)
        await go.wait()
        current_task().report(100)

    async def read() -> None:
        await read_progress(task.updates(), found)
        ended.set()

    async with open_guarded(grace_period=GUARD) as runner:
        task = runner.task(shield=shield).schedule(work)
        await task.started.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            assert not ended.is_set()
            group.start_soon(runner.drain)
            await ended.wait()
            assert states(task) == ["running"]
            # One that begins then gives what was reported last.
            await read_progress(task.updates(), late)
            go.set()
    assert found == late == list(range(reports))
    assert task.progress == Progress(100)


async def test_updates_of_a_task_that_has_not_begun_end_too() -> None:
    """11.5 Whatever it waits for, a shielded one included."""
    go, ended = anyio.Event(), anyio.Event()

    async def read() -> None:
        await read_progress(waiting.updates(), [])
        ended.set()

    async with open_guarded() as runner:
        batch = runner.task(shield=True, key="key", limit=1)
        first, waiting = batch.schedule(go.wait), batch.schedule(succeed)
        await first.started.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(runner.drain)
            await ended.wait()
            assert states(first, waiting) == ["running", "pending"]
            go.set()


async def test_waiting_for_a_task_goes_on_through_a_drain() -> None:
    """7.4 Only who reads updates is let go: `wait` is for the end."""
    go, results = anyio.Event(), list[str]()

    async def work() -> str:
        await go.wait()
        return "done"

    async def wait() -> None:
        results.append(await task.wait())

    async with open_guarded() as runner:
        task = runner.task(shield=True).schedule(work)
        await task.started.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(runner.drain)
            await anyio.wait_all_tasks_blocked()
            assert results == []
            go.set()
    assert results == ["done"]


async def test_from_many_threads() -> None:
    """11.5 While eight threads schedule and report, each task's last change is read."""
    begins = threading.Barrier(8)
    made: list[Task] = []

    def work(number: int) -> None:
        for done in range(number % 7):
            current_task().report(done)

    def schedule(runner: TaskRunner) -> None:
        begins.wait(GUARD)
        made.extend(runner.schedule(work, number) for number in range(20))

    async with open_guarded() as runner, anyio.create_task_group() as readers:
        updates = runner.registry.updates()
        reading = Reading(updates)
        readers.start_soon(reading.run)
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(to_thread.run_sync, schedule, runner)
        await runner.join()
        updates.close()
        await reading.ended.wait()
        last = {one.id: one for one in reading.records}
        assert last == {task.id: task.record() for task in made}


def test_what_it_shows() -> None:
    """11.5 It can be made and closed where no event loop runs."""
    runner = TaskRunner()
    updates = runner.registry.updates()
    updates.close()
    assert aiter(updates) is updates
