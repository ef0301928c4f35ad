"""The programs that the documentation sets side by side do the same, in the lines it counts."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias
from uuid import uuid4

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from fastapi_tasks.testing import drain, inline
from pydantic import BaseModel

ROOT = Path(__file__).parents[2]
BEFORE, AFTER = "Written by hand", "With fastapi-tasks"

Run: TypeAlias = Callable[[str, str], Any]


class ProcessRequest(BaseModel):
    numbers: list[float]


async def heavy_processing(data: ProcessRequest) -> float:
    return sum(data.numbers) / len(data.numbers)


def blocks() -> list[tuple[str, int, str]]:
    """Return the titles, the promised numbers of lines, and the programs."""
    text = (ROOT / "docs/progress-before-after.md").read_text(encoding="utf-8")
    block = r"^\*\*([^:*]+): (\d+) lines\*\*\n.*?^```python\n(.*?)^```$"
    found = re.findall(block, text, re.DOTALL | re.MULTILINE)
    return [(title, int(lines), code) for title, lines, code in found]


@pytest.fixture
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Return what runs a program, as a module, so that FastAPI finds its names."""
    name = f"before_after_{request.node.name}"
    module = ModuleType(name)

    def run(title: str, mark: str) -> Any:
        (code,) = [code for one, _, code in blocks() if one == title and mark in code]
        vars(module).update(
            Any=Any,
            ProcessRequest=ProcessRequest,
            app=FastAPI(),
            heavy_processing=heavy_processing,
            uuid4=uuid4,
        )
        sys.modules[name] = module
        exec(compile(code, name, "exec"), vars(module))  # noqa: S102 - it is ours
        return module

    monkeypatch.setattr(time, "sleep", float)  # it stands for the work, which takes no time
    yield run
    sys.modules.pop(name, None)


def test_lines() -> None:
    """Each program has as many lines as its title says, and the second is shorter."""
    found = blocks()
    assert [title for title, _, _ in found] == [BEFORE, AFTER] * 2
    for _, lines, code in found:
        assert sum(bool(line.strip()) for line in code.splitlines()) == lines
    for (_, before, _), (_, after, _) in zip(found[::2], found[1::2], strict=True):
        assert after < before


def test_progress_before(run: Run) -> None:
    """The hand-written program shows the progress, and keeps the id."""
    program = run(BEFORE, "task_progress")
    with TestClient(program.app) as http:
        http.post("/start-task/a?items_count=3")
        progress = http.get("/task-progress/a").json()
        assert (progress["status"], progress["progress"]) == ("completed", 3)
        again = http.post("/start-task/a?items_count=3")
    assert (again.status_code, set(again.json())) == (200, {"error"})


def test_progress_after(run: Run) -> None:
    """The replacement does too, and frees the name."""
    program = run(AFTER, "get_task_progress")
    with TestClient(program.app) as http, inline():
        started = http.post("/start-task/a?items_count=3").json()
        record = http.get(started["check_progress_url"]).json()
        assert (record["state"], record["progress"]["done"]) == ("succeeded", 3)
        assert http.post("/start-task/a?items_count=3").status_code == 202
        assert http.get("/task-progress/a").status_code == 404


@pytest.mark.parametrize(
    ("numbers", "end"),
    [([1, 3], {"result": 2}), ([], {"error": "division by zero"})],
    ids=["success", "failure"],
)
def test_manager(run: Run, numbers: list[float], end: dict[str, object]) -> None:
    """Both managers tell what the job has returned or raised."""
    for title, mark, states in (
        (BEFORE, "class TaskManager", {"completed", "failed"}),
        (AFTER, "cancel_processing", {"succeeded", "failed"}),
    ):
        program = run(title, mark)
        with TestClient(program.app) as http, inline(raise_errors=False):
            task_id = http.post("/process", json={"numbers": numbers}).json()["task_id"]
            status = http.get(f"/process/{task_id}").json()
        assert status["status"] in states
        assert end.items() <= status.items()


def test_manager_cancels(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled job is *cancelled*, where the hand-written manager does not know it any more."""

    async def cancelled_by_hand() -> dict[str, str]:
        manager = run(BEFORE, "class TaskManager").task_manager
        await manager.start("a", asyncio.Event().wait())
        task = manager._tasks["a"]  # noqa: SLF001 - there is no other way to wait for it
        await asyncio.sleep(0)  # it has begun
        assert await manager.cancel("a")
        await asyncio.wait([task])
        status: dict[str, str] = manager.get_status("a")
        return status

    async def endless(data: ProcessRequest) -> float:
        await asyncio.Event().wait()
        return 0.0

    assert asyncio.run(cancelled_by_hand()) == {"status": "not_found"}
    program = run(AFTER, "cancel_processing")
    monkeypatch.setattr(program, "heavy_processing", endless)
    with TestClient(program.app) as http:
        with drain():
            path = "/process?name=march"
            task_id = http.post(path, json={"numbers": [1]}).json()["task_id"]
            assert http.post(path, json={"numbers": [1]}).status_code == 409
            assert http.get(f"/process/{task_id}").json()["status"] == "running"
            assert http.delete(f"/process/{task_id}").json() == {"cancelled": True}
        assert http.get(f"/process/{task_id}").json()["status"] == "cancelled"
