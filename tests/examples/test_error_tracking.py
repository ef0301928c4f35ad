"""The program `error_tracking` reports to Sentry, by Sentry's own transport."""

from __future__ import annotations

import gzip
import json
import logging
from importlib import import_module
from typing import Any

import httpx
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.logging import unignore_logger

from tests.examples.conftest import GUARD, Log
from tests.examples.programs import client, launched
from tests.examples.receiving import Received, receiving


def event_of(received: Received) -> dict[str, Any]:
    """Return what Sentry was sent."""
    body = received.body
    match received.headers["Content-Encoding"]:
        case "gzip":
            body = gzip.decompress(body)
        case "br":
            body = import_module("brotli").decompress(body)
        case _:
            pass
    event: Any = Envelope.deserialize(body).get_event()
    assert event is not None, body
    return json.loads(json.dumps(event))  # type: ignore[no-any-return]


def test_report() -> None:
    """3.3 A failure is reported once, with its task."""
    with receiving() as sentry:
        dsn = f"http://key@127.0.0.1:{sentry.port}/1"
        with launched("error-tracking", SENTRY_DSN=dsn) as address:
            assert httpx.post(f"{address}/reports/5").status_code == 202
            assert httpx.post(f"{address}/reports/0").status_code == 202
            event = event_of(sentry.posts.get(timeout=GUARD))
    assert event["tags"]["task"] == "report"
    assert event["contexts"]["task"]["phase"] == "immediate"
    assert event["exception"]["values"][0]["type"] == "ZeroDivisionError"
    assert sentry.posts.empty()  # the process has ended, so no more will come


def test_without_sentry(log: Log) -> None:
    """4.2 Without a DSN a failure is logged, and that is all."""
    try:
        with client("error_tracking") as http:
            assert http.post("/reports/0").status_code == 202
            log.wait_for("report")
    finally:  # what the program says to Sentry holds for the process
        unignore_logger("tasks_core")
    assert len(log.of("tasks_core", logging.WARNING)) == 1
