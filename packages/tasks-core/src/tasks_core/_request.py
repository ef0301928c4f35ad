"""One request on its way: what its messages say of its phases and of its outcome."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from threading import Lock, get_ident
from typing import Any, TypeAlias

from ._exceptions import TasksUninitializedError
from ._phase import AFTER_RESPONSE, AFTER_ROUTE, IMMEDIATE, Phase
from ._scheduler import TasksScheduler, current

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

ANSWERS = frozenset({"http.response.start", "websocket.close", "websocket.http.response.start"})
"""The messages by which an exception handler may answer for the route."""

REQUEST = "tasks_core.request"
"""Where a scope has its request."""

_FAILURE = 400  # the least status that says that a request has failed

_making = Lock()  # held while the scheduler of a request is made

# The request whose scheduler was first asked for here. Tasks of the event loop copy their context,
# so only the task that asked knows it, and those that it makes later.
_used_here: ContextVar[Request] = ContextVar("tasks_core.used_here")


class Request:
    """One request on its way: its phases follow its messages.

    Most requests use no tasks, so the scheduler is made when somebody asks for it.

    It does not know ``send``: contexts, and so tasks, keep it, and a connection must not live on.
    """

    __slots__ = (
        "_disconnects",
        "_failed",
        "_handled_before",
        "_make",
        "_reached",
        "_thread",
        "_used",
        "cut_off",
        "made",
    )

    def __init__(
        self, make: Callable[[], TasksScheduler], disconnects: tuple[type[Exception], ...]
    ) -> None:
        self._make = make
        self._disconnects = disconnects
        # What the caller is handling already; anything else is what a handler now answers.
        self._handled_before = sys.exception()
        # Whether who serves the request has asked for the scheduler, in the event loop's thread.
        self._used = False
        self._thread = get_ident()
        # The last phase that has begun, and the outcome so far; phases only go forward.
        self._reached = IMMEDIATE
        self._failed = False
        # Whether the server took no more of what was sent.
        self.cut_off = False
        # The scheduler, if there is one already.
        self.made: TasksScheduler | None = None

    @property
    def over(self) -> bool:
        """Whether the application's call has ended."""
        return self._reached is AFTER_RESPONSE

    @property
    def scheduler(self) -> TasksScheduler:
        """The scheduler; may be asked for in any thread."""
        return self.made or self._make_once()

    def use(self) -> TasksScheduler:
        """Return the scheduler to who serves the request further in."""
        if not self._used and get_ident() == self._thread:
            self._used = True
            _used_here.set(self)
        return self.made or self._make_once()

    def _make_once(self) -> TasksScheduler:
        with _making:
            if self.made is None:
                self.made = self._make()
                # `reach` looks the other way round, so one of the two lets a phase begin.
                if self._reached is not IMMEDIATE:
                    self.made.reach(self._reached, failed=self._failed)
            return self.made

    def reach(self, phase: Phase) -> None:
        """Let a phase begin; the last does when the application's call has ended (contract 1.3)."""
        self._reached = phase
        if self.made is not None:
            self.made.reach(phase, failed=self._failed)

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
            if self._used and message["status"] >= _FAILURE and _used_here.get(None) is not self:
                self._failed = True
            if self._reached is IMMEDIATE:
                self.reach(AFTER_ROUTE)

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

    async def fail(self, error: BaseException) -> None:
        """Note what is raised out of the application.

        A client that goes away is no failure of the route (contract 1.7): not when it does not
        take the rest of a response, nor when it ends a WebSocket.
        """
        if self._reached is not IMMEDIATE:  # the response has begun
            self._failed = self._failed or (isinstance(error, Exception) and not self.cut_off)
        else:
            if not self.cut_off and not isinstance(error, self._disconnects):
                self._failed = True
            self.reach(AFTER_ROUTE)
        if self.made is not None and isinstance(error, Exception):
            await self.made.begun()  # the 500 is sent further out, once this is raised


def get_scheduler(scope: Scope) -> TasksScheduler:
    """Return the scheduler of a request, always the same one.

    Args:
        scope: The ASGI scope of a request below a `TasksMiddleware`.

    Raises:
        TasksUninitializedError: There is no such middleware, or the lifespan has not run.

    Since 0.1.0.
    """
    request = scope.get(REQUEST)
    if not isinstance(request, Request):
        raise TasksUninitializedError
    return request.use()


async def serve(  # noqa: PLR0913 - an ASGI call and what it is to know
    app: ASGIApp,
    scope: Scope,
    receive: Receive,
    send: Send,
    make: Callable[[], TasksScheduler],
    *,
    disconnects: tuple[type[Exception], ...] = (),
) -> None:
    """Serve a request with its scheduler, whose phases follow the messages.

    For who writes an adapter to a framework that handles the lifespan by itself; elsewhere
    `TasksMiddleware` does this.

    Args:
        app: The application, or the middleware further in.
        scope: The request's scope, of type ``http`` or ``websocket``.
        receive: The request's ``receive``.
        send: The request's ``send``.
        make: What makes the scheduler, once somebody asks for it: most requests use no tasks.
        disconnects: As in `TasksMiddleware`.

    Since 0.1.0.
    """
    request = scope[REQUEST] = Request(make, disconnects)
    outer = current.set(request)
    try:
        await app(scope, receive, _watch(send, request))
    except BaseException as error:
        await request.fail(error)
        raise
    finally:
        request.reach(AFTER_RESPONSE)
        current.reset(outer)
        if request.made is not None:
            await request.made.settle()


def _watch(send: Send, request: Request) -> Send:
    """Return a ``send`` by which the request sees its messages."""

    async def watched_send(message: Message) -> None:
        if message["type"] in ANSWERS:
            request.answer(message)
            if request.made is not None:
                await request.made.begun()
        try:
            await send(message)
        except Exception:
            request.cut_off = True
            raise

    return watched_send


def _package(module: str) -> str:
    return module.partition(".")[0]
