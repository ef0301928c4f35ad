"""One application, made in eight ways to do something in the background.

Its route schedules functions as users of that way do, and then ends as the test says. A dependency
and the lifespan note when they close.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any, Final, TypeAlias, cast

import pytest
from aiojobs import Scheduler
from fastapi import BackgroundTasks, Depends, FastAPI, Request
from fastapi_tasks import Tasks, add_tasks
from litestar import Litestar, Response, get
from litestar.background_tasks import BackgroundTask
from litestar.background_tasks import BackgroundTasks as LitestarBackgroundTasks
from litestar.di import NamedDependency, Provide
from taskiq import BrokerMessage, InMemoryBroker
from tasks_core.asgi import ASGIApp, Message
from tasks_core.carriers.taskiq import TaskiqCarrier

# Both have no types that are complete: what is theirs is `Any`.
AsyncIOScheduler: Final[Any] = import_module("apscheduler.schedulers.asyncio").AsyncIOScheduler
QueueConfig: Final[Any] = import_module("fastapi_taskflow").QueueConfig
TaskManager: Final[Any] = import_module("fastapi_taskflow").TaskManager

Function: TypeAlias = Callable[[], Any]


async def nothing() -> None:
    pass


class Stage:
    """What the application does, and what was seen of it.

    Args:
        functions: What the route schedules.
        route: What it does then.
    """

    def __init__(
        self, *functions: Function, route: Callable[[], Awaitable[object]] = nothing
    ) -> None:
        self.functions: Sequence[Function] = functions
        self.route = route
        self.log: list[str] = []

    def note(self, what: str) -> None:
        self.log.append(what)

    def on_message(self, message: Message) -> None:
        """Note a message of the response, for the driver."""
        self.log.append(message["type"].rpartition(".")[2])

    async def dependency(self) -> AsyncGenerator[None, None]:
        """Commit at the end, for instance."""
        yield
        self.log.append("dependency closed")

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncGenerator[None, None]:
        """Close a pool of connections at the end, for instance."""
        yield
        self.log.append("resources closed")


def ours(stage: Stage) -> ASGIApp:
    app = FastAPI(lifespan=stage.lifespan)
    add_tasks(app)

    @app.get("/", dependencies=[Depends(stage.dependency)])
    async def route(tasks: Tasks) -> None:
        for function in stage.functions:
            tasks.after_response.schedule(function)
        await stage.route()

    return app


def carried(stage: Stage, broker: InMemoryBroker | None = None) -> ASGIApp:
    """Return the same with a carrier, whose engine works in this process."""
    broker = broker or NotingBroker(stage)
    app = starting(stage, broker)
    add_tasks(app, carriers=[TaskiqCarrier(broker)])

    @app.get("/", dependencies=[Depends(stage.dependency)])
    async def route(tasks: Tasks) -> None:
        for function in stage.functions:
            tasks.after_response.schedule(broker.task(function))
        await stage.route()

    return app


class NotingBroker(InMemoryBroker):
    """Notes what is handed over to it."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self._stage = stage

    async def kick(self, message: BrokerMessage) -> None:
        self._stage.note("handed over")
        await super().kick(message)


def background_tasks(stage: Stage) -> ASGIApp:
    app = FastAPI(lifespan=stage.lifespan)

    @app.get("/", dependencies=[Depends(stage.dependency)])
    async def route(background: BackgroundTasks) -> None:
        for function in stage.functions:
            background.add_task(function)
        await stage.route()

    return app


def litestar(stage: Stage, *, run_in_task_group: bool = False) -> ASGIApp:
    @get("/", dependencies={"resource": Provide(stage.dependency)})
    async def route(resource: NamedDependency[None]) -> Response[None]:
        background = LitestarBackgroundTasks(
            [BackgroundTask(function) for function in stage.functions], run_in_task_group
        )
        await stage.route()
        return Response(None, background=background)

    return cast("ASGIApp", Litestar([route], lifespan=[stage.lifespan], openapi_config=None))


def aiojobs(stage: Stage, **settings: Any) -> ASGIApp:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[dict[str, object], None]:
        async with stage.lifespan(app), Scheduler(**settings) as scheduler:
            yield {"scheduler": scheduler}

    app = FastAPI(lifespan=lifespan)

    @app.get("/", dependencies=[Depends(stage.dependency)])
    async def route(request: Request) -> None:
        for function in stage.functions:
            await request.state.scheduler.spawn(function())
        await stage.route()

    return app


def create_task(stage: Stage) -> ASGIApp:
    app = FastAPI(lifespan=stage.lifespan)
    running = set[asyncio.Task[Any]]()

    @app.get("/", dependencies=[Depends(stage.dependency)])
    async def route() -> None:
        for function in stage.functions:
            task = asyncio.create_task(function())
            running.add(task)
            task.add_done_callback(running.discard)
        await stage.route()

    return app


def apscheduler(stage: Stage) -> ASGIApp:
    return scheduled(stage, AsyncIOScheduler())


def scheduled(stage: Stage, scheduler: Any) -> ASGIApp:
    """Return the application of a scheduler that is known."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        async with stage.lifespan(app):
            scheduler.start()
            yield
            scheduler.shutdown()

    app = FastAPI(lifespan=lifespan)

    @app.get("/", dependencies=[Depends(stage.dependency)])
    async def route() -> None:
        for function in stage.functions:
            scheduler.add_job(function)
        await stage.route()

    return app


def taskflow(stage: Stage) -> ASGIApp:
    return managed(stage, TaskManager())


def managed(stage: Stage, manager: Any) -> ASGIApp:
    """Return the application of a manager that is known."""
    app = starting(stage, manager)
    tasks = Depends(manager.get_tasks)

    @app.get("/", dependencies=[Depends(stage.dependency)])
    async def route(background: Any = tasks) -> None:
        for function in stage.functions:
            background.add_task(function)
        await stage.route()

    return app


def starting(stage: Stage, service: Any) -> FastAPI:
    """Return an application that starts and shuts down what its tasks need, within its lifespan."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        async with stage.lifespan(app):
            await service.startup()
            yield
            await service.shutdown()

    return FastAPI(lifespan=lifespan)


Way: TypeAlias = Callable[[Stage], ASGIApp]

WAYS: Final[dict[str, Way]] = {
    way.__name__: way
    for way in (
        ours,
        carried,
        background_tasks,
        litestar,
        taskflow,
        aiojobs,
        create_task,
        apscheduler,
    )
}


def each(**facts: object) -> pytest.MarkDecorator:
    """Call a test with each way and what is true of it; the way's name is in the test's id."""
    return pytest.mark.parametrize(
        ("way", "fact"), [pytest.param(WAYS[name], fact, id=name) for name, fact in facts.items()]
    )
