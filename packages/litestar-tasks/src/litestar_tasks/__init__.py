"""Background tasks for Litestar: `TasksPlugin` attaches them, `Tasks` gives a handler its own.

The map: ``_access`` holds the dependency, ``_layers`` merges and checks the settings of an
application's layers, ``_plugin`` sets an application up. All else is tasks-core's, re-exported here
so that users import from one package.
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

from ._access import Tasks
from ._plugin import TasksPlugin

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
    "Tasks",
    "TasksAlreadyAddedError",
    "TasksError",
    "TasksPlugin",
    "TasksScheduler",
    "TasksUninitializedError",
    "Updates",
    "current_task",
    "current_tasks",
]
