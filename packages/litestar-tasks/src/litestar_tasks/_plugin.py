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
    from collections.abc import AsyncGenerator

    from litestar import Litestar
    from litestar.config.app import AppConfig
    from litestar.handlers import BaseRouteHandler
    from litestar.types import ASGIApp, Receive, Scope, Send


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

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """Give each request a scheduler, with the settings of its handler's layers."""

        async def tasks_middleware(scope: Scope, receive: Receive, send: Send) -> None:
            if self._runner is None:
                await app(scope, receive, send)
                return
            # Litestar types each message by itself; the core takes any mapping.
            await serve(
                cast("Any", app),
                cast("Any", scope),
                cast("Any", receive),
                cast("Any", send),
                TasksScheduler(self._runner, _layers(scope["route_handler"])),
                disconnects=(WebSocketDisconnect,),
            )

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
