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
from typing import Any

from ._backend import Backend
from ._state import CANCELLED, FAILED, PENDING, RUNNING, SUCCEEDED, TaskState
from ._task import Task, current

_NO_CONTEXT = Context()


def lives(task: Task) -> bool:
    """Whether the task has not reached a final state yet."""
    return task._state is PENDING or task._state is RUNNING


def age(task: Task) -> float:
    """Return the seconds since the task was scheduled."""
    return time.monotonic() - task._scheduled_at


def spawn(task: Task, backend: Backend, coro: Coroutine[Any, Any, None]) -> None:
    """Start the coroutine that runs the task, in the task's context and under its name."""
    try:
        handle = backend.spawn(coro, task.name, task._context)
    except Exception:
        coro.close()
        raise
    # It may be over already, where the loop's tasks start eagerly.
    task._handle = None if task._over else handle
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
    task._state = SUCCEEDED
    task._result = result


def fail(task: Task, error: Exception) -> None:
    """Note that the function has raised."""
    task._state = FAILED
    task._exception = error
    task._traceback = error.__traceback__


def end(task: Task, otherwise: TaskState = CANCELLED) -> None:
    """Let waiters go on, the task is over; if nothing has become of it yet, this has."""
    if lives(task):
        task._state = otherwise
    task._handle = None
    task._context = _NO_CONTEXT  # it holds the request's values, and a handle may be kept for long
    task._over = True
    if task._ended is not None:
        task._ended.set()
