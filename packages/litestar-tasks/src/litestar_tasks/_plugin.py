"""How tasks attach to an application: as its innermost middleware and around its lifespan."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Unpack, cast

from litestar.exceptions import WebSocketDisconnect
from litestar.plugins import InitPlugin
from tasks_core import RunnerSettings, TaskConfig, TaskRunner, TasksScheduler
from tasks_core.asgi import add_again, lifespan_scheduler, serve

from ._access import NAME, provide_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable

    from litestar import Litestar
    from litestar.config.app import AppConfig
    from litestar.handlers import BaseRouteHandler
    from litestar.types import ASGIApp


class TasksPlugin(InitPlugin):
    """Adds tasks to an application: ``Litestar(plugins=[TasksPlugin()])``.

    A layer of the application (app, router, controller, handler) can have settings of its own,
    as a `TaskConfig` under the key ``"tasks"`` of its ``opt``; the inner layer's settings win
    (contract 3.3). A second plugin without settings changes nothing.

    Args:
        settings: See `RunnerSettings`.

    Raises:
        TypeError: A setting is of the wrong type.
        ValueError: A number is out of its range.

    Since 0.1.0.
    """

    def __init__(self, **settings: Unpack[RunnerSettings]) -> None:
        """Make the plugin; nothing runs before the application's lifespan."""
        TaskRunner(**settings)  # nonsense is refused now, not when the application starts
        self._settings = settings

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Attach to the application.

        Raises:
            TasksAlreadyAddedError: A second plugin has settings, which would be lost.
        """
        if app_config.dependencies.get(NAME) is provide_tasks:
            add_again(self._settings)
            return app_config
        attached = _Attached(self._settings, app_config)
        app_config.dependencies[NAME] = provide_tasks
        app_config.middleware.append(attached.middleware)
        return app_config


class _Attached:
    """Tasks of one application: a plugin may be given to several."""

    def __init__(self, settings: RunnerSettings, app_config: AppConfig) -> None:
        self._settings = settings
        # The application's lifespan managers, of whatever types they are.
        self._managers: list[Any] = app_config.lifespan  # pyright: ignore[reportUnknownMemberType]
        self._managers.insert(0, self._run)
        # There while the lifespan runs.
        self._runner: TaskRunner | None = None

    @asynccontextmanager
    async def _run(self, _: Litestar) -> AsyncGenerator[None, None]:
        """Run the runner around the whole lifespan: entered before all else (contract 5.1)."""
        async with TaskRunner(**self._settings) as runner:
            # Entered last, so left first: tasks end before anything is torn down. It is put there
            # now because plugins after this one may have added managers.
            drained = partial(_drained, runner)
            self._managers.append(drained)
            self._runner = runner
            try:
                with lifespan_scheduler(runner):
                    yield
            finally:
                self._runner = None
                self._managers.remove(drained)

    def middleware(self, app: Any) -> ASGIApp:  # noqa: ANN401 - see below
        """Give each request a scheduler, with the settings of its handler's layers."""

        # Litestar types each message by itself, the core takes any mapping. A `cast` would do, but
        # it is a call for each request.
        def tasks_middleware(scope: Any, receive: Any, send: Any) -> Awaitable[None]:  # noqa: ANN401
            if self._runner is None:
                return cast("Awaitable[None]", app(scope, receive, send))
            make = partial(TasksScheduler, self._runner, _layers(scope["route_handler"]))
            return serve(app, scope, receive, send, make, disconnects=(WebSocketDisconnect,))

        return tasks_middleware


@asynccontextmanager
async def _drained(runner: TaskRunner, _: Litestar) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await runner.drain()


@cache  # a handler belongs to one application, and its layers do not change
def _layers(handler: BaseRouteHandler) -> TaskConfig | None:
    """Merge the settings of the layers that the handler belongs to, weakest first."""
    merged: TaskConfig | None = None
    for layer in handler.ownership_layers:
        config = (layer.opt or {}).get(NAME)
        if config is None:
            continue
        if not isinstance(config, TaskConfig):
            msg = f'opt["{NAME}"] is a TaskConfig, not {type(config).__name__}'
            raise TypeError(msg)
        merged = config if merged is None else merged.merge(config)
    return merged
