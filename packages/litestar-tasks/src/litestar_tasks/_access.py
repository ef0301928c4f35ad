"""How a handler gets its tasks."""

from __future__ import annotations

from typing import TypeAlias

from litestar.di import NamedDependency, Provide
from litestar.params import SkipValidation
from tasks_core import TasksScheduler, TasksUninitializedError, current_tasks
from tasks_core._exceptions import Missing

NAME = "tasks"
"""The name of the dependency, and of the key in ``opt`` for a layer's `TaskConfig`."""

Tasks: TypeAlias = NamedDependency[SkipValidation[TasksScheduler]]
"""The annotation by which a handler or a dependency gets its request's `TasksScheduler`.

The parameter must be called ``tasks``. Always the same scheduler for one request; in no OpenAPI
schema. Where the application's lifespan has not run, the request fails with a
`TasksUninitializedError`.

Since 0.1.0.
"""


def _get_tasks() -> TasksScheduler:
    try:
        return current_tasks()
    except TasksUninitializedError as error:
        # Each request has its tasks from the lifespan on, which the plugin is told of, and not of
        # requests.
        missing = Missing.STARTED if error.missing is Missing.CONTEXT else error.missing
        raise TasksUninitializedError(missing) from None


provide_tasks = Provide(_get_tasks, sync_to_thread=False)
