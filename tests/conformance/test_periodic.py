"""Contract 10: what runs by the clock, in applications of each framework."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from traceback import format_exception

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from tasks_core import (
    Every,
    Periodic,
    Task,
    TaskConfig,
    TasksScheduler,
    current_tasks,
)

from tests.conformance.driver import serve
from tests.conformance.harness import Harness, Text, build
from tests.tasks_core.engine import Engine

pytestmark = pytest.mark.anyio


class Soon:
    """A trigger that gives some moments, each of them right after now."""

    def __init__(self, times: int = 1) -> None:
        self._left = times

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime, /
    ) -> datetime | None:
        self._left -= 1
        return now + timedelta(microseconds=1) if self._left >= 0 else None


async def test_they_run_while_the_application_does(harness: Harness) -> None:
    """10.1 They run once the start-up has completed, and end before the application closes."""
    log: list[str] = []
    running = anyio.Event()

    async def run() -> None:
        log.append("begins")
        running.set()
        try:
            await anyio.sleep_forever()
        finally:
            log.append("is cancelled")

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[None, None]:
        await wait_all_tasks_blocked()  # the moment has come
        log.append("opened")
        yield
        log.append("closed")

    async with serve(build(harness, lifespan=lifespan, periodic=[Periodic(run, Soon())])):
        await running.wait()
    assert log == ["opened", "begins", "is cancelled", "closed"]


async def test_each_run_is_a_task(harness: Harness) -> None:
    """10.1 With the application's settings below its own, and with `current_tasks`."""
    seen: list[Task] = []
    both = anyio.Event()

    async def child() -> None: ...

    async def run() -> None:
        seen.append(current_tasks().schedule(child))
        if len(seen) == 2:
            both.set()

    periodic = Periodic(run, Soon(1_000_000), TaskConfig(name="nightly", shield=False))
    config = TaskConfig(shield=True, run_on="always")
    async with serve(build(harness, config=config, periodic=[periodic])) as server:
        del server
        await both.wait()
    assert all(task.config == config for task in seen)


async def test_a_route_runs_it(harness: Harness) -> None:
    """10.7 And says when it runs next, and pauses it."""
    ran: list[str] = []
    lasts: list[Task | None] = []
    done = anyio.Event()

    async def run() -> None:
        ran.append(current_tasks().periodic["nightly"].name)
        done.set()

    async def route(tasks: TasksScheduler) -> Text:
        periodic = tasks.periodic["nightly"]
        periodic.paused = True
        lasts.append(periodic.last)
        task = periodic.run()
        lasts.extend((periodic.last, task))
        return Text(f"{task.name} {periodic.next_run_time:%H:%M:%S}")

    nightly = Periodic(run, Every(days=1), TaskConfig(name="nightly"))
    async with serve(build(harness, route, periodic=[nightly])) as server:
        exchange = await server.request()
        await done.wait()
    assert exchange.body == b"nightly 00:00:00"
    assert ran == ["nightly"]
    assert (lasts[0], lasts[1] is lasts[2]) == (None, True)


async def test_they_start_again_with_the_application(harness: Harness) -> None:
    """10.1 Each lifespan has its own clocks, and what has been by hand is not known to the next."""
    ran = anyio.Event()

    async def run() -> None:
        ran.set()

    lasts: list[Task | None] = []

    async def route(tasks: TasksScheduler) -> None:
        periodic = tasks.periodic["nightly"]
        lasts.append(periodic.last)
        periodic.run()

    nightly = Periodic(run, Every(days=1), TaskConfig(name="nightly"))
    app = build(harness, route, periodic=[nightly])
    for _ in range(2):
        ran = anyio.Event()
        async with serve(app) as server:
            await server.request()
            await ran.wait()
    assert lasts == [None, None]


async def test_two_of_one_name_are_refused(harness: Harness) -> None:
    """10.8 When the application is set up, not when it starts."""
    twice = [Periodic(lambda: None, Every(days=1), TaskConfig(name="nightly"))] * 2
    with pytest.raises(ValueError, match="two periodic tasks are called 'nightly'"):
        build(harness, periodic=twice)


async def test_what_an_engine_could_not_take_is_refused(harness: Harness) -> None:
    """10.8 The application does not start, and the error says which periodic task it is."""
    engine = Engine("sync")
    func = partial(engine.task(print), object())
    app = build(harness, carriers=[engine], periodic=[Periodic(func, Every(days=1))])
    with pytest.raises((TypeError, ExceptionGroup)) as raised:  # Litestar's is in a group
        async with serve(app):
            pass
    expected = "Periodic(print, ...) could never be handed over: engine cannot send object"
    assert expected in "".join(format_exception(raised.value))
