from __future__ import annotations

import sys
from collections.abc import Generator

import pytest


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run every async test on both event loops."""
    backend: str = request.param
    return backend


@pytest.fixture
def no_preemption() -> Generator[None]:
    """Keep the interpreter from taking a thread's turn away within a few bytecodes.

    Between the moment at which a sync task begins and the first line of its function, it may do
    that on a busy machine, and a test that looks from inside of functions would see it.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    yield
    sys.setswitchinterval(interval)
