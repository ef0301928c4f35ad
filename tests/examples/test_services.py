"""The program `services` gives its task what FastAPI injects."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples import services
from tests.examples.conftest import Log
from tests.examples.programs import client


class Outbox(services.EmailService):
    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    def send(self, to: str, subject: str) -> None:
        self.sent.append((to, subject))


def test_services(log: Log) -> None:
    """The task logs the action, and tells the user."""
    with client("services") as http:
        assert http.post("/users/7/actions", params={"action": "login"}).status_code == 202
        log.wait_for("to user7@example.com: You did: login")
        assert http.get("/users/7/actions").json() == ["login"]
        assert http.get("/users/8/actions").json() == []


def test_shutdown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """5.1 The services are closed once the task has ended."""
    monkeypatch.setenv("SERVICES_DATABASE", str(tmp_path / "database"))
    with client("services") as http:
        http.post("/users/7/actions", params={"action": "login"})
    with client("services") as http:
        assert http.get("/users/7/actions").json() == ["login"]


def test_override(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that a test puts in place of another is the one that the task gets."""
    outbox = Outbox()
    overrides = services.app.dependency_overrides
    monkeypatch.setitem(overrides, services.get_email, lambda: outbox)
    with client("services") as http:
        http.post("/users/7/actions", params={"action": "login"})
    assert outbox.sent == [("user7@example.com", "You did: login")]
