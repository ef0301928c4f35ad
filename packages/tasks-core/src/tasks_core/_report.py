"""All that is logged, by the logger ``tasks_core``; never a task's arguments (contract 4.2)."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial

from ._names import describe, show, type_name
from ._raised import (
    get_cause,
    get_context,
    get_suppress,
    get_traceback,
    set_context,
    set_suppress,
)
from ._record import cut, escape
from ._task import Task

logger = logging.getLogger("tasks_core")

_AT_ONCE = 100  # how many tasks one record names


def failed(task: Task, error: Exception) -> None:
    """Log the failure of a task, with its traceback."""
    _log(logging.ERROR, lambda: f"Task {_identify(task)} failed", task, error)


def handler_failed(task: Task, error: Exception, failure: Exception) -> None:
    """Log the failure of a task's error handler, with both tracebacks (contract 4.3)."""
    _chain(failure, error)
    _log(logging.ERROR, lambda: f"{_identify_handler(task)} failed", task, failure)


def handler_cancelled(task: Task) -> None:
    """Log that a task's error handler was cut short."""
    _log(logging.WARNING, lambda: f"{_identify_handler(task)} was cancelled", task)


def left_scope_open(task: Task, error: Exception) -> None:
    """Log that a task has entered a cancel scope or task group and not left it."""
    _log(logging.ERROR, lambda: f"Task {_identify(task)} left a cancel scope open", task, error)


def skipped(task: Task, why: str, level: int) -> None:
    """Log that a task does not run (contract 1.6)."""
    _log(level, lambda: f"Task {_identify(task)} skipped: {why}", task)


def unrun_returned(task: Task, kind: str, remedy: str) -> None:
    """Log that what a task has returned has run nothing yet (contract 2.2)."""
    _log(
        logging.WARNING,
        lambda: f"Task {_identify(task)} has returned a {kind}, of which nothing has run: {remedy}",
        task,
    )


def waited_for_within(task: Task, seconds: float) -> None:
    """Log that a task is waited for by what it waits for: neither may ever end (2.6, 9.10)."""
    if task._waits_for_phase:
        why = (
            f"its request, and waits for that itself, to begin in {task.phase}: a route that waits "
            "for it never ends. Schedule it at once, by tasks.schedule, or do not wait"
        )
    else:
        why = (
            "a task of its key, and has no turn until one of these ends: with limit=1 neither "
            "does. Give it a key of its own, or do not wait"
        )
    _log(
        logging.WARNING,
        lambda: f"Task {_identify(task)} has been waited for for {seconds:.0f} s within {why}",
        task,
    )


def exists(task: Task) -> None:
    """Log that a task was not scheduled again, as this one lives (contract 9.8)."""
    _log(logging.INFO, lambda: f"Task {_identify(task)} lives, and was not scheduled again", task)


def retrying(task: Task, attempt: int, error: Exception) -> None:
    """Log that an attempt has failed and another one begins (contract 9.6)."""
    _log(
        logging.WARNING,
        lambda: (
            f"Task {_identify(task)}: attempt {attempt} failed, and another one begins: "
            + escape(f"{type_name(error)}: {cut(show(error))}")
        ),
        task,
    )


def observer_failed(observer: object, task: Task, error: BaseException) -> None:
    """Log what an observer has raised (contract 11.3)."""
    what = f"Observer {_function(observer)} failed, of task"
    _log(logging.ERROR, lambda: f"{what} {_identify(task)} ({task.state})", task, error)


def overlap(name: str, at: datetime) -> None:
    """Log that a periodic task does not run at a moment, as its last run lives (10.3)."""
    _log(
        logging.INFO,
        lambda: f"Periodic task {escape(name)} does not run at {at}: its last run lives",
    )


def no_run(name: str, at: datetime, why: str, error: BaseException | None = None) -> None:
    """Log that a periodic task does not run at a moment, as something has failed (10.4, 10.6)."""
    what = f"Periodic task {escape(name)} does not run at {at}: {why}"
    _log(logging.WARNING if error is None else logging.ERROR, lambda: what, None, error)


def clock_stopped(name: str, error: BaseException) -> None:
    """Log that a periodic task runs no more (contract 10.4)."""
    what = f"Periodic task {escape(name)} runs no more by the clock, which was stopped by"
    _log(logging.ERROR, lambda: f"{what} {type_name(error)}", None, error)


def records_failed(error: BaseException) -> None:
    """Log that records of tasks cannot be written or read; once, until they can be again."""
    what = "Records of tasks cannot be kept, for now"
    _log(logging.WARNING, lambda: f"{what}: {type_name(error)}: {escape(show(error))}")


def record_refused(task: Task, error: BaseException) -> None:
    """Log that the store takes other records, but not the last one of a task."""
    what = "The record of task"
    _log(
        logging.WARNING,
        lambda: (
            f"{what} {_identify(task)} is given up, the store takes only others: "
            + escape(f"{type_name(error)}: {cut(show(error))}")
        ),
        task,
    )


def records_stopped(error: BaseException) -> None:
    """Log that records of tasks are written no more."""
    what = f"Records of tasks are written no more, which was stopped by {type_name(error)}"
    _log(logging.ERROR, lambda: what, None, error)


def cancelled_from_outside(task: Task) -> None:
    """Log that the event loop's own cancellation ended a task, shielded or not."""
    what = "was cancelled by the event loop, not by its runner"
    _log(logging.WARNING, lambda: f"Task {_identify(task)} {what}", task)


def interrupted(task: Task) -> None:
    """Log that Ctrl-C met a task, which it ends, and goes on to the event loop (contract 4.1)."""
    _log(logging.WARNING, lambda: f"Task {_identify(task)} was interrupted by Ctrl-C", task)


def no_lifespan(refusal: Exception) -> None:
    """Log that an application refuses its lifespan, which so runs without code of its own.

    What may be an error after all is worth a warning.
    """
    plain = isinstance(refusal, AssertionError | NotImplementedError)
    what = "The application refuses the lifespan, so it is served one that has only its tasks"
    _log(
        logging.DEBUG if plain else logging.WARNING,
        lambda: f"{what}: {type_name(refusal)}: {escape(show(refusal))}",
    )


def waiting(tasks: Sequence[tuple[Task, str]]) -> None:
    """Log what a shutdown waits for, and what that waits for (contract 5.2)."""
    more = f" and {len(tasks) - _AT_ONCE} more" if len(tasks) > _AT_ONCE else ""
    first = tasks[:_AT_ONCE]
    _log(logging.WARNING, lambda: f"Shutdown is waiting for {_list(first)}{more}")


def unfinished(tasks: Sequence[tuple[Task, str]], who: str = "Shutdown") -> None:
    """Log what a shutdown has cut short or left behind, each task once (contract 5.3)."""
    for batch in (tasks[at : at + _AT_ONCE] for at in range(0, len(tasks), _AT_ONCE)):
        _log(logging.WARNING, partial(_list_unfinished, batch, who))


def _list_unfinished(tasks: Sequence[tuple[Task, str]], who: str) -> str:
    return f"{who} left unfinished: {_list(tasks)}"


def _identify_handler(task: Task) -> str:
    return f"Error handler {_function(task.config.on_error)} of task {_identify(task)}"


def _identify(task: Task) -> str:
    return (
        f"{escape(task.name)} (id={task._show_id()}, function={_function(task.func)}, "
        f"phase={task.phase})"
    )


def _list(tasks: Sequence[tuple[Task, str]]) -> str:
    return ", ".join(
        f"{escape(task.name)} (id={task._show_id()}, phase={task.phase}, age={task._age:.1f} s, "
        f"{'still ' if task._lives else ''}{task.state}"
        f"{f', waited for {waits_for}' if waits_for else ''})"
        for task, waits_for in tasks
    )


def _function(func: object) -> str:
    return escape(describe(func))


def _chain(failure: BaseException, error: BaseException) -> None:
    """Make ``error`` part of what a traceback of ``failure`` shows."""
    there = {id(error), id(get_cause(error))}  # of a `TaskAborted` the cause is what was raised
    seen = {id(failure)}
    while id(failure) not in there:
        shown = get_cause(failure)
        if shown is None and not get_suppress(failure):
            shown = get_context(failure)
        if shown is None or id(shown) in seen:
            set_context(failure, error)
            set_suppress(failure, False)  # noqa: FBT003 - as it is
            return
        seen.add(id(shown))
        failure = shown


def _log(
    level: int,
    say: Callable[[], str],
    task: Task | None = None,
    error: BaseException | None = None,
) -> None:
    try:
        if not logger.isEnabledFor(level):
            return
        message = say()
        # Not the error itself: one that is false in a condition would be logged without traceback.
        exc_info = None if error is None else (type(error), error, get_traceback(error))
        # The message is an argument: a name may hold a percent sign.
        try:
            logger.log(level, "%s", message, exc_info=exc_info, extra=_extra(task))
        except KeyError:  # a record factory has attributes of these names
            logger.log(level, "%s", message, exc_info=exc_info)
    except KeyboardInterrupt:
        raise
    except BaseException as broken:  # noqa: BLE001 - a broken logging handler (contract 4.1)
        with suppress(Exception):
            kind = type(broken).__name__
            sys.stderr.write(f"tasks_core could not log ({kind} in a logging handler): {say()}\n")


def _extra(task: Task | None) -> dict[str, object] | None:
    if task is None:
        return None
    return {
        "task_id": task._show_id(),
        "task_name": escape(task.name),
        "task_func": _function(task.func),
        "task_phase": str(task.phase),
    }
