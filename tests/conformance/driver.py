"""Serves an ASGI application in process, on the running event loop, message by message.

It plays the server's part and nothing else: it runs the lifespan, starts each connection in a task
of its own, records what the application sends, and lets a test look, wait or fail at the very
moment a message passes. Nothing here sleeps; every wait has a guard.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

import anyio
from anyio.abc import TaskGroup
from tasks_core.asgi import ASGIApp, Message, Scope

GUARD = 60.0
"""Seconds after which something that should have happened counts as missing."""

OnMessage: TypeAlias = Callable[[Message], Awaitable[object] | None]
"""Called within `send`, before the server has accepted the message; awaited if it is async."""


class Gone(OSError):  # noqa: N818 - what has happened
    """What `send` raises once the client has gone."""


class Exchange:
    """One HTTP request and all that came back for it."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        # What came out of the application: a server would log it.
        self.error: Exception | None = None
        # Set when the client has nothing more to say: then `receive` tells of a disconnect.
        self.gone = anyio.Event()

    @property
    def status(self) -> int:
        status: int = self.messages[0]["status"]
        return status

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    def leave(self) -> None:
        """Go away as a client: `receive` says so from now on."""
        self.gone.set()


class Socket:
    """The client's end of a WebSocket connection."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.ended = anyio.Event()
        self._to_app = _Inbox()
        self._from_app = _Inbox()

    async def receive(self) -> Message:
        """Wait for the next message of the application."""
        return await self._from_app.get()

    def send(self, text: str) -> None:
        self._to_app.put({"type": "websocket.receive", "text": text})

    def leave(self, code: int = 1001) -> None:
        """Close the connection from this end."""
        self._to_app.put({"type": "websocket.disconnect", "code": code, "reason": ""})

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        self._to_app.put({"type": "websocket.connect"})

        async def send(message: Message) -> None:
            self._from_app.put(message)

        try:
            await app(scope, self._to_app.get, send)
        except Exception as error:  # noqa: BLE001 - the test asks for it
            self.error = error
        finally:
            self.ended.set()


class _Inbox:
    """Messages in order, for one reader; there is always room."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._arrived = anyio.Event()

    def put(self, message: Message) -> None:
        self._messages.append(message)
        self._arrived.set()

    async def get(self) -> Message:
        while not self._messages:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        return self._messages.popleft()


class Server:
    """A server for one application, on the running event loop; see `serve`."""

    def __init__(self, app: ASGIApp, group: TaskGroup, *, state: bool) -> None:
        self._app = app
        self._group = group
        self._state: dict[str, object] | None = {} if state else None
        self._to_app = _Inbox()
        self._from_app = _Inbox()
        # The lifespan: whether it runs, and what came out of it.
        self._running = False
        self._ended = anyio.Event()
        self._error: BaseException | None = None

    async def start(self) -> None:
        """Run the lifespan up to the end of its start-up.

        Raises:
            Exception: What the application's lifespan raised, as it is.
        """
        scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}
        if self._state is not None:
            scope["state"] = self._state
        self._running = True
        self._group.start_soon(self._live, scope)
        self._to_app.put({"type": "lifespan.startup"})
        await self._answer()

    async def stop(self) -> None:
        """Shut down, and wait until the lifespan has ended; a second call does nothing.

        Raises:
            Exception: What the application's lifespan raised, as it is.
        """
        if self._running:
            self._running = False
            self._to_app.put({"type": "lifespan.shutdown"})
            await self._answer()
            await self._ended.wait()

    async def _live(self, scope: Scope) -> None:
        async def send(message: Message) -> None:
            self._from_app.put(message)

        try:
            await self._app(scope, self._to_app.get, send)
        except Exception as error:  # noqa: BLE001 - given to who waits
            self._error = error
        finally:
            self._ended.set()
            self._from_app.put({"type": "ended"})

    async def _answer(self) -> None:
        answer = await self._from_app.get()
        if not answer["type"].endswith(".complete"):
            self._running = False
            await self._ended.wait()
            raise self._error or AssertionError(answer)

    def _scope(self, path: str, **more: object) -> Scope:
        path, _, query = path.partition("?")
        scope: Scope = {
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(b"host", b"testserver")],
            "client": ("127.0.0.1", 50000),
            "server": ("testserver", 80),
            **more,
        }
        if self._state is not None:
            scope["state"] = self._state.copy()
        return scope

    async def request(  # noqa: PLR0913 - as below
        self,
        path: str = "/",
        *,
        method: str = "GET",
        headers: Sequence[tuple[bytes, bytes]] = (),
        on_message: OnMessage | None = None,
        exchange: Exchange | None = None,
        fails_from: int | None = None,
    ) -> Exchange:
        """Send a request and wait until the application has done with it.

        Args:
            path: The path, with its query.
            method: The method.
            headers: More headers than the host.
            on_message: Called within `send`.
            exchange: Where to record, for a test that lets the client leave meanwhile.
            fails_from: The number of the first message, from 0, for which `send` raises.
        """
        exchange = exchange or Exchange()
        scope = self._scope(path, type="http", scheme="http", method=method)
        scope["headers"] += headers
        done = anyio.Event()
        bodies = deque([{"type": "http.request", "body": b"", "more_body": False}])
        passed = 0

        async def receive() -> Message:
            if bodies:
                return bodies.popleft()
            await exchange.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            nonlocal passed
            passed += 1
            if fails_from is not None and passed > fails_from:
                raise Gone
            if on_message is not None:
                looked = on_message(message)
                if looked is not None:
                    await looked
            exchange.messages.append(message)
            if is_last(message):
                exchange.leave()

        async def run() -> None:
            try:
                await self._app(scope, receive, send)
            except Exception as error:  # noqa: BLE001 - the test asks for it
                exchange.error = error
            finally:
                done.set()

        self._group.start_soon(run)
        await done.wait()
        return exchange

    @asynccontextmanager
    async def websocket(self, path: str = "/") -> AsyncGenerator[Socket, None]:
        """Open a WebSocket connection; at the end, wait until the application has done with it."""
        socket = Socket()
        scope = self._scope(path, type="websocket", scheme="ws", subprotocols=())
        self._group.start_soon(socket.run, self._app, scope)
        yield socket
        await socket.ended.wait()


def is_last(message: Message) -> bool:
    """Whether a message ends an HTTP response."""
    return message["type"] == "http.response.body" and not message.get("more_body", False)


@asynccontextmanager
async def serve(
    app: ASGIApp, *, lifespan: bool = True, state: bool = True
) -> AsyncGenerator[Server, None]:
    """Serve an application while the body runs, `GUARD` seconds at most.

    Args:
        app: The application.
        lifespan: Whether to run the lifespan; some clients do not.
        state: Whether to offer lifespan state; some servers do not.

    Raises:
        Exception: What the application's lifespan raised, as it is.
    """
    failure: BaseException | None = None
    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as group:
            server = Server(app, group, state=state)
            try:
                if lifespan:
                    await server.start()
                yield server
                await server.stop()
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:  # noqa: BLE001 - goes on below, out of the group
                failure = error
                group.cancel_scope.cancel()
    if failure is not None:
        raise failure
