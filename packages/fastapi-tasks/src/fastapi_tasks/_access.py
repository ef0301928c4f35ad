"""How a route gets its tasks."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import starlette_tasks
from fastapi import Depends
from fastapi.requests import HTTPConnection
from starlette_tasks import TasksScheduler


# Async, so that no thread is spent on it, and without `yield`, so that dependencies of either
# scope may depend on it.
async def get_tasks(connection: HTTPConnection) -> TasksScheduler:
    """Return the scheduler of a request, as a dependency: ``tasks = Depends(get_tasks)``.

    For class-based views, and wherever a default says what `Tasks` says as an annotation.

    Args:
        connection: The request, or the WebSocket; FastAPI passes it.

    Raises:
        FastAPITasksUninitializedAppError: There are no tasks here; it says why.
    """
    return starlette_tasks.get_tasks(connection)


Tasks: TypeAlias = Annotated[TasksScheduler, Depends(get_tasks, scope="request")]
"""The annotation by which a route or a dependency gets its request's `TasksScheduler`.

Always the same scheduler for one request; in no OpenAPI schema. Where tasks were not added to the
application, or its lifespan has not run, the request fails with a
`FastAPITasksUninitializedAppError`.
"""
