"""What the measured background tasks do, and how it is seen that they have done it."""

from __future__ import annotations

import asyncio
import time
from threading import Lock
from typing import Final


class _Done:
    """How many tasks have ended in this process."""

    def __init__(self) -> None:
        self.ended = 0
        self._lock = Lock()

    def add_from_thread(self) -> None:
        with self._lock:
            self.ended += 1


done: Final = _Done()


async def task() -> None:
    """Do nothing but count."""
    done.ended += 1


async def slow_task(seconds: float) -> None:
    """Wait on the event loop."""
    await asyncio.sleep(seconds)
    done.add_from_thread()


def slow_sync_task(seconds: float) -> None:
    """Hold a thread."""
    time.sleep(seconds)
    done.add_from_thread()
