"""The program `auditor` writes down what was done, and what was tried in vain."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from fastapi_tasks.testing import inline, record

from examples import auditor

USER = {"X-User": "1"}


@pytest.fixture
def http() -> Iterator[TestClient]:
    with TestClient(auditor.app) as http:
        yield http


def test_outcome(http: TestClient) -> None:
    """1.6 The request's outcome decides which entry is written, once per action."""
    with inline():
        assert http.delete("/users/7", headers=USER).json() == {"deleted": 7}
        assert http.delete("/users/7", headers=USER).status_code == 404
    assert http.get("/audit-log").json() == [["delete user 7", 1], ["delete user 7: failed", 1]]


def test_shield(http: TestClient) -> None:
    """5.2 An entry is shielded against a shutdown."""
    with record() as recorded:
        http.delete("/users/8", headers=USER)
    batch = recorded.after_response.task(name="audit", shield=True)
    task = batch.assert_scheduled(auditor.audit_log, "delete user 8", 1)
    assert recorded.tasks == [task]


def test_nobody(http: TestClient) -> None:
    """A request without a user does nothing, and is not audited."""
    with record() as recorded:
        assert http.delete("/users/8").status_code == 422
    recorded.assert_nothing_scheduled()


def test_no_entry_is_lost(http: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    """4.3 What the database does not take is logged, and the client does not notice."""
    with auditor.connect() as db, db:
        db.execute("DROP TABLE audit_log")
    with inline(raise_errors=False):
        assert http.delete("/users/8", headers=USER).status_code == 200
    (lost,) = [one for one in caplog.records if one.name == "examples.auditor"]
    assert lost.levelno == logging.CRITICAL
    expected = "audit entry not written: 'delete user 8' by user 1 (no such table: audit_log)"
    assert lost.getMessage() == expected
