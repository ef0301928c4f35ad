"""Background tasks for FastAPI: `add_tasks` attaches them, `Tasks` gives a route its own.

The map: ``_access`` holds the dependencies; attaching is starlette-tasks', as FastAPI is a
Starlette. All else is tasks-core's, re-exported here so that users import from one package.
"""

from starlette_tasks import (
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
    TaskSettings,
    TaskSkipped,
    TasksScheduler,
    TaskState,
    TaskTimedOut,
    Updates,
    add_tasks,
    current_task,
    current_tasks,
)
from starlette_tasks import PhaseScheduler as TasksBatch
from starlette_tasks import TasksError as FastAPITasksError
from starlette_tasks import TasksUninitializedError as FastAPITasksUninitializedAppError

from ._access import Tasks, get_tasks

__all__ = [
    "BacklogFullError",
    "FastAPITasksError",
    "FastAPITasksUninitializedAppError",
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
    "TasksBatch",
    "TasksScheduler",
    "Updates",
    "add_tasks",
    "current_task",
    "current_tasks",
    "get_tasks",
]
