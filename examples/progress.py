"""Start a task, follow its progress, and stop it.

A task reports how far it has come, its record says so to whoever asks, and its id finds it. A
client may give it a name of its own; the name of a task that lives is refused with 409.

    curl -X POST "http://127.0.0.1:8000/start-task/spring-sale?items_count=20"
    curl http://127.0.0.1:8000/task-progress/ID
    curl -X DELETE http://127.0.0.1:8000/task-progress/ID
"""

import time

from anyio.from_thread import check_cancelled
from fastapi import FastAPI, HTTPException
from fastapi_tasks import Task, TaskRecord, Tasks, add_tasks, current_task

app = FastAPI()
add_tasks(app)


def process_item(number: int) -> None:  # noqa: ARG001 - a stand-in
    """Stand for what takes its time."""
    time.sleep(0.5)


def long_running_task(items_count: int) -> None:
    """Process items, in a thread."""
    task = current_task()
    for number in range(1, items_count + 1):
        check_cancelled()  # a thread cannot be stopped from outside
        process_item(number)
        task.report(number, total=items_count, message=f"Processed item {number}")


@app.post("/start-task", status_code=202)
@app.post("/start-task/{name}", status_code=202)
async def start_task(items_count: int, tasks: Tasks, name: str | None = None) -> dict[str, str]:
    """Start the task once the response is out, and say where its progress is."""
    # Nothing is awaited between the question and `schedule`, so no other request comes between.
    if name is not None and tasks.registry.living(name=name):
        raise HTTPException(409, f"There is a task {name} already")
    task = tasks.after_response.task(name=name).schedule(long_running_task, items_count)
    return {"task_id": task.id, "check_progress_url": f"/task-progress/{task.id}"}


def find(task_id: str, tasks: Tasks) -> Task:
    """Return the task of an id, while it lives and for some time afterwards."""
    if (task := tasks.get(task_id)) is None:
        raise HTTPException(404, "There is no such task")
    return task


@app.get("/task-progress/{task_id}")
async def get_task_progress(task_id: str, tasks: Tasks) -> TaskRecord:
    """Return the task's state, its progress, and the error if it has failed."""
    return find(task_id, tasks).record()


@app.delete("/task-progress/{task_id}", status_code=202)
async def stop_task(task_id: str, tasks: Tasks) -> TaskRecord:
    """Stop the task: at once if it has not begun, and after the present item if it has."""
    task = find(task_id, tasks)
    task.cancel()
    return task.record()
