"""How a route gets its tasks."""

from __future__ import annotations

from starlette.requests import HTTPConnection  # at run time: FastAPI reads the annotation
from tasks_core import TasksScheduler
from tasks_core.asgi import get_scheduler


def get_tasks(connection: HTTPConnection) -> TasksScheduler:
    """Return the scheduler of a request, always the same one.

    Args:
        connection: The `Request`, the `WebSocket`, or any other `HTTPConnection`.

    Raises:
        TasksUninitializedError: There are no tasks here; it says why.

    Since 0.1.0.
    """
    return get_scheduler(connection.scope)
