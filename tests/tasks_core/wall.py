"""A clock on the wall that stands, and goes where a test puts it: no test waits for a moment."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Unpack

import pytest
import time_machine
from anyio import Event, wait_all_tasks_blocked
from anyio.lowlevel import checkpoint
from tasks_core import RunnerSettings, TaskRunner

from tests.tasks_core.stage import open_runner

START: Final = datetime(2026, 11, 26, 18, 7, 30, tzinfo=UTC)
"""What it shows when a test begins; a Thursday."""


class Wall:
    """The clock, and those that sleep until it shows something.

    Args:
        traveller: What lets the whole process see it.
    """

    def __init__(self, traveller: Any) -> None:
        self._traveller = traveller
        self._sleepers: list[Event] = []
        self._changed = Event()
        # How long the clocks of periodic tasks have wanted to sleep.
        self.asked: list[float] = []

    @property
    def now(self) -> datetime:
        return datetime.now(UTC)

    def set(self, moment: datetime) -> None:
        """Set it, and let nobody see that yet."""
        self._traveller.move_to(moment)

    async def to(self, moment: datetime | str, *, asleep: int | None = None) -> None:
        """Set it, by a moment or by the time of day, and let all that follows from that be done.

        Args:
            moment: What it shows then.
            asleep: How many clocks sleep again, once they have done that; unless told, all that are
                woken.
        """
        if isinstance(moment, str):
            time = datetime.fromisoformat(f"2026-11-26T{moment}").time()
            moment = datetime.combine(self.now, time, UTC)
        self.set(moment)
        await self.wake(asleep=asleep)

    async def go(self, *, asleep: int | None = None, **units: float) -> None:
        """Let it go on, or back."""
        await self.to(self.now + timedelta(**units), asleep=asleep)

    async def wake(self, *, asleep: int | None = None) -> None:
        """Let who sleeps look at it."""
        sleepers, self._sleepers = self._sleepers, []
        for sleeper in sleepers:
            sleeper.set()
        await self.asleep(len(sleepers) if asleep is None else asleep)

    async def asleep(self, number: int = 1) -> None:
        """Wait until so many sleep, and what they have started has begun."""
        while len(self._sleepers) < number:
            self._changed = Event()
            await self._changed.wait()
        if number:
            for _ in range(9):
                await checkpoint()
        else:  # nothing tells when those that do something else are done
            await wait_all_tasks_blocked()

    async def sleep(self, seconds: float) -> None:
        """Stand in for the sleep of those that wait for a moment."""
        self.asked.append(seconds)
        sleeper = Event()
        self._sleepers.append(sleeper)
        self._changed.set()
        try:
            await sleeper.wait()
        finally:
            if sleeper in self._sleepers:  # it was cancelled
                self._sleepers.remove(sleeper)


@asynccontextmanager
async def open_at(wall: Wall, **settings: Unpack[RunnerSettings]) -> AsyncGenerator[TaskRunner]:
    """Run a runner as long as the block; when that begins, all that wait for a moment sleep."""
    async with open_runner(**settings) as runner:
        nexts = [one.next_run_time for one in runner.periodic.values()]
        await wall.asleep(sum(moment is not None and moment > wall.now for moment in nexts))
        yield runner


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Generator[Wall]:
    """The clock of a test."""
    with time_machine.travel(START, tick=False) as traveller:
        wall = Wall(traveller)
        monkeypatch.setattr("tasks_core._periodic.sleep", wall.sleep)
        yield wall


def after(minutes: float) -> datetime:
    """Return a moment so long after the test's beginning."""
    return START + timedelta(minutes=minutes)


class At:
    """A trigger that gives these moments and raises these errors in order, whatever it is asked."""

    def __init__(self, *moments: datetime | BaseException) -> None:
        self._moments = iter(moments)
        # The previous moment each time, and now.
        self.asked: list[tuple[datetime | None, datetime]] = []

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime, /
    ) -> datetime | None:
        self.asked.append((previous_fire_time, now))
        found = next(self._moments, None)
        if isinstance(found, BaseException):
            raise found
        return found


class Runs(list[str]):
    """A function that notes when it has run, by the clock on the wall.

    Args:
        wall: The clock.
    """

    def __init__(self, wall: Wall) -> None:
        self._wall = wall

    async def note(self) -> None:
        self.append(f"{self._wall.now:%H:%M:%S}")

    def note_in_thread(self) -> None:
        self.append(f"{self._wall.now:%H:%M:%S}")
