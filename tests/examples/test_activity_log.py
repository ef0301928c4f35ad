"""The program `activity_log` logs what was committed, and nothing else."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event
from sqlalchemy.orm import Session

from examples import activity_log
from tests.examples.conftest import Log
from tests.examples.programs import client


@pytest.fixture(autouse=True)
def database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[None]:
    engine = create_engine(f"sqlite:///{tmp_path / 'database'}")
    monkeypatch.setattr(activity_log, "engine", engine)
    yield
    engine.dispose()


def logged() -> list[str]:
    """Start the program anew, and ask it what it has logged."""
    with client("activity_log") as http:
        texts: list[str] = http.get("/activities").json()
        return texts


def test_commit() -> None:
    """1.3, 5.1 The task sees what the request has committed, and the database is still open."""
    with client("activity_log") as http:
        for title in ("Hello", "Good morning"):
            assert http.post("/users/7/posts", params={"title": title}).status_code == 201
    assert sorted(logged()) == ["user 7 wrote 'Good morning'", "user 7 wrote 'Hello'"]


def test_failed_commit(log: Log) -> None:
    """1.6 If the commit fails, the task is skipped, and nothing is logged."""

    def fail(_session: Session) -> None:
        raise OSError("the disk is full")

    event.listen(Session, "before_commit", fail)
    try:
        with client("activity_log", raise_server_exceptions=False) as http:
            http.post("/users/7/posts", params={"title": "Hello"})
    finally:
        event.remove(Session, "before_commit", fail)
    (record,) = log.of("tasks_core")
    assert "log_activity" in record
    assert "skipped" in record
    assert logged() == []
