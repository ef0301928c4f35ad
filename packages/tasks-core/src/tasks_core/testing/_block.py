"""The blocks in which tasks run: leaving one waits for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Future
from contextvars import Context
from functools import partial
from threading import TIMEOUT_MAX, get_ident
from traceback import format_exception
from types import TracebackType
from typing import Final, Self, cast

from anyio import fail_after, to_thread

from tasks_core._backend import runs_here
from tasks_core._life import age, home, is_over
from tasks_core._scheduler import SchedulerHost
from tasks_core._settings import check_seconds
from tasks_core._task import Task, until_over

from ._watch import Watch

_GUARD: Final = 5.0  # seconds, if nothing else is said


class TasksBlock:
    """The block of a test, ``with`` or ``async with``; made by `drain` and `inline`.

    It can be entered once. When the block has raised, tasks that failed are notes of that error.

    Attributes:
        tasks: The block's tasks, in the order in which they were scheduled.

    Since 0.1.0.
    """

    def __init__(self, timeout: float, *, raise_errors: bool, waits_in_requests: bool) -> None:
        """Made by `drain` and `inline`."""
        self.tasks: list[Task] = []
        self._hosts: dict[Task, SchedulerHost] = {}
        self._waiters: list[object] = []  # tasks that wait on other loops, which do not hold them
        self._timeout = check_seconds("timeout", timeout)
        self._raise_errors = raise_errors
        self._waits_in_requests = waits_in_requests
        self._watch = Watch(self._observe)

    def __enter__(self) -> Self:
        """Watch the tasks of requests that are made from here."""
        self._watch.begin()
        return self

    async def __aenter__(self) -> Self:
        """Watch the tasks of requests that are made from here."""
        return self.__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for the block's tasks, and raise what went wrong.

        Raises:
            Exception: What a task has raised; of several tasks, as an `ExceptionGroup`.
            TimeoutError: Tasks have not ended in time; it names them.
            RuntimeError: They run on this thread's own event loop, which could not go on.
        """
        __tracebackhide__ = True
        self._watch.end()
        late = None
        try:
            self._refuse_own_loop()
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
            await self._wait_on_loop()
            if self._find_living():  # a client with a thread of its own
                await to_thread.run_sync(self._wait_in_thread, abandon_on_cancel=True)
        except (RuntimeError, TimeoutError) as error:
            late = error
        self._conclude(exc_value, late)

    def _observe(self, host: SchedulerHost) -> SchedulerHost:
        return cast("SchedulerHost", _Watched(host, self, waits=self._waits_in_requests))

    def note(self, task: Task, host: SchedulerHost) -> None:
        """Note a task that was scheduled."""
        self._hosts[task] = host
        self.tasks.append(task)

    async def wait_for(self, tasks: Iterable[Task]) -> None:
        """Wait until tasks of this event loop are over.

        Raises:
            TimeoutError: They are not, in time.
        """
        try:
            with fail_after(self._timeout):
                for task in tasks:  # a list that grows meanwhile is gone through to its end
                    await until_over(task)
        except TimeoutError:
            raise self._tell_living() from None

    async def _wait_on_loop(self) -> None:
        """Wait for the block's tasks that live on this event loop."""
        here = get_ident()
        await self.wait_for(task for task in self.tasks if home(task) == here)

    def _wait_in_thread(self) -> None:
        """Wait for the block's tasks, on the event loops of other threads."""
        while living := self._find_living():  # those of one loop may schedule on another
            host, ended = self._hosts[living[0]], Future[None]()
            if host.thread == get_ident():
                raise self._tell_living()  # that loop has ended, or has been left for now
            host.on_loop(partial(self._spawn_waiter, host, ended))
            try:
                # The other thread's own guard is to come first, but for a loop that hangs.
                ended.result(min(self._timeout + 1.0, TIMEOUT_MAX))
            except TimeoutError:
                raise self._tell_living() from None

    def _spawn_waiter(self, host: SchedulerHost, ended: Future[None]) -> None:
        async def wait() -> None:
            try:
                await self._wait_on_loop()
            except TimeoutError as error:
                ended.set_exception(error)
            else:
                ended.set_result(None)

        # Not in a copy of this context: it may come from a test on another kind of event loop.
        waiter = host.backend.spawn(wait(), name="tasks_core.testing", context=Context())
        self._waiters.append(waiter)

    def _refuse_own_loop(self) -> None:
        """Refuse ``with`` where it is wrong, whether or not the tasks happen to be over already."""
        here = get_ident()
        if runs_here() and any(home(task) == here for task in self.tasks):
            msg = "The tasks run on this thread's event loop: write `async with`, not `with`."
            raise RuntimeError(msg)

    def _find_living(self) -> list[Task]:
        return [task for task in self.tasks if not is_over(task)]

    def _tell_living(self) -> TimeoutError:
        named = ", ".join(
            f"{task.name} ({task.state}, phase={task.phase}, age={age(task):.1f} s)"
            for task in self._find_living()
        )
        return TimeoutError(f"Tasks have not ended within {self._timeout:g} s: {named}")

    def _conclude(self, raised: BaseException | None, late: Exception | None) -> None:
        """Raise what went wrong, or add it to what the test itself has raised."""
        __tracebackhide__ = True
        failed = [(task, task.exception) for task in self.tasks if task.exception is not None]
        cause = raised or late
        if cause is None:
            errors = [error for _, error in failed if self._raise_errors]
            if len(errors) > 1:
                msg = f"{len(errors)} tasks failed"
                raise ExceptionGroup(msg, errors)
            for error in errors:
                raise error
            return
        for task, error in failed:
            if error is not cause:
                cause.add_note(f"Task {task.name} failed: {''.join(format_exception(error))}")
        if raised is None:
            raise cause
        if late is not None:
            raised.add_note(str(late))


class _Watched:
    """A runner, as the scheduler of a request that was made in a block sees it."""

    def __init__(self, host: SchedulerHost, block: TasksBlock, *, waits: bool) -> None:
        self._host = host
        self._block = block
        self._started: list[Task] = []
        self.settle: Callable[[], Awaitable[None]] | None = self.begun if waits else None

    def __getattr__(self, name: str) -> object:
        """Do all else as the runner does."""
        return getattr(self._host, name)

    def accept(self, task: Task) -> None:
        self._host.accept(task)
        self._block.note(task, self._host)

    def start(self, tasks: Sequence[Task]) -> None:
        self._started += tasks
        self._host.start(tasks)

    async def begun(self) -> None:
        await self._host.begun()
        if self.settle is not None:
            await self._block.wait_for(self._started)


def drain(*, timeout: float = _GUARD, raise_errors: bool = True) -> TasksBlock:
    """Return a block whose tasks run as ever; leaving it waits until all of them have ended.

    Also for what these tasks have scheduled themselves. What was scheduled before the block, by the
    application's lifespan for instance, is not waited for. Put it inside of what starts the
    application, as shutting that down cancels what still runs.

    Args:
        timeout: Seconds that leaving the block waits at most.
        raise_errors: Whether leaving the block raises what a task has raised.

    Raises:
        TypeError: ``timeout`` is no number.
        ValueError: It is negative.

    Since 0.1.0.
    """
    return TasksBlock(timeout, raise_errors=raise_errors, waits_in_requests=False)


def inline(*, timeout: float = _GUARD, raise_errors: bool = True) -> TasksBlock:
    """Return a block in which each request waits for its tasks, so that they end where they begin.

    Immediate tasks, and those of *after route*, have ended before the response begins; those of
    *after response* before the request returns to the client of the test. A task that waits for
    something that its own request does later cannot end there: use `drain` for such. Leaving the
    block does what leaving `drain` does.

    Args:
        timeout: Seconds that a request waits at most at a time.
        raise_errors: Whether leaving the block raises what a task has raised.

    Raises:
        TypeError: ``timeout`` is no number.
        ValueError: It is negative.

    Since 0.1.0.
    """
    return TasksBlock(timeout, raise_errors=raise_errors, waits_in_requests=True)
