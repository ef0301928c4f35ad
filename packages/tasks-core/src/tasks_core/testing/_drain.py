"""The blocks in which tasks run: leaving one waits for them."""

from __future__ import annotations

from collections.abc import Sequence
from traceback import format_exception

from tasks_core._backend import Backend
from tasks_core._raised import add_note
from tasks_core._record import escape
from tasks_core._runner import TaskRunner
from tasks_core._scheduling import Executor
from tasks_core._task import Task

from ._block import Block, Watch, WatchedRunner
from ._wait import GUARD, Waiting


class TasksBlock(Block):
    """The block of a test, ``with`` or ``async with``; made by `drain` and `inline`.

    It can be entered once. Leaving it raises what a task has raised; of several tasks, as an
    `ExceptionGroup`. When the block itself has raised, tasks that failed are notes of that error.

    Attributes:
        tasks: The block's tasks, in the order in which they were scheduled.
    """

    def __init__(self, timeout: float, *, raise_errors: bool, waits_in_requests: bool) -> None:
        """Made by `drain` and `inline`."""
        super().__init__(timeout)
        self.tasks: list[Task] = self._waiting.tasks
        self._raise_errors = raise_errors
        self._waits_in_requests = waits_in_requests

    def _see(self, runner: TaskRunner) -> Executor:
        kind = _Inline if self._waits_in_requests else WatchedRunner
        return kind(runner, self._watch, self._waiting)

    def _wait_in_thread(self) -> None:
        self._waiting.refuse_own_loop()
        super()._wait_in_thread()

    def _conclude(self, raised: BaseException | None, late: Exception | None) -> None:
        __tracebackhide__ = True
        failed = [(task, task.exception) for task in self.tasks if task.exception is not None]
        if late is None and (self._raise_errors or raised is not None):
            late = _shut_down([task for task in self.tasks if task._is_cut])
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
                add_note(cause, f"Task {task.name} failed: {''.join(format_exception(error))}")
        super()._conclude(raised, late)


def _shut_down(tasks: Sequence[Task]) -> RuntimeError | None:
    """Return what is wrong where a shutdown has ended tasks: what they had to do was not tested."""
    if not tasks:
        return None
    named = ", ".join(f"{escape(task.name)} (phase={task.phase})" for task in tasks)
    return RuntimeError(
        f"The application's shutdown has cut tasks short: {named}. Leave the block before that: "
        "`with TestClient(app) as client, drain():`; around `drained_tasks` the client is a "
        "fixture, too. A task that is to run until the shutdown has daemon=True."
    )


class _Inline(WatchedRunner):
    """A runner whose tasks run as ever, and whose requests wait for theirs."""

    def __init__(self, runner: TaskRunner, watch: Watch, waiting: Waiting) -> None:
        super().__init__(runner, watch, waiting)
        self._started: list[Task] = []
        self._settle = self._wait

    def _start(self, tasks: Sequence[Task]) -> None:
        self._started += tasks
        super()._start(tasks)

    async def _begun(self, backend: Backend) -> None:
        await super()._begun(backend)
        await self._wait()

    async def _wait(self) -> None:
        await self._waiting.wait_for(self._started)


def drain(*, timeout: float = GUARD, raise_errors: bool = True) -> TasksBlock:
    """Return a block whose tasks run as ever; leaving it waits until all of them have ended.

    Also for what these tasks have scheduled themselves. What was scheduled before the block, by the
    application's lifespan for instance, is not waited for. Put it inside of what starts the
    application, as shutting that down cancels what still runs; leaving the block then says so.

    Args:
        timeout: Seconds that leaving the block waits at most.
        raise_errors: Whether leaving the block raises what a task has raised, or that a shutdown
            has cut it short.

    Raises:
        TypeError: ``timeout`` is no number.
        ValueError: It is negative.
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
        raise_errors: Whether leaving the block raises what a task has raised, or that a shutdown
            has cut it short.

    Raises:
        TypeError: ``timeout`` is no number.
        ValueError: It is negative.
    """
    return TasksBlock(timeout, raise_errors=raise_errors, waits_in_requests=True)
