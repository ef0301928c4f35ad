"""What FastAPI has of its own in an application's life: lifespans of routers, sub-applications."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi_tasks import (
    FastAPITasksUninitializedAppError,
    TaskConfig,
    Tasks,
    add_tasks,
    current_tasks,
)
from fastapi_tasks.testing import drain
from starlette.responses import PlainTextResponse, Response
from tasks_core import MountedSettingsError

from tests.asgi.pairs import in_pairs
from tests.asgi.watching import IN_ORDER, Watch
from tests.conformance.driver import serve

pytestmark = pytest.mark.anyio


class Log(list[str]):
    """What lifespans and tasks do, in order."""

    @asynccontextmanager
    async def live(self, app: Any) -> AsyncGenerator[None]:
        self.append("opened")
        yield
        self.append("closed")

    async def use(self) -> None:
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        self.append("used")

    async def wait(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self.append("cancelled")


@pytest.mark.parametrize("how", ["served", "by_hand"])
@pytest.mark.parametrize("order", ["tasks_first", "tasks_last"])
@pytest.mark.parametrize("of", ["application", "router", "router_in_router", "both"])
async def test_lifespans_of_applications_and_routers(how: str, order: str, of: str) -> None:
    """5.1, 5.6 Wherever a lifespan comes from, tasks end before it closes; by hand, too.

    By hand, that of a router which is included after `add_tasks` is the exception: FastAPI puts it
    inside of those that there were, so it closes first.
    """
    log = Log()
    app = FastAPI(lifespan=log.live if of in {"application", "both"} else None)
    router = APIRouter(lifespan=log.live if of != "application" else None)

    @router.get("/")
    async def route(tasks: Tasks) -> None:
        tasks.after_response.task(shield=True).schedule(log.use)
        tasks.schedule(log.wait)

    if order == "tasks_first":
        add_tasks(app)
    if of == "router_in_router":
        outer = APIRouter()
        outer.include_router(router)
        app.include_router(outer)
    else:
        app.include_router(router)
    if order == "tasks_last":
        add_tasks(app)
    if how == "served":
        async with serve(app) as server:
            assert (await server.request()).status == 200
    else:
        async with app.router.lifespan_context(app), serve(app, lifespan=False) as server:
            assert (await server.request()).status == 200
    times = 2 if of == "both" else 1
    included_later = how == "by_hand" and order == "tasks_first" and of != "application"
    if included_later:
        assert log.index("closed") < log.index("used")
        log.remove("closed")
        log.append("closed")
    assert log[:times] == ["opened"] * times
    assert sorted(log[times:-times]) == ["cancelled", "used"]
    assert log[-times:] == ["closed"] * times


@in_pairs(
    pytest.mark.parametrize("how", ["before", "start_up", "between"]),
    pytest.mark.parametrize("order", ["tasks_first", "tasks_last"]),
)
async def test_a_stack_that_is_built_again(how: str, order: str) -> None:
    """5.6 Tasks of an application whose middleware is built again work as before."""
    watch = Watch()

    @asynccontextmanager
    async def live(app: FastAPI) -> AsyncGenerator[None]:
        if how == "start_up":
            app.middleware_stack = None
        yield

    app = FastAPI(lifespan=live)
    if order == "tasks_first":
        add_tasks(app)
    if how == "before":
        app.build_middleware_stack()

    @app.get("/")
    async def route(tasks: Tasks) -> None:
        watch.schedule(tasks)

    if order == "tasks_last":
        add_tasks(app)
    async with serve(app) as server:
        for _ in range(2):
            watch.log.clear()
            assert await watch.request(server) == IN_ORDER
            if how == "between":
                app.middleware_stack = app.build_middleware_stack()


@pytest.mark.parametrize("by", ["tasks", "current_tasks"])
async def test_settings_of_a_mounted_application(by: str) -> None:
    """3.3 A sub-application's `config` is a layer, in its routes and its middleware."""
    configs: list[TaskConfig] = []
    inner, app = FastAPI(), FastAPI()

    @inner.middleware("http")
    async def note(request: Request, call_next: Any) -> Response:
        configs.append(current_tasks().schedule(len, "").config)
        response: Response = await call_next(request)
        return response

    @inner.get("/tasks")
    async def route(tasks: Tasks) -> None:
        assert tasks is current_tasks()
        configs.append(tasks.after_response.schedule(len, "").config)

    @inner.get("/current_tasks")
    def route_in_thread() -> None:
        configs.append(current_tasks().task(name="own").schedule(len, "").config)

    app.mount("/in", inner)
    add_tasks(app, config=TaskConfig(shield=True, name="outer"))
    add_tasks(inner, config=TaskConfig(name="inner"))
    async with serve(app) as server, drain():
        assert (await server.request(f"/in/{by}")).status == 200
    own = "inner" if by == "tasks" else "own"
    assert [config.name for config in configs] == ["inner", own]
    assert all(config.shield for config in configs)


async def test_settings_that_a_mounted_application_cannot_have() -> None:
    """3.3 They are refused when the application starts, though its lifespan is its own."""
    inner, app = FastAPI(), FastAPI()
    add_tasks(app)
    add_tasks(inner, grace_period=3.0)
    app.mount("/in", inner)
    with pytest.raises(MountedSettingsError, match=r"^grace_period cannot apply"):
        async with serve(app):
            raise AssertionError


@pytest.mark.parametrize("moment", ["STARTED", "ENDED"])
async def test_the_annotation_where_there_are_no_tasks(moment: str) -> None:
    """5.6 `Tasks` says what is so, as FastAPI's own name for the error, to a handler, too."""
    caught: list[Exception] = []
    app = FastAPI()
    add_tasks(app)

    @app.exception_handler(FastAPITasksUninitializedAppError)
    async def handle(request: Request, error: Exception) -> Response:
        caught.append(error)
        return PlainTextResponse("no tasks", 503)

    @app.get("/")
    async def route(tasks: Tasks) -> None:
        raise AssertionError

    if moment == "ENDED":
        async with serve(app):
            pass
    async with serve(app, lifespan=False) as server:
        assert (await server.request()).status == 503
    (error,) = caught
    assert isinstance(error, FastAPITasksUninitializedAppError)
    assert error.missing.name == moment
