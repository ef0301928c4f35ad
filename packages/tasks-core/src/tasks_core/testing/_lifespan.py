"""An application's lifespan, for clients that do not run it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import copy_context
from traceback import format_exception
from types import TracebackType
from typing import Any

from anyio import CancelScope, Event

from tasks_core._backend import current_backend
from tasks_core._raised import add_note
from tasks_core.asgi import ASGIApp, Message, Receive, Scope, Send


def lifespan(
    app: Callable[[Any, Any, Any], Awaitable[None]],
) -> AbstractAsyncContextManager[ASGIApp, None]:
    """Run an application's lifespan around a block, for clients that do not.

    httpx's `ASGITransport` is such a client; `TestClient` is none, if it is used as ``with
    TestClient(app) as client``. In the block the application has started, and leaving it shuts it
    down. What comes as is the application with the lifespan's state, to give to the client::

        async with lifespan(app) as started:
            transport = ASGITransport(started)

    An application without a lifespan has no need of this. Its refusal comes out as it is.

    Args:
        app: Any ASGI application.

    Raises:
        Exception: What the application has raised at its start-up or shutdown. If the block itself
            raises, that goes on as it is, and a failed shutdown is a note of it.
        RuntimeError: It has said that its start-up or shutdown failed.
    """
    return _Lifespan(app)


class _Lifespan:
    """The block. No generator: that one's context manager sets attributes of what was raised."""

    def __init__(self, app: Callable[[Any, Any, Any], Awaitable[None]]) -> None:
        self._app = app

    async def __aenter__(self) -> ASGIApp:
        self._served = _Served(self._app)
        self._backend = current_backend(thread_limit=1)
        await self._backend.open()
        # Held, as the event loop does not. No task group around the block: a fixture of pytest's
        # may be left in another task than it was entered in, where asyncio runs it.
        run = self._served.run()
        self._running = self._backend.spawn(run, name="lifespan", context=copy_context())
        try:
            await self._served.start()
        except BaseException as raised:
            await self.__aexit__(type(raised), raised, None)
            raise
        return self._served

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            error = await self._served.stop()
            del self._running
        finally:
            await self._backend.close()
        if error is None or error is exc_value:
            return
        if exc_value is None:
            raise error
        add_note(exc_value, f"The shutdown failed: {''.join(format_exception(error))}")


class _Served:
    """An application within its lifespan, in the place of a server."""

    def __init__(self, app: Callable[[Any, Any, Any], Awaitable[None]]) -> None:
        self._app = app
        self._state: dict[str, Any] = {}
        # Around the lifespan: where the test is cancelled, on trio too, it is shut down in order.
        self._scope = CancelScope(shield=True)
        self._started = Event()
        self._stopping = Event()
        self._ended = Event()
        self._asked = False
        self._error: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection with the lifespan's state, as servers do."""
        await self._app({**scope, "state": self._state.copy()}, receive, send)

    async def run(self) -> None:
        """Run the lifespan from its beginning to its end."""
        asgi = {"version": "3.0", "spec_version": "2.0"}
        scope = {"type": "lifespan", "asgi": asgi, "state": self._state}
        try:
            with self._scope:
                await self._app(scope, self._receive, self._send)
        except Exception as error:  # noqa: BLE001 - raised in the test
            self._error = error
        finally:
            self._started.set()
            self._ended.set()

    async def _receive(self) -> Message:
        if self._asked:
            await self._stopping.wait()
            return {"type": "lifespan.shutdown"}
        self._asked = True
        return {"type": "lifespan.startup"}

    async def _send(self, message: Message) -> None:
        if message["type"].endswith(".failed"):
            self._error = RuntimeError(f"{message['type']}: {message.get('message', '')}")
        self._started.set()

    async def start(self) -> None:
        """Wait until the application has started.

        Raises:
            Exception: It has not.
        """
        await self._started.wait()
        if self._error is not None:
            self._stopping.set()
            await self._ended.wait()  # what it has raised says more than that it has failed
            raise self._error

    async def stop(self) -> Exception | None:
        """Shut the application down, and return what it has raised."""
        if not self._started.is_set():
            self._scope.cancel()  # who waits for the start-up was cancelled
        self._stopping.set()
        with CancelScope(shield=True):
            await self._ended.wait()
        return self._error
