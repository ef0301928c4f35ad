"""Background tasks for Litestar: `TasksPlugin` attaches them, `Tasks` gives a handler its own.

The map: ``_access`` holds the dependency, ``_layers`` merges and checks the settings of an
application's layers, ``_plugin`` sets an application up. All else is tasks-core's, re-exported here
so that users import from one package.
"""

from tasks_core import (
    NoCurrentTaskError,
    Phase,
    PhaseScheduler,
    Progress,
    RunnerClosedError,
    RunnerSettings,
    RunOn,
    Task,
    TaskAborted,
    TaskCancelled,
    TaskConfig,
    TaskErrorHandler,
    TaskFailed,
    TaskRecord,
    TaskRegistry,
    TasksAlreadyAddedError,
    TasksError,
    TaskSettings,
    TaskSkipped,
    TasksScheduler,
    TaskState,
    TasksUninitializedError,
    current_task,
    current_tasks,
)

from ._access import Tasks
from ._plugin import TasksPlugin

__all__ = [
    "NoCurrentTaskError",
    "Phase",
    "PhaseScheduler",
    "Progress",
    "RunOn",
    "RunnerClosedError",
    "RunnerSettings",
    "Task",
    "TaskAborted",
    "TaskCancelled",
    "TaskConfig",
    "TaskErrorHandler",
    "TaskFailed",
    "TaskRecord",
    "TaskRegistry",
    "TaskSettings",
    "TaskSkipped",
    "TaskState",
    "Tasks",
    "TasksAlreadyAddedError",
    "TasksError",
    "TasksPlugin",
    "TasksScheduler",
    "TasksUninitializedError",
    "current_task",
    "current_tasks",
]
