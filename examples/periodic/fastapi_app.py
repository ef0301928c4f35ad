"""Clean up at midnight, send a report at nine, and do so by hand, on FastAPI.

Each run is a task like any other (promise 10.1), and `tasks.periodic` lists, runs and pauses them
(10.7). Who may do that is a question for your application: here, who knows the key, so each of
these needs `-H "x-admin-key: secret"`.

    curl http://127.0.0.1:8000/admin/periodic
    curl -X POST http://127.0.0.1:8000/admin/periodic/daily_report/run
    curl -X PUT "http://127.0.0.1:8000/admin/periodic/daily_report?paused=true"
"""

from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException
from fastapi_tasks import PeriodicTask, Tasks, add_tasks

from examples.periodic.tasks import PERIODIC, open_session, show

app = FastAPI()
add_tasks(app, periodic=PERIODIC)


@app.post("/sessions", status_code=201)
async def log_in(seconds: float = 3600) -> dict[str, str]:
    """Open a session."""
    return {"token": open_session(seconds)}


async def check_key(x_admin_key: Annotated[str, Header()] = "") -> None:
    """Let in who knows the key."""
    if x_admin_key != "secret":
        raise HTTPException(403, "This is for administrators")


admin = APIRouter(prefix="/admin/periodic", dependencies=[Depends(check_key)])


async def find(name: str, tasks: Tasks) -> PeriodicTask:
    """Return the periodic task of a name."""
    if (periodic := tasks.periodic.get(name)) is None:
        raise HTTPException(404, "There is no such periodic task")
    return periodic


Found = Annotated[PeriodicTask, Depends(find)]


@admin.get("")
async def list_all(tasks: Tasks) -> list[dict[str, str | bool | None]]:
    """List what runs by the clock, and when."""
    return [show(periodic) for periodic in tasks.periodic.values()]


@admin.post("/{name}/run", status_code=202)  # noqa: FAST003 - it is a parameter of `find`
async def run(periodic: Found) -> dict[str, str]:
    """Run one now, whatever the clock says."""
    return {"task_id": periodic.run().id}


@admin.put("/{name}")  # noqa: FAST003 - likewise
async def pause(periodic: Found, *, paused: bool) -> dict[str, str | bool | None]:
    """Let its times pass, or no longer."""
    periodic.paused = paused
    return show(periodic)


app.include_router(admin)
