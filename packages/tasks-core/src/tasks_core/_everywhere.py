"""A task by its id, wherever it runs: here, in an engine, in another process (7.6, 8.9)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from anyio import Event, current_time, move_on_after, sleep
from anyio.lowlevel import checkpoint, current_token

from ._carrier import TaskStatus, find_carrier
from ._handing_over import ask_status
from ._records import LOST, Records, may_be_id
from ._state import FAILED, HANDED_OVER, LIVING, PENDING

if TYPE_CHECKING:
    from ._runner import TaskRunner
    from ._task import Task

ASK_EVERY: Final = 0.5
"""Seconds after which an engine, or a store, is asked again by who follows a task."""

ARRIVES_WITHIN: Final = 0.5
"""Seconds in which another process has written of a task whose id it has given to somebody."""

FILLED_WITHIN: Final = 5.0
"""Seconds for which who follows a task looks for it, once it was known: in which its process has
seen that a store has come back empty, and has written again."""

_ENGINES: Final = LIVING | {HANDED_OVER}
"""The states of a carried task in which its engine knows better."""


def find_here(runner: TaskRunner, task_id: str) -> TaskStatus | None:
    """Return what this process knows of a task."""
    task = runner.registry.get(task_id)
    return None if task is None else task._status()


async def find_status(
    runner: TaskRunner, task_id: str, own: TaskStatus | None = None
) -> TaskStatus | None:
    """Return what is known of a task: see `TasksScheduler.status`.

    Args:
        runner: Who knows the tasks of this process.
        task_id: The id.
        own: What this process has known last, as who follows does: it may be forgotten by now.
    """
    await checkpoint()
    own = find_here(runner, task_id) or own
    if own is not None and not _is_in_doubt(own):
        return own
    carrier = runner._carriers.get(find_carrier(task_id))
    found: TaskStatus | None = None
    if carrier is not None:
        backend = runner._find_backend() or runner._entered()
        found = await ask_status(task_id, carrier, runner._messengers, backend)
        if found is not None and found.state is not PENDING:
            return found
    records = _records(runner, task_id)
    if own is None and records is not None:
        own = await records.find(task_id, ARRIVES_WITHIN if found is None else 0.0)
    # An engine may say *pending* of what it does not know: of what has ended before it was handed
    # over, or was not confirmed, here or in another process, that is not its word.
    settled = own is not None and own.state not in _ENGINES and own.error_type != LOST
    return own if found is None or settled else found


async def cancel_task(runner: TaskRunner, task_id: str) -> bool:
    """Cancel a task: see `TasksScheduler.cancel`."""
    await checkpoint()
    task = runner.registry.get(task_id)
    if task is not None:
        return task.cancel()
    records = _records(runner, task_id)
    return records is not None and await records.cancel(task_id, ARRIVES_WITHIN)


def _records(runner: TaskRunner, task_id: str) -> Records | None:
    """Return where to look for a task of another process, if there can be one of this id."""
    return runner._records if may_be_id(task_id) else None


def _is_in_doubt(own: TaskStatus) -> bool:
    """Whether an engine may have a task all the same, though it has not confirmed it."""
    return own.state is FAILED and own.carrier is not None


class Asked:
    """What was asked last of a task of another process, for all who follow it on an event loop."""

    __slots__ = ("__weakref__", "_at", "_found", "_under_way")

    def __init__(self) -> None:
        self._at = -inf
        self._found: TaskStatus | None = None
        self._under_way: Event | None = None

    @property
    def left(self) -> float:
        """The seconds for which the answer counts."""
        return self._at + ASK_EVERY - monotonic()

    async def ask(
        self, runner: TaskRunner, task_id: str, own: TaskStatus | None
    ) -> TaskStatus | None:
        """Return the answer; ask again if it is too old, and nobody who is asking now gets one.

        Where there is none, as the store fails for instance, each asks: nobody waits in a row.
        """
        await checkpoint()
        if self._under_way is not None and self.left <= 0:
            await self._under_way.wait()
        if self.left > 0:
            return self._found
        self._under_way = under_way = Event()
        try:
            found = await find_status(runner, task_id, own)
            if found is not None:
                self._found, self._at = found, monotonic()
            return found
        finally:
            under_way.set()
            self._under_way = None


class Following(AsyncIterator[TaskStatus]):
    """The statuses of a task as they change: see `TasksScheduler.follow`."""

    def __init__(self, runner: TaskRunner, task_id: str) -> None:
        self._runner = runner
        self._id = task_id
        # What runs here, until its last status is given: once it is over, others may take its place
        # among those that are remembered.
        self._task: Task | None = None
        self._asked: Asked | None = None
        self._last: object = None
        self._ends = False

    async def __anext__(self) -> TaskStatus:
        """Wait for the next one."""
        while not self._ends:
            status = await self._look()
            if status is None and self._last is not None:
                status = await self._look_for_long()
            if status is None:
                self._ends = True
                break
            self._ends = status.state not in LIVING or self._runner._shutdown.drains
            if self._ends:
                self._task = None
            seen = (status.state, status.progress)
            if seen != self._last:
                self._last = seen
                return status
            if not self._ends:
                with self._runner._until_drain():
                    await self._wait()
        raise StopAsyncIteration

    async def _look_for_long(self) -> TaskStatus | None:
        """Look for what has lived: a store that has come back empty is filled."""
        status, until = None, current_time() + FILLED_WITHIN
        # The store is given time at each look; where there is none, nothing would change.
        while _records(self._runner, self._id) is not None and current_time() < until:
            status = await self._look()
            if status is not None or self._runner._shutdown.drains:
                break
        return status

    async def _look(self) -> TaskStatus | None:
        """Return what is known; once a shutdown has begun, here, for an engine may not answer."""
        await checkpoint()
        own = status = self._find_own()
        if own is None or _is_in_doubt(own):
            with self._runner._until_drain():
                status = await self._ask(own)
        return status

    def _find_own(self) -> TaskStatus | None:
        task = self._task or self._runner.registry.get(self._id)
        own = None if task is None else task._status()
        if own is not None and own.state is HANDED_OVER:  # from now on its engine is asked (8.9)
            task = own = None
        self._task = task
        return own

    async def _ask(self, own: TaskStatus | None) -> TaskStatus | None:
        if self._asked is None:
            key = self._id, current_token()
            self._asked = self._runner._asked.setdefault(key, Asked())
        return await self._asked.ask(self._runner, self._id, own)

    async def _wait(self) -> None:
        task = self._task
        if task is None or task._is_over:  # others are asked
            await sleep(ASK_EVERY if self._asked is None else max(0, self._asked.left))
            return
        with move_on_after(ASK_EVERY):
            await task._until_changed(task.progress)
