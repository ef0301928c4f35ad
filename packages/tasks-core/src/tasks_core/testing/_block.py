"""The blocks in which tasks run: leaving one waits for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from traceback import format_exception
from types import TracebackType
from typing import Self, cast

from tasks_core._scheduler import SchedulerHost
from tasks_core._task import Task

from ._waiting import GUARD, Waiting, conclude
from ._watch import Watch


class TasksBlock:
    """The block of a test, ``with`` or ``async with``; made by `drain` and `inline`.

    It can be entered once. When the block has raised, tasks that failed are notes of that error.

    Attributes:
        tasks: The block's tasks, in the order in which they were scheduled.

    Since 0.1.0.
    """

    def __init__(self, timeout: float, *, raise_errors: bool, waits_in_requests: bool) -> None:
        """Made by `drain` and `inline`."""
        self._waiting = Waiting(timeout)
        self.tasks: list[Task] = self._waiting.tasks
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
            self._waiting.refuse_own_loop()
            self._waiting.wait_in_thread()
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

    def _observe(self, host: SchedulerHost) -> SchedulerHost:
        watched = _Watched(host, self._waiting, inline=self._waits_in_requests)
        return cast("SchedulerHost", watched)

    def _conclude(self, raised: BaseException | None, late: Exception | None) -> None:
        """Raise what went wrong, or add it to what the test itself has raised."""
        __tracebackhide__ = True
        failed = [(task, task.exception) for task in self.tasks if task.exception is not None]
        cause = late if raised is None else raised
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
        if late is not None:
            conclude(raised, late)


class _Watched:
    """A runner, as the scheduler of a request that was made in a block sees it."""

    def __init__(self, host: SchedulerHost, waiting: Waiting, *, inline: bool) -> None:
        self._host = host
        self._waiting = waiting
        self._started: list[Task] = []
        self.settle: Callable[[], Awaitable[None]] | None = self.begun if inline else None

    def __getattr__(self, name: str) -> object:
        """Do all else as the runner does."""
        return getattr(self._host, name)

    def accept(self, task: Task) -> None:
        self._host.accept(task)
        self._waiting.note(task, self._host)

    def start(self, tasks: Sequence[Task]) -> None:
        self._started += tasks
        self._host.start(tasks)

    async def begun(self) -> None:
        await self._host.begun()
        if self.settle is not None:
            await self._waiting.wait_for(self._started)


def drain(*, timeout: float = GUARD, raise_errors: bool = True) -> TasksBlock:
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


def inline(*, timeout: float = GUARD, raise_errors: bool = True) -> TasksBlock:
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
