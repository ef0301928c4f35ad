"""Litestar: plain, with its own tasks, with litestar-tasks."""

from litestar import Litestar, Response, get
from litestar.background_tasks import BackgroundTask, BackgroundTasks
from litestar_tasks import Tasks, TasksPlugin

from benchmarks.work import task


@get("/")
async def _route() -> dict[str, bool]:
    return {"ok": True}


def plain(count: int) -> Litestar:
    """No tasks, in an application that knows of none."""
    del count
    return Litestar([_route], openapi_config=None)


def unused(count: int) -> Litestar:
    """No tasks, in an application that has them."""
    del count
    return Litestar([_route], openapi_config=None, plugins=[TasksPlugin()])


def own(count: int) -> Litestar:
    """Litestar's BackgroundTasks, of which a single one needs no list."""

    @get("/")
    async def route() -> Response[dict[str, bool]]:
        if count == 1:
            return Response({"ok": True}, background=BackgroundTask(task))
        background = BackgroundTasks([BackgroundTask(task) for _ in range(count)])
        return Response({"ok": True}, background=background)

    return Litestar([route], openapi_config=None)


def tasks(count: int) -> Litestar:
    """After the response."""

    @get("/")
    async def route(tasks: Tasks) -> dict[str, bool]:
        for _ in range(count):
            tasks.after_response.schedule(task)
        return {"ok": True}

    return Litestar([route], openapi_config=None, plugins=[TasksPlugin()])
