"""How tasks attach to an application: around all of its middleware, and around its routing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, TypeAlias, Unpack
from weakref import ref

from anyio import CancelScope
from starlette.applications import Starlette
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Router
from starlette.websockets import WebSocketDisconnect
from tasks_core import RunnerSettings, asgi
from tasks_core.asgi import ApplicationTasks, ASGIApp, Receive, Scope, Send, add_again

from ._layers import layers
from ._outcome import mounted, watch, watch_again

Lifespan: TypeAlias = Callable[[Starlette], AbstractAsyncContextManager[Any]]

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
        TypeError: It is no application of Starlette, or a setting is of the wrong type.
        ValueError: A number is out of its range.
    """
    _check_application(app)
    if hasattr(app, _TASKS):
        add_again(settings)
        return
    if app.middleware_stack is not None:
        msg = "add_tasks(app) comes too late, the application has started: call it before that."
        raise RuntimeError(msg)
    tasks = ApplicationTasks(**settings)
    setattr(app, _TASKS, tasks)
    watch(app)
    _put_around(app, tasks)
    router = app.router
    router.lifespan_context = _around(ref(app), tasks, router.lifespan_context)


def _put_around(app: Starlette, tasks: ApplicationTasks) -> None:
    build = partial(_build, app, tasks, app.build_middleware_stack)
    app.build_middleware_stack = build  # type: ignore[method-assign]


def _put_back(app: Starlette, tasks: ApplicationTasks) -> None:
    """Put tasks around an application again where they were taken away.

    OpenTelemetry does so where it ends: it puts back what it found before tasks were added.
    """
    stack = app.middleware_stack
    if stack is None or any(isinstance(one, TasksMiddleware | _Part) for one in layers(stack)):
        return
    watch_again(app)
    _put_around(app, tasks)
    app.middleware_stack = app.build_middleware_stack()


def _check_application(app: object) -> None:
    if isinstance(app, Starlette):
        return
    remedy = (
        "a router has the tasks of its application: add_tasks(app) for that one"
        if isinstance(app, Router)
        else "pass the Starlette or FastAPI that it is or has inside; any other ASGI application "
        "has tasks by TasksMiddleware(app) of tasks_core.asgi around it"
    )
    kind = f"the class {app.__name__}" if isinstance(app, type) else type(app).__name__
    msg = f"add_tasks(app) takes the application, not {kind}: {remedy}"
    raise TypeError(msg)


def _build(app: Starlette, tasks: ApplicationTasks, build: Callable[[], Any]) -> TasksMiddleware:
    """Build an application's middleware, with its tasks around all of it."""
    for one in mounted(app):
        layer = getattr(one, _TASKS, None)
        # Settings that it cannot have are refused (3.3), unless it may be this one that is mounted.
        if isinstance(layer, ApplicationTasks) and one is not app and app not in mounted(one):
            layer.check_layer()
    return TasksMiddleware(app, tasks, build())


class TasksMiddleware(ServerErrorMiddleware):
    """Tasks around all of an application's middleware.

    OpenTelemetry takes a built stack apart, and puts its own around a part: so this is what a stack
    has to be. It answers no errors: the application's own such middleware is within.
    """

    def __init__(self, app: Starlette, tasks: ApplicationTasks, stack: Any) -> None:  # noqa: ANN401
        self._serve = _serving(tasks, stack)
        if isinstance(stack, ServerErrorMiddleware):
            super().__init__(_Part(app, tasks, stack.app), stack.handler, stack.debug)
        else:
            super().__init__(_Part(app, tasks, stack))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._serve(scope, receive, send)


class _Part:
    """What OpenTelemetry takes out of a stack, to put it below what it has around errors.

    Then tasks are no longer around all of the application. With the first call, that of the
    lifespan as a rule, they are put there again.
    """

    def __init__(self, app: Starlette, tasks: ApplicationTasks, part: ASGIApp) -> None:
        self.app = part
        self._application = app
        self._tasks = tasks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stack = self._application.middleware_stack
        if isinstance(stack, TasksMiddleware):
            await self.app(scope, receive, send)
            return
        if stack is not None:
            again = TasksMiddleware(self._application, self._tasks, stack)
            self._application.middleware_stack = again
        await _serving(self._tasks, self.app)(scope, receive, send)


def _serving(tasks: ApplicationTasks, app: ASGIApp) -> ASGIApp:
    disconnects = (ClientDisconnect, WebSocketDisconnect)
    return asgi.TasksMiddleware(
        app, disconnects=disconnects, mount_key="router", tasks=tasks
    ).pass_on


def _around(find: ref[Starlette], tasks: ApplicationTasks, lifespan: Lifespan) -> Lifespan:
    """Return an application's lifespan with tasks, also where it is run by hand.

    Run through the application it has them already, around all that was put around it since. It
    may also be run for another application, which it gets then, and outlive its own.
    """

    @asynccontextmanager
    async def with_tasks(app: Starlette) -> AsyncGenerator[Any, None]:
        if tasks.running_here():
            async with lifespan(app) as state:
                yield state
            return
        own = find()
        if own is not None:
            _put_back(own, tasks)
        async with tasks.run() as runner, lifespan(app) as state:
            tasks.started()
            try:
                yield state
            finally:
                with CancelScope(shield=True):
                    await runner.drain()

    return with_tasks
