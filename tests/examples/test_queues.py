"""The programs `video` and `queue` without a Redis: the same routes, and the work is done here."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from fastapi_tasks.testing import inline

from examples import video
from tests.examples.programs import client


def follow(http: TestClient, path: str, **request: Any) -> dict[str, Any]:
    """Start a task; return its status once it has ended."""
    with inline(raise_errors=False):
        response = http.post(path, **request)
        assert response.status_code == 202
    status: dict[str, Any] = http.get(f"/tasks/{response.json()['task_id']}").json()
    assert http.get("/tasks/unknown").status_code == 404
    return status


def test_video(monkeypatch: pytest.MonkeyPatch) -> None:
    """8.1, 8.9 A video is processed in this process, and its status asked for by its id."""
    monkeypatch.setattr(video, "transcode", "video-{}.webm".format)
    with client("video") as http:
        status = follow(http, "/videos/7/process")
    assert (status["state"], status["result"]) == ("succeeded", {"file": "video-7.webm"})
    assert status["carrier"] is None


@pytest.mark.parametrize("engine", ["docket", "taskiq"])
def test_queue(engine: str) -> None:
    """8.1, 8.9 A task of the queue runs in this process, and its failure is told by the id."""
    with client(f"task_queue.{engine}_app") as http:
        status = follow(http, "/tasks?kind=report", json={"month": 5})
        assert (status["state"], status["result"]) == ("succeeded", {"kind": "report", "month": 5})
        failed = follow(http, "/tasks?kind=report", json={})
    assert (failed["error_type"], failed["error"]) == ("ValueError", "a report needs a payload")
