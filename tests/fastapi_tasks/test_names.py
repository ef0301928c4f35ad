"""What `fastapi_tasks` exports, and the errors that its users meet."""

from typing import Literal

import fastapi_tasks
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from fastapi_tasks import (
    FastAPITasksError,
    FastAPITasksUninitializedAppError,
    TaskConfig,
    Tasks,
    TasksAlreadyAddedError,
    TasksBatch,
    TasksScheduler,
    add_tasks,
)

DOCUMENTED = {
    "FastAPITasksError",
    "FastAPITasksUninitializedAppError",
    "Task",
    "TaskConfig",
    "TaskErrorHandler",
    "Tasks",
    "TasksBatch",
    "TasksScheduler",
    "add_tasks",
}


def test_documented_names() -> None:
    """Every documented name is exported."""
    assert set(fastapi_tasks.__all__) >= DOCUMENTED
    assert all(hasattr(fastapi_tasks, name) for name in fastapi_tasks.__all__)


def test_errors() -> None:
    """5.6 One `except FastAPITasksError` catches all errors that are raised on purpose."""
    assert issubclass(FastAPITasksUninitializedAppError, FastAPITasksError)
    assert issubclass(TasksAlreadyAddedError, FastAPITasksError)


def serving(*, add: bool) -> FastAPI:
    app = FastAPI()
    if add:
        add_tasks(app)

    @app.get("/")
    async def route(tasks: Tasks) -> str:
        assert isinstance(tasks, TasksScheduler)
        assert isinstance(tasks.after_route, TasksBatch)
        return type(tasks.task(name="a name").schedule(len, "").config).__name__

    return app


def test_without_add_tasks() -> None:
    """5.6 Where tasks were not added, using them raises an error that says how to add them."""
    error = pytest.raises(FastAPITasksUninitializedAppError, match=r"add_tasks\(app\)")
    with TestClient(serving(add=False)) as client, error:
        client.get("/")


def test_client_that_runs_no_lifespan() -> None:
    """5.6 A test client without `with` gets an error that names the cause and the remedy."""
    client = TestClient(serving(add=True))
    with pytest.raises(FastAPITasksUninitializedAppError, match="with TestClient"):
        client.get("/")


def test_client_on_each_event_loop(anyio_backend: Literal["asyncio", "trio"]) -> None:
    """5.7 FastAPI's test client works on both event loops."""
    app = serving(add=True)
    for _ in range(2):
        with TestClient(app, backend=anyio_backend) as client:
            assert client.get("/").json() == "TaskConfig"


def test_adding_a_second_time() -> None:
    """5.7 To add tasks again changes nothing; settings, which would be lost, are refused."""
    app = serving(add=True)
    add_tasks(app)
    with pytest.raises(TasksAlreadyAddedError):
        add_tasks(app, config=TaskConfig(shield=True))
