"""How a route gets its tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks_core.asgi import get_scheduler

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection
    from tasks_core import TasksScheduler


def get_tasks(connection: HTTPConnection[Any]) -> TasksScheduler:
    """Return the scheduler of a request, always the same one.

    Args:
        connection: The `Request`, the `WebSocket`, or any other `HTTPConnection`.

    Raises:
        TasksUninitializedError: `add_tasks` was not called, or the lifespan has not run.

    Since 0.1.0.
    """
    return get_scheduler(connection.scope)
