"""What a request with background tasks costs, without a server around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

from benchmarks.measuring import (
    OURS,
    PEER,
    TASKFLOW,
    TURNS,
    Block,
    Goal,
    Measured,
    Options,
    Verdict,
    chance,
    measure_blocks,
    missing,
)
from benchmarks.serving import Call, load, many, one_by_one, served
from benchmarks.ways import EARLIER, MANAGED

ONE_BY_ONE: Final = "one at a time"
MANY: Final = "many at once"

COUNTS: Final = (1, 3, 100)

DEPENDENCY: Final = "FastAPI, an async dependency that does nothing"
UNUSED: Final = "asked for, not used"
BY_TASKS: Final = "fastapi_tasks after_response"
BY_CURRENT: Final = "fastapi_tasks current_tasks()"

PLACES: Final[dict[str, dict[str, str]]] = {
    OURS: {
        "FastAPI plain": "fastapi_routes:plain",
        "FastAPI plain route beside tasks": "fastapi_routes:unused",
        DEPENDENCY: "fastapi_routes:dependency",
        f"fastapi_tasks {UNUSED}": "fastapi_routes:asked",
        "FastAPI BackgroundTasks": "fastapi_routes:own",
        BY_TASKS: "fastapi_routes:tasks",
        BY_CURRENT: "fastapi_routes:current",
        "fastapi_tasks immediate": "fastapi_routes:immediate",
        "FastAPI asgi-background": "asgi_background_routes:fastapi",
        "Starlette plain": "starlette_routes:plain",
        "Starlette plain route beside tasks": "starlette_routes:unused",
        "Starlette BackgroundTasks": "starlette_routes:own",
        "starlette_tasks after_response": "starlette_routes:tasks",
        "Starlette asgi-background": "asgi_background_routes:starlette",
        "Litestar plain": "litestar_routes:plain",
        "Litestar plain route beside tasks": "litestar_routes:unused",
        "Litestar BackgroundTasks": "litestar_routes:own",
        "litestar_tasks after_response": "litestar_routes:tasks",
        "Quart plain": "quart_routes:plain",
        "Quart add_background_task": "quart_routes:own",
    },
    TASKFLOW: {
        "FastAPI plain": "fastapi_routes:plain",
        f"FastAPI plain route beside {MANAGED}": "taskflow_routes:unused",
        DEPENDENCY: "fastapi_routes:dependency",
        f"{MANAGED} {UNUSED}": "taskflow_routes:asked",
        "FastAPI BackgroundTasks": "fastapi_routes:own",
        f"{MANAGED} add_task": "taskflow_routes:tasks",
        f"{MANAGED} add_task(eager=True)": "taskflow_routes:immediate",
    },
    PEER: {
        "FastAPI plain": "fastapi_routes:plain",
        f"FastAPI plain route beside {EARLIER}": "fastapi_routes:unused",
        DEPENDENCY: "fastapi_routes:dependency",
        f"{EARLIER} {UNUSED}": "fastapi_routes:asked",
        "FastAPI BackgroundTasks": "fastapi_routes:own",
        f"{EARLIER} after_response": "fastapi_routes:tasks",
        f"{EARLIER} immediate": "fastapi_routes:immediate",
    },
}
"""By where it is measured: what it is, and how its application is loaded."""

LACKING: Final = {
    place: {
        f"{name} by current_tasks()": "it has nothing like it",
        f"{name} for Starlette and Litestar": "it is FastAPI's only",
    }
    for place, name in ((TASKFLOW, MANAGED), (PEER, EARLIER))
}
"""What cannot be measured, by place, and why."""


def counts(name: str) -> tuple[int, ...]:
    """Return the numbers of tasks a request that a variant is measured with."""
    return (0,) if "plain" in name or UNUSED in name or name == DEPENDENCY else COUNTS


async def measure(
    place: str, rounds: int, work: int, counting: str | None = None
) -> dict[str, Any]:
    """Measure in this process; ``work`` is about how many requests one turn makes."""
    drawn, after = chance(), TURNS[place]
    names = PLACES[place]
    variants = [(name, count) for name in names for count in counts(name)]
    calls: dict[tuple[str, int], Call] = {}
    skipped = dict(LACKING.get(place, {}))
    async with AsyncExitStack() as stack:
        for name, count in drawn.sample(variants, len(variants)):
            try:
                app = load(f"{names[name]}:{count}")
            except ImportError as error:
                skipped[name] = missing(error)
            else:
                calls[name, count] = await stack.enter_async_context(served(app))
        blocks: dict[str, Block] = {}
        for name, count in variants:
            if (name, count) in calls:
                repeat = (calls[name, count], _requests(work, count, counting), count, after)
                blocks[label(name, count, ONE_BY_ONE)] = partial(one_by_one, *repeat)
                if counting is None:
                    blocks[label(name, count, MANY)] = partial(many, *repeat)
        return {"values": await measure_blocks(blocks, rounds, drawn, counting), "skipped": skipped}


def _requests(work: int, tasks: int, counting: str | None) -> int:
    """Return how many requests make about as much work."""
    if tasks < COUNTS[-1]:
        return work
    return max(1, work // (4 if counting is None else 20))


def label(name: str, count: int, way: str) -> str:
    """Return the name of a variant."""
    return f"{name}, {f'{count} tasks, ' if count else ''}{way}".replace("1 tasks", "1 task")


def run(options: Options) -> Measured:
    """Measure in as many processes as asked for."""
    measured = options.measured("a request")
    work = 4 if options.smoke else 40 if options.callgrind is None else 100
    rounds = 1 if options.smoke else options.rounds
    for process in range(options.processes):
        for answer in options.ask_everywhere("request", process, rounds=rounds, work=work):
            measured.add(answer)
    return measured


def _goals(way: str) -> Iterator[Goal]:
    """Return goals 2 and 3, which are in instructions; CPU time is shown beside them."""
    for name, count, limit in (
        (BY_TASKS, 1, 1.34),
        (BY_CURRENT, 1, 1.18),
        (BY_TASKS, 3, 1.52),
        (BY_TASKS, 100, 3.0),
        ("starlette_tasks after_response", 1, 1.68),
        ("litestar_tasks after_response", 1, 1.60),
    ):
        variant = label(name, count, way)
        yield Goal(f"2 {variant}", variant, reference(variant), limit)
    for framework, limit in (("FastAPI", 1.05), ("Starlette", 1.15), ("Litestar", 1.10)):
        variant = label(f"{framework} plain route beside tasks", 0, way)
        what = f"3 {framework}, a route without tasks, {way}"
        yield Goal(what, variant, reference(variant), limit)
    variant = label(f"fastapi_tasks {UNUSED}", 0, way)
    yield Goal(
        f"3 FastAPI, tasks {UNUSED} / an async dependency, {way}",
        variant,
        reference(variant),
        1.03,
    )


def goals(measured: Measured) -> Iterator[Verdict]:
    """Judge goals 2 and 3."""
    for way in ONE_BY_ONE, MANY:
        for goal in _goals(way):
            yield from goal.judge(measured)


def reference(variant: str) -> str:
    """Return what a variant is compared with: its framework's own way with as many tasks."""
    way = ONE_BY_ONE if variant.endswith(ONE_BY_ONE) else MANY
    framework = next(
        name
        for name in ("FastAPI", "Starlette", "Litestar", "Quart")
        if variant.lower().startswith(name.lower())
    )
    if UNUSED in variant:
        return label(DEPENDENCY, 0, way)
    if "plain" in variant or variant.startswith(DEPENDENCY):
        return label(f"{framework} plain", 0, way)
    count = next(count for count in COUNTS if f", {count} task" in variant)
    own = "add_background_task" if framework == "Quart" else "BackgroundTasks"
    return label(f"{framework} {own}", count, way)
