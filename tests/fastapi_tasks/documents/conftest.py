from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.fastapi_tasks.documents.watching import Watch


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Watch the programs, and what the library logs."""
    watch = Watch(monkeypatch)
    logger = logging.getLogger("tasks_core")
    logger.addHandler(watch)
    yield watch
    logger.removeHandler(watch)
