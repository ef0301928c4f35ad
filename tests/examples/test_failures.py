"""The program `failures` keeps what fails, and goes on."""

from __future__ import annotations

import logging

import pytest

from examples import failures
from tests.examples.conftest import Log
from tests.examples.programs import client


@pytest.fixture(autouse=True)
def none_yet() -> None:
    failures.failures.clear()


def test_success(log: Log) -> None:
    """A notification is sent, and nothing has failed."""
    with client("failures") as http:
        assert http.post("/notifications/7", params={"message": "hi"}).status_code == 202
        log.wait_for("to user 7: hi")
        log.wait_for("cleaned up")
        assert http.get("/failures").json() == []
    assert log.of("tasks_core", logging.WARNING) == []


def test_failure(log: Log) -> None:
    """4.1 to 4.3: A failure is logged once, kept by the handler, and stops nothing else."""
    with client("failures") as http:
        assert http.post("/notifications/0", params={"message": "hi"}).status_code == 202
    with client("failures") as http:
        assert http.get("/failures").json() == ["notification: there is no user 0"]
    (failure,) = log.of("tasks_core", logging.WARNING)
    assert "notification" in failure
    assert log.of("examples.failures") == ["cleaned up"]
