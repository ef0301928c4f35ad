"""What all blocks share: where one is in force, what it sees, and how it is left."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import Token
from types import TracebackType
from typing import Self, TypeAlias, cast

from tasks_core._backend import Backend
from tasks_core._runner import TaskRunner
from tasks_core._scheduler import Executor, observing
from tasks_core._task import Task

from ._wait import Waiting

Observe: TypeAlias = Callable[[TaskRunner], Executor]


class Watch:
    """Lets a block stand between new schedulers and their runners, from its beginning to its end.

    Args:
        observe: Returns what stands there, in the place of the runner.
    """

    def __init__(self, observe: Observe) -> None:
        self._observe = observe
        self._outer: Observe | None = None
        self._token: Token[Observe] | None = None
        # Contexts that were copied within the block live on: for them, too, it has ended then.
        self._ended = False

    @property
    def begun(self) -> bool:
        """Whether the block was entered."""
        return self._token is not None

    def begin(self) -> None:
        """Be in force for what is done in this context, and in those that are copied from it.

        Raises:
            RuntimeError: It was before.
        """
        if self._token is not None:
            msg = "A block can be entered once: make a new one each time."
            raise RuntimeError(msg)
        self._outer = observing.get(None)
        self._token = observing.set(self._see)

    def end(self) -> None:
        """Be in force for no new request."""
        self._ended = True
        with suppress(ValueError):  # a fixture may end in another context than it began in
            observing.reset(cast("Token[Observe]", self._token))

    def _see(self, runner: TaskRunner) -> Executor:
        observe = self._outer if self._ended else self._observe
        return runner if observe is None else observe(runner)


class Block(ABC):
    """The block of a test, ``with`` or ``async with``; it can be entered once.

    Args:
        timeout: Seconds that leaving it waits at most.
    """

    def __init__(self, timeout: float) -> None:
        self._waiting = Waiting(timeout)
        self._watch = Watch(self._observe)

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
            RuntimeError: They belong to this thread's own event loop, which could not go on.
        """
        __tracebackhide__ = True
        self._watch.end()
        late = None
        try:
            self._wait_in_thread()
        except (RuntimeError, TimeoutError) as error:
            late = error
        self._conclude(exc_value, late)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for the block's tasks, and raise what went wrong, as leaving ``with`` does."""
        __tracebackhide__ = True
        self._watch.end()
        late = None
        try:
            await self._waiting.wait()
        except (RuntimeError, TimeoutError) as error:
            late = error
        self._conclude(exc_value, late)

    @abstractmethod
    def _observe(self, runner: TaskRunner) -> Executor:
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
        raised.add_note(str(late))


class Observer(Executor):
    """A runner as the schedulers of a block's requests see it: what they hand over is noted."""

    def __init__(self, runner: TaskRunner, waiting: Waiting) -> None:
        self._runner = runner
        self._waiting = waiting
        self._settle: Callable[[], Awaitable[None]] | None = None

    def _accept(self, task: Task) -> None:
        self._runner._accept(task)
        self._waiting.note(task)

    def _start(self, tasks: Sequence[Task]) -> None:
        self._runner._start(tasks)

    def _skip(self, task: Task, why: str, level: int) -> None:
        self._runner._skip(task, why, level)

    async def _begun(self, backend: Backend) -> None:
        await self._runner._begun(backend)
