"""Background tasks for ASGI applications: when they run is exact, and nothing is lost silently.

The map, in the order of who may know whom; each module knows only those before it:

    _exceptions            errors
    _extras                what needs more than anyio
    _phase, _state         the moments of a request, the states of a task
    _names                 what is called what, whatever it does when it is asked
    _function              what is known of functions before they are called
    _checks                what is refused among the values that users pass
    _config                what can be set for a task
    _identity              which functions are the same one
    _raised                what was raised, whatever users' exceptions override
    _threads               calling functions where they belong: here, or in a thread
    _living                what lives on an event loop
    _backend               the event loop, as tasks are run on it
    _record                what is told of a task to others
    _traceback             which part of a traceback is the users'
    _carrier               the seam to engines outside of this process
    _handing_over          handing tasks over to them
    _service               what runs beside the tasks
    _record_store          the store of records, as it is asked
    _records               records of tasks, for other processes
    _task                  one scheduled call, and what becomes of it
    _memory                what is kept of a task that has ended
    _report                all that is logged
    _observers             who is told of each step
    _registry              finding what lives, and what is remembered
    _lanes                 tasks that are counted by a key
    _triggers              when a periodic task runs
    _attempts              calling the function with a timeout, or again
    _execution             one task from its first step to its last
    _scheduling            what schedulers have in common, and what they hand tasks to
    _phase_scheduler       one phase of a request, with settings
    _scheduler             one request's view: schedule, reach the phases
    _periodic              tasks that run by the clock
    _settings              what can be set for a runner
    _everywhere            a task by its id, wherever it runs
    _shutdown              how far a shutdown has come, and what it cuts short
    _runner                the application's: owns the tasks, drains at shutdown
    _layer                 a request's, with the settings of its layers, or as a mounted one has it
    _request               one request's messages, and what they say of its phases
    _messages              a lifespan's messages, and the end of all tasks among them
    _lifespan              the lifespan, with tasks around the application's own code
    asgi                   the middleware for any ASGI application
    testing                what a test needs: drain, inline, record, a lifespan

The promises that all of this keeps have numbers, see ``docs/semantics.md``.
"""

from ._carrier import Carrier, HandOver, TaskStatus
from ._config import Retry, RunOn, TaskConfig, TaskErrorHandler, TaskSettings
from ._exceptions import (
    BacklogFullError,
    HandOverError,
    MountedSettingsError,
    NoCurrentTaskError,
    RunnerClosedError,
    TaskAborted,
    TaskCancelled,
    TaskFailed,
    TaskHandedOver,
    TasksAlreadyAddedError,
    TasksError,
    TaskSkipped,
    TasksUninitializedError,
    TaskTimedOut,
)
from ._observers import TaskObserver, Updates
from ._periodic import Claim, Periodic, PeriodicTask
from ._phase import Phase
from ._phase_scheduler import PhaseScheduler
from ._record import Progress, TaskRecord
from ._record_store import RecordStore
from ._registry import TaskRegistry
from ._runner import TaskRunner
from ._scheduler import TasksScheduler, current_tasks
from ._scheduling import Scheduler
from ._settings import RunnerSettings
from ._state import TaskState
from ._task import Task, current_task
from ._triggers import Cron, Every, Trigger

__all__ = [
    "BacklogFullError",
    "Carrier",
    "Claim",
    "Cron",
    "Every",
    "HandOver",
    "HandOverError",
    "MountedSettingsError",
    "NoCurrentTaskError",
    "Periodic",
    "PeriodicTask",
    "Phase",
    "PhaseScheduler",
    "Progress",
    "RecordStore",
    "Retry",
    "RunOn",
    "RunnerClosedError",
    "RunnerSettings",
    "Scheduler",
    "Task",
    "TaskAborted",
    "TaskCancelled",
    "TaskConfig",
    "TaskErrorHandler",
    "TaskFailed",
    "TaskHandedOver",
    "TaskObserver",
    "TaskRecord",
    "TaskRegistry",
    "TaskRunner",
    "TaskSettings",
    "TaskSkipped",
    "TaskState",
    "TaskStatus",
    "TaskTimedOut",
    "TasksAlreadyAddedError",
    "TasksError",
    "TasksScheduler",
    "TasksUninitializedError",
    "Trigger",
    "Updates",
    "current_task",
    "current_tasks",
]
