"""Requests a second and latency through uvicorn with uvloop, on 127.0.0.1.

Each application has a server process of its own. Requests a second come from wrk, where it is
installed, and are counted in CPU time of the server as well. Latency comes from a client of ours
that keeps to a timetable, so that an answer which is late delays no later question.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from random import Random
from typing import Final

from benchmarks.http_client import (
    P99,
    RATE,
    REQUESTS,
    ask_by_timetable,
    ask_often,
    load_by_ourselves,
    load_by_wrk,
    percentiles,
)
from benchmarks.http_server import LOOP, Server, all_up, off_the_servers_core
from benchmarks.measuring import OURS, PEER, TASKFLOW, Measured, Options, Verdict
from benchmarks.request import BY_CURRENT, BY_TASKS
from benchmarks.ways import EARLIER, MANAGED

CPU: Final = "μs of the server's CPU a request"

PLACES: Final = {
    OURS: {
        "FastAPI plain": "fastapi_routes:plain:0",
        "FastAPI plain route beside tasks": "fastapi_routes:unused:0",
        "FastAPI BackgroundTasks": "fastapi_routes:own:1",
        BY_TASKS: "fastapi_routes:tasks:1",
        BY_CURRENT: "fastapi_routes:current:1",
        "FastAPI asgi-background": "asgi_background_routes:fastapi:1",
        "Starlette BackgroundTasks": "starlette_routes:own:1",
        "starlette_tasks after_response": "starlette_routes:tasks:1",
        "Litestar BackgroundTasks": "litestar_routes:own:1",
        "litestar_tasks after_response": "litestar_routes:tasks:1",
        "Quart add_background_task": "quart_routes:own:1",
    },
    TASKFLOW: {f"{MANAGED} add_task": "taskflow_routes:tasks:1"},
    PEER: {f"{EARLIER} after_response": "fastapi_routes:tasks:1"},
}

SLOW_PLACES: Final = {
    OURS: {
        "FastAPI BackgroundTasks": "fastapi_routes:slow_own",
        BY_TASKS: "fastapi_routes:slow_tasks",
    },
    TASKFLOW: {f"{MANAGED} add_task": "taskflow_routes:slow_tasks"},
    PEER: {f"{EARLIER} after_response": "fastapi_routes:slow_tasks"},
}

CASES: Final = {
    "idle, async route": ("", "/"),
    "idle, sync route": ("", "/sync"),
    "slow async tasks, async route": ("/slow/async", "/"),
    "slow async tasks, sync route": ("/slow/async", "/sync"),
    "slow sync tasks, async route": ("/slow/sync", "/"),
    "slow sync tasks, sync route": ("/slow/sync", "/sync"),
}
"""What runs in the background, and which route is asked meanwhile."""


def run(options: Options) -> Measured:
    """Measure in rounds, all servers up, one of them at work."""
    measured = Measured("see each row")
    wrk = shutil.which("wrk") is not None and not options.smoke
    if not wrk:
        measured.skipped["wrk"] = (
            "not in a smoke run"
            if options.smoke
            else "not installed: a client of ours in its place"
        )
    if LOOP != "uvloop":
        measured.skipped["uvloop"] = "not installed: asyncio's own loop in its place"
    rounds = 1 if options.smoke else max(3, options.rounds * 3 // 8)
    slow = 10 if options.smoke else 250
    rates = _servers(options, PLACES)
    latencies = _servers(options, SLOW_PLACES, f":{slow}")
    with (
        all_up(rates) as no_rates,
        all_up(latencies) as no_latencies,
        off_the_servers_core(),
    ):
        measured.skipped |= no_rates | no_latencies
        measured.seeds |= {name: server.seed for name, server in (rates | latencies).items()}
        work = {
            name: partial(_rate, server, tasks=_tasks(name), wrk=wrk, smoke=options.smoke)
            for name, server in rates.items()
            if name not in no_rates
        } | {
            f"{name}, {case}": partial(_latency, server, *asked, slow / 1000, smoke=options.smoke)
            for name, server in latencies.items()
            if name not in no_latencies
            for case, asked in CASES.items()
        }
        measured.processes.append(_in_rounds(work, rounds, options.seed))
    return measured


def _servers(
    options: Options, places: dict[str, dict[str, str]], number: str = ""
) -> dict[str, Server]:
    return {
        name: Server(application + number, interpreter, options.drawn_for("http", name, 0))
        for place, interpreter in options.interpreters().items()
        for name, application in places[place].items()
    }


def _tasks(name: str) -> int:
    return 0 if "plain" in name else 1


def _in_rounds(
    work: Mapping[str, Callable[[], dict[str, float]]], rounds: int, seed: int
) -> dict[str, list[float]]:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in work}
    order, drawn = list(work), Random(seed)  # noqa: S311 - no secret
    for _ in range(rounds):
        drawn.shuffle(order)
        for name in order:
            found[name].append(work[name]())
    return {
        f"{name}, {what}": [each[what] for each in all_]
        for name, all_ in found.items()
        for what in all_[0]
    }


def _rate(server: Server, *, tasks: int, wrk: bool, smoke: bool) -> dict[str, float]:
    before = server.state()
    if wrk:
        found = load_by_wrk(server.port, 1)
    else:
        found = asyncio.run(load_by_ourselves(server.port, 0.05 if smoke else 1))
    requests = found.pop(REQUESTS)
    server.wait_until_ended(before["ended"] + int(requests) * tasks)
    cpu = server.state()["cpu"] - before["cpu"]
    return found | {CPU: cpu / requests * 1e6}


def _latency(
    server: Server, slow: str, path: str, took_by_each: float, *, smoke: bool
) -> dict[str, float]:
    tasks = 5 if smoke else 200
    ended = server.state()["ended"]
    if slow:
        asyncio.run(ask_often(server.port, slow, tasks))
    # As long as slow tasks certainly run; of the sync ones 40 hold a thread at a time.
    seconds = 0.05 if smoke else tasks / 40 * took_by_each * 0.8
    took = asyncio.run(ask_by_timetable(server.port, path, seconds, every=0.004))
    if slow:
        server.wait_until_ended(ended + tasks)
    return percentiles(took)


def goals(measured: Measured) -> Iterator[Verdict]:
    """Judge goal 6."""
    for ours, framework, limit in (
        (BY_TASKS, "FastAPI", 0.84),
        (BY_CURRENT, "FastAPI", 0.90),
        ("starlette_tasks after_response", "Starlette", 0.88),
        ("litestar_tasks after_response", "Litestar", 0.85),
    ):
        own = f"{framework} BackgroundTasks"
        rate = measured.ratio(f"{ours}, {RATE}", f"{own}, {RATE}")
        cpu = measured.ratio(f"{own}, {CPU}", f"{ours}, {CPU}")
        if rate is not None and cpu is not None:
            goal = f"6 {ours}, requests a second"
            yield Verdict(goal, limit, rate.median, at_least=True)
            goal += ", by the server's CPU time"
            yield Verdict(goal, limit, cpu.median, cpu.of_minima, at_least=True)
    for case in CASES:
        idle = f"idle, {case.split(', ')[1]}"
        for name, remark in (
            (BY_TASKS, ""),
            ("FastAPI BackgroundTasks", " (FastAPI's own, to compare)"),
        ):
            ratio = measured.ratio(f"{name}, {case}, {P99}", f"{name}, {idle}, {P99}")
            if case != idle and ratio is not None:
                goal = f"6 p99 by idle, {case}{remark}"
                yield Verdict(goal, 1.1, ratio.median, ratio.of_minima)


def reference(variant: str) -> str:
    """Return what a variant is compared with in the table."""
    for case in CASES:
        if f", {case}, " in variant:
            return variant.replace(case, f"idle, {case.split(', ')[1]}")
    frameworks = (name for name in ("Starlette", "Litestar") if name.lower() in variant.lower())
    return f"{next(frameworks, 'FastAPI')} BackgroundTasks, {variant.rsplit(', ', 1)[1]}"
