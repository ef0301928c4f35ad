"""What a task costs among many others: from a thousand to a hundred thousand in flight."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from statistics import median
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
from benchmarks.ways import BARE, CORE, EARLIER, GROUP, MANAGED, WAYS, Start

WHOLE: Final = "start and finish"
NO_OP: Final = "a no-op among them"
ON, OFF = "collector on", "collector off"

NAMES: Final = {
    OURS: (BARE, GROUP, "aiojobs spawn", CORE),
    TASKFLOW: (MANAGED,),
    PEER: (EARLIER,),
}


async def measure(place: str, name: str, count: int, times: int, collect: bool) -> dict[str, Any]:  # noqa: FBT001 - from JSON
    """Measure one way in this process, which should do nothing else."""
    values: dict[str, list[float]] = {WHOLE: [], NO_OP: []}
    try:
        async with WAYS[place][name]() as start:
            await _once(start, 100, TURNS[place])
            gc.collect()
            gc.freeze()
            if not collect:
                gc.disable()
            for _ in range(times):
                gc.collect()
                for what, value in (await _once(start, count, TURNS[place])).items():
                    values[what].append(value)
    except ImportError as error:
        return {"values": {}, "skipped": {name: missing(error)}}
    collector = ON if collect else OFF
    return {
        "values": {
            label(name, count, what, collector): [median(all_)] for what, all_ in values.items()
        },
        "skipped": {},
    }


async def _once(start: Start, count: int, after: int) -> dict[str, float]:
    """Start tasks that wait, no-ops among them, and let all finish; μs of CPU a task."""
    event = asyncio.Event()
    begun = ended = no_ops = 0

    async def wait() -> None:
        nonlocal begun, ended
        begun += 1
        await event.wait()
        ended += 1

    async def no_op() -> None:
        nonlocal no_ops
        no_ops += 1

    began = time.process_time()
    await start.many(wait, count)
    while begun < count:  # noqa: ASYNC110 - polled: it costs every way the same
        await asyncio.sleep(0)
    started = time.process_time()
    await start.many(no_op, 1000)
    while no_ops < 1000:  # noqa: ASYNC110 - polled: it costs every way the same
        await asyncio.sleep(0)
    await turns(after)
    between = time.process_time()
    event.set()
    while ended < count:  # noqa: ASYNC110 - polled: it costs every way the same
        await asyncio.sleep(0)
    await turns(after)
    whole = time.process_time() - between + started - began
    return {WHOLE: whole / count * 1e6, NO_OP: (between - started) / 1000 * 1e6}


def label(name: str, count: int, what: str, collector: str) -> str:
    """Return the name of a variant."""
    return f"{name}, {count}, {what}, {collector}"


def counts(options: Options) -> tuple[int, ...]:
    """Return the numbers of tasks in flight."""
    return (100, 1000) if options.smoke else (1000, 10_000, 100_000)


def run(options: Options) -> Measured:
    """Measure each variant and number in fresh processes of their own."""
    measured = Measured("μs of CPU a task")
    for process in range(min(options.processes, 5)):
        values: dict[str, list[float]] = {}
        for count in counts(options):
            for place in options.interpreters():
                for name in NAMES[place]:
                    for collect in (True, False):
                        answer = options.ask(
                            "scale",
                            place,
                            process,
                            name=name,
                            count=count,
                            times=1 if options.smoke else max(1, 20_000 // count),
                            collect=collect,
                        )
                        values.update(answer["values"])
                        measured.note(answer)
        measured.processes.append(values)
    return measured


def goals(measured: Measured) -> Iterator[Verdict]:
    """Judge goal 5: with the collector off the bare event loop is flat, so growth counts as it is.

    With it on the bare event loop grows too, and our growth counts by the event loop's.
    """
    least, most = 1000, 100_000
    if label(CORE, most, WHOLE, OFF) not in measured.variants():
        return
    for what in WHOLE, NO_OP:
        for collector in OFF, ON:
            few, many = label(CORE, least, what, collector), label(CORE, most, what, collector)
            bare_few = label(BARE, least, what, collector)
            bare_many = label(BARE, most, what, collector)
            growth, minima = _growth(measured, many, few)
            loop, loop_minima = _growth(measured, bare_many, bare_few)
            yield Verdict(
                f"5 growth from {least} to {most}, {what}, {collector} (the bare loop's: "
                f"{loop:.2f})" + ("" if collector == OFF else ", by the bare loop's"),
                1.25,
                growth if collector == OFF else growth / max(loop, 1.0),
                minima if collector == OFF else minima / max(loop_minima, 1.0),
            )


def _growth(measured: Measured, many: str, few: str) -> tuple[float, float]:
    ratio = measured.ratio(many, few)
    if ratio is None:
        raise ValueError(many, few)
    return ratio.median, ratio.of_minima


def reference(variant: str) -> str:
    """Return what a variant is compared with in the table."""
    return f"{BARE}, {variant.split(', ', 1)[1]}"
