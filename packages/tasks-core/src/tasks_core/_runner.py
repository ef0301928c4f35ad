"""The application's runner: it owns every task that lives, from its scheduling to its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from math import inf
from threading import RLock
from types import TracebackType
from typing import Final, Self

from anyio import CancelScope, Event, current_time

from . import _report
from ._backend import Backend, LoopEndedError, current_backend
from ._checks import check_count, check_seconds
from ._config import TaskConfig
from ._exceptions import RunnerClosedError
from ._execution import execute
from ._function import describe, is_async
from ._registry import TaskRegistry
from ._settings import check_config
from ._state import CANCELLED, PENDING, SKIPPED
from ._task import Task
from ._threads import Threads

UNWIND_TIME: Final = 1.0
"""Seconds that shielded tasks have to clean up once `shutdown_timeout` has cancelled them."""


class TaskRunner:
    """Runs tasks for as long as the application lives; an async context manager (contract 5).

    It may be entered once, and serves the event loop in which it was entered. Leaving it drains
    it; afterwards tasks are refused.

    Args:
        config: The application's layer of task settings. Default: nothing set.
        grace_period: Seconds that running tasks have at shutdown before they are cancelled.
        shutdown_timeout: Seconds that a shutdown then waits for shielded tasks, before it cancels
            them too. Default: without limit.
        thread_limit: How many sync functions may run at the same time.
        history: How many tasks that have ended are remembered, of those whose id was asked for
            (about 1 KiB each, and their results); 0 remembers none. See `TaskRegistry`.

    Raises:
        TypeError: A setting is of the wrong type.
        ValueError: A number is out of its range.

    Since 0.1.0.
    """

    def __init__(
        self,
        *,
        config: TaskConfig | None = None,
        grace_period: float = 0.0,
        shutdown_timeout: float | None = None,
        thread_limit: int = 40,
        history: int = 1000,
    ) -> None:
        """Make a runner; it runs nothing until it is entered."""
        self.config: Final[TaskConfig] = check_config(config)
        """The application's layer of task settings."""
        self._grace_period = check_seconds("grace_period", grace_period)
        self._timeout = (
            inf if shutdown_timeout is None else check_seconds("shutdown_timeout", shutdown_timeout)
        )
        self._thread_limit = check_count("thread_limit", thread_limit, of="threads", least=1)
        history = check_count("history", history, of="tasks", least=0)
        self.registry: Final = TaskRegistry(history)
        """What lives, and what is remembered of the tasks that have ended."""
        self._living = self.registry._living
        # Held while a task is accepted or a phase is reached, from whatever thread: so no task
        # falls between a phase and the next, or between the last task and the end.
        self._lock: AbstractContextManager[object] = RLock()
        # Nothing that the end of a request waits for; where tests want that, see `testing`.
        self._settle: Callable[[], Awaitable[None]] | None = None
        # There from entering the runner on; it accepts until it has drained.
        self._backend: Backend
        self._threads: Threads
        self._accepts = False
        # Once a shutdown cancels: what is not shielded, then everything.
        self._cancels = False
        self._cancels_shielded = False
        # What the shutdown has cancelled, in order; its report is drawn from this.
        self._cut: dict[Task, None] = {}
        self._drained: Event | None = None

    async def __aenter__(self) -> Self:
        """Start accepting tasks, for the event loop that is running."""
        if hasattr(self, "_backend"):
            msg = "A TaskRunner can be entered once: make a new one for each lifespan."
            raise RuntimeError(msg)
        self._backend = current_backend()
        self._threads = Threads(self._thread_limit)
        await self._backend.open()
        self._accepts = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Drain; what the body has raised goes on as it is (contract 5.7)."""
        try:
            with CancelScope(shield=True):
                await self.drain()
                if not self._backend.may_leave_tasks:
                    await self._until_idle(inf)
        finally:
            await self._backend.close()

    async def drain(self) -> None:
        """Bring every task to its end, as a shutdown does, and refuse tasks from then on.

        Waits the grace period for what runs, cancels what is not shielded, waits for what is
        (`shutdown_timeout` at most, then cancels that too), and reports what did not finish
        (contract 5.2, 5.3). While it waits, a warning every 10 s names what it waits for. Shielded
        tasks that are scheduled meanwhile still run; others are cancelled before they begin.

        Leaving the runner does this; call it where tasks must end before something else does. A
        second call waits for the first.
        """
        if self._drained is not None:
            await self._drained.wait()
            return
        self._drained = Event()
        try:
            await self._until_idle(current_time() + self._grace_period)
            self._cancels = True
            self._cancel_living()
            deadline = current_time() + self._timeout
            while not self._close_if_idle() and current_time() < deadline:
                await self._until_idle(deadline)
        finally:
            # After the bound, or when the server itself has cut this short.
            self._cancels = self._cancels_shielded = True
            self._cancel_living()
            try:
                with CancelScope(shield=True):
                    await self._until_idle(current_time() + UNWIND_TIME)
            finally:
                with self._lock:
                    self._accepts = False
                    self._cancel_living()  # what a thread has scheduled at the last moment
                self._drained.set()
                cut = [task for task in self._cut if task.state is CANCELLED]
                _report.unfinished([*cut, *self._living])

    def get(self, task_id: str) -> Task | None:
        """Return the task of this id, if it lives or is remembered: see `TaskRegistry.get`."""
        return self.registry.get(task_id)

    async def _until_idle(self, deadline: float) -> None:
        """Wait until nothing lives, or the deadline, with warnings."""
        await self._living.until_idle(deadline, self._forget_lost)

    def _forget_lost(self) -> None:
        """End what the event loop cancelled before its first step: its coroutine never ran."""
        for task in self._living:
            if self._backend.has_ended(task._handle):
                _report.cancelled_from_outside(task)
                self._living.end(task)

    def _close_if_idle(self) -> bool:
        with self._lock:
            self._accepts = bool(self._living)
        return not self._accepts

    def _spares(self, task: Task) -> bool:
        """Whether a shutdown, as far as it has got, leaves the task alone."""
        return not self._cancels or (task.config.shielded and not self._cancels_shielded)

    def _cancel_living(self) -> None:
        for task in self._living:
            if not self._spares(task):
                self._cut[task] = None
                self._living.cancel(task)

    # What schedulers and tasks ask of the runner, from any thread.

    def _accept(self, task: Task) -> None:
        """Take a task in; the caller holds the lock.

        Raises:
            RunnerClosedError: The runner is closed, or was never entered (contract 5.4).
        """
        if not self._accepts:
            raise RunnerClosedError(task.name)
        self._living.add(task)

    def _start(self, tasks: Sequence[Task]) -> None:
        """Begin tasks, in their order."""
        if self._backend.acts_at_once:
            self._start_here(tasks)
        else:
            self._on_loop(partial(self._start_here, tasks))

    def _skip(self, task: Task, why: str) -> None:
        """End a task that is not to run, and say why (contract 1.6)."""
        self._on_loop(partial(self._skip_here, task, why))

    def _cancel(self, task: Task) -> bool:
        """Cancel a task; return whether that can take effect."""
        effective = task._state is PENDING or is_async(task.func)
        if task._lives:
            self._on_loop(partial(self._living.cancel, task))
            return effective
        return False

    async def _begun(self) -> None:
        """Wait until all that was started has run its first step, sync functions in a thread."""
        self._backend.read_inbox()
        await self._backend.begun()
        await self._threads.handed_over()

    def _on_loop(self, action: Callable[[], object]) -> None:
        """Do something on the loop's thread, before that goes on; at once if this is it."""
        try:
            self._backend.act(action)
        except LoopEndedError:
            # The drain has cancelled and reported what came too late for it.
            if self._accepts:
                raise

    # What happens on the loop's thread only.

    def _start_here(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            if task._state is not PENDING:
                continue  # cancelled while it waited for its phase
            if self._cancels and not self._spares(task):
                self._cut[task] = None
                self._living.cancel(task)
                continue
            name = task.config.name  # not `task.name`: this is done for each task
            name = describe(task.func) if name is None else name
            coro = execute(task, self)
            try:
                handle = self._backend.spawn(coro, name=name, context=task._context)
            except Exception as error:  # noqa: BLE001 - an event loop's task factory is anyone's
                coro.close()
                task._fail(error)
                _report.failed(task, error)
                self._living.end(task)
            else:
                task._spawned(handle)

    def _skip_here(self, task: Task, why: str) -> None:
        if task._lives:
            self._living.end(task, SKIPPED)
            _report.skipped(task, why)
