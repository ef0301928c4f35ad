"""What a shutdown does to tasks that run, and what the end of the process leaves of them."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx
import pytest
import uvicorn
from aiojobs import Scheduler
from fastapi import FastAPI
from fastapi_tasks import TaskConfig, Tasks, add_tasks
from taskiq import BrokerMessage, InMemoryBroker

from tests.comparison.ways import Stage, Way, aiojobs, carried, each, nothing, ours
from tests.conformance.driver import GUARD, serve


class Running:
    """A task that runs until it is released or cancelled, and notes which."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.began = anyio.Event()
        self.release = anyio.Event()

    async def __call__(self) -> None:
        self.began.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.stage.note("task cancelled")
            raise
        self.stage.note("task ended")


def running_on(stage: Stage) -> Running:
    running = Running(stage)

    async def work() -> None:
        await running()

    stage.functions = [work]
    return running


@each(
    ours=["task cancelled", "resources closed"],
    create_task=["resources closed", "task cancelled"],
    apscheduler=["resources closed", "task cancelled"],
)
def test_shutdown(way: Way, fact: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """A task that runs is cancelled, before or after the lifespan has closed its resources."""
    stage = Stage()

    async def main() -> None:
        running = running_on(stage)
        async with serve(way(stage)) as server:
            await server.request()
            await running.began.wait()

    asyncio.run(main())
    assert [what for what in stage.log if what in fact] == fact
    if way is ours:
        (record,) = caplog.records
        assert "Shutdown left unfinished" in record.getMessage()
        assert "work" in record.getMessage()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"config": TaskConfig(shield=True)}, id="shield"),
        pytest.param({"grace_period": 60}, id="grace_period"),
    ],
)
async def test_shutdown_ours_waits(settings: Any) -> None:
    """Ours waits for what is shielded, and for the grace period, before resources are closed."""
    stage = Stage()
    running = running_on(stage)
    app = FastAPI(lifespan=stage.lifespan)
    add_tasks(app, **settings)

    @app.get("/")
    async def route(tasks: Tasks) -> None:
        for function in stage.functions:
            tasks.schedule(function)

    await stop_while(app, running)
    assert stage.log == ["task ended", "resources closed"]


async def stop_while(app: Any, running: Running) -> None:
    """Shut an application down, and release its task once nothing else moves any more."""
    async with anyio.create_task_group() as group, serve(app) as server:
        await server.request()
        await running.began.wait()
        group.start_soon(server.stop)
        await anyio.wait_all_tasks_blocked()
        running.release.set()


@pytest.mark.anyio
async def test_shutdown_carried() -> None:
    """With a carrier, what was scheduled is handed over before resources are closed."""
    stage = Stage(nothing)
    running = Running(stage)

    class Slow(InMemoryBroker):
        async def kick(self, message: BrokerMessage) -> None:
            await running()

    await stop_while(carried(stage, Slow()), running)
    assert stage.log[1:] == ["task ended", "resources closed"]


@pytest.mark.anyio
async def test_shutdown_aiojobs() -> None:
    """An aiojobs scheduler that the lifespan leaves waits for its jobs."""
    stage = Stage()
    await stop_while(aiojobs(stage), running_on(stage))
    assert stage.log[1:] == ["task ended", "resources closed"]


@pytest.mark.anyio
async def test_shutdown_aiojobs_in_time() -> None:
    """It waits 60 s unless told otherwise, then it cancels them."""
    assert inspect.signature(Scheduler).parameters["wait_timeout"].default == 60
    stage = Stage()
    running = running_on(stage)
    async with serve(aiojobs(stage, wait_timeout=0)) as server:
        await server.request()
        await running.began.wait()
    assert stage.log[1:] == ["task cancelled", "resources closed"]


class OnRecord(logging.Handler):
    """Calls a function for a record whose message begins in a certain way."""

    def __init__(self, beginning: str, call: Callable[[], object]) -> None:
        super().__init__()
        self._beginning = beginning
        self._call = call

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith(self._beginning):
            self._call()


@each(background_tasks=[], litestar=["dependency closed"], taskflow=[])
def test_shutdown_of_a_server(way: Way, fact: list[str]) -> None:
    """The task is part of its request: uvicorn waits for it, before it ends the lifespan."""
    stage = Stage()
    logger = logging.getLogger("uvicorn.error")

    async def main() -> None:
        running = running_on(stage)
        waiting = OnRecord("Waiting for background tasks", running.release.set)
        logger.addHandler(waiting)
        try:
            await serve_with_uvicorn(way(stage), running.began.wait)
        finally:
            logger.removeHandler(waiting)

    asyncio.run(main())
    log = ["task ended", "dependency closed", "resources closed"]
    assert stage.log == fact + [what for what in log if what not in fact]


async def serve_with_uvicorn(app: Any, until: Callable[[], Awaitable[object]]) -> None:
    """Serve one request with uvicorn, wait for something, and tell the server to stop."""
    started = asyncio.Event()
    logger = logging.getLogger("uvicorn.error")
    running = OnRecord("Uvicorn running", started.set)
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="on", log_config=None))
    logger.addHandler(running)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        async with asyncio.timeout(GUARD), asyncio.TaskGroup() as group:
            group.create_task(server.serve())
            await started.wait()
            port = server.servers[0].sockets[0].getsockname()[1]
            async with httpx.AsyncClient(trust_env=False) as client:
                await client.get(f"http://127.0.0.1:{port}/")
            await until()
            server.should_exit = True
    finally:
        logger.removeHandler(running)
        logger.setLevel(level)


@each(
    ours=1,
    carried=1,
    background_tasks=1,
    litestar=1,
    aiojobs=1,
    create_task=1,
    taskflow=1,
    apscheduler=1,
)
def test_process_dies(way: Way, fact: int) -> None:
    """The event loop is gone while a task runs: the next start of the application knows of none."""
    began = 0

    async def work() -> None:
        nonlocal began
        began += 1
        running.set()
        await anyio.sleep_forever()

    async def die() -> None:
        async with anyio.create_task_group() as group:
            server = await group.start(start)
            group.start_soon(server.request)
            await running.wait()
            group.cancel_scope.cancel()

    async def start(*, task_status: anyio.abc.TaskStatus[Any]) -> None:
        async with serve(way(Stage(work))) as server:
            task_status.started(server)
            await anyio.sleep_forever()

    async def start_again() -> None:
        async with serve(way(Stage(work))):
            await anyio.wait_all_tasks_blocked()

    running = anyio.Event()
    asyncio.run(die())
    asyncio.run(start_again())
    assert began == fact
