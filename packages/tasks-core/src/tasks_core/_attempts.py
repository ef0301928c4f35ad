"""The attempts of a task that has a timeout, a retry, or observers (contract 9.1 to 9.7)."""

from __future__ import annotations

from functools import partial
from inspect import isawaitable, iscoroutine
from math import inf
from types import TracebackType
from typing import Any, cast

from anyio import (
    CancelScope,
    Event,
    current_effective_deadline,
    current_time,
    get_cancelled_exc_class,
)
from anyio.lowlevel import checkpoint

from . import _report
from ._config import Retry
from ._exceptions import TaskAborted, TaskTimedOut
from ._function import fits
from ._names import describe
from ._raised import set_traceback
from ._record import escape
from ._task import Task
from ._threads import call_in_thread
from ._traceback import cut_traceback


class Attempts:
    """All attempts of a task.

    Args:
        task: The task.
    """

    _retrying: CancelScope  # there once a retry has begun

    def __init__(self, task: Task) -> None:
        self._task = task
        self._count = 0
        # The attempts that a retry has begun and that have not ended: it may make several at a
        # time, and leave some behind when it ends. And whether it has ended.
        self._working = 0
        self._over = False
        # Within a retry, whose scope ends the wait for another attempt: whether an attempt has
        # ended; whether one of those at a time has returned; whether one has ended by itself, not
        # by a cancellation; whether they have failed, and no attempt follows by now; the last
        # failure; what was raised last, with the users' part of its traceback; and whether that
        # lets none follow.
        self._made = self._returned = self._by_itself = self._fails = False
        self._failure: Exception | None = None
        self._last: BaseException | None = None
        self._traceback: TracebackType | None = None
        self._ended = False
        # Set when no attempt is at work; made by one that waits for that.
        self._idle: Event | None = None

    async def run(self) -> Any:  # noqa: ANN401 - what the function, or the retry, returns
        """Make the first attempt, and others as the task's retry wants them."""
        if self._task._carried is not None:  # its engine has its own
            self._task._begin()
            return await self._task._hand_over(self._task._carried)
        retry = self._task.config.retry
        try:
            return await (self._attempt() if retry is None else self._retry(retry))
        finally:
            # What the function has raised may keep the frames here, and who retries this; the task
            # has what was raised.
            self._over = True
            self._failure = self._last = self._traceback = None
            self._let_go()

    def stop(self) -> None:
        """Let no other attempt follow: a shutdown cancels, and spares what runs (contract 9.6).

        After one that has returned the retry may be about to end, so it is not cut short.
        """
        if self._fails and not self._working:
            self._retrying.cancel()

    async def _retry(self, retry: Retry) -> Any:  # noqa: ANN401 - as above
        # In the task's own context: a retry may make its attempts in others, copies of this.
        self._task._attempt = 0
        self._begin_task()
        others = self._task._runner._retrying
        others[self._task] = self
        try:
            with self._task._backend.scope_type() as self._retrying:
                try:
                    made = _for_one(retry)(self._again)
                    _refuse_sync(made, retry)
                    return await made
                finally:
                    if self._last is not None:
                        # Without the frames of who retries, which often hold the error themselves.
                        set_traceback(self._last, self._traceback)
        except get_cancelled_exc_class():
            # The scope's own, which it does not take if asyncio has miscounted within the retry.
            if not self._retrying.cancel_called or current_effective_deadline() == -inf:
                raise
        finally:
            del others[self._task]
        # Only after a failure anything ends its scope, and not where the task is cancelled too.
        raise cast("Exception", self._failure)

    async def _again(self) -> Any:  # noqa: ANN401 - as above
        self._refuse_late()
        if self._ended and self._last is not None:
            with CancelScope(shield=True):
                await checkpoint()  # who calls it for ever holds up nobody else
            raise self._last
        if self._made:
            await self._go_on()
        if not self._working:
            self._returned = self._by_itself = False
        self._working += 1
        try:
            result = await self._attempt()
        except BaseException as raised:
            self._note_end(raised)
            raise
        self._note_end(None)
        return result

    def _refuse_late(self) -> None:
        """Refuse an attempt of a task that is over."""
        if self._over:
            msg = (
                "The retry of this task has ended, so no other attempt begins: await each attempt "
                "before you return or raise."
            )
            raise RuntimeError(msg)

    def _note_end(self, raised: BaseException | None) -> None:
        """Note that an attempt has ended; with what it has raised, if it has."""
        self._working -= 1
        if self._idle is not None and not self._working:
            self._idle.set()
        if self._over:
            self._let_go()
            return
        self._made = True
        if raised is None or isinstance(raised, Exception):
            self._by_itself = True
            self._task._backend.uncancel()
        if raised is None:
            self._returned, self._fails = True, False
        else:
            self._last = raised
            self._traceback = cut_traceback(raised)
            failure = self._as_failure(raised)
            if failure is not None:
                self._failure = failure
            self._fails = failure is not None and not self._returned
            self._ended = self._ended or failure is None
        if self._task._runner._shutdown.cancels:
            self.stop()  # that has come meanwhile: nobody waits for another one

    def _let_go(self) -> None:
        """Hold the task no longer, once the retry has ended and all that it has left behind."""
        if self._over and not self._working:
            del self._task

    def _as_failure(self, raised: BaseException) -> Exception | None:
        """Return what an attempt has raised, as a failure; ``None`` if no other one may follow."""
        if isinstance(raised, Exception):
            return raised
        # A scope may be the retry's own, around one attempt; `_go_on` sees whether it is left.
        if self._task._backend.cancels(raised):
            return TaskAborted(type(raised).__name__, "its retry, by a time limit for instance")
        return None

    async def _go_on(self) -> None:
        """Begin another attempt after one that has ended, unless none may follow."""
        runner = self._task._runner
        if self._fails or runner._shutdown.cancels:
            await checkpoint()
        ends = runner._shutdown.cancels
        if ends:
            await self._refuse()
            await checkpoint()
        if self._by_itself:  # what is counted since then is a task group's of the retry's own
            self._task._backend.uncancel()
        if self._task._backend.cancelled_from_outside():  # and who retries has caught that
            raise get_cancelled_exc_class()
        if ends:  # it was asked for beside others, in a shield, or in a task of its own
            raise TaskAborted("the shutdown") if self._failure is None else self._failure
        if self._fails:
            _report.retrying(self._task, self._count, cast("Exception", self._failure))
            self._fails = False

    async def _refuse(self) -> None:
        """End the retry, which asks for an attempt during a shutdown, once none is at work.

        One that asks beside others, of which the last returns, is about to take that.
        """
        waits = self._working > 0
        if waits:
            self._idle = self._idle or Event()
            await self._idle.wait()
        self._refuse_late()
        if self._fails:
            self._retrying.cancel()
        elif not waits:  # the retry has not taken what was returned
            self._task._runner._shutdown.cut_short(self._task)

    async def _attempt(self) -> Any:  # noqa: ANN401 - as above
        timeout = self._task.config.timeout
        if timeout is None:
            return await self._call(None)
        cut: BaseException | None = None
        try:
            with self._task._backend.scope_type() as limit:
                try:
                    return await self._call(limit)
                except BaseException as raised:
                    cut = raised
                    raise
            # What is cancelled at the same time does not come here: that is what counts (9.2).
            cut = cast("BaseException", cut)
            cut_traceback(cut)
            raise TaskTimedOut(escape(self._task.name), timeout) from cut
        finally:
            del cut  # its traceback has this frame

    async def _call(self, limit: CancelScope | None) -> Any:  # noqa: ANN401 - as above
        if self._task._is_async:
            self._begin(limit)
            return await self._task.func(*self._task.args, **self._task.kwargs)
        return await call_in_thread(
            self._task.func,
            self._task.args,
            self._task.kwargs,
            self._task._backend.threads,
            partial(self._begin, limit),
        )

    def _begin(self, limit: CancelScope | None) -> None:
        """Note that an attempt begins; just before the function is called."""
        task, observers = self._task, self._task._runner._observers
        self._count += 1
        task._attempt = self._count
        if task.config.retry is None:
            self._begin_task()
        elif observers.active:
            observers.changed(task)
        if limit is not None and task.config.timeout is not None:
            limit.deadline = current_time() + task.config.timeout

    def _begin_task(self) -> None:
        """Let the task begin, in its own context, which its error handler shares."""
        observers = self._task._runner._observers
        self._task._begin()
        if observers.active:
            observers.begun(self._task)


def _for_one(retry: Retry) -> Retry:
    """Return the retry for one task, of many that may have it: a copy, where it makes such.

    Tenacity's hold how far they have come, and copy themselves for each call of what they decorate.
    """
    copy = getattr(type(retry), "copy", None)
    made: Any = copy(retry) if callable(copy) and fits(copy, (retry,)) else None
    # What makes anything else, as a list does, does not mean this.
    return made if type(made) is type(retry) else retry


def _refuse_sync(made: object, retry: object) -> None:
    """Refuse what only hands the first attempt through, as a caller of sync functions does."""
    if iscoroutine(made) and made.cr_code is Attempts._again.__code__:
        made.close()
    elif isawaitable(made):
        return
    msg = (
        f"retry must be async, and {describe(retry)} is not: pass a caller such as "
        "stamina.AsyncRetryingCaller(attempts=3).on(ConnectionError), or tenacity.AsyncRetrying()"
    )
    raise TypeError(msg)
