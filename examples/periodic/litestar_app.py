"""Clean up at midnight, send a report at nine, and do so by hand, on Litestar.

Each run is a task like any other (promise 10.1), and `tasks.periodic` lists, runs and pauses them
(10.7). Who may do that is a question for your application: here, who knows the key, so each of
these needs `-H "x-admin-key: secret"`.

    curl http://127.0.0.1:8000/admin/periodic
    curl -X POST http://127.0.0.1:8000/admin/periodic/daily_report/run
    curl -X PUT "http://127.0.0.1:8000/admin/periodic/daily_report?paused=true"
"""

from typing import Any

from litestar import Controller, Litestar, get, post, put
from litestar.connection import ASGIConnection
from litestar.exceptions import NotFoundException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery
from litestar_tasks import PeriodicTask, Tasks, TasksPlugin

from examples.periodic.tasks import PERIODIC, open_session, show


@post("/sessions")
async def log_in(seconds: FromQuery[float] = 3600) -> dict[str, str]:
    """Open a session."""
    return {"token": open_session(seconds)}


def check_key(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
    """Let in who knows the key."""
    if connection.headers.get("x-admin-key") != "secret":
        raise PermissionDeniedException("This is for administrators")


def find(name: str, tasks: Tasks) -> PeriodicTask:
    """Return the periodic task of a name."""
    if (periodic := tasks.periodic.get(name)) is None:
        raise NotFoundException("There is no such periodic task")
    return periodic


class Admin(Controller):
    """What administrators may do."""

    path = "/admin/periodic"
    guards = [check_key]  # noqa: RUF012 - Litestar's

    @get()
    async def list_all(self, tasks: Tasks) -> list[dict[str, str | bool | None]]:
        """List what runs by the clock, and when."""
        return [show(periodic) for periodic in tasks.periodic.values()]

    @post("/{name:str}/run", status_code=202)
    async def run(self, name: FromPath[str], tasks: Tasks) -> dict[str, str]:
        """Run one now, whatever the clock says."""
        return {"task_id": find(name, tasks).run().id}

    @put("/{name:str}")
    async def pause(
        self, name: FromPath[str], paused: FromQuery[bool], tasks: Tasks
    ) -> dict[str, str | bool | None]:
        """Let its times pass, or no longer."""
        periodic = find(name, tasks)
        periodic.paused = paused
        return show(periodic)


app = Litestar(
    [log_in, Admin],
    plugins=[TasksPlugin(periodic=PERIODIC)],
    logging_config=None,  # it is configured where the program is started
)
