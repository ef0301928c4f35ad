"""The program `manager` starts jobs, says what has become of them, and cancels them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from fastapi_tasks.testing import drain, inline

from examples import manager


@pytest.fixture
def http() -> Iterator[TestClient]:
    with TestClient(manager.app) as http:
        yield http


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let jobs take no time."""
    monkeypatch.setattr(manager, "SECONDS", 0)


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let jobs go on until they are cancelled."""
    monkeypatch.setattr(manager, "SECONDS", 3600)


def start(http: TestClient, *numbers: float, name: str | None = None) -> str:
    """Start a job; return its id."""
    response = http.post("/process", json={"numbers": numbers, "name": name})
    assert response.status_code == 202
    task_id: str = response.json()["task_id"]
    return task_id


def status(http: TestClient, task_id: str) -> dict[str, Any]:
    found: dict[str, Any] = http.get(f"/process/{task_id}").raise_for_status().json()
    assert found.pop("task_id") == task_id
    return found


@pytest.mark.usefixtures("quick")
def test_result(http: TestClient) -> None:
    """A job's result is there for who asks."""
    with inline():
        task_id = start(http, 3, 1, 2)
    assert status(http, task_id) == {"status": "succeeded", "result": 2, "error": None}


@pytest.mark.usefixtures("quick")
def test_failure(http: TestClient) -> None:
    """So is the error of one that has failed."""
    with inline(raise_errors=False):
        task_id = start(http)
    error = "division by zero"
    assert status(http, task_id) == {"status": "failed", "result": None, "error": error}


@pytest.mark.usefixtures("endless")
def test_cancel(http: TestClient) -> None:
    """A job that runs can be cancelled, once."""
    with drain():
        task_id = start(http, 1)
        assert status(http, task_id)["status"] == "running"
        assert http.delete(f"/process/{task_id}").json() == {"cancelled": True}
    assert status(http, task_id)["status"] == "cancelled"
    assert http.delete(f"/process/{task_id}").json() == {"cancelled": False}


@pytest.mark.usefixtures("endless")
def test_duplicate(http: TestClient) -> None:
    """The name of a job that lives is refused; another is not, nor the same one later."""
    april = start(http, 1, name="april")
    with drain():
        march = start(http, 1, name="march")
        refused = http.post("/process", json={"numbers": [1], "name": "march"})
        http.delete(f"/process/{march}")
    assert refused.status_code == 409
    assert "march" in refused.json()["detail"]
    with drain():
        again = start(http, 1, name="march")
        assert status(http, again)["status"] == "running"
        assert status(http, april)["status"] == "running"
        http.delete(f"/process/{again}")


def test_unknown(http: TestClient) -> None:
    """An id that was never given is not found."""
    assert http.get("/process/0").status_code == 404
    assert http.delete("/process/0").status_code == 404
