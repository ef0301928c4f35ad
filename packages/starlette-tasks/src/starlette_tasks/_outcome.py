"""How a request's outcome is told: by what leaves the routing, and by who answers within it.

Within the routing Starlette hands what was raised to one of the application's exception handlers,
which are wrapped while the middleware is built. Applications that are mounted, in whatever way,
have handlers of their own, which they put into the scope: that they do is not documented, so what
is read there only adds to the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import Any, TypeAlias

from starlette.exceptions import HTTPException, WebSocketException
from starlette.middleware.exceptions import ExceptionMiddleware
from tasks_core.asgi import ASGIApp, Receive, Scope, Send, serve_route, tell_failure

Handler: TypeAlias = Callable[[Any, Any], Any]

HANDLERS = "starlette.exception_handlers"
"""Where a scope has the handlers of the application that is called."""


class RouteMiddleware:
    """The innermost middleware: a route ends where its response starts, or where it raises."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "lifespan":
            return self.app(scope, receive, send)
        return serve_route(self.app, _WatchedScope(scope), receive, send)


class FailureMiddleware:
    """The outermost middleware: it tells what others raise before that is answered."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except BaseException as error:
            tell_failure(scope, error)
            raise


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


class _WatchedScope(dict[str, Any]):
    """A scope as the routing sees it, which sees who puts exception handlers there.

    What is written there is written to the scope as middleware has it, too.
    """

    __slots__ = ("_scope",)

    def __init__(self, scope: MutableMapping[str, Any]) -> None:
        super().__init__(scope)
        self._scope = scope

    def __setitem__(self, key: str, value: Any) -> None:  # noqa: ANN401
        if key == HANDLERS:
            super().__setitem__(key, _watched(value, self._scope))
        else:
            super().__setitem__(key, value)
            self._scope[key] = value

    def update(self, *others: Any, **values: Any) -> None:  # noqa: ANN401
        super().update(*others, **values)
        self._scope.update(*others, **values)

    def setdefault(self, key: str, default: Any = None) -> Any:  # noqa: ANN401
        if key not in self:
            self[key] = default
        return self[key]

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._scope.pop(key, None)

    def pop(self, key: str, *default: Any) -> Any:  # noqa: ANN401
        self._scope.pop(key, None)
        return super().pop(key, *default)


def _watched(handlers: Any, scope: Scope) -> Any:  # noqa: ANN401 - they are not documented
    match handlers:
        case (by_type, by_status):
            return _Handlers(by_type, scope), _Handlers(by_status, scope)
        case _:
            return handlers


class _Handlers(Mapping[Any, Handler]):
    """Exception handlers, among which one is looked for when something was raised."""

    __slots__ = ("_handlers", "_scope")

    def __init__(self, handlers: Mapping[Any, Handler], scope: Scope) -> None:
        self._handlers = handlers
        self._scope = scope

    def __getitem__(self, key: Any) -> Handler:  # noqa: ANN401
        self._tell()
        return self._handlers[key]

    def __contains__(self, key: object) -> bool:
        self._tell()
        return key in self._handlers

    def __iter__(self) -> Iterator[Any]:
        return iter(self._handlers)

    def __len__(self) -> int:
        return len(self._handlers)

    def _tell(self) -> None:
        error = sys.exception()
        if error is not None:
            tell_failure(self._scope, error)
