"""All that is logged, by the logger ``tasks_core``; never a task's arguments (contract 4.2)."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from contextlib import suppress

from ._calling import describe
from ._task import Task, age, lives

logger = logging.getLogger("tasks_core")


def failed(task: Task, error: Exception) -> None:
    """Log the failure of a task, with its traceback."""
    _log(logging.ERROR, f"Task {_identify(task)} failed", task, error)


def handler_failed(task: Task, error: Exception, failure: Exception) -> None:
    """Log the failure of a task's error handler, with both tracebacks (contract 4.3)."""
    _chain(failure, error)
    handler = describe(task.config.on_error)
    _log(logging.ERROR, f"Error handler {handler} of task {_identify(task)} failed", task, failure)


def handler_cancelled(task: Task) -> None:
    """Log that a task's error handler was cut short."""
    handler = describe(task.config.on_error)
    _log(logging.WARNING, f"Error handler {handler} of task {_identify(task)} was cancelled", task)


def skipped(task: Task, *, request_failed: bool) -> None:
    """Log that a task does not run, for the outcome of its request (contract 1.6)."""
    outcome = "failed" if request_failed else "succeeded"
    run_on = task.config.run_on or "success"
    message = f"Task {_identify(task)} skipped: its request {outcome}, and it runs on {run_on}"
    _log(logging.INFO, message, task)


def cancelled_from_outside(task: Task) -> None:
    """Log that the event loop's own cancellation ended a task, shielded or not."""
    message = f"Task {_identify(task)} was cancelled by the event loop, not by its runner"
    _log(logging.WARNING, message, task)


def waiting(tasks: Iterable[Task]) -> None:
    """Log what a shutdown waits for (contract 5.2)."""
    _log(logging.WARNING, f"Shutdown is waiting for {_list(tasks)}")


def unfinished(tasks: Iterable[Task]) -> None:
    """Log what a shutdown has cut short or left behind (contract 5.3)."""
    _log(logging.WARNING, f"Shutdown left unfinished: {_list(tasks)}")


def _identify(task: Task) -> str:
    return f"{task.name} (id={task.id}, function={describe(task.func)}, phase={task.phase})"


def _list(tasks: Iterable[Task]) -> str:
    return ", ".join(
        f"{task.name} (id={task.id}, phase={task.phase}, age={age(task):.1f} s, "
        f"{'still ' if lives(task) else ''}{task.state})"
        for task in tasks
    )


def _chain(failure: BaseException, error: BaseException) -> None:
    """Make ``error`` part of what a traceback of ``failure`` shows."""
    seen = {id(failure)}
    while failure is not error:
        shown = failure.__cause__
        if shown is None and not failure.__suppress_context__:
            shown = failure.__context__
        if shown is None or id(shown) in seen:
            failure.__context__, failure.__suppress_context__ = error, False
            return
        seen.add(id(shown))
        failure = shown


def _log(
    level: int, message: str, task: Task | None = None, error: Exception | None = None
) -> None:
    extra: dict[str, object] = {}
    if task is not None:
        extra = {
            "task_id": task.id,
            "task_name": task.name,
            "task_func": describe(task.func),
            "task_phase": str(task.phase),
        }
    try:
        # The message is an argument: a name may hold a percent sign.
        logger.log(level, "%s", message, exc_info=error, extra=extra)
    except KeyboardInterrupt:
        raise
    except BaseException as broken:  # noqa: BLE001 - a broken logging handler (contract 4.1)
        with suppress(Exception):
            kind = type(broken).__name__
            sys.stderr.write(f"tasks_core could not log ({kind} in a logging handler): {message}\n")
