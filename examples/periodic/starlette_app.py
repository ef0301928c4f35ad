"""Clean up at midnight, send a report at nine, and do so by hand, on Starlette.

Each run is a task like any other (promise 10.1), and `tasks.periodic` lists, runs and pauses them
(10.7). Who may do that is a question for your application: here, who knows the key, so each of
these needs `-H "x-admin-key: secret"`.

    curl http://127.0.0.1:8000/admin/periodic
    curl -X POST http://127.0.0.1:8000/admin/periodic/daily_report/run
    curl -X PUT "http://127.0.0.1:8000/admin/periodic/daily_report?paused=true"
"""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette_tasks import PeriodicTask, add_tasks, get_tasks

from examples.periodic.tasks import PERIODIC, open_session, show


async def log_in(request: Request) -> JSONResponse:
    """Open a session."""
    seconds = float(request.query_params.get("seconds", "3600"))
    return JSONResponse({"token": open_session(seconds)}, 201)


def check_key(request: Request) -> None:
    """Let in who knows the key."""
    if request.headers.get("x-admin-key") != "secret":
        raise HTTPException(403, "This is for administrators")


def find(request: Request) -> PeriodicTask:
    """Return the periodic task of a name, for who may see it."""
    check_key(request)
    periodic = get_tasks(request).periodic.get(request.path_params["name"])
    if periodic is None:
        raise HTTPException(404, "There is no such periodic task")
    return periodic


async def list_all(request: Request) -> JSONResponse:
    """List what runs by the clock, and when."""
    check_key(request)
    return JSONResponse([show(periodic) for periodic in get_tasks(request).periodic.values()])


async def run(request: Request) -> JSONResponse:
    """Run one now, whatever the clock says."""
    return JSONResponse({"task_id": find(request).run().id}, 202)


async def pause(request: Request) -> JSONResponse:
    """Let its times pass, or no longer."""
    periodic = find(request)
    periodic.paused = request.query_params.get("paused") == "true"
    return JSONResponse(show(periodic))


app = Starlette(
    routes=[
        Route("/sessions", log_in, methods=["POST"]),
        Mount(
            "/admin",
            routes=[
                Route("/periodic", list_all),
                Route("/periodic/{name}/run", run, methods=["POST"]),
                Route("/periodic/{name}", pause, methods=["PUT"]),
            ],
        ),
    ]
)
add_tasks(app, periodic=PERIODIC)
