"""What lives on an event loop: how it is cancelled, and who waits until it has ended."""

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
        # How many ends were counted: those that came while somebody waited. And who waits, each
        # until so many are. A signal handler may end tasks wherever this is read or changed.
        self._ends = 0
        self._waiting: dict[Event, int] = {}

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
        if self._waiting:
            self.count_end()
        if task._known:
            task._runner.registry._retire(task)
        if task._lane is not None or task._runner._observers.active:
            task._runner._ended(task)

    async def wait(self, ends: int, seconds: float) -> None:
        """Wait until so many more tasks have ended, so long at most.

        Who waits for some of those that live waits for as many ends as these are, then looks again:
        so an end costs the same however many live.
        """
        event = Event()
        self._waiting[event] = self._ends + ends
        try:
            with move_on_after(seconds):
                await event.wait()
        finally:
            del self._waiting[event]

    def count_end(self) -> None:
        """Count an end; or a task that need not be waited for any more."""
        self._ends += 1
        for event, ends in list(self._waiting.items()):
            if self._ends >= ends:
                event.set()
