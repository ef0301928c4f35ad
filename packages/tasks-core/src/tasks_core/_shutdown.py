"""How far a runner's shutdown has come, and what it cuts short by then (contract 5.2 to 5.4)."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress

from anyio import CancelScope

from . import _report
from ._living import Living
from ._scheduler import FEW, TasksScheduler
from ._task import Task


class Shutdown:
    """Decides, at each stage of a shutdown, which tasks live on; it waits for nothing."""

    def __init__(self) -> None:
        # It cuts what is not shielded and has not begun, then all that is not shielded, then
        # everything.
        self.drains = self.cancels = self._cancels_shielded = False
        # What was cut short, in order, and what each task waited for then, if for anything; the
        # report is drawn from this.
        self.cut: dict[Task, str] = {}
        # Where who follows a task waits, on the event loop in which the runner was entered.
        self._following = set[CancelScope]()
        # Schedulers with tasks that wait, which nobody has entered: perhaps nobody reaches their
        # phases. It changes under the runner's lock. Those of which nothing waits any more are
        # dropped when there are more than so many.
        self.unentered = set[TasksScheduler]()
        self._room = FEW

    def begin(self) -> None:
        """Cut what is not shielded and has not begun, from now on; who follows tasks goes."""
        self.drains = True
        for scope in self._following:
            scope.cancel()

    def cancel(self, *, shielded: bool = False) -> None:
        """Cut all that is not shielded from now on, or everything."""
        self.cancels, self._cancels_shielded = True, shielded

    def spares(self, task: Task) -> bool:
        """Whether the shutdown, as far as it has got, leaves a task alone."""
        if task._is_daemon:
            return not self.drains
        if task._is_shielded:
            return not self._cancels_shielded
        return not (self.cancels or (self.drains and not task.attempt))

    def cut_living(self, living: Living) -> None:
        """Cut short what is not spared."""
        for task in living:
            if not self.spares(task):
                self.cut_short(task)

    def cut_short(self, task: Task, waits_for: str = "") -> None:
        """Cancel a task, and note what it has waited for."""
        living = task._backend.living
        scope = living.scopes.get(task)
        is_cancelled = scope is not None and scope.cancel_called  # by its user, who knows
        if not (is_cancelled or task._is_daemon):  # of a daemon that is expected
            self.cut.setdefault(task, waits_for or task._waits_for)
        living.cancel(task)

    def report(self, living: Iterable[Task]) -> None:
        """Log what did not finish, what lives now included."""
        left = [(task, task._waits_for) for task in living]
        cut = [(task, why) for task, why in self.cut.items() if task._is_cut]
        _report.unfinished([*cut, *left])

    @contextmanager
    def cancelling(self, *, here: bool) -> Generator[CancelScope]:
        """Cancel what is awaited in the block as the shutdown begins, or if it has begun.

        Args:
            here: Whether this is the event loop in which the runner was entered.
        """
        with CancelScope() as scope:
            if self.drains:
                scope.cancel()
            if here:
                self._following.add(scope)
            try:
                yield scope
            finally:
                self._following.discard(scope)

    # What waits for a phase that nobody reaches.

    def hold_unentered(self, task: Task, scheduler: TasksScheduler) -> None:
        """Let a task wait for a phase that perhaps nobody reaches; the caller holds the lock."""
        self.unentered.add(scheduler)
        if len(self.unentered) > self._room:
            self._drop_unentered()
        if self.drains:  # which may have taken it for one that ends by itself
            with suppress(RuntimeError):  # the loop has ended
                task._backend.call_soon(task._backend.living.count_end)

    def forget_unentered(self, scheduler: TasksScheduler) -> None:
        """Note that a scheduler has reached its last phase; the caller holds the lock."""
        self.unentered.discard(scheduler)

    def unreachable(self, living: Living) -> list[Task]:
        """Return what waits for a phase that nobody reaches; the caller holds the lock."""
        self._drop_unentered()
        alone = [scheduler for scheduler in list(self.unentered) if not scheduler._open]
        return [task for those in alone for task in those._waiting if task in living.scopes]

    def cut_unreachable(self, unreachable: Iterable[Task]) -> None:
        """Cut short what waits for ever, once nothing else lives (contract 2.8)."""
        if self.drains:
            for task in unreachable:
                self.cut_short(task, f"{task.phase}, and nobody has entered its scheduler")

    def _drop_unentered(self) -> None:
        """Forget schedulers of which nothing waits any more."""
        for one in list(self.unentered):  # a signal handler or a finaliser may add another one
            if not any(task._lives for task in one._waiting):
                self.unentered.discard(one)
        self._room = 2 * len(self.unentered) + FEW
