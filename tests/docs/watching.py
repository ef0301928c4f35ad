"""What the hidden parts of the documentation's programs watch them with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from inspect import iscoroutinefunction
from threading import Condition
from typing import Any, TypeAlias, cast

from tasks_core import NoCurrentTaskError, Task, current_task

from tests.conformance.driver import GUARD

Call: TypeAlias = tuple[object, ...]


class Calls:
    """The calls that tasks have made of some functions, in the order in which they ended."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._made: list[tuple[Task | None, Call]] = []

    def of(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that calls another one and takes note of it."""

        @wraps(func)
        async def watched_async(*args: Any, **kwargs: Any) -> Any:
            try:
                return await func(*args, **kwargs)
            finally:
                self._note(*args, *kwargs.items())

        @wraps(func)
        def watched(*args: Any, **kwargs: Any) -> Any:
            try:
                return func(*args, **kwargs)
            finally:
                self._note(*args, *kwargs.items())

        return watched_async if iscoroutinefunction(func) else watched

    async def stand_in(self, *args: object, **kwargs: object) -> None:
        """Take note of a call, instead of another function."""
        self._note(*args, *kwargs.items())

    def _note(self, *args: object) -> None:
        task: Task | None = None
        with suppress(NoCurrentTaskError):  # a broker within the process has tasks of its own
            task = current_task()
        with self._changed:
            self._made.append((task, args))
            self._changed.notify_all()

    def wait(self, times: int) -> list[Call]:
        """Wait until there were so many calls; return their arguments."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._made) >= times, GUARD), self._made
            return [args for _, args in self._made]

    def tasks(self, times: int) -> list[Task]:
        """Wait until there were so many calls; return the tasks that made them."""
        self.wait(times)
        return [cast("Task", task) for task, _ in self._made]
