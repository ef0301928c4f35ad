from __future__ import annotations

import threading
from contextvars import ContextVar

import anyio
import pytest
from anyio import from_thread, to_thread
from tasks_core import Phase, TasksScheduler

from tests.tasks_core.stage import GUARD, in_order_of_beginning, open_runner, over

pytestmark = pytest.mark.anyio

MANY = 50


async def test_async_tasks_begin_in_the_order_of_their_scheduling() -> None:
    """Async tasks take their first steps in order, whatever the event loop shuffles (1.4)."""
    begun: list[int] = []

    async def note(number: int) -> None:
        begun.append(number)
        await anyio.lowlevel.checkpoint()

    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        await over(*[tasks.schedule(note, number) for number in range(MANY)])

    assert begun == list(range(MANY))


@pytest.mark.parametrize("thread_limit", [1, MANY])
async def test_sync_tasks_begin_in_the_order_of_their_scheduling(thread_limit: int) -> None:
    """They are handed to their threads in order, be there one for each or one for all (1.4)."""
    async with open_runner(thread_limit=thread_limit) as runner:
        tasks = TasksScheduler(runner)
        scheduled = [tasks.schedule(int) for _ in range(MANY)]
        await over(*scheduled)

    assert in_order_of_beginning(scheduled) == scheduled


async def test_sync_tasks_that_waited_for_threads_begin_in_order() -> None:
    """Threads that become free at the same moment are given out in order (1.4)."""
    together = threading.Barrier(2)
    async with open_runner(thread_limit=2) as runner:
        tasks = TasksScheduler(runner)
        scheduled = [tasks.schedule(together.wait, GUARD) for _ in range(MANY)]
        await over(*scheduled)

    assert in_order_of_beginning(scheduled) == scheduled


async def test_sync_tasks_begin_in_order_where_some_were_cancelled() -> None:
    """Those that gave up waiting for a thread do not mix up the others (1.4, 2.6)."""
    together = threading.Barrier(2)
    async with open_runner(thread_limit=2) as runner:
        tasks = TasksScheduler(runner)
        go = threading.Event()
        first = [tasks.schedule(go.wait, GUARD) for _ in range(2)]
        scheduled = [tasks.schedule(together.wait, GUARD) for _ in range(2 * MANY)]
        await tasks.begun()
        cancelled = [task.cancel() for task in scheduled[1::2]]
        await over(*scheduled[1::2])
        go.set()
        await over(*first, *scheduled)

    assert cancelled == [True] * MANY
    assert in_order_of_beginning(scheduled) == scheduled[::2]


@pytest.mark.parametrize("turns", range(4))
async def test_sync_tasks_begin_in_order_where_some_are_cancelled_on_their_way(turns: int) -> None:
    """One that has a slot, and no thread yet, lets those behind it pass (1.4, 2.6)."""
    async with open_runner(thread_limit=MANY) as runner:
        tasks = TasksScheduler(runner)
        scheduled = [tasks.schedule(int) for _ in range(MANY)]
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        cancelled = [task for task in scheduled[::2] if task.cancel()]
        await over(*scheduled)

    called = [task for task in scheduled if task not in cancelled]
    assert in_order_of_beginning(scheduled) == called


async def test_sync_and_async_tasks_each_begin_in_order() -> None:
    """Neither kind mixes up the other (1.4)."""

    async def nothing() -> None: ...

    async with open_runner(thread_limit=2) as runner:
        tasks = TasksScheduler(runner)
        scheduled = [tasks.schedule(int if at % 2 else nothing) for at in range(MANY)]
        await over(*scheduled)

    for kind in (scheduled[::2], scheduled[1::2]):
        assert in_order_of_beginning(kind) == kind


async def test_phases_begin_in_order() -> None:
    """All of a phase has begun before the next begins, sync or async (1.4)."""

    async def nothing() -> None: ...

    async with open_runner() as runner:
        for func in (int, nothing):
            tasks = TasksScheduler(runner)
            response = tasks.after_response.schedule(func)
            route = tasks.after_route.schedule(func)
            immediate = tasks.schedule(func)
            tasks.reach(Phase.AFTER_ROUTE)
            tasks.reach(Phase.AFTER_RESPONSE)
            await over(immediate, route, response)

            in_order = [immediate, route, response]
            assert in_order_of_beginning([response, route, immediate]) == in_order


async def test_tasks_of_a_phase_run_concurrently() -> None:
    """A task that waits for one scheduled after it does not wait in vain (1.4)."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        opened, gate = anyio.Event(), threading.Event()

        async def open_it() -> None:
            opened.set()

        opens = tasks.after_route.schedule(opened.wait)
        gates = tasks.after_route.schedule(gate.wait, GUARD)
        tasks.after_route.schedule(open_it)
        tasks.after_route.schedule(gate.set)
        tasks.reach(Phase.AFTER_ROUTE)

        await opens.wait()
        assert await gates.wait()


async def test_async_tasks_have_run_their_first_step_once_begun_returns() -> None:
    """`begun` needs to be awaited once, however many tasks there are (contract 1.1, 1.2)."""
    begun: list[int] = []

    async def note(number: int) -> None:
        begun.append(number)
        await anyio.sleep_forever()

    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        for number in range(MANY):
            tasks.after_route.schedule(note, number)
        tasks.reach(Phase.AFTER_ROUTE)
        assert begun == []

        await tasks.begun()
        assert begun == list(range(MANY))


async def test_sync_tasks_are_in_a_thread_once_begun_returns() -> None:
    """They run even while the event loop's thread is blocked from then on (contract 1.2)."""
    async with open_runner(thread_limit=MANY) as runner:
        tasks = TasksScheduler(runner)
        called = [threading.Event() for _ in range(MANY)]
        for event in called:
            tasks.after_route.schedule(event.set)
        tasks.reach(Phase.AFTER_ROUTE)

        await tasks.begun()
        assert [event.wait(GUARD) for event in called] == [True] * MANY


async def test_a_single_sync_task_is_in_a_thread_once_begun_returns() -> None:
    """The first thread that is ever needed is there as well (contract 1.2)."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        called = threading.Event()
        tasks.schedule(called.set)

        await tasks.begun()
        assert called.wait(GUARD)


async def test_begun_waits_for_no_thread_that_is_not_free() -> None:
    """The response does not wait for a slot (contract 1.2)."""
    release = threading.Event()
    async with open_runner(thread_limit=1) as runner:
        tasks = TasksScheduler(runner)
        tasks.schedule(release.wait, GUARD)
        second = tasks.schedule(release.wait, GUARD)

        await tasks.begun()
        assert not second.started.is_set()
        release.set()
        await second.wait()


async def test_begun_waits_for_no_task_to_finish() -> None:
    """A task that never ends does not hold the response (contract 1.2)."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        task = tasks.schedule(anyio.sleep_forever)

        await tasks.begun()
        assert task.state == "running"


async def test_what_a_sync_route_scheduled_has_begun_once_begun_returns() -> None:
    """Tasks scheduled in a worker thread have begun like others (contract 1.1, 2.3)."""
    begun: list[int] = []

    async def note(number: int) -> None:
        begun.append(number)

    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        called = threading.Event()

        def route() -> None:
            for number in range(MANY):
                tasks.schedule(note, number)
            tasks.schedule(called.set)

        await to_thread.run_sync(route)
        await tasks.begun()
        assert begun == list(range(MANY))
        assert called.wait(GUARD)


async def test_a_task_may_schedule_another() -> None:
    """Async and sync tasks may schedule, for any phase (contract 1.5, 2.3)."""
    begun: list[str] = []
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        tasks.reach(Phase.AFTER_RESPONSE)

        def from_thread_too() -> None:
            last = tasks.after_route.schedule(begun.append, "last")
            from_thread.run(last.wait)

        async def first() -> None:
            begun.append("first")
            await tasks.after_response.schedule(from_thread_too).wait()

        await tasks.schedule(first).wait()

    assert begun == ["first", "last"]


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("phase", ["immediate", "after_route"])
async def test_a_task_runs_in_the_context_of_its_scheduling(
    phase: str,
    sync: bool,  # noqa: FBT001
) -> None:
    """It sees the variables as of then, and what it changes stays its own (contract 2.4)."""
    variable: ContextVar[str] = ContextVar("variable", default="unset")

    def read() -> str:
        before = variable.get()
        variable.set("task")
        return before

    async def read_async() -> str:
        return read()

    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        batch = tasks.after_route if phase == "after_route" else tasks.task()
        variable.set("scheduled")
        task = batch.schedule(read) if sync else batch.schedule(read_async)
        variable.set("later")
        tasks.reach(Phase.AFTER_ROUTE)

        assert await task.wait() == "scheduled"
        assert variable.get() == "later"
