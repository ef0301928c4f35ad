"""What the applications use: fastapi-tasks, or the naive double in its place, as the test chose."""

import json
import logging
import os
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from tests.servers.apps.wire import say

PACKAGE = os.environ.get("TESTS_PACKAGE", "fastapi_tasks")

if TYPE_CHECKING or PACKAGE == "fastapi_tasks":
    from fastapi_tasks import (
        PhaseScheduler,
        RunnerClosedError,
        RunnerSettings,
        Task,
        Tasks,
        TasksScheduler,
        add_tasks,
        current_task,
        current_tasks,
    )
else:
    from tests.servers.apps.naive import (
        PhaseScheduler,
        RunnerClosedError,
        RunnerSettings,
        Task,
        Tasks,
        TasksScheduler,
        add_tasks,
        current_task,
        current_tasks,
    )

__all__ = [
    "PHASES",
    "SETTINGS",
    "Phase",
    "PhaseScheduler",
    "RunnerClosedError",
    "Task",
    "Tasks",
    "TasksScheduler",
    "add_tasks",
    "batch_of",
    "current_task",
    "current_tasks",
    "tell_records",
]

SETTINGS: RunnerSettings = json.loads(os.environ.get("TESTS_SETTINGS", "{}"))

Phase = Literal["immediate", "after_route", "after_response"]
PHASES: tuple[Phase, ...] = ("immediate", "after_route", "after_response")


def batch_of(tasks: TasksScheduler, phase: Phase) -> PhaseScheduler:
    if phase == "after_route":
        return tasks.after_route
    return tasks.after_response if phase == "after_response" else tasks.task()


class _Telling(logging.Handler):
    """Tells the test of each record: of a task by its level and name, of others the message."""

    def emit(self, record: logging.LogRecord) -> None:
        name = getattr(record, "task_name", None)
        what = " ".join(record.getMessage().split()) if name is None else name
        say(f"{record.levelname} {what}")


def tell_records() -> None:
    """Log to the server's log, and tell the test of what `tasks_core` logs, warnings soon."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    telling = _Telling()
    telling.addFilter(logging.Filter("tasks_core"))
    logging.getLogger().addHandler(telling)  # after the one above: what is told has been written
    if PACKAGE == "fastapi_tasks":
        import_module("tasks_core._runner").__dict__["WARN_EVERY"] = 0.1
