"""When a periodic task runs: by an interval, or by a cron expression (contract 10.2)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final, Protocol, cast

from ._checks import check_text, check_zone, is_number, shown_by
from ._extras import extra
from ._names import full_name

_LONGEST_GAP: Final = timedelta(days=2)
"""More than any time zone has left out: Samoa a day."""

_COMBINING: Final = "apscheduler.triggers.combining"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Trigger(Protocol):
    """Says when a periodic task runs; the triggers of APScheduler 3 are such."""

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime, /
    ) -> datetime | None:
        """Return the first moment from now on, and after the previous one.

        Args:
            previous_fire_time: The moment before; ``None`` before the first.
            now: The present; with a time zone, and never before the previous moment.

        Returns:
            The moment, with a time zone; ``None``: never again.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Every:
    """At each multiple of an interval since 1970-01-01 in UTC, so at the same in all processes.

    Args:
        days: Days of 24 hours.
        hours: Hours.
        minutes: Minutes.
        seconds: Seconds.

    Raises:
        TypeError: One of them is no number.
        ValueError: The interval is not longer than zero.
    """

    days: float = 0
    hours: float = 0
    minutes: float = 0
    seconds: float = 0

    def __post_init__(self) -> None:
        """Refuse what would never come, or always."""
        if not all(map(is_number, (self.days, self.hours, self.minutes, self.seconds))):
            msg = f"Every takes numbers, which {self} does not have: Every(minutes=5)"
            raise TypeError(msg)
        try:
            is_positive = self.interval > timedelta(0)
            if is_positive:
                self.get_next_fire_time(None, datetime.now(UTC))
        except (OverflowError, ValueError):  # infinite, no number, beyond the calendar
            msg = f"Every needs an interval that a calendar can hold, not {self}: Every(minutes=5)"
            raise ValueError(msg) from None
        if not is_positive:
            msg = f"Every needs an interval longer than zero, not {self}: Every(minutes=5)"
            raise ValueError(msg)

    @property
    def interval(self) -> timedelta:
        """The interval."""
        return timedelta(
            days=self.days, hours=self.hours, minutes=self.minutes, seconds=self.seconds
        )

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime, /
    ) -> datetime | None:
        """Return the first multiple after now, and after the previous moment."""
        after = _later(previous_fire_time, now)
        return _EPOCH + ((after - _EPOCH) // self.interval + 1) * self.interval


class Cron:
    """By a cron expression, as Debian's cron reads it; needs ``tasks-core[cron]``.

    At a change of the clock a time that is left out runs right after the gap, and one that comes
    twice runs once (contract 10.5). What runs each hour or more often, by a minute or an hour that
    begins with ``*``, goes on as time does.

    Args:
        expression: Five fields, or six with seconds first: ``"0 9 * * mon-fri"``.
        tz: The time zone of the expression: a `zoneinfo.ZoneInfo`, for instance. Default: UTC.

    Raises:
        TypeError: The expression is no string, or the time zone none, or one of pytz.
        ValueError: The expression is none.
        ModuleNotFoundError: cronsim is not installed.
    """

    def __init__(self, expression: str, *, tz: tzinfo = UTC) -> None:
        """Read the expression."""
        with extra("cron", "cronsim", of="Cron"):
            from cronsim import CronSim, CronSimError  # noqa: PLC0415 - an extra
        self.expression: Final = check_text("expression", expression)
        self.tz: Final = check_zone("tz", tz)
        self._iterate = CronSim
        try:
            CronSim(expression, datetime.now(tz))
        except CronSimError as error:
            msg = f"{expression!r} is no cron expression: {error}"
            raise ValueError(msg) from None
        minute, hour = expression.split()[-5:-3]
        self._follows_time: Final = minute.startswith("*") or hour.startswith("*")

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime, /
    ) -> datetime | None:
        """Return the first moment after now, and after the previous one."""
        after = _later(previous_fire_time, now)
        start = after.astimezone(self.tz)
        # By what a clock on the wall shows, or as time goes on. Of a time that comes twice the
        # first one counts: the second time round it has passed, though the wall shows it to come.
        start = start if self._follows_time else start.replace(tzinfo=None)
        for time in self._iterate(self.expression, start):
            moment = time if self._follows_time else _on_the_wall(time, self.tz)
            if moment > after:
                return moment
        return None

    def __eq__(self, other: object) -> bool:
        """Compare the expression and the time zone, as `Every` compares its interval's parts."""
        if not isinstance(other, Cron) or type(other) is not type(self):
            return NotImplemented
        return (self.expression, self.tz) == (other.expression, other.tz)

    def __hash__(self) -> int:
        """Be found where an equal one is."""
        return hash((self.expression, self.tz))

    def __repr__(self) -> str:
        """Show the expression."""
        return f"Cron({self.expression!r}, tz={self.tz})"


def is_endless(trigger: object) -> bool:
    """Whether it is an `AndTrigger` of APScheduler 3, or combines one.

    With a previous moment it asks its triggers again until they agree, and these look no further
    than the moment after that: APScheduler's own schedulers hang with it, too.
    """
    asked = full_name(getattr(trigger, "get_next_fire_time", None))
    return asked == f"{_COMBINING}.AndTrigger.get_next_fire_time" or (
        asked == f"{_COMBINING}.OrTrigger.get_next_fire_time"
        and any(map(is_endless, cast("Any", trigger).triggers))
    )


def _later(previous: datetime | None, now: datetime) -> datetime:
    """Return the later moment, in UTC: those of one time zone compare by what the wall shows."""
    now = now.astimezone(UTC)
    return now if previous is None else max(now, previous.astimezone(UTC))


def _on_the_wall(time: datetime, tz: tzinfo) -> datetime:
    """Return the first moment at which a clock shows a time; of one left out, the gap's end."""
    latest = time + _LONGEST_GAP
    while shown_by(tz, time) != time:  # left out
        time = time.replace(second=0) + timedelta(minutes=1)
        if time > latest:
            msg = f"a clock in the time zone {tz} shows no time up to {time}"
            raise ValueError(msg)
    return time.replace(tzinfo=tz)
