"""How a route gets its tasks."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Depends
from fastapi.requests import HTTPConnection
from starlette_tasks import TasksScheduler, get_tasks


# Async, so that no thread is spent on it, and without `yield`, so that dependencies of either
# scope may depend on it.
async def _get_tasks(connection: HTTPConnection) -> TasksScheduler:
    return get_tasks(connection)


Tasks: TypeAlias = Annotated[TasksScheduler, Depends(_get_tasks, scope="request")]
"""The annotation by which a route or a dependency gets its request's `TasksScheduler`.

Always the same scheduler for one request; in no OpenAPI schema. Where tasks were not added to the
application, or its lifespan has not run, the request fails with a
`FastAPITasksUninitializedAppError`.

Since 0.1.0.
"""
