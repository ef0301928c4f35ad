"""How functions are called where they belong; for sync ones worker threads, with a limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from inspect import isawaitable
from math import inf
from threading import Lock
from typing import Any

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import checkpoint

from ._exceptions import TaskAborted
from ._function import is_async

# How many turns of the event loop anyio takes to hand a function to a thread: one to start, one
# for the limiter. tests/tasks_core/test_order.py fails where it takes more.
_TURNS_TO_A_THREAD = 2


class Threads:
    """Worker threads for sync functions: a limit of their own (contract 2.5), and an order.

    Functions begin in the order in which they came (contract 1.4): each waits in its thread until
    the one before it is about to be called. That is never long: slots are given in that order,
    so the one before has a thread already, or was cancelled.

    Args:
        limit: How many sync functions may run at the same time.
    """

    def __init__(self, limit: int) -> None:
        self._slots = CapacityLimiter(limit)
        self._unlimited = CapacityLimiter(inf)
        self._last: _Call | None = None  # the call that came last, until its function has begun

    async def handed_over(self) -> None:
        """Wait until the functions for which a thread is free have been handed to one."""
        for _ in range(_TURNS_TO_A_THREAD):
            if self._last is not None and self._last.gate.locked():
                await checkpoint()

    async def run(self, func: Callable[[], object], begin: Callable[[], None]) -> object:
        """Call ``func`` in a thread as soon as one is free; ``begin()`` is called just before."""
        call = self._last = _Call(func, self._last)
        try:
            if self._slots.available_tokens:  # then nobody waits for one
                self._slots.acquire_on_behalf_of_nowait(call)
            else:
                await self._slots.acquire_on_behalf_of(call)
            try:
                begin()
                (result,) = await to_thread.run_sync(call.run, limiter=self._unlimited)
            finally:
                self._slots.release_on_behalf_of(call)
        finally:
            call.pass_over()
            if self._last is call:
                self._last = call.ahead
        return result


class _Call:
    """One call in a thread, behind the one that came before it."""

    __slots__ = ("_func", "ahead", "gate")

    def __init__(self, func: Callable[[], object], ahead: _Call | None) -> None:
        self._func = func
        # The call to wait for; from the beginning of this one's function on, none.
        self.ahead = ahead
        # Locked until the function begins, or never will.
        self.gate = Lock()
        self.gate.acquire()

    def run(self) -> tuple[object]:
        """Call the function; its result is wrapped, as trio takes no coroutine from a thread."""
        while self.ahead is not None:
            with self.ahead.gate:  # if it was passed over, the one before that is ahead
                self.ahead = self.ahead.ahead
        self.gate.release()
        try:
            return (self._func(),)
        except KeyboardInterrupt as error:
            # Not Ctrl-C, which only ever reaches the main thread: a failure like any other (4.1).
            raise TaskAborted(type(error).__name__) from error

    def pass_over(self) -> None:
        """Let those behind go on if this call was cancelled before a thread had taken it."""
        if self.gate.locked():
            self.gate.release()


async def call(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], threads: Threads
) -> Any:  # noqa: ANN401 - whatever the function returns
    """Call ``func`` where it belongs, and await what it returns if that can be awaited (2.1)."""
    if is_async(func):
        return await func(*args, **kwargs)
    return await call_in_thread(func, args, kwargs, threads, lambda: None)


async def call_in_thread(
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    threads: Threads,
    begin: Callable[[], None],
) -> Any:  # noqa: ANN401 - whatever the function returns
    """Call a sync ``func`` in a thread; ``begin()`` is called just before."""
    result = await threads.run(partial(func, *args, **kwargs), begin)
    return await result if result is not None and isawaitable(result) else result
