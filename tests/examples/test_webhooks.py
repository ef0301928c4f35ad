"""The program `webhooks` fetches and sends after the response, on every framework."""

from __future__ import annotations

import json
import logging

import httpx
import pytest

from examples.webhooks import tasks
from tests.examples.conftest import Log
from tests.examples.programs import FRAMEWORKS, client, launched
from tests.examples.receiving import Receiver, receiving

PAYLOAD = {"user_id": 7, "action": "refresh"}


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know of no profile, and take no pauses."""
    tasks.profiles.clear()
    monkeypatch.setattr(tasks, "PAUSES", [0, 0])


def use(receiver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "SOURCE_URL", f"{receiver}/profiles")
    monkeypatch.setattr(tasks, "WEBHOOK_URL", f"{receiver}/webhook")


def payloads(receiver: Receiver) -> list[object]:
    """Return what was posted so far."""
    return [json.loads(receiver.posts.get_nowait().body) for _ in range(receiver.posts.qsize())]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_refresh(framework: str, monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    """5.1 Both tasks can use the client, also when the application is told to stop meanwhile."""
    app = f"webhooks.{framework}_app"
    with receiving(answer=b'{"likes": "tea"}') as receiver:
        use(receiver.address, monkeypatch)
        with client(app) as http:
            assert http.get("/users/7").status_code == 404
            response = http.post("/users/7/refresh")
            assert response.status_code == 202
            assert response.json() == {"user_id": 7}
        with client(app) as http:
            assert http.get("/users/7").json() == {"likes": "tea"}
    assert payloads(receiver) == [PAYLOAD]
    assert log.of("tasks_core", logging.WARNING) == []


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_retry(framework: str, monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    """4.4 A webhook that is refused is sent again, and its failure is logged once."""
    with receiving(answer=b"{}", statuses=[503, 503]) as receiver:
        use(receiver.address, monkeypatch)
        with client(f"webhooks.{framework}_app") as http:
            http.post("/users/7/refresh")
    assert payloads(receiver) == [PAYLOAD] * 3
    (failure,) = log.of("tasks_core", logging.WARNING)
    assert "send_webhook" in failure


def test_retry_in_vain(monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    """4.3 A webhook that is refused each time is given up, which is logged too."""
    with receiving(answer=b"{}", statuses=[503] * 9) as receiver:
        use(receiver.address, monkeypatch)
        with client("webhooks.fastapi_app") as http:
            http.post("/users/7/refresh")
    assert payloads(receiver) == [PAYLOAD] * 3
    assert len(log.of("tasks_core", logging.ERROR)) == 2


def test_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program on the other side serves profiles, and gets webhooks, some at the second try."""
    with launched("webhook-receiver") as address:
        use(address, monkeypatch)
        with client("webhooks.fastapi_app") as http:
            for user_id in (1, 2, 3):
                http.post(f"/users/{user_id}/refresh")
        received = httpx.get(f"{address}/webhooks").json()
    assert sorted(webhook["user_id"] for webhook in received) == [1, 2, 3]
    assert tasks.profiles[2] == {"user_id": 2, "interests": ["tea", "coffee"]}
