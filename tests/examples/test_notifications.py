"""The program `notifications` writes what it promised to."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples import notifications
from tests.examples.programs import client


def test_log_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """2.1 Each notification is a line of the file, also one that a shutdown waits for."""
    monkeypatch.setattr(notifications, "LOG", tmp_path / "log")
    with client("notifications") as http:
        for name in ("ada", "bob"):
            response = http.post(f"/send-notification/{name}@example.com")
            assert response.json() == {"message": "Notification sent in the background"}
    lines = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert sorted(lines) == [
        "notification for 'ada@example.com': some notification",
        "notification for 'bob@example.com': some notification",
    ]


def test_one_line_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An address cannot add lines of its own."""
    monkeypatch.setattr(notifications, "LOG", tmp_path / "log")
    with client("notifications") as http:
        http.post("/send-notification/ada%0Anotification for eve")
    assert len((tmp_path / "log").read_text(encoding="utf-8").splitlines()) == 1
