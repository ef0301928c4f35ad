"""Contract 10.4 and 10.6: what fails around a periodic task, and who asks whether it runs here."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, cast
from zoneinfo import ZoneInfo

import anyio
import pytest
from anyio import CancelScope, Event, fail_after, wait_all_tasks_blocked
from anyio.lowlevel import checkpoint
from tasks_core import (
    Claim,
    Cron,
    Every,
    Periodic,
    TaskConfig,
    TaskState,
)

from tests.tasks_core.stage import (
    GUARD,
    Abrupt,
    SomeError,
    fail,
    fail_async,
    fail_in_asyncios_group,
    logged,
    open_runner,
    over,
    records,
    until_cancelled,
)
from tests.tasks_core.wall import At, Runs, Wall, after, open_at, wall

__all__ = ["wall"]

pytestmark = pytest.mark.anyio

FIVE = Every(minutes=5)


def raising(error: BaseException) -> Callable[[], object]:
    async def raise_it() -> None:
        raise error

    return raise_it


# Runs that fail (10.4)


@pytest.mark.parametrize(
    "func",
    [fail, fail_async, raising(Abrupt()), raising(SystemExit(1))],
    ids=["sync", "async", "abrupt", "exit"],
)
async def test_a_failed_run_changes_nothing(
    wall: Wall, caplog: pytest.LogCaptureFixture, func: Callable[[], object]
) -> None:
    """10.4 It is logged once, as the failure of any task, and the next run comes at its time."""
    runs = Runs(wall)
    periodic = [Periodic(func, FIVE, TaskConfig(name="bad")), Periodic(runs.note, FIVE)]
    async with open_at(wall, periodic=periodic) as runner:
        for number, time in enumerate(("18:10", "18:15", "18:20"), 1):
            await wall.to(time)
            await runner.join()
            last = runner.periodic["bad"].last
            assert last is not None
            assert last.state is TaskState.FAILED
            assert len(logged(caplog, "ERROR")) == number
        assert len(runs) == 3
    assert all("Task bad " in message for message in logged(caplog))


async def test_a_cancelled_run_changes_nothing(wall: Wall) -> None:
    """10.4 Nor does one that was cancelled."""
    release = Event()
    async with open_at(wall, periodic=[Periodic(release.wait, FIVE)]) as runner:
        (periodic,) = runner.periodic.values()
        await wall.to("18:10")
        first = periodic.last
        assert first is not None
        assert first.cancel()
        await runner.join()
        await wall.to("18:15")
        assert first.state is TaskState.CANCELLED
        assert periodic.last is not first


# Who asks whether it runs here (10.6)


class Claims:
    """A claim of each kind, which notes what it was asked, and answers what a test wants.

    Args:
        kind: How it is called.
        answers: What it returns or raises, in order; then true.
    """

    def __init__(self, kind: str, answers: Sequence[bool | BaseException] = ()) -> None:
        self.asked: list[tuple[str, datetime]] = []
        self.threads: list[int] = []
        self._answers = iter(answers)
        kinds: dict[str, Claim] = {
            "async": self._ask_async,
            "sync": self._ask,
            "awaitable": self._promise,
        }
        self.claim = kinds[kind]

    def _ask(self, name: str, moment: datetime) -> bool:
        self.asked.append((name, moment))
        self.threads.append(threading.get_ident())
        answer = next(self._answers, True)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _promise(self, name: str, moment: datetime) -> Awaitable[bool]:
        return self._ask_async(name, moment)

    async def _ask_async(self, name: str, moment: datetime) -> bool:
        await anyio.lowlevel.checkpoint()
        return self._ask(name, moment)


each_kind = pytest.mark.parametrize("kind", ["async", "sync", "awaitable"])


@each_kind
async def test_a_claim_is_asked_before_each_run(
    wall: Wall, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """10.6 With the name and the trigger's moment; a false one has neither run nor record."""
    caplog.set_level("INFO", "tasks_core")
    claims = Claims(kind, [False, True, False])
    runs = Runs(wall)
    berlin = ZoneInfo("Europe/Berlin")
    periodic = [
        Periodic(
            runs.note, Cron("*/5 * * * *", tz=berlin), TaskConfig(name="nightly"), claims.claim
        )
    ]
    async with open_at(wall, periodic=periodic) as runner:
        for time in ("18:10", "18:15", "18:20", "18:25"):
            await wall.to(time)
        await runner.join()
    assert runs == ["18:15:00", "18:25:00"]
    assert claims.asked == [("nightly", after(minutes)) for minutes in (2.5, 7.5, 12.5, 17.5)]
    assert str(claims.asked[0][1]) == "2026-11-26 19:10:00+01:00"
    assert logged(caplog) == []


async def test_a_sync_claim_has_a_thread_of_its_own(wall: Wall) -> None:
    """10.6 It neither blocks the event loop nor waits for a thread of the sync tasks."""
    claims = Claims("sync")
    held = threading.Event()
    begun = Event()

    def hold() -> None:
        anyio.from_thread.run_sync(begun.set)
        held.wait(GUARD)

    runs = Runs(wall)
    async with open_at(
        wall, periodic=[Periodic(runs.note, FIVE, claim=claims.claim)], thread_limit=1
    ) as runner:
        runner.schedule(hold)
        await begun.wait()
        await wall.to("18:10")
        assert runs == ["18:10:00"]
        held.set()
    assert claims.threads
    assert claims.threads[0] != threading.get_ident()


@each_kind
@pytest.mark.parametrize(
    "error", [SomeError("no store"), Abrupt("no store")], ids=["error", "abrupt"]
)
async def test_a_claim_that_raises(
    wall: Wall, kind: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """10.4 That run is skipped with one ERROR and its traceback; the next one is not."""
    claims = Claims(kind, [error])
    runs = Runs(wall)
    async with open_at(wall, periodic=[Periodic(runs.note, FIVE, claim=claims.claim)]):
        await wall.to("18:10")
        assert runs == []
        await wall.to("18:15")
    assert runs == ["18:15:00"]
    (record,) = records(caplog)
    assert record.levelname == "ERROR"
    assert record.getMessage() == (
        "Periodic task Runs.note does not run at 2026-11-26 18:10:00+00:00: its claim failed"
    )
    assert record.exc_info
    raised = record.exc_info[1]
    assert raised is not None
    assert error in {raised, raised.__cause__}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_claim_that_raises_a_stray_cancellation(
    wall: Wall, caplog: pytest.LogCaptureFixture
) -> None:
    """10.4 Nobody has cancelled the clock: it goes on, as for any error of a claim."""
    claims = Claims("async", [asyncio.CancelledError()])
    runs = Runs(wall)
    async with open_at(wall, periodic=[Periodic(runs.note, FIVE, claim=claims.claim)]):
        await wall.to("18:10")
        await wall.to("18:15")
    assert runs == ["18:15:00"]
    (message,) = logged(caplog, "ERROR")
    assert "its claim failed" in message


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_claim_whose_task_group_of_asyncios_has_failed(
    wall: Wall, caplog: pytest.LogCaptureFixture
) -> None:
    """10.4 What that group has cancelled is not the clock: it goes on, until it is stopped."""
    runs = Runs(wall)

    async def claim(name: str, moment: datetime) -> bool:
        if moment.minute == 10:
            await fail_in_asyncios_group()
        if moment.minute == 15:
            raise asyncio.CancelledError
        return True

    async with open_at(wall, periodic=[Periodic(runs.note, FIVE, claim=claim)]):
        for time in ("18:10", "18:15", "18:20"):
            await wall.to(time)
    assert runs == ["18:20:00"]
    messages = logged(caplog)
    assert len(messages) == 2
    assert all("its claim failed" in message for message in messages)


class Hanging:
    """A claim that answers nobody until the test is over."""

    def __init__(self, kind: str) -> None:
        self.begun = threading.Event()
        self.over = threading.Event()
        self.claim: Claim = self._hang_async if kind == "async" else self._hang

    def _hang(self, name: str, moment: datetime) -> bool:
        self.begun.set()
        self.over.wait(GUARD)
        return True

    async def _hang_async(self, name: str, moment: datetime) -> bool:
        self.begun.set()
        await anyio.sleep_forever()
        return True

    async def until_begun(self) -> None:
        with fail_after(GUARD):
            await anyio.to_thread.run_sync(self.begun.wait)


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_claim_that_hangs(wall: Wall, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """10.6 Others go on meanwhile; a shutdown does not wait for it, and says which run is lost."""
    hanging = Hanging(kind)
    runs, others = Runs(wall), Runs(wall)
    periodic = [
        Periodic(runs.note, FIVE, TaskConfig(name="held"), hanging.claim),
        Periodic(others.note, FIVE, TaskConfig(name="other")),
    ]
    try:
        async with open_at(wall, periodic=periodic) as runner:
            await wall.to("18:10", asleep=1)
            await hanging.until_begun()
            await wall.to("18:15")
            assert others == ["18:10:00", "18:15:00"]
            assert runner.periodic["held"].next_run_time == after(2.5)
            with fail_after(GUARD / 2):
                await runner.drain()
            assert not hanging.over.is_set()
            (message,) = logged(caplog, "WARNING")
            assert message.startswith("Periodic task held does not run at 2026-11-26 18:10:00+00")
            assert message.endswith(": its clock was stopped before its claim answered")
    finally:
        hanging.over.set()
    assert runs == []


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_claim_cleans_up_before_the_drain_is_over(
    wall: Wall,
    cancelled: bool,  # noqa: FBT001
) -> None:
    """10.1 Also where the drain is cancelled: what the claim uses is closed after that."""
    begun, cleaned = Event(), Event()

    async def claim(name: str, moment: datetime) -> bool:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            with CancelScope(shield=True):
                for _ in range(20):
                    await checkpoint()
            cleaned.set()
        return True

    async with open_at(wall, periodic=[Periodic(fail, FIVE, claim=claim)]) as runner:
        await wall.to("18:10", asleep=0)
        await begun.wait()
        with CancelScope() as scope:
            if cancelled:
                scope.cancel()
            await runner.drain()
        assert cleaned.is_set()


async def test_a_claim_may_drain_the_runner(wall: Wall, monkeypatch: pytest.MonkeyPatch) -> None:
    """10.6 Which stops its own clock, and so cancels the drain: that is over then."""
    monkeypatch.setattr("tasks_core._runner.UNWIND_TIME", 0.01)

    async def claim(name: str, moment: datetime) -> bool:
        await runner.drain()
        return True

    async with open_at(wall, periodic=[Periodic(fail, FIVE, claim=claim)]) as runner:
        daemon = runner.task(daemon=True).schedule(until_cancelled)
        await daemon.started.wait()
        await wall.to("18:10", asleep=0)
        await over(daemon)
        await runner.drain()
    assert daemon.state is TaskState.CANCELLED


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_claim_that_goes_on_after_its_task_group_of_asyncios_has_failed(
    wall: Wall, caplog: pytest.LogCaptureFixture
) -> None:
    """10.4 A shutdown meanwhile stops the clock, as that of any claim which has not answered."""
    hanging = Hanging("async")
    runs = Runs(wall)

    async def claim(name: str, moment: datetime) -> bool:
        with suppress(ExceptionGroup):
            await fail_in_asyncios_group()
        return bool(await cast("Awaitable[bool]", hanging.claim(name, moment)))

    async with open_at(wall, periodic=[Periodic(runs.note, FIVE, claim=claim)]):
        await wall.to("18:10", asleep=0)
        await hanging.until_begun()
    assert runs == []
    (message,) = logged(caplog)
    assert message.endswith(": its clock was stopped before its claim answered")


async def test_claims_that_hang_hold_up_no_other_claim(wall: Wall) -> None:
    """10.6 However many do: each periodic task has a thread for its own."""
    hanging = [Hanging("sync") for _ in range(5)]
    runs = Runs(wall)
    claims = Claims("sync")
    periodic = [
        *(
            Periodic(runs.note, FIVE, TaskConfig(name=f"hung {number}"), one.claim)
            for number, one in enumerate(hanging)
        ),
        Periodic(runs.note, FIVE, TaskConfig(name="other"), claims.claim),
    ]
    try:
        async with open_at(wall, periodic=periodic) as runner:
            await wall.to("18:10", asleep=1)
            for one in hanging:
                await one.until_begun()
            assert runs == ["18:10:00"]
            await runner.drain()
    finally:
        for one in hanging:
            one.over.set()
    assert claims.asked == [("other", after(2.5))]


async def test_what_passes_while_a_claim_is_asked(wall: Wall) -> None:
    """10.3 Moments that come meanwhile are missed ones: the run that follows makes up for them."""
    answered = Event()
    asked: list[datetime] = []

    async def claim(name: str, moment: datetime) -> bool:
        asked.append(moment)
        await answered.wait()
        return True

    runs = Runs(wall)
    async with open_at(wall, periodic=[Periodic(runs.note, FIVE, claim=claim)]):
        await wall.to("18:10", asleep=0)
        await wall.to("18:22", asleep=0)
        answered.set()
        await wall.asleep()
        assert runs == ["18:22:00"]
        await wall.to("18:25")
    assert asked == [after(2.5), after(17.5)]


async def test_a_run_by_hand_while_a_claim_is_asked(wall: Wall) -> None:
    """10.3 Once the claim has answered there is no second run beside it."""
    answered, release = Event(), Event()

    async def claim(name: str, moment: datetime) -> bool:
        await answered.wait()
        return True

    async with open_at(wall, periodic=[Periodic(release.wait, FIVE, claim=claim)]) as runner:
        (periodic,) = runner.periodic.values()
        await wall.to("18:10", asleep=0)
        task = periodic.run()
        answered.set()
        await wall.asleep()
        assert periodic.last is task
        assert len(runner.registry) == 1
        release.set()


# Triggers that fail, or end (10.4)


NAIVE = datetime(2026, 11, 26, 18, 15)  # noqa: DTZ001


@pytest.mark.parametrize(
    ("following", "kind", "text"),
    [
        ([SomeError("no moon")], "SomeError", "no moon"),
        ([Abrupt("no moon")], "Abrupt", "no moon"),
        ([NAIVE], "ValueError", "gives moments without a time zone"),
        ([after(2.5), after(2.5)], "ValueError", "is not after 2026-11-26 18:10:00+00:00"),
        ([after(2), after(1)], "ValueError", "is not after 2026-11-26 18:10:00+00:00"),
    ],
    ids=["raises", "is abrupt", "is naive", "stands still", "goes back"],
)
async def test_a_trigger_that_fails(
    wall: Wall,
    caplog: pytest.LogCaptureFixture,
    following: Sequence[datetime | BaseException],
    kind: str,
    text: str,
) -> None:
    """10.4 That periodic task stops, with an ERROR that names it; others go on."""
    made = At(after(2.5), *following)
    runs, others = Runs(wall), Runs(wall)
    periodic = [
        Periodic(runs.note, made, TaskConfig(name="broken\n")),
        Periodic(others.note, FIVE, TaskConfig(name="other")),
    ]
    async with open_at(wall, periodic=periodic) as runner:
        await wall.to("18:10", asleep=1)
        await wall.to("18:15")
        assert runner.periodic["broken\n"].next_run_time is None
        await runner.periodic["broken\n"].run().wait()
    assert runs == ["18:10:00", "18:15:00"]
    assert others == ["18:10:00", "18:15:00"]
    (record,) = records(caplog)
    assert record.levelname == "ERROR"
    assert record.getMessage() == (
        rf"Periodic task broken\n runs no more by the clock, which was stopped by {kind}"
    )
    assert record.exc_info
    assert text in str(record.exc_info[1])


@pytest.mark.parametrize(
    ("first", "kind"),
    [(SomeError("no moon"), "SomeError"), (NAIVE, "ValueError"), ("18:10", "TypeError")],
    ids=["raises", "is naive", "is text"],
)
async def test_a_trigger_that_fails_at_the_start(
    wall: Wall, caplog: pytest.LogCaptureFixture, first: Any, kind: str
) -> None:
    """10.4 The application starts all the same, and the ERROR is there at once."""
    trigger = At(first)
    runs = Runs(wall)
    periodic = [
        Periodic(runs.note, trigger, TaskConfig(name="broken")),
        Periodic(runs.note, FIVE, TaskConfig(name="other")),
    ]
    async with open_runner(periodic=periodic) as runner:
        assert logged(caplog, "ERROR") == [
            f"Periodic task broken runs no more by the clock, which was stopped by {kind}"
        ]
        assert runner.periodic["broken"].next_run_time is None
        await wall.asleep(1)
        await wall.to("18:10")
    assert runs == ["18:10:00"]
    assert len(logged(caplog)) == 1


class Later:
    """A trigger that is async, which none can be."""

    async def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime, /
    ) -> datetime | None:
        raise AssertionError

    def __repr__(self) -> str:
        return "Later()"


class Dates:
    """A trigger that knows the day, and not the time."""

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime, /) -> Any:
        return now.date()

    def __repr__(self) -> str:
        return "Dates()"


@pytest.mark.parametrize(
    ("trigger", "text"),
    [(Later(), r"Later() gives a coroutine"), (Dates(), "Dates() gives a date")],
)
async def test_a_trigger_that_gives_no_moment(
    wall: Wall, caplog: pytest.LogCaptureFixture, trigger: Any, text: str
) -> None:
    """10.4 The ERROR says what it is to return."""
    async with open_runner(periodic=[Periodic(Runs(wall).note, trigger)]):
        (record,) = records(caplog)
    assert record.exc_info
    assert str(record.exc_info[1]) == (
        f"{text}: get_next_fire_time is a sync method that returns a datetime with a time zone, or "
        "None for never again"
    )


async def test_a_trigger_that_ends(wall: Wall, caplog: pytest.LogCaptureFixture) -> None:
    """10.4 Its last moment runs, and nothing is said of it."""
    runs = Runs(wall)
    async with open_at(wall, periodic=[Periodic(runs.note, At(after(2.5)))]) as runner:
        await wall.to("18:10", asleep=0)
        assert runs == ["18:10:00"]
        assert runner.periodic["Runs.note"].next_run_time is None
    assert logged(caplog) == []


async def test_what_a_trigger_is_asked(wall: Wall) -> None:
    """10.2 With the moment before, which is none at first, and with now, which is in UTC."""
    trigger = At(after(1), after(2), after(3))
    async with open_at(wall, periodic=[Periodic(fail_async, trigger)]):
        await wall.go(minutes=1)
        await wall.go(minutes=1.5)  # late
        await wall.go(minutes=-2)  # back
        await wall.go(minutes=3, asleep=0)
    assert trigger.asked == [
        (None, after(0)),
        (after(1), after(1)),
        (after(2), after(2.5)),
        (after(3), after(3.5)),
    ]
    assert {now.tzinfo for _, now in trigger.asked} == {UTC}


def is_ctrl_c(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return group.split(KeyboardInterrupt)[0] is not None
    return isinstance(error, KeyboardInterrupt)


def test_ctrl_c_in_a_trigger(anyio_backend_name: str, wall: Wall) -> None:
    """4.1 It is Ctrl-C, and goes on to the event loop."""

    async def main() -> None:
        trigger = At(after(1), KeyboardInterrupt())
        async with open_at(wall, periodic=[Periodic(fail_async, trigger)]):
            await wall.go(minutes=1)

    with pytest.raises(BaseException) as raised:  # noqa: PT011 - on trio, a group of it
        anyio.run(main, backend=anyio_backend_name)
    assert is_ctrl_c(raised.value)


# Who cancels everything (10.4)


def cancel_all() -> None:
    for task in asyncio.all_tasks():
        if task is not asyncio.current_task():
            task.cancel()


@pytest.mark.parametrize("when", ["asleep", "claiming"])
def test_all_tasks_of_the_event_loop_are_cancelled(
    wall: Wall, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    """10.4 An ERROR names each periodic task that runs no more; by hand it does."""
    hanging = Hanging("async")
    runs = Runs(wall)
    periodic = [
        Periodic(runs.note, FIVE, TaskConfig(name=name), hanging.claim) for name in ("a", "b")
    ]

    async def live() -> None:
        async with open_runner(periodic=periodic) as runner:
            await wall.asleep(2)
            if when == "claiming":
                await wall.to("18:10", asleep=0)
            cancel_all()
            await wait_all_tasks_blocked()
            await wall.to("18:15", asleep=0)
            assert runs == []
            for one in runner.periodic.values():
                assert one.next_run_time is None
                await one.run().wait()
            assert runs == ["18:15:00"] * 2

    asyncio.run(live())
    assert sorted(logged(caplog, "ERROR")) == [
        f"Periodic task {name} runs no more by the clock, which was stopped by CancelledError"
        for name in ("a", "b")
    ]


def test_all_are_cancelled_before_the_clock_begins(wall: Wall) -> None:
    """10.4 A shutdown does not wait for what has never begun."""

    async def live() -> None:
        async with open_runner(periodic=[Periodic(fail_async, FIVE)]):
            cancel_all()

    asyncio.run(live())
