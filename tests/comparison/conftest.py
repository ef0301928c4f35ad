from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, the only event loop of aiojobs and `asyncio.create_task`."""
    return "asyncio"
