"""FastAPI: plain, with its own tasks, with fastapi-tasks.

Also what the published package of that name is measured with: its API is the same here.
"""

from typing import Any

from fastapi import BackgroundTasks, FastAPI
from fastapi_tasks import Tasks, add_tasks

from benchmarks.work import slow_sync_task, slow_task, task


def plain(count: int) -> FastAPI:
    """No tasks, in an application that knows of none."""
    del count
    app = FastAPI()
    _add_plain(app)
    return app


def unused(count: int) -> FastAPI:
    """No tasks, in an application that has them."""
    app = plain(count)
    add_tasks(app)
    return app


def _add_plain(app: FastAPI) -> None:
    @app.get("/")
    async def _route() -> dict[str, bool]:
        return {"ok": True}

    @app.get("/sync")
    def _sync_route() -> dict[str, bool]:
        return {"ok": True}


def own(count: int) -> FastAPI:
    """FastAPI's BackgroundTasks."""
    app = FastAPI()

    @app.get("/")
    async def _route(background: BackgroundTasks) -> dict[str, bool]:
        for _ in range(count):
            background.add_task(task)
        return {"ok": True}

    return app


def tasks(count: int) -> FastAPI:
    """After the response."""
    app = FastAPI()
    add_tasks(app)

    @app.get("/")
    async def _route(tasks: Tasks) -> dict[str, bool]:
        for _ in range(count):
            tasks.after_response.schedule(task)
        return {"ok": True}

    return app


def immediate(count: int) -> FastAPI:
    """At once."""
    app = FastAPI()
    add_tasks(app)

    @app.get("/")
    async def _route(tasks: Tasks) -> dict[str, bool]:
        for _ in range(count):
            tasks.schedule(task)
        return {"ok": True}

    return app


def slow_own(milliseconds: int) -> FastAPI:
    """Routes without tasks, beside routes with slow ones of FastAPI's."""
    app = plain(0)
    seconds = milliseconds / 1000

    @app.get("/slow/async")
    async def _slow(background: BackgroundTasks) -> dict[str, Any]:
        background.add_task(slow_task, 5 * seconds)
        return {}

    @app.get("/slow/sync")
    async def _slow_sync(background: BackgroundTasks) -> dict[str, Any]:
        background.add_task(slow_sync_task, seconds)
        return {}

    return app


def slow_tasks(milliseconds: int) -> FastAPI:
    """Routes without tasks, beside routes with slow ones."""
    app = unused(0)
    seconds = milliseconds / 1000

    @app.get("/slow/async")
    async def _slow(tasks: Tasks) -> dict[str, Any]:
        tasks.after_response.schedule(slow_task, 5 * seconds)
        return {}

    @app.get("/slow/sync")
    async def _slow_sync(tasks: Tasks) -> dict[str, Any]:
        tasks.after_response.schedule(slow_sync_task, seconds)
        return {}

    return app
