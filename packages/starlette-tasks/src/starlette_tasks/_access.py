"""How a route gets its tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from starlette.requests import HTTPConnection
from tasks_core import TasksScheduler
from tasks_core.asgi import get_scheduler

if TYPE_CHECKING:
    AnyConnection: TypeAlias = HTTPConnection[Any]
else:
    AnyConnection = HTTPConnection  # FastAPI reads the annotation, and passes one of this class


def get_tasks(connection: AnyConnection) -> TasksScheduler:
    """Return the scheduler of a request, always the same one.

    Args:
        connection: The `Request`, the `WebSocket`, or any other `HTTPConnection`.

    Raises:
        TasksUninitializedError: There are no tasks here; it says why.
    """
    return get_scheduler(connection.scope)
