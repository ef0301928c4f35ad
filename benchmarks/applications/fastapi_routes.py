"""FastAPI: plain, with its own tasks, with fastapi-tasks.

Also what the published package of that name is measured with: its API is the same here.
"""

from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, FastAPI
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


async def _nothing() -> None:
    pass


def dependency(count: int) -> FastAPI:
    """No tasks, in an application that knows of none, and a dependency that does nothing."""
    del count
    app = FastAPI()

    @app.get("/")
    async def _route(nothing: Annotated[None, Depends(_nothing)]) -> dict[str, bool]:
        del nothing
        return {"ok": True}

    return app


def asked(count: int) -> FastAPI:
    """No tasks, in a route that has asked for them."""
    del count
    app = FastAPI()
    add_tasks(app)

    @app.get("/")
    async def _route(tasks: Tasks) -> dict[str, bool]:
        del tasks
        return {"ok": True}

    return app


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


def current(count: int) -> FastAPI:
    """After the response, in a route that has not asked for them by its parameters."""
    from fastapi_tasks import current_tasks  # noqa: PLC0415 - not in the published package

    app = FastAPI()
    add_tasks(app)

    @app.get("/")
    async def _route() -> dict[str, bool]:
        tasks = current_tasks()
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
