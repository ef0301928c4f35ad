"""What lives in a runner, how it is cancelled, and when nothing does any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from anyio import CancelScope, Event, current_time, move_on_after
from anyio.lowlevel import checkpoint

from . import _report
from ._state import CANCELLED, TaskState
from ._task import Task

WARN_EVERY: Final = 10.0
"""Seconds between two warnings of a shutdown that waits (contract 5.2)."""


class Living:
    """Every task in a state that is not final, or whose error handler is at work, as scheduled.

    It changes on the event loop's thread, but for `add`, which any thread may call.

    Args:
        retire: Called with a task that is over.
    """

    def __init__(self, retire: Callable[[Task], None]) -> None:
        # With the scope that cancels it, once it has been started.
        self._scopes: dict[Task, CancelScope | None] = {}
        self._retire = retire
        # Set whenever nothing lives any more; made by who waits for it.
        self._idle: Event | None = None

    def __iter__(self) -> Iterator[Task]:
        return iter(list(self._scopes))

    def __len__(self) -> int:
        return len(self._scopes)

    def add(self, task: Task) -> None:
        """Take a task in."""
        self._scopes[task] = None

    def enter(self, task: Task, scope: CancelScope) -> None:
        """Note the scope that cancels it from now on."""
        self._scopes[task] = scope

    def cancel(self, task: Task) -> None:
        """Cancel a task, before it begins or while it runs."""
        scope = self._scopes.get(task)
        if scope is not None:
            scope.cancel()
        elif task._lives:
            self.end(task)

    def end(self, task: Task, otherwise: TaskState = CANCELLED) -> None:
        """Forget a task: it is over."""
        self._scopes.pop(task, None)
        task._end(otherwise)
        if task._id:  # somebody knows it
            self._retire(task)
        if self._idle is not None and not self._scopes:
            self._idle.set()

    async def until_idle(self, deadline: float, forget_lost: Callable[[], None]) -> None:
        """Wait until nothing lives, or the deadline, with warnings."""
        await checkpoint()
        forget_lost()
        while self._scopes and (left := deadline - current_time()) > 0:
            self._idle = Event()
            with move_on_after(min(left, WARN_EVERY)) as late:
                await self._idle.wait()
            forget_lost()
            if late.cancelled_caught and self._scopes and current_time() < deadline:
                _report.waiting(list(self))
