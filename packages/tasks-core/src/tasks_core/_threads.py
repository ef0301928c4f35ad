"""How functions are called where they belong; for sync ones worker threads, with a limit."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from functools import partial
from inspect import isawaitable
from types import TracebackType
from typing import Any, Self

from anyio import CapacityLimiter, Event, to_thread
from anyio.lowlevel import checkpoint

from ._function import is_async
from ._raised import aborted_by, is_interrupt


class Threads:
    """Slots for sync functions (contract 2.5), which are handed to threads in order (1.4).

    A slot is given to who came first. From there to its thread each call takes a turn of the event
    loop or two, and trio takes what is runnable in any order: so the calls with a slot form a
    queue, of which only the first may go on.

    Args:
        limit: How many sync functions may run at the same time.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        # Calls without a slot, and calls on their way from a slot to a thread; both in order.
        self._waiting = deque[_Call]()
        self._coming = deque[_Call]()

    async def run(self, func: Callable[[], object], begin: Callable[[], None]) -> object:
        """Call ``func`` in a thread as soon as a slot is free; ``begin()`` is called just before.

        A call that is cancelled before it has its thread is as if it had not come.
        """
        call = _Call(self, begin)
        self._put(call, self._waiting)
        self._give()
        try:
            if call.queue is self._waiting:
                call.given = Event()
                await call.given.wait()
            result, error = await to_thread.run_sync(in_thread, func, call, limiter=call)
        finally:
            self._end(call)
        if error is None:
            return result
        try:
            raise error
        finally:
            del error  # its traceback has this frame

    async def handed_over(self) -> None:
        """Wait until the functions that have a slot by now have been handed to a thread."""
        last = self._coming[-1] if self._coming else None
        while last is not None and last.queue is not None:
            await checkpoint()

    async def hand_over(self, call: _Call) -> None:
        """Wait until the calls that came before this one have a thread; the caller starts its."""
        while self._coming[0] is not call:
            await checkpoint()
        self._coming.popleft()
        call.queue = None
        begin = call.begin
        del call.begin  # it holds the task; and the frame in the thread the call
        begin()

    def _put(self, call: _Call, queue: deque[_Call]) -> None:
        call.queue = queue
        queue.append(call)

    def _give(self) -> None:
        while self._free and self._waiting:
            call = self._waiting.popleft()
            self._free -= 1
            self._put(call, self._coming)
            if call.given is not None:
                call.given.set()

    def _end(self, call: _Call) -> None:
        queue, call.queue = call.queue, None
        if queue is not None:  # it was cancelled on its way
            queue.remove(call)
        if queue is not self._waiting:
            self._free += 1
            self._give()


class _Call(CapacityLimiter):
    """One call on its way to a thread, in the place of a limiter that anyio and trio ask for leave.

    They do so as the last thing before they start the thread: on asyncio by ``async with``, on trio
    by its other methods.
    """

    queue: deque[_Call] | None = None
    """Where it waits."""
    given: Event | None = None
    """Set when the call is given a slot; made by one that has to wait for it."""
    context: Context | None = None
    """What `begin` has left, for the thread; trio copies the context before it asks for leave."""

    def __new__(cls, threads: Threads, begin: Callable[[], None]) -> Self:  # noqa: ARG004
        return object.__new__(cls)  # anyio's own asks for the event loop's limiter

    def __init__(self, threads: Threads, begin: Callable[[], None]) -> None:
        self._threads = threads
        self.begin = begin

    async def __aenter__(self) -> None:
        await self._threads.hand_over(self)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Leave the slot to who has waited for the thread."""

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        del borrower
        await self._threads.hand_over(self)
        self.context = copy_context()

    def release_on_behalf_of(self, borrower: object) -> None:
        """Leave the slot to who has waited for the thread."""


def in_thread(
    func: Callable[[], object], call: _Call
) -> tuple[object, None] | tuple[None, BaseException]:
    """Call a function in its thread; return what it has returned, and what it has raised.

    Trio takes no coroutine from a thread; and anyio sets attributes of what is raised there, which
    an exception may refuse.
    """
    context, call.context = call.context, None
    try:
        return (func() if context is None else context.run(func)), None
    except BaseException as error:  # noqa: BLE001 - who has called this raises it
        if not is_interrupt(error):
            return None, error
        # Not Ctrl-C, which only ever reaches the main thread: a failure like any other (4.1).
        return None, aborted_by(error)
    finally:
        del context  # the task is its current one, and its error may keep this frame


async def call(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], threads: Threads
) -> Any:  # noqa: ANN401 - whatever the function returns
    """Call ``func`` where it belongs, and await what it returns if that can be awaited (2.1)."""
    try:
        if is_async(func):
            return await func(*args, **kwargs)
        return await call_in_thread(func, args, kwargs, threads, lambda: None)
    finally:
        del args  # they may hold the task, whose error may keep this frame


async def call_in_thread(
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    threads: Threads,
    begin: Callable[[], None],
) -> Any:  # noqa: ANN401 - whatever the function returns
    """Call a sync ``func`` in a thread; ``begin()`` is called just before."""
    result = await threads.run(partial(func, *args, **kwargs), begin)
    del begin, args  # they may hold the task, whose error may keep this frame
    return await result if result is not None and isawaitable(result) else result
