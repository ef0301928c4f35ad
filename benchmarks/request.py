"""What a request with background tasks costs, without a server around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

from benchmarks.measuring import (
    OURS,
    PEER,
    Block,
    Measured,
    Options,
    Verdict,
    ask,
    interleave,
    missing,
    verdict,
)
from benchmarks.serving import load, many, one_by_one, served

ONE_BY_ONE: Final = "one at a time"
MANY: Final = "many at once"

COUNTS: Final = (1, 3, 100)

PLACES: Final[dict[str, dict[str, str]]] = {
    OURS: {
        "FastAPI plain": "fastapi_routes:plain",
        "FastAPI plain route beside tasks": "fastapi_routes:unused",
        "FastAPI BackgroundTasks": "fastapi_routes:own",
        "fastapi_tasks after_response": "fastapi_routes:tasks",
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
    PEER: {
        "FastAPI plain": "fastapi_routes:plain",
        "FastAPI BackgroundTasks": "fastapi_routes:own",
        "fastapi-tasks 0.1.0 of PyPI after_response": "fastapi_routes:tasks",
        "fastapi-tasks 0.1.0 of PyPI immediate": "fastapi_routes:immediate",
    },
}
"""By the environment in which they are found: what it is, and how its application is loaded."""


async def measure(place: str, rounds: int, work: int, seed: int) -> dict[str, Any]:
    """Measure in this process; ``work`` is about how many requests one turn makes."""
    blocks: dict[str, Block] = {}
    skipped: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        for name, application in PLACES[place].items():
            for count in (0,) if "plain" in name else COUNTS:
                try:
                    app = load(f"{application}:{count}")
                except ImportError as error:
                    skipped[name] = missing(error)
                    break
                call = await stack.enter_async_context(served(app))
                requests = max(1, work // (4 if count == COUNTS[-1] else 1))
                for way, make in ((ONE_BY_ONE, one_by_one), (MANY, many)):
                    blocks[label(name, count, way)] = partial(make, call, requests, count)
        return {"values": await interleave(blocks, rounds, seed), "skipped": skipped}


def label(name: str, count: int, way: str) -> str:
    """Return the name of a variant."""
    return f"{name}, {f'{count} tasks, ' if count else ''}{way}".replace("1 tasks", "1 task")


def run(options: Options) -> Measured:
    """Measure in as many processes as asked for."""
    measured = Measured("μs of CPU a request")
    work, rounds = (4, 1) if options.smoke else (40, options.rounds)
    for seed in range(options.processes):
        for place, interpreter in options.interpreters().items():
            measured.add(
                ask("request", interpreter, place=place, rounds=rounds, work=work, seed=seed)
            )
    return measured


def goals(measured: Measured) -> Iterator[Verdict]:
    """Judge goals 2 and 3."""
    for way in ONE_BY_ONE, MANY:
        for count, limit in zip(COUNTS, (1.35, 1.6, 3.5), strict=True):
            yield from verdict(
                measured,
                f"2 FastAPI, {count} after_response, {way}",
                limit,
                label("fastapi_tasks after_response", count, way),
                label("FastAPI BackgroundTasks", count, way),
            )
        for framework in "Starlette", "Litestar":
            yield from verdict(
                measured,
                f"2 {framework}, 1 after_response, {way}",
                1.6,
                label(f"{framework.lower()}_tasks after_response", 1, way),
                label(f"{framework} BackgroundTasks", 1, way),
            )
        for framework in "FastAPI", "Starlette", "Litestar":
            yield from verdict(
                measured,
                f"3 {framework}, a route without tasks, {way}",
                1.02,
                label(f"{framework} plain route beside tasks", 0, way),
                label(f"{framework} plain", 0, way),
            )


def reference(variant: str) -> str:
    """Return what a variant is compared with: its framework's own way with as many tasks."""
    way = ONE_BY_ONE if variant.endswith(ONE_BY_ONE) else MANY
    framework = next(
        name
        for name in ("FastAPI", "Starlette", "Litestar", "Quart")
        if variant.lower().startswith(name.lower())
    )
    if "plain" in variant:
        return label(f"{framework} plain", 0, way)
    count = next(count for count in COUNTS if f", {count} task" in variant)
    own = "add_background_task" if framework == "Quart" else "BackgroundTasks"
    return label(f"{framework} {own}", count, way)
