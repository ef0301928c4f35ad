"""The event loop as a runner uses it: start a coroutine as a task, in order, from any thread.

Anyio has no task that stands alone: one exception cancels a whole task group, and on asyncio one
stray cancellation does so silently. So on asyncio each task of ours is a task of the event loop's
own. Trio has no tasks outside of a nursery; there, and only there, the backend owns a task group.
Cancellation is anyio's on both: each task runs in a cancel scope of its own.
"""

from __future__ import annotations

import asyncio
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from functools import partial
from math import inf
from threading import get_ident
from typing import Any, Final

import anyio

from ._exceptions import LoopEndedError
from ._living import Living
from ._threads import Threads


class Backend(ABC):
    """An event loop, with the tasks that live on it.

    Args:
        thread_limit: How many sync functions may run at the same time.
    """

    may_leave_tasks: bool
    """Whether the runner can be left while a task of its own does not end."""
    scope_type: Callable[..., anyio.CancelScope]
    """Makes the cancel scopes of this event loop: `anyio.CancelScope` asks each time for the loop's
    library, for a tenth of what a task costs."""
    make_scope: Callable[[], anyio.CancelScope]
    """Makes the scope of a whole task, which no other scope reaches into."""

    def __init__(self, thread_limit: int) -> None:
        self.thread: int = get_ident()
        self.threads: Threads = Threads(thread_limit)
        self.living: Living = Living()
        self.inbox: deque[Callable[[], object]] = deque()
        """What other threads ask for, in order; the loop's thread does it before it goes on."""

    def act(self, action: Callable[[], object]) -> None:
        """Do something on the event loop, before that goes on; at once if it runs here.

        Raises:
            LoopEndedError: The loop has ended.
        """
        self.inbox.append(action)
        if self.is_current():
            self.read_inbox()
            self.wake()
            return
        try:
            self.call_soon(self.read_inbox)
        except RuntimeError as error:
            raise LoopEndedError from error

    def read_inbox(self) -> None:
        """Do what was asked for."""
        while True:
            # Not asked whether there is one: a signal handler may come in between, and do it.
            try:
                action = self.inbox.popleft()
            except IndexError:
                return
            action()

    def wake(self) -> None:  # noqa: B027 - not every loop needs it
        """Let the loop, which runs here, see what was done if a signal handler has done it."""

    @abstractmethod
    async def open(self) -> None:
        """Be ready to spawn."""

    @abstractmethod
    async def close(self) -> None:
        """End, in the task that has opened it."""

    @abstractmethod
    def is_current(self) -> bool:
        """Whether the event loop runs, and in this thread."""

    @abstractmethod
    def spawn(
        self,
        coro: Coroutine[Any, Any, None],
        name: str,
        context: Context,
        all_the_same: bool = False,  # noqa: FBT001, FBT002 - by name it is dearer
    ) -> object:
        """Start a coroutine as a task; its first step runs in a later turn of the loop, in order.

        The loop may hold the task weakly: whoever spawns keeps what this returns.

        Args:
            coro: The coroutine.
            name: The task's name.
            context: What it runs in.
            all_the_same: Whether this has raised before, so is to be done in the plainest way.
        """

    @abstractmethod
    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call back in the loop's thread, from any thread."""

    @abstractmethod
    async def begun(self) -> None:
        """Wait until what was spawned has run its first step."""

    def cancels(self, raised: BaseException) -> bool:
        """Whether it is a cancellation that is in force here, not one that a library let escape."""
        return isinstance(raised, anyio.get_cancelled_exc_class()) and (
            anyio.current_effective_deadline() == -inf or self.cancelled_from_outside()
        )

    @abstractmethod
    def cancelled_from_outside(self) -> bool:
        """Whether somebody called the current asyncio task's own `cancel`, no scope of anyio's."""

    @abstractmethod
    def uncancel(self) -> None:
        """Have asyncio count no cancellation of the current task, as none can be in force.

        For where users' code has ended by itself: it has returned, or raised an `Exception`.
        """

    @abstractmethod
    def has_ended(self, handle: object) -> bool:
        """Whether what `spawn` returned has ended, possibly without ever having run a step."""


def _do_nothing() -> None: ...


_CREATE_TASK: Final = asyncio.BaseEventLoop.create_task
_MISCOUNTS: Final = sys.version_info < (3, 13)
"""Whether an `asyncio.TaskGroup` whose child fails leaves the cancellation of who waits for it
counted (python/cpython#133747). That looks like somebody's `cancel`, to scopes of anyio's, too."""


class AsyncioBackend(Backend):
    """Tasks of the asyncio event loop's own; its queue of callbacks keeps their order."""

    may_leave_tasks = True

    def __init__(self, thread_limit: int) -> None:
        super().__init__(thread_limit)
        self._loop = asyncio.get_running_loop()
        # Whether the loop makes tasks as asyncio's own does: then nothing is missed where these are
        # made without a call of it, and of what that calls, for each.
        made = getattr(self._loop.create_task, "__func__", None)
        self._makes_plain_tasks = made is _CREATE_TASK
        # No scope is around a task of the loop's own, so a shield would have nothing to keep out.
        self.make_scope = self.scope_type = type(anyio.CancelScope())

    async def open(self) -> None:
        """Do nothing: the loop is there."""

    async def close(self) -> None:
        """Do nothing: the loop goes on."""

    def is_current(self) -> bool:
        """Whether the event loop runs, and in this thread: of one thread at most one does."""
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def is_closed(self) -> bool:
        """Whether the event loop will never run again."""
        return self._loop.is_closed()

    def wake(self) -> None:
        """End the loop's wait for events, within which handlers of `signal.signal` are called."""
        if asyncio.current_task(self._loop) is None:
            self._loop.call_soon_threadsafe(_do_nothing)

    def spawn(
        self,
        coro: Coroutine[Any, Any, None],
        name: str,
        context: Context,
        all_the_same: bool = False,  # noqa: FBT001, FBT002 - by name it is dearer
    ) -> object:
        """Start a coroutine as a task of the loop's own, whatever its task factory makes of it."""
        makes_any = self._loop.get_task_factory() is not None
        if all_the_same or (self._makes_plain_tasks and not makes_any):
            return asyncio.Task(coro, loop=self._loop, name=name, context=context)
        if not makes_any:
            return self._loop.create_task(coro, name=name, context=context)
        # Some factories take a loop and a coroutine, no more.
        task = context.run(self._loop.create_task, coro)
        with suppress(AttributeError):  # what they make need not be an `asyncio.Task`
            task.set_name(name)
        return task

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call back in the loop's thread, from any thread."""
        self._loop.call_soon_threadsafe(callback)

    async def begun(self) -> None:
        """Wait until what was spawned has run its first step: the loop's queue keeps the order."""
        await asyncio.sleep(0)

    def cancelled_from_outside(self) -> bool:
        """Whether somebody called the current asyncio task's own `cancel`, no scope of anyio's."""
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    def uncancel(self) -> None:
        """Take back what is counted, on a Python where that may be wrong."""
        task = asyncio.current_task()
        while _MISCOUNTS and task is not None and task.uncancel():
            pass

    def has_ended(self, handle: object) -> bool:
        """Whether what `spawn` returned has ended, possibly without ever having run a step."""
        return isinstance(handle, asyncio.Future) and handle.done()


class TrioBackend(Backend):
    """An anyio task group, for trio. Trio shuffles what is runnable, so tasks take turns."""

    may_leave_tasks = False

    def __init__(self, thread_limit: int) -> None:
        from trio.lowlevel import current_trio_token  # noqa: PLC0415 - only where trio runs

        super().__init__(thread_limit)
        self.scope_type = anyio.CancelScope
        self.make_scope = partial(anyio.CancelScope, shield=True)  # in the task group's
        self._group = anyio.create_task_group()
        self._turn = anyio.Event()  # set when the task that was spawned last begins
        self._turn.set()
        self._current_token = current_trio_token
        self._token = current_trio_token()

    async def open(self) -> None:
        """Open the task group, in the task that will close it."""
        await self._group.__aenter__()

    async def close(self) -> None:
        """Wait for the tasks. The body's exception does not pass through here (contract 5.7)."""
        await self._group.__aexit__(None, None, None)

    def is_current(self) -> bool:
        """Whether the event loop runs, and in this thread."""
        if get_ident() != self.thread:
            return False
        try:
            return self._current_token() is self._token
        except RuntimeError:
            return False

    def spawn(
        self,
        coro: Coroutine[Any, Any, None],
        name: str,
        context: Context,
        all_the_same: bool = False,  # noqa: ARG002, FBT001, FBT002 - asyncio's; as above
    ) -> object:
        """Start a task, which begins after those that were spawned before it."""
        before, self._turn = self._turn, anyio.Event()
        return self._group.create_task(
            self._in_turn(before, self._turn, coro), name=name, context=context
        )

    async def _in_turn(
        self, before: anyio.Event, turn: anyio.Event, coro: Coroutine[Any, Any, None]
    ) -> None:
        if not before.is_set():
            with anyio.CancelScope(shield=True):
                await before.wait()
        turn.set()  # who waits for it goes on in a later turn, when our first step has been run
        await coro

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call back in the loop's thread, from any thread."""
        self._token.run_sync_soon(callback)

    async def begun(self) -> None:
        """Wait until what was spawned has run its first step."""
        await self._turn.wait()

    def cancelled_from_outside(self) -> bool:
        """Return false: on trio only scopes cancel, and a task of ours runs in a shielded one."""
        return False

    def uncancel(self) -> None:
        """Do nothing: trio does not count."""

    def has_ended(self, handle: object) -> bool:  # noqa: ARG002 - asyncio's
        """Return false: on trio each task runs its first step, and so notes its own end."""
        return False


def runs_here() -> bool:
    """Whether an event loop runs in this thread."""
    try:
        anyio.get_current_task()
    except Exception:  # noqa: BLE001 - whatever says that there is none
        return False
    return True


def current_backend(thread_limit: int) -> Backend:
    """Return a new backend for the event loop that the caller runs on."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return (TrioBackend if task is None else AsyncioBackend)(thread_limit)
