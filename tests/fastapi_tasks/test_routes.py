"""`Tasks` in every kind of FastAPI's routes, and beside what else FastAPI does with a response."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from fastapi import (
    APIRouter,
    BackgroundTasks,
    FastAPI,
    HTTPException,
    Request,
    Response,
    WebSocket,
    WebSocketException,
    routing,
)
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.routing import APIRoute
from fastapi_tasks import Task, Tasks, TasksScheduler, TaskState, add_tasks, current_tasks
from starlette.middleware.base import BaseHTTPMiddleware

from tests.asgi.watching import FAILURE, IN_ORDER, SUCCESS, Outcome, Watch
from tests.conformance.cases import finish
from tests.conformance.driver import serve

pytestmark = pytest.mark.anyio


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    add_tasks(app)
    return app


@pytest.fixture
def watch() -> Watch:
    return Watch()


def router(watch: Watch, prefix: str = "") -> APIRouter:
    router = APIRouter(prefix=prefix)

    @router.get("/async")
    async def async_route(tasks: Tasks) -> dict[str, str]:
        watch.schedule(tasks)
        return {}

    @router.post("/sync", status_code=201)
    def sync_route(tasks: Tasks) -> dict[str, str]:
        watch.schedule(tasks)
        return {}

    return router


each_route = pytest.mark.parametrize(("path", "method"), [("/async", "GET"), ("/sync", "POST")])


@each_route
async def test_routes_of_the_application(
    app: FastAPI, watch: Watch, path: str, method: str
) -> None:
    """1.1 to 1.3: Annotations may be strings, as in this module; phases come as promised."""
    app.include_router(router(watch))
    async with serve(app) as server:
        assert await watch.request(server, path, method) == IN_ORDER


@each_route
async def test_included_routers(app: FastAPI, watch: Watch, path: str, method: str) -> None:
    """1.8 A router that a router includes gets its tasks."""
    outer = APIRouter(prefix="/outer")
    outer.include_router(router(watch, "/inner"))
    app.include_router(outer)
    async with serve(app) as server:
        assert await watch.request(server, f"/outer/inner{path}", method) == IN_ORDER


@pytest.mark.parametrize("added_twice", [False, True], ids=["parent", "parent_and_child"])
@each_route
async def test_mounted_applications(
    app: FastAPI, watch: Watch, path: str, method: str, *, added_twice: bool
) -> None:
    """1.8 `add_tasks` on the parent serves its sub-applications, also those that have their own."""
    inner = FastAPI()
    if added_twice:
        add_tasks(inner)
    inner.include_router(router(watch))
    app.mount("/mounted", inner)
    async with serve(app) as server:
        assert await watch.request(server, f"/mounted{path}", method) == IN_ORDER


async def test_a_route_class_of_ones_own(app: FastAPI, watch: Watch) -> None:
    """1.8 A route class that surrounds the route changes nothing."""

    class Surrounding(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Any]:
            handler = super().get_route_handler()

            async def surround(request: Request) -> Response:
                assert isinstance(current_tasks(), TasksScheduler)
                return await handler(request)

            return surround

    own = APIRouter(route_class=Surrounding)
    own.include_router(router(watch))
    app.include_router(own)
    async with serve(app) as server:
        assert await watch.request(server, "/async") == IN_ORDER


async def test_background_tasks_of_the_same_response(app: FastAPI, watch: Watch) -> None:
    """1.3 FastAPI's `BackgroundTasks` belong to the response: they have run by "after response"."""

    @app.get("/")
    async def route(background: BackgroundTasks, tasks: Tasks) -> None:
        background.add_task(watch.log.append, "background")
        watch.schedule(tasks)

    async with serve(app) as server:
        log = await watch.request(server)
    assert log == ["immediate", "after_route", "start", "sent", "background", "after_response"]


async def test_background_tasks_schedule(app: FastAPI) -> None:
    """1.5 What a function of `BackgroundTasks` schedules is not lost."""
    made: list[Task] = []

    @app.get("/")
    async def route(background: BackgroundTasks, tasks: Tasks) -> None:
        def schedule() -> None:
            made.extend(
                batch.schedule(len, "") for batch in (tasks.after_route, tasks.after_response)
            )

        background.add_task(schedule)

    async with serve(app) as server:
        await server.request()
        await finish(made)
    assert [task.state for task in made] == [TaskState.SUCCEEDED] * 2


async def pass_on(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    return await call_next(request)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("added_last", [False, True], ids=["tasks_first", "tasks_last"])
async def test_middleware_of_the_awkward_kind(
    outcome: Outcome, times: int, *, added_last: bool
) -> None:
    """1.6 Below any number of `BaseHTTPMiddleware`, an `HTTPException` is a failure."""
    app = surrounded(times, added_last=added_last)

    @app.get("/")
    async def route(tasks: Tasks) -> None:
        outcome.schedule(tasks)
        raise HTTPException(418)

    async with serve(app) as server:
        assert (await server.request()).status == 418
        assert await outcome.seen() == FAILURE


@pytest.mark.parametrize("times", [1, 3])
async def test_phases_below_middleware_of_the_awkward_kind(watch: Watch, times: int) -> None:
    """1.3 Below any number of `BaseHTTPMiddleware`, phases come as promised."""
    app = surrounded(times, added_last=False)

    @app.get("/")
    async def route(tasks: Tasks) -> None:
        watch.schedule(tasks)

    async with serve(app) as server:
        assert await watch.request(server) == IN_ORDER


def surrounded(times: int, *, added_last: bool) -> FastAPI:
    app = FastAPI()
    if not added_last:
        add_tasks(app)
    for _ in range(times):
        app.middleware("http")(pass_on)
        app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    if added_last:
        add_tasks(app)

    return app


async def test_validation_of_the_response(app: FastAPI, outcome: Outcome) -> None:
    """1.6 A route whose result is not of the declared type has failed."""

    @app.get("/", response_model=int)
    async def route(tasks: Tasks) -> str:
        outcome.schedule(tasks)
        return "no number"

    async with serve(app) as server:
        assert (await server.request()).error is not None
        assert await outcome.seen() == FAILURE


@pytest.mark.parametrize("key", [418, HTTPException, Exception])
async def test_exception_handlers(app: FastAPI, outcome: Outcome, key: Any) -> None:
    """1.6 A request fails whichever of the application's exception handlers answers it."""

    async def answer(request: Request, error: Exception) -> Response:
        return JSONResponse("answered", status_code=200)

    app.exception_handler(key)(answer)

    @app.get("/")
    async def route(tasks: Tasks) -> None:
        outcome.schedule(tasks)
        raise ValueError if key is Exception else HTTPException(418)

    async with serve(app) as server:
        assert (await server.request()).body == b'"answered"'
        assert await outcome.seen() == FAILURE


async def test_a_returned_error_response(app: FastAPI, outcome: Outcome) -> None:
    """1.6 An error that the route returns, or sets as its status, is a success."""

    @app.get("/")
    async def route(tasks: Tasks, response: Response) -> None:
        outcome.schedule(tasks)
        response.status_code = 500

    async with serve(app) as server:
        assert (await server.request()).status == 500
        assert await outcome.seen() == SUCCESS


@pytest.mark.parametrize("accepts", [True, False], ids=["accepted", "not_accepted"])
async def test_websocket_exceptions(app: FastAPI, outcome: Outcome, *, accepts: bool) -> None:
    """1.6 A WebSocket route that raises `WebSocketException` has failed."""

    @app.websocket("/")
    async def route(websocket: WebSocket, tasks: Tasks) -> None:
        outcome.schedule(tasks)
        if accepts:
            await websocket.accept()
        raise WebSocketException(1008)

    async with serve(app) as server:
        async with server.websocket():
            pass
        assert await outcome.seen() == FAILURE


@pytest.mark.parametrize("sync", [False, True], ids=["async_chunks", "sync_chunks"])
async def test_streaming_responses(app: FastAPI, watch: Watch, *, sync: bool) -> None:
    """1.8 A stream schedules: it runs between the response's start and its end."""
    made: list[Task] = []

    @app.get("/")
    async def route(tasks: Tasks) -> StreamingResponse:
        def chunks() -> Iterator[bytes]:
            for number in range(3):
                made.append(tasks.after_route.schedule(len, "four"))
                yield str(number).encode()
            watch.log.append("streamed")

        async def async_chunks() -> AsyncIterator[bytes]:
            for chunk in chunks():
                yield chunk

        watch.schedule(tasks)
        return StreamingResponse(chunks() if sync else async_chunks())

    async with serve(app) as server:
        log = await watch.request(server)
        await finish(made)
    assert log == ["immediate", "after_route", "start", "streamed", "sent", "after_response"]
    assert [task.result for task in made] == [4, 4, 4]


def streams_generators() -> bool:
    """Whether this version of FastAPI does; it has no name for that."""
    return "generator endpoint" in (inspect.getsource(routing)).lower()


@pytest.mark.skipif(
    not streams_generators(), reason="this version of FastAPI streams no generators"
)
@pytest.mark.parametrize("events", [False, True], ids=["json_lines", "server_sent_events"])
@pytest.mark.parametrize("sync", [False, True], ids=["async_generator", "sync_generator"])
async def test_generator_routes(app: FastAPI, watch: Watch, *, sync: bool, events: bool) -> None:
    """1.5 A route that is a generator schedules while it streams, and nothing vanishes."""
    options: dict[str, Any] = {}
    if events:
        options = {"response_class": pytest.importorskip("fastapi.sse").EventSourceResponse}
    made: list[Task] = []

    def numbers(tasks: Tasks) -> Iterator[int]:
        made.append(tasks.after_route.schedule(len, "four"))
        made.append(tasks.after_response.schedule(watch.log.append, "after_response"))
        yield 1
        yield 2

    async def async_numbers(tasks: Tasks) -> AsyncIterator[int]:
        for number in numbers(tasks):
            yield number

    app.get("/", **options)(numbers if sync else async_numbers)
    async with serve(app) as server:
        exchange = await server.request()
        await finish(made)
    assert re.findall(rb"\d", exchange.body) == [b"1", b"2"]
    assert [task.state for task in made] == [TaskState.SUCCEEDED] * 2
    assert made[0].result == 4


async def test_lifespan_of_the_application(watch: Watch) -> None:
    """5.1 The application's own lifespan and its state work as before, and it may schedule."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[dict[str, str]]:
        await current_tasks().schedule(watch.log.append, "start-up").wait()
        yield {"pool": "a pool"}
        watch.log.append("closed")

    app = FastAPI(lifespan=lifespan)
    add_tasks(app)

    @app.get("/")
    async def route(request: Request, tasks: Tasks) -> Response:
        tasks.after_response.task(shield=True).schedule(watch.log.append, request.state.pool)
        return PlainTextResponse(request.state.pool)

    async with serve(app) as server:
        assert (await server.request()).body == b"a pool"
    assert watch.log == ["start-up", "a pool", "closed"]


async def test_nothing_in_the_schema(app: FastAPI, watch: Watch) -> None:
    """`Tasks` is no parameter of the API: its schema is the same without it."""
    plain = FastAPI()

    @plain.get("/async")
    async def async_route() -> dict[str, str]:
        return {}

    @plain.post("/sync", status_code=201)
    def sync_route() -> dict[str, str]:
        return {}

    app.include_router(router(watch))
    assert app.openapi() == plain.openapi()
