"""What one task costs, with no framework around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import count as counting
from typing import Any, Final

import anyio
from anyio import to_thread

from benchmarks.calls import (
    BY_KEYWORD,
    BY_POSITION,
    CALLS,
    CONFIGURED,
    KEYWORD_ONLY,
    LACKING,
    METHOD,
    OBJECT,
    PARTIAL,
    WRAPPED,
    Call,
)
from benchmarks.measuring import (
    OURS,
    TURNS,
    Block,
    Goal,
    Measured,
    Options,
    Verdict,
    chance,
    measure_blocks,
    missing,
    turns,
)
from benchmarks.ways import CORE, GROUP, SHIELDED, WAYS, Start
from benchmarks.work import done

AT_ONCE: Final = "all at once"
ONE_BY_ONE: Final = "one at a time"
SYNC: Final = "sync, all at once"
SYNC_ONE_BY_ONE: Final = "sync, one at a time"

THREAD: Final = "anyio start_soon(to_thread.run_sync)"
AWAITED: Final = "await anyio.to_thread.run_sync"


class _Count:
    """Counts the tasks that have ended."""

    def __init__(self) -> None:
        self.ended = 0

    async def until(self, ended: int) -> None:
        while self.ended < ended:  # noqa: ASYNC110 - polled: it costs every way the same
            await asyncio.sleep(0)


def _async_blocks(start: Start, count: int, after: int) -> dict[str, Block]:
    counter = _Count()

    async def task() -> None:
        counter.ended += 1

    async def at_once() -> int:
        counter.ended = 0
        await start.many(task, count)
        await counter.until(count)
        await turns(after)
        return count

    async def one_by_one() -> int:
        counter.ended = 0
        call = start.call
        for number in range(1, count + 1):
            if start.is_async:
                await call(task)
            else:
                call(task)
            await counter.until(number)
        await turns(after)
        return count

    return {AT_ONCE: at_once, ONE_BY_ONE: one_by_one}


def _call_block(call: Call, start: Start, count: int, after: int) -> Block:
    async def at_once() -> int:
        ended, by = done.ended + count, start.by
        for _ in range(count):
            call(by)
        while done.ended < ended:  # noqa: ASYNC110 - polled: it costs every way the same
            await asyncio.sleep(0)
        await turns(after)
        return count

    return at_once


class _Calls:
    """Calls in threads: tells the event loop when the last of them has been made."""

    def __init__(self, count: int) -> None:
        self._numbers = counting(1)
        self._count = count
        self._loop = asyncio.get_running_loop()
        self.made = asyncio.Event()

    def task(self) -> None:
        if next(self._numbers) == self._count:
            self._loop.call_soon_threadsafe(self.made.set)


async def _sync_by_group(count: int) -> int:
    calls = _Calls(count)
    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(to_thread.run_sync, calls.task)
        await calls.made.wait()
    return count


async def _sync_by_asyncio(count: int) -> int:
    calls = _Calls(count)
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(asyncio.to_thread(calls.task)) for _ in range(count)]
    await calls.made.wait()
    await asyncio.wait(tasks)
    return count


async def _sync_by_us(scheduler: Any, count: int) -> int:  # noqa: ANN401 - not in the peer's place
    calls = _Calls(count)
    tasks = [scheduler.schedule(calls.task) for _ in range(count)]
    await calls.made.wait()
    for task in tasks:
        await task.wait()
    return count


async def _awaited(count: int) -> int:
    calls = _Calls(count)
    for _ in range(count):
        await to_thread.run_sync(calls.task)
    return count


async def _awaited_by_us(scheduler: Any, count: int) -> int:  # noqa: ANN401 - as above
    calls = _Calls(count)
    for _ in range(count):
        await scheduler.schedule(calls.task).wait()
    return count


async def _one_group_each(count: int) -> int:
    calls = _Calls(count)
    for _ in range(count):
        async with anyio.create_task_group() as group:
            group.start_soon(to_thread.run_sync, calls.task)
    return count


@asynccontextmanager
async def _sync_blocks(count: int) -> AsyncGenerator[dict[str, Block]]:
    from tasks_core import TaskRunner, TasksScheduler  # noqa: PLC0415 - not in the peer's place

    async with TaskRunner() as runner:
        scheduler = TasksScheduler(runner)
        yield {
            f"{THREAD}, {SYNC}": partial(_sync_by_group, count),
            f"asyncio create_task(to_thread), {SYNC}": partial(_sync_by_asyncio, count),
            f"{CORE}, {SYNC}": partial(_sync_by_us, scheduler, count),
            f"{AWAITED}, {SYNC_ONE_BY_ONE}": partial(_awaited, count),
            f"{THREAD}, {SYNC_ONE_BY_ONE}": partial(_one_group_each, count),
            f"{CORE}, {SYNC_ONE_BY_ONE}": partial(_awaited_by_us, scheduler, count),
        }


async def measure(
    place: str, rounds: int, count: int, counting: str | None = None
) -> dict[str, Any]:
    """Measure in this process."""
    drawn, after = chance(), TURNS[place]
    starts: dict[str, Start] = {}
    skipped = dict(LACKING.get(place, {}))
    blocks: dict[str, Block] = {}
    async with AsyncExitStack() as stack:
        for name in drawn.sample([*WAYS[place]], len(WAYS[place])):
            try:
                starts[name] = await stack.enter_async_context(WAYS[place][name]())
            except ImportError as error:
                skipped[name] = missing(error)
        for name in WAYS[place]:
            if name in starts:
                for how, block in _async_blocks(starts[name], count, after).items():
                    blocks[f"{name}, {how}"] = block
        for name, calls in CALLS[place].items():
            if name in starts:
                for how, call in calls.items():
                    blocks[f"{name}, {how}"] = _call_block(call, starts[name], count, after)
        if place == OURS and counting is None:  # threads take turns as they happen to
            blocks |= await stack.enter_async_context(_sync_blocks(max(1, count * 3 // 10)))
        return {"values": await measure_blocks(blocks, rounds, drawn, counting), "skipped": skipped}


def run(options: Options) -> Measured:
    """Measure in as many processes as asked for."""
    measured = options.measured("a task")
    count = 20 if options.smoke else 1000 if options.callgrind is None else 300
    rounds = 2 if options.smoke else options.rounds
    for process in range(options.processes):
        for answer in options.ask_everywhere("core", process, rounds=rounds, count=count):
            measured.add(answer)
    return measured


_BY_CALL: Final = {
    BY_POSITION: (0.58, 0.52),
    BY_KEYWORD: (0.68, None),
    KEYWORD_ONLY: (0.68, None),
    WRAPPED: (0.68, None),
    METHOD: (0.68, None),
    PARTIAL: (0.72, None),
    OBJECT: (1.0, None),
    CONFIGURED: (0.80, None),
}
"""The most by anyio's start_soon: in instructions, in CPU time."""

GOALS: Final = (
    Goal("1 no-op task, all at once", f"{CORE}, {AT_ONCE}", f"{GROUP}, {AT_ONCE}", 0.58, 0.52),
    Goal(
        "1 no-op task, one at a time", f"{CORE}, {ONE_BY_ONE}", f"{GROUP}, {ONE_BY_ONE}", cpu=0.60
    ),
    *(
        Goal(f"1 shielded task, {way}", f"{SHIELDED}, {way}", f"{GROUP}, {way}", cpu=0.85)
        for way in (AT_ONCE, ONE_BY_ONE)
    ),
    *(
        Goal(f"1 a task {call}", f"{CORE}, {call}", f"{GROUP}, {call}", instructions, cpu)
        for call, (instructions, cpu) in _BY_CALL.items()
    ),
    Goal(f"1 {SYNC} / start_soon(run_sync)", f"{CORE}, {SYNC}", f"{THREAD}, {SYNC}", cpu=1.0),
    *(
        Goal(
            f"1 {SYNC_ONE_BY_ONE} / {remark}",
            f"{CORE}, {SYNC_ONE_BY_ONE}",
            f"{by}, {SYNC_ONE_BY_ONE}",
            cpu=1.0,
        )
        for by, remark in ((THREAD, "start_soon(run_sync)"), (AWAITED, "await run_sync, no task"))
    ),
)


def goals(measured: Measured) -> Iterator[Verdict]:
    """Judge goal 1."""
    for goal in GOALS:
        yield from goal.judge(measured)


def reference(variant: str) -> str:
    """Return what a variant is compared with in the table."""
    if SYNC in variant:
        return f"{THREAD}, {SYNC}"
    if SYNC_ONE_BY_ONE in variant:
        return f"{AWAITED}, {SYNC_ONE_BY_ONE}"
    return f"{GROUP}, {variant.rpartition(', ')[2]}"
