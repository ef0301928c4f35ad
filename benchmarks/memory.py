"""What a waiting task takes in memory, and what a request leaves behind."""

from __future__ import annotations

import asyncio
import gc
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import (
    OURS,
    PEER,
    TASKFLOW,
    TURNS,
    Measured,
    Options,
    Verdict,
    missing,
    turns,
)
from benchmarks.request import PLACES
from benchmarks.serving import load, one_by_one, served
from benchmarks.ways import BARE, CORE, EARLIER, MANAGED, SHIELDED, WAYS

BYTES: Final = "bytes a waiting task"
OBJECTS: Final = "objects of the collector's a waiting task"
KEPT_BYTES: Final = "bytes kept a request"
KEPT_OBJECTS: Final = "objects kept a request"

LEFT_OUT: Final = {"asyncio create_task, not kept", "tasks_core, shielded, configured once"}

KEEPERS: Final = {
    OURS: (
        "FastAPI BackgroundTasks",
        "fastapi_tasks after_response",
        "starlette_tasks after_response",
        "litestar_tasks after_response",
        "FastAPI plain route beside tasks",
    ),
    TASKFLOW: (f"{MANAGED} add_task",),
    PEER: (f"{EARLIER} after_response",),
}


async def measure(place: str, name: str, count: int) -> dict[str, Any]:
    """Measure one way in this process, which should do nothing else."""
    try:
        if name in WAYS[place]:
            values = await _waiting(place, name, count)
        else:
            values = await _kept(PLACES[place][name], count, TURNS[place])
    except ImportError as error:
        return {"values": {}, "skipped": {name: missing(error)}}
    return {"values": {f"{name}, {what}": [value] for what, value in values}, "skipped": {}}


async def _waiting(place: str, name: str, count: int) -> list[tuple[str, float]]:
    event = asyncio.Event()
    begun = ended = 0

    async def wait() -> None:
        nonlocal begun, ended
        begun += 1
        await event.wait()
        ended += 1

    async with WAYS[place][name]() as start:
        event.set()
        await start.many(wait, 10)  # what is made once is made now
        await turns(5 + TURNS[place])
        event.clear()
        gc.collect()
        objects, resident = len(gc.get_objects()), _resident()
        await start.many(wait, count)
        while begun < count + 10:  # noqa: ASYNC110 - polled: it costs every way the same
            await asyncio.sleep(0)
        gc.collect()
        taken = _resident() - resident
        made = len(gc.get_objects()) - objects
        event.set()
        while ended < count + 10:  # noqa: ASYNC110 - polled: it costs every way the same
            await asyncio.sleep(0)
        await turns(TURNS[place])
    return [(BYTES, taken / count), (OBJECTS, made / count)]


async def _kept(application: str, count: int, after: int) -> list[tuple[str, float]]:
    async with served(load(f"{application}:1")) as call:
        tasks = 0 if "unused" in application else 1
        await one_by_one(call, 200, tasks, after)
        tracemalloc.start()
        await one_by_one(call, 200, tasks, after)
        gc.collect()
        objects, traced = len(gc.get_objects()), tracemalloc.get_traced_memory()[0]
        await one_by_one(call, count, tasks, after)
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0] - traced
        return [
            (KEPT_BYTES, kept / count),
            (KEPT_OBJECTS, (len(gc.get_objects()) - objects) / count),
        ]


def _resident() -> int:
    """Return the bytes of this process that are in memory (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def run(options: Options) -> Measured:
    """Measure each variant in fresh processes of its own."""
    measured = Measured("see each row")
    if not Path("/proc/self/statm").exists():
        measured.skipped["memory"] = "resident memory is read from Linux's /proc"
        return measured
    waiting, requests = (500, 50) if options.smoke else (50_000, 2000)
    for process in range(min(options.processes, 3)):
        values: dict[str, list[float]] = {}
        for place in options.interpreters():
            for name in [*WAYS[place], *KEEPERS[place]]:
                if name in LEFT_OUT or (place != OURS and name in WAYS[OURS]):
                    continue
                count = waiting if name in WAYS[place] else requests
                answer = options.ask("memory", place, process, name=name, count=count)
                values.update(answer["values"])
                measured.note(answer)
        measured.processes.append(values)
    return measured


def goals(measured: Measured) -> Iterator[Verdict]:
    """Judge goal 4."""
    if not measured.processes:
        return
    bare = measured.median(f"{BARE}, {BYTES}")
    for name in CORE, SHIELDED:
        beyond = measured.median(f"{name}, {BYTES}") - bare
        least = measured.minimum(f"{name}, {BYTES}") - measured.minimum(f"{BARE}, {BYTES}")
        goal = f"4 {name}: KiB a waiting task beyond a bare one"
        yield Verdict(goal, 1.5, beyond / 1024, least / 1024, unit="KiB")
    for name in KEEPERS[OURS]:
        if "_tasks" in name or "beside" in name:
            kept = measured.median(f"{name}, {KEPT_OBJECTS}")
            yield Verdict(f"4 {name}: objects kept a request", 0.01, kept, unit="")


def reference(variant: str) -> str:
    """Return what a variant is compared with in the table."""
    for what in BYTES, OBJECTS:
        if variant.endswith(what):
            return f"{BARE}, {what}"
    return ""
