"""When a task begins."""

from __future__ import annotations

import threading
from collections.abc import Callable

import anyio
import pytest
from anyio import from_thread, to_thread
from anyio.lowlevel import checkpoint
from fastapi import BackgroundTasks, Depends, FastAPI
from fastapi_tasks import TaskConfig, Tasks, add_tasks
from tasks_core.asgi import ASGIApp
from tasks_core.carriers.taskiq import TaskiqCarrier

from tests.comparison.ways import (
    NotingBroker,
    QueueConfig,
    Stage,
    TaskManager,
    Way,
    aiojobs,
    apscheduler,
    background_tasks,
    create_task,
    each,
    litestar,
    managed,
    ours,
    taskflow,
)
from tests.conformance.driver import GUARD, serve

pytestmark = pytest.mark.anyio


async def turns() -> None:
    """Give the event loop some turns, as a route does that waits for a database."""
    for _ in range(5):
        await checkpoint()


async def begins_and_ends(stage: Stage, way: Callable[[Stage], ASGIApp]) -> list[str]:
    """Serve one request whose route schedules a task; return what happened, in order."""
    ended = anyio.Event()

    async def work() -> None:
        stage.note("task")
        ended.set()

    stage.functions = [work]
    async with serve(way(stage)) as server:
        await server.request(on_message=stage.on_message)
        await ended.wait()
        return stage.log.copy()


@each(
    ours=["start", "body", "dependency closed", "task"],
    carried=["start", "body", "dependency closed", "handed over", "task"],
    background_tasks=["start", "body", "task", "dependency closed"],
    litestar=["dependency closed", "start", "body", "task"],
    aiojobs=["start", "body", "dependency closed", "task"],
    create_task=["start", "body", "dependency closed", "task"],
    taskflow=["start", "body", "task", "dependency closed"],
    apscheduler=["start", "body", "dependency closed", "task"],
)
async def test_begins(way: Way, fact: list[str]) -> None:
    """A route that never awaits has scheduled a task: it begins after the response's last byte."""
    assert await begins_and_ends(Stage(), way) == fact


@pytest.mark.parametrize("way", [aiojobs, create_task, apscheduler])
async def test_begins_when_the_route_awaits(way: Way) -> None:
    """It begins at the next `await` of the route that suspends, if there is one."""

    async def route() -> None:
        stage.note("route")
        await turns()

    stage = Stage(route=route)
    assert await begins_and_ends(stage, way) == [
        "route", "task", "start", "body", "dependency closed"
    ]  # fmt: skip


async def test_begins_taskflow_eager() -> None:
    """With `eager` fastapi-taskflow begins there, too."""

    async def route() -> None:
        stage.note("route")
        await turns()

    stage = Stage(route=route)
    manager = TaskManager()

    def of_manager(stage: Stage) -> ASGIApp:
        stage.functions = [manager.task(eager=True)(function) for function in stage.functions]
        return managed(stage, manager)

    log = await begins_and_ends(stage, of_manager)
    assert log == ["route", "task", "start", "body", "dependency closed"]


async def test_begins_ours_in_the_phase_that_was_chosen() -> None:
    """Ours begins before the response's first message, or when the request is over."""
    ended = anyio.Event()
    stage = Stage()
    app = FastAPI()
    add_tasks(app)

    async def work(phase: str) -> None:
        stage.note(phase)
        if phase == "after response":
            ended.set()

    @app.get("/", dependencies=[Depends(stage.dependency)])
    async def route(tasks: Tasks) -> None:
        tasks.after_response.schedule(work, "after response")
        tasks.after_route.schedule(work, "after route")
        tasks.schedule(work, "at once")

    async with serve(app) as server:
        await server.request(on_message=stage.on_message)
        await ended.wait()
    assert stage.log == [
        "at once", "after route", "start", "body", "dependency closed", "after response"
    ]  # fmt: skip


async def test_begins_carried_once_the_engine_has_it() -> None:
    """With a carrier, a task is handed over before the response where that is to wait for it."""
    stage = Stage()
    broker = NotingBroker(stage)
    app = FastAPI()
    add_tasks(app, carriers=[TaskiqCarrier(broker)])

    @app.get("/")
    async def route(tasks: Tasks) -> None:
        stage.note("route")
        tasks.after_route.task(confirm=True).schedule(broker.task(turns))

    async with serve(app) as server:
        await server.request(on_message=stage.on_message)
    assert stage.log == ["route", "handed over", "start", "body"]


@each(
    ours=True,
    carried=True,
    background_tasks=False,
    litestar=True,
    aiojobs=False,
    create_task=False,
    taskflow=False,
    apscheduler=False,
)
async def test_commit(way: Way, fact: object) -> None:
    """A task sees what a dependency commits at its end, if it begins after that."""
    stage = Stage(route=turns)
    log = await begins_and_ends(stage, way)
    assert (log.index("dependency closed") < log.index("task")) is fact


async def test_commit_of_a_dependency_of_the_function() -> None:
    """With FastAPI's `scope="function"` a dependency ends before the response, and its tasks."""
    stage = Stage()
    app = FastAPI()

    @app.get("/", dependencies=[Depends(stage.dependency, scope="function")])
    async def route(background: BackgroundTasks) -> None:
        background.add_task(stage.note, "task")

    async with serve(app) as server:
        await server.request(on_message=stage.on_message)
    assert stage.log == ["dependency closed", "start", "body", "task"]


@each(
    ours=["first", "second", "second ends", "first ends"],
    background_tasks=["first", "first ends", "second", "second ends"],
    litestar=["first", "first ends", "second", "second ends"],
    aiojobs=["first", "second", "second ends", "first ends"],
    create_task=["first", "second", "second ends", "first ends"],
    taskflow=["first", "first ends", "second", "second ends"],
    apscheduler=["first", "second", "second ends", "first ends"],
)
async def test_at_a_time(way: Way, fact: list[str]) -> None:
    """The tasks of a request run one after another, or side by side."""
    second_ended, both_ended = anyio.Event(), anyio.Event()

    async def first() -> None:
        stage.note("first")
        if side_by_side:
            await second_ended.wait()
        stage.note("first ends")
        both_ended.set()

    async def second() -> None:
        stage.note("second")
        await checkpoint()
        stage.note("second ends")
        second_ended.set()

    side_by_side = fact[1] == "second"
    stage = Stage(first, second)
    async with serve(way(stage)) as server:
        await server.request()
        await second_ended.wait()
        await both_ended.wait()
        assert [what for what in stage.log if what in fact] == fact


@each(ours=101, aiojobs=100, create_task=101, apscheduler=101)
async def test_at_a_time_of_many(way: Way, fact: int) -> None:
    """Of 101 tasks 100 run in an aiojobs scheduler as it is, and all with the others."""
    running, most = 0, 0
    release, ended = anyio.Event(), anyio.Event()

    async def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await release.wait()
        running -= 1
        if not running:
            ended.set()

    async with serve(way(Stage(*[work] * 101))) as server:
        await server.request()
        await anyio.wait_all_tasks_blocked()
        release.set()
        await ended.wait()
    assert most == fact


async def test_at_a_time_in_queues_of_taskflow() -> None:
    """In a queue of fastapi-taskflow as many run as it allows."""
    running = 0
    release = anyio.Event()

    async def work() -> None:
        nonlocal running
        running += 1
        await release.wait()

    manager = TaskManager(queues={"default": QueueConfig(concurrency=2)})
    async with serve(managed(Stage(work, work, work), manager)) as server:
        await server.request()
        await anyio.wait_all_tasks_blocked()
        assert running == 2
        release.set()


async def test_at_a_time_with_a_limit() -> None:
    """Of ten tasks of five requests three run, in ours with that limit, sync or async."""
    running: list[str] = []
    release, three = threading.Event(), anyio.Event()

    def note(kind: str) -> None:
        running.append(kind)
        if len(running) == 3:
            three.set()

    async def work() -> None:
        note("async")
        await to_thread.run_sync(release.wait, GUARD)

    def work_in_thread() -> None:
        from_thread.run_sync(note, "sync")
        release.wait(GUARD)

    app = FastAPI()
    add_tasks(app, config=TaskConfig(key="all", limit=3, shield=True))

    @app.get("/")
    async def route(tasks: Tasks) -> None:
        tasks.schedule(work)
        tasks.schedule(work_in_thread)

    async with serve(app) as server:
        for _ in range(5):
            await server.request()
        await three.wait()
        await anyio.wait_all_tasks_blocked()
        assert sorted(running) == ["async", "async", "sync"]
        release.set()
    assert len(running) == 10


async def test_at_a_time_of_sync_functions() -> None:
    """Of 41 sync functions 40 run, in ours as it is."""
    running, most = 0, 0
    release, all_run, ended = threading.Event(), anyio.Event(), anyio.Event()

    def count(change: int) -> None:
        nonlocal running, most
        running += change
        most = max(most, running)
        if running == 40:
            all_run.set()
        elif not running:
            ended.set()

    def work() -> None:
        from_thread.run_sync(count, 1)
        release.wait(GUARD)
        from_thread.run_sync(count, -1)

    async with serve(ours(Stage(*[work] * 41))) as server:
        await server.request()
        await all_run.wait()
        await anyio.wait_all_tasks_blocked()
        assert most == 40
        release.set()
        await ended.wait()


@pytest.mark.parametrize("way", [background_tasks, litestar, taskflow])
async def test_at_a_time_in_requests(way: Way) -> None:
    """Nothing limits how many requests run their tasks at the same time."""
    running = 0
    all_run, release = anyio.Event(), anyio.Event()

    async def work() -> None:
        nonlocal running
        running += 1
        if running == 50:
            all_run.set()
        await release.wait()

    async with serve(way(Stage(work))) as server, anyio.create_task_group() as requests:
        for _ in range(50):
            requests.start_soon(server.request)
        await all_run.wait()
        release.set()
