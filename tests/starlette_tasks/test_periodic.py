"""What runs by the clock in a Starlette application."""

from __future__ import annotations

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette_tasks import (
    Every,
    MountedSettingsError,
    Periodic,
    TaskConfig,
    add_tasks,
    get_tasks,
)

from tests.conformance.driver import GUARD


def test_periodic() -> None:
    """10.1, 10.7 A route of an application that has started lists it, and runs it."""
    ran: list[str] = []

    async def refresh() -> str:
        ran.append("refreshed")
        return "done"

    async def trigger(request: Request) -> JSONResponse:
        tasks = get_tasks(request)
        assert list(tasks.periodic) == ["refresh"]
        task = tasks.periodic["refresh"].run()
        return JSONResponse({"name": task.name, "result": await task.wait()})

    app = Starlette(routes=[Route("/", trigger, methods=["POST"])])
    add_tasks(app, periodic=[Periodic(refresh, Every(days=1), TaskConfig(name="refresh"))])
    with TestClient(app) as client:
        assert client.post("/").json() == {"name": "refresh", "result": "done"}
    assert ran == ["refreshed"]


@pytest.mark.anyio
async def test_a_lifespan_by_hand() -> None:
    """10.1 Its clocks run once it has started, too."""
    ran = anyio.Event()

    async def note() -> None:
        ran.set()

    app = Starlette()
    add_tasks(app, periodic=[Periodic(note, Every(seconds=0.01))])
    async with app.router.lifespan_context(app):
        with anyio.fail_after(GUARD):
            await ran.wait()


async def nothing() -> None: ...


def test_a_mounted_application_has_none() -> None:
    """10.8 What is mounted has its tasks from the application further out."""
    inner = Starlette()
    add_tasks(inner, periodic=[Periodic(nothing, Every(days=1))])
    app = Starlette(routes=[Mount("/inner", app=inner)])
    add_tasks(app)
    with pytest.raises(MountedSettingsError, match="periodic"), TestClient(app):
        pass


def test_what_is_none_is_refused() -> None:
    """10.8 By the call that adds it."""
    with pytest.raises(TypeError, match=r"periodic is a list of Periodic\(...\), and function"):
        add_tasks(Starlette(), periodic=[nothing])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
