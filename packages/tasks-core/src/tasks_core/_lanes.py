"""Tasks that are counted by a key: which lives, how many run, and who waits (contract 9.8)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from types import FunctionType
from typing import Any
from weakref import WeakSet

from ._exceptions import BacklogFullError
from ._identity import identify, unbind
from ._names import describe
from ._record import escape
from ._state import PENDING
from ._task import Task


class Lane:
    """The tasks of a key that live."""

    __slots__ = ("index", "living", "running", "twins", "waiting")

    def __init__(self, index: object) -> None:
        self.index = index
        # Those that live, in the order in which they were scheduled. Once somebody has asked for
        # one of a function, where a key was set: with their functions, and the same by these.
        self.living: dict[Task, object] = {}
        self.twins: dict[object, dict[Task, None]] | None = None
        # Those that were started.
        self.running: set[Task] = set()
        # Those whose time has come, in that order; some have ended since.
        self.waiting = deque[Task]()

    def has_room(self, task: Task) -> bool:
        """Whether a task may run beside those that do."""
        limit = task.config.limit
        return limit is None or len(self.running) < limit


class Lanes:
    """A lane for each key of which a task lives. All of it is called under the runner's lock.

    A finaliser or a signal handler may come in between all the same, in the thread that holds the
    lock, and schedule or cancel tasks: wherever something is called, or a container is made. So
    what has been found out is done only if nothing has changed meanwhile, by steps that call
    nothing; else it is found out anew.
    """

    def __init__(self) -> None:
        self._lanes: dict[object, Lane] = {}
        # What users have cancelled while it could take effect: nobody is given such in place of a
        # new task (contract 9.8). It changes in any thread.
        self.dismissed = WeakSet[Task]()
        # How often anything was changed.
        self._changes = 0
        # Whether what is handed over to an engine no longer waits for its turn.
        self._hurries = False
        # The code of functions, by its identity, of which somebody has asked for a unique task
        # without a key: from then on also those tasks of them are known that are not counted.
        self.watched: dict[int, object] = {}

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
        if config.unique and config.key is None:
            self._watch(task, living)
        while True:
            changes = self._changes
            lane = self._lanes.get(index)
            if config.unique:
                twin = self._find_twin(task, index, lane)
                if twin is not None:
                    return twin
            if lane is None:
                lane = Lane(index)
            self._refuse_backlog(task, lane)
            if self._count(task, lane, changes):
                return task

    def note(self, task: Task) -> None:
        """Know a task that is not counted, if somebody has asked for one of its function."""
        if id(_code_of(task)) in self.watched:
            self._adopt(task)

    def enter(self, task: Task, lane: Lane) -> bool:
        """Let a task whose time has come run, or wait its turn; return whether it may run."""
        while True:
            changes = self._changes
            if task in lane.running:
                return True
            waits = task.config.limit is not None and (lane.waiting or not lane.has_room(task))
            waits = waits and not (self._hurries and task._carried is not None)
            if self._changes != changes:
                continue
            if task._lane is not lane:  # it has ended
                return False
            self._changes += 1
            if waits:
                task._handle = lane
                lane.waiting.append(task)
                return False
            lane.running.add(task)
            return True

    def hurry(self) -> list[Task]:
        """Let no hand-over wait for its turn from now on; return those that have waited."""
        self._hurries = True
        due: list[Task] = []
        for lane in list(self._lanes.values()):
            for one in list(lane.waiting):
                if one._carried and one._lane is lane and one not in lane.running:
                    self._changes += 1
                    lane.running.add(one)  # it waits no more, see `leave`
                    one._handle = None
                    due.append(one)
        return due

    def leave(self, task: Task, lane: Lane) -> list[Task]:
        """Forget a task that is over; return those whose turn has come by that."""
        self._changes += 1
        function = lane.living.pop(task, None)
        lane.running.discard(task)
        twins = None if lane.twins is None else lane.twins.get(function)
        if lane.twins is not None and twins is not None:
            twins.pop(task, None)
            if not twins and function in lane.twins and lane.twins[function] is twins:
                del lane.twins[function]
        due = self._give_turns(lane)
        waiting = lane.waiting
        if len(waiting) > 2 * (len(lane.living) - len(lane.running)) + 16:  # most have ended
            changes = self._changes
            left = deque(one for one in list(waiting) if one._state is PENDING)
            if self._changes == changes:
                lane.waiting = left
        if not lane.living and lane.index in self._lanes and self._lanes[lane.index] is lane:
            self._changes += 1
            del self._lanes[lane.index]
        return due

    def _give_turns(self, lane: Lane) -> list[Task]:
        """Return those whose turn has come."""
        due: list[Task] = []
        while lane.waiting:
            changes, first = self._changes, lane.waiting[0]
            has_turn = first in lane.running
            may_go = first._state is not PENDING or has_turn or lane.has_room(first)
            if self._changes != changes:
                continue
            if not may_go:
                break
            self._changes += 1
            del lane.waiting[0]
            if first._state is PENDING and not has_turn:
                lane.running.add(first)
                first._handle = None
                due.append(first)
        return due

    def _find_twin(self, task: Task, index: object, lane: Lane | None) -> Task | None:
        """Return a task of the same function and key that lives."""
        if task.config.key is not None:
            return (
                None if lane is None else self._newest(self._tell_apart(lane, identify(task.func)))
            )
        # All of a lane are of the same function here.
        uncounted = self._lanes.get((None, index))
        twin = None if lane is None else self._newest(lane.living)
        return twin or (None if uncounted is None else self._newest(uncounted.living))

    def _tell_apart(self, lane: Lane, function: object) -> dict[Task, None]:
        """Return the tasks of a function in a lane, in which others may be."""
        while lane.twins is None:
            changes = self._changes
            living = {one: identify(one.func) for one in list(lane.living)}
            twins: dict[object, dict[Task, None]] = {}
            for one, its in living.items():
                twins.setdefault(its, {})[one] = None
            if self._changes == changes:
                lane.living, lane.twins = living, twins
        return lane.twins.get(function, _NOBODY)

    def _newest(self, living: dict[Task, Any]) -> Task | None:
        """Return the newest of the tasks that go on; what is over, or cancelled, leaves soon."""
        while True:
            try:
                for one in reversed(living):
                    if one._ended_at is None and one not in self.dismissed:
                        return one
            except RuntimeError:  # who has come in between has changed it
                continue
            return None

    def _refuse_backlog(self, task: Task, lane: Lane) -> None:
        config = task.config
        if config.limit is not None and config.backlog is not None:
            waiting = len(lane.living) - len(lane.running)
            if waiting >= config.backlog + max(0, config.limit - len(lane.running)):
                key = describe(task.func) if config.key is None else config.key
                raise BacklogFullError(escape(task.name), key, escape(key), waiting)

    def _count(self, task: Task, lane: Lane, changes: int) -> bool:
        """Put a task into a lane, unless something has changed since it was found."""
        function = None if lane.twins is None else identify(task.func)
        twins = None if lane.twins is None else lane.twins.get(function, {})
        if self._changes != changes:
            return False
        self._changes += 1
        self._lanes[lane.index] = task._lane = lane
        lane.living[task] = function
        if lane.twins is not None and twins is not None:
            lane.twins[function] = twins
            twins[task] = None
        return True

    def _watch(self, task: Task, living: Iterable[Task]) -> None:
        """Know from now on the tasks of a function that are not counted, once for each function."""
        code = _code_of(task)
        if id(code) in self.watched:
            return
        if len(self.watched) >= _MOST_WATCHED:
            self.watched.clear()
        self.watched[id(code)] = code
        for one in living:
            if one._lane is None and _code_of(one) is code:
                self._adopt(one)

    def _adopt(self, task: Task) -> None:
        """Put a task that is not counted into a lane of those of its function."""
        index = (None, identify(task.func))
        while True:
            changes = self._changes
            lane = self._lanes.get(index) or Lane(index)
            if task._is_over or task._lane is not None:
                return
            if self._count(task, lane, changes):
                break
        # Its event loop looks the other way round, so at least one of the two lets it leave.
        if task._ended_at is not None:
            task._lane = None
            self.leave(task, lane)


def _code_of(task: Task) -> object:
    """Return what tasks of the same function have in common, which is soon found."""
    func = unbind(task.func)
    return func.__code__ if type(func) is FunctionType else None


_MOST_WATCHED = 1000
_NOBODY: dict[Task, None] = {}
