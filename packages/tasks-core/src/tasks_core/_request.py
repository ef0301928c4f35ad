"""One request on its way: what its messages say of its phases and of its outcome."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, TypeAlias

from anyio import NoEventLoopError, get_current_task

from ._phase import AFTER_RESPONSE, AFTER_ROUTE
from ._scheduler import TasksScheduler

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

ANSWERS = frozenset({"http.response.start", "websocket.close", "websocket.http.response.start"})
"""The messages by which an exception handler may answer for the route."""

_FAILURE = 400  # the least status that says that a request has failed


class Request:
    """One request on its way: its phases follow its messages.

    It does not know ``send``: contexts, and so tasks, keep it, and a connection must not live on.
    """

    __slots__ = (
        "_answered",
        "_disconnects",
        "_failed",
        "_handled_before",
        "_served_in",
        "_used_in",
        "cut_off",
        "over",
        "scheduler",
    )

    def __init__(self, scheduler: TasksScheduler, disconnects: tuple[type[Exception], ...]) -> None:
        self.scheduler = scheduler
        self._disconnects = disconnects
        # What the caller is handling already; anything else is what a handler now answers.
        self._handled_before = sys.exception()
        # The event loop's tasks that serve the request, and that asked for the scheduler first.
        self._served_in = _current_task()
        self._used_in: int | None = None
        # Whether the response has begun, and the call has ended; and the outcome so far.
        self._answered = False
        self._failed = False
        self.over = False
        # Whether the server took no more of what was sent.
        self.cut_off = False

    def use(self) -> TasksScheduler:
        """Return the scheduler to who serves the request further in."""
        if self._used_in is None:
            self._used_in = _current_task()
        return self.scheduler

    def answer(self, message: Message) -> None:
        """Note a message by which the route, or an exception handler for it, answers.

        If an exception is being handled while an answer passes, it was raised out of the route
        (contract 1.6). What a route further in raises, in a task of its own (as a
        BaseHTTPMiddleware of a mounted application runs it), is answered in there; then the
        status is all that is seen of it.
        """
        raised = sys.exception()
        if raised is not None and raised is not self._handled_before:
            self._failed = self._failed or self._was_raised_out(raised, message["type"])
        if message["type"] == "http.response.start":  # the route has ended (contract 1.2)
            if self._used_in not in {None, self._served_in} and message["status"] >= _FAILURE:
                self._failed = True
            self._answered = True
            self.scheduler.reach(AFTER_ROUTE, failed=self._failed)

    def _was_raised_out(self, raised: BaseException, kind: str) -> bool:
        """Whether the exception that is handled while an answer passes has ended the route.

        A response is sent when the route has returned, so who handles an exception then is not
        the route. A WebSocket's messages are sent by the route itself, within ``except`` blocks
        of its own too; there the framework must be what handles the exception.
        """
        if kind == "http.response.start":
            return True
        if isinstance(raised, self._disconnects) or raised.__traceback__ is None:
            return False
        handler = _package(raised.__traceback__.tb_frame.f_globals.get("__name__", ""))
        return any(handler == _package(error.__module__) for error in self._disconnects)

    def fail(self, error: BaseException) -> None:
        """Note what is raised out of the application.

        A client that goes away is no failure of the route (contract 1.7): not when it does not
        take the rest of a response, nor when it ends a WebSocket.
        """
        if self._answered:
            self._failed = self._failed or (isinstance(error, Exception) and not self.cut_off)
        elif not self.cut_off and not isinstance(error, self._disconnects):
            self._failed = True
        self.scheduler.reach(AFTER_ROUTE, failed=self._failed)

    def end(self) -> None:
        """Note that the application's call has ended (contract 1.3)."""
        self.over = True
        self.scheduler.reach(AFTER_RESPONSE, failed=self._failed)


def _current_task() -> int | None:
    try:
        return id(asyncio.current_task())
    except RuntimeError:  # trio, or a worker thread
        with suppress(NoEventLoopError):
            return get_current_task().id
        return None


def _package(module: str) -> str:
    return module.partition(".")[0]
