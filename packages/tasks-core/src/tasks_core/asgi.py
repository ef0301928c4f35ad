"""Tasks for any ASGI application, and what adapters to frameworks are built of.

`TasksMiddleware` goes around an application, with all its middleware: there it sees the lifespan,
through which it opens and drains the runner, and the beginning and the end of each request, and
all of the application's code finds its tasks. An adapter adds what only its framework can tell:
where the route ends (`serve_route`), and what its exception handlers answer (`tell_failure`).
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Unpack, cast

from ._checks import check_callback, check_exceptions, name_kind
from ._exceptions import TasksAlreadyAddedError
from ._lifespan import ApplicationTasks
from ._request import (
    ASGIApp,
    Message,
    Receive,
    Scope,
    Send,
    get_scheduler,
    serve,
    serve_route,
    tell_failure,
)
from ._settings import RunnerSettings

__all__ = [
    "ASGIApp",
    "ApplicationTasks",
    "Message",
    "Receive",
    "Scope",
    "Send",
    "TasksMiddleware",
    "add_again",
    "get_scheduler",
    "serve",
    "serve_route",
    "tell_failure",
]


class TasksMiddleware:
    """Gives an ASGI application a task runner for its lifespan, and each request a scheduler.

    Its other settings are those of `RunnerSettings`.

    Args:
        app: The application, with all its middleware.
        disconnects: The framework's own exceptions by which it tells a route that the client has
            gone; they do not count as failure (contract 1.7). Default: none.
        mount_key: The key by which a framework marks the scope of a request that it has routed: an
            application that finds it is mounted. Default: none.
        tasks: The application's tasks, where an adapter builds its middleware more than once; they
            have the settings, so there are none beside them.

    Raises:
        TypeError: It is no application, or a setting is of the wrong type, or would be lost.
        ValueError: A number is out of its range.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        disconnects: tuple[type[Exception], ...] = (),
        mount_key: str | None = None,
        tasks: ApplicationTasks | None = None,
        **settings: Unpack[RunnerSettings],
    ) -> None:
        """Wrap the application."""
        remedy = "pass the ASGI application itself, TasksMiddleware(app)"
        check_callback("app", app, "scope", "receive", "send", remedy=remedy)
        check_exceptions("disconnects", disconnects)
        if tasks is not None and not isinstance(cast("object", tasks), ApplicationTasks):
            msg = (
                f"tasks is an ApplicationTasks, not {name_kind(tasks)}: leave it out, and pass "
                "settings such as grace_period=5, or make one with them, ApplicationTasks(...)"
            )
            raise TypeError(msg)
        lost = [name for name, value in settings.items() if value is not None]
        if tasks is not None and lost:
            msg = (
                f"{', '.join(lost)} would be lost, as tasks=... has settings of its own: pass it "
                "to ApplicationTasks(...)"
            )
            raise TypeError(msg)
        self._app = app
        self._disconnects = disconnects
        self._mount_key = mount_key
        self._tasks = tasks or ApplicationTasks(**settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection, or the lifespan."""
        await self.pass_on(scope, receive, send)

    # Servers look whether an application is a coroutine function; who calls this need not, and
    # saves one coroutine for each request.
    def pass_on(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve a connection, or the lifespan, as a call does."""
        kind = scope["type"]
        if kind in {"http", "websocket"}:
            mounted = self._mount_key in scope
            return self._tasks.serve(
                self._app, scope, receive, send, self._disconnects, mounted=mounted
            )
        if kind == "lifespan":
            return self._tasks.live(self._app, scope, receive, send)
        return self._app(scope, receive, send)


def add_again(settings: RunnerSettings) -> None:
    """Accept that tasks are added to an application again, if no settings would be lost (5.7).

    Raises:
        TasksAlreadyAddedError: There are settings.
    """
    if any(value is not None for value in settings.values()):
        raise TasksAlreadyAddedError
