"""How a request's outcome is told: by what leaves the routing, and by who answers within it.

Within the routing Starlette hands what was raised to one of the application's exception handlers,
which are wrapped while the middleware is built. Applications that are mounted have handlers and
middleware of their own. They are found among the routes, or when they are called, as each puts
itself into the scope first; then their middleware is built in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, Self

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Router
from tasks_core.asgi import ASGIApp, Receive, Scope, Send, serve_route, tell_failure

from ._handlers import HANDLERS, telling_handlers, watched_handlers
from ._layers import innermost, routes_of

_WATCHED: Final = "_starlette_tasks_watched"
"""The attribute of an application that is watched."""


def watch(app: Starlette) -> None:
    """See how an application's requests end, once its middleware is built (again).

    Where there is no request's scheduler, so where it is served by itself, this changes nothing.
    """
    if not hasattr(app, _WATCHED):
        watch_again(app)


def watch_again(app: Starlette) -> None:
    """See it also where what was put there has been taken away."""
    setattr(app, _WATCHED, True)
    # Public, and what instrumentation wraps too; so it is looked up now, and may be wrapped again.
    build = partial(_build, app, app.build_middleware_stack)
    app.build_middleware_stack = build  # type: ignore[method-assign]


def mounted(app: Starlette) -> Iterator[Starlette]:
    """Find mounted applications, as far as they can be seen before they are called.

    What is mounted may also know an application without having it inside: that itself, or one
    further out. So may one that is mounted in itself.
    """
    for route in routes_of(app):
        _, _, one = innermost(route, "app", _ENDS)
        if isinstance(one, Starlette):
            yield one


def _build(app: Starlette, build: Callable[[], Any]) -> Any:  # noqa: ANN401 - whoever wraps it
    """Build an application's middleware, with ours innermost, and outermost to tell of the rest."""
    for one in mounted(app):
        watch(one)
    _watch_routes(app)
    middleware, handlers = app.user_middleware, app.exception_handlers
    # Without middleware the routing is next to what answers an error.
    outermost = [Middleware(FailureMiddleware)] if middleware else []
    app.user_middleware = [*outermost, *middleware, Middleware(RouteMiddleware)]
    app.exception_handlers = telling_handlers(handlers)
    try:
        return build()
    finally:
        app.user_middleware, app.exception_handlers = middleware, handlers


def _watch_routes(app: Starlette) -> None:
    """See how what lies within middleware of a route, of a mount or of a router ends.

    That may answer what was raised, or try again, as an application's middleware may.
    """
    for route in routes_of(app):
        _watch_within(route, "app")


def _watch_within(outer: object, name: str) -> None:
    holder, name, app = innermost(outer, name, _ENDS)
    if holder is not outer and app is not None and not isinstance(app, (Starlette, *_OURS)):
        with suppress(Exception):  # it may not be set
            setattr(holder, name, _Within(app))
    if isinstance(app, Router):
        _watch_within(app, "middleware_stack")


# Who wraps an ASGI application looks whether its `__call__` is a coroutine function: middleware of
# OpenTelemetry and Sentry, asgiref. So these are, though it costs each request a coroutine.


class RouteMiddleware:
    """The innermost middleware: a route ends where its response starts, or where it raises."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        else:
            watched = _WatchedScope(scope)
            watched.outer = scope
            await serve_route(self.app, watched, receive, send)


class _Within:
    """The same within middleware of others, which has here what it knows of what it is around."""

    _route: RouteMiddleware

    def __init__(self, app: ASGIApp) -> None:
        vars(self)["_route"] = RouteMiddleware(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._route(scope, receive, send)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        route: RouteMiddleware = object.__getattribute__(self, "_route")  # a copy has none at first
        return getattr(route.app, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._route.app, name, value)


_OURS: Final = (RouteMiddleware, _Within)
_ENDS: Final = (Starlette, Router, *_OURS)
"""What is not looked through for an innermost application."""


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


class _WatchedScope(dict[str, Any]):
    """A scope as the routing sees it, which sees who is called with it, and with what handlers.

    What is written there is written to the scope as middleware has it, too. A copy is a dict.

    Each request has one, and writes to it several times. So nothing of that goes through `super()`
    or an `__init__`, each of which costs as much as all the rest of a method.
    """

    __slots__ = ("outer",)

    outer: MutableMapping[str, Any]
    """The scope as middleware has it; set by who makes this."""

    def __setitem__(self, key: str, value: Any) -> None:  # noqa: ANN401
        if key == HANDLERS:
            value = watched_handlers(value, self.outer)
        else:
            self.outer[key] = value
            if key == "app" and isinstance(value, Starlette):  # before it builds its middleware
                watch(value)
        _put(self, key, value)

    def update(self, other: Any = (), /, **values: Any) -> None:  # noqa: ANN401
        new: dict[str, Any] = other
        if values or not isinstance(other, dict):
            new = dict(other, **values)  # it may be an iterator
        _put_all(self, new)
        self.outer.update(new)

    def __ior__(self, other: Any, /) -> Self:  # type: ignore[override, misc] # noqa: ANN401
        self.update(other)
        return self

    def setdefault(self, key: str, default: Any = None) -> Any:  # noqa: ANN401
        if key not in self:
            self[key] = default
        return self[key]

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self.outer.pop(key, None)

    def pop(self, key: str, *default: Any) -> Any:  # noqa: ANN401
        self.outer.pop(key, None)
        return super().pop(key, *default)

    def popitem(self) -> tuple[str, Any]:
        key, value = super().popitem()
        self.outer.pop(key, None)
        return key, value

    def clear(self) -> None:
        super().clear()
        self.outer.clear()

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (dict(self),)  # how it is copied, deeply too, and pickled


_put: Final = dict[str, Any].__setitem__
_put_all: Final = dict[str, Any].update
