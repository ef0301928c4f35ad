"""The program `payments` completes what it has begun, or pays it back."""

from __future__ import annotations

import logging

import anyio
import pytest

from examples import payments
from tests.examples.conftest import GUARD, Log
from tests.examples.programs import client


@pytest.fixture(autouse=True)
def none_yet() -> None:
    payments.payments.clear()


def test_complete(log: Log) -> None:
    """A payment completes, then its receipt is sent."""
    with client("payments") as http:
        response = http.post("/payments/1", params={"amount": 9.99})
        assert response.json() == {"status": "processing"}
        log.wait_for("receipt for payment 1")
        assert http.get("/payments/1").json() == {"status": "completed"}


def test_shutdown(monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    """5.2 to 5.4: A shutdown waits for the payment, and cancels and names the receipt."""
    shutdown = anyio.Event()

    async def until_shutdown() -> None:
        with anyio.fail_after(GUARD):
            await shutdown.wait()

    monkeypatch.setattr(payments, "ask_bank", until_shutdown)
    with client("payments", on_shutdown=shutdown.set) as http:
        http.post("/payments/1", params={"amount": 9.99})
        assert http.get("/payments/1").json() == {"status": "charged"}
    assert payments.payments == {1: "completed"}
    (report,) = log.of("tasks_core", logging.WARNING)
    assert "receipt 1" in report
    assert log.of("examples.payments") == []


def test_refund() -> None:
    """4.3 A payment that fails is refunded, also when the shutdown comes meanwhile."""
    with client("payments") as http:
        assert http.post("/payments/2", params={"amount": 9999}).status_code == 202
    assert payments.payments == {2: "refunded"}


def test_twice() -> None:
    """A payment is made once, and one that was not made is not found."""
    with client("payments") as http:
        assert http.get("/payments/1").status_code == 404
        assert http.post("/payments/1", params={"amount": 1}).status_code == 202
        assert http.post("/payments/1", params={"amount": 1}).status_code == 409
        assert http.post("/payments/2", params={"amount": 0}).status_code == 422
    assert payments.payments == {1: "completed"}
