"""Tasks for any ASGI application: one pure middleware, which the adapters build on.

Placed innermost among middleware, it sees all that the contract needs: the lifespan, through which
it opens and drains the runner; the response's start, before which the route has returned; and the
end of the call, by when the request's own dependencies are closed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Unpack

from ._exceptions import TasksAlreadyAddedError
from ._lifespan import Lifespan, lifespan_scheduler
from ._request import (
    REQUEST,
    ASGIApp,
    Message,
    Receive,
    Scope,
    Send,
    get_scheduler,
    serve,
)
from ._runner import TaskRunner
from ._scheduler import TasksScheduler
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

_MAKE = "tasks_core.make_scheduler"


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
            or (REQUEST in scope and not scope[REQUEST].over)
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
                    await Lifespan(runner, receive, send).serve(self._app, scope)
            finally:
                # Another lifespan may have begun.
                self._make = None if self._make is make else self._make


def add_again(settings: RunnerSettings) -> None:
    """Accept that tasks are added to an application again, if no settings would be lost (5.7).

    Raises:
        TasksAlreadyAddedError: There are settings.

    Since 0.1.0.
    """
    if any(value is not None for value in settings.values()):
        raise TasksAlreadyAddedError
