from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from threading import Condition

import pytest

# Programs with an engine run alone here; tests/engines starts them with Redis and a worker.
os.environ["REDIS_URL"] = ""

GUARD = 60.0
"""Seconds after which something that should have happened counts as missing."""


class Log(logging.Handler):
    """All that is logged while a test runs, in whatever thread."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._changed = Condition()
        self._records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        with self._changed:
            self._records.append(record)
            self._changed.notify_all()

    def of(self, logger: str, level: int = logging.INFO) -> list[str]:
        """Return what a logger has said at this level or above."""
        return [
            record.getMessage()
            for record in self._records
            if record.name == logger and record.levelno >= level
        ]

    def wait_for(self, text: str) -> str:
        """Wait until something that contains the text is logged; return all of it."""

        def found() -> list[str]:
            messages = [record.getMessage() for record in self._records]
            return [message for message in messages if text in message]

        with self._changed:
            assert self._changed.wait_for(found, GUARD), f"never logged: {text}"
            return found()[0]


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    root = logging.getLogger()
    level = root.level
    root.addHandler(log)
    root.setLevel(logging.INFO)
    yield log
    root.removeHandler(log)
    root.setLevel(level)
