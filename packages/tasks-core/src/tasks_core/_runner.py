"""The application's runner: it owns every task that lives, from its scheduling to its end."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from math import inf
from threading import RLock, get_ident
from types import TracebackType
from typing import Final, Self

from anyio import CancelScope, Event, current_time, move_on_after
from anyio.lowlevel import checkpoint

from . import _report
from ._backend import Backend, current_backend
from ._calling import is_async
from ._config import TaskConfig
from ._exceptions import RunnerClosedError
from ._execution import execute
from ._life import end, fail, handle, lives, spawn
from ._registry import TaskRegistry
from ._settings import check_config, check_count, check_seconds
from ._state import TaskState
from ._task import Task
from ._threads import Threads

WARN_EVERY: Final = 10.0
"""Seconds between two warnings of a shutdown that waits (contract 5.2)."""

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
        self._grace_period = check_seconds("grace_period", grace_period)
        self._timeout = (
            inf if shutdown_timeout is None else check_seconds("shutdown_timeout", shutdown_timeout)
        )
        self._thread_limit = check_count("thread_limit", thread_limit, of="threads", least=1)
        history = check_count("history", history, of="tasks", least=0)
        # Held while a task is accepted or a phase is reached, from whatever thread: so no task
        # falls between a phase and the next, or between the last task and the end.
        self.lock: Final = RLock()
        # Nothing that the end of a request waits for; where tests want that, see `testing`.
        self.settle: Callable[[], Awaitable[None]] | None = None
        # Every task in a state that is not final, or whose error handler is at work, in the order
        # of scheduling; with the scope that cancels it once it has been started.
        self.living: dict[Task, CancelScope | None] = {}
        self.registry: Final = TaskRegistry(self.living, history)
        """What lives, and what is remembered of the tasks that have ended."""
        # The backend is there from entering the runner on; `_accepts` until it has drained.
        self.backend: Backend
        self._accepts = False
        # What other threads ask for, in order; the loop's thread does it before it goes on.
        self._inbox: deque[Callable[[], object]] = deque()
        # Once a shutdown cancels: what is not shielded, then everything.
        self._cancels = False
        self._cancels_shielded = False
        # What the shutdown has cancelled, in order; its report is drawn from this.
        self._cut: dict[Task, None] = {}
        # Set whenever nothing lives any more; made by who waits for it.
        self._idle: Event | None = None
        self._drained: Event | None = None

    async def __aenter__(self) -> Self:
        """Start accepting tasks, for the event loop that is running."""
        if hasattr(self, "backend"):
            msg = "A TaskRunner can be entered once: make a new one for each lifespan."
            raise RuntimeError(msg)
        self.backend = current_backend()
        self.thread: int = get_ident()
        self.threads: Threads = Threads(self._thread_limit)
        await self.backend.open()
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
                if not self.backend.may_leave_tasks:
                    await self._wait_until_idle(inf)
        finally:
            await self.backend.close()

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
            await self._wait_until_idle(current_time() + self._grace_period)
            self._cancels = True
            self._cancel_living()
            deadline = current_time() + self._timeout
            while not self._close_if_idle() and current_time() < deadline:
                await self._wait_until_idle(deadline)
        finally:
            # After the bound, or when the server itself has cut this short.
            self._cancels = self._cancels_shielded = True
            self._cancel_living()
            try:
                with CancelScope(shield=True):
                    await self._wait_until_idle(current_time() + UNWIND_TIME)
            finally:
                with self.lock:
                    self._accepts = False
                    self._cancel_living()  # what a thread has scheduled at the last moment
                self._drained.set()
                cut = [task for task in self._cut if task.state is TaskState.CANCELLED]
                _report.unfinished([*cut, *self.living])

    def get(self, task_id: str) -> Task | None:
        """Return the task of this id, if it lives or is remembered: see `TaskRegistry.get`."""
        return self.registry.get(task_id)

    def identify(self, task: Task) -> str:
        """Give a task its id."""
        return self.registry.identify(task)

    async def _wait_until_idle(self, deadline: float) -> None:
        """Wait until nothing lives, or the deadline, with warnings."""
        await checkpoint()
        self._forget_lost()
        while self.living and (left := deadline - current_time()) > 0:
            self._idle = Event()
            with move_on_after(min(left, WARN_EVERY)) as late:
                await self._idle.wait()
            self._forget_lost()
            if late.cancelled_caught and self.living and current_time() < deadline:
                _report.waiting(list(self.living))

    def _forget_lost(self) -> None:
        """End what the event loop cancelled before its first step: its coroutine never ran."""
        for task in [task for task in list(self.living) if self.backend.has_ended(handle(task))]:
            _report.cancelled_from_outside(task)
            self.end(task)

    def _close_if_idle(self) -> bool:
        with self.lock:
            self._accepts = bool(self.living)
        return not self._accepts

    def _spares(self, task: Task) -> bool:
        """Whether a shutdown, as far as it has got, leaves the task alone."""
        return not self._cancels or (task.config.shielded and not self._cancels_shielded)

    def _cancel_living(self) -> None:
        for task in list(self.living):
            if not self._spares(task):
                self._cut[task] = None
                self._cancel(task)

    # What schedulers and tasks ask of the runner, from any thread.

    def accept(self, task: Task) -> None:
        """Take a task in; the caller holds the lock.

        Raises:
            RunnerClosedError: The runner is closed, or was never entered (contract 5.4).
        """
        if not self._accepts:
            raise RunnerClosedError(task.name)
        self.living[task] = None

    def start(self, tasks: Sequence[Task]) -> None:
        """Begin tasks, in their order."""
        if get_ident() == self.thread and not self._inbox:
            self._start(tasks)
        else:
            self.on_loop(partial(self._start, tasks))

    def skip(self, task: Task, why: str) -> None:
        """End a task that is not to run, and say why (contract 1.6)."""
        self.on_loop(partial(self._skip, task, why))

    def cancel(self, task: Task) -> bool:
        """Cancel a task; return whether that can take effect."""
        effective = task.state is TaskState.PENDING or is_async(task.func)
        if lives(task):
            self.on_loop(partial(self._cancel, task))
            return effective
        return False

    async def begun(self) -> None:
        """Wait until all that was started has run its first step, sync functions in a thread."""
        self._read_inbox()
        await self.backend.begun()
        await self.threads.handed_over()

    def on_loop(self, act: Callable[[], object]) -> None:
        """Do something on the loop's thread, before that goes on; at once if this is it."""
        self._inbox.append(act)
        if get_ident() == self.thread:
            self._read_inbox()
            return
        try:
            self.backend.call_soon(self._read_inbox)
        except RuntimeError:
            # The loop has ended. The drain has cancelled and reported what came too late for it.
            if self._accepts:
                raise

    # What happens on the loop's thread only.

    def _read_inbox(self) -> None:
        while self._inbox:
            self._inbox.popleft()()

    def _start(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            if not lives(task):
                continue  # cancelled while it waited for its phase
            if self._cancels and not self._spares(task):
                self._cut[task] = None
                self._cancel(task)
                continue
            try:
                spawn(task, self.backend, execute(task, self))
            except Exception as error:  # noqa: BLE001 - an event loop's task factory is anyone's
                fail(task, error)
                _report.failed(task, error)
                self.end(task)

    def _skip(self, task: Task, why: str) -> None:
        if lives(task):
            self.end(task, TaskState.SKIPPED)
            _report.skipped(task, why)

    def _cancel(self, task: Task) -> None:
        scope = self.living.get(task)
        if scope is not None:
            scope.cancel()
        elif lives(task):
            self.end(task)

    def end(self, task: Task, otherwise: TaskState = TaskState.CANCELLED) -> None:
        """Forget a task: it is over."""
        self.living.pop(task, None)
        if end(task, otherwise):
            self.registry.retire(task)
        if not self.living and self._idle is not None:
            self._idle.set()
