"""No framework: a hand-written application inside of tasks-core's own middleware."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from inspect import iscoroutinefunction
from typing import Any, cast

from anyio import to_thread
from tasks_core import TasksScheduler
from tasks_core.asgi import (
    ASGIApp,
    Message,
    Receive,
    Scope,
    Send,
    TasksMiddleware,
    get_scheduler,
    tell_failure,
)

from tests.conformance.harness import (
    Answer,
    Application,
    AsyncEndpoint,
    Capability,
    Empty,
    Endpoint,
    File,
    Route,
    SocketRoute,
    Stream,
    SyncEndpoint,
    Text,
)
from tests.conformance.relay import relay


class HTTPError(Exception):
    """Answered with a status by the application below."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Disconnected(Exception):  # noqa: N818 - nothing is wrong
    """The client of a WebSocket has gone."""


class ASGIHarness:
    """A hand-written application."""

    name = "asgi"
    lacks: Mapping[Capability, str] = {
        "dependencies": "a hand-written application has none",
        "function dependencies": "a hand-written application has none",
        "request dependencies": "a hand-written application has none",
        "validation": "a hand-written application validates what it likes",
        "add twice": "a middleware is put where its user writes it",
    }
    deviations: Mapping[str, str] = {}

    def build(self, application: Application) -> ASGIApp:
        app: ASGIApp = _App(application)
        for settings in application.added:
            app = TasksMiddleware(app, disconnects=(Disconnected,), **settings)
        return relay(app) if application.wrapped else app

    def http_error(self, status: int) -> Exception:
        return HTTPError(status)


class _App:
    """What a framework does, in as few lines as show it."""

    def __init__(self, application: Application) -> None:
        self._lifespan = application.lifespan
        self._answers = application.answers
        self._routes = dict(application.routes) | {
            f"/mounted{path}": route for path, route in application.mounted.items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        route = self._routes[scope["path"]]
        if isinstance(route, SocketRoute):
            socket = _Socket(receive, send)
            await route.endpoint(get_scheduler(scope), socket)
            await socket.close()
        else:
            await self._respond(route, scope, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        if self._lifespan is None:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        else:
            async with self._lifespan():
                await send({"type": "lifespan.startup.complete"})
                await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _respond(self, route: Route, scope: Scope, send: Send) -> None:
        try:
            answer = await _call(route.endpoint, get_scheduler(scope))
        except HTTPError as error:
            tell_failure(scope, error)
            await _send(Text(status=error.status), send)
        except tuple(self._answers) as error:
            tell_failure(scope, error)
            await _send(self._answers[type(error)](error), send)
        else:
            await _send(answer or Text(), send, head=route.method == "HEAD")


async def _call(endpoint: Endpoint, tasks: TasksScheduler) -> Answer | None:
    if iscoroutinefunction(endpoint):
        return await cast("AsyncEndpoint", endpoint)(tasks)
    return await to_thread.run_sync(cast("SyncEndpoint", endpoint), tasks)


async def _send(answer: Answer, send: Send, *, head: bool = False) -> None:
    status = answer.status if isinstance(answer, Text | Empty) else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    if isinstance(answer, Stream):
        await _stream(answer.chunks, send)
        return
    body = b""
    if isinstance(answer, Text):
        body = answer.body.encode()
    elif isinstance(answer, File):
        body = await to_thread.run_sync(answer.path.read_bytes)
    await send({"type": "http.response.body", "body": b"" if head else body})


async def _stream(chunks: AsyncIterator[bytes], send: Send) -> None:
    async for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Socket:
    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._open = True

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._open = False
            raise Disconnected
        return message

    async def accept(self) -> None:
        await self._next()
        await self._send({"type": "websocket.accept"})

    async def receive_text(self) -> str:
        message: Any = await self._next()
        text: str = message["text"]
        return text

    async def send_text(self, data: str) -> None:
        await self._send({"type": "websocket.send", "text": data})

    async def close(self) -> None:
        if self._open:
            self._open = False
            await self._send({"type": "websocket.close", "code": 1000})
