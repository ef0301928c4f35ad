from __future__ import annotations

import pytest
from tasks_core import (
    MountedSettingsError,
    NoCurrentTaskError,
    RunnerClosedError,
    TaskAborted,
    TaskCancelled,
    TasksAlreadyAddedError,
    TasksError,
    TaskSkipped,
    TasksUninitializedError,
)
from tasks_core._exceptions import Closed, Missing, Skipped


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (NoCurrentTaskError(), "in a function that was scheduled"),
        (RunnerClosedError("mail", Closed.NOT_ENTERED), "schedule within it"),
        (RunnerClosedError("mail", Closed.SHUT_DOWN), "schedule while it lives"),
        (RunnerClosedError("mail", Closed.FORKED), "schedule in that one"),
        (RunnerClosedError("mail", Closed.LOOP_ENDED), "without leaving the task runner first"),
        (TaskAborted("SystemExit"), "ended by SystemExit"),
        (TaskAborted("Cancelled", "its retry"), "cut short by its retry, with Cancelled"),
        (TaskCancelled("mail"), "task mail was cancelled"),
        (TaskSkipped("mail", Skipped.FAILED), "task mail was skipped: its request failed"),
        (TaskSkipped("mail", Skipped.SUCCEEDED), 'its `run_on`, which is "success" unless set'),
        (TaskSkipped("mail", Skipped.RECORDED), "write `drain()` in its place"),
        (TasksAlreadyAddedError(), "pass all settings to the first call"),
        (MountedSettingsError(["history", "thread_limit"]), "`config` may stay here"),
        (TasksUninitializedError(Missing.CONTEXT), "Pass `tasks` on to it, or the TaskRunner"),
        (TasksUninitializedError(Missing.CONTEXT), "a request or a lifespan did call it, tasks"),
        (TasksUninitializedError(Missing.CONTEXT), "when tasks have ended: await there what has"),
        (TasksUninitializedError(Missing.ADDED), "call add_tasks(app) before it starts"),
        (TasksUninitializedError(Missing.ADDED), "of none of the frameworks that have add_tasks"),
        (TasksUninitializedError(Missing.STARTED), "write `with TestClient(app) as client:`"),
        (TasksUninitializedError(Missing.FAILED), "see the error that it raised"),
        (TasksUninitializedError(Missing.ENDED), "Schedule while it lives"),
        (TasksUninitializedError(Missing.ENDED), "In a test each client has to run it: `with Te"),
        (TasksUninitializedError(Missing.MOUNTED), "call add_tasks on that one"),
        (TasksUninitializedError(Missing.OTHER_THREAD), "on an event loop in another thread"),
        (
            TasksUninitializedError(Missing.OTHER_LOOP),
            "on another event loop than the one that runs here",
        ),
    ],
)
def test_an_error_builds_its_own_message(error: TasksError, says: str) -> None:
    """Each error of the core is a `TasksError` that says what happened or what to do."""
    assert says in str(error)
