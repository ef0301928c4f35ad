"""Every error that the packages raise on purpose; each builds its own message, with the remedy."""

from __future__ import annotations


class TasksError(Exception):
    """Base of all errors of tasks-core and its adapters.

    Since 0.1.0.
    """


class TasksUninitializedError(TasksError, RuntimeError):
    """Tasks were asked for where no runner runs (contract 5.6).

    Since 0.1.0.
    """

    def __str__(self) -> str:
        return (
            "No task runner is running here. Either tasks were never added to the application: "
            "call add_tasks(app) (or install the plugin or middleware of your framework) before "
            "it starts, and use tasks within a request. Or the application's lifespan did not "
            "run: write `with TestClient(app) as client:` in tests, put lifespan(app) of "
            "tasks_core.testing around httpx's ASGITransport, and do not switch the server's "
            "lifespan off."
        )


class TasksAlreadyAddedError(TasksError, RuntimeError):
    """Tasks were added to an application twice, with settings that would be lost (contract 5.7).

    Since 0.1.0.
    """

    def __str__(self) -> str:
        return (
            "Tasks were already added to this application, so these settings would be lost: "
            "pass all settings to the first call, or none to the later ones."
        )


class NoCurrentTaskError(TasksError, RuntimeError):
    """`current_task` was called where no task is running.

    Since 0.1.0.
    """

    def __str__(self) -> str:
        return "No task is running here: call current_task() in a function that was scheduled."


class RunnerClosedError(TasksError, RuntimeError):
    """A task was scheduled on a runner that is closed or was never entered (contract 5.4).

    Since 0.1.0.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)

    def __str__(self) -> str:
        return (
            f"Task {self.args[0]} was refused, it would never run: the task runner is not running. "
            "Either the application has shut down, or `async with TaskRunner(...)` has not been "
            "entered yet; schedule while the application lives."
        )


class TaskAborted(TasksError):  # noqa: N818 - the state's name, as in asyncio.CancelledError
    """A task ended by something that is no `Exception`: ``SystemExit``, a stray cancellation, ...

    The original is its ``__cause__``. Error handlers and waiters get this ordinary exception in
    its place, so that nothing a task raises can end the application (contract 4.1).

    Since 0.1.0.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(kind)

    def __str__(self) -> str:
        return f"the task was ended by {self.args[0]}, which goes no further"


class TaskFailed(TasksError):  # noqa: N818 - the state's name
    """What a task has raised that had failed before it was looked up by its id.

    The runner remembers the type and the text of an error, not the error: its traceback would keep
    alive all that the task had in its hands. The handle that ``schedule`` returns has the original.

    Attributes:
        kind: The qualified name of the error's type.
        text: The error's text.

    Since 0.1.0.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind: str = kind
        self.text: str = text

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


class TaskCancelled(TasksError):  # noqa: N818 - the state's name
    """`Task.wait` was called on a task that was cancelled (contract 2.6).

    Since 0.1.0.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)

    def __str__(self) -> str:
        return f"task {self.args[0]} was cancelled"


class TaskSkipped(TasksError):  # noqa: N818 - the state's name
    """`Task.wait` was called on a task that was skipped, for its request's outcome (contract 1.6).

    Since 0.1.0.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)

    def __str__(self) -> str:
        return f"task {self.args[0]} was skipped: its request's outcome was not the one in `run_on`"
