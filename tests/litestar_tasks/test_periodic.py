"""What runs by the clock in a Litestar application."""

from datetime import datetime, timedelta
from typing import Any, cast

import anyio
import pytest
from litestar import Litestar, post
from litestar.config.app import AppConfig
from litestar.plugins import InitPlugin
from litestar.testing import TestClient
from litestar_tasks import (
    Every,
    Periodic,
    TaskConfig,
    Tasks,
    TasksPlugin,
)
from tasks_core.asgi import ASGIApp

from tests.conformance.driver import GUARD, serve

pytestmark = pytest.mark.anyio


async def nothing() -> None: ...


def application(*handlers: Any, **options: Any) -> ASGIApp:
    """Make an application; as an `ASGIApp`, since Litestar types each message by itself."""
    return cast("ASGIApp", Litestar(handlers, logging_config=None, **options))


def test_periodic() -> None:
    """10.1, 10.7 A handler of an application that has started lists it, and runs it."""
    ran: list[str] = []

    @post("/")
    async def trigger(tasks: Tasks) -> list[str]:
        await tasks.periodic["refresh"].run().wait()
        return list(tasks.periodic)

    refresh = Periodic(lambda: ran.append("ran"), Every(hours=1), TaskConfig(name="refresh"))
    app = Litestar([trigger], plugins=[TasksPlugin(periodic=[refresh])], logging_config=None)
    with TestClient(app) as client:
        assert client.post("/").json() == ["refresh"]
    assert ran == ["ran"]


class Soon:
    """A trigger that gives one moment, right after now."""

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime, /
    ) -> datetime | None:
        return now + timedelta(microseconds=1) if previous_fire_time is None else None


async def test_runs_wait_for_start_up_hooks() -> None:
    """10.1 What `on_startup` opens is there when they run."""
    log: list[str] = []
    ran = anyio.Event()

    async def run() -> None:
        log.append("run")
        ran.set()

    async def open_pool() -> None:
        await anyio.wait_all_tasks_blocked()  # the moment has come
        log.append("opened")

    plugin = TasksPlugin(periodic=[Periodic(run, Soon())])
    async with serve(application(plugins=[plugin], on_startup=[open_pool])):
        await ran.wait()
    assert log == ["opened", "run"]


class Replaces(InitPlugin):
    """A plugin that puts another list in the place of the application's start-up hooks."""

    def __init__(self, *hooks: Any) -> None:
        self._hooks = hooks

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        app_config.on_startup = [*self._hooks]
        return app_config


async def test_runs_where_a_later_plugin_replaces_the_hooks() -> None:
    """10.1 They run all the same, with each start, after the hooks that are there."""
    log: list[str] = []
    runs: list[anyio.Event] = []

    async def run() -> None:
        log.append("run")
        runs[-1].set()

    async def open_pool() -> None:
        await anyio.wait_all_tasks_blocked()
        log.append("opened")

    plugin = TasksPlugin(periodic=[Periodic(run, Soon())])
    app = application(plugins=[plugin, Replaces(open_pool)])
    for _ in range(2):
        runs.append(anyio.Event())
        with anyio.fail_after(GUARD):
            async with serve(app):
                await runs[-1].wait()
    assert log == ["opened", "run"] * 2


def test_what_is_none_is_refused() -> None:
    """10.8 By the plugin, before it is given to an application."""
    with pytest.raises(TypeError, match=r"periodic is a list of Periodic\(...\), and function"):
        TasksPlugin(periodic=[nothing])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
