"""Every error that the packages raise on purpose; each builds its own message, with the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum


class TasksError(Exception):
    """Base of all errors of tasks-core and its adapters."""


class Missing(Enum):
    """Why there are no tasks: the cause, and what to do about it (contract 2.7, 5.6)."""

    CONTEXT = (
        "No request is being served here, and no lifespan with tasks is running (nor is it in "
        "Litestar's on_shutdown hooks, when tasks have ended: await there what has to be done), as "
        "far as this code's context tells. Pass `tasks` on to it, or the TaskRunner, to a task "
        "that this has scheduled by itself; or, if it has a thread of its own, start that with the "
        "context of its caller: Thread(target=contextvars.copy_context().run, args=(f, ...)). "
        "If a request or a lifespan did call it, tasks were not added to its application: "
        "add_tasks(app), or plugins=[TasksPlugin()] in Litestar; or, in Litestar, its lifespan has "
        "not run: in a test write `with TestClient(app) as client:`."
    )
    ADDED = (
        "No tasks were added to the application that serves this request: call add_tasks(app) "
        "before it starts, on the outermost application if this one is mounted in it (or, if it "
        "is of none of the frameworks that have add_tasks, put TasksMiddleware around it)."
    )
    STARTED = (
        "The task runner of this application has not been started: its lifespan has not run. In a "
        "test write `with TestClient(app) as client:`, for without `with` it does not run; around "
        "httpx's ASGITransport, which never runs it, put lifespan(app) of tasks_core.testing. A "
        "server runs it, unless it is told not to, as by uvicorn's --lifespan off, or something "
        "around the application keeps it from the server."
    )
    FAILED = (
        "The lifespan of this application failed when it started, see the error that it raised; "
        "its task runner does not run. Some servers go on all the same: let them stop then, with "
        "uvicorn's --lifespan on for instance."
    )
    ENDED = (
        "The lifespan of this application has ended, and its task runner with it: the application "
        "has shut down, or its lifespan has raised while the server goes on, see that error. "
        "Schedule while it lives. In a test each client has to run it: `with TestClient(app) as "
        "client:`, or lifespan(app) of tasks_core.testing."
    )
    MOUNTED = (
        "Tasks were added to an application that is mounted in another one, and only the lifespan "
        "of the outermost application is run: call add_tasks on that one (too, if this one has "
        "settings of its own)."
    )
    OTHER_THREAD = (
        "The application was started on an event loop in another thread than the one that serves "
        "this request. Start and serve it on the same event loop: in a test `with TestClient(app) "
        "as client:`, or lifespan(app) of tasks_core.testing in the test's own event loop."
    )
    OTHER_LOOP = (
        "The application was started on another event loop than the one that runs here, and its "
        "tasks cannot run on this one. Start and serve it on the same event loop."
    )


class TasksUninitializedError(TasksError, RuntimeError):
    """Tasks were asked for where they cannot be had; it says why (contract 2.7, 5.6)."""

    def __init__(self, missing: Missing) -> None:
        super().__init__(missing)
        self.missing = missing

    def __str__(self) -> str:
        return str(self.missing.value)


class MountedSettingsError(TasksError, RuntimeError):
    """An application that is mounted in another one with tasks has settings of a runner (3.3)."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)

    def __str__(self) -> str:
        names = ", ".join(self.args[0])
        return (
            f"{names} cannot apply to an application that is mounted in another one with tasks: "
            "the task runner is the outermost application's. Pass what is the runner's to "
            "add_tasks of that one; `config` may stay here."
        )


class TasksAlreadyAddedError(TasksError, RuntimeError):
    """Tasks were added to an application twice, with settings that would be lost (contract 5.7)."""

    def __str__(self) -> str:
        return (
            "Tasks were already added to this application, so these settings would be lost: "
            "pass all settings to the first call, or none to the later ones."
        )


class NoCurrentTaskError(TasksError, RuntimeError):
    """`current_task` was called where no task is running."""

    def __str__(self) -> str:
        return "No task is running here: call current_task() in a function that was scheduled."


class Closed(Enum):
    """Why a runner takes no tasks (contract 5.4)."""

    NOT_ENTERED = "`async with TaskRunner(...)` has not been entered yet: schedule within it."
    SHUT_DOWN = "the application has shut down: schedule while it lives."
    FORKED = (
        "this process was forked from the one in which the task runner runs. Start the application "
        "in this process, or schedule in that one."
    )
    LOOP_ENDED = (
        "the event loop on which it was to run has ended, without leaving the task runner first: "
        "end the lifespan before the loop."
    )


class RunnerClosedError(TasksError, RuntimeError):
    """A task was scheduled on a runner that takes none (contract 5.4)."""

    def __init__(self, name: str, closed: Closed) -> None:
        super().__init__(name, closed)

    def __str__(self) -> str:
        name, closed = self.args
        return f"Task {name} was refused, it would never run: {closed.value}"


class LoopEndedError(Exception):
    """The event loop of a runner turns no more; within the package only."""


class TaskAborted(TasksError):  # noqa: N818 - the state's name, as in asyncio.CancelledError
    """A task ended by something that is no `Exception`: ``SystemExit``, a stray cancellation, ...

    The original is its ``__cause__``. Error handlers and waiters get this ordinary exception in
    its place, so that nothing a task raises can end the application (contract 4.1).
    """

    def __init__(self, kind: str, *by: str) -> None:
        super().__init__(kind, *by)

    def __str__(self) -> str:
        kind, *by = self.args
        if by:
            return f"the attempt was cut short by {by[0]}, with {kind}"
        return f"the task was ended by {kind}, which ends nothing else"


class TaskFailed(TasksError):  # noqa: N818 - the state's name
    """What a task has raised that had failed before it was looked up by its id.

    The runner remembers the type and the text of an error, not the error: its traceback would keep
    alive all that the task had in its hands. The handle that ``schedule`` returns has the original.

    Attributes:
        kind: The qualified name of the error's type.
        text: The error's text.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind: str = kind
        self.text: str = text

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


class TaskTimedOut(TasksError, TimeoutError):  # noqa: N818 - as the built-in one
    """An attempt of a task took longer than its ``timeout`` (contract 9.1).

    Its cause says where the function was.
    """

    def __init__(self, name: str, timeout: float) -> None:
        super().__init__(name, timeout)

    def __str__(self) -> str:
        return f"task {self.args[0]} took longer than its timeout of {self.args[1]:g} s"


class BacklogFullError(TasksError, RuntimeError):
    """A task was refused: as many of its key as its ``backlog`` allows wait already (9.11).

    Attributes:
        key: The key.
    """

    def __init__(self, name: str, key: str, shown: str, waiting: int) -> None:
        super().__init__(name, key, shown, waiting)
        self.key: str = key

    def __str__(self) -> str:
        name, _, key, waiting = self.args
        return (
            f"Task {name} was refused: the limit of the key {key} is reached, and {waiting} of its "
            "tasks wait already. Schedule it later, or answer that there is too much to do."
        )


class HandOverError(TasksError):
    """An engine has not confirmed that it has a task, and may have it all the same (8.7).

    Its cause is what the engine's client has raised, or a `TimeoutError`.
    """

    def __init__(self, name: str, carrier: str) -> None:
        super().__init__(name, carrier)

    def __str__(self) -> str:
        name, carrier = self.args
        return (
            f"{carrier} did not confirm task {name}. It may have it all the same: hand it over "
            "again (`await task()`) only if it may run twice"
        )


class TaskHandedOver(TasksError):  # noqa: N818 - the state's name
    """`Task.wait` was called on a task that was handed over to an engine (contract 8.5)."""

    def __init__(self, name: str, carrier: str) -> None:
        super().__init__(name, carrier)

    def __str__(self) -> str:
        name, carrier = self.args
        return (
            f"task {name} was handed over to {carrier}, which runs it: ask "
            "`await tasks.status(task.id)` what has become of it"
        )


class TaskCancelled(TasksError):  # noqa: N818 - the state's name
    """`Task.wait` was called on a task that was cancelled (contract 2.6)."""

    def __init__(self, name: str) -> None:
        super().__init__(name)

    def __str__(self) -> str:
        return f"task {self.args[0]} was cancelled"


class Skipped(Enum):
    """Why a task was skipped (contract 1.6, 7.5)."""

    FAILED = "its request failed, and it runs on success"
    SUCCEEDED = "its request succeeded, and it runs on failure"
    RECORDED = (
        "it was scheduled in a block of `record`, which runs no tasks: to wait for one, write "
        "`drain()` in its place"
    )


class TaskSkipped(TasksError):  # noqa: N818 - the state's name
    """`Task.wait` was called on a task that was skipped, mostly for its request's outcome (1.6)."""

    def __init__(self, name: str, why: Skipped) -> None:
        super().__init__(name, why)

    def __str__(self) -> str:
        name, why = self.args
        setting = (
            "" if why is Skipped.RECORDED else ' (its `run_on`, which is "success" unless set)'
        )
        return f"task {name} was skipped: {why.value}{setting}"
