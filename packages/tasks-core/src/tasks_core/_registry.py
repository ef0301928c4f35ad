"""What lives in a runner, and what is remembered of the tasks that have ended."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import chain
from threading import RLock
from typing import Final

from ._checks import check_choice, check_id, check_text
from ._living import Living
from ._memory import RememberedTask
from ._observers import Observers, Updates
from ._phase import Phase
from ._state import HANDED_OVER, TaskState
from ._task import Task

_READ_LATER: Final = 1000
"""Tasks that a reader of updates may leave unread, whatever is remembered."""


class TaskRegistry:
    """The tasks of a runner: those that live, and the last ones that have ended.

    A task lives from its scheduling until it is over, its error handler included. One that has
    ended is remembered if its `Task.id` was ever asked for, as nobody else could look it up. What
    is remembered is what its record says, and its result: not its arguments, and neither its
    function nor what that raised, since these hold on to others.

    Iterating gives the tasks that live, in the order of their scheduling; ``len()`` is their
    number. All of it may be used from any thread.
    """

    def __init__(self, history: int, observers: Observers) -> None:
        """Made by `TaskRunner`, not by users."""
        self._observers = observers
        self._living: list[Living] = []  # on each event loop
        self._history = history
        # Those that have an id: what lives, and what is remembered. They change under the lock,
        # where no code of users runs; but a signal handler or a finaliser may come in between.
        self._known: dict[str, Task] = {}
        self._ended = OrderedDict[str, Task]()  # which finds its first at once, a dict would not
        self._changing = RLock()

    def get(self, task_id: str) -> Task | None:
        """Return the task of this id, if it lives or is remembered.

        Of a task that has ended this is another handle than the one that ``schedule`` returned: it
        has no arguments, cannot be called again, and if it has failed, `Task.exception` is a
        `TaskFailed` that has the error's type and text.

        Raises:
            TypeError: The id is no string.
        """
        check_id(task_id)
        with self._changing:
            return self._known.get(task_id) or self._ended.get(task_id)

    def counts(self) -> dict[TaskState, int]:
        """Count the tasks that live by their states.

        A task that has failed lives on while its error handler is at work.
        """
        states = [task.state for task in self]
        return {state: states.count(state) for state in TaskState if state in states}

    def living(
        self,
        *,
        name: str | None = None,
        phase: Phase | None = None,
        state: TaskState | None = None,
    ) -> list[Task]:
        """Return the tasks that live, in the order of their scheduling.

        Args:
            name: Only tasks of this name. Default: any.
            phase: Only tasks that were scheduled for this phase. Default: any.
            state: Only tasks in this state. Default: any.

        Raises:
            TypeError: The name is no string.
            ValueError: There is no such phase, or no such state.
        """
        return _select(self, name, phase, state)

    def ended(
        self,
        *,
        name: str | None = None,
        phase: Phase | None = None,
        state: TaskState | None = None,
    ) -> list[Task]:
        """Return the tasks that have ended and are remembered, in the order of their ends.

        One whose id was first asked for after its end comes where that was.

        Args:
            name: Only tasks of this name. Default: any.
            phase: Only tasks that were scheduled for this phase. Default: any.
            state: Only tasks in this state. Default: any.

        Raises:
            TypeError: The name is no string.
            ValueError: There is no such phase, or no such state.
        """
        with self._changing:
            ended = list(self._ended.values())
        return _select(ended, name, phase, state)

    def updates(self) -> Updates:
        """Iterate over the records of tasks as they change, from now on.

        A task changes when it is scheduled, begins, reports progress, is attempted again, and when
        it is over. Each is given as it is when it is read: who reads slowly misses steps in
        between, never the last. Tasks never wait for a reader, and one that does not read holds
        1000 tasks at most, or as many as `history` says if those are more: the first are dropped.

        A shutdown ends it as it begins, and so does its `close`, or leaving it as a context
        manager. Read it on one event loop; several readers have one each.
        """
        return self._observers.read(max(self._history, _READ_LATER))

    def __iter__(self) -> Iterator[Task]:
        return chain.from_iterable(list(self._living))

    def __len__(self) -> int:
        return sum(map(len, self._living))

    def __repr__(self) -> str:
        """Show how many tasks live, and how many are remembered."""
        return f"<TaskRegistry living={len(self)} ended={len(self._ended)}>"

    def _know(self, task: Task) -> None:
        """Let a task be found by its id; of threads that ask at a time all do the same."""
        with self._changing:
            self._known[task._show_id()] = task
            task._known = True
        records = task._runner._records
        if records is not None:
            records.note(task)
        if task._is_over:  # the runner looks the other way round, so at least one of them retires
            self._retire(task)

    def _retire(self, task: Task) -> None:
        """Remember a task that is known, and is over, in place of knowing it."""
        if task._state is HANDED_OVER:  # from now on its engine is asked (contract 8.9)
            with self._changing:
                self._known.pop(task._id, None)
            return
        # Both outside of the lock: it asks the error for its text, and what is forgotten may be the
        # last to hold a result.
        kept, forgotten = RememberedTask(task), None
        with self._changing:
            self._ended[kept.id] = kept
            self._known.pop(kept.id, None)
            if len(self._ended) > self._history:
                forgotten = self._ended.popitem(last=False)
        del forgotten


def _select(
    tasks: Iterable[Task], name: str | None, phase: Phase | None, state: TaskState | None
) -> list[Task]:
    name = None if name is None else check_text("name", name)
    in_phase = None if phase is None else check_choice("phase", phase, of=Phase)
    in_state = None if state is None else check_choice("state", state, of=TaskState)
    return [
        task
        for task in tasks
        if (name is None or task.name == name)
        and (in_phase is None or task.phase is in_phase)
        and (in_state is None or task.state is in_state)
    ]
