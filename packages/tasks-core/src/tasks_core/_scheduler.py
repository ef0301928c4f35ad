"""One request's view of the runner: schedule tasks now or for a phase, and reach the phases."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, Self, TypeVar, Unpack, overload

from ._config import TaskConfig, TaskSettings
from ._exceptions import TasksUninitializedError
from ._function import check_call
from ._phase import AFTER_RESPONSE, AFTER_ROUTE, IMMEDIATE, Phase
from ._registry import TaskRegistry
from ._task import Task

if TYPE_CHECKING:
    from ._runner import TaskRunner

P = ParamSpec("P")
R = TypeVar("R")


class SchedulerSource(Protocol):
    """What makes a request's scheduler when somebody asks for it."""

    @property
    def scheduler(self) -> TasksScheduler: ...


# The scheduler of what is being served, or what makes it.
current: ContextVar[TasksScheduler | SchedulerSource] = ContextVar("tasks_core.current_tasks")


class Executor(Protocol):
    """What a scheduler hands its tasks to: its `TaskRunner`, or what a test puts before that."""

    _settle: Callable[[], Awaitable[None]] | None

    def _accept(self, task: Task) -> None: ...
    def _start(self, tasks: Sequence[Task]) -> None: ...
    def _skip(self, task: Task, why: str) -> None: ...
    async def _begun(self) -> None: ...


observing: ContextVar[Callable[[TaskRunner], Executor]] = ContextVar("tasks_core.observing")
"""What stands between a new scheduler and its runner; `tasks_core.testing` sets it."""


class TasksScheduler:
    """Schedules the tasks of one request; what user code calls ``tasks``.

    It may be passed on, also to tasks and to other threads, and be used after the request
    (contract 1.5, 2.3).

    Who serves a request without the middleware enters it as a context manager: within the block
    `current_tasks` finds it; leaving the block reaches `Phase.AFTER_RESPONSE`, failed if the
    block raised.

    Args:
        runner: The application's `TaskRunner`.
        config: A layer of settings over the application's, for instance a router's.

    Since 0.1.0.
    """

    __slots__ = (
        "_begun",
        "_executor",
        "_failed",
        "_for_response",
        "_for_route",
        "_handed",
        "_outer",
        "_runner",
        "config",
    )

    _outer: Token[TasksScheduler | SchedulerSource]  # there while it is entered

    def __init__(self, runner: TaskRunner, config: TaskConfig | None = None) -> None:
        """Make a scheduler, before the first phase."""
        observe = observing.get(None)
        self._runner = runner
        self._executor: Executor = runner if observe is None else observe(runner)
        self.config: TaskConfig = runner.config if config is None else runner.config.merge(config)
        """The settings that a task of this request has before its own."""
        # The last phase that has begun, and the request's outcome as of then. Both change under
        # the runner's lock, and only forward.
        self._begun = IMMEDIATE
        self._failed = False
        # Tasks of the phases that have not begun, in order; they change under the runner's lock.
        self._for_route: list[Task] = []
        self._for_response: list[Task] = []
        # Whether anything was started whose first step may not have run.
        self._handed = False

    def __enter__(self) -> Self:
        """Make it the current scheduler."""
        self._outer = current.set(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Reach the last phase."""
        current.reset(self._outer)
        del self._outer  # it refers to this scheduler
        self.reach(AFTER_RESPONSE, failed=exc_type is not None)

    @property
    def registry(self) -> TaskRegistry:
        """The application's tasks, not only this request's: what lives, and what has ended."""
        return self._runner.registry

    def get(self, task_id: str) -> Task | None:
        """Return the application's task of this id, if it lives or is remembered.

        See `TaskRegistry.get`. A server of several processes has several applications.
        """
        return self._runner.registry.get(task_id)

    @property
    def after_route(self) -> PhaseScheduler:
        """Tasks that begin once the route has returned, before anything is sent (contract 1.2)."""
        return PhaseScheduler(self, AFTER_ROUTE, self.config)

    @property
    def after_response(self) -> PhaseScheduler:
        """Tasks that begin once the request is over, its dependencies closed (contract 1.3)."""
        return PhaseScheduler(self, AFTER_RESPONSE, self.config)

    @overload
    def schedule(
        self, func: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[P, R]: ...
    @overload
    def schedule(
        self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[P, R]: ...
    def schedule(
        self, func: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[P, Any]:
        """Run ``func(*args, **kwargs)`` at once, beside the route (contract 1.1).

        Async functions run on the event loop, sync ones in a worker thread, in a copy of the
        current context. May be called from any thread; never blocks.

        Returns:
            The task, as a handle: see `Task`.

        Raises:
            TypeError: It could never run (contract 2.2).
            RunnerClosedError: The application has shut down (contract 5.4).
        """
        return self._schedule(IMMEDIATE, self.config, func, args, kwargs)

    def task(self, **settings: Unpack[TaskSettings]) -> PhaseScheduler:
        """Return a configured way to schedule, which can be kept and used again (contract 3.4).

        See `TaskConfig` for the settings; those left out stay as the application has set them.
        """
        return PhaseScheduler(self, IMMEDIATE, self.config).task(**settings)

    def reach(self, phase: Phase, *, failed: bool = False) -> None:
        """Let a phase begin, and those before it that have not.

        Called by who serves the request: with `Phase.AFTER_ROUTE` when the route
        has ended and nothing has been sent, and with `Phase.AFTER_RESPONSE` when all is over.
        An application whose framework answers exceptions by itself may call it in an error
        handler, with ``failed=True``, to say that the request has failed (contract 1.6).

        Args:
            phase: The phase that begins. One that has begun already is left alone.
            failed: Whether the request has failed; once it has, it stays so (contract 1.6).
        """
        with self._runner._lock:
            if self._begun >= phase:
                return
            self._begun = phase
            if failed:
                self._failed = True
            tasks = self._for_route
            if phase is AFTER_RESPONSE:
                tasks = [*tasks, *self._for_response]
                self._for_response = []
            self._for_route = []
        if tasks:
            self._begin(tasks)

    async def begun(self) -> None:
        """Wait until what was started has run its first step, and sync functions have a thread.

        Await it between `Phase.AFTER_ROUTE` and the first byte (contract 1.1, 1.2). It never
        waits for a task to finish, or for a thread to become free.
        """
        if self._handed:
            self._handed = False
            await self._executor._begun()

    async def settle(self) -> None:
        """Wait for the request's tasks where a test asks for that; awaited when all is over."""
        if self._executor._settle is not None:
            await self._executor._settle()

    def _schedule(
        self,
        phase: Phase,
        config: TaskConfig,
        func: Callable[P, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Task[P, Any]:
        check_call(func, args, kwargs)
        task = Task(self._runner, phase, config, func, args, kwargs)
        with self._runner._lock:
            self._executor._accept(task)
            if self._begun < phase:
                (self._for_route if phase is AFTER_ROUTE else self._for_response).append(task)
                return task
        if phase is IMMEDIATE:
            self._handed = True
            self._executor._start((task,))
        else:
            self._begin([task])
        return task

    def _begin(self, tasks: Sequence[Task]) -> None:
        """Start tasks of a later phase that has begun, or skip them for the outcome."""
        failed = self._failed
        outcomes = ("always", "failure") if failed else ("always", "success", None)
        due = [task for task in tasks if task.config.run_on in outcomes]
        if due:
            self._handed = True
            self._executor._start(due)
        if len(due) < len(tasks):
            outcome = "failed" if failed else "succeeded"
            for task in tasks:
                if task.config.run_on not in outcomes:
                    run_on = task.config.run_on or "success"
                    self._executor._skip(task, f"its request {outcome}, and it runs on {run_on}")

    def __repr__(self) -> str:
        """Show the last phase that has begun, and the outcome."""
        return f"<TasksScheduler begun={self._begun} failed={self._failed}>"


class PhaseScheduler:
    """One phase of a request, with settings: schedules tasks for it.

    Since 0.1.0.
    """

    __slots__ = ("_scheduler", "config", "phase")

    def __init__(self, scheduler: TasksScheduler, phase: Phase, config: TaskConfig) -> None:
        """Made by `TasksScheduler`, not by users."""
        self._scheduler = scheduler
        self.phase: Phase = phase
        self.config: TaskConfig = config
        """The settings of the tasks that it schedules, all layers merged."""

    @property
    def scheduled(self) -> tuple[Task, ...]:
        """The request's tasks that wait for this phase, in order; none once it has begun."""
        if self.phase is IMMEDIATE:
            return ()
        scheduler = self._scheduler
        waiting = scheduler._for_route if self.phase is AFTER_ROUTE else scheduler._for_response
        return tuple(task for task in list(waiting) if task._lives)

    @overload
    def schedule(
        self, func: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[P, R]: ...
    @overload
    def schedule(
        self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[P, R]: ...
    def schedule(
        self, func: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[P, Any]:
        """Run ``func(*args, **kwargs)`` when the phase begins, or at once if it has (contract 1.5).

        As `TasksScheduler.schedule` otherwise.
        """
        return self._scheduler._schedule(self.phase, self.config, func, args, kwargs)

    def task(self, **settings: Unpack[TaskSettings]) -> PhaseScheduler:
        """Return the same phase with these settings over the present ones (contract 3.4)."""
        config = self.config.merge(TaskConfig(**settings))
        return PhaseScheduler(self._scheduler, self.phase, config)

    def __repr__(self) -> str:
        """Show the phase and the settings."""
        return f"<PhaseScheduler phase={self.phase} config={self.config}>"


def current_tasks() -> TasksScheduler:
    """Return the scheduler of the request that is being served, in all code that it calls.

    Also in its tasks, in sync code in worker threads, and in the application's lifespan.

    Raises:
        TasksUninitializedError: No request is being served here, or no runner runs.

    Since 0.1.0.
    """
    source = current.get(None)
    if source is None:
        raise TasksUninitializedError
    return source if isinstance(source, TasksScheduler) else source.scheduler
