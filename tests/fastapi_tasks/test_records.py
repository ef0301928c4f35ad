"""A task's record as the response model of a route."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi_tasks import Progress, Task, TaskRecord, Tasks, add_tasks, current_task

from tests.conformance.cases import finish
from tests.conformance.driver import serve

pytestmark = pytest.mark.anyio


async def find(task_id: str, tasks: Tasks) -> Task:
    task = tasks.get(task_id)
    if task is None:
        raise HTTPException(404)
    return task


Found = Annotated[Task, Depends(find)]


@pytest.fixture
def made() -> list[Task]:
    return []


@pytest.fixture
def app(made: list[Task]) -> FastAPI:
    app = FastAPI()
    add_tasks(app)

    async def work() -> None:
        current_task().report(1, total=2, message="a\udcffb")
        raise ValueError("it failed")

    @app.post("/tasks")
    async def start(tasks: Tasks) -> dict[str, str]:
        made.append(tasks.after_response.task(name="work").schedule(work))
        return {"id": made[-1].id}

    @app.get("/tasks/{task_id}")  # noqa: FAST003 - it is a parameter of `find`
    async def status(task: Found) -> TaskRecord:
        return task.record()

    @app.get("/tasks/{task_id}/progress")  # noqa: FAST003 - likewise
    def progress(task: Found) -> Progress | None:
        return task.progress

    @app.get("/living")
    def living(tasks: Tasks) -> list[TaskRecord]:
        tasks.after_response.schedule(int)
        return [task.record() for task in tasks.registry]

    @app.get("/ended", response_model=list[TaskRecord])
    def ended(tasks: Tasks) -> Any:
        return [task.record() for task in tasks.registry.ended()]

    return app


async def test_a_record_is_a_response_model(app: FastAPI, made: list[Task]) -> None:
    """What is returned is what `asdict` gives; a task that nobody knows is not found (7.1)."""
    async with serve(app) as server:
        task_id = json.loads((await server.request("/tasks", method="POST")).body)["id"]
        await finish(made)
        record = json.loads((await server.request(f"/tasks/{task_id}")).body)

        assert record == asdict(made[0].record())
        assert (record["state"], record["error"]) == ("failed", "it failed")
        assert record["progress"] == {"done": 1.0, "total": 2.0, "message": "a\\udcffb"}
        progress = await server.request(f"/tasks/{task_id}/progress")
        assert json.loads(progress.body) == record["progress"]
        assert json.loads((await server.request("/ended")).body) == [record]
        living = json.loads((await server.request("/living")).body)
        assert [(one["state"], one["started_at"]) for one in living] == [("pending", None)]
        assert (await server.request(f"/tasks/{'0' * 32}")).status == 404


def test_a_record_has_a_schema(app: FastAPI) -> None:
    """OpenAPI says of each field what it may be; tasks are in no schema (7.1)."""
    schema = app.openapi()
    schemas = schema["components"]["schemas"]

    ok = schema["paths"]["/tasks/{task_id}"]["get"]["responses"]["200"]
    assert ok["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/TaskRecord"
    }
    assert set(schemas["TaskRecord"]["properties"]) == set(TaskRecord.__dataclass_fields__)
    assert set(schemas["TaskRecord"]["required"]) == set(TaskRecord.__dataclass_fields__)
    assert schemas["TaskState"]["enum"] == [
        "pending",
        "running",
        "succeeded",
        "failed",
        "cancelled",
        "skipped",
        "handed_over",
    ]
    assert set(schemas["Progress"]["properties"]) == {"done", "total", "message"}
    assert [one["name"] for one in schema["paths"]["/tasks/{task_id}"]["get"]["parameters"]] == [
        "task_id"
    ]
