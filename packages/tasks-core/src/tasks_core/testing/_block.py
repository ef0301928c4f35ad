"""What all blocks share: where one is in force, what it sees, and how it is left."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import Context, Token
from itertools import count, pairwise
from threading import Lock, get_ident
from types import TracebackType
from typing import Self

from tasks_core._backend import Backend
from tasks_core._exceptions import Skipped
from tasks_core._raised import add_note
from tasks_core._runner import TaskRunner
from tasks_core._scheduling import Executor, See, watching
from tasks_core._task import Task

from ._wait import Waiting

places = count(1)
"""The places of blocks, in the order in which they are taken."""


class Watch:
    """Lets a block stand between new schedulers and their runners, from its beginning to its end.

    In its own context, and in those that are copied from it; and wherever else in the process no
    context says more: in threads of a pool, in the fixtures of an async test.

    Args:
        see: Returns what stands there, in the place of the runner.
        place: Where it stands among the blocks of its thread, the highest innermost; 0 for the
            place that it gets as it is entered.
    """

    _token: Token[See]  # there once it was entered

    def __init__(self, see: See, place: int = 0) -> None:
        self._see = see
        self._place = place
        self._thread = 0
        # The block further out, by the context.
        self.outer: Watch | None = None
        # The next one further in, if that was entered before.
        self._inner: Watch | None = None
        # Set once nothing of the block is waited for any more. Contexts that were copied within it
        # live on: for them, too, it has ended then.
        self._ended = False

    @property
    def begun(self) -> bool:
        """Whether the block was entered."""
        return hasattr(self, "_token")

    def begin(self) -> None:
        """Be in force.

        Raises:
            RuntimeError: It was before.
        """
        if self.begun:
            msg = "A block can be entered once: make a new one each time."
            raise RuntimeError(msg)
        self._place = self._place or next(places)
        self._thread = get_ident()
        further_in = _OPEN.add(self)
        innermost = self
        if further_in:
            self._inner, innermost = further_in[0], further_in[-1]
            self.outer, self._inner.outer = self._inner.outer, self
        else:
            self.outer = getattr(watching.here.get(None), "__self__", None)
        self._token = watching.here.set(innermost._find)

    def close(self) -> None:
        """Be in force for what is done in the block's contexts only, its tasks' above all."""
        _OPEN.remove(self)
        if self._inner is not None:
            self._inner.outer = self.outer
        with suppress(ValueError):  # a fixture may end in another context than it began in
            watching.here.reset(self._token)
            if self._inner is None and self.outer is not None:  # maybe one that was entered later
                watching.here.set(self.outer._find)

    def is_within(self, other: Watch) -> bool:
        """Whether it stands further in than another one of its thread."""
        return self._thread == other._thread and self._place > other._place

    def end(self) -> None:
        """Be in force for no new request."""
        self._ended = True

    def hold(self, context: Context) -> None:
        """Be in force in the context of a task: what that schedules is the block's, too."""
        context.run(watching.here.set, self._find)

    def _find(self, runner: TaskRunner) -> Executor:
        watch: Watch | None = self
        while watch is not None and watch._ended:
            watch = watch.outer
        if watch is None:
            return runner if watching.is_apart.get() else _OPEN.see(runner)
        return watch.see(runner)

    def see(self, runner: TaskRunner) -> Executor:
        """Return what stands in the place of a runner."""
        return self._see(runner)


class _Open:
    """The blocks that are open in this process, those of each thread from the outermost in."""

    def __init__(self) -> None:
        self._watches: list[Watch] = []
        self._changing = Lock()

    def add(self, watch: Watch) -> list[Watch]:
        """Let a block be open; return those of its thread that are further in."""
        with self._changing:
            further_in = [one for one in self._watches if one.is_within(watch)]
            at = self._watches.index(further_in[0]) if further_in else len(self._watches)
            self._watches.insert(at, watch)
            watching.elsewhere = self.see
        return further_in

    def remove(self, watch: Watch) -> None:
        with self._changing:
            self._watches.remove(watch)
            if not self._watches:
                watching.elsewhere = None

    def see(self, runner: TaskRunner) -> Executor:
        """Return what stands in the place of a runner where the context does not tell.

        Raises:
            RuntimeError: Several blocks are open, and none of them is within the others.
        """
        with self._changing:
            watches = list(self._watches)
        if not watches:
            return runner
        for outer, watch in pairwise(watches):
            if watch.outer is not outer:
                msg = (
                    f"{len(watches)} blocks of tasks_core.testing are open at the same time, and "
                    "this request was made in the context of none of them: make it in the thread "
                    "or task of its block, or start its thread with "
                    "contextvars.copy_context().run."
                )
                raise RuntimeError(msg)
        return watches[-1].see(runner)


_OPEN = _Open()


class Block(ABC):
    """The block of a test, ``with`` or ``async with``; it can be entered once.

    Args:
        timeout: Seconds that leaving it waits at most.
    """

    def __init__(self, timeout: float) -> None:
        self._waiting = Waiting(timeout)
        self._place = 0
        self._watch = Watch(self._see)

    def __enter__(self) -> Self:
        """See the tasks of requests that are made from here."""
        self._watch.begin()
        return self

    async def __aenter__(self) -> Self:
        """See the tasks of requests that are made from here."""
        return self.__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for the block's tasks, and raise what went wrong.

        Raises:
            TimeoutError: They have not ended in time; it names them.
            RuntimeError: They belong to an event loop that cannot go on meanwhile; or a shutdown
                has cut them short.
        """
        __tracebackhide__ = True
        self._watch.close()
        late = None
        try:
            self._wait_in_thread()
        except (RuntimeError, TimeoutError) as error:
            late = error
        finally:
            self._watch.end()
        self._conclude(exc_value, late)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for the block's tasks, and raise what went wrong, as leaving ``with`` does."""
        __tracebackhide__ = True
        self._watch.close()
        late = None
        try:
            await self._waiting.wait()
        except (RuntimeError, TimeoutError) as error:
            late = error
        finally:
            self._watch.end()
        self._conclude(exc_value, late)

    def _take_place(self) -> None:
        """Take the place of now: what is entered from here stands further in, also if before it."""
        self._place = next(places)
        self._watch = Watch(self._see, self._place)

    def _renew(self) -> None:
        """Let it be entered again, as new: a fixture's block is, for each example of a test."""
        if self._watch.begun:
            self._watch = Watch(self._see, self._place)
            self._waiting.tasks.clear()

    @abstractmethod
    def _see(self, runner: TaskRunner) -> Executor:
        """Return what stands in the place of a request's runner."""

    def _wait_in_thread(self) -> None:
        self._waiting.wait_in_thread()

    def _conclude(self, raised: BaseException | None, late: Exception | None) -> None:
        """Raise what went wrong, or add it to what the test itself has raised."""
        __tracebackhide__ = True
        if late is None:
            return
        if raised is None:
            raise late
        add_note(raised, str(late))


class WatchedRunner(Executor):
    """A runner as the schedulers of a block's requests see it: what they hand over is noted."""

    _counts = True
    """Whether tasks are counted by their keys."""

    def __init__(self, runner: TaskRunner, watch: Watch, waiting: Waiting) -> None:
        self._runner = runner
        self._watch = watch
        self._waiting = waiting
        self._settle: Callable[[], Awaitable[None]] | None = None

    def _accept(self, task: Task) -> Task:
        accepted = self._runner._accept(task, self._counts)
        if accepted is task:
            self._watch.hold(task._context)
            self._waiting.note(task)
        return accepted

    def _start(self, tasks: Sequence[Task]) -> None:
        self._runner._start(tasks)

    def _skip(self, task: Task, why: Skipped, level: int) -> None:
        self._runner._skip(task, why, level)

    async def _begun(self, backend: Backend) -> None:
        await self._runner._begun(backend)
