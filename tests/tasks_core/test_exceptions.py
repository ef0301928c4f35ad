from __future__ import annotations

import pytest
from tasks_core import (
    NoCurrentTaskError,
    RunnerClosedError,
    TaskAborted,
    TaskCancelled,
    TasksAlreadyAddedError,
    TasksError,
    TaskSkipped,
    TasksUninitializedError,
)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (NoCurrentTaskError(), "in a function that was scheduled"),
        (RunnerClosedError("mail"), "schedule while the application lives"),
        (TaskAborted("SystemExit"), "ended by SystemExit"),
        (TaskCancelled("mail"), "task mail was cancelled"),
        (TaskSkipped("mail"), "task mail was skipped"),
        (TasksAlreadyAddedError(), "pass all settings to the first call"),
        (TasksUninitializedError(), "call add_tasks"),
    ],
)
def test_an_error_builds_its_own_message(error: TasksError, says: str) -> None:
    """Each error of the core is a `TasksError` that says what happened or what to do."""
    assert says in str(error)
