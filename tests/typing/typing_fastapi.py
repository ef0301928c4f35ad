"""What the checkers promise of fastapi-tasks; checked, never run (contract 6.3)."""

from typing import Annotated, assert_type

from fastapi import Depends, FastAPI, WebSocket
from fastapi_tasks import (
    FastAPITasksError,
    FastAPITasksUninitializedAppError,
    PhaseScheduler,
    Task,
    TaskConfig,
    TaskErrorHandler,
    Tasks,
    TasksScheduler,
    add_tasks,
)


async def on_error(task: Task, error: Exception) -> None:
    assert_type(task.name, str)
    del error


handler: TaskErrorHandler = on_error
app = FastAPI()
add_tasks(app, config=TaskConfig(on_error=on_error), grace_period=5, thread_limit=4)
add_tasks(app, conf=None)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
error_class: type[FastAPITasksError] = FastAPITasksUninitializedAppError


async def connect(user: str) -> int:
    return len(user)


async def audit(tasks: Tasks) -> PhaseScheduler:
    assert_type(tasks, TasksScheduler)
    return tasks.after_response.task(name="audit")


@app.get("/")
async def route(tasks: Tasks, audited: Annotated[PhaseScheduler, Depends(audit)]) -> int:
    assert_type(tasks, TasksScheduler)
    audited.schedule(connect, 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    return await tasks.task(shield=True).schedule(connect, user="x").wait()


@app.get("/sync")
def sync_route(tasks: Tasks) -> str:
    return tasks.after_route.schedule(connect, "x").id


@app.websocket("/socket")
async def socket(websocket: WebSocket, tasks: Tasks) -> None:
    assert_type(tasks.schedule(websocket.accept).result, None)
