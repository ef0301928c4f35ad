"""Which endpoints of Starlette get their tasks, and how."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from threading import Event
from typing import Any, Literal, TypeAlias

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.exceptions import HTTPException, WebSocketException
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Host, Mount, Route, Router, WebSocketRoute
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from starlette_tasks import Phase, TasksScheduler, add_tasks, current_tasks, get_tasks
from starlette_tasks.testing import drain

from tests.asgi.watching import FAILURE, IN_ORDER, SUCCESS, Outcome, Watch
from tests.conformance.driver import GUARD, serve

pytestmark = pytest.mark.anyio


def with_tasks(*routes: BaseRoute, **options: Any) -> Starlette:
    app = Starlette(routes=routes, **options)
    add_tasks(app)
    return app


@pytest.fixture
def watch() -> Watch:
    return Watch()


def function(watch: Watch) -> Any:
    async def endpoint(request: Request) -> Response:
        watch.schedule(get_tasks(request))
        return PlainTextResponse("ok")

    return endpoint


def sync_function(watch: Watch) -> Any:
    def endpoint(request: Request) -> Response:
        watch.schedule(get_tasks(request))
        return PlainTextResponse("ok")

    return endpoint


def asgi_class(watch: Watch) -> Any:
    class Endpoint:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            watch.schedule(get_tasks(HTTPConnection(scope)))
            await PlainTextResponse("ok")(scope, receive, send)

    return Endpoint()


def endpoint_class(watch: Watch) -> Any:
    class Endpoint(HTTPEndpoint):
        async def get(self, request: Request) -> Response:
            watch.schedule(get_tasks(request))
            return PlainTextResponse("ok")

    return Endpoint


def sync_endpoint_class(watch: Watch) -> Any:
    class Endpoint(HTTPEndpoint):
        def get(self, request: Request) -> Response:
            watch.schedule(get_tasks(request))
            return PlainTextResponse("ok")

    return Endpoint


def streaming(watch: Watch) -> Any:
    async def endpoint(request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"one"
            yield b"two"

        watch.schedule(get_tasks(request))
        return StreamingResponse(chunks())

    return endpoint


each_endpoint = pytest.mark.parametrize(
    "kind", [function, sync_function, asgi_class, endpoint_class, sync_endpoint_class, streaming]
)


@each_endpoint
async def test_endpoints(watch: Watch, kind: Callable[[Watch], Any]) -> None:
    """1.8 Functions and classes, async and sync, get the request's tasks."""
    async with serve(with_tasks(Route("/", kind(watch)))) as server:
        assert await watch.request(server) == IN_ORDER


@each_endpoint
@pytest.mark.parametrize("inner", [Router, Starlette, with_tasks], ids=lambda kind: kind.__name__)
async def test_mounts(watch: Watch, kind: Callable[[Watch], Any], inner: Any) -> None:
    """1.8 What is mounted is served by the outer application's tasks, also if it has its own."""
    routes = [Route("/", kind(watch))]
    mounted = with_tasks(*routes) if inner is with_tasks else inner(routes=routes)
    app = with_tasks(Mount("/outer", routes=[Mount("/inner", app=mounted)]))
    async with serve(app) as server:
        assert await watch.request(server, "/outer/inner/") == IN_ORDER


async def test_hosts(watch: Watch) -> None:
    """1.8 Routes of a host get the request's tasks."""
    inner = Router([Route("/", function(watch))])
    async with serve(with_tasks(Host("testserver", app=inner))) as server:
        assert await watch.request(server) == IN_ORDER


async def test_all_of_a_request_shares_a_scheduler() -> None:
    """`get_tasks` gives the same scheduler for every connection of one scope."""
    got: list[TasksScheduler] = []

    async def endpoint(request: Request) -> Response:
        again = HTTPConnection(request.scope)
        got.extend((get_tasks(request), get_tasks(again), current_tasks()))
        return PlainTextResponse("ok")

    async with serve(with_tasks(Route("/", endpoint))) as server:
        await server.request()
    assert len(got) == 3
    assert all(tasks is got[0] for tasks in got)


async def test_background_task_on_the_same_response() -> None:
    """1.3 Starlette's background task belongs to the response: it has run by "after response"."""
    watch = Watch()

    async def endpoint(request: Request) -> Response:
        watch.schedule(get_tasks(request))
        return PlainTextResponse("ok", background=BackgroundTask(watch.log.append, "background"))

    async with serve(with_tasks(Route("/", endpoint))) as server:
        await watch.request(server)
    assert watch.log == [
        "immediate",
        "after_route",
        "start",
        "sent",
        "background",
        "after_response",
    ]


@pytest.mark.parametrize("phase", [Phase.IMMEDIATE, Phase.AFTER_ROUTE, Phase.AFTER_RESPONSE])
@pytest.mark.parametrize("way", ["response", "tasks"])
async def test_a_task_in_the_place_of_a_background_task(phase: Phase, way: str) -> None:
    """4.4 It was scheduled, so calling it would run it twice: an error that says so."""
    ran: list[str] = []

    async def endpoint(request: Request) -> Response:
        tasks = get_tasks(request)
        phases = (tasks.task(), tasks.after_route, tasks.after_response)
        (there,) = [one for one in phases if one.phase is phase]
        task: Any = there.task(run_on="always").schedule(ran.append, "ran")
        several = BackgroundTasks()
        several.add_task(task)
        return PlainTextResponse("ok", background=task if way == "response" else several)

    async with serve(with_tasks(Route("/", endpoint))) as server, drain():
        exchange = await server.request()
    assert ran == ["ran"]
    assert exchange.status == 200
    assert isinstance(exchange.error, RuntimeError)
    assert "as a response's background=... does: it was scheduled" in str(exchange.error)


async def test_background_task_that_fails() -> None:
    """1.6 When Starlette's own background task fails, so does the request, after its route."""
    outcome = Outcome()

    async def fail() -> None:
        raise ValueError

    async def endpoint(request: Request) -> Response:
        outcome.schedule(get_tasks(request))
        return PlainTextResponse("ok", background=BackgroundTask(fail))

    async with serve(with_tasks(Route("/", endpoint))) as server:
        exchange = await server.request()
        assert exchange.status == 200
        assert isinstance(exchange.error, ValueError)
        assert await outcome.seen() == ["success", "failure"]


@pytest.mark.parametrize("key", [404, HTTPException, LookupError, Exception])
async def test_exception_handlers(key: Any) -> None:
    """1.6 A request is a failure whichever of Starlette's exception handlers answers it."""
    outcome = Outcome()

    async def answer(request: Request, error: Exception) -> Response:
        return PlainTextResponse("answered", status_code=200)

    async def endpoint(request: Request) -> Response:
        outcome.schedule(get_tasks(request))
        raise HTTPException(404) if key in {404, HTTPException} else LookupError

    app = with_tasks(Route("/", endpoint), exception_handlers={key: answer})
    async with serve(app) as server:
        assert (await server.request()).body == b"answered"
        assert await outcome.seen() == FAILURE


@pytest.mark.parametrize("encoding", ["text", "json"])
async def test_websocket_endpoint_class(watch: Watch, encoding: Literal["text", "json"]) -> None:
    """1.8 In a class for WebSockets every method gets the connection's tasks."""
    log: list[str] = []

    class Endpoint(WebSocketEndpoint):
        async def on_connect(self, websocket: WebSocket) -> None:
            watch.schedule(get_tasks(websocket))
            await websocket.accept()

        async def on_receive(self, websocket: WebSocket, data: Any) -> None:
            await get_tasks(websocket).schedule(log.append, str(data)).wait()
            await websocket.send_text("done")

        async def on_disconnect(self, websocket: WebSocket, close_code: int) -> None:
            await get_tasks(websocket).schedule(log.append, str(close_code)).wait()
            log.extend(watch.log)

    Endpoint.encoding = encoding
    async with serve(with_tasks(WebSocketRoute("/", Endpoint))) as server:
        async with server.websocket() as client:
            assert (await client.receive())["type"] == "websocket.accept"
            client.send('"word"')
            assert (await client.receive())["text"] == "done"
            client.leave(1000)
        assert await watch.ended() == ["immediate", "after_route", "after_response"]
    assert log == ['"word"' if encoding == "text" else "word", "1000", "immediate"]


Ending: TypeAlias = Callable[[WebSocket], Awaitable[object]]


def refuse(error: Exception) -> Ending:
    async def end(_: WebSocket) -> None:
        raise error

    return end


async def hear_out(websocket: WebSocket) -> None:
    """Receive until the client leaves: one that was not accepted leaves when it is refused."""
    if websocket.application_state is WebSocketState.CONNECTING:
        raise WebSocketDisconnect
    await websocket.receive_text()


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        (WebSocket.close, SUCCESS),
        (hear_out, SUCCESS),
        (refuse(WebSocketException(1008)), FAILURE),
        (refuse(HTTPException(403)), FAILURE),
        (refuse(ValueError()), FAILURE),
    ],
    ids=["closed", "client_leaves", "websocket_exception", "http_exception", "unhandled"],
)
@pytest.mark.parametrize("accepts", [True, False], ids=["accepted", "not_accepted"])
async def test_how_websockets_end(ending: Ending, expected: list[str], *, accepts: bool) -> None:
    """1.6, 1.7: A WebSocket's route fails by what it raises, but not when the client leaves."""
    outcome = Outcome()

    async def endpoint(websocket: WebSocket) -> None:
        outcome.schedule(get_tasks(websocket))
        if accepts:
            await websocket.accept()
        else:
            await websocket.receive()
        await ending(websocket)

    async with serve(with_tasks(WebSocketRoute("/", endpoint))) as server:
        async with server.websocket() as client:
            if accepts:
                assert (await client.receive())["type"] == "websocket.accept"
                client.leave()
        assert await outcome.seen() == expected


def test_websocket_with_the_test_client(anyio_backend: Literal["asyncio", "trio"]) -> None:
    """A WebSocket of Starlette's test client gets its tasks, on both event loops."""
    done = Event()

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        get_tasks(websocket).after_response.schedule(done.set)
        await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    app = with_tasks(WebSocketRoute("/", endpoint))
    with TestClient(app, backend=anyio_backend) as client:
        with client.websocket_connect("/") as socket:
            socket.send_text("word")
            assert socket.receive_text() == "word"
        assert done.wait(GUARD)


async def test_tasks_of_a_mounted_application_with_a_lifespan() -> None:
    """5.1 The runner is the outer application's: Starlette runs no lifespan of a mounted one."""
    log: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        log.append("never")
        yield

    async def endpoint(request: Request) -> Response:
        await get_tasks(request).schedule(log.append, "task").wait()
        return PlainTextResponse("ok")

    inner = with_tasks(Route("/", endpoint), lifespan=lifespan)
    async with serve(with_tasks(Mount("/inner", app=inner))) as server:
        assert (await server.request("/inner/")).status == 200
    assert log == ["task"]
