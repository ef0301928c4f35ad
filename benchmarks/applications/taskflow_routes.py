"""FastAPI with fastapi-taskflow.

Routes make its BackgroundTasks from FastAPI's, as its dependency does: that one is a sync function,
for which FastAPI uses a thread. Its other way, `install`, changes FastAPI for all applications of
the process, those that it is compared with included.
"""

from importlib import import_module
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, FastAPI

from benchmarks.applications.fastapi_routes import plain
from benchmarks.work import slow_sync_task, slow_task, task

flow: Any = import_module("fastapi_taskflow")  # not typed


def unused(count: int) -> FastAPI:
    """No tasks, in an application that has them."""
    app = plain(count)
    flow.TaskManager().init_app(app)
    return app


def asked(count: int) -> FastAPI:
    """No tasks, in a route that has asked for them by its dependency."""
    del count
    app = FastAPI()
    manager = flow.TaskManager()
    manager.init_app(app)

    @app.get("/")
    async def _route(tasks: Annotated[object, Depends(manager.get_tasks)]) -> dict[str, bool]:
        del tasks
        return {"ok": True}

    return app


def tasks(count: int, *, eager: bool = False) -> FastAPI:
    """After the response."""
    app = FastAPI()
    manager = flow.TaskManager()
    manager.init_app(app)

    @app.get("/")
    async def _route(background: BackgroundTasks) -> dict[str, bool]:
        tasks = flow.ManagedBackgroundTasks(manager, background)
        for _ in range(count):
            tasks.add_task(task, eager=eager)
        return {"ok": True}

    return app


def immediate(count: int) -> FastAPI:
    """At once."""
    return tasks(count, eager=True)


def slow_tasks(milliseconds: int) -> FastAPI:
    """Routes without tasks, beside routes with slow ones."""
    app = plain(0)
    manager = flow.TaskManager()
    manager.init_app(app)
    seconds = milliseconds / 1000

    @app.get("/slow/async")
    async def _slow(background: BackgroundTasks) -> dict[str, Any]:
        flow.ManagedBackgroundTasks(manager, background).add_task(slow_task, 5 * seconds)
        return {}

    @app.get("/slow/sync")
    async def _slow_sync(background: BackgroundTasks) -> dict[str, Any]:
        flow.ManagedBackgroundTasks(manager, background).add_task(slow_sync_task, seconds)
        return {}

    return app
