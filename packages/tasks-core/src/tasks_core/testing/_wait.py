"""Waiting for tasks, on the event loop of the test and on those of its clients' threads."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from contextvars import Context
from functools import partial
from threading import TIMEOUT_MAX, get_ident
from typing import Final

from anyio import fail_after, to_thread

from tasks_core._backend import Backend
from tasks_core._checks import check_seconds
from tasks_core._task import Task

GUARD: Final = 5.0  # seconds, if nothing else is said


class Waiting:
    """Tasks, in the order in which they were scheduled, and how to wait until all are over.

    Args:
        timeout: Seconds that each wait takes at most.
    """

    def __init__(self, timeout: float) -> None:
        self.tasks: list[Task] = []
        self._timeout = check_seconds("timeout", timeout)
        self._waiters: list[object] = []  # tasks that wait on other loops, which do not hold them

    def note(self, task: Task) -> None:
        """Note a task that was scheduled."""
        self.tasks.append(task)

    async def wait(self) -> None:
        """Wait for all, wherever they live.

        Raises:
            TimeoutError: They do not end in time; it names them.
            RuntimeError: They live on another event loop of this thread, which so does not run.
        """
        await self._wait_on_loop()
        if self._find_living():  # a client with a thread of its own
            self._refuse_standing()
            await to_thread.run_sync(self.wait_in_thread, abandon_on_cancel=True)

    def wait_in_thread(self) -> None:
        """Wait for all, where they live on the event loops of other threads.

        Raises:
            TimeoutError: They do not end in time; it names them.
            RuntimeError: They live on an event loop of this thread, which could not go on.
        """
        while living := self._find_living():  # those of one loop may schedule on another
            self._refuse_standing()
            backend, ended = living[0]._backend, Future[None]()
            if backend.is_current():
                raise _wrong_with()
            backend.act(partial(self._spawn_waiter, backend, ended))
            try:
                # The other thread's own guard is to come first, but for a loop that hangs.
                ended.result(min(self._timeout + 1.0, TIMEOUT_MAX))
            except TimeoutError:
                raise self._too_late() from None

    def refuse_own_loop(self) -> None:
        """Refuse to wait in this thread, even if all are over already: they need not be next time.

        Raises:
            RuntimeError: Some belong to the event loop that runs in this thread.
        """
        if any(task._backend.is_current() for task in self.tasks):
            raise _wrong_with()

    async def wait_for(self, tasks: Iterable[Task]) -> None:
        """Wait for tasks of this event loop.

        Raises:
            TimeoutError: They do not end in time; it names all that live.
        """
        try:
            with fail_after(self._timeout):
                for task in tasks:  # a list that grows meanwhile is gone through to its end
                    if not task._is_daemon:
                        await task._until_over()
        except TimeoutError:
            raise self._too_late() from None

    async def _wait_on_loop(self) -> None:
        await self.wait_for(task for task in self.tasks if task._backend.is_current())

    def _refuse_standing(self) -> None:
        """Refuse to wait for tasks of an event loop that belongs to this thread and does not run.

        Raises:
            RuntimeError: There are some; it names them.
        """
        here = get_ident()
        for task in self._find_living():
            backend = task._backend
            if backend.thread == here and not backend.is_current():
                msg = (
                    f"Task {task.name} ({task.state}, phase={task.phase}) belongs to another event "
                    "loop of this thread, which does not run now, so it cannot end: make the "
                    "requests and leave the block on the same event loop. (pytest-asyncio gives "
                    "fixtures and tests loops of their own unless loop_scope says otherwise.)"
                )
                raise RuntimeError(msg)

    def _spawn_waiter(self, backend: Backend, ended: Future[None]) -> None:
        async def wait() -> None:
            try:
                await self._wait_on_loop()
            except TimeoutError as error:
                ended.set_exception(error)
            else:
                ended.set_result(None)

        # Not in a copy of this context: it may come from a test on another kind of event loop.
        waiter = backend.spawn(wait(), name="tasks_core.testing", context=Context())
        self._waiters.append(waiter)

    def _find_living(self) -> list[Task]:
        return [task for task in self.tasks if not (task._is_over or task._is_daemon)]

    def _too_late(self) -> TimeoutError:
        named = ", ".join(
            f"{task.name} ({task.state}, phase={task.phase}, age={task._age:.1f} s)"
            for task in self._find_living()
        )
        return TimeoutError(f"Tasks have not ended within {self._timeout:g} s: {named}")


def _wrong_with() -> RuntimeError:
    return RuntimeError(
        "The tasks run on this thread's event loop: write `async with`, not `with`."
    )
