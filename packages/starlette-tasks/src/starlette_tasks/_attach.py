"""How tasks attach to an application: around all of its middleware, and around its routing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack

from anyio import CancelScope
from starlette.middleware import Middleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import ClientDisconnect
from starlette.websockets import WebSocketDisconnect
from tasks_core import RunnerSettings
from tasks_core.asgi import (
    ApplicationTasks,
    ASGIApp,
    Receive,
    Scope,
    Send,
    TasksMiddleware,
    add_again,
)

from ._outcome import FailureMiddleware, RouteMiddleware, telling_handlers

if TYPE_CHECKING:
    from starlette.applications import Starlette

Lifespan: TypeAlias = "Callable[[Starlette], AbstractAsyncContextManager[Any]]"

_TASKS = "_starlette_tasks"
"""The attribute by which an application has its tasks: so nothing else keeps either alive."""


def add_tasks(app: Starlette, **settings: Unpack[RunnerSettings]) -> None:
    """Add tasks to an application, before or after its routes, its middleware and its lifespan.

    A second call without settings changes nothing. What is mounted in the application has its
    tasks; one that is mounted may have a `config` of its own, by a call for that one, which is a
    layer over this one's (contract 3.3).

    Args:
        app: The application.
        settings: See `RunnerSettings`.

    Raises:
        TasksAlreadyAddedError: A second call has settings, which would be lost.
        RuntimeError: The application has started already.
        TypeError: A setting is of the wrong type.
        ValueError: A number is out of its range.

    Since 0.1.0.
    """
    if hasattr(app, _TASKS):
        add_again(settings)
        return
    if app.middleware_stack is not None:
        msg = "add_tasks(app) comes too late, the application has started: call it before that."
        raise RuntimeError(msg)
    tasks = ApplicationTasks(**settings)
    setattr(app, _TASKS, tasks)
    # Public, and what instrumentation wraps too; so it is looked up now, and may be wrapped again.
    build = partial(_build, app, tasks, app.build_middleware_stack)
    app.build_middleware_stack = build  # type: ignore[method-assign]
    router = app.router
    router.lifespan_context = _around(tasks, router.lifespan_context)


def _build(app: Starlette, tasks: ApplicationTasks, build: Callable[[], Any]) -> _Stack:
    """Build an application's middleware, with ours in its places."""
    _check_mounted(app.routes)
    middleware, handlers = app.user_middleware, app.exception_handlers
    # Without middleware the routing is next to what answers an error.
    outermost = [Middleware(FailureMiddleware)] if middleware else []
    app.user_middleware = [*outermost, *middleware, Middleware(RouteMiddleware)]
    app.exception_handlers = telling_handlers(handlers)
    try:
        stack: ASGIApp = build()
    finally:
        app.user_middleware, app.exception_handlers = middleware, handlers
    disconnects = (ClientDisconnect, WebSocketDisconnect)
    ours = TasksMiddleware(stack, disconnects=disconnects, mount_key="router", tasks=tasks)
    return _Stack(ours.pass_on)


class _Stack(ServerErrorMiddleware):
    """What a built stack has to be: OpenTelemetry takes ``app`` off it, and drops the rest.

    It answers no errors: the application's own such middleware is within ``app``.
    """

    if not TYPE_CHECKING:

        def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            return self.app(scope, receive, send)


def _check_mounted(routes: list[Any]) -> None:
    """Refuse settings that mounted applications cannot have, as far as they are seen (3.3)."""
    for route in routes:
        tasks = getattr(getattr(route, "app", None), _TASKS, None)
        if isinstance(tasks, ApplicationTasks):
            tasks.check_layer()
        _check_mounted(getattr(route, "routes", None) or [])


def _around(tasks: ApplicationTasks, lifespan: Lifespan) -> Lifespan:
    """Return an application's lifespan with tasks, also where it is run by hand.

    Run through the application it has them already, around all that was put around it since.
    """

    @asynccontextmanager
    async def with_tasks(app: Starlette) -> AsyncGenerator[Any, None]:
        if tasks.running_here():
            async with lifespan(app) as state:
                yield state
            return
        async with tasks.run() as runner, lifespan(app) as state:
            tasks.started()
            try:
                yield state
            finally:
                with CancelScope(shield=True):
                    await runner.drain()

    return with_tasks
