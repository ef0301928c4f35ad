"""How every kind of Litestar's handlers and dependencies gets its tasks."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from typing import Any, Literal

import pytest
from litestar import Controller, Litestar, Request, Response, Router, get, post, websocket
from litestar import WebSocket as LitestarWebSocket
from litestar.background_tasks import BackgroundTask, BackgroundTasks
from litestar.di import NamedDependency, Provide
from litestar.exceptions import HTTPException, WebSocketDisconnect
from litestar.handlers import (
    WebsocketListener,
    websocket_listener,
    websocket_stream,  # pyright: ignore[reportUnknownVariableType]
)
from litestar.middleware import ASGIMiddleware
from litestar.params import FromQuery
from litestar.response import Stream
from litestar.testing import AsyncTestClient, TestClient
from litestar.types import ASGIApp, Receive, Scope, Send
from litestar_tasks import Tasks, TasksPlugin, TasksScheduler, current_tasks
from litestar_tasks.testing import drain

from tests.asgi.watching import FAILURE, IN_ORDER, SUCCESS, Outcome, Watch
from tests.conformance.driver import Server, serve

pytestmark = pytest.mark.anyio

WebSocket = LitestarWebSocket[Any, Any, Any]
AnyRequest = Request[Any, Any, Any]


def with_tasks(*handlers: Any, **options: Any) -> Any:
    """Make an application; `Any` because Litestar types each ASGI message by itself."""
    options.setdefault("logging_config", None)
    return Litestar(handlers, plugins=[TasksPlugin()], **options)


@pytest.fixture
def watch() -> Watch:
    return Watch()


def asynchronous(watch: Watch) -> Any:
    @get("/")
    async def handler(tasks: Tasks) -> str:
        watch.schedule(tasks)
        return "ok"

    return handler


def in_thread(watch: Watch) -> Any:
    @get("/", sync_to_thread=True)
    def handler(tasks: Tasks) -> str:
        watch.schedule(tasks)
        return "ok"

    return handler


def on_the_loop(watch: Watch) -> Any:
    @get("/", sync_to_thread=False)
    def handler(tasks: Tasks) -> str:
        watch.schedule(tasks)
        return "ok"

    return handler


def controller(watch: Watch) -> Any:
    class Own(Controller):
        path = "/"

        @get("/")
        async def handler(self, tasks: Tasks) -> str:
            watch.schedule(tasks)
            return "ok"

    return Own


def router(watch: Watch) -> Any:
    return Router("/", route_handlers=[Router("/", route_handlers=[asynchronous(watch)])])


def streaming(watch: Watch) -> Any:
    @get("/")
    async def handler(tasks: Tasks) -> Stream:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"one"
            yield b"two"

        watch.schedule(tasks)
        return Stream(chunks())

    return handler


@pytest.mark.parametrize(
    "kind", [asynchronous, in_thread, on_the_loop, controller, router, streaming]
)
async def test_handlers(watch: Watch, kind: Callable[[Watch], Any]) -> None:
    """1.8 Handlers async and sync, of routers and of controllers, get the request's tasks."""
    async with serve(with_tasks(kind(watch))) as server:
        assert await watch.request(server) == IN_ORDER


@pytest.mark.parametrize("layer", ["app", "router", "controller", "handler"])
async def test_dependencies(layer: str) -> None:
    """1.8 Dependencies of every layer get the scheduler that the handler gets."""
    got: list[TasksScheduler] = []

    async def asynchronous(tasks: Tasks) -> None:
        got.append(tasks)

    def synchronous(tasks: Tasks, asynchronous: NamedDependency[None]) -> None:
        got.append(tasks)

    async def closing(
        tasks: Tasks, synchronous: NamedDependency[None]
    ) -> AsyncGenerator[None, None]:
        got.append(tasks)
        yield
        got.append(current_tasks())

    def closing_sync(tasks: Tasks, closing: NamedDependency[None]) -> Generator[None, None, None]:
        got.append(tasks)
        yield

    provided = {
        "asynchronous": Provide(asynchronous),
        "synchronous": Provide(synchronous, sync_to_thread=True),
        "closing": Provide(closing),
        "closing_sync": Provide(closing_sync),
    }

    def at(name: str) -> dict[str, Provide]:
        return provided if layer == name else {}

    class Own(Controller):
        path = "/"
        dependencies = at("controller")

        @get("/", dependencies=at("handler"))
        async def handler(self, tasks: Tasks, closing_sync: NamedDependency[None]) -> None:
            got.append(tasks)

    inner = Router("/", route_handlers=[Own], dependencies=at("router"))
    async with serve(with_tasks(inner, dependencies=at("app"))) as server:
        assert (await server.request()).status == 200
    assert len(got) == 6
    assert all(tasks is got[0] for tasks in got)


async def test_guards_and_hooks(watch: Watch) -> None:
    """Guards and hooks find the scheduler too, and a user's own hook replaces nothing of ours."""
    got: list[TasksScheduler] = []

    def guard(*_: Any) -> None:
        got.append(current_tasks())

    async def before(_: AnyRequest) -> None:
        got.append(current_tasks())

    async def after(_: AnyRequest) -> None:
        watch.log.append("hook")

    @get("/", guards=[guard], before_request=before, after_response=after)
    async def handler(tasks: Tasks) -> None:
        got.append(tasks)
        watch.schedule(tasks)

    async with serve(with_tasks(handler, after_response=after)) as server:
        log = await watch.request(server)
    assert log == ["immediate", "after_route", "start", "sent", "hook", "after_response"]
    assert len(got) == 3
    assert all(tasks is got[0] for tasks in got)


@pytest.mark.parametrize("several", [False, True])
async def test_background_task_of_the_same_response(watch: Watch, *, several: bool) -> None:
    """1.3 Litestar's background tasks belong to the response: they have run by "after response"."""

    @get("/")
    async def handler(tasks: Tasks) -> Response[str]:
        watch.schedule(tasks)
        task = BackgroundTask(watch.log.append, "background")
        return Response("ok", background=BackgroundTasks([task]) if several else task)

    async with serve(with_tasks(handler)) as server:
        log = await watch.request(server)
    assert log == ["immediate", "after_route", "start", "sent", "background", "after_response"]


async def test_a_task_in_the_place_of_a_background_task() -> None:
    """4.4 It was scheduled, so calling it would run it twice: an error that says so."""
    ran: list[str] = []

    @get("/")
    async def handler(tasks: Tasks) -> Response[str]:
        task: Any = tasks.after_response.task(run_on="always").schedule(ran.append, "ran")
        return Response("ok", background=task)

    async with serve(with_tasks(handler)) as server, drain():
        exchange = await server.request()
    assert ran == ["ran"]
    cause = exchange.error and exchange.error.__cause__  # Litestar's own says where it was raised
    assert isinstance(cause, RuntimeError)
    assert "as a response's background=... does: it was scheduled" in str(cause)


def answer(_: AnyRequest, error: Exception) -> Response[str]:
    return Response("answered", status_code=200)


@pytest.mark.parametrize("layer", ["app", "router", "controller", "handler"])
@pytest.mark.parametrize(
    ("key", "error"),
    [
        (418, HTTPException(status_code=418)),
        (HTTPException, HTTPException()),
        (KeyError, KeyError()),
    ],
    ids=["status", "http_exception", "own"],
)
async def test_handled_exceptions(outcome: Outcome, layer: str, key: Any, error: Exception) -> None:
    """1.6 A request fails whichever layer's exception handler answers it."""

    def at(name: str) -> Any:
        return {key: answer} if layer == name else {}

    class Own(Controller):
        path = "/"
        exception_handlers = at("controller")

        @get("/", exception_handlers=at("handler"))
        async def handler(self, tasks: Tasks) -> None:
            outcome.schedule(tasks)
            raise error

    inner = Router("/", route_handlers=[Own], exception_handlers=at("router"))
    async with serve(with_tasks(inner, exception_handlers=at("app"))) as server:
        assert (await server.request()).body == b"answered"
        assert await outcome.seen() == FAILURE


async def test_what_a_dependency_raises_at_its_exit(outcome: Outcome) -> None:
    """1.6 A generator dependency that fails to commit fails the request."""

    async def session(tasks: Tasks) -> AsyncGenerator[None, None]:
        outcome.schedule(tasks)
        yield
        raise KeyError

    @get("/", dependencies={"session": Provide(session)})
    async def handler(session: NamedDependency[None]) -> None: ...

    async with serve(with_tasks(handler)) as server:
        assert (await server.request()).status == 500
        assert await outcome.seen() == FAILURE


async def test_middleware(watch: Watch, outcome: Outcome) -> None:
    """1.6 Middleware of every layer changes nothing: tasks see what the handler raises."""

    class Passing(ASGIMiddleware):
        async def handle(
            self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp
        ) -> None:
            await next_app(scope, receive, send)

    @get("/fails", middleware=[Passing()])
    async def fails(tasks: Tasks) -> None:
        outcome.schedule(tasks)
        raise HTTPException(status_code=418)

    @get("/succeeds", middleware=[Passing()])
    async def succeeds(tasks: Tasks) -> None:
        watch.schedule(tasks)

    inner = Router("/", route_handlers=[fails, succeeds], middleware=[Passing()])
    async with serve(with_tasks(inner, middleware=[Passing()])) as server:
        assert (await server.request("/fails")).status == 418
        assert await outcome.seen() == FAILURE
        assert await watch.request(server, "/succeeds") == IN_ORDER


async def hear(server: Server, *words: str) -> list[str]:
    """Say words to a WebSocket, and return what it answers to each, then leave."""
    heard: list[str] = []
    async with server.websocket() as client:
        assert (await client.receive())["type"] == "websocket.accept"
        for word in words:
            client.send(word)
            heard.append((await client.receive())["text"])
        client.leave(1000)
    assert client.error is None
    return heard


CONNECTION = ["immediate", "after_route", "after_response"]


async def test_websocket_handlers(watch: Watch) -> None:
    """1.8 A WebSocket handler gets the connection's tasks."""

    @websocket("/")
    async def handler(socket: WebSocket, tasks: Tasks) -> None:
        await socket.accept()
        watch.schedule(tasks)
        await socket.send_text(await socket.receive_text())
        await socket.receive_text()

    async with serve(with_tasks(handler)) as server:
        assert await hear(server, "word") == ["word"]
        assert await watch.ended() == CONNECTION


async def test_websocket_listeners(watch: Watch) -> None:
    """1.8 A listener gets the connection's tasks, the same with each message."""
    got: list[TasksScheduler] = []

    @websocket_listener("/")
    async def listener(data: str, tasks: Tasks) -> str:
        got.append(tasks)
        if len(got) == 1:
            watch.schedule(tasks)
        return str(await tasks.schedule(len, data).wait())

    async with serve(with_tasks(listener)) as server:
        assert await hear(server, "word", "words") == ["4", "5"]
        assert await watch.ended() == CONNECTION
    assert got[0] is got[1]


async def test_websocket_listener_classes(watch: Watch) -> None:
    """1.8 So does a listener that is a class."""

    class Listener(WebsocketListener):
        path = "/"

        async def on_receive(self, data: str, tasks: Tasks) -> str:
            watch.schedule(tasks)
            return str(await tasks.schedule(len, data).wait())

    async with serve(with_tasks(Listener)) as server:
        assert await hear(server, "word") == ["4"]
        assert await watch.ended() == CONNECTION


async def test_websocket_streams(watch: Watch) -> None:
    """1.8 So does a handler that streams to its client."""

    @websocket_stream("/")
    async def handler(tasks: Tasks) -> AsyncGenerator[str, None]:
        watch.schedule(tasks)
        yield str(await tasks.schedule(len, "word").wait())

    async with serve(with_tasks(handler)) as server:
        async with server.websocket() as client:
            assert (await client.receive())["type"] == "websocket.accept"
            assert (await client.receive())["text"] == "4"
            assert (await client.receive())["type"] == "websocket.close"
            client.leave()
        assert await watch.ended() == CONNECTION


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (HTTPException(status_code=403), FAILURE),
        (KeyError(), FAILURE),
        (WebSocketDisconnect(detail="gone"), SUCCESS),
    ],
    ids=["http_exception", "unhandled", "client_leaves"],
)
async def test_how_websockets_end(outcome: Outcome, error: Exception, expected: list[str]) -> None:
    """1.6, 1.7: A WebSocket handler fails by what it raises, but not when the client leaves."""

    @websocket("/")
    async def handler(socket: WebSocket, tasks: Tasks) -> None:
        outcome.schedule(tasks)
        await socket.accept()
        raise error

    async with serve(with_tasks(handler)) as server:
        async with server.websocket() as client:
            assert (await client.receive())["type"] == "websocket.accept"
        assert await outcome.seen() == expected


class WithTasks(Controller):
    @get("/async")
    async def async_handler(self, tasks: Tasks, number: FromQuery[int]) -> str:
        return "ok"

    @post("/sync", sync_to_thread=True)
    def sync_handler(self, tasks: Tasks) -> str:
        return "ok"


class Plain(Controller):
    @get("/async")
    async def async_handler(self, number: FromQuery[int]) -> str:
        return "ok"

    @post("/sync", sync_to_thread=True)
    def sync_handler(self) -> str:
        return "ok"


def test_nothing_in_the_schema() -> None:
    """`Tasks` is no parameter of the API: the schema is the same without it."""

    def schema(app: Litestar) -> object:
        return app.openapi_schema.to_schema()["paths"]

    assert schema(with_tasks(WithTasks)) == schema(Litestar([Plain]))


@get("/")
async def wait_for_a_task(tasks: Tasks) -> int:
    return await tasks.schedule(len, "four").wait()


def test_test_client(anyio_backend: Literal["asyncio", "trio"]) -> None:
    """5.7 Litestar's test client works on both event loops, and again after it was left."""
    app = with_tasks(wait_for_a_task)
    for _ in range(2):
        with TestClient(app, backend=anyio_backend) as client:
            assert client.get("/").json() == 4


async def test_async_test_client() -> None:
    """5.7 So does the async one, within the test's own event loop."""
    app = with_tasks(wait_for_a_task)
    for _ in range(2):
        async with AsyncTestClient(app) as client:
            assert (await client.get("/")).json() == 4
