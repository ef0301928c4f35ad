"""Contract 10.2 and 10.5: when a periodic task runs, as a function of two moments."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tasks_core import Cron, Every, Trigger

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)


def at(text: str) -> datetime:
    """Return a moment; without an offset it is in UTC."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def moments(trigger: Trigger, after: datetime) -> Iterator[datetime]:
    """Give the moments of a trigger, as a clock that is never late asks for them."""
    previous = trigger.get_next_fire_time(None, after)
    while previous is not None:
        yield previous
        previous = trigger.get_next_fire_time(previous, previous.astimezone(UTC))


def in_utc(found: Iterable[datetime | None]) -> list[str]:
    return [
        "never" if moment is None else f"{moment.astimezone(UTC):%m-%d %H:%M:%S}"
        for moment in found
    ]


def until(trigger: Trigger, after: datetime, end: datetime) -> list[datetime]:
    """Return the moments in UTC: those of another time zone compare by what the wall shows."""
    found = (moment.astimezone(UTC) for moment in moments(trigger, after))
    return list(takewhile(lambda moment: moment <= end, found))


# Every


@pytest.mark.parametrize(
    ("every", "now", "expected"),
    [
        (Every(minutes=5), "2026-11-26 18:07:31", "2026-11-26 18:10:00"),
        (Every(minutes=5), "2026-11-26 18:10:00", "2026-11-26 18:15:00"),
        (Every(minutes=5), "2026-11-26 18:09:59.999999", "2026-11-26 18:10:00"),
        (Every(hours=1, minutes=30), "2026-11-26 18:07:31", "2026-11-26 19:30:00"),
        (Every(days=1), "2026-11-26 18:07:31", "2026-11-27 00:00:00"),
        (Every(days=7), "2026-11-26 18:07:31", "2026-12-03 00:00:00"),  # 1970 began on a Thursday
        (Every(seconds=0.25), "2026-11-26 18:07:31.3", "2026-11-26 18:07:31.5"),
        (Every(seconds=0.1), "2026-11-26 18:07:31.3", "2026-11-26 18:07:31.4"),
        (Every(minutes=5), "1969-12-31 23:59:00", "1970-01-01 00:00:00"),
    ],
)
def test_every_is_counted_from_1970(every: Every, now: str, expected: str) -> None:
    """10.2 The first multiple of the interval after now, so the same in every process."""
    assert every.get_next_fire_time(None, at(now)) == at(expected)


def test_every_is_the_same_in_all_time_zones() -> None:
    """10.2 Who asks at the same moment gets the same, whatever the clock on the wall shows."""
    every = Every(days=1)
    now = at("2026-10-25 00:45")
    found = {
        every.get_next_fire_time(None, now.astimezone(ZoneInfo(zone)))
        for zone in ("UTC", "Europe/Berlin", "Asia/Kathmandu", "Pacific/Kiritimati")
    }
    assert found == {at("2026-10-26 00:00")}


def test_every_goes_on_after_the_previous_moment() -> None:
    """10.3 Where the clock was set back, the next moment is one that has not been."""
    every = Every(minutes=5)
    previous = at("2026-11-26 18:10")
    for now in ("2026-11-26 18:10", "2026-11-26 17:00", "2020-01-01 00:00"):
        assert every.get_next_fire_time(previous, at(now)) == at("2026-11-26 18:15")
    assert every.get_next_fire_time(previous, at("2026-11-26 23:59")) == at("2026-11-27 00:00")


def test_every_compares_moments_and_not_what_the_wall_shows() -> None:
    """10.5 In the hour that comes twice, the second time round is later."""
    berlin = ZoneInfo("Europe/Berlin")
    first, second = (datetime(2026, 10, 25, 2, 30, fold=n, tzinfo=berlin) for n in (0, 1))
    early = second.replace(minute=10)
    assert Every(minutes=20).get_next_fire_time(first, early) == at("2026-10-25 01:20")
    assert Cron("*/20 * * * *").get_next_fire_time(first, early) == at("2026-10-25 01:20")


@given(
    st.timedeltas(min_value=TICK, max_value=timedelta(days=400)),
    st.datetimes(min_value=datetime(1950, 1, 1), max_value=datetime(2500, 1, 1)),  # noqa: DTZ001
    st.lists(st.timedeltas(timedelta(days=-1), timedelta(days=1)), max_size=8),
)
def test_every_never_gives_a_moment_twice(
    interval: timedelta, start: datetime, jumps: list[timedelta]
) -> None:
    """10.3 Exact at every interval, fractions included, and wherever the clock is set."""
    every = Every(seconds=interval / timedelta(seconds=1))
    now, previous = start.replace(tzinfo=UTC), None
    for jump in [timedelta(0), *jumps]:
        now += jump
        found = every.get_next_fire_time(previous, now)
        assert found is not None
        assert (found - EPOCH) % every.interval == timedelta(0)
        after = now if previous is None else max(now, previous)
        assert after < found <= after + every.interval
        previous = found


@given(st.fractions(min_value=1, max_value=1000, max_denominator=1000))
def test_every_takes_fractions(seconds: float) -> None:
    """10.2 A part of a second, rounded to the microsecond, has multiples without a remainder."""
    every = Every(seconds=float(seconds))
    found = [moment for moment, _ in zip(moments(every, at("2026-11-26 18:07")), range(9))]  # noqa: B905
    assert {later - earlier for earlier, later in pairwise(found)} == {every.interval}


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({}, ValueError),
        ({"minutes": 0}, ValueError),
        ({"minutes": -5}, ValueError),
        ({"hours": 1, "minutes": -60}, ValueError),
        ({"seconds": 1e-7}, ValueError),
        ({"seconds": float("nan")}, ValueError),
        ({"days": float("inf")}, ValueError),
        ({"days": 10**10}, ValueError),
        ({"days": 999_999_999}, ValueError),
        ({"minutes": "5"}, TypeError),
        ({"minutes": None}, TypeError),
        ({"minutes": True}, TypeError),
        ({"hours": 1, "seconds": False}, TypeError),
    ],
)
def test_every_refuses_what_would_never_come_or_always(
    settings: dict[str, float], error: type[Exception]
) -> None:
    """10.8 An interval is longer than zero; what is refused is refused where it is written."""
    with pytest.raises(error, match=r"^Every (needs|takes) .*Every\(days=.*: Every\(minutes=5\)$"):
        Every(**settings)


def test_every_is_a_value() -> None:
    """10.2 Two of one interval are equal, and neither changes."""
    assert Every(minutes=90) == Every(minutes=90) != Every(minutes=5)
    assert len({Every(minutes=5), Every(minutes=5)}) == 1
    assert Every(hours=1, minutes=30).interval == timedelta(minutes=90)
    with pytest.raises(AttributeError):
        Every(minutes=5).minutes = 6  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


# Cron


@pytest.mark.parametrize(
    ("expression", "now", "expected"),
    [
        ("0 9 * * mon-fri", "2026-11-26 18:07:31", "2026-11-27 09:00:00"),
        ("0 9 * * mon-fri", "2026-11-27 09:00:00", "2026-11-30 09:00:00"),
        ("0 9 * * 1-5", "2026-11-27 09:00:00", "2026-11-30 09:00:00"),
        ("0 9 * * 0", "2026-11-26 18:07:31", "2026-11-29 09:00:00"),  # a Sunday, as for cron
        ("0 9 * * 7", "2026-11-26 18:07:31", "2026-11-29 09:00:00"),
        ("*/15 * * * *", "2026-11-26 18:07:31", "2026-11-26 18:15:00"),
        ("0 0 L * *", "2026-11-26 18:07:31", "2026-11-30 00:00:00"),
        ("0 0 * * fri#1", "2026-11-26 18:07:31", "2026-12-04 00:00:00"),
        ("0 0 29 2 *", "2026-11-26 18:07:31", "2028-02-29 00:00:00"),
        ("30 0 9 * * *", "2026-11-26 18:07:31", "2026-11-27 09:00:30"),
        ("*/10 * * * * *", "2026-11-26 18:07:31.5", "2026-11-26 18:07:40"),
        ("* * * * * *", "2026-11-26 18:07:31.999999", "2026-11-26 18:07:32"),
        ("* * * * * *", "2026-11-26 18:07:32", "2026-11-26 18:07:33"),
    ],
)
def test_cron(expression: str, now: str, expected: str) -> None:
    """10.2 The first moment after now, in UTC unless a time zone is given."""
    assert Cron(expression).get_next_fire_time(None, at(now)) == at(expected)


def test_cron_has_a_time_zone() -> None:
    """10.2 The expression is read in it, and the moments are in it."""
    found = Cron("0 9 * * *", tz=ZoneInfo("Europe/Berlin")).get_next_fire_time(
        None, at("2026-07-01 07:00")
    )
    assert found == at("2026-07-02 09:00+02:00")
    assert str(found) == "2026-07-02 09:00:00+02:00"


@pytest.mark.parametrize("expression", ["0 9 * * *", "*/10 * * * *"])
def test_cron_goes_on_after_the_previous_moment(expression: str) -> None:
    """10.3 Where the clock was set back, the next moment is one that has not been."""
    cron = Cron(expression, tz=ZoneInfo("Europe/Berlin"))
    previous = cron.get_next_fire_time(None, at("2026-11-26 18:07"))
    assert previous is not None
    expected = cron.get_next_fire_time(None, previous)
    for now in (previous, at("2026-11-26 03:00"), at("2020-01-01 00:00")):
        assert cron.get_next_fire_time(previous, now) == expected


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "* * * * * * *",
        "60 * * * *",
        "0 24 * * *",
        "0 9 * * mon-sunday",
        "0 9 * * fri-mon",
        "0 0 30 2 *",
        "@daily",
        "nightly",
        "*/0 * * * *",
    ],
)
def test_cron_refuses_what_is_no_expression(expression: str) -> None:
    """10.8 At once, with what is wrong with it."""
    with pytest.raises(ValueError, match="is no cron expression: ") as raised:
        Cron(expression)
    assert str(raised.value).startswith(repr(expression))
    assert raised.value.__cause__ is None


def test_cron_refuses_other_types() -> None:
    """10.8 The expression is a string, and the time zone is one."""
    with pytest.raises(TypeError, match="expression must be a string, not int"):
        Cron(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"tz is a time zone, not 'Europe/Berlin': zoneinfo"):
        Cron("0 9 * * *", tz="Europe/Berlin")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Pytzs(tzinfo):
    """A time zone as pytz's are: one object for each offset, made first with that of 1893.

    Args:
        first: That offset.
        since: The year before which it is not used.
    """

    def __init__(self, first: timedelta, since: int = 1) -> None:
        self._first = first
        self._since = since

    def utcoffset(self, dt: datetime | None, /) -> timedelta:
        assert dt is not None
        return self._first if dt.year >= self._since else timedelta(0)

    def dst(self, dt: datetime | None, /) -> timedelta:
        return timedelta(0)

    def tzname(self, dt: datetime | None, /) -> str:
        return "LMT"

    def fromutc(self, dt: datetime, /) -> datetime:
        berlin = ZoneInfo("Europe/Berlin") if dt.year >= self._since else UTC
        return dt.replace(tzinfo=UTC).astimezone(berlin)

    def __str__(self) -> str:
        return "Europe/Berlin"


@pytest.mark.parametrize("minutes", [53, 60, 120])
def test_a_time_zone_of_pytz_is_refused(minutes: int) -> None:
    """10.8 By `replace` it is as it was in the first year, so there is no time that it shows."""
    zone = Pytzs(timedelta(minutes=minutes))
    with pytest.raises(TypeError, match=r"as most of pytz: zoneinfo\.ZoneInfo\('Europe/Berlin'\)"):
        Cron("0 9 * * *", tz=zone)


def test_a_time_zone_in_which_no_time_comes() -> None:
    """10.4 The trigger raises, and does not look for one for ever."""
    cron = Cron("0 9 * * *", tz=Pytzs(timedelta(minutes=53), since=2026))
    assert cron.get_next_fire_time(None, at("2024-11-26")) == at("2024-11-26 09:00")
    with pytest.raises(ValueError, match="time zone Europe/Berlin shows no time up to 2026-11-2"):
        cron.get_next_fire_time(None, at("2026-11-26"))


def test_cron_without_cronsim(monkeypatch: pytest.MonkeyPatch) -> None:
    """10.2 The error says what to install; nothing else of the package needs it."""
    monkeypatch.setitem(sys.modules, "cronsim", None)
    with pytest.raises(
        ModuleNotFoundError, match=r'^Cron needs cronsim: pip install "tasks-core\[cron\]"$'
    ):
        Cron("0 9 * * *")
    assert Every(minutes=5).get_next_fire_time(None, EPOCH)


def test_cron_that_never_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """10.4 What the parser finds no more moments for ends."""

    def find_nothing(expression: str, after: datetime) -> Iterator[datetime]:
        return iter(())

    cron = Cron("0 9 * * *")
    monkeypatch.setattr(cron, "_iterate", find_nothing)
    assert cron.get_next_fire_time(None, EPOCH) is None


def test_triggers_are_compared_by_what_they_say() -> None:
    """10.2 Two of the same moments are equal, and found in a set; also with a time zone."""
    berlin = ZoneInfo("Europe/Berlin")
    assert Every(minutes=5) == Every(minutes=5)
    assert Cron("0 9 * * *", tz=berlin) == Cron("0 9 * * *", tz=berlin)
    assert {Cron("0 9 * * *")} == {Cron("0 9 * * *", tz=UTC)}
    assert Cron("0 9 * * *") != Cron("0 9 * * *", tz=berlin)
    assert Cron("0 9 * * *") != Cron("0 10 * * *")
    assert Cron("0 9 * * *") != Every(hours=9)


def test_cron_is_shown() -> None:
    """10.7 A log says which one it was."""
    assert repr(Cron("0 9 * * *", tz=ZoneInfo("Europe/Berlin"))) == (
        "Cron('0 9 * * *', tz=Europe/Berlin)"
    )


# Daylight saving. In Berlin 02:00 becomes 03:00, and 03:00 becomes 02:00; in New York 02:00 becomes
# 03:00 and 02:00 becomes 01:00; on Lord Howe the clock moves by half an hour, 02:00 to 02:30 and
# 02:00 to 01:30; in Beirut it leaves out the hour after midnight, and the one before comes twice.


@pytest.mark.parametrize(
    ("zone", "day", "expression", "expected"),
    [
        # Left out: right after the gap.
        ("Europe/Berlin", "2026-03-29", "30 2 * * *", ["03-29 01:00", "03-30 00:30"]),
        ("Europe/Berlin", "2026-03-28", "0 2 * * *", ["03-28 01:00", "03-29 01:00", "03-30 00:00"]),
        ("Europe/Berlin", "2026-03-28", "0 3 * * *", ["03-28 02:00", "03-29 01:00", "03-30 01:00"]),
        ("Europe/Berlin", "2026-03-29", "0,30 2,3 * * *", ["03-29 01:00", "03-29 01:30"]),
        ("America/New_York", "2026-03-07", "30 2 * * *", ["03-07 07:30", "03-08 07:00"]),
        ("America/New_York", "2026-03-07", "59 1 * * *", ["03-07 06:59", "03-08 06:59"]),
        ("Australia/Lord_Howe", "2026-10-03", "15 2 * * *", ["10-02 15:45", "10-03 15:30"]),
        ("Australia/Lord_Howe", "2026-10-03", "45 2 * * *", ["10-02 16:15", "10-03 15:45"]),
        ("Asia/Beirut", "2026-03-28", "30 0 * * *", ["03-27 22:30", "03-28 22:00", "03-29 21:30"]),
        ("Asia/Beirut", "2026-03-28", "0 0 * * *", ["03-27 22:00", "03-28 22:00", "03-29 21:00"]),
        # Twice: the first time.
        ("Europe/Berlin", "2026-10-25", "30 2 * * *", ["10-25 00:30", "10-26 01:30"]),
        ("Europe/Berlin", "2026-10-24", "0 3 * * *", ["10-24 01:00", "10-25 02:00", "10-26 02:00"]),
        ("Europe/Berlin", "2026-10-25", "0,30 2 * * *", ["10-25 00:00", "10-25 00:30"]),
        ("America/New_York", "2026-10-31", "30 1 * * *", ["10-31 05:30", "11-01 05:30"]),
        ("America/New_York", "2026-10-31", "30 2 * * *", ["10-31 06:30", "11-01 07:30"]),
        ("Australia/Lord_Howe", "2026-04-04", "45 1 * * *", ["04-03 14:45", "04-04 14:45"]),
        ("Asia/Beirut", "2026-10-24", "30 23 * * *", ["10-24 20:30", "10-25 21:30"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("seconds", ["", "0 "])
def test_daylight_saving(
    zone: str, day: str, expression: str, expected: list[str], seconds: str
) -> None:
    """10.5 A time left out runs right after the gap, one that comes twice the first time only."""
    tz = ZoneInfo(zone)
    midnight = datetime.fromisoformat(day).replace(tzinfo=tz) - TICK
    found = moments(Cron(seconds + expression, tz=tz), midnight)
    assert in_utc(next(found) for _ in expected) == [f"{moment}:00" for moment in expected]


JUMPS = {  # the days before
    "UTC": ("2026-03-28", "2026-10-24"),
    "Europe/Berlin": ("2026-03-28", "2026-10-24"),
    "America/New_York": ("2026-03-07", "2026-10-31"),
    "America/Havana": ("2026-03-07", "2026-10-31"),
    "Australia/Lord_Howe": ("2026-10-03", "2026-04-04"),
    "Asia/Beirut": ("2026-03-28", "2026-10-24"),
}


@pytest.mark.parametrize("zone", JUMPS)
@pytest.mark.parametrize("expression", ["*/10 * * * *", "*/30 * * * *", "0 */30 * * * *"])
def test_what_runs_each_hour_goes_on_as_time_does(zone: str, expression: str) -> None:
    """10.5 For what begins with a star in its minute or hour nothing is left out or twice."""
    cron = Cron(expression, tz=ZoneInfo(zone))
    for day in JUMPS[zone]:
        found = until(cron, at(day) + timedelta(hours=12), at(day) + timedelta(hours=32))
        assert len({later - earlier for earlier, later in pairwise(found)}) == 1


EXPRESSIONS = [
    "30 2 * * *",
    "0 0 * * *",
    "30 0,1,2,3 * * *",
    "5-59/25 1-3 * * *",
    "*/20 * * * *",
    "20 15 2 * * *",
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("zone", JUMPS)
def test_a_process_that_starts_later_has_the_same_moments(expression: str, zone: str) -> None:
    """10.2 What comes next depends on the moment only: also in the hour that comes twice."""
    cron = Cron(expression, tz=ZoneInfo(zone))
    for day in JUMPS[zone]:
        start = at(day)
        known = until(cron, start, start + timedelta(days=4))
        assert sorted(set(known)) == known
        for minutes in range(0, 2 * 24 * 60, 10):
            now = start + timedelta(minutes=minutes)
            found = cron.get_next_fire_time(None, now)
            assert found is not None
            assert found.astimezone(UTC) == next(moment for moment in known if moment > now)
            assert cron.get_next_fire_time(None, now.astimezone(cron.tz)) == found


@given(
    st.sampled_from(EXPRESSIONS),
    st.sampled_from([(zone, day) for zone, days in JUMPS.items() for day in days]),
    st.lists(st.timedeltas(timedelta(hours=-5), timedelta(hours=9)), min_size=1, max_size=12),
)
def test_cron_never_gives_a_moment_twice(
    expression: str, jump: tuple[str, str], steps: list[timedelta]
) -> None:
    """10.3 Wherever the clock is set, and at whatever change of it."""
    zone, day = jump
    cron = Cron(expression, tz=ZoneInfo(zone))
    now, previous = at(day), None
    for step in steps:
        now += step
        found = cron.get_next_fire_time(previous, now)
        assert found is not None
        assert found.astimezone(UTC) > now
        assert previous is None or found.astimezone(UTC) > previous.astimezone(UTC)
        previous = found
