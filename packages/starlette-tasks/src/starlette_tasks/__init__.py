"""Background tasks for Starlette: `add_tasks` attaches them, `get_tasks` gives a route its own.

The map: ``_outcome`` tells how a request ends, ``_attach`` sets an application up, ``_access``
finds a request's scheduler. All else is tasks-core's, re-exported here so that users import from
one package.
"""

from tasks_core import (
    BacklogFullError,
    MountedSettingsError,
    NoCurrentTaskError,
    Phase,
    PhaseScheduler,
    Progress,
    Retry,
    RunnerClosedError,
    RunnerSettings,
    RunOn,
    Task,
    TaskAborted,
    TaskCancelled,
    TaskConfig,
    TaskErrorHandler,
    TaskFailed,
    TaskObserver,
    TaskRecord,
    TaskRegistry,
    TasksAlreadyAddedError,
    TasksError,
    TaskSettings,
    TaskSkipped,
    TasksScheduler,
    TaskState,
    TasksUninitializedError,
    TaskTimedOut,
    Updates,
    current_task,
    current_tasks,
)

from ._access import get_tasks
from ._attach import add_tasks

__all__ = [
    "BacklogFullError",
    "MountedSettingsError",
    "NoCurrentTaskError",
    "Phase",
    "PhaseScheduler",
    "Progress",
    "Retry",
    "RunOn",
    "RunnerClosedError",
    "RunnerSettings",
    "Task",
    "TaskAborted",
    "TaskCancelled",
    "TaskConfig",
    "TaskErrorHandler",
    "TaskFailed",
    "TaskObserver",
    "TaskRecord",
    "TaskRegistry",
    "TaskSettings",
    "TaskSkipped",
    "TaskState",
    "TaskTimedOut",
    "TasksAlreadyAddedError",
    "TasksError",
    "TasksScheduler",
    "TasksUninitializedError",
    "Updates",
    "add_tasks",
    "current_task",
    "current_tasks",
    "get_tasks",
]
