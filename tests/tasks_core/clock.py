"""A clock that a test puts forward, so that none waits for time to pass."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest
import trio.testing

LONG: Final = 15.0
"""Seconds that nobody waits for: where they matter, the clock is put forward by them.

More than a machine stands still, and so few that three times as many are within a guard.
"""

_trios_clock: Final = trio.testing.MockClock(rate=1.0)  # which goes on by itself, too


_LOOPS: Final = ["asyncio", pytest.param(("trio", {"clock": _trios_clock}), id="trio")]

on_clock = pytest.mark.parametrize("anyio_backend", _LOOPS)
"""Both event loops, for a test that puts the clock forward."""


@pytest.fixture(params=_LOOPS)
def with_clock(request: pytest.FixtureRequest) -> Any:
    """Both event loops, for a module that says ``anyio_backend = with_clock``."""
    return request.param


def forward(seconds: float = LONG) -> None:
    """Put the clock forward, on the event loop: what was to happen until then happens now."""
    try:
        loop: Any = asyncio.get_running_loop()
    except RuntimeError:
        _trios_clock.jump(seconds)
        return
    behind = loop.time
    loop.time = lambda: behind() + seconds
