"""What all schedulers have in common, and what they hand their tasks to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeAlias, TypeVar, Unpack, overload

from ._config import TaskSettings
from ._exceptions import Skipped
from ._task import Task

if TYPE_CHECKING:
    from ._backend import Backend
    from ._phase_scheduler import PhaseScheduler
    from ._runner import TaskRunner

P = ParamSpec("P")
R = TypeVar("R")


class Scheduler(ABC):
    """Schedules tasks: `TasksScheduler`, `PhaseScheduler` and `TaskRunner` do."""

    __slots__ = ()

    # Of coroutine functions, not of all that return something awaitable: where a signature holds
    # `Any`, both overloads would fit then, and mypy would lose the result without a word. What
    # other functions return is awaited by the types of `Task.wait`.
    @overload
    def schedule(
        self, func: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[P, R]: ...
    @overload
    def schedule(
        self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[P, R]: ...
    def schedule(
        self, func: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[P, Any]:
        """Run ``func(*args, **kwargs)`` when its time has come: at once, or when its phase begins.

        Async functions run on the event loop, sync ones in a worker thread, in a copy of the
        current context. May be called from any thread; never blocks. Into a phase that has begun
        the task is scheduled at once (contract 1.5).

        Returns:
            The task, as a handle: see `Task`.

        Raises:
            TypeError: It could never run (contract 2.2).
            RunnerClosedError: The application has shut down (contract 5.4).
            BacklogFullError: As many of its key wait as its ``backlog`` allows (contract 9.11).
            RuntimeError: It could not be handed over as it is to be (contract 8.3, 8.8).
        """
        return self._schedule(func, args, kwargs)

    @abstractmethod
    def task(self, **settings: Unpack[TaskSettings]) -> PhaseScheduler:
        """Return a configured way to schedule, which can be kept and used again (contract 3.4).

        See `TaskConfig` for the settings; those left out stay as they are.

        Raises:
            TypeError: A setting is of the wrong type.
            ValueError: A setting is out of its range, or has no meaning in the phase.
        """

    @abstractmethod
    def _schedule(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Task[Any, Any]:
        """Make the task that `schedule` returns."""


class Executor(Protocol):
    """What a scheduler hands its tasks to: its `TaskRunner`, or what a test puts before that."""

    _settle: Callable[[], Awaitable[None]] | None

    def _accept(self, task: Task) -> Task: ...
    def _start(self, tasks: Sequence[Task]) -> None: ...
    def _skip(self, task: Task, why: Skipped, level: int) -> None: ...
    async def _begun(self, backend: Backend) -> None: ...


See: TypeAlias = "Callable[[TaskRunner], Executor]"


class _Watching:
    """What stands between new schedulers and their runners; `tasks_core.testing` sets it."""

    def __init__(self) -> None:
        self.here = ContextVar[See]("tasks_core.watching")
        """In a context, and in those that are copied from it."""
        self.elsewhere: See | None = None
        """In all other contexts, but for those that are apart."""
        self.is_apart = ContextVar("tasks_core.is_apart", default=False)

    def apart(self, make: Callable[[], R]) -> R:
        """Call what is of no request, in a copy of this context that `elsewhere` is not asked of.

        What the copy is copied to, by tasks that are scheduled in the call above all, is like it.
        """
        return copy_context().run(self._call_apart, make)

    def _call_apart(self, make: Callable[[], R]) -> R:
        self.is_apart.set(True)
        if self.here.get(None) is None:
            self.here.set(_see_nothing)
        return make()


def _see_nothing(runner: TaskRunner) -> Executor:
    return runner


watching = _Watching()
