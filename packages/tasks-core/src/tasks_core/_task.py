"""A task: one scheduled call with its configuration, its state, and how to wait for it."""

# pyright: reportPrivateUsage=false
# ruff: noqa: SLF001
# Within this module: the functions below the class are its own.

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar, copy_context
from threading import RLock, get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, cast

from anyio import Event
from anyio.lowlevel import checkpoint

from ._backend import runs_here
from ._calling import call, describe, show, type_name
from ._config import TaskConfig
from ._exceptions import NoCurrentTaskError, TaskCancelled, TaskFailed, TaskSkipped
from ._phase import Phase
from ._record import Progress, TaskRecord, date, plain
from ._state import CANCELLED, FAILED, PENDING, SKIPPED, TaskState
from ._threads import Threads

if TYPE_CHECKING:
    # Defaults of type parameters are in `typing` from Python 3.13; only checkers need them.
    from typing_extensions import ParamSpec, TypeVar

    P = ParamSpec("P", default=...)
    R_co = TypeVar("R_co", covariant=True, default=Any)
else:
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    R_co = TypeVar("R_co", covariant=True)


# Held while what a task has only when asked for is made, or taken. A signal handler or a finaliser
# may come in between and ask too.
_making = RLock()


class TaskHost(Protocol):
    """What a task needs of the runner that it belongs to."""

    @property
    def threads(self) -> Threads: ...
    @property
    def thread(self) -> int: ...
    def cancel(self, task: Task) -> bool: ...
    def identify(self, task: Task) -> str: ...
    def on_loop(self, act: Callable[[], object]) -> None: ...


class Task(Generic[P, R_co]):
    """A scheduled call: what is called, how it is configured, and what has become of it.

    Tasks are made by ``schedule``; generic in the function's parameters and in the (awaited)
    result, both with defaults, so that a bare ``Task`` is a complete annotation.

    Attributes:
        func: The function, as it was passed to ``schedule``.
        args: Its positional arguments.
        config: The settings in force, all layers merged (contract 3.3).
        phase: The phase that the task was scheduled for.

    Since 0.1.0.
    """

    __slots__ = (
        "__weakref__",
        "_began_at",
        "_changed",
        "_context",
        "_ended_at",
        "_exception",
        "_handle",
        "_host",
        "_id",
        "_kwargs",
        "_progress",
        "_result",
        "_scheduled_at",
        "_started",
        "_state",
        "_traceback",
        "args",
        "config",
        "func",
        "phase",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - the attributes above
        self,
        host: TaskHost,
        phase: Phase,
        config: TaskConfig,
        func: Callable[P, Awaitable[R_co] | R_co],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        """Made by ``schedule``, not by users."""
        self.func: Callable[P, Any] = func
        self.args: tuple[Any, ...] = args
        self._kwargs = kwargs or None  # most have none, and an empty dictionary is not small
        self.config: TaskConfig = config
        self.phase: Phase = phase
        self._id = ""  # made when somebody asks for it
        self._host = host
        # The copy of the context in which it was scheduled, until it has been started in it (2.4).
        self._context = copy_context()
        # The moments of its life, by a clock that never jumps. With the last one all is over, the
        # error handler included: what waiters wait for.
        self._scheduled_at = time.monotonic()
        self._began_at: float | None = None
        self._ended_at: float | None = None
        self._state = PENDING
        self._result: R_co | None = None
        self._exception: Exception | None = None
        self._traceback: TracebackType | None = None
        # What the event loop holds weakly while the task runs (or will); None before and after.
        self._handle: object = None
        self._progress: Progress | None = None
        # Events are made when somebody asks for them; most tasks need none. The second is set, and
        # forgotten, when the task reports progress and when all is over.
        self._started: Event | None = None
        self._changed: Event | None = None

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments of the call."""
        return {} if self._kwargs is None else self._kwargs

    @property
    def id(self) -> str:
        """An unguessable identifier, unique for ever: 32 hexadecimal digits."""
        return self._id or self._host.identify(self)

    @property
    def name(self) -> str:
        """The configured name, or else the function's qualified name."""
        name = self.config.name
        return describe(self.func) if name is None else name

    @property
    def state(self) -> TaskState:
        """What has become of the task so far."""
        return self._state

    @property
    def result(self) -> R_co | None:
        """What the function returned (awaited); ``None`` until the task has succeeded."""
        return self._result

    @property
    def exception(self) -> Exception | None:
        """What the function raised; ``None`` unless the task has failed.

        Something that is no `Exception` is the cause of a `TaskAborted`.
        """
        return self._exception

    @property
    def started(self) -> Event:
        """An event that is set when the function is called, or handed to its thread.

        Raises:
            RuntimeError: Another event loop than the task's runs here.
        """
        return self._started or observe(self)

    async def wait(self) -> R_co:
        """Wait until the task has ended, its error handler included, and return its result.

        Cancelling who waits does not cancel the task. Use anyio's `move_on_after` or `fail_after`
        for a timeout, and `anyio.from_thread.run(task.wait)` in a sync route. In threads that are
        not anyio's, those of Litestar's sync handlers for instance, that needs ``token=`` as well:
        what `anyio.lowlevel.current_token()` was on the event loop.

        Raises:
            Exception: What the function raised.
            TaskCancelled: The task was cancelled.
            TaskSkipped: The task was skipped, for its request's outcome.
            RuntimeError: Another event loop than the task's runs here.
        """
        await until_over(self)
        if self._state is CANCELLED:
            raise TaskCancelled(self.name)
        if self._state is SKIPPED:
            raise TaskSkipped(self.name)
        if self._exception is not None:
            error = _stand_in(self)
            if error is not None:  # a new one: what is remembered must not get the waiter's frames
                raise TaskFailed(error.kind, error.text)
            # Not with the frames of all who have waited before.
            raise self._exception.with_traceback(self._traceback)
        return cast("R_co", self._result)

    def cancel(self) -> bool:
        """Cancel the task, shielded or not: before it begins, or while it runs.

        May be called from any thread. Returns whether that can take effect: a task that has ended
        cannot be cancelled, and a sync function that has begun ends when it likes. It is told all
        the same: one that calls `anyio.from_thread.check_cancelled` now and then ends there, and
        the task is cancelled.
        """
        return self._host.cancel(self)

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
            announce(self)

    def updates(self) -> AsyncIterator[Progress]:
        """Iterate over the task's progress as it is reported, until the task has ended.

        Begins with what was reported last, if anything. The task never waits for a reader: who is
        slow misses what was reported in between, and gets the newest. The last report is always
        given. How the task has ended is not raised here, see `state` or `wait`.

        Raises:
            RuntimeError: Another event loop than the task's runs here.
        """
        return _Updates(self)

    def record(self) -> TaskRecord:
        """Return a snapshot of the task, as it may be shown to others."""
        # A thread may ask while the task goes on. So in this order: once it has an end nothing
        # changes, and `_life` sets what belongs to a state before the state.
        ended = self._ended_at
        state = self._state
        began = None if state is PENDING else self._began_at
        now = time.monotonic() if ended is None else ended
        kind, text = tell(self) if state is FAILED else (None, None)
        return TaskRecord(
            id=self.id,
            name=plain(self.name),
            function=plain(describe(self.func)),
            phase=cast('Literal["immediate", "after_route", "after_response"]', str(self.phase)),
            state=state,
            scheduled_at=date(self._scheduled_at),
            started_at=None if began is None else date(began),
            ended_at=None if ended is None else date(ended),
            waited=(now if began is None else began) - self._scheduled_at,
            ran=None if began is None else now - began,
            error_type=kind,
            error=text,
            progress=self._progress,
        )

    async def __call__(self) -> R_co:
        """Call the function once more, as the task did, without its error handler (contract 4.4).

        The task's own state does not change.

        Raises:
            Exception: What the function raises.
        """
        result: R_co = await call(self.func, self.args, self.kwargs, self._host.threads)
        return result

    def __repr__(self) -> str:
        """Name the task, without its arguments: they may hold secrets (contract 4.2)."""
        return f"<Task {self.name} id={self.id} phase={self.phase} state={self._state}>"


class _Updates(AsyncIterator[Progress]):
    """The reports of a task. No generator: trio minds one that is not read to its end."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._seen: Progress | None = None

    async def __anext__(self) -> Progress:
        await checkpoint()
        while True:
            # First: what was reported before the end is given.
            over = self._task._ended_at is not None
            if not over:
                refuse_other_loops(self._task)
            progress = self._task._progress
            if progress is not None and progress is not self._seen:
                self._seen = progress
                return progress
            if over:
                raise StopAsyncIteration
            await changed(self._task, progress)


current: ContextVar[Task] = ContextVar("tasks_core.current_task")


def current_task() -> Task:
    """Return the task that is running, in its function and in all that this calls.

    Raises:
        NoCurrentTaskError: No task is running here.

    Since 0.1.0.
    """
    task = current.get(None)
    if task is None:
        raise NoCurrentTaskError
    return task


def observe(task: Task) -> Event:
    """Give the task its event; of threads that ask at the same time all get the same."""
    refuse_other_loops(task)
    with _making:
        if task._started is None:
            task._started = Event()
    if task._began_at is not None:  # `begin` looks the other way round, so one of the two sets it
        task._started.set()
    return task._started


async def changed(task: Task, progress: Progress | None) -> None:
    """Wait until the task is over, or its progress another one than this."""
    refuse_other_loops(task)
    event = task._changed
    if event is None:
        event = task._changed = Event()
    # `announce` looks the other way round, so one of the two sees what the other has done.
    if task._ended_at is None and task._progress is progress:
        await event.wait()


async def until_over(task: Task) -> None:
    """Wait until the task is over, however it ends."""
    while task._ended_at is None:
        await changed(task, task._progress)


def announce(task: Task) -> None:
    """Wake who waits for a change of the task, from any thread."""
    with _making:  # of several threads one takes the event
        event, task._changed = task._changed, None
    if event is not None:
        task._host.on_loop(event.set)


def tell(task: Task) -> tuple[str, str]:
    """Return the type and the text of what a task that has failed has raised."""
    error = _stand_in(task)
    if error is not None:
        return error.kind, error.text
    return plain(type_name(task._exception)), plain(show(task._exception))


def _stand_in(task: Task) -> TaskFailed | None:
    """Return what stands for the error of a task that had failed before it was looked up."""
    # A task may raise a `TaskFailed` of its own, which it got by waiting; that has a traceback.
    error = task._exception
    return error if isinstance(error, TaskFailed) and task._traceback is None else None


def refuse_other_loops(task: Task) -> None:
    """Refuse to make an event for an event loop that is not the task's; it would break both."""
    if get_ident() != task._host.thread and runs_here():
        msg = (
            "The task belongs to another event loop than the one that runs here: wait for it "
            "there, or in a thread by anyio.from_thread.run(task.wait)."
        )
        raise RuntimeError(msg)
