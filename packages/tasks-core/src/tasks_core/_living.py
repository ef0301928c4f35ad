"""What lives on an event loop: how it is cancelled, and when nothing lives any more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from anyio import CancelScope, Event, move_on_after

if TYPE_CHECKING:
    from ._task import Task


class Living:
    """Every task in a state that is not final, or whose error handler is at work, as scheduled.

    All else changes on the event loop's thread.
    """

    def __init__(self) -> None:
        self.scopes: dict[Task, CancelScope | None] = {}
        """Who takes a task in adds it, in any thread; who starts it, the scope that cancels it."""
        # Set when nothing lives any more, or whenever something ends; made by who waits for that.
        self._idle: Event | None = None
        self._each = False

    def __iter__(self) -> Iterator[Task]:
        return iter(list(self.scopes))

    def __len__(self) -> int:
        return len(self.scopes)

    def cancel(self, task: Task) -> None:
        """Cancel a task, before it begins or while it runs."""
        scope = self.scopes.get(task)
        if scope is not None:
            scope.cancel()
        elif task._lives and not task._runner._observers.defers(task):
            self.end(task)

    def end(self, task: Task) -> None:
        """Forget a task: it is over."""
        self.scopes.pop(task, None)
        task._end()
        if self._idle is not None and (self._each or not self.scopes):
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
        if not self.scopes:
            return True
        if self._idle is None or self._idle.is_set():
            self._idle = Event()
        self._each = self._each or each
        with move_on_after(seconds):
            await self._idle.wait()
        return not self.scopes
