"""The program `progress` starts tasks, shows how far they are, and stops them."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event
from typing import Any

import anyio
import pytest
from anyio import from_thread
from fastapi.testclient import TestClient
from fastapi_tasks.testing import drain, inline

from examples import progress
from tests.conformance.driver import GUARD


@pytest.fixture
def http() -> Iterator[TestClient]:
    with TestClient(progress.app) as http:
        yield http


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Event:
    """Hold the task at its second item, and say when it is there."""
    reached = Event()

    def hold(number: int) -> None:
        if number == 2:
            reached.set()
            from_thread.run(anyio.sleep_forever)

    monkeypatch.setattr(progress, "process_item", hold)
    return reached


def start(http: TestClient, path: str = "/start-task", items: int = 3) -> str:
    """Start a task; return where its progress is."""
    response = http.post(path, params={"items_count": items})
    assert response.status_code == 202
    url: str = response.json()["check_progress_url"]
    return url


def get(http: TestClient, url: str) -> dict[str, Any]:
    record: dict[str, Any] = http.get(url).raise_for_status().json()
    return record


def test_success(http: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task processes each item, and is done."""
    items: list[int] = []
    monkeypatch.setattr(progress, "process_item", items.append)
    with inline():
        url = start(http)
    assert items == [1, 2, 3]
    record = get(http, url)
    assert url.endswith(record["id"])
    assert record["state"] == "succeeded"
    assert record["progress"] == {"done": 3, "total": 3, "message": "Processed item 3"}


def test_progress_and_stop(http: TestClient, held: Event) -> None:
    """A task that runs says how far it is; stopped, it keeps that."""
    with drain():
        url = start(http)
        assert held.wait(GUARD)
        record = get(http, url)
        assert http.delete(url).status_code == 202
    assert record["state"] == "running"
    assert record["progress"] == {"done": 1, "total": 3, "message": "Processed item 1"}
    assert get(http, url)["state"] == "cancelled"
    assert get(http, url)["progress"] == record["progress"]


def test_failure(http: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that has failed says why, and how far it came."""

    def fail(number: int) -> None:
        if number == 2:
            raise ValueError("item 2 is broken")

    monkeypatch.setattr(progress, "process_item", fail)
    with inline(raise_errors=False):
        url = start(http)
    record = get(http, url)
    assert record["state"] == "failed"
    assert (record["error_type"], record["error"]) == ("ValueError", "item 2 is broken")
    assert record["progress"]["done"] == 1


def test_name(http: TestClient, held: Event) -> None:
    """A client's own name is refused while its task lives, and free again afterwards."""
    path = "/start-task/spring-sale"
    with drain():
        url = start(http, path)
        assert held.wait(GUARD)
        assert http.post(path, params={"items_count": 1}).status_code == 409
        start(http, "/start-task/autumn-sale", items=1)
        assert get(http, url)["name"] == "spring-sale"
        http.delete(url)
    with inline():
        again = start(http, path, items=1)
    assert get(http, url)["state"] == "cancelled"
    assert get(http, again)["state"] == "succeeded"


def test_unknown(http: TestClient) -> None:
    """An id that was never given is not found."""
    assert http.get("/task-progress/0").status_code == 404
    assert http.delete("/task-progress/0").status_code == 404
