"""Starlette: plain, with its own tasks, with starlette-tasks."""

from starlette.applications import Starlette
from starlette.background import BackgroundTasks
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette_tasks import add_tasks, current_tasks

from benchmarks.work import task


async def _route(request: Request) -> Response:
    del request
    return JSONResponse({"ok": True})


def plain(count: int) -> Starlette:
    """No tasks, in an application that knows of none."""
    del count
    return Starlette(routes=[Route("/", _route)])


def unused(count: int) -> Starlette:
    """No tasks, in an application that has them."""
    app = plain(count)
    add_tasks(app)
    return app


def own(count: int) -> Starlette:
    """Starlette's BackgroundTasks."""

    async def route(request: Request) -> Response:
        del request
        background = BackgroundTasks()
        for _ in range(count):
            background.add_task(task)
        return JSONResponse({"ok": True}, background=background)

    return Starlette(routes=[Route("/", route)])


def tasks(count: int) -> Starlette:
    """After the response."""

    async def route(request: Request) -> Response:
        del request
        batch = current_tasks().after_response
        for _ in range(count):
            batch.schedule(task)
        return JSONResponse({"ok": True})

    app = Starlette(routes=[Route("/", route)])
    add_tasks(app)
    return app
