"""How tasks attach to an application: around all of it, and around its lifespan."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any, Unpack, cast
from weakref import WeakSet

from anyio import CancelScope
from litestar.exceptions import ImproperlyConfiguredException, WebSocketDisconnect
from litestar.plugins import InitPlugin, ReceiveRoutePlugin
from litestar.types import Scope
from tasks_core import RunnerSettings, TaskConfig, TaskRunner, TasksScheduler
from tasks_core.asgi import ApplicationTasks, add_again, serve_route, tell_failure

from ._access import NAME
from ._layers import (
    ProvideTasks,
    check_handler,
    check_name,
    check_opt,
    merge_layers,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from litestar import Litestar
    from litestar.config.app import AppConfig
    from litestar.routes import BaseRoute
    from litestar.types import ASGIApp


class TasksPlugin(InitPlugin, ReceiveRoutePlugin):
    """Adds tasks to an application: ``Litestar(plugins=[TasksPlugin()])``.

    A layer of the application (app, router, controller, handler) can have settings of its own,
    as a `TaskConfig` under the key ``"tasks"`` of its ``opt``; the inner layer's settings win
    (contract 3.3). A second plugin without settings changes nothing.

    Its settings are those of `RunnerSettings`.

    Raises:
        TypeError: A setting is of the wrong type.
        ValueError: A number is out of its range.
    """

    def __init__(self, **settings: Unpack[RunnerSettings]) -> None:
        """Make the plugin; nothing runs before the application's lifespan."""
        ApplicationTasks(**settings)  # nonsense is refused now, not when the application is made
        self._settings = settings

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Attach to the application.

        Raises:
            TasksAlreadyAddedError: A second plugin has settings, which would be lost.
            ImproperlyConfiguredException: The application has a dependency of the plugin's name,
                or something else than a `TaskConfig` in its ``opt`` under that name.
        """
        check_name(app_config.dependencies)
        if NAME in app_config.dependencies:
            add_again(self._settings)
            return app_config
        check_opt(app_config.opt, "The application")
        # First, so that it has told before a user's hook schedules: what is scheduled after a
        # failure runs. Here, for an application that is mounted, whose lifespan nobody runs.
        app_config.after_exception.insert(0, _tell)  # pyright: ignore[reportUnknownMemberType]
        _Attached(self._settings, app_config)
        return app_config

    def receive_route(self, route: BaseRoute) -> None:
        """Check the settings and the parameters of a route, and see where it ends.

        Raises:
            ImproperlyConfiguredException: A layer has something else than a `TaskConfig` in its
                ``opt``, or a function a parameter of the plugin's name that is not for tasks.
        """
        several: list[Any] = getattr(route, "route_handlers", [])
        for handler in several or [getattr(route, "route_handler")]:  # noqa: B009 - by its kind
            check_handler(handler)
            # Without middleware nothing is between the route and what is around the application.
            if handler.resolve_middleware():
                handler.middleware = [*(handler.middleware or ()), _around_route]


def _with_opt(settings: RunnerSettings, opt: Mapping[str, Any]) -> RunnerSettings:
    """Return the settings with the application's layer, for where there is no handler (3.3)."""
    layer: TaskConfig | None = opt.get(NAME)
    if layer is None:
        return settings
    return {**settings, "config": (settings.get("config") or TaskConfig()).merge(layer)}


class _Attached:
    """Tasks of one application: a plugin may be given to several."""

    def __init__(self, settings: RunnerSettings, app_config: AppConfig) -> None:
        self._settings = settings
        # A handler's layers do not change. The cache is the application's: it ends with it.
        self._merge = cache(merge_layers)
        self._app_config = app_config
        # What tasks were put around, once they were.
        self._within: object = None
        self._drained: WeakSet[TaskRunner] = WeakSet()
        app_config.dependencies[NAME] = ProvideTasks(self._get_tasks, sync_to_thread=False)
        app_config.lifespan.insert(0, self._run)  # pyright: ignore[reportUnknownMemberType]
        app_config.on_startup.append(self._check)

    @cached_property
    def _tasks(self) -> ApplicationTasks:
        # Made when the application is first run or asked for them: plugins after this one may have
        # put settings into its `opt`, or another `opt` there.
        opt = self._app_config.opt
        check_opt(opt, "The application")
        return ApplicationTasks(**_with_opt(self._settings, opt))

    @asynccontextmanager
    async def _run(self, app: Litestar) -> AsyncGenerator[None, None]:
        """Run a runner around the whole lifespan: entered before all else (contract 5.1)."""
        self._put_around(app)
        # Entered after each manager, so left before each: tasks end before anything is torn down,
        # also where a later one fails. It is put there now because plugins after this one may have
        # added managers, or another list.
        managers = cast("list[Any]", self._app_config.lifespan)  # pyright: ignore[reportUnknownMemberType]
        later = managers.index(self._run) + 1
        others = [manager for manager in managers[later:] if manager != self._drain]
        managers[later:] = [self._drain, *(it for one in others for it in (one, self._drain))]
        async with self._tasks.run():
            yield

    def _put_around(self, app: Litestar) -> None:
        """Put tasks around all of an application, and hooks among its own, where they are not yet.

        Now, as plugins after this one may have added hooks, or put other lists there.
        """
        # Once, whatever was put around that since; unless somebody has taken it away again.
        if self._within is None or self._within is app.asgi_handler:
            self._within = app.asgi_handler
            app.asgi_handler = partial(self._serve, app.asgi_handler)
        hooks = cast("list[Any]", app.after_exception)  # pyright: ignore[reportUnknownMemberType]
        hooks[:] = [_tell, *(hook for hook in hooks if hook is not _tell)]
        app.before_send = [_Telling.of(hook) for hook in app.before_send]
        app.on_startup = [*(hook for hook in app.on_startup if hook != self._check), self._check]

    @asynccontextmanager
    async def _drain(self, _: Litestar) -> AsyncGenerator[None, None]:
        runner = self._tasks.running_here()
        assert runner is not None  # noqa: S101 - `_run` was entered before
        self._drained.add(runner)
        try:
            yield
        finally:
            with CancelScope(shield=True):
                await runner.drain()

    def _check(self) -> None:
        """Refuse to start where tasks would not end before what they use."""
        if self._tasks.running_here() not in self._drained:
            msg = (
                "A plugin has put another AppConfig in the place of the one that TasksPlugin was "
                "given, so tasks would run on closed resources: put TasksPlugin after that plugin."
            )
            raise ImproperlyConfiguredException(msg)
        self._tasks.started()

    def _get_tasks(self, scope: Scope) -> TasksScheduler:
        """Return the request's tasks, to a handler that asks for them."""
        return self._tasks.get_here(cast("Any", scope), self._layers)

    # Litestar types each message by itself, the core takes any mapping. A `cast` would do, but it
    # is a call for each request.
    async def _serve(self, app: Any, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        """Give each request a scheduler, with the settings of its handler's layers."""
        await self._tasks.serve(
            app, scope, receive, send, (WebSocketDisconnect,), layers=self._layers
        )

    def _layers(self, scope: Any, config: TaskConfig) -> TaskConfig | None:  # noqa: ANN401
        """Put the settings of the handler's layers over the application's, once it is known."""
        if "route_handler" not in scope:
            return None
        application, layers = self._merge(scope["route_handler"])
        if application is not scope["litestar_app"]:
            return None  # it is of the application in which this one is mounted
        return config if layers is None else config.merge(layers)


def _around_route(app: Any) -> ASGIApp:  # noqa: ANN401 - as above
    """See where a route ends, as its innermost middleware."""

    # A coroutine function, as who wraps an ASGI application asks for that.
    async def serve(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        await serve_route(app, scope, receive, send)

    return serve


class _Telling:
    """Tells what a ``before_send`` hook raises: nothing else says that it was not the server."""

    def __init__(self, hook: Any) -> None:  # noqa: ANN401 - as above
        self._hook = hook

    @classmethod
    def of(cls, hook: Any) -> Any:  # noqa: ANN401
        return hook if isinstance(hook, cls) else cls(hook)

    async def __call__(self, message: Any, scope: Any) -> None:  # noqa: ANN401
        try:
            await self._hook(message, scope)
        except BaseException as error:
            tell_failure(scope, error)
            raise


async def _tell(error: Exception, scope: Any) -> None:  # noqa: ANN401
    """Say that a request's route has raised what Litestar answers (contract 1.6)."""
    tell_failure(scope, error)
