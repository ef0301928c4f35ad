"""An in-memory task manager: start a job, ask for its status and result, cancel it.

The application's registry is the manager. The client may name the job; the name of a job that
lives is refused with 409.

    curl -X POST http://127.0.0.1:8000/process -H "Content-Type: application/json" \
        -d '{"name": "march", "numbers": [3, 1, 2]}'
    curl http://127.0.0.1:8000/process/ID
    curl -X DELETE http://127.0.0.1:8000/process/ID
"""

import anyio
from fastapi import FastAPI, HTTPException
from fastapi_tasks import Task, Tasks, TaskState, add_tasks
from pydantic import BaseModel

SECONDS = 5.0
"""How long a job takes."""

app = FastAPI()
add_tasks(app)


class ProcessRequest(BaseModel):
    """What a client sends."""

    name: str | None = None
    numbers: list[float]


class Status(BaseModel):
    """What a client is told."""

    task_id: str
    status: TaskState
    result: float | None = None
    error: str | None = None


async def heavy_processing(numbers: list[float]) -> float:
    """Compute the mean, and take long."""
    await anyio.sleep(SECONDS)
    return sum(numbers) / len(numbers)


def find(task_id: str, tasks: Tasks) -> Task:
    """Return the job of an id."""
    if (task := tasks.get(task_id)) is None:
        raise HTTPException(404, "There is no such job")
    return task


@app.post("/process", status_code=202)
async def start_processing(data: ProcessRequest, tasks: Tasks) -> Status:
    """Start a job."""
    # Nothing is awaited between the question and `schedule`, so no other request comes between.
    if data.name is not None and tasks.registry.living(name=data.name):
        raise HTTPException(409, f"Job {data.name} is running already")
    job = tasks.task(name=data.name).schedule(heavy_processing, data.numbers)
    return Status(task_id=job.id, status=job.state)


@app.get("/process/{task_id}")
async def get_processing_status(task_id: str, tasks: Tasks) -> Status:
    """Return the state of a job, and what it has returned or raised."""
    job = find(task_id, tasks)
    error = job.record().error
    return Status(task_id=job.id, status=job.state, result=job.result, error=error)


@app.delete("/process/{task_id}")
async def cancel_processing(task_id: str, tasks: Tasks) -> dict[str, bool]:
    """Cancel a job; one that has ended cannot be."""
    return {"cancelled": find(task_id, tasks).cancel()}
