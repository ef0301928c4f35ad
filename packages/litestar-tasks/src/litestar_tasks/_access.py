"""How a handler gets its tasks."""

from __future__ import annotations

from typing import TypeAlias

from litestar.di import NamedDependency
from litestar.params import SkipValidation
from tasks_core import TasksScheduler

NAME = "tasks"
"""The name of the dependency, and of the key in ``opt`` for a layer's `TaskConfig`."""

Tasks: TypeAlias = NamedDependency[SkipValidation[TasksScheduler]]
"""The annotation by which a handler or a dependency gets its request's `TasksScheduler`.

The parameter must be called ``tasks``. Always the same scheduler for one request; in no OpenAPI
schema. Where the application's lifespan has not run, the request fails with a
`TasksUninitializedError`.
"""
