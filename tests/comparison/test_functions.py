"""What may be scheduled, from where, and in which context it runs."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any, cast

import anyio
import pytest
from aiojobs import Scheduler
from anyio import from_thread, to_thread
from anyio.to_thread import current_default_thread_limiter
from fastapi import BackgroundTasks, Depends, FastAPI
from fastapi_tasks import Tasks, add_tasks
from litestar import Litestar, Response, get
from litestar.background_tasks import BackgroundTask
from taskiq import InMemoryBroker
from tasks_core.carriers.taskiq import TaskiqCarrier

from tests.comparison.ways import AsyncIOScheduler, Stage, TaskManager, Way, each
from tests.conformance.driver import GUARD, serve

pytestmark = pytest.mark.anyio


@each(ours=0, background_tasks=1)
async def test_sync_functions(way: Way, fact: int) -> None:
    """A sync task runs, with a thread of the 40 that sync routes share, or with none of them."""
    began, release, ended = anyio.Event(), threading.Event(), anyio.Event()

    def work() -> None:
        from_thread.run_sync(began.set)
        release.wait(GUARD)
        from_thread.run_sync(ended.set)

    async with serve(way(Stage(work))) as server, anyio.create_task_group() as group:
        group.start_soon(server.request)
        await began.wait()
        assert current_default_thread_limiter().total_tokens == 40
        assert current_default_thread_limiter().borrowed_tokens == fact
        release.set()
        await ended.wait()


async def test_sync_functions_of_routes() -> None:
    """These 40 are the threads of FastAPI's and Starlette's sync routes."""
    borrowed: list[float] = []

    def look() -> None:
        borrowed.append(current_default_thread_limiter().borrowed_tokens)

    app = FastAPI()

    @app.get("/")
    def route() -> None:
        from_thread.run_sync(look)

    async with serve(app) as server:
        await server.request()
    assert borrowed == [1]


async def test_sync_functions_litestar() -> None:
    """Litestar's run in the threads of its sync handlers, which are the event loop's own."""
    threads: list[str] = []

    def work() -> None:
        threads.append(threading.current_thread().name)

    @get("/", sync_to_thread=True)
    def route() -> Response[None]:
        work()
        return Response(None, background=BackgroundTask(work))

    app: Any = Litestar([route], openapi_config=None)
    async with serve(app) as server:
        await server.request()
    of_loop = await asyncio.get_running_loop().run_in_executor(None, threading.current_thread)
    prefix = of_loop.name.rpartition("_")[0]
    assert [name.rpartition("_")[0] for name in threads] == [prefix, prefix]


@each(taskflow="taskflow-thread", apscheduler="asyncio")
async def test_sync_functions_in_threads(way: Way, fact: str) -> None:
    """They run in threads of the manager's own, or in those of the event loop."""
    ran = threading.Event()
    threads: list[str] = []

    def work() -> None:
        threads.append(threading.current_thread().name)
        ran.set()

    async with serve(way(Stage(work))) as server:
        await server.request()
        await to_thread.run_sync(ran.wait, GUARD)
    assert [name.partition("_")[0] for name in threads] == [fact]


@each(aiojobs=TypeError, create_task=TypeError)
async def test_sync_functions_refused(way: Way, fact: type[Exception]) -> None:
    """A sync function is no coroutine."""
    async with serve(way(Stage(lambda: None))) as server:
        exchange = await server.request()
    assert isinstance(exchange.error, fact)


@pytest.mark.parametrize("way", ["ours", "background_tasks"])
async def test_sync_routes(way: str) -> None:
    """A sync route, in its thread, schedules as an async one does."""
    ran = anyio.Event()

    async def work() -> None:
        ran.set()

    app = FastAPI()
    add_tasks(app)

    @app.get("/")
    def route(tasks: Tasks, background: BackgroundTasks) -> None:
        if way == "ours":
            tasks.after_response.schedule(work)
        else:
            background.add_task(work)

    async with serve(app) as server:
        await server.request()
        await ran.wait()


async def test_sync_routes_carried() -> None:
    """With a carrier it hands over as an async one does."""
    ran = anyio.Event()
    broker = InMemoryBroker()

    @broker.task
    async def work() -> None:
        ran.set()

    app = FastAPI()
    add_tasks(app, carriers=[TaskiqCarrier(broker)])

    @app.get("/")
    def route(tasks: Tasks) -> None:
        tasks.schedule(work)

    async with serve(app) as server:
        await server.request()
        await ran.wait()


async def test_sync_routes_litestar() -> None:
    """So does a sync handler of Litestar: it returns a response that has the task."""
    ran = anyio.Event()

    async def work() -> None:
        ran.set()

    @get("/", sync_to_thread=True)
    def route() -> Response[None]:
        return Response(None, background=BackgroundTask(work))

    app: Any = Litestar([route], openapi_config=None)
    async with serve(app) as server:
        await server.request()
        await ran.wait()


async def test_sync_routes_aiojobs() -> None:
    """`spawn` has to be awaited, which a sync route cannot."""
    assert inspect.iscoroutinefunction(Scheduler.spawn)


async def test_sync_routes_taskflow() -> None:
    """They have the manager's tasks like async ones."""
    ran = anyio.Event()
    manager = TaskManager()

    async def work() -> None:
        ran.set()

    app = FastAPI()
    tasks = Depends(manager.get_tasks)

    @app.get("/")
    def route(background: Any = tasks) -> None:
        background.add_task(work)

    async with serve(app) as server:
        await server.request()
        await ran.wait()


async def test_sync_routes_apscheduler() -> None:
    """A scheduler takes jobs from any thread."""
    ran = anyio.Event()
    scheduler = AsyncIOScheduler()

    async def work() -> None:
        ran.set()

    app = FastAPI()

    @app.get("/")
    def route() -> None:
        scheduler.add_job(work)

    scheduler.start()
    try:
        async with serve(app) as server:
            await server.request()
            await ran.wait()
    finally:
        scheduler.shutdown()


async def test_sync_routes_create_task() -> None:
    """There is no event loop in a sync route's thread."""
    app = FastAPI()

    @app.get("/")
    def route() -> None:
        work = asyncio.sleep(0)
        try:
            asyncio.create_task(work)  # noqa: RUF006 - it raises
        finally:
            work.close()

    async with serve(app) as server:
        exchange = await server.request()
    assert isinstance(exchange.error, RuntimeError)
    assert str(exchange.error) == "no running event loop"


variable = ContextVar("variable", default="unset")


@each(
    ours=["route", "route"],
    background_tasks=["later", "task"],
    litestar=["later", "task"],
    aiojobs=["route", "route"],
    create_task=["route", "route"],
    taskflow=["route", "route"],
    apscheduler=["route", "route"],
)
async def test_context(way: Way, fact: list[str]) -> None:
    """Two tasks see what was set when they were scheduled; or what is there when they begin."""
    seen: list[str] = []
    both = anyio.Event()

    async def work() -> None:
        seen.append(variable.get())
        variable.set("task")
        if len(seen) == 2:
            both.set()

    async def route() -> None:
        variable.set("later")

    class Setting(Stage):
        async def dependency(self) -> AsyncGenerator[None, None]:
            variable.set("route")  # the route's context, since the dependency is async
            yield

    async with serve(way(Setting(work, work, route=route))) as server:
        await server.request()
        await both.wait()
    assert seen == fact


@pytest.mark.parametrize(
    ("way", "fact"),
    [
        pytest.param("ours", "route", id="ours"),
        pytest.param("background_tasks", "unset", id="background_tasks"),
    ],
)
async def test_context_of_a_sync_route(way: str, fact: str) -> None:
    """What a sync route has set arrives in the task, or stays in the route's thread."""
    seen: list[str] = []
    ran = anyio.Event()

    async def work() -> None:
        seen.append(variable.get())
        ran.set()

    app = FastAPI()
    add_tasks(app)

    @app.get("/")
    def route(tasks: Tasks, background: BackgroundTasks) -> None:
        variable.set("route")
        if way == "ours":
            tasks.after_response.schedule(work)
        else:
            background.add_task(work)

    async with serve(app) as server:
        await server.request()
        await ran.wait()
    assert seen == [fact]


async def takes_one(number: int) -> None:
    pass


# The comments say what the type checkers find; each would complain of a needless one.


async def schedule(tasks: Tasks, scheduler: Scheduler) -> None:
    tasks.schedule(takes_one, 1, 2)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]


async def spawn(tasks: Tasks, scheduler: Scheduler) -> None:
    coroutine = takes_one(1, 2)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue, reportUnknownVariableType]
    await scheduler.spawn(coroutine)  # pyright: ignore[reportUnknownArgumentType]


async def create(tasks: Tasks, scheduler: Scheduler) -> None:
    coroutine = takes_one(1, 2)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue, reportUnknownVariableType]
    await asyncio.create_task(coroutine)  # pyright: ignore[reportUnknownArgumentType]


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(schedule, id="ours"),
        pytest.param(spawn, id="aiojobs"),
        pytest.param(create, id="create_task"),
    ],
)
async def test_arguments(act: Callable[[Tasks, Scheduler], Awaitable[None]]) -> None:
    """A wrong argument is a type error, and a `TypeError` in the route: a 500."""
    async with Scheduler() as scheduler:
        app = FastAPI()
        add_tasks(app)

        @app.get("/")
        async def route(tasks: Tasks) -> None:
            await act(tasks, scheduler)

        async with serve(app) as server:
            exchange = await server.request()
    assert exchange.status == 500
    assert isinstance(exchange.error, TypeError)


async def test_arguments_carried() -> None:
    """With a carrier it is the same, also for what the engine could not send."""
    broker = InMemoryBroker()
    sent = broker.task(takes_one)
    app = FastAPI()
    add_tasks(app, carriers=[TaskiqCarrier(broker)])

    @app.get("/")
    async def route(tasks: Tasks) -> None:
        with pytest.raises(TypeError, match="cannot send these arguments"):
            tasks.schedule(sent, cast("int", object()))
        tasks.schedule(sent, 1, 2)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]

    async with serve(app) as server:
        exchange = await server.request()
    assert exchange.status == 500
    assert isinstance(exchange.error, TypeError)


async def test_arguments_background_tasks() -> None:
    """It is a type error, and a `TypeError` after the response, with a 200."""
    app = FastAPI()

    @app.get("/")
    async def route(background: BackgroundTasks) -> None:
        background.add_task(takes_one, 1, 2)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]

    async with serve(app) as server:
        exchange = await server.request()
    assert exchange.status == 200
    assert isinstance(exchange.error, TypeError)


async def test_arguments_taskflow() -> None:
    """It is no type error, and fails in the background, with a 200; the manager has the text."""
    manager = TaskManager()
    app = FastAPI()
    tasks = Depends(manager.get_tasks)

    @app.get("/")
    async def route(background: Any = tasks) -> None:
        background.add_task(takes_one, 1, 2)

    async with serve(app) as server:
        exchange = await server.request()
    assert exchange.status == 200
    assert exchange.error is None
    (record,) = manager.store.list()
    assert "takes 1 positional argument" in str(record.error)


async def test_arguments_apscheduler() -> None:
    """It is no type error, and a `ValueError` in the route: a 500."""
    scheduler = AsyncIOScheduler()
    app = FastAPI()

    @app.get("/")
    async def route() -> None:
        scheduler.add_job(takes_one, args=(1, 2))

    async with serve(app) as server:
        exchange = await server.request()
    assert exchange.status == 500
    assert isinstance(exchange.error, ValueError)


async def test_arguments_litestar() -> None:
    """It is a type error, and a `TypeError` after the response, with a 200."""

    @get("/")
    async def route() -> Response[None]:
        return Response(
            None,
            background=BackgroundTask(takes_one, 1, 2),  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
        )

    app: Any = Litestar([route], openapi_config=None)
    async with serve(app) as server:
        exchange = await server.request()
    assert exchange.status == 200
    assert exchange.error is not None
    assert isinstance(exchange.error.__cause__, TypeError)
