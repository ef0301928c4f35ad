"""Background tasks for ASGI applications: when they run is exact, and nothing is lost silently.

The map, in the order of who may know whom; each module knows only those before it:

    _exceptions            errors
    _phase, _state         the moments of a request, the states of a task
    _config, _settings     what can be set for a task, and for a runner
    _threads               the worker threads of sync functions
    _calling               how functions are judged and called
    _backend               the seam to asyncio and trio
    _record                what is told of a task to others
    _task                  one scheduled call, and what becomes of it
    _life                  what moves a task through its states
    _registry              what lives, and what is remembered
    _report                all that is logged
    _execution             one task from its first step to its last
    _scheduler             one request's view: schedule, reach the phases
    _runner                the application's: owns the tasks, drains at shutdown
    _request               one request's messages, and what they say of its phases
    asgi                   the middleware for any ASGI application
    testing                what a test needs: drain, inline, record, a lifespan

The promises that all of this keeps have numbers, see ``docs/semantics.md``.
"""

from ._config import RunOn, TaskConfig, TaskErrorHandler
from ._exceptions import (
    NoCurrentTaskError,
    RunnerClosedError,
    TaskAborted,
    TaskCancelled,
    TaskFailed,
    TasksAlreadyAddedError,
    TasksError,
    TaskSkipped,
    TasksUninitializedError,
)
from ._phase import Phase
from ._record import Progress, TaskRecord
from ._registry import TaskRegistry
from ._runner import TaskRunner
from ._scheduler import TasksBatch, TasksScheduler, current_tasks
from ._settings import RunnerSettings
from ._state import TaskState
from ._task import Task, current_task

__all__ = [
    "NoCurrentTaskError",
    "Phase",
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
    "TaskRunner",
    "TaskSkipped",
    "TaskState",
    "TasksAlreadyAddedError",
    "TasksBatch",
    "TasksError",
    "TasksScheduler",
    "TasksUninitializedError",
    "current_task",
    "current_tasks",
]
