"""Who is told of a task's steps: observers, and readers of the registry's updates (contract 11)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from threading import RLock
from types import TracebackType
from typing import Protocol, Self, cast
from weakref import WeakSet

from anyio import Event
from anyio.lowlevel import checkpoint

from . import _report
from ._backend import Backend, current_backend
from ._exceptions import LoopEndedError
from ._names import type_name
from ._raised import get_traceback
from ._record import TaskRecord
from ._records import Records
from ._task import Task


class TaskObserver(Protocol):
    """Called with each task when it is scheduled, when it begins, and when it is over.

    `Task.state` says which: *pending*, *running*, or a final state. A task that is skipped, or
    cancelled before it begins, has no *running*. The first call is where ``schedule`` is called,
    in that thread and context; the others are on the event loop.

    A context manager that it returns for *running* is entered in the task's own context, and left
    when all is over, the error handler included; with the error if the task has failed. Nothing
    that an observer raises reaches a task or another observer: it is logged (contract 11.3).
    """

    def __call__(self, task: Task, /) -> AbstractContextManager[object] | None:
        """Note the task's state."""
        ...


class Observers:
    """The observers of a runner, and the readers of its registry.

    Args:
        observers: In the order in which they are called.
        records: What is written for other processes, if anything.
    """

    def __init__(self, observers: Sequence[TaskObserver], records: Records | None) -> None:
        self._observers = tuple(observers)
        self._records = records
        self._readers = WeakSet[Updates]()
        # Whether there may be one: looking costs as much as telling an observer.
        self._read = False
        self._closed = False
        self.active: bool = bool(observers) or records is not None
        """Whether anybody is to be told; asked at each step of each task."""
        # The context managers that tasks are in.
        self._entered: dict[Task, ExitStack] = {}
        # The tasks whose first step is being told, and whether they are to be cancelled after that;
        # under the lock, as a thread may do the one and the event loop the other.
        self._telling: dict[Task, bool] = {}
        self._changing = RLock()

    def accept(self, task: Task, accept: Callable[[Task], Task]) -> Task:
        """Take a task in, in any thread, and tell of it; or return the one that lives in its place.

        From where others can find it until all are told, it is not cancelled: see `defers`.
        """
        try:
            with self._changing:
                self._telling[task] = False
            with task._runner._lock:
                accepted = accept(task)
            if accepted is task:
                for observer in self._observers:
                    _guard(observer, task, partial(observer, task))
                self.changed(task)
        finally:
            with self._changing:
                is_cancelled = self._telling.pop(task, False)
            if is_cancelled:
                with suppress(LoopEndedError):
                    task._backend.act(partial(task._backend.living.cancel, task))
        return accepted

    def defers(self, task: Task) -> bool:
        """Whether a task is cancelled later, as its first step is being told by now."""
        with self._changing:
            if task in self._telling:
                self._telling[task] = True
                return True
        return False

    def begun(self, task: Task) -> None:
        """Tell that a task begins, in its context."""
        for observer in self._observers:
            _guard(observer, task, partial(self._enter, observer, task))
        self.changed(task)

    def ended(self, task: Task) -> None:
        """Tell that a task is over, in its context if it has begun."""
        stack = self._entered.pop(task, None)
        if stack is not None:
            error = task.exception
            kind = None if error is None else type(error)
            stack.__exit__(kind, error, None if error is None else get_traceback(error))
        for observer in self._observers:
            _guard(observer, task, partial(observer, task))
        self.changed(task)

    def changed(self, task: Task) -> None:
        """Tell the readers of a step, or of a report."""
        if self._records is not None:
            self._records.note(task)
        if not self._read:
            return
        with self._changing:
            readers = [reader for reader in self._readers if not reader._closed]
            self._read = bool(readers)
            self.active = bool(self._observers or readers) or self._records is not None
        for reader in readers:
            reader._note(task)

    def read(self, most: int) -> Updates:
        """Return a new reader that keeps so many tasks at most."""
        reader = Updates(most)
        with self._changing:
            self._readers.add(reader)
            self._read = self.active = True
            closed = self._closed
        if closed:
            reader.close()
        return reader

    def close(self) -> None:
        """Let the readers come to an end."""
        with self._changing:
            self._closed = True
            readers = list(self._readers)
        for reader in readers:
            reader.close()

    def _enter(self, observer: TaskObserver, task: Task) -> None:
        manager = observer(task)
        if manager is None:
            return
        if not isinstance(cast("object", manager), AbstractContextManager):
            raise TypeError(_no_manager(manager))
        manager.__enter__()

        def leave(
            kind: type[BaseException] | None,
            error: BaseException | None,
            traceback: TracebackType | None,
        ) -> None:  # what it returns counts for nothing: no observer swallows an error
            _guard(observer, task, partial(manager.__exit__, kind, error, traceback))

        self._entered.setdefault(task, ExitStack()).push(leave)


def _no_manager(given: object) -> str:
    return (
        "an observer returns a context manager or None when a task begins, not "
        f"{type_name(given)}: one that is entered without await, as contextlib.contextmanager makes"
    )


def _guard(observer: TaskObserver, task: Task, act: Callable[[], object]) -> None:
    try:
        act()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - here it ends (contract 11.3)
        _report.observer_failed(observer, task, error)


class Updates(AsyncIterator[TaskRecord]):
    """The newest record of each task that has changed, as `TaskRegistry.updates` gives them.

    Also a context manager: leaving it closes it.
    """

    def __init__(self, most: int) -> None:
        """Made by `TaskRegistry`, not by users."""
        self._most = most
        # Tasks that have changed since they were read, in that order.
        self._changed = OrderedDict[Task, None]()
        self._closed = False
        # The event loop on which it is read, and what wakes who waits there.
        self._backend: Backend | None = None
        self._event: Event | None = None
        self._changing = RLock()

    def close(self) -> None:
        """End the iteration, once what has changed so far is read; from any thread."""
        self._closed = True
        self._wake()

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it, and read no more."""
        self.close()
        self._changed.clear()

    async def __anext__(self) -> TaskRecord:
        """Wait for the next task that has changed.

        Raises:
            RuntimeError: It has been read on another event loop.
        """
        await checkpoint()
        if self._backend is None:
            self._backend = current_backend(thread_limit=1)
        elif not self._backend.is_current():
            msg = "These updates are read on another event loop: call registry.updates() on each."
            raise RuntimeError(msg)
        while True:
            with self._changing:
                # First: what a signal handler changes meanwhile is found, or wakes this.
                event = self._event = self._event or Event()
                task = self._changed.popitem(last=False)[0] if self._changed else None
            if task is not None:
                return task.record()
            if self._closed:
                raise StopAsyncIteration
            await event.wait()

    def _note(self, task: Task) -> None:
        forgotten = None
        with self._changing:
            self._changed[task] = None
            if len(self._changed) > self._most:  # who does not read does not fill the memory
                forgotten = self._changed.popitem(last=False)
        del forgotten  # outside of the lock: it may be the last to hold a result
        self._wake()

    def _wake(self) -> None:
        with self._changing:
            event, self._event = self._event, None
        if event is not None and self._backend is not None:
            with suppress(LoopEndedError):
                self._backend.act(event.set)
