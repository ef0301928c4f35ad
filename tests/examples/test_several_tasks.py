"""The program `several_tasks` runs two steps side by side, and cleans up after both."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from starlette.testclient import TestClient

from examples import several_tasks
from tests.examples.conftest import GUARD, Log
from tests.examples.programs import client


def post_text(http: TestClient) -> Any:
    """Let the program process a text."""
    headers = {"Content-Type": "text/plain"}
    return http.post("/texts/hello", content="some words", headers=headers).json()


@pytest.fixture(autouse=True)
def results() -> None:
    several_tasks.results.clear()


def test_results(log: Log) -> None:
    """2.6 When both steps have ended, the file is removed."""
    with client("several_tasks") as http:
        assert http.get("/texts/hello").status_code == 404
        assert post_text(http) == {"status": "begun"}
        file = log.wait_for("removed ").removeprefix("removed ")
        results = http.get("/texts/hello").json()
    checksum = hashlib.scrypt(b"some words", salt=b"salt", n=2**14, r=8, p=1, dklen=16)
    assert results == {"words": "2", "checksum": checksum.hex()}
    assert not Path(file).exists()


def test_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """2.5 Each step has a thread: neither waits for the other."""
    both = Barrier(2, timeout=GUARD)

    def step(*_: Any) -> None:
        both.wait()

    monkeypatch.setattr(several_tasks, "count_words", step)
    monkeypatch.setattr(several_tasks, "make_checksum", step)
    with client("several_tasks") as http:
        post_text(http)
    assert not both.broken


def test_failed_step(monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    """4.1 When a step fails, the other goes on, and the file is removed."""

    def fail(*_: Any) -> None:
        raise OSError("no such disk")

    monkeypatch.setattr(several_tasks, "count_words", fail)
    with client("several_tasks") as http:
        post_text(http)
    assert not Path(log.wait_for("removed ").removeprefix("removed ")).exists()
    assert list(several_tasks.results["hello"]) == ["checksum"]
    assert len(log.of("tasks_core", logging.WARNING)) == 1
