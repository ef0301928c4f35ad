"""A task: one scheduled call with its configuration, its state, and how to wait for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import Context, ContextVar, copy_context
from threading import RLock
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, cast, overload

from anyio import Event
from anyio.lowlevel import checkpoint

from ._backend import Backend, runs_here
from ._carrier import Carried, TaskStatus, make_id
from ._config import TaskConfig
from ._exceptions import (
    HandOverError,
    NoCurrentTaskError,
    Skipped,
    TaskCancelled,
    TaskHandedOver,
    TaskSkipped,
)
from ._handing_over import hand_over
from ._names import describe, show, type_name
from ._phase import IMMEDIATE, Phase
from ._raised import get_context, get_traceback, set_context, set_traceback
from ._record import Progress, TaskRecord, calendar, cut, escape, plain
from ._state import (
    CANCELLED,
    FAILED,
    HANDED_OVER,
    PENDING,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
    TaskState,
)
from ._threads import call

if TYPE_CHECKING:
    # Defaults of type parameters are in `typing` from Python 3.13; only checkers need them.
    from typing_extensions import ParamSpec, TypeVar

    from ._lanes import Lane
    from ._runner import TaskRunner

    P = ParamSpec("P", default=...)
    R_co = TypeVar("R_co", covariant=True, default=Any)
    R = TypeVar("R")
else:
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    R_co = TypeVar("R_co", covariant=True)


# Held while what a task has only when asked for is made, or taken. A signal handler or a finaliser
# may come in between and ask too.
_making = RLock()


_NO_CONTEXT = Context()


class Task(Generic[P, R_co]):
    """A scheduled call: what is called, how it is configured, and what has become of it.

    Tasks are made by ``schedule``; generic in the function's parameters and in the (awaited)
    result, both with defaults, so that a bare ``Task`` is a complete annotation.

    Attributes:
        func: The function, as it was passed to ``schedule``.
        args: Its positional arguments.
        config: The settings in force, all layers merged (contract 3.3).
        phase: The phase that the task was scheduled for.
    """

    __slots__ = (
        "__weakref__",
        "_attempt",
        "_backend",
        "_began_at",
        "_carried",
        "_changed",
        "_context",
        "_ended_at",
        "_exception",
        "_handle",
        "_id",
        "_is_async",
        "_known",
        "_kwargs",
        "_lane",
        "_progress",
        "_result",
        "_runner",
        "_scheduled_at",
        "_started",
        "_state",
        "_traceback",
        "args",
        "config",
        "func",
        "phase",
    )

    func: Callable[P, Any]
    args: tuple[Any, ...]
    _kwargs: dict[str, Any] | None  # most have none, and an empty dictionary is not small
    config: TaskConfig
    phase: Phase
    _is_async: bool  # it belongs on the event loop, not in a thread
    # Made when it is shown; it is known to the registry once somebody has asked for it.
    _id: str
    _known: bool
    _runner: TaskRunner
    _lane: Lane | None  # what it is counted in, if it is
    _carried: Carried | None  # how it is handed over, if it does not run here
    _backend: Backend  # the event loop on which it runs
    # The copy of the context in which it was scheduled, until it has been started in it (2.4).
    _context: Context
    # The moments of its life, by a clock that never jumps. With the last one all is over, the
    # error handler included: what waiters wait for.
    _scheduled_at: float
    _began_at: float | None
    _ended_at: float | None
    _state: TaskState
    _attempt: int  # there once one has begun that is counted, see `_attempts`
    # What the function returned; or why the task was skipped.
    _result: Any
    _exception: Exception | None
    _traceback: TracebackType | None
    # What the event loop holds weakly while the task runs (or will), or the lane in which it
    # waits; None before and after.
    _handle: object
    _progress: Progress | None
    # Events are made when somebody asks for them; most tasks need none. The second is set, and
    # forgotten, when the task reports progress and when all is over.
    _started: Event | None
    _changed: Event | None

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments of the call."""
        return {} if self._kwargs is None else self._kwargs

    @property
    def id(self) -> str:
        """An unguessable identifier, unique for ever: 32 hexadecimal digits.

        Of a task that is handed over to an engine, the carrier's name and a hyphen come before
        them: so every process of the server knows whom to ask. The engine has it by the same id.

        Who asks for it can look the task up: see `TaskRegistry`.
        """
        if not self._known:
            self._runner.registry._know(self)
        return self._id

    @property
    def name(self) -> str:
        """The configured name, or else the function's qualified name."""
        name = self.config.name
        return describe(self.func) if name is None else name

    @property
    def carrier(self) -> str | None:
        """The name of the carrier that hands it over; ``None`` if it runs in this process."""
        return None if self._carried is None else self._carried.carrier.name

    @property
    def state(self) -> TaskState:
        """What has become of the task so far."""
        return self._state

    @property
    def attempt(self) -> int:
        """Which attempt is made, or was the last, from 1; 0 before the first (contract 9.7)."""
        return getattr(self, "_attempt", 0 if self._began_at is None else 1)

    @property
    def result(self) -> R_co | None:
        """What the function returned (awaited); ``None`` until the task has succeeded."""
        return self._result if self._state is SUCCEEDED else None

    @property
    def exception(self) -> Exception | None:
        """What the function raised; ``None`` unless the task has failed.

        Something that is no `Exception` is the cause of a `TaskAborted`.
        """
        return self._exception

    @property
    def started(self) -> Event:
        """An event that is set when the function is called, or handed to its thread.

        Of a task with a ``retry``, when that is called (contract 9.5). Of one that ends without
        that, skipped or cancelled, when it ends.

        Raises:
            RuntimeError: Another event loop than the task's runs here.
        """
        return self._started or self._make_started()

    @overload
    async def wait(self: Task[P, Awaitable[R]]) -> R: ...
    @overload
    async def wait(self) -> R_co: ...
    async def wait(self) -> Any:
        """Wait until the task has ended, its error handler included, and return its result.

        Cancelling who waits does not cancel the task. Use anyio's `move_on_after` or `fail_after`
        for a timeout, and `anyio.from_thread.run(task.wait)` in a sync route. In threads that are
        not anyio's, those of Litestar's sync handlers for instance, that needs ``token=`` as well:
        what `anyio.lowlevel.current_token()` was on the event loop.

        A route cannot wait for a later phase of its own request, which begins when the route has
        ended; nor can a task, within its `limit`, for one of its own key which has no turn. Both
        are logged after 10 s.

        Raises:
            Exception: What the function raised.
            TaskCancelled: The task was cancelled.
            TaskSkipped: The task was skipped, for its request's outcome, or for a test.
            TaskHandedOver: An engine has it: `TasksScheduler.status` asks what becomes of it.
            RuntimeError: Another event loop than the task's runs here.
        """
        if self._state is PENDING and self._ended_at is None:
            await self._runner._wait_within(self)
        await self._until_over()
        try:
            if self._state is CANCELLED:
                raise TaskCancelled(escape(self.name))
            if self._state is SKIPPED:
                raise TaskSkipped(escape(self.name), self._result)
            if self._state is HANDED_OVER:
                raise TaskHandedOver(escape(self.name), str(self.carrier))
            if self._exception is not None:
                self._raise(self._exception)
            return self._result
        finally:
            del self  # the traceback of what is raised has this frame, and the task has the error

    def cancel(self) -> bool:
        """Cancel the task, shielded or not: before it begins, or while it runs.

        May be called from any thread. Returns whether that can take effect: a task that has ended
        cannot be cancelled, nor can one that is being handed over to an engine, and a sync function
        that has begun ends when it likes. It is told all the same: one that calls
        `anyio.from_thread.check_cancelled` now and then ends there, and the task is cancelled.
        """
        return self._runner._cancel(self)

    @property
    def waited(self) -> float:
        """Seconds from its scheduling until it began, or until now or its end if it has not."""
        until = self._began_at if self._began_at is not None else self._ended_at
        return (monotonic() if until is None else until) - self._scheduled_at

    @property
    def ran(self) -> float | None:
        """Seconds from its beginning until now, or until its end; ``None`` if it has not begun."""
        if self._began_at is None:
            return None
        return (monotonic() if self._ended_at is None else self._ended_at) - self._began_at

    @property
    def progress(self) -> Progress | None:
        """What the task has reported last; ``None`` if it has not reported."""
        return self._progress

    def report(
        self, done: float, *, total: float | None = None, message: str | None = None
    ) -> None:
        """Say how far the task has come: ``current_task().report(3, total=10)``.

        Never waits, and may be called from any thread, so in sync functions too. What is left out
        stays as it was reported before. See `Progress` for what the parts mean. Once the task is
        over, what is reported is checked and makes no difference.

        Raises:
            TypeError: A count is no number, or the message no string.
            ValueError: A count is negative, infinite or not a number.
        """
        last = self._progress
        if last is not None:
            total = last.total if total is None else total
            message = last.message if message is None else message
        progress = Progress(done, total, message)
        if self._ended_at is None:
            self._progress = progress
            self._announce()
            if self._runner._observers.active:
                self._runner._observers.changed(self)

    def updates(self) -> AsyncIterator[Progress]:
        """Iterate over the task's progress as it is reported, until the task has ended.

        Begins with what was reported last, if anything. The task never waits for a reader: who is
        slow misses what was reported in between, and gets the newest. The last report is always
        given. How the task has ended is not raised here, see `state` or `wait`. A shutdown ends it
        as it begins, so that it waits for no stream of this.

        Raises:
            RuntimeError: Another event loop than the task's runs here.
        """
        return _Updates(self)

    def record(self) -> TaskRecord:
        """Return a snapshot of the task, as it may be shown to others."""
        # A thread may ask while the task goes on. So in this order: once it has an end nothing
        # changes, and what belongs to a state is set before the state.
        ended = self._ended_at
        state = self._state
        began = None if state is PENDING else self._began_at
        now = monotonic() if ended is None else ended
        kind, text = self._tell() if state is FAILED else (None, None)
        return TaskRecord(
            id=self.id,
            name=plain(self.name),
            function=plain(describe(self.func)),
            phase=cast('Literal["immediate", "after_route", "after_response"]', str(self.phase)),
            state=state,
            scheduled_at=calendar.date(self._scheduled_at),
            started_at=None if began is None else calendar.date(began),
            ended_at=None if ended is None else calendar.date(ended),
            waited=(now if began is None else began) - self._scheduled_at,
            ran=None if began is None else now - began,
            error_type=kind,
            error=text,
            progress=self._progress,
            attempt=self.attempt,
            carrier=self.carrier,
        )

    @overload
    async def __call__(self: Task[P, Awaitable[R]]) -> R: ...
    @overload
    async def __call__(self) -> R_co: ...
    async def __call__(self) -> Any:
        """Call the function once more, as the task did, without its error handler (contract 4.4).

        The task's own state does not change. A task that an engine has, or should have, is handed
        over again, by the same id; that returns ``None``.

        Raises:
            Exception: What the function raises.
            RuntimeError: The task is called as the background task of its request's response.
        """
        if self._lives or self._is_over:  # else its error handler may call it, wherever that runs
            self._runner._refuse_background(self)
        if self._carried is not None:
            return await self._hand_over(self._carried)
        result: Any = await call(self.func, self.args, self.kwargs, self._backend.threads)
        return result

    def __repr__(self) -> str:
        """Name the task, without its arguments: they may hold secrets (contract 4.2)."""
        name = escape(self.name)
        return f"<Task {name} id={self._show_id()} phase={self.phase} state={self._state}>"

    # What moves it through its life: the runner's, on the event loop's thread only. So a state has
    # one writer, and a final one never changes.

    def _begin(self) -> None:
        """Note that the function, or its retry, is being called; or that it is handed over."""
        current.set([self])
        self._began_at = monotonic()
        if self._carried is None:
            self._state = RUNNING
        if self._started is not None:
            self._started.set()

    def _succeed(self, result: Any) -> None:  # noqa: ANN401 - what the function returned
        """Note that the function has returned; or that an engine has the task."""
        self._result = result
        self._state = (
            SUCCEEDED if self._carried is None else HANDED_OVER
        )  # last: a thread that sees the state has the result

    def _fail(self, error: Exception) -> None:
        """Note that the function has raised, with a traceback that begins in the function.

        Further out are frames of ours, which hold the task: they would be a cycle of references.
        """
        self._exception = error
        self._traceback = get_traceback(error)
        self._state = FAILED  # last, as above

    def _skip(self, why: Skipped) -> None:
        """Note that the function is not called."""
        self._result = why
        self._state = SKIPPED  # last, as above

    def _end(self) -> None:
        """Let waiters go on, the task is over; if nothing has become of it, it was cancelled."""
        state = self._state
        if state is PENDING or state is RUNNING:
            self._state = CANCELLED
        self._handle = None
        self._context = _NO_CONTEXT  # it holds the request's values; a handle may be kept for long
        self._ended_at = monotonic()
        if self._started is not None and self._began_at is None:
            self._runner._on_loop(self._backend, self._started.set)
        if self._changed is not None:
            self._announce()

    # What those ask who run it, log it and wait for it.

    @property
    def _lives(self) -> bool:
        """Whether it has not reached a final state yet."""
        return self._state is PENDING or self._state is RUNNING

    @property
    def _is_over(self) -> bool:
        """Whether everything is over, the error handler included."""
        return self._ended_at is not None

    @property
    def _is_shielded(self) -> bool:
        """Whether a shutdown waits for it: for a hand-over always, which does not take long."""
        return self.config.shielded or self._carried is not None

    @property
    def _is_daemon(self) -> bool:
        """Whether it lives as long as the process."""
        return bool(self.config.daemon) and self._carried is None

    @property
    def _is_cut(self) -> bool:
        """Whether a shutdown has ended it."""
        return self._state is CANCELLED and self in self._runner._shutdown.cut

    @property
    def _is_on_its_way(self) -> bool:
        """Whether it is being handed over to an engine, or was."""
        return self._carried is not None and self._began_at is not None

    @property
    def _is_refused(self) -> bool:
        """Whether its engine has not confirmed it, and nobody knows why that would be right."""
        if self._carried is not None and self._carried.confirmed:
            return False
        return self._state is FAILED or self in self._runner._shutdown.cut

    def _status(self) -> TaskStatus:
        """Return what is known of it here."""
        state = self._state
        kind, text = self._tell() if state is FAILED else (None, None)
        return TaskStatus(
            id=self.id,
            state=state,
            result=self._result if state is SUCCEEDED else None,
            error_type=kind,
            error=text,
            progress=self._progress,
            carrier=self.carrier,
        )

    async def _hand_over(self, carried: Carried) -> None:
        """Hand it over to its engine.

        Raises:
            HandOverError: The engine has not confirmed it (contract 8.7).
        """
        messengers = self._runner._messengers
        handing_over = hand_over(self.name, self.id, carried, messengers, self._backend)
        del self, carried  # what is raised may keep this frame, and the task has that
        await handing_over

    @property
    def _waits_for_phase(self) -> bool:
        """Whether its phase has not come."""
        waits = self._state is PENDING and self.phase is not IMMEDIATE
        return waits and self._handle is None and self._began_at is None

    @property
    def _waits_for(self) -> str:
        """What it waits for before its function is called, if it has not been."""
        if not self._lives or (self._state is RUNNING and self.attempt):
            return ""
        if self._lane is not None and self._handle is self._lane:
            return "others of its key"
        if self._waits_for_phase:
            return str(self.phase)
        if self._carried is not None:
            return f"carrier {self.carrier}"
        return "its first step" if self._is_async else "a thread"

    @property
    def _age(self) -> float:
        """The seconds since it was scheduled."""
        return monotonic() - self._scheduled_at

    def _show_id(self) -> str:
        """Return its id, which so is not yet known to the registry."""
        if not self._id:
            with _making:
                self._make_id()
        return self._id

    def _make_id(self) -> None:
        made = make_id(self.carrier)
        self._id = self._id or made  # a finaliser may have asked meanwhile

    def _make_started(self) -> Event:
        """Make the event; of threads that ask at the same time all get the same."""
        self._refuse_other_loops()
        with _making:
            event = Event()
            self._started = self._started or event
        # `_begin` and `_end` look the other way round: one of the two sets it.
        if self._began_at is not None or self._ended_at is not None:
            self._started.set()
        return self._started

    def _announce(self) -> None:
        """Wake who waits for a change, from any thread."""
        with _making:  # of several threads one takes the event
            event, self._changed = self._changed, None
        if event is not None:
            self._runner._on_loop(self._backend, event.set)

    async def _until_changed(self, progress: Progress | None) -> None:
        """Wait until it is over, or its progress another one than this."""
        self._refuse_other_loops()
        event = self._changed
        if event is None:
            event = self._changed = Event()
        # `_announce` looks the other way round, so one of the two sees what the other has done.
        if self._ended_at is None and self._progress is progress:
            await event.wait()

    async def _until_over(self) -> None:
        """Wait until it is over, however it ends."""
        while self._ended_at is None:
            await self._until_changed(self._progress)

    async def _until_confirmed(self) -> None:
        """Wait until its engine has it; not if it was skipped, or cancelled by who knows.

        Raises:
            HandOverError: The engine has not confirmed it; or a shutdown has cut it short.
        """
        await self._until_over()
        if self._is_refused:
            # Not its own error: who waits here holds the task, which holds that.
            cause = self._exception and self._exception.__cause__
            raise HandOverError(escape(self.name), str(self.carrier)) from cause

    def _refuse_other_loops(self) -> None:
        """Refuse to make an event for an event loop that is not its own; it would break both."""
        if not self._backend.is_current() and runs_here():
            msg = (
                "The task belongs to another event loop than the one that runs here: wait for it "
                "there, or in a thread by anyio.from_thread.run(task.wait)."
            )
            raise RuntimeError(msg)

    def _raise(self, error: Exception) -> NoReturn:
        """Raise its failure to who waits, with nothing of those who have waited before."""
        context = get_context(error)
        set_traceback(error, self._traceback)
        try:
            raise error
        finally:
            set_context(error, context)  # raising it has put what the waiter handles there
            del self, error, context  # as in `wait`

    def _tell(self) -> tuple[str, str]:
        """Return the type and the text of what it has raised."""
        return plain(type_name(self._exception)), cut(plain(show(self._exception)))


class _Updates(AsyncIterator[Progress]):
    """The reports of a task. No generator: trio minds one that is not read to its end."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._seen: Progress | None = None
        self._ends = False

    async def __anext__(self) -> Progress:
        await checkpoint()
        task = self._task
        while not self._ends:
            # First: what was reported before the end is given.
            self._ends = task._is_over or task._runner._shutdown.drains
            if not task._is_over:
                task._refuse_other_loops()
            progress = task._progress
            if progress is not None and progress is not self._seen:
                self._seen = progress
                return progress
            if not self._ends:
                await task._until_changed(progress)
        raise StopAsyncIteration


_new = object.__new__  # a class that is called calls its `__init__` in a dearer way


def make_task(  # noqa: PLR0913, PLR0917 - what a task is of
    runner: TaskRunner,
    backend: Backend,
    phase: Phase,
    config: TaskConfig,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    is_async: bool,  # noqa: FBT001 - as above
) -> Task:
    """Make the task of a call, as `schedule` does; not for users."""
    task = _new(Task)
    task.func = func
    task.args = args
    task._kwargs = kwargs or None
    task.config = config
    task.phase = phase
    task._is_async = is_async
    task._id = ""
    task._known = False
    task._runner = runner
    task._lane = None
    task._carried = None
    task._backend = backend
    task._context = copy_context()
    task._scheduled_at = monotonic()
    task._began_at = None
    task._ended_at = None
    task._state = PENDING
    task._result = None
    task._exception = None
    task._traceback = None
    task._handle = None
    task._progress = None
    task._started = None
    task._changed = None
    return task


current: ContextVar[list[Task]] = ContextVar("tasks_core.current_task")
"""A list, which `forget_here` empties: an error that the task has may hold copies of its context,
by a timer for instance, and would so be kept by itself (contract 4.2)."""


def current_task() -> Task:
    """Return the task that is running, in its function and in all that this calls.

    Raises:
        NoCurrentTaskError: No task is running here; or one that has left this running is over. Only
            one that has returned ``None`` is still found then: keep the handle, to be sure.
    """
    here = task_here()
    if here is None:
        raise NoCurrentTaskError
    return here


def task_here() -> Task | None:
    """Return the task that is running here, if one is."""
    return next(iter(current.get(_NOBODY)), None)


def forget_here(task: Task) -> None:
    """Let this context, and the copies that were made of it, no longer hold the task that ran."""
    here = current.get(_NOBODY)
    if here and here[0] is task:  # it has begun here, and not in a thread
        here.clear()


_NOBODY: list[Task] = []
