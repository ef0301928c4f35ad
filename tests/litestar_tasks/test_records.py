"""A task's record as what a handler returns."""

import json
from dataclasses import asdict
from typing import Any

import pytest
from litestar import Litestar, get, post
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.params import FromPath
from litestar_tasks import Progress, Task, TaskRecord, Tasks, TasksPlugin, current_task

from tests.conformance.cases import finish
from tests.conformance.driver import serve

pytestmark = pytest.mark.anyio


def find(task_id: str, tasks: Tasks) -> Task:
    task = tasks.get(task_id)
    if task is None:
        raise NotFoundException
    return task


@pytest.fixture
def made() -> list[Task]:
    return []


@pytest.fixture
def app(made: list[Task]) -> Any:
    async def work() -> None:
        current_task().report(1, total=2, message="a\udcffb")
        raise ValueError("it failed")

    @post("/tasks")
    async def start(tasks: Tasks) -> dict[str, str]:
        made.append(tasks.after_response.task(name="work").schedule(work))
        return {"id": made[-1].id}

    @get("/tasks/{task_id:str}")
    async def status(task_id: FromPath[str], tasks: Tasks) -> TaskRecord:
        return find(task_id, tasks).record()

    @get("/tasks/{task_id:str}/progress", sync_to_thread=True)
    def progress(task_id: FromPath[str], tasks: Tasks) -> Progress | None:
        return find(task_id, tasks).progress

    @get("/living", sync_to_thread=True)
    def living(tasks: Tasks) -> list[TaskRecord]:
        tasks.after_response.schedule(int)
        return [task.record() for task in tasks.registry]

    @get("/ended")
    async def ended(tasks: Tasks) -> list[TaskRecord]:
        return [task.record() for task in tasks.registry.ended()]

    # `Any` because Litestar types each ASGI message by itself.
    return Litestar(
        [start, status, progress, living, ended],
        plugins=[TasksPlugin()],
        openapi_config=OpenAPIConfig("tasks", "1"),
        logging_config=None,
    )


async def test_a_handler_returns_a_record(app: Any, made: list[Task]) -> None:
    """What is returned is what `asdict` gives; a task that nobody knows is not found (7.1)."""
    async with serve(app) as server:
        task_id = json.loads((await server.request("/tasks", method="POST")).body)["id"]
        await finish(made)
        record = json.loads((await server.request(f"/tasks/{task_id}")).body)

        assert record == asdict(made[0].record())
        assert (record["state"], record["error"]) == ("failed", "it failed")
        assert record["progress"] == {"done": 1, "total": 2, "message": "a\\udcffb"}
        progress = await server.request(f"/tasks/{task_id}/progress")
        assert json.loads(progress.body) == record["progress"]
        assert json.loads((await server.request("/ended")).body) == [record]
        living = json.loads((await server.request("/living")).body)
        assert [(one["state"], one["started_at"]) for one in living] == [("pending", None)]
        assert (await server.request(f"/tasks/{'0' * 32}")).status == 404


def test_a_record_has_a_schema(app: Any) -> None:
    """OpenAPI says of each field what it may be (7.1)."""
    schema = app.openapi_schema.to_schema()
    schemas = schema["components"]["schemas"]

    ok = schema["paths"]["/tasks/{task_id}"]["get"]["responses"]["200"]
    assert ok["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/TaskRecord"
    }
    assert set(schemas["TaskRecord"]["properties"]) == set(TaskRecord.__dataclass_fields__)
    assert "pending" in json.dumps(schemas["TaskRecord"]["properties"]["state"]) + json.dumps(
        schemas.get("TaskState", {})
    )
    assert set(schemas["Progress"]["properties"]) == {"done", "total", "message"}
