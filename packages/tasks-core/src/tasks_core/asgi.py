"""Tasks for any ASGI application: one pure middleware, which the adapters build on.

Placed innermost among middleware, it sees all that the contract needs: the lifespan, through which
it opens and drains the runner; the response's start, before which the route has returned; and the
end of the call, by when the request's own dependencies are closed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Unpack

from ._exceptions import TasksAlreadyAddedError, TasksUninitializedError
from ._phase import AFTER_RESPONSE
from ._request import ASGIApp, Message, Receive, Request, Scope, Send, watch
from ._runner import TaskRunner
from ._scheduler import TasksScheduler, current
from ._settings import RunnerSettings

__all__ = [
    "ASGIApp",
    "Message",
    "Receive",
    "Scope",
    "Send",
    "TasksMiddleware",
    "add_again",
    "get_scheduler",
    "lifespan_scheduler",
    "serve",
]

_REQUEST = "tasks_core.request"
_MAKE = "tasks_core.make_scheduler"


def get_scheduler(scope: Scope) -> TasksScheduler:
    """Return the scheduler of a request, always the same one.

    Args:
        scope: The ASGI scope of a request below a `TasksMiddleware`.

    Raises:
        TasksUninitializedError: There is no such middleware, or the lifespan has not run.

    Since 0.1.0.
    """
    request = scope.get(_REQUEST)
    if not isinstance(request, Request):
        raise TasksUninitializedError
    return request.use()


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
        TaskRunner(**settings)  # nonsense is refused now, not when the application starts
        self._app = app
        self._disconnects = disconnects
        self._settings = settings
        # What makes schedulers, for the runner of the lifespan that began last. A server that keeps
        # state for a lifespan is asked first: one application may be served on several event loops
        # at a time.
        self._make: Callable[[], TasksScheduler] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection, or the lifespan."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._serve_lifespan(scope, receive, send)
            return
        state = scope.get("state")
        make = state.get(_MAKE, self._make) if state else self._make
        if (
            make is None
            or kind not in {"http", "websocket"}
            # by an outer middleware; if that call is over, this is a new attempt
            or (_REQUEST in scope and not scope[_REQUEST].over)
        ):
            await self._app(scope, receive, send)
            return
        await serve(self._app, scope, receive, send, make, disconnects=self._disconnects)

    async def _serve_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with TaskRunner(**self._settings) as runner:
            make = self._make = partial(TasksScheduler, runner)
            if "state" in scope:  # where it is not, the application is to see that too
                scope["state"][_MAKE] = make
            try:
                with lifespan_scheduler(runner):
                    await _Lifespan(runner, receive, send).serve(self._app, scope)
            finally:
                # Another lifespan may have begun.
                self._make = None if self._make is make else self._make


async def serve(  # noqa: PLR0913 - an ASGI call and what it is to know
    app: ASGIApp,
    scope: Scope,
    receive: Receive,
    send: Send,
    make: Callable[[], TasksScheduler],
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
        make: What makes the scheduler, once somebody asks for it: most requests use no tasks.
        disconnects: As in `TasksMiddleware`.

    Since 0.1.0.
    """
    request = scope[_REQUEST] = Request(make, disconnects)
    outer = current.set(request)
    try:
        await app(scope, receive, watch(send, request))
    except BaseException as error:
        await request.fail(error)
        raise
    finally:
        request.reach(AFTER_RESPONSE)
        current.reset(outer)
        if request.made is not None:
            await request.made.settle()


def add_again(settings: RunnerSettings) -> None:
    """Accept that tasks are added to an application again, if no settings would be lost (5.7).

    Raises:
        TasksAlreadyAddedError: There are settings.

    Since 0.1.0.
    """
    if any(value is not None for value in settings.values()):
        raise TasksAlreadyAddedError


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
        # Whether the application has asked for a message or sent one: it speaks the protocol.
        self._spoken = False

    async def send(self, message: Message) -> None:
        self._spoken = True
        await self._send(message)

    async def receive(self) -> Message:
        self._spoken = True
        message = await self._receive()
        if message["type"] == "lifespan.shutdown":
            await self._runner.drain()
        return message

    async def serve(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self.receive, self.send)
        except Exception:
            # An application without a lifespan refuses the scope, which is its right; what one
            # with a lifespan raises is its own affair (contract 5.7).
            if self._spoken:
                raise
        if not self._spoken:
            for message in ("lifespan.startup.complete", "lifespan.shutdown.complete"):
                await self.receive()
                await self._send({"type": message})
