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

from benchmarks.measuring import (
    OURS,
    Block,
    Measured,
    Options,
    Verdict,
    ask,
    interleave,
    missing,
    turns,
    verdict,
)
from benchmarks.ways import CORE, GROUP, SHIELDED, WAYS, Start

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


def _async_blocks(start: Start, count: int) -> dict[str, Block]:
    counter = _Count()

    async def task() -> None:
        counter.ended += 1

    async def at_once() -> int:
        counter.ended = 0
        await start.many(task, count)
        await counter.until(count)
        await turns()
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
        await turns()
        return count

    return {AT_ONCE: at_once, ONE_BY_ONE: one_by_one}


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


async def measure(place: str, rounds: int, count: int, seed: int) -> dict[str, Any]:
    """Measure in this process."""
    blocks: dict[str, Block] = {}
    skipped: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        for name, way in WAYS[place].items():
            try:
                start = await stack.enter_async_context(way())
            except ImportError as error:
                skipped[name] = missing(error)
                continue
            for how, block in _async_blocks(start, count).items():
                blocks[f"{name}, {how}"] = block
        if place == OURS:
            blocks |= await stack.enter_async_context(_sync_blocks(max(1, count * 3 // 10)))
        return {"values": await interleave(blocks, rounds, seed), "skipped": skipped}


def run(options: Options) -> Measured:
    """Measure in as many processes as asked for."""
    measured = Measured("μs of CPU a task")
    count, rounds = (20, 2) if options.smoke else (1000, options.rounds)
    for seed in range(options.processes):
        for place, interpreter in options.interpreters().items():
            measured.add(
                ask("core", interpreter, place=place, rounds=rounds, count=count, seed=seed)
            )
    return measured


def goals(measured: Measured) -> Iterator[Verdict]:
    """Judge goal 1."""
    for way in AT_ONCE, ONE_BY_ONE:
        by = f"{GROUP}, {way}"
        yield from verdict(measured, f"1 no-op task, {way}", 0.60, f"{CORE}, {way}", by)
        yield from verdict(measured, f"1 shielded task, {way}", 0.85, f"{SHIELDED}, {way}", by)
    yield from verdict(
        measured, f"1 {SYNC} / start_soon(run_sync)", 1.0, f"{CORE}, {SYNC}", f"{THREAD}, {SYNC}"
    )
    for by, remark in ((THREAD, "start_soon(run_sync)"), (AWAITED, "await run_sync, no task")):
        yield from verdict(
            measured,
            f"1 {SYNC_ONE_BY_ONE} / {remark}",
            1.0,
            f"{CORE}, {SYNC_ONE_BY_ONE}",
            f"{by}, {SYNC_ONE_BY_ONE}",
        )


def reference(variant: str) -> str:
    """Return what a variant is compared with in the table."""
    if SYNC in variant:
        return f"{THREAD}, {SYNC}"
    if SYNC_ONE_BY_ONE in variant:
        return f"{AWAITED}, {SYNC_ONE_BY_ONE}"
    return f"{GROUP}, {AT_ONCE if variant.endswith(AT_ONCE) else ONE_BY_ONE}"
