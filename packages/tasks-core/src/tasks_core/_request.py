"""One request's messages, and what they say of its phases and of its outcome (contract 1).

A request is served in two places: around all of an application (`serve`), where every middleware
and every exception handler has its tasks, and around its routing (`serve_route`), where the route's
end and what it raises are seen before a middleware catches it. What is raised and answered within
the routing the framework tells (`tell_failure`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias, cast

from anyio import CancelScope

from ._exceptions import Missing
from ._phase import AFTER_ROUTE, IMMEDIATE
from ._scheduler import TasksScheduler, current, found

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

KEY = "tasks_core.scheduler"
"""Where a scope has its request's scheduler, or why it has none."""

LAYER = "tasks_core.layered_scheduler"
"""Where a scope has the same with the settings of a mounted application."""

_ANSWERS = frozenset({"http.response.start", "websocket.close", "websocket.http.response.start"})
"""The messages that leave once what was started has run its first step (contract 1.1, 1.2)."""

_HAS_LEFT = OSError("the client has closed the WebSocket")
"""What stands for an error of `send`, once the application has received that."""


def get_scheduler(scope: Scope) -> TasksScheduler:
    """Return the scheduler of a request, always the same one.

    Args:
        scope: The ASGI scope of a request below a `TasksMiddleware`.

    Raises:
        TasksUninitializedError: There are no tasks here; it says why.
    """
    return found(scope.get(LAYER) or scope.get(KEY, Missing.ADDED))


async def serve(  # noqa: PLR0913, PLR0917 - an ASGI call and what it is to know
    app: ASGIApp,
    scope: Scope,
    receive: Receive,
    send: Send,
    scheduler: TasksScheduler,
    disconnects: tuple[type[Exception], ...] = (),
) -> None:
    """Serve a request with its scheduler, whose phases follow the messages.

    For who writes a server, or an adapter to a framework that handles the lifespan by itself;
    elsewhere `TasksMiddleware` does this.

    Args:
        app: The application, with all its middleware.
        scope: The request's scope, of type ``http`` or ``websocket``.
        receive: The request's ``receive``.
        send: The request's ``send``.
        scheduler: The request's scheduler.
        disconnects: As in `TasksMiddleware`.
    """

    async def watched_send(message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start" and scheduler._open == 1:  # or a route still runs (1.2)
            scheduler.reach(AFTER_ROUTE)
        if scheduler._handed and kind in _ANSWERS:
            await scheduler.begun()
        try:
            await send(message)
        except OSError as error:
            scheduler._gone = error
            raise

    heard = _hearing(scheduler, receive) if scope["type"] == "websocket" else receive
    # The request within which this one is made, if any: a route may call its own application.
    outer = scope.get(KEY)
    layer = scope.pop(LAYER, None) if outer is not None else None
    scope[KEY] = scheduler
    token = current.set(scheduler)
    scheduler._open += 1
    scheduler._disconnects = disconnects
    scheduler._path = scope.get("path", "")
    try:
        await app(scope, heard, watched_send)
    except BaseException as error:
        _judge(scheduler, error, scope["type"])
        if scheduler._phase is IMMEDIATE:
            scheduler.reach(AFTER_ROUTE)
            if isinstance(error, Exception):
                await scheduler._until_begun()  # the 500 is sent further out, once this is raised
        raise
    finally:
        scheduler._close()
        current.reset(token)
        if outer is not None:
            scope[KEY], scope[LAYER] = outer, layer
        if scheduler._executor._settle is not None:
            with CancelScope(shield=True):  # a test's client may cancel what it has left
                await scheduler.settle()


async def serve_route(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve what routes a request, within a `serve` of the same request.

    For who writes an adapter to a framework with middleware: around the innermost application that
    the framework lets you wrap. A second call is another attempt of a middleware that tries again.

    Args:
        app: What routes the request.
        scope: The request's scope.
        receive: The request's ``receive``.
        send: The request's ``send``.
    """
    scheduler = scope.get(KEY)
    if not isinstance(scheduler, TasksScheduler):
        await app(scope, receive, send)
        return

    def watched_send(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            scheduler.reach(AFTER_ROUTE)
        return send(message)

    scheduler._open_route()
    scheduler._path = scope.get("path", "")
    try:
        await app(scope, receive, watched_send)
    except BaseException as error:
        _judge(scheduler, error, scope["type"])
        raise
    finally:
        scheduler._close_route()


def tell_failure(scope: Scope, error: BaseException) -> None:
    """Say that a request's route has raised, whatever answers that (contract 1.6).

    For who writes an adapter to a framework whose exception handlers answer within its routing.

    Args:
        scope: The request's scope.
        error: What was raised. A client that has gone is no failure (contract 1.7).
    """
    scheduler = scope.get(KEY)
    if isinstance(scheduler, TasksScheduler):
        _judge(scheduler, error, scope["type"])


def _hearing(scheduler: TasksScheduler, receive: Receive) -> Receive:
    """Note that the client of a WebSocket has gone, as the application receives that."""

    async def watched_receive() -> Message:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            scheduler._gone = _HAS_LEFT if scheduler._gone is None else scheduler._gone
        return message

    return watched_receive


def _judge(scheduler: TasksScheduler, error: BaseException, kind: str) -> None:
    if not _says_gone(scheduler, error, kind):
        scheduler._fail(error)


def _says_gone(scheduler: TasksScheduler, error: BaseException | None, kind: str) -> bool:
    """Whether an error says no more than that the client has gone (contract 1.7).

    `send` has raised it, or a cancellation has come after that, or after a WebSocket's client has
    closed it; or it is the framework's own word for that. Before the route of a HTTP
    request has returned that word is of an upload that was broken off, so of a failure.
    """
    gone = scheduler._gone
    if error is None:
        return False
    if gone is not None and (error is gone or not isinstance(error, Exception)):
        return True  # a cancellation is how middleware ends what it has put into a task
    if isinstance(error, scheduler._disconnects):
        of = error.__context__  # Starlette makes it of any `OSError`, also of one of the body's own
        is_own = isinstance(of, OSError) and not _says_gone(scheduler, of, kind)
        is_late = gone is not None or scheduler._phase is not IMMEDIATE
        return kind == "websocket" or (is_late and not is_own)
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return all(_says_gone(scheduler, one, kind) for one in group.exceptions)
    return gone is not None and _says_gone(scheduler, error.__cause__, kind)
