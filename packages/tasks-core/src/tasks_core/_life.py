"""What moves a task through its life.

It is the runner's, and happens on the event loop's thread only: so a state has one writer, and a
final one never changes.
"""

# pyright: reportPrivateUsage=false
# ruff: noqa: SLF001
# This module is the task's friend: users see a task's states, and cannot set them.

from __future__ import annotations

import time
from collections.abc import Coroutine
from contextvars import Context
from secrets import token_hex
from typing import Any

from ._backend import Backend
from ._calling import describe
from ._config import TaskConfig
from ._exceptions import TaskFailed
from ._state import CANCELLED, FAILED, PENDING, RUNNING, SUCCEEDED, TaskState
from ._task import Task, announce, current, tell

_NO_CONTEXT = Context()


def lives(task: Task) -> bool:
    """Whether the task has not reached a final state yet."""
    return task._state is PENDING or task._state is RUNNING


def age(task: Task) -> float:
    """Return the seconds since the task was scheduled."""
    return time.monotonic() - task._scheduled_at


def spawn(task: Task, backend: Backend, coro: Coroutine[Any, Any, None]) -> None:
    """Start the coroutine that runs the task, in the task's context and under its name."""
    name = task.config.name  # not `task.name`: this is done for each task
    name = describe(task.func) if name is None else name
    try:
        handle = backend.spawn(coro, name=name, context=task._context)
    except Exception:
        coro.close()
        raise
    # It may be over already, where the loop's tasks start eagerly.
    task._handle = None if task._ended_at is not None else handle
    task._context = _NO_CONTEXT


def handle(task: Task) -> object:
    """Return the backend's handle of the coroutine that runs the task, if that was started."""
    return task._handle


def begin(task: Task) -> None:
    """Note that the function is being called."""
    current.set(task)
    task._began_at = time.monotonic()
    task._state = RUNNING
    if task._started is not None:
        task._started.set()


def succeed(task: Task, result: object) -> None:
    """Note that the function has returned."""
    task._result = result
    task._state = SUCCEEDED  # last: a thread that sees the state has the result


def fail(task: Task, error: Exception) -> None:
    """Note that the function has raised."""
    task._exception = error
    task._traceback = error.__traceback__
    task._state = FAILED  # last, as above


def end(task: Task, otherwise: TaskState = CANCELLED) -> bool:
    """Let waiters go on, the task is over; if nothing has become of it yet, this has.

    Returns whether somebody knows the task by its id.
    """
    if lives(task):
        task._state = otherwise
    task._handle = None
    task._context = _NO_CONTEXT  # it holds the request's values, and a handle may be kept for long
    task._ended_at = time.monotonic()
    if task._changed is not None:
        announce(task)
    return task._id != ""


def home(task: Task) -> int:
    """Return the thread of the event loop that the task belongs to."""
    return task._host.thread


def is_over(task: Task) -> bool:
    """Whether everything is over, the error handler included."""
    return task._ended_at is not None


def identify(task: Task) -> str:
    """Give the task its id, if it has none yet."""
    if not task._id:
        task._id = token_hex(16)
    return task._id


def remains(task: Task) -> Task:
    """Return a handle for a task that has ended which holds on to nothing but its result."""
    config = task.config
    settings = TaskConfig(name=config.name, shield=config.shield, run_on=config.run_on)
    kept: Task = Task(task._host, task.phase, settings, _Gone(describe(task.func)), (), {})
    kept._context = _NO_CONTEXT
    for name in (
        "_id",
        "_scheduled_at",
        "_began_at",
        "_ended_at",
        "_state",
        "_result",
        "_progress",
    ):
        setattr(kept, name, getattr(task, name))
    kept._exception = None if task._exception is None else TaskFailed(*tell(task))
    return kept


class _Gone:
    """Stands for the function of a task that has ended, under its name."""

    def __init__(self, name: str) -> None:
        self.__qualname__ = name

    def __call__(self) -> None:
        msg = (
            f"Task {self.__qualname__} had ended when it was looked up, and its function and "
            "arguments are not kept: schedule it anew, or keep the handle that schedule() returns."
        )
        raise RuntimeError(msg)
