"""A queue of tasks in Redis, by Docket, whose workers take over what another one has left.

This starts a redis-server and a worker, too; with REDIS_URL, only a worker. Where there is no
redis-server, tasks run in this process.

    curl -X POST "http://127.0.0.1:8000/tasks?kind=report" --json '{"month": 5}'
    curl http://127.0.0.1:8000/tasks/ID
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from docket import Docket
from fastapi import FastAPI, HTTPException
from fastapi_tasks import Tasks, TaskStatus, add_tasks
from tasks_core.carriers.docket import DocketCarrier

from examples import nearby
from examples.task_queue.work import Kind, process

docket = Docket("examples", url=nearby.REDIS or "memory://")


async def process_task(kind: Kind, payload: dict[str, Any]) -> dict[str, Any]:
    """Do the work, in whatever process."""
    return await process(kind, payload)


known = [process_task]
"""What a worker knows: its option ``--tasks``."""
docket.register(process_task)

WORKER = (
    *("docket", "worker", "--docket", "examples", "--url", nearby.REDIS),
    *("--tasks", "examples.task_queue.docket_app:known"),
)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    """Have a worker as long as the application is up."""
    with nearby.start(*WORKER):
        async with docket:
            yield


app = FastAPI(lifespan=lifespan)
add_tasks(app, carriers=[DocketCarrier(docket)] if nearby.REDIS else [])


@app.post("/tasks", status_code=202)
async def create_task(kind: Kind, payload: dict[str, Any], tasks: Tasks) -> dict[str, str]:
    """Answer when the queue has it: nothing that was answered with 202 is lost."""
    task = tasks.after_route.task(confirm=True).schedule(process_task, kind, payload)
    return {"task_id": task.id}


@app.get("/tasks/{task_id}")
async def get_task(task_id: str, tasks: Tasks) -> TaskStatus:
    """Return what has become of it, wherever it runs."""
    if (status := await tasks.status(task_id)) is None:
        raise HTTPException(404, "There is no such task")
    return status
