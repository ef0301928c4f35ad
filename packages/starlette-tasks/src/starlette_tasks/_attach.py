"""How tasks attach to an application: as its innermost middleware, which sees the lifespan too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from starlette.middleware import Middleware
from starlette.websockets import WebSocketDisconnect
from tasks_core import RunnerSettings, TaskRunner
from tasks_core.asgi import TasksMiddleware, add_again

if TYPE_CHECKING:
    from starlette.applications import Starlette


def tasks_middleware(**settings: Unpack[RunnerSettings]) -> Middleware:
    """Return the entry for `Starlette(middleware=[...])`; put it last, which is innermost.

    Args:
        settings: See `RunnerSettings`.

    Raises:
        TypeError: A setting is of the wrong type.
        ValueError: A number is out of its range.

    Since 0.1.0.
    """
    TaskRunner(**settings)  # nonsense is refused here, not when the application starts
    return Middleware(TasksMiddleware, disconnects=(WebSocketDisconnect,), **settings)


def add_tasks(app: Starlette, **settings: Unpack[RunnerSettings]) -> None:
    """Add tasks to an application, before or after its routes, its middleware and its lifespan.

    A second call without settings changes nothing.

    Args:
        app: The application; what is mounted in it is served too.
        settings: See `RunnerSettings`.

    Raises:
        TasksAlreadyAddedError: A second call has settings, which would be lost.
        RuntimeError: The application has started already.
        TypeError: A setting is of the wrong type.
        ValueError: A number is out of its range.

    Since 0.1.0.
    """
    classes: list[object] = [middleware.cls for middleware in app.user_middleware]
    if TasksMiddleware in classes:
        add_again(settings)
        return
    if app.middleware_stack is not None:
        msg = "add_tasks(app) comes too late, the application has started: call it before that."
        raise RuntimeError(msg)
    # Innermost, which `add_middleware` is not: nearest to the routes it sees what they raise, also
    # where a BaseHTTPMiddleware runs them in a task of its own (contract 1.6).
    app.user_middleware.append(tasks_middleware(**settings))
