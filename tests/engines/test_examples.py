"""The programs of examples/ with an engine: one command starts Redis, a worker and the web."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.engines.processes import GUARD, Engine, wait_until
from tests.examples.programs import launched

PROGRAMS = {
    "celery": ("video", "/videos/7/process", {"file": "video-7.webm"}),
    "docket": ("queue", "/tasks?kind=report", {"kind": "report", "month": 5}),
    "taskiq": ("queue-taskiq", "/tasks?kind=report", {"kind": "report", "month": 5}),
}


def test_8_9_one_id_from_202_to_done(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """8.9: Started as a user does, a program's worker does what its route has scheduled."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    name, path, result = PROGRAMS[engine.name]
    with launched(name) as address, httpx.Client(base_url=address, timeout=GUARD) as http:
        placed = http.post(path, json={"month": 5})
        assert placed.status_code == 202
        status: dict[str, Any] = {}

        def ended() -> bool:
            status.update(http.get(f"/tasks/{placed.json()['task_id']}").json())
            return status["state"] in {"succeeded", "failed"}

        wait_until(ended, lambda: str(status))
    assert (status["state"], status["carrier"]) == ("succeeded", engine.name)
    assert status["result"] == result
