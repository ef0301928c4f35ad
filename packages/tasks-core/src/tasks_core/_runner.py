"""The application's runner: it owns every task that lives, from its scheduling to its end."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from math import inf
from threading import RLock, get_ident
from types import FunctionType, TracebackType
from typing import Any, Final, Self, Unpack
from weakref import WeakSet, WeakValueDictionary

from anyio import CancelScope, Event, current_time, move_on_after
from anyio.lowlevel import EventLoopToken, checkpoint

from . import _report
from ._attempts import Attempts
from ._backend import AsyncioBackend, Backend, current_backend, runs_here
from ._carrier import Carried, TaskStatus, carry
from ._config import TaskConfig, TaskSettings
from ._everywhere import Asked, Following, cancel_task, find_status
from ._exceptions import (
    Closed,
    LoopEndedError,
    Missing,
    RunnerClosedError,
    Skipped,
    TasksUninitializedError,
)
from ._execution import execute
from ._handing_over import Messengers
from ._lanes import Lane, Lanes
from ._names import describe
from ._observers import Observers
from ._periodic import make_periodic
from ._phase import AFTER_RESPONSE
from ._phase_scheduler import PhaseScheduler
from ._record import calendar, escape
from ._records import Records
from ._registry import TaskRegistry
from ._scheduler import TasksScheduler, current
from ._scheduling import Scheduler, watching
from ._service import Service
from ._settings import RunnerSettings, Settings
from ._shutdown import Shutdown
from ._state import PENDING
from ._task import Task, task_here

WARN_EVERY: Final = 10.0
"""Seconds between two warnings of a shutdown that waits (contract 5.2), and between two looks of
who joins for what the event loop has cancelled before its first step."""

UNWIND_TIME: Final = 1.0
"""Seconds that shielded tasks have to clean up once `shutdown_timeout` has cancelled them."""


class TaskRunner(Scheduler):
    """Runs tasks for as long as the application lives; an async context manager (contract 5).

    It may be entered once, on the event loop that it then serves; leaving it drains it, and tasks
    are refused afterwards. A request that is served by another event loop of the same thread has
    its tasks there.

    Without a request it schedules tasks itself, as a request's scheduler does whose phases have
    all passed (contract 2.8).

    Its settings are those of `RunnerSettings`.

    Raises:
        TypeError: A setting is of the wrong type, or an engine could not take what runs by the
            clock (contract 10.8).
        ValueError: A number is out of its range.
    """

    def __init__(self, **settings: Unpack[RunnerSettings]) -> None:
        """Make a runner; it runs nothing until it is entered."""
        self._settings: Final = Settings.of(settings)
        self.config: Final[TaskConfig] = self._settings.config or TaskConfig()
        """The application's layer of task settings."""
        # Held while a task is accepted or a phase is reached, from whatever thread: so no task
        # falls between a phase and the next, or between the last task and the end.
        self._lock = RLock()
        # Nothing that the end of a request waits for; where tests want that, see `testing`.
        self._settle: Callable[[], Awaitable[None]] | None = None
        # The tasks that are counted by a key; it changes under the lock. Those whose turn has come,
        # while one of them is being started.
        self._lanes: Final = Lanes()
        self._due: deque[Task] | None = None
        # The attempts of tasks that have a retry.
        self._retrying: dict[Task, Attempts] = {}
        # The carriers by their names, and the threads in which sync ones hand over.
        self._carriers: Final = {carrier.name: carrier for carrier in self._settings.carriers}
        self._messengers: Final = Messengers()
        self.periodic: Final = make_periodic(self._settings.periodic, self)
        """The periodic tasks by their names (contract 10.7)."""
        # Set once what has started the runner has started too: until then no clock runs anything.
        self._holds_clocks = False
        self._released: Event | None = None
        self._clocks: list[Service] = []
        # Where other processes can read of its tasks, and what writes there.
        store = self._settings.records
        self._records = None if store is None else Records(store, self._settings.records_ttl)
        self._writing: Service | None = None
        self._observers: Final = Observers(self._settings.observers, self._records)
        self.registry: Final = TaskRegistry(self._settings.history, self._observers)
        """What lives, and what is remembered of the tasks that have ended."""
        # The event loop in which it was entered, from then on; and those of the same thread that
        # have served a request since.
        self._backend: Backend | None = None
        self._others: tuple[AsyncioBackend, ...] = ()
        # Why it takes no tasks, if it takes none.
        self._closed: Closed | None = Closed.NOT_ENTERED
        self._shutdown: Final = Shutdown()
        self._drained: Event | None = None
        # What who follows tasks of other processes has asked last, by id and event loop.
        self._asked: Final = WeakValueDictionary[tuple[str, EventLoopToken], Asked]()

    async def __aenter__(self) -> Self:
        """Start accepting tasks, for the event loop that is running."""
        if self._backend is not None:
            msg = "A TaskRunner can be entered once: make a new one for each lifespan."
            raise RuntimeError(msg)
        self._backend = current_backend(self._settings.thread_limit)
        self.registry._living.append(self._backend.living)
        await self._backend.open()
        calendar.look()
        _open.add(self)
        self._closed = None
        if self.periodic:
            self._released = Event()
            self._clocks = [
                periodic._start(self._backend, self._released)
                for periodic in self.periodic.values()
            ]
            if not self._holds_clocks:
                self._released.set()
        if self._records is not None:
            self._writing = self._records.start(self._backend, self.registry)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Drain; what the body has raised goes on as it is (contract 5.7)."""
        backend = self._entered()
        try:
            with CancelScope(shield=True):
                await self.drain()
                if not backend.may_leave_tasks:
                    await self._until_idle(inf)
        finally:
            _open.discard(self)
            self._messengers.close()
            await backend.close()

    async def drain(self) -> None:
        """Bring every task to its end, as a shutdown does, and refuse tasks from then on.

        Cuts short at once what is not shielded and has not begun, waits the grace period for what
        runs, cancels what is not shielded, waits for what is (`shutdown_timeout` at most, then
        cancels that too), and reports what did not finish (contract 5.2 to 5.4). While it waits, a
        warning every 10 s names what it waits for. Shielded tasks that are scheduled meanwhile
        still run; others are cut short.

        Leaving the runner does this; call it where tasks must end before something else does. A
        second call waits for the first.
        """
        if self._drained is not None:
            # A server that was told that all is over may cancel what awaits, also a checkpoint.
            if not self._drained.is_set():
                await self._drained.wait()
            return
        self._entered()
        self._drained = Event()
        try:
            self._begin_shutdown()
            await self._until_clocks_stand()
            await self._until_idle(current_time() + self._settings.grace_period)
            self._shutdown.cancel()
            self._cut_living()
            timeout = self._settings.shutdown_timeout
            deadline = inf if timeout is None else current_time() + timeout
            while not self._close_if_idle() and current_time() < deadline:
                await self._until_idle(deadline)
        finally:
            # After the bound, or when the server itself has cut this short.
            self._shutdown.cancel(shielded=True)
            self._cut_living()
            try:
                with CancelScope(shield=True):
                    deadline = current_time() + UNWIND_TIME
                    await self._until_idle(deadline)
                    await self._until_clocks_stand(deadline)
            finally:
                with self._lock:
                    self._closed = self._closed or Closed.SHUT_DOWN
                self._cut_living()  # what a thread has scheduled at the last moment
                self._drained.set()
                self._shutdown.report(self.registry)
                await self._write_records()

    async def join(self) -> None:
        """Wait until no task lives, those included that are scheduled meanwhile (contract 2.8).

        Daemons are not waited for: they live as long as the process.

        Raises:
            RuntimeError: Another event loop than the runner's runs here.
        """
        backend = self._entered()
        if not backend.is_current():
            msg = "Wait for a TaskRunner on the event loop in which it was entered."
            raise RuntimeError(msg)
        await checkpoint()
        while True:
            self._forget_lost()
            awaited = sum(not task._is_daemon for task in backend.living)
            if not awaited:
                return
            await backend.living.wait(awaited, WARN_EVERY)

    def task(self, **settings: Unpack[TaskSettings]) -> PhaseScheduler:
        """Return a configured way to schedule, which can be kept and used again (contract 3.4)."""
        return self._past().task(**settings)

    def get(self, task_id: str) -> Task | None:
        """Return the task of this id, if it lives or is remembered: see `TaskRegistry.get`."""
        return self.registry.get(task_id)

    async def status(self, task_id: str) -> TaskStatus | None:
        """Return what is known of a task by its id: see `TasksScheduler.status`."""
        return await find_status(self, task_id)

    async def cancel(self, task_id: str) -> bool:
        """Cancel a task by its id, wherever it runs: see `TasksScheduler.cancel`."""
        return await cancel_task(self, task_id)

    def follow(self, task_id: str) -> AsyncIterator[TaskStatus]:
        """Iterate over the statuses of a task by its id: see `TasksScheduler.follow`."""
        return Following(self, task_id)

    def _schedule(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Task[Any, Any]:
        return self._past()._schedule(func, args, kwargs)

    def _past(self) -> TasksScheduler:
        """Return a scheduler whose phases have all passed."""
        if watching.elsewhere is not None and getattr(current.get(None), "_executor", None) is self:
            # What is served here, or the lifespan, is in no block: so is what is scheduled besides.
            scheduler = watching.apart(partial(_PastScheduler, self))
        else:
            scheduler = _PastScheduler(self)
        scheduler.reach(AFTER_RESPONSE)
        return scheduler

    def _entered(self) -> Backend:
        if self._backend is None:
            msg = "This TaskRunner has not been entered yet: write `async with runner:`."
            raise RuntimeError(msg)
        return self._backend

    # The shutdown.

    def _begin_shutdown(self) -> None:
        """Do all with which a shutdown begins; nothing is awaited, so no cancellation parts it."""
        for clock in self._clocks:
            clock.stop()
        self._shutdown.begin()
        self._let_readers_go()
        self._strand_others()
        self._cut_living()
        self._hurry()

    async def _until_clocks_stand(self, deadline: float = inf) -> None:
        """Wait until no clock runs anything any more, or the deadline."""
        with CancelScope(deadline=deadline):
            for clock in self._clocks:
                await clock.until_over()

    async def _write_records(self) -> None:
        """Write what has become of followed tasks at last (contract 7.6)."""
        if self._records is not None and self._writing is not None:
            self._writing.stop()
            with CancelScope(shield=True):
                try:
                    await self._writing.until_over()
                finally:
                    await self._records.flush()

    async def _wait_within(self, task: Task) -> None:
        """Wait for a task, and say so, if it waits for who waits for it here (2.6, 9.10)."""
        if _is_held_up_here(task):
            with move_on_after(WARN_EVERY) as waiting:
                await task._until_over()
            if waiting.cancelled_caught and _is_held_up_here(task):
                _report.waited_for_within(task, WARN_EVERY)

    def _refuse_background(self, task: Task) -> None:
        """Refuse to call what a response has as its background task: it would run twice (4.4)."""
        tasks = current.get(None)
        if isinstance(tasks, TasksScheduler) and tasks._answers and task_here() is None:
            msg = (
                f"Task {escape(task.name)} is called while its request is being answered, as a "
                "response's background=... does: it was scheduled, and runs by itself. Leave that "
                "out. To run it once more, `await task.func(*task.args, **task.kwargs)`."
            )
            raise RuntimeError(msg)

    async def _until_idle(self, deadline: float) -> None:
        """Wait until nothing lives, or the deadline, with warnings."""
        living = self._entered().living
        await checkpoint()
        warned = current_time()
        while True:
            self._forget_lost()
            # It takes as many ends at least until what nobody reaches is all that lives.
            ends = max(1, len(living) - self._cut_unreachable())
            now = current_time()
            if not living or now >= deadline:
                return
            await living.wait(ends, min(deadline, warned + WARN_EVERY) - now)
            if living and warned + WARN_EVERY <= current_time() < deadline:
                _report.waiting([(task, task._waits_for) for task in living])
                warned = current_time()

    def _forget_lost(self) -> None:
        """End what the event loop cancelled before its first step: its coroutine never ran."""
        backend = self._entered()
        for task in backend.living:
            if backend.has_ended(task._handle):
                _report.cancelled_from_outside(task)
                backend.living.end(task)

    def _close_if_idle(self) -> bool:
        with self._lock:
            idle = not self._entered().living
            if idle:
                self._closed = self._closed or Closed.SHUT_DOWN
        return idle

    def _cut_living(self) -> None:
        self._shutdown.cut_living(self._entered().living)
        if self._shutdown.cancels:
            for attempts in list(self._retrying.values()):
                attempts.stop()

    def _let_readers_go(self) -> None:
        """Let who reads updates come to an end: a server may wait for who streams them."""
        self._observers.close()
        for task in self.registry:
            task._announce()

    def _until_drain(self) -> AbstractContextManager[CancelScope]:
        """Cancel what is awaited in the block as a shutdown begins, or if one has begun."""
        is_here = self._backend is not None and self._backend.is_current()
        return self._shutdown.cancelling(here=is_here)

    def _cut_unreachable(self) -> int:
        """Cut what waits for a phase that nobody reaches, once nothing else lives (2.8).

        Returns:
            How many tasks of the runner's own event loop wait so.
        """
        living = self._entered().living
        with self._lock:
            waiting = self._shutdown.unreachable(living)
            is_all = len(waiting) == len(living)
        if is_all:
            self._shutdown.cut_unreachable(waiting)
        return len(waiting)

    def _hurry(self) -> None:
        """Let all hand-overs begin that wait for their turn: one timeout then bounds all (8.6)."""
        with self._lock:
            due = self._lanes.hurry()
        self._start_due(due)

    def _strand_others(self) -> None:
        """Leave tasks of other event loops: of a thread's only one runs, and now this one does."""
        left: list[tuple[Task, str]] = []
        for backend in self._others:
            for task in backend.living:
                left.append((task, "its event loop, which does not run"))
                if not backend.is_closed():
                    backend.call_soon(partial(backend.living.cancel, task))
                    self._leave(task)  # others of its key must not wait for that
                elif not task._is_over:  # one of its key may have ended it
                    backend.living.end(task)
            self.registry._living.remove(backend.living)
        self._others = ()
        _report.unfinished(left)

    def _forget_ended_loops(self) -> None:
        """End what lived on event loops that have ended, so that it keeps nobody waiting (2.7)."""
        ended = [backend for backend in self._others if backend.is_closed()]
        self._others = tuple(one for one in self._others if one not in ended)
        left: list[tuple[Task, str]] = []
        for backend in ended:
            self.registry._living.remove(backend.living)
            left += [(task, task._waits_for) for task in backend.living]
        for task, _ in left:
            if not task._is_over:  # one of its key may have ended it
                task._backend.living.end(task)
        _report.unfinished(left, "An event loop that has ended")

    # What schedulers and tasks ask of the runner, from any thread.

    def _find_backend(self, *, serves: bool = True) -> Backend | None:
        """Return the event loop for tasks that are scheduled here, once it was entered.

        Args:
            serves: Whether something is served here: its tasks then belong to the loop that runs.

        Raises:
            TasksUninitializedError: Tasks cannot run on the event loop that runs here.
        """
        backend = self._backend
        if self._others and backend is not None and backend.thread == get_ident():
            self._forget_ended_loops()
        if backend is None or backend.is_current() or not runs_here():
            return backend
        if backend.thread != get_ident():
            if serves:
                raise TasksUninitializedError(Missing.OTHER_THREAD)
            return backend
        for other in self._others:
            if other.is_current():
                return other
        new = current_backend(self._settings.thread_limit)
        if not isinstance(new, AsyncioBackend):  # it would need a task group of its own
            raise TasksUninitializedError(Missing.OTHER_LOOP)
        self._others = (*self._others, new)
        self.registry._living.append(new.living)
        return new

    def _carry(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        backend: Backend,
    ) -> Carried | None:
        """Return how a call is handed over to an engine, if it is.

        Raises:
            TypeError: The engine could not take the arguments (contract 8.3).
            RuntimeError: The engine needs another event loop than this one.
        """
        carried = carry(self._carriers.values(), func, args, kwargs)
        if carried and carried.carrier.needs_asyncio and not isinstance(backend, AsyncioBackend):
            name = carried.carrier.name
            msg = f"Carrier {name} works on asyncio only, and this application is served on trio."
            raise RuntimeError(msg)
        return carried

    def _accept(self, task: Task, counts: bool = True) -> Task:  # noqa: FBT001, FBT002 - it is fast
        """Take a task in, or return the one that lives in its place; the caller holds the lock.

        Args:
            task: The task.
            counts: Whether it is counted by its key, where it has settings for that.

        Raises:
            RunnerClosedError: The runner takes none (contract 5.4).
            BacklogFullError: Too many of its key wait (contract 9.11).
        """
        if self._closed is not None:
            raise RunnerClosedError(escape(task.name), self._closed)
        config = task.config
        if (config.limit is not None or config.unique or config.key is not None) and counts:
            accepted = self._lanes.admit(task, self.registry)
            if accepted is not task:
                return accepted
            scopes = task._backend.living.scopes
            scopes[task] = None
            if task._ended_at is not None:  # who has come in between has found and cancelled it
                scopes.pop(task, None)
            return task
        task._backend.living.scopes[task] = None
        if self._lanes.watched:
            self._lanes.note(task)
        return task

    def _hold(self, task: Task) -> None:
        """Let a task that was accepted wait for its phase."""
        if self._shutdown.drains and not self._shutdown.spares(task):
            self._on_loop(task._backend, partial(self._shutdown.cut_short, task))

    def _start(self, tasks: Sequence[Task], here: bool = False) -> None:  # noqa: FBT001, FBT002 - it is fast
        """Begin tasks of one request, in their order.

        Args:
            tasks: The tasks.
            here: Whether their event loop runs here, and nothing that was asked for comes first.

        Raises:
            RunnerClosedError: The event loop on which they were to run has ended.
        """
        backend = tasks[0]._backend
        if not here and (backend.inbox or not backend.is_current()):
            self._start_later(tasks, backend)
            return
        try:
            for task in tasks:
                if task._state is not PENDING:
                    continue  # cancelled while it waited for its phase
                if self._shutdown.drains and not self._shutdown.spares(task):
                    self._shutdown.cut_short(task)
                    continue
                if task._lane is not None and not self._enter(task, task._lane):
                    continue
                # Not `task.name`: this is done for each task.
                name = task.config.name
                if name is None:
                    func = task.func
                    name = func.__qualname__ if type(func) is FunctionType else describe(func)
                coro = execute(task)
                try:
                    task._handle = backend.spawn(coro, name, task._context)
                except Exception as error:  # noqa: BLE001 - an event loop's task factory is anyone's
                    coro.close()
                    coro = execute(task, error)
                    task._handle = backend.spawn(coro, name, task._context, all_the_same=True)
                if task._ended_at is not None:  # where the loop's tasks start eagerly
                    task._handle = None  # pragma: no cover - they can from Python 3.12 on
        except BaseException:  # pragma: no cover - Ctrl-C; tests bring it by a tracer of their own
            self._give_up(tasks)
            raise

    def _start_later(self, tasks: Sequence[Task], backend: Backend) -> None:
        try:
            backend.act(partial(self._start, tasks, here=True))
        except LoopEndedError:
            for task in tasks:
                backend.living.end(task)
            if self._closed is None:
                raise RunnerClosedError(escape(tasks[0].name), Closed.LOOP_ENDED) from None

    def _give_up(self, tasks: Iterable[Task]) -> None:
        """Cancel those of these tasks that were taken in, and that nobody will start any more."""
        for task in tasks:
            if task._handle is None and task in task._backend.living.scopes:
                self._cancel(task)

    def _skip(self, task: Task, why: Skipped, level: int) -> None:
        """End a task that is not to run, and say why (contract 1.6)."""
        self._on_loop(task._backend, partial(self._skip_here, task, why, level))

    def _cancel(self, task: Task) -> bool:
        """Cancel a task; return whether that can take effect."""
        effective = task._is_async or not task.attempt
        if task._lives and not task._is_on_its_way:
            if effective:
                self._lanes.dismissed.add(task)
            self._on_loop(task._backend, partial(self._cancel_here, task))
            return effective
        return False

    async def _begun(self, backend: Backend) -> None:
        """Wait until all that was started has run its first step, sync functions in a thread."""
        backend.read_inbox()
        await backend.begun()
        await backend.threads.handed_over()

    def _on_loop(self, backend: Backend, action: Callable[[], object]) -> None:
        """Do something on the loop's thread, before that goes on; at once if it runs here."""
        with suppress(LoopEndedError):  # where nothing happens any more, and nobody waits
            backend.act(action)

    # What happens on the loop's thread only.

    def _enter(self, task: Task, lane: Lane) -> bool:
        """Return whether a task may run now; if not, it waits until others of its key are over."""
        with self._lock:
            return self._lanes.enter(task, lane)

    def _ended(self, task: Task) -> None:
        """Tell who follows a task that it is over, and let those run that have waited for that."""
        try:
            if self._observers.active:
                self._observers.ended(task)
        finally:
            self._leave(task)

    def _leave(self, task: Task) -> None:
        """Count a task no longer, and let those run whose turn has come by that."""
        lane, task._lane = task._lane, None
        if lane is not None:
            with self._lock:
                due = self._lanes.leave(task, lane)
            self._start_due(due)

    def _start_due(self, tasks: Sequence[Task]) -> None:
        if self._due is not None:  # one that was started has ended meanwhile
            self._due.extend(tasks)
            return
        due = self._due = deque(tasks)
        try:
            while due:
                with suppress(RunnerClosedError):  # its event loop has ended
                    self._start((due[0],))
                due.popleft()
        finally:
            self._due = None
            self._give_up(due)  # Ctrl-C

    def _cancel_here(self, task: Task) -> None:
        if task._is_on_its_way:  # by now
            self._lanes.dismissed.discard(task)
        else:
            task._backend.living.cancel(task)

    def _skip_here(self, task: Task, why: Skipped, level: int) -> None:
        if task._lives:
            task._skip(why)
            task._backend.living.end(task)
            _report.skipped(task, why.value, level)


class _PastScheduler(TasksScheduler):
    """Schedules without a request, so from any thread, whatever event loop that has (2.3)."""

    __slots__ = ()
    _serves = False

    def _schedule(self, *args: Any, **kwargs: Any) -> Task[Any, Any]:  # noqa: ANN401 - as the other's
        task = super()._schedule(*args, **kwargs)
        if task._backend.is_current():
            task._backend.wake()
        return task


def _is_held_up_here(task: Task) -> bool:
    """Whether a task cannot begin before what runs here ends: its request, or one of its key."""
    here, tasks, lane = task_here(), current.get(None), task._lane
    if here is None:  # a task may wait for its request's end
        return isinstance(tasks, TasksScheduler) and task in tasks._waiting_for(task.phase)
    return lane is not None and task._handle is lane and here in lane.running


_open: WeakSet[TaskRunner] = WeakSet()
"""The runners that were entered and not left."""


def _forget_in_child() -> None:
    """Close the runners of the process that this one was forked from: their loops turn there."""
    for runner in _open:
        runner._lock = RLock()  # a thread of that process may have held it
        runner._closed = Closed.FORKED


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has none
    os.register_at_fork(after_in_child=_forget_in_child)
