"""What is kept of a task that has ended: what its record says, and its result."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

from ._carrier import Carried
from ._exceptions import TaskFailed
from ._names import describe
from ._task import Task

_KEPT = (
    "phase",
    "_backend",
    "_began_at",
    "_ended_at",
    "_id",
    "_is_async",
    "_known",
    "_progress",
    "_result",
    "_runner",
    "_scheduled_at",
    "_state",
)


class RememberedTask(Task[..., Any]):
    """A task that has ended, as it is found by its id: it holds on to nothing but its result."""

    __slots__ = ()

    def __init__(self, task: Task) -> None:
        """Take over what is kept."""
        for name in _KEPT:
            setattr(self, name, getattr(task, name))
        self.func = _NotKept(describe(task.func))
        self.args = ()
        self.config = replace(task.config, on_error=None, retry=None)  # they hold on to others
        self._attempt = task.attempt
        self._carried = task._carried and Carried(task._carried.carrier, self.func)
        self._lane = None
        self._kwargs = self._started = self._changed = None
        self._exception = None if task.exception is None else TaskFailed(*task._tell())

    async def _hand_over(self, carried: Carried) -> None:
        """Say that there is nothing to hand over any more."""
        carried.send(self.id)

    def _raise(self, error: Exception) -> NoReturn:
        """Raise a new error: what is remembered must not get the waiter's frames."""
        del error
        raise TaskFailed(*self._tell())

    def _tell(self) -> tuple[str, str]:
        """Return the type and the text of what it has raised."""
        return self._exception.args if isinstance(self._exception, TaskFailed) else ("", "")


class _NotKept:
    """Stands for the function of a task that has ended, under its name."""

    def __init__(self, name: str) -> None:
        self.__qualname__ = name

    def __call__(self, *_: object) -> None:
        msg = (
            f"Task {self.__qualname__} had ended when it was looked up, and its function and "
            "arguments are not kept: schedule it anew, or keep the handle that schedule() returns."
        )
        raise RuntimeError(msg)
