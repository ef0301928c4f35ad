"""What the checkers promise of fastapi-tasks; checked, never run (contract 6.3)."""

from collections.abc import Awaitable, Callable
from typing import Annotated, assert_type

from fastapi import Depends, FastAPI, WebSocket
from fastapi_tasks import (
    FastAPITasksError,
    FastAPITasksUninitializedAppError,
    PhaseScheduler,
    Retry,
    Task,
    TaskConfig,
    TaskErrorHandler,
    TaskObserver,
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
observers: list[TaskObserver] = [lambda task: None]
add_tasks(FastAPI(), observers=observers, config=TaskConfig(timeout=5, key="all", limit=100))
add_tasks(FastAPI(), observers=[1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
add_tasks(app, conf=None)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
error_class: type[FastAPITasksError] = FastAPITasksUninitializedAppError


async def connect(user: str) -> int:
    return len(user)


async def audit(tasks: Tasks) -> PhaseScheduler:
    assert_type(tasks, TasksScheduler)
    return tasks.after_response.task(name="audit")


async def twice(attempt: Callable[[], Awaitable[object]]) -> object:
    return await attempt()


retry: Retry = twice


@app.get("/")
async def route(tasks: Tasks, audited: Annotated[PhaseScheduler, Depends(audit)]) -> int:
    assert_type(tasks, TasksScheduler)
    audited.schedule(connect, 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    return await tasks.task(shield=True, retry=retry, timeout=1).schedule(connect, user="x").wait()


@app.get("/sync")
def sync_route(tasks: Tasks) -> str:
    return tasks.after_route.schedule(connect, "x").id


@app.websocket("/socket")
async def socket(websocket: WebSocket, tasks: Tasks) -> None:
    assert_type(tasks.schedule(websocket.accept).result, None)
