"""Tasks for any ASGI application: one pure middleware, which the adapters build on.

Placed innermost among middleware, it sees all that the contract needs: the lifespan, through which
it opens and drains the runner; the response's start, before which the route has returned; and the
end of the call, by when the request's own dependencies are closed.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias, Unpack

from ._exceptions import TasksUninitializedError
from ._phase import Phase
from ._runner import RunnerSettings, TaskRunner
from ._scheduler import TasksScheduler

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_SCHEDULER = "tasks_core.scheduler"
_RUNNER = "tasks_core.runner"

# The messages by which an exception handler may answer for the route.
_ANSWERS = frozenset({"http.response.start", "websocket.close", "websocket.http.response.start"})


def get_scheduler(scope: Scope) -> TasksScheduler:
    """Return the scheduler of a request, always the same one.

    Args:
        scope: The ASGI scope of a request below a `TasksMiddleware`.

    Raises:
        TasksUninitializedError: There is no such middleware, or the lifespan has not run.

    Since 0.1.0.
    """
    scheduler = scope.get(_SCHEDULER)
    if not isinstance(scheduler, TasksScheduler):
        raise TasksUninitializedError
    return scheduler


class TasksMiddleware:
    """Gives an ASGI application a task runner for its lifespan, and each request a scheduler.

    Args:
        app: The application, or the middleware further in.
        disconnects: The framework's own exceptions by which it tells a WebSocket route that the
            client has gone; they do not count as failure (contract 1.7). Default: none.
        settings: See `RunnerSettings`.

    Since 0.1.0.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        disconnects: tuple[type[Exception], ...] = (),
        **settings: Unpack[RunnerSettings],
    ) -> None:
        """Wrap the application."""
        TaskRunner(**settings)  # nonsense is refused here, not when the application starts
        self._app = app
        self._disconnects = disconnects
        self._settings = settings
        # The runner of the lifespan that began last. A server that keeps state for a lifespan is
        # asked first: one application may be served on several event loops at a time.
        self._runner: TaskRunner | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection, or the lifespan."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._serve_lifespan(scope, receive, send)
            return
        runner = scope.get("state", {}).get(_RUNNER, self._runner)
        if runner is None or _SCHEDULER in scope or kind not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        await serve(
            self._app, scope, receive, send, TasksScheduler(runner), disconnects=self._disconnects
        )

    async def _serve_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with TaskRunner(**self._settings) as runner:
            self._runner = runner
            if "state" in scope:  # where it is not, the application is to see that too
                scope["state"][_RUNNER] = runner
            try:
                with lifespan_scheduler(runner):
                    await _Lifespan(runner, receive, send).serve(self._app, scope)
            finally:
                self._runner = None


async def serve(  # noqa: PLR0913 - an ASGI call and what it is to know
    app: ASGIApp,
    scope: Scope,
    receive: Receive,
    send: Send,
    scheduler: TasksScheduler,
    *,
    disconnects: tuple[type[Exception], ...] = (),
) -> None:
    """Serve a request with its scheduler, whose phases follow the messages.

    For who writes an adapter to a framework that handles the lifespan by itself; elsewhere
    `TasksMiddleware` does this.

    Args:
        app: The application, or the middleware further in.
        scope: The request's scope, of type ``http`` or ``websocket``.
        receive: The request's ``receive``.
        send: The request's ``send``.
        scheduler: The scheduler, which `get_scheduler` finds in the scope from now on.
        disconnects: As in `TasksMiddleware`.

    Since 0.1.0.
    """
    scope[_SCHEDULER] = scheduler
    try:
        with scheduler:
            await _Request(scheduler, send, disconnects).serve(app, scope, receive)
    finally:
        del scope[_SCHEDULER]


def lifespan_scheduler(runner: TaskRunner) -> TasksScheduler:
    """Return a scheduler for the application's lifespan, where every phase has begun.

    Enter it around the application's own lifespan code, so that `current_tasks` finds it there
    (contract 5.1).

    Since 0.1.0.
    """
    scheduler = TasksScheduler(runner)
    scheduler.reach(Phase.AFTER_RESPONSE)
    return scheduler


class _Lifespan:
    """The lifespan as the application sees it: before its shutdown, all tasks have ended."""

    def __init__(self, runner: TaskRunner, receive: Receive, send: Send) -> None:
        self._runner = runner
        self._receive = receive
        self._send = send
        # Whether the application has asked for a message: then it does speak the protocol.
        self._spoken = False

    async def receive(self) -> Message:
        self._spoken = True
        message = await self._receive()
        if message["type"] == "lifespan.shutdown":
            await self._runner.drain()
        return message

    async def serve(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self.receive, self._send)
        except Exception:
            # An application without a lifespan refuses the scope, which is its right; what one
            # with a lifespan raises is its own affair (contract 5.7).
            if self._spoken:
                raise
        if not self._spoken:
            for message in ("lifespan.startup.complete", "lifespan.shutdown.complete"):
                await self.receive()
                await self._send({"type": message})


class _Request:
    """One request on its way: its phases follow its messages."""

    __slots__ = (
        "_answered",
        "_cut_off",
        "_disconnects",
        "_failed",
        "_handled_before",
        "_scheduler",
        "_send",
    )

    def __init__(
        self, scheduler: TasksScheduler, send: Send, disconnects: tuple[type[Exception], ...]
    ) -> None:
        self._scheduler = scheduler
        self._send = send
        self._disconnects = disconnects
        # What the caller is handling already; anything else is what a handler now answers.
        self._handled_before = sys.exception()
        # Whether the response has begun; whether the server took no more of it; the outcome.
        self._answered = False
        self._cut_off = False
        self._failed = False

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind in _ANSWERS:
            raised = sys.exception()
            if raised is not None and raised is not self._handled_before:
                self._failed = self._failed or self._was_raised_out(raised, kind)
            if kind == "http.response.start":  # the route has ended (contract 1.2)
                self._answered = True
                self._scheduler.reach(Phase.AFTER_ROUTE, failed=self._failed)
                await self._scheduler.begun()
        try:
            await self._send(message)
        except Exception:
            self._cut_off = True
            raise

    def _was_raised_out(self, raised: BaseException, kind: str) -> bool:
        """Whether the exception that is handled while an answer passes has ended the route (1.6).

        A response is sent when the route has returned, so who handles an exception then is not
        the route. A WebSocket's messages are sent by the route itself, within ``except`` blocks
        of its own too; there the framework must be what handles the exception.
        """
        if kind == "http.response.start":
            return True
        if isinstance(raised, self._disconnects) or raised.__traceback__ is None:
            return False
        handler = _package(raised.__traceback__.tb_frame.f_globals.get("__name__", ""))
        return any(handler == _package(error.__module__) for error in self._disconnects)

    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        try:
            await app(scope, receive, self.send)
        except BaseException as error:
            # A client that goes away is no failure of the route (contract 1.7): not when it does
            # not take the rest of a response, nor when it ends a WebSocket.
            if self._answered:
                self._failed = self._failed or (isinstance(error, Exception) and not self._cut_off)
            elif not isinstance(error, self._disconnects):
                self._failed = True
            if not self._answered and isinstance(error, Exception):
                # The 500 is sent further out, once this is raised.
                self._scheduler.reach(Phase.AFTER_ROUTE, failed=self._failed)
                await self._scheduler.begun()
            raise
        finally:
            self._scheduler.reach(Phase.AFTER_RESPONSE, failed=self._failed)


def _package(module: str) -> str:
    return module.partition(".")[0]
