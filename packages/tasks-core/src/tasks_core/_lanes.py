"""Tasks that are counted by a key: which lives, how many run, and who waits (contract 9.8)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import chain

from ._exceptions import BacklogFullError
from ._function import describe, identify
from ._record import escape
from ._state import PENDING
from ._task import Task


class Lane:
    """The tasks of a key that live."""

    __slots__ = ("index", "last", "living", "running", "waiting")

    def __init__(self, index: object) -> None:
        self.index = index
        self.living = 0
        # The one that was scheduled last, if it lives.
        self.last: Task | None = None
        # Those that were started.
        self.running: set[Task] = set()
        # Those whose time has come, in that order; some have ended since.
        self.waiting = deque[Task]()

    def has_room(self, task: Task) -> bool:
        """Whether a task may run beside those that do."""
        limit = task.config.limit
        return limit is None or len(self.running) < limit


class Lanes:
    """A lane for each key of which a task lives. All of it is called under the runner's lock."""

    def __init__(self) -> None:
        self._lanes: dict[object, Lane] = {}
        # Whether what is handed over to an engine no longer waits for its turn.
        self._hurries = False

    def __len__(self) -> int:
        return len(self._lanes)

    def admit(self, task: Task, living: Iterable[Task]) -> Task:
        """Count a task that is scheduled; return it, or the one that lives in its place.

        Args:
            task: The task.
            living: All that live, counted or not.

        Raises:
            BacklogFullError: Too many of its key wait (contract 9.11).
        """
        config = task.config
        index = identify(task.func) if config.key is None else config.key
        lane = self._lanes.get(index)
        if config.unique:
            twin = _find_twin(task, lane, living)
            if twin is not None:
                return twin
        if lane is None:
            lane = Lane(index)
        if config.limit is not None and config.backlog is not None:
            waiting = lane.living - len(lane.running)
            if waiting >= config.backlog + max(0, config.limit - len(lane.running)):
                key = describe(task.func) if config.key is None else config.key
                raise BacklogFullError(escape(task.name), key, escape(key), waiting)
        self._lanes[index] = task._lane = lane
        lane.living += 1
        lane.last = task
        return task

    def enter(self, task: Task, lane: Lane) -> bool:
        """Let a task whose time has come run, or wait its turn; return whether it may run."""
        if task in lane.running:
            return True
        waits = task.config.limit is not None and (lane.waiting or not lane.has_room(task))
        if waits and not (self._hurries and task._carried is not None):
            lane.waiting.append(task)
            return False
        lane.running.add(task)
        return True

    def hurry(self) -> list[Task]:
        """Let no hand-over wait for its turn from now on; return those that have waited."""
        self._hurries = True
        due: list[Task] = []
        for lane in self._lanes.values():
            carried = [one for one in lane.waiting if one._carried and one._lane is lane]
            lane.waiting = deque(one for one in lane.waiting if one._carried is None)
            lane.running.update(carried)
            due += carried
        return due

    def leave(self, task: Task, lane: Lane) -> list[Task]:
        """Forget a task that is over; return those whose turn has come by that."""
        due: list[Task] = []
        lane.living -= 1
        lane.running.discard(task)
        if lane.last is task:
            lane.last = None
        waiting = lane.waiting
        while waiting and (waiting[0]._state is not PENDING or lane.has_room(waiting[0])):
            first = waiting.popleft()
            if first._state is PENDING:
                lane.running.add(first)
                due.append(first)
        if len(waiting) > 2 * (lane.living - len(lane.running)) + 16:  # most have ended
            lane.waiting = deque(one for one in waiting if one._state is PENDING)
        if not lane.living:
            del self._lanes[lane.index]
        return due


def _find_twin(task: Task, lane: Lane | None, living: Iterable[Task]) -> Task | None:
    """Return a task of the same function and key that lives."""
    function = identify(task.func)
    if lane is not None:
        last = () if lane.last is None else (lane.last,)
        for one in chain(last, living):
            if one._lane is lane and not one._is_over and identify(one.func) == function:
                return one
    if task.config.key is None:
        for one in living:  # which is not counted, as nothing is set for it
            if one._lane is None and not one._is_over and identify(one.func) == function:
                return one
    return None
