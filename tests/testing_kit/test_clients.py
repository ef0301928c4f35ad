"""`drain`, `inline` and `record` with the frameworks' own test clients, and with httpx's."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any, Literal, TypeAlias

import fastapi.testclient
import fastapi_tasks
import fastapi_tasks.testing
import httpx
import litestar_tasks
import litestar_tasks.testing
import pytest
import starlette.testclient
import starlette_tasks
import starlette_tasks.testing
import tasks_core.testing
from anyio import lowlevel
from fastapi import FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from litestar import Litestar, get, websocket
from litestar.connection import WebSocket as LitestarSocket
from litestar.exceptions import NotFoundException
from litestar.exceptions import WebSocketDisconnect as LitestarDisconnect
from litestar.response import Stream
from litestar.testing import AsyncTestClient
from litestar.testing import TestClient as LitestarClient
from starlette.applications import Starlette
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from tasks_core import TasksScheduler, TaskState
from tasks_core.testing import TasksBlock, drain, inline, lifespan, record

pytestmark = pytest.mark.anyio

# What the routes do; each framework calls them in its own way.

log: list[str] = []


@pytest.fixture(autouse=True)
def clear_log() -> None:
    log.clear()


async def note(what: str, *, n: int = 1) -> None:
    await lowlevel.checkpoint()
    log.append(what)


def note_in_thread(what: str) -> None:
    log.append(what)


def fail(what: str) -> None:
    raise ValueError(what)


def schedule(tasks: TasksScheduler) -> None:
    tasks.after_response.task(name="last", run_on="always").schedule(note, "last")
    tasks.after_route.schedule(note_in_thread, "after route")
    tasks.schedule(note, "immediate")


def schedule_failing(tasks: TasksScheduler) -> None:
    tasks.after_response.schedule(fail, "it failed")


def schedule_chain(tasks: TasksScheduler) -> None:
    async def go_on() -> None:
        log.append("first")
        tasks.schedule(note, "second")

    tasks.after_response.schedule(go_on)


async def stream(tasks: TasksScheduler) -> AsyncIterator[bytes]:
    yield b"one"
    tasks.after_route.schedule(note, "streaming")
    yield b"two"


async def chat(socket: Any, tasks: TasksScheduler, gone: type[Exception]) -> None:
    """Answer until the client has gone, and then await something, as who logs that does."""
    await socket.accept()
    tasks.after_response.schedule(note, "on success")
    tasks.after_response.task(run_on="always").schedule(note, "always")
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except gone:
        await lowlevel.checkpoint()
        log.append("gone")


# The applications.


def make_fastapi() -> FastAPI:
    app = FastAPI()
    fastapi_tasks.add_tasks(app)

    @app.get("/phases")
    async def phases(tasks: fastapi_tasks.Tasks) -> None:
        schedule(tasks)

    @app.get("/sync")
    def sync(tasks: fastapi_tasks.Tasks) -> None:
        schedule(tasks)

    @app.get("/refused")
    async def refused(tasks: fastapi_tasks.Tasks) -> None:
        schedule(tasks)
        raise HTTPException(404)

    @app.get("/broken")
    async def broken(tasks: fastapi_tasks.Tasks) -> None:
        schedule(tasks)
        raise ZeroDivisionError

    @app.get("/failing")
    async def failing(tasks: fastapi_tasks.Tasks) -> None:
        schedule_failing(tasks)

    @app.get("/chain")
    async def chain(tasks: fastapi_tasks.Tasks) -> None:
        schedule_chain(tasks)

    @app.get("/stream")
    async def streaming(tasks: fastapi_tasks.Tasks) -> StreamingResponse:
        return StreamingResponse(stream(tasks))

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, tasks: fastapi_tasks.Tasks) -> None:
        await websocket.accept()
        schedule(tasks)
        await websocket.send_text("scheduled")
        await websocket.close()

    @app.websocket("/chat")
    async def talk(websocket: WebSocket, tasks: fastapi_tasks.Tasks) -> None:
        await chat(websocket, tasks, WebSocketDisconnect)

    return app


def make_starlette() -> Starlette:
    def route(act: Callable[[TasksScheduler], object]) -> Any:
        async def endpoint(request: Request) -> Response:
            act(starlette_tasks.get_tasks(request))
            return PlainTextResponse("ok")

        return endpoint

    def sync(request: Request) -> Response:
        schedule(starlette_tasks.get_tasks(request))
        return PlainTextResponse("ok")

    def refuse(tasks: TasksScheduler) -> None:
        schedule(tasks)
        raise StarletteHTTPException(404)

    def break_down(tasks: TasksScheduler) -> None:
        schedule(tasks)
        raise ZeroDivisionError

    async def streaming(request: Request) -> Response:
        return StreamingResponse(stream(starlette_tasks.get_tasks(request)))

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        schedule(starlette_tasks.get_tasks(websocket))
        await websocket.send_text("scheduled")
        await websocket.close()

    async def talk(websocket: WebSocket) -> None:
        await chat(websocket, starlette_tasks.get_tasks(websocket), WebSocketDisconnect)

    app = Starlette(
        routes=[
            Route("/phases", route(schedule)),
            Route("/sync", sync),
            Route("/refused", route(refuse)),
            Route("/broken", route(break_down)),
            Route("/failing", route(schedule_failing)),
            Route("/chain", route(schedule_chain)),
            Route("/stream", streaming),
            WebSocketRoute("/socket", socket),
            WebSocketRoute("/chat", talk),
        ]
    )
    starlette_tasks.add_tasks(app)
    return app


def make_litestar() -> Litestar:
    @get("/phases")
    async def phases(tasks: litestar_tasks.Tasks) -> None:
        schedule(tasks)

    @get("/sync", sync_to_thread=True)
    def sync(tasks: litestar_tasks.Tasks) -> None:
        schedule(tasks)

    @get("/refused")
    async def refused(tasks: litestar_tasks.Tasks) -> None:
        schedule(tasks)
        raise NotFoundException

    @get("/broken")
    async def broken(tasks: litestar_tasks.Tasks) -> None:
        schedule(tasks)
        raise ZeroDivisionError

    @get("/failing")
    async def failing(tasks: litestar_tasks.Tasks) -> None:
        schedule_failing(tasks)

    @get("/chain")
    async def chain(tasks: litestar_tasks.Tasks) -> None:
        schedule_chain(tasks)

    @get("/stream")
    async def streaming(tasks: litestar_tasks.Tasks) -> Stream:
        return Stream(stream(tasks))

    @websocket("/socket")
    async def socket(socket: LitestarSocket[Any, Any, Any], tasks: litestar_tasks.Tasks) -> None:
        await socket.accept()
        schedule(tasks)
        await socket.send_text("scheduled")
        await socket.close()

    @websocket("/chat")
    async def talk(socket: LitestarSocket[Any, Any, Any], tasks: litestar_tasks.Tasks) -> None:
        await chat(socket, tasks, LitestarDisconnect)

    return Litestar(
        [phases, sync, refused, broken, failing, chain, streaming, socket, talk],
        plugins=[litestar_tasks.TasksPlugin()],
    )


async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


def make_wrapped() -> FastAPI:
    """Within a middleware that runs the application in a task of its own."""
    app = make_fastapi()
    app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    return app


# The clients: two that are used without awaiting, two with.

Backend: TypeAlias = Literal["asyncio", "trio"]


def fastapi_client(backend: Backend, *, raises: bool = True) -> Any:
    return fastapi.testclient.TestClient(
        make_fastapi(), backend=backend, raise_server_exceptions=raises
    )


def wrapped_client(backend: Backend, *, raises: bool = True) -> Any:
    return fastapi.testclient.TestClient(
        make_wrapped(), backend=backend, raise_server_exceptions=raises
    )


def starlette_client(backend: Backend, *, raises: bool = True) -> Any:
    return starlette.testclient.TestClient(
        make_starlette(), backend=backend, raise_server_exceptions=raises
    )


def litestar_client(backend: Backend, *, raises: bool = True) -> Any:
    return LitestarClient(make_litestar(), backend=backend, raise_server_exceptions=raises)


SYNC: dict[str, Callable[..., Any]] = {
    "fastapi": fastapi_client,
    "wrapped": wrapped_client,
    "starlette": starlette_client,
    "litestar": litestar_client,
}


@pytest.fixture(params=SYNC)
def make_client(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return SYNC[request.param]


@pytest.fixture
def client(make_client: Callable[..., Any], anyio_backend: Backend) -> Generator[Any]:
    with make_client(anyio_backend) as client:
        yield client


APPS: dict[str, Callable[[], Any]] = {
    "fastapi": make_fastapi,
    "wrapped": make_wrapped,
    "starlette": make_starlette,
    "litestar": make_litestar,
}


@asynccontextmanager
async def open_httpx(make: Callable[[], Any]) -> AsyncGenerator[httpx.AsyncClient]:
    async with lifespan(make()) as app:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


@asynccontextmanager
async def open_litestar() -> AsyncGenerator[httpx.AsyncClient]:
    async with AsyncTestClient(make_litestar(), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(params=[*APPS, "litestar's own"])
async def async_client(
    request: pytest.FixtureRequest, anyio_backend: Backend
) -> AsyncGenerator[httpx.AsyncClient]:
    own = request.param not in APPS
    async with open_litestar() if own else open_httpx(APPS[request.param]) as client:
        yield client


ALL = ["after route", "immediate", "last"]
each_route = pytest.mark.parametrize("path", ["/phases", "/sync"])


class TestWith:
    """Clients that are used without awaiting."""

    @each_route
    def test_drain(self, client: Any, path: str) -> None:
        """Leaving the block has waited for tasks of all phases."""
        with drain() as block:
            client.get(path)
        assert sorted(log) == ALL
        assert len(block.tasks) == 3

    @each_route
    def test_inline(self, client: Any, path: str) -> None:
        """When the request returns its tasks have ended, the phases in order."""
        with inline():
            for _ in range(2):
                log.clear()
                assert client.get(path).is_success
                assert sorted(log) == ALL
                assert log[-1] == "last"

    @each_route
    def test_record(self, client: Any, path: str) -> None:
        """Nothing runs, and what would have is recorded with its arguments and settings."""
        with record() as recorded:
            assert client.get(path).is_success
        recorded.assert_scheduled(note, what="immediate")
        recorded.after_route.assert_scheduled(note_in_thread, "after route")
        task = recorded.after_response.task(name="last").assert_scheduled(note, "last", n=1)
        assert task.state is TaskState.SKIPPED
        assert log == []

    def test_nothing_is_left_behind(self, client: Any) -> None:
        """After a block tasks run as ever."""
        with record() as recorded:
            pass
        with drain():
            client.get("/phases")
        assert len(log) == 3
        recorded.assert_nothing_scheduled()

    @pytest.mark.parametrize("make", [drain, inline])
    def test_failing_tasks(self, client: Any, make: Callable[..., Any]) -> None:
        """The request succeeds; leaving the block raises what its task raised."""
        with pytest.raises(ValueError, match="it failed"), make():
            log.append(client.get("/failing").reason_phrase)
        assert log == ["OK"]
        with make(raise_errors=False) as block:
            client.get("/failing")
        assert block.tasks[0].state is TaskState.FAILED

    def test_requests_that_fail(self, client: Any) -> None:
        """What the outcome of a request keeps from running is not recorded, and does not run."""
        with record() as recorded:
            assert client.get("/refused").status_code == 404
        assert [task.name for task in recorded.tasks] == ["note", "last"]
        with inline():
            client.get("/refused")
        assert log == ["immediate", "last"]

    @pytest.mark.parametrize("make", [drain, inline])
    def test_applications_that_break(
        self, make_client: Callable[..., Any], anyio_backend: Backend, make: Callable[..., Any]
    ) -> None:
        """An error of the application is the client's affair, and no task's."""
        with make_client(anyio_backend, raises=False) as client, make():
            assert client.get("/broken").status_code == 500
        assert sorted(log) == ["immediate", "last"]

    @pytest.mark.parametrize("make", [drain, inline])
    def test_tasks_that_schedule_tasks(self, client: Any, make: Callable[..., Any]) -> None:
        """What a task schedules is waited for too."""
        with make():
            client.get("/chain")
        assert log == ["first", "second"]

    def test_streams(self, client: Any) -> None:
        """What the body of a response schedules belongs to the block."""
        with inline():
            assert client.get("/stream").text == "onetwo"
            assert log == ["streaming"]
        with record() as recorded:
            client.get("/stream")
        recorded.after_route.assert_scheduled(note, "streaming")

    def test_websockets(self, client: Any) -> None:
        """A WebSocket's tasks are waited for, and recorded, like a request's."""
        with drain(), client.websocket_connect("/socket") as socket:
            assert socket.receive_text() == "scheduled"
        assert sorted(log) == ALL
        log.clear()
        with inline(), client.websocket_connect("/socket") as socket:
            socket.receive_text()
        assert sorted(log) == ALL
        with record() as recorded, client.websocket_connect("/socket") as socket:
            socket.receive_text()
        assert [str(task.phase) for task in recorded.tasks] == [
            "immediate",
            "after_route",
            "after_response",
        ]

    def test_a_websocket_whose_client_leaves(self, client: Any) -> None:
        """Within `inline` its tasks have ended then, though Starlette's client cancels it."""
        if isinstance(client, LitestarClient):
            pytest.skip("Litestar's client waits for no WebSocket's end")
        with inline():
            with client.websocket_connect("/chat") as socket:
                socket.send_text("hello")
                assert socket.receive_text() == "hello"
            assert "always" in log

    def test_a_websocket_that_awaits_after_its_client_has_left(self, client: Any) -> None:
        """It has succeeded, as on a server, though Starlette's client cancels it."""
        with drain(), client.websocket_connect("/chat") as socket:
            socket.send_text("hello")
            assert socket.receive_text() == "hello"
        assert "on success" in log


class TestAsyncWith:
    """Clients that are awaited: httpx's on the test's own event loop, Litestar's on another."""

    @each_route
    async def test_drain(self, async_client: httpx.AsyncClient, path: str) -> None:
        """Leaving the block has waited for tasks of all phases."""
        async with drain() as block:
            await async_client.get(path)
        assert sorted(log) == ALL
        assert len(block.tasks) == 3

    @each_route
    async def test_inline(self, async_client: httpx.AsyncClient, path: str) -> None:
        """When the request returns its tasks have ended, the phases in order."""
        async with inline():
            for _ in range(2):
                log.clear()
                assert (await async_client.get(path)).is_success
                assert sorted(log) == ALL
                assert log[-1] == "last"

    @each_route
    async def test_record(self, async_client: httpx.AsyncClient, path: str) -> None:
        """Nothing runs, and what would have is recorded with its arguments and settings."""
        async with record() as recorded:
            assert (await async_client.get(path)).is_success
        recorded.assert_scheduled(note, what="immediate")
        recorded.after_route.assert_scheduled(note_in_thread, "after route")
        task = recorded.after_response.task(name="last").assert_scheduled(note, "last", n=1)
        assert task.state is TaskState.SKIPPED
        assert log == []

    @pytest.mark.parametrize("make", [drain, inline])
    async def test_failing_tasks(
        self, async_client: httpx.AsyncClient, make: Callable[..., TasksBlock]
    ) -> None:
        """The request succeeds; leaving the block raises what its task raised."""

        async def test() -> None:
            async with make():
                assert (await async_client.get("/failing")).is_success
                log.append("answered")

        with pytest.raises(ValueError, match="it failed"):
            await test()
        assert log == ["answered"]
        async with make(raise_errors=False) as block:
            await async_client.get("/failing")
        assert block.tasks[0].state is TaskState.FAILED

    async def test_requests_that_fail(self, async_client: httpx.AsyncClient) -> None:
        """What the outcome of a request keeps from running is not recorded, and does not run."""
        async with record() as recorded:
            assert (await async_client.get("/refused")).status_code == 404
        assert [task.name for task in recorded.tasks] == ["note", "last"]
        async with inline():
            await async_client.get("/refused")
        assert log == ["immediate", "last"]

    @pytest.mark.parametrize("make", [drain, inline])
    async def test_applications_that_break(
        self, async_client: httpx.AsyncClient, make: Callable[..., TasksBlock]
    ) -> None:
        """An error of the application is the client's affair, and no task's."""
        async with make():
            assert (await async_client.get("/broken")).status_code == 500
        assert sorted(log) == ["immediate", "last"]

    @pytest.mark.parametrize("make", [drain, inline])
    async def test_tasks_that_schedule_tasks(
        self, async_client: httpx.AsyncClient, make: Callable[..., TasksBlock]
    ) -> None:
        """What a task schedules is waited for too."""
        async with make():
            await async_client.get("/chain")
        assert log == ["first", "second"]

    async def test_streams(self, async_client: httpx.AsyncClient) -> None:
        """What the body of a response schedules belongs to the block."""
        async with inline():
            assert (await async_client.get("/stream")).text == "onetwo"
            assert log == ["streaming"]
        async with record() as recorded:
            await async_client.get("/stream")
        recorded.after_route.assert_scheduled(note, "streaming")

    async def test_a_client_with_a_thread(self, async_client: httpx.AsyncClient) -> None:
        """One block has the tasks of two applications, on the test's own loop and on another."""
        with SYNC["fastapi"]("asyncio") as client:
            async with drain() as block:
                client.get("/phases")
                await async_client.get("/phases")
            assert sorted(log) == sorted(ALL * 2)
            with inline() as block:
                client.get("/phases")
                assert len(block.tasks) == 3
                assert len(log) == 9


@pytest.mark.parametrize(
    "module",
    [fastapi_tasks.testing, starlette_tasks.testing, litestar_tasks.testing],
    ids=["fastapi", "starlette", "litestar"],
)
def test_each_package_has_the_kit(module: ModuleType) -> None:
    """Users import the kit from the package of their framework."""
    names: list[str] = tasks_core.testing.__all__
    assert module.__all__ == names
    assert all(getattr(module, name) is getattr(tasks_core.testing, name) for name in names)
