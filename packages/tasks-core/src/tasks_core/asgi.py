"""Tasks for any ASGI application: one pure middleware, which the adapters build on.

Placed innermost among middleware, it sees all that the contract needs: the lifespan, through which
it opens and drains the runner; the response's start, before which the route has returned; and the
end of the call, by when the request's own dependencies are closed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import Any, TypeAlias, Unpack

from anyio import NoEventLoopError, get_current_task

from ._exceptions import TasksUninitializedError
from ._phase import AFTER_RESPONSE, AFTER_ROUTE
from ._runner import RunnerSettings, TaskRunner
from ._scheduler import TasksScheduler, serving

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_FAILURE = 400  # the least status that says that a request has failed

_making = Lock()  # held while a request's scheduler is made

_REQUEST = "tasks_core.request"
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
    request = scope.get(_REQUEST)
    if not isinstance(request, _Request):
        raise TasksUninitializedError
    if request.used_in is None:
        request.used_in = _current_task()
    return request.scheduler()


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
        served = scope.get(_REQUEST)  # by an outer middleware; or before, if this is a new attempt
        if (
            runner is None
            or (served is not None and not served.over)
            or kind not in {"http", "websocket"}
        ):
            await self._app(scope, receive, send)
            return
        make = partial(TasksScheduler, runner)
        await serve(self._app, scope, receive, send, make, disconnects=self._disconnects)

    async def _serve_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with TaskRunner(**self._settings) as runner:
            self._runner = runner
            if "state" in scope:  # where it is not, the application is to see that too
                scope["state"][_RUNNER] = runner
            try:
                with lifespan_scheduler(runner):
                    await _Lifespan(runner, receive, send).serve(self._app, scope)
            finally:
                if self._runner is runner:  # another lifespan may have begun
                    self._runner = None


async def serve(  # noqa: PLR0913 - an ASGI call and what it is to know
    app: ASGIApp,
    scope: Scope,
    receive: Receive,
    send: Send,
    make: Callable[[], TasksScheduler],
    *,
    disconnects: tuple[type[Exception], ...] = (),
) -> None:
    """Serve a request with a scheduler, whose phases follow the messages.

    For who writes an adapter to a framework that handles the lifespan by itself; elsewhere
    `TasksMiddleware` does this.

    Args:
        app: The application, or the middleware further in.
        scope: The request's scope, of type ``http`` or ``websocket``.
        receive: The request's ``receive``.
        send: The request's ``send``.
        make: Makes the request's scheduler when it is first asked for: by `get_scheduler`, which
            finds it in the scope, or by `current_tasks`.
        disconnects: As in `TasksMiddleware`.

    Since 0.1.0.
    """
    request = scope[_REQUEST] = _Request(make, send, disconnects)
    token = serving.set(request.scheduler)
    try:
        await app(scope, receive, request.send)
    except BaseException as error:
        await request.fail(error)
        raise
    finally:
        request.end()
        serving.reset(token)


def lifespan_scheduler(runner: TaskRunner) -> TasksScheduler:
    """Return a scheduler for the application's lifespan, where every phase has begun.

    Enter it around the application's own lifespan code, so that `current_tasks` finds it there
    (contract 5.1).

    Since 0.1.0.
    """
    scheduler = TasksScheduler(runner)
    scheduler.reach(AFTER_RESPONSE)
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
    """One request on its way: its phases follow its messages.

    A request that uses no tasks pays for this object, for little more.
    """

    __slots__ = (
        "_answered",
        "_cut_off",
        "_disconnects",
        "_failed",
        "_handled_before",
        "_make",
        "_scheduler",
        "_send",
        "over",
        "used_in",
    )

    def __init__(
        self,
        make: Callable[[], TasksScheduler],
        send: Send,
        disconnects: tuple[type[Exception], ...],
    ) -> None:
        self._make = make
        self._send = send
        self._disconnects = disconnects
        # What the caller is handling already; anything else is what a handler now answers.
        self._handled_before = sys.exception()
        # Made when it is first asked for, possibly in another thread, possibly late. Whatever has
        # come by then is noted below first, and then the scheduler is looked for; who makes the
        # scheduler does it the other way round: so no phase is missed.
        self._scheduler: TasksScheduler | None = None
        # Whether the response has begun, and the call has ended; and the outcome so far.
        self._answered = False
        self.over = False
        self._failed = False
        # The event loop's task in which the scheduler was asked for first: the route's.
        self.used_in: int | None = None
        # Whether the server took no more of the response.
        self._cut_off = False

    def scheduler(self) -> TasksScheduler:
        if self._scheduler is None:
            with _making:
                if (scheduler := self._scheduler) is None:
                    scheduler = self._scheduler = self._make()
            self._reach_what_has_come(scheduler)
        return self._scheduler

    def _reach_what_has_come(self, scheduler: TasksScheduler) -> None:
        if self.over:
            scheduler.reach(AFTER_RESPONSE, failed=self._failed)
        elif self._answered:
            scheduler.reach(AFTER_ROUTE, failed=self._failed)

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind in _ANSWERS:
            raised = sys.exception()
            if raised is not None and raised is not self._handled_before:
                self._failed = self._failed or self._was_raised_out(raised, kind)
            if kind == "http.response.start":  # the route has ended (contract 1.2)
                self._answered = True
                if self._scheduler is not None:
                    if message["status"] >= _FAILURE and self._cannot_see_the_route():
                        self._failed = True
                    self._scheduler.reach(AFTER_ROUTE, failed=self._failed)
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

    def _cannot_see_the_route(self) -> bool:
        """Whether the route runs in a task of its own, as a BaseHTTPMiddleware further in makes it.

        What it raises is answered in there, and only the status is seen here.
        """
        return self.used_in is not None and self.used_in != _current_task()

    async def fail(self, error: BaseException) -> None:
        """Note what is raised out of the application, and let tasks begin before the 500 is sent.

        A client that goes away is no failure of the route (contract 1.7): not when it does not
        take the rest of a response, nor when it ends a WebSocket.
        """
        if self._answered:
            self._failed = self._failed or (isinstance(error, Exception) and not self._cut_off)
            return
        self._failed = self._failed or not isinstance(error, self._disconnects)
        if self._scheduler is not None and isinstance(error, Exception):
            self._scheduler.reach(AFTER_ROUTE, failed=self._failed)
            await self._scheduler.begun()

    def end(self) -> None:
        self.over = True
        if self._scheduler is not None:
            self._reach_what_has_come(self._scheduler)


def _current_task() -> int | None:
    try:
        return id(asyncio.current_task())
    except RuntimeError:  # trio, or a worker thread
        with suppress(NoEventLoopError):
            return get_current_task().id
        return None


def _package(module: str) -> str:
    return module.partition(".")[0]
