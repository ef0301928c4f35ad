"""Exception handlers which first tell that the request has failed: by what they are asked.

What routes and mounts with middleware of their own raise is looked up among the handlers in the
scope. That these are there is not documented, so what is read there only adds to the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import Any, Final, TypeAlias

from starlette.exceptions import HTTPException, WebSocketException
from starlette.middleware.exceptions import ExceptionMiddleware
from tasks_core.asgi import Receive, Scope, Send, tell_failure

Handler: TypeAlias = Callable[[Any, Any], Any]

HANDLERS: Final = "starlette.exception_handlers"
"""Where a scope has the handlers of the application that is called."""


def telling_handlers(own: Mapping[Any, Handler]) -> dict[Any, Handler]:
    """Return an application's exception handlers, those that it has by default included.

    Each first tells that the request has failed. What is raised as far as the handler of all
    exceptions has left the routing.
    """
    default = ExceptionMiddleware(_nothing)
    known: dict[Any, Handler] = {
        HTTPException: default.http_exception,
        WebSocketException: default.websocket_exception,
        **own,
    }
    return {
        key: handler if key in {500, Exception} else _telling(handler)
        for key, handler in known.items()
    }


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Do nothing."""


def _telling(handler: Handler) -> Handler:
    called = handler
    while isinstance(called, partial):
        called = called.func
    if iscoroutinefunction(called) or iscoroutinefunction(type(called).__call__):

        @wraps(handler)
        async def tell_and_wait(connection: Any, error: Any) -> Any:  # noqa: ANN401
            tell_failure(connection.scope, error)
            return await handler(connection, error)

        return tell_and_wait

    @wraps(handler)
    def tell(connection: Any, error: Any) -> Any:  # noqa: ANN401
        tell_failure(connection.scope, error)
        return handler(connection, error)

    return tell


def watched_handlers(handlers: Any, scope: Scope) -> Any:  # noqa: ANN401 - undocumented
    """Return what a scope has as its handlers, which tells when one is looked for."""
    match handlers:
        case (by_type, by_status):
            # Where there are none by status, all are looked for by type.
            return _Handlers(by_type, scope), by_status and _Handlers(by_status, scope)
        case _:
            return handlers


class _Handlers(MutableMapping[Any, Handler]):
    """Exception handlers, among which one is looked for when something was raised."""

    __slots__ = ("_handlers", "_scope")

    def __init__(self, handlers: MutableMapping[Any, Handler], scope: Scope) -> None:
        self._handlers = handlers
        self._scope = scope

    def __getitem__(self, key: Any) -> Handler:  # noqa: ANN401
        self._tell()
        return self._handlers[key]

    def __contains__(self, key: object) -> bool:
        self._tell()
        return key in self._handlers

    def __setitem__(self, key: Any, handler: Handler) -> None:  # noqa: ANN401
        self._handlers[key] = handler

    def __delitem__(self, key: Any) -> None:  # noqa: ANN401
        del self._handlers[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._handlers)

    def __len__(self) -> int:
        return len(self._handlers)

    def _tell(self) -> None:
        error = sys.exception()
        if error is not None:
            tell_failure(self._scope, error)
