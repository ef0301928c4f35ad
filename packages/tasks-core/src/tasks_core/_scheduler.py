"""One request's view of the runner: schedule tasks now or for a phase, and reach the phases."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, Unpack

from . import _report
from ._carrier import TaskStatus
from ._checks import name_kind
from ._config import TaskConfig, TaskSettings
from ._exceptions import (
    Closed,
    HandOverError,
    Missing,
    RunnerClosedError,
    Skipped,
    TasksUninitializedError,
)
from ._function import check_call
from ._names import describe
from ._phase import AFTER_RESPONSE, AFTER_ROUTE, IMMEDIATE, Phase
from ._phase_scheduler import PhaseScheduler
from ._raised import comes_of
from ._record import escape
from ._registry import TaskRegistry
from ._scheduling import Executor, Scheduler, watching
from ._task import Task, make_task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from ._backend import Backend
    from ._periodic import PeriodicTask
    from ._runner import TaskRunner

_NONE: frozenset[Task] = frozenset()

FEW: Final = 32
"""So much is kept before it is looked what of it is over; then twice what is left, and these."""


class TasksScheduler(Scheduler):
    """Schedules the tasks of one request; what user code calls ``tasks``.

    It may be passed on, also to tasks and to other threads, and be used after the request
    (contract 1.5, 2.3). It is the request's state as well: its phase, and whether it has failed.

    Who serves a request without the middleware enters it as a context manager: within the block
    `current_tasks` finds it; leaving the block reaches `Phase.AFTER_RESPONSE`, failed if the
    block raised. Of blocks of one scheduler within each other the outermost reaches it.

    Args:
        runner: The application's `TaskRunner`.
        config: A layer of settings over the application's, for instance a router's.

    Raises:
        TypeError: It is no runner.
        TasksUninitializedError: Another event loop runs here than the runner can use.
    """

    __slots__ = (
        "_around",
        "_backend",
        "_confirmed",
        "_disconnects",
        "_executor",
        "_failed",
        "_gone",
        "_handed",
        "_handled",
        "_judged",
        "_late",
        "_open",
        "_outers",
        "_outside",
        "_path",
        "_phase",
        "_room",
        "_routed",
        "_runner",
        "_waiting",
        "config",
    )

    _serves = True
    """Whether it is a request's: that belongs to the event loop that runs where it is made."""

    # Once it was entered, what was current before; empty again when it is left.
    _outers: tuple[Token[TasksScheduler | Missing], ...]
    # Once it is served as an ASGI request, that one's path, as what routes it last has it, if that
    # is in sight: middleware may rewrite it.
    _path: str

    def __init__(self, runner: TaskRunner, config: TaskConfig | None = None) -> None:
        """Make a scheduler, before the first phase."""
        try:
            # Tasks and schedulers have the first, too.
            backend, _ = runner._backend, runner._others
        except AttributeError:
            raise _no_runner(runner) from None
        if backend is None or not backend.is_current():
            backend = runner._find_backend(serves=self._serves)
        see = watching.here.get(watching.elsewhere)
        self._runner = runner
        self._executor: Executor = runner if see is None else see(runner)
        # The event loop of its tasks; none if the runner has not been entered yet.
        self._backend = backend
        self.config: TaskConfig = runner.config if config is None else runner.config.merge(config)
        """The settings that a task of this request has before its own."""
        # The last phase that has begun. It goes back where a route begins to run (again).
        self._phase = IMMEDIATE
        # Whether the request has failed, and whether a route has run (or does).
        self._failed = self._routed = False
        # Tasks of phases that have not begun, in order; and those of them for which the outcome of
        # an earlier attempt at the route counts. They change under the runner's lock.
        self._waiting: list[Task] = []
        self._judged: tuple[Task, ...] = ()
        # How many are kept before those that have ended are dropped.
        self._room = FEW
        # Those of them that were scheduled before a route ran, by middleware: for these the last
        # attempt counts. And whether a phase had begun when the request failed.
        self._outside = _NONE
        self._late = False
        # The exception that was being handled where such a task was scheduled, in a dependency's
        # exit for instance: if the request fails by it, the task runs. And the one that is handled
        # around the route, which says nothing of that.
        self._handled: dict[Task, BaseException] | None = None
        self._around: BaseException | None = None
        # How many calls serve the request: of the application, of its route. The last one that ends
        # ends the request.
        self._open = 0
        # Whether anything was started whose first step may not have run.
        self._handed = False
        # What the response waits for until its engine has it; it changes under the runner's lock.
        self._confirmed: list[Task] | None = None
        # While it is served: what `send` has raised, as the client had gone; and by which
        # exceptions the framework tells that.
        self._gone: OSError | None = None
        self._disconnects: tuple[type[Exception], ...] = ()

    def __enter__(self) -> Self:
        """Make it the current scheduler."""
        self._outers = (*getattr(self, "_outers", ()), current.set(self))
        self._open += 1
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Reach the last phase."""
        if exc_type is not None:
            self._fail(exc_value)
        self._close()
        *outers, outer = self._outers
        self._outers = tuple(outers)
        with suppress(ValueError):  # a generator may be closed in another context
            current.reset(outer)

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
    def periodic(self) -> Mapping[str, PeriodicTask]:
        """The application's periodic tasks, by their names (contract 10.7)."""
        return self._runner.periodic

    async def status(self, task_id: str) -> TaskStatus | None:
        """Return what is known of a task by its id, in this process or by its engine.

        A task that was handed over is its engine's: what that says counts, and is the same in every
        process of the server. Some engines cannot tell an unknown id from one that waits, and say
        *pending* of both. Of tasks of other processes the setting ``records`` tells, but not their
        results (contract 7.6). Never waits for the task.

        Returns:
            Its status; ``None`` if nobody knows it, or can (contract 8.9).

        Raises:
            TimeoutError: The engine has not answered within its carrier's ``timeout``, or the store
                within 5 s.
            Exception: What the engine raises where it cannot be asked, or the store.
        """
        return await self._runner.status(task_id)

    async def cancel(self, task_id: str) -> bool:
        """Cancel a task by its id, in whatever process of the server it runs.

        Another process is reached where the setting ``records`` says so, within seconds. A task
        that was handed over is its engine's to revoke.

        Returns:
            Whether that takes effect, as `Task.cancel` says; false if nobody knows the task, or
            its process has not answered within 5 s.

        Raises:
            Exception: What the store raises where it cannot be asked.
        """
        return await self._runner.cancel(task_id)

    def follow(self, task_id: str) -> AsyncIterator[TaskStatus]:
        """Iterate over what is known of a task as it changes, until it is over, wherever it runs.

        Begins with what is known now; nothing, if nobody knows it. Who reads slowly misses what
        came in between, never the last. Tasks of other processes and of engines are asked for
        every half second. A shutdown ends it as it begins, also while one is asked.

        Raises:
            Exception: What `status` raises, as it is read.
        """
        return self._runner.follow(task_id)

    @property
    def after_route(self) -> PhaseScheduler:
        """Tasks that begin once the route has returned, before anything is sent (contract 1.2)."""
        return PhaseScheduler(self, AFTER_ROUTE, self.config)

    @property
    def after_response(self) -> PhaseScheduler:
        """Tasks that begin once the request is over, its dependencies closed (contract 1.3)."""
        return PhaseScheduler(self, AFTER_RESPONSE, self.config)

    def task(self, **settings: Unpack[TaskSettings]) -> PhaseScheduler:
        """Return a configured way to schedule at once, to keep and use again (contract 3.4).

        See `TaskConfig` for the settings; those left out stay as the application has set them.
        """
        return PhaseScheduler(self, IMMEDIATE, self.config._override(settings))

    def reach(self, phase: Phase, *, failed: bool = False) -> None:
        """Let a phase begin, and those before it that have not.

        Called by who serves the request: with `Phase.AFTER_ROUTE` when the route has ended and
        nothing has been sent, and with `Phase.AFTER_RESPONSE` when all is over.

        Args:
            phase: The phase that begins. One that has begun already is left alone.
            failed: Whether the request has failed: see `fail`.

        Raises:
            TypeError: It is no phase.
        """
        if type(phase) is not Phase:  # a number would leave tasks waiting for ever
            raise _no_phase(phase)
        if failed:
            self.fail()
        if self._phase >= phase:
            return
        is_last = phase is AFTER_RESPONSE
        if is_last and self._phase is IMMEDIATE:
            self.reach(AFTER_ROUTE)
        # A thread may schedule meanwhile: `_put` adds its task and then looks what has begun, so
        # one of the two sees what the other has done.
        self._phase = phase
        if is_last and (self._judged or self._outside):
            self._conclude_attempts()
        if self._waiting and (due := self._take(phase)):
            try:
                self._begin(due)
            except BaseException:  # pragma: no cover - Ctrl-C, as in `TaskRunner._start`
                self._runner._give_up(due)
                raise
        if is_last:
            self._handled = self._around = None  # their tracebacks may have this scheduler
            if self._runner._shutdown.unentered:
                with self._runner._lock:
                    self._runner._shutdown.forget_unentered(self)

    def fail(self) -> None:
        """Say that the request has failed, also where a phase has begun (contract 1.6).

        What waits for a success is skipped; what is scheduled from now on runs. Called by who
        serves the request. Where a framework answers exceptions by itself, out of its own sight,
        an error handler calls it.
        """
        self._fail(sys.exception())

    def _fail(self, error: BaseException | None) -> None:
        """Say by what the request has failed."""
        if self._failed:
            return
        self._failed = True
        self._late = self._phase is not IMMEDIATE
        outside, handled = self._outside, self._handled or {}
        self._skip_for_failure(
            lambda task: task not in outside and not comes_of(error, handled.get(task))
        )

    def _skip_for_failure(self, counts: Callable[[Task], bool]) -> None:
        """Skip those tasks that wait for a success for which this failure counts."""
        with self._runner._lock:
            skipped = {t: None for t in self._waiting if _on_success(t) and counts(t)}  # in order
            self._waiting[:] = [t for t in self._waiting if t not in skipped]
        level = logging.WARNING if self._late else logging.INFO  # whether it was answered
        for task in skipped:
            self._executor._skip(task, Skipped.FAILED, level)

    async def begun(self) -> None:
        """Wait until what was started has run its first step, and sync functions have a thread.

        Await it between `Phase.AFTER_ROUTE` and the first byte (contract 1.1, 1.2). It never
        waits for a task to finish, or for a thread to become free; but for the engines of tasks
        that are to be confirmed.

        Raises:
            HandOverError: An engine has not confirmed such a task (contract 8.8).
        """
        await self._until_begun()
        if self._confirmed:
            await self._until_confirmed(tuple(self._confirmed))

    async def settle(self) -> None:
        """Wait for the request's tasks where a test asks for that; awaited when all is over."""
        if self._executor._settle is not None:
            await self._executor._settle()

    def _schedule(  # noqa: PLR0913, PLR0917 - what `schedule` is given, and how; by name it is dearer
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        phase: Phase = IMMEDIATE,
        config: TaskConfig | None = None,
        accept: Callable[[Task], Task] | None = None,
    ) -> Task[Any, Any]:
        is_async = check_call(func, args, kwargs)
        config = config or self.config
        runner, backend = self._runner, self._backend or self._find_backend(func, config)
        task = make_task(runner, backend, phase, config, func, args, kwargs, is_async)
        if runner._carriers:
            task._carried = runner._carry(func, args, kwargs, backend)
        try:
            if runner._observers.active:
                accepted = runner._observers.accept(task, accept or self._executor._accept)
            else:
                runner._lock.acquire()
                try:
                    accepted = self._executor._accept(task) if accept is None else accept(task)
                finally:
                    runner._lock.release()
            if config.confirm and task._carried is not None and phase is not AFTER_RESPONSE:
                self._confirm(task, accepted)
            if accepted is not task:
                _report.exists(accepted)
            elif phase is IMMEDIATE:
                self._handed = True
                self._executor._start((task,))
            elif self._put(task):
                runner._hold(task)
            else:
                self._begin((task,))
        except BaseException:  # it is refused; or Ctrl-C, and nobody has the task
            runner._give_up((task,))
            raise
        return accepted

    def _confirm(self, task: Task, accepted: Task) -> None:
        """Let the response wait for a task that was accepted, if it has not left."""
        if self._phase is AFTER_RESPONSE:
            return
        if accepted is not task:
            self._refuse_to_wait(task, accepted)
        with self._runner._lock:
            self._confirmed = self._confirmed or []
            self._confirmed.append(accepted)
            if len(self._confirmed) > self._room:
                self._drop_ended()
        self._handed = True  # another request may have, where it is that one's

    async def _until_confirmed(self, tasks: Sequence[Task]) -> None:
        """Wait until engines have what is due of these tasks; once they have, it is forgotten."""
        try:
            for task in tasks:
                # Another request's may be of a later phase, that has come there.
                if task.phase <= self._phase or not task._waits_for_phase:
                    await task._until_confirmed()
        except HandOverError:
            self._confirmed = None  # the request fails with that, once
            raise
        with self._runner._lock:
            self._confirmed = _unconfirmed(self._confirmed)

    def _drop_ended(self) -> None:
        """Drop what has ended, whenever as much has come as is kept; under the runner's lock."""
        self._waiting[:] = [task for task in self._waiting if task._lives]
        self._confirmed = _unconfirmed(self._confirmed)
        if self._handled is not None:
            self._handled = {task: of for task, of in self._handled.items() if task._lives}
        self._room = 2 * (len(self._waiting) + len(self._confirmed or ())) + FEW

    def _refuse_to_wait(self, task: Task, twin: Task) -> None:
        """Refuse to confirm what lives in a task's place, if the response leaves before that."""
        is_own = twin in self._waiting
        if twin._waits_for_phase and not (is_own and twin.phase is AFTER_ROUTE):
            where = "" if is_own else " of another request"
            msg = (
                f"Task {escape(task.name)} cannot be confirmed before the response leaves: with "
                f"unique=True it is task {twin._show_id()}, which waits for {twin.phase}{where}. "
                "Leave out confirm=True or unique=True, or give it a key=... of its own."
            )
            raise RuntimeError(msg)

    def _waiting_for(self, phase: Phase) -> tuple[Task, ...]:
        """Return the tasks that wait for a phase."""
        waiting = (*self._judged, *self._waiting)
        return tuple(task for task in waiting if task.phase is phase and task._lives)

    def _put(self, task: Task) -> bool:
        """Let a task wait for its phase, if it is to; one that will not run is not."""
        if self._phase >= task.phase or (self._failed and task.config.run_on == "success"):
            return False
        lock = self._runner._lock
        lock.acquire()  # `with` takes twice as long, and this is done for each task
        try:
            self._waiting.append(task)
            if self._phase >= task.phase:  # `reach` has not seen it
                self._waiting.remove(task)
                return False
            if not self._open:
                self._runner._shutdown.hold_unentered(task, self)
            if len(self._waiting) > self._room:
                self._drop_ended()
            handled = sys.exception()
            if handled is not None and handled is not self._around and task.config.run_on is None:
                if self._handled is None:
                    self._handled = {}
                self._handled[task] = handled
        finally:
            lock.release()
        return True

    def _find_backend(self, func: object, config: TaskConfig) -> Backend:
        """Return the event loop of the tasks, if there is one by now.

        Raises:
            RunnerClosedError: The runner was never entered.
        """
        self._backend = self._runner._find_backend(serves=self._serves)
        if self._backend is None:
            name = escape(config.name or describe(func))
            raise RunnerClosedError(name, Closed.NOT_ENTERED)
        return self._backend

    def _take(self, phase: Phase) -> list[Task]:
        """Take out what waits for a phase that has begun, in order."""
        lock = self._runner._lock
        lock.acquire()
        try:
            tasks = [task for task in self._waiting if task.phase is phase]
            if tasks:
                self._waiting[:] = [task for task in self._waiting if task.phase is not phase]
        finally:
            lock.release()
        return tasks

    def _begin(self, tasks: Sequence[Task]) -> None:
        """Start tasks of a later phase that has begun, or skip them for the outcome."""
        unwanted = "success" if self._failed else "failure"
        due = [task for task in tasks if task.config.run_on != unwanted]
        if due:
            self._hand_over(due)
        if len(due) < len(tasks):
            why = Skipped.FAILED if self._failed else Skipped.SUCCEEDED
            level = logging.INFO if self._failed else logging.DEBUG
            for task in tasks:
                if task.config.run_on == unwanted:
                    self._executor._skip(task, why, level)

    def _hand_over(self, tasks: Sequence[Task]) -> None:
        self._handed = True
        self._executor._start(tasks)

    # What who serves the request tells it, see `_request`.

    async def _until_begun(self) -> None:
        if self._handed and self._backend is not None:
            self._handed = False
            await self._executor._begun(self._backend)

    def _open_route(self) -> None:
        """Note that a route begins to run: the first one, or another attempt after that."""
        self._open += 1
        self._around = sys.exception()
        if not self._routed and self._waiting:
            self._outside = frozenset(t for t in self._waiting if t.phase is AFTER_RESPONSE)
        if self._phase is not IMMEDIATE:  # a middleware has answered first, or tries again
            if self._routed:
                self._judge_attempt()
            self._phase = IMMEDIATE
        self._routed = True

    def _judge_attempt(self) -> None:
        """Let the outcome of the attempt that has ended count for its tasks, and begin anew."""
        with self._runner._lock:
            waiting = {t: None for t in self._waiting if t not in self._outside}  # in order
            skipped = [] if self._failed else [t for t in waiting if _on_failure(t)]
            self._judged += tuple(t for t in waiting if self._failed or not _on_failure(t))
            self._waiting[:] = [t for t in self._waiting if t not in waiting]
            self._failed = False
        for task in skipped:
            self._executor._skip(task, Skipped.SUCCEEDED, logging.DEBUG)

    def _conclude_attempts(self) -> None:
        """Start what earlier attempts have left; what came before them has the last outcome."""
        judged, self._judged = self._judged, ()
        if judged:
            self._hand_over(judged)
        outside, self._outside = self._outside, _NONE
        if outside and self._failed:  # what was scheduled since then runs
            self._skip_for_failure(outside.__contains__)

    def _close_route(self) -> None:
        """Note that a route has ended, whatever it has sent."""
        if self._phase is IMMEDIATE:
            self.reach(AFTER_ROUTE)
        self._close()

    @property
    def _answers(self) -> bool:
        """Whether the request is still being served, and its route has returned."""
        return self._phase is AFTER_ROUTE and self._open > 0

    def _close(self) -> None:
        """Note that a call has ended; with the last one the request is over."""
        self._open -= 1
        if not self._open:
            self._gone, self._disconnects, self._confirmed = None, (), None
            self.reach(AFTER_RESPONSE)

    def __repr__(self) -> str:
        """Show the last phase that has begun, and the outcome."""
        return f"<TasksScheduler phase={self._phase} failed={self._failed}>"


def _on_success(task: Task) -> bool:
    return task.config.run_on is None or task.config.run_on == "success"


def _on_failure(task: Task) -> bool:
    return task.config.run_on == "failure"


def _no_runner(value: object) -> TypeError:
    return TypeError(
        f"TasksScheduler(runner) takes a TaskRunner, not {name_kind(value)}: "
        "`async with TaskRunner() as runner:`, or current_tasks() where a request is served"
    )


def _no_phase(value: object) -> TypeError:
    return TypeError(
        f"reach takes a Phase, not {value!r}: Phase.AFTER_ROUTE where the route has ended, "
        "Phase.AFTER_RESPONSE where all is over"
    )


def _unconfirmed(tasks: Sequence[Task] | None) -> list[Task] | None:
    """Return those that a response has to wait for: one that has failed is enough, or all others.

    The request fails with that one.
    """
    left = [task for task in tasks or () if not task._is_over or task._is_refused]
    failed = next((task for task in left if task._is_over), None)
    return left if failed is None else [failed]


# The scheduler of what is being served; or why it has none.
current: ContextVar[TasksScheduler | Missing] = ContextVar("tasks_core.current_tasks")


def current_tasks() -> TasksScheduler:
    """Return the scheduler of the request that is being served, in all code that it calls.

    Also in the application's middleware and exception handlers, in its tasks, in sync code in
    worker threads, and in the application's lifespan.

    Raises:
        TasksUninitializedError: There are no tasks here; it says why.
    """
    return found(current.get(Missing.CONTEXT))


def found(tasks: TasksScheduler | Missing) -> TasksScheduler:
    """Return the scheduler, or say why there is none."""
    if isinstance(tasks, TasksScheduler):
        return tasks
    raise TasksUninitializedError(tasks)
