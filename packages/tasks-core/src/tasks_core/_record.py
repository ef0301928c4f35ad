"""What can be told of a task to others: how far it has come, and a snapshot of all of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, cast

from ._checks import check_amount
from ._state import TaskState

TEXT_LIMIT: Final = 2000
"""Characters of a text that a record, and what is remembered of a task, have at most."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a task has come, as it says by `Task.report`.

    Args:
        done: How much is done, in units of the task's own.
        total: How much there is to do. Default: unknown.
        message: What the task is at; its first 2000 characters are kept. Default: nothing.

    Raises:
        TypeError: A count is no number, or the message no string.
        ValueError: A count is negative, infinite or not a number.
    """

    done: float
    total: float | None = None
    message: str | None = None

    def __post_init__(self) -> None:
        """Refuse what a reader could not make sense of, or JSON not hold."""
        check_amount("done", self.done)
        if self.total is not None:
            check_amount("total", self.total)
        message = cast("object", self.message)
        if message is not None and not isinstance(message, str):
            msg = f"message is a string, not {type(message).__name__}: pass str(...) of it"
            raise TypeError(msg)
        if message is not None:
            object.__setattr__(self, "message", plain(message)[:TEXT_LIMIT])

    @property
    def fraction(self) -> float | None:
        """The part that is done, from 0 to 1; ``None`` where the total is not known."""
        if self.total is None:
            return None
        return min(self.done / self.total, 1.0) if self.total else 1.0


def plain(text: str) -> str:
    """Return a text that can be encoded and stored anywhere.

    File names may have lone surrogates, and what was read from a file NULs: PostgreSQL takes none.
    """
    return str.encode(text, errors="backslashreplace").decode().replace("\0", r"\x00")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord:
    """A task at one moment: what may be shown to others, and written as JSON as it is.

    It holds neither arguments nor result, which may be secret or large. It is a plain dataclass of
    strings and numbers: `json.dumps(dataclasses.asdict(record))` works, and so does returning it
    from a FastAPI route or a Litestar handler that is annotated ``-> TaskRecord``.

    Attributes:
        id: The task's `Task.id`.
        name: The task's name.
        function: The function's qualified name.
        phase: The phase that it was scheduled for.
        state: Its state.
        scheduled_at: When it was scheduled: ISO 8601, in UTC.
        started_at: When its function was called; ``None`` if it was not.
        ended_at: When all was over, its error handler included; ``None`` before.
        waited: Seconds from its scheduling until it began, or until now or its end if it has not.
        ran: Seconds from its beginning until now, or until its end; ``None`` if it has not begun.
        error_type: The qualified name of the type of what it raised; ``None`` unless it failed.
        error: The text of what it raised, its first 2000 characters; ``None`` unless it failed.
        progress: The last `Progress` that it has reported, if any.
        attempt: Which attempt is made, or was the last, from 1; 0 before the first.
        carrier: The name of the carrier that hands it over; ``None`` if it runs in this process.
    """

    id: str
    name: str
    function: str
    phase: Literal["immediate", "after_route", "after_response"]
    state: TaskState
    scheduled_at: str
    started_at: str | None
    ended_at: str | None
    waited: float
    ran: float | None
    error_type: str | None
    error: str | None
    progress: Progress | None
    attempt: int
    carrier: str | None


def cut(text: str) -> str:
    """Return a text, or its beginning and how much is left out."""
    left = len(text) - TEXT_LIMIT
    return text if left <= 0 else f"{text[:TEXT_LIMIT]}... ({left} characters more)"


def escape(text: str) -> str:
    """Return a text in which nothing breaks a line or controls a terminal (contract 4.2)."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


class _Calendar:
    """Tells the date of moments of `time.monotonic`: of one moment always the same date.

    Unless somebody has set the clock, or the machine has slept, which that does not count. No date
    is one that the calendar has not had yet, also where a test has stopped its clock.
    """

    def __init__(self) -> None:
        self._now = self._offset = 0.0

    def look(self) -> float:
        """Look at the calendar's clock."""
        now = time.time()
        if now != self._now:  # or it has been stopped
            self._now, offset = now, now - time.monotonic()
            if abs(offset - self._offset) > 1.0:
                self._offset = offset
        return now

    def date(self, moment: float) -> str:
        """Return the date of a moment, as ISO 8601 in UTC."""
        now = self.look()
        at = datetime.fromtimestamp(min(moment + self._offset, now), UTC)
        return at.isoformat(timespec="milliseconds")


calendar = _Calendar()
