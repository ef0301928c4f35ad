"""What lives on an event loop: how it is cancelled, and when nothing lives any more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from anyio import CancelScope, Event, move_on_after

from ._state import CANCELLED, TaskState

if TYPE_CHECKING:
    from ._task import Task


class Living:
    """Every task in a state that is not final, or whose error handler is at work, as scheduled.

    It changes on the event loop's thread, but for `add`, which any thread may call.
    """

    def __init__(self) -> None:
        # With the scope that cancels it, once it has been started.
        self._scopes: dict[Task, CancelScope | None] = {}
        # Set when nothing lives any more, or whenever something ends; made by who waits for that.
        self._idle: Event | None = None
        self._each = False

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
        if self._idle is not None and (self._each or not self._scopes):
            self._idle.set()
        if task._known:
            task._runner.registry._retire(task)
        if task._lane is not None or task._runner._observers.active:
            task._runner._ended(task)

    async def wait_idle(self, seconds: float, *, each: bool = False) -> bool:
        """Wait until nothing lives, so long at most; return whether it came to that.

        Args:
            seconds: How long.
            each: Whether to wait for the next end only.
        """
        if not self._scopes:
            return True
        if self._idle is None or self._idle.is_set():
            self._idle = Event()
        self._each = self._each or each
        with move_on_after(seconds):
            await self._idle.wait()
        return not self._scopes
