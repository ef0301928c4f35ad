"""Contract 10: what runs by the clock, on a clock that stands and is set by the tests."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from contextvars import Context, ContextVar
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import version
from itertools import count
from typing import Any, cast
from zoneinfo import ZoneInfo

import anyio
import pytest
import trio.testing
from anyio import Event, to_thread, wait_all_tasks_blocked
from apscheduler.triggers.combining import AndTrigger, OrTrigger  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
from apscheduler.triggers.cron import CronTrigger  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
from apscheduler.triggers.date import DateTrigger  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
from apscheduler.triggers.interval import IntervalTrigger  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
from tasks_core import (
    Carrier,
    Cron,
    Every,
    MountedSettingsError,
    Periodic,
    PeriodicTask,
    RunnerClosedError,
    Task,
    TaskConfig,
    TaskRunner,
    TasksScheduler,
    TaskState,
    TaskTimedOut,
    Trigger,
    current_task,
    current_tasks,
)
from tasks_core._exceptions import Closed
from tasks_core.asgi import ApplicationTasks, Message, Receive, Scope, Send, TasksMiddleware
from tasks_core.testing import drain, inline, record

from tests.conformance.driver import serve
from tests.tasks_core.clock import forward, on_clock
from tests.tasks_core.stage import (
    GUARD,
    SomeError,
    fail,
    fail_async,
    logged,
    over,
    records,
    until_cancelled,
)
from tests.tasks_core.wall import START, At, Runs, Wall, after, open_at, wall

__all__ = ["wall"]

pytestmark = pytest.mark.anyio

FIVE = Every(minutes=5)


async def nothing() -> None: ...


# While the application lives (10.1)


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_it_runs_at_its_times(wall: Wall, kind: str) -> None:
    """10.1 From the runner's start on, at each moment once; a sync function in a thread."""
    runs = Runs(wall)
    func = runs.note if kind == "async" else runs.note_in_thread
    async with open_at(wall, periodic=[Periodic(func, FIVE)]) as runner:
        await wall.go(minutes=2)
        assert runs == []
        for time in ("18:10", "18:12", "18:15", "18:15:30", "18:20"):
            await wall.to(time)
            await runner.join()
        assert runs == ["18:10:00", "18:15:00", "18:20:00"]


async def test_each_has_its_own_clock(wall: Wall) -> None:
    """10.1 Several periodic tasks, with triggers of all kinds, run beside each other."""
    log: list[str] = []

    def noting(name: str) -> Callable[[], object]:
        return partial(log.append, name)

    periodic = [
        Periodic(noting("every"), Every(minutes=10), TaskConfig(name="every")),
        Periodic(noting("cron"), Cron("20 * * * *"), TaskConfig(name="cron")),
        Periodic(noting("date"), DateTrigger(after(5), UTC), TaskConfig(name="date")),
    ]
    async with open_at(wall, periodic=periodic) as runner:
        for time, asleep in (("18:10", 3), ("18:12:30", 2), ("18:20", 2)):
            await wall.to(time, asleep=asleep)
            await runner.join()
            log.append(time)
    assert log[:4] == ["every", "18:10", "date", "18:12:30"]
    assert sorted(log[4:6]) == ["cron", "every"]


async def test_the_clock_stops_first(wall: Wall) -> None:
    """10.1 Once the drain has begun nothing begins by the clock, whatever it waits for."""
    runs = Runs(wall)
    release = Event()

    async def drain_it(runner: TaskRunner) -> None:
        await runner.drain()

    async with open_at(wall, periodic=[Periodic(runs.note, FIVE)]) as runner:
        runner.task(shield=True).schedule(release.wait)
        await wall.to("18:10")
        async with anyio.create_task_group() as group:
            group.start_soon(drain_it, runner)
            await wait_all_tasks_blocked()
            await wall.to("18:15")
            assert runner.periodic["Runs.note"].next_run_time is None
            release.set()
    assert runs == ["18:10:00"]
    assert not wall._sleepers


async def test_a_run_ends_with_the_application_as_any_task(wall: Wall) -> None:
    """10.1 A shutdown cancels a run that is not shielded, and waits for one that is."""
    log: list[str] = []

    async def work(name: str) -> None:
        try:
            await until_cancelled()
        finally:
            log.append(f"{name} is cancelled")

    async def shielded() -> None:
        await wait_all_tasks_blocked()
        log.append("shielded ends")

    periodic = [
        Periodic(partial(work, "plain"), FIVE, TaskConfig(name="plain")),
        Periodic(shielded, FIVE, TaskConfig(shield=True)),
    ]
    async with open_at(wall, periodic=periodic):
        wall.set(after(5))
        await wall.wake()
    assert sorted(log) == ["plain is cancelled", "shielded ends"]


async def test_its_settings_are_over_the_applications(wall: Wall) -> None:
    """10.1 Layers merge as for any task; its key is its own."""
    config = TaskConfig(name="nightly", timeout=5, run_on="always")
    async with open_at(
        wall,
        config=TaskConfig(timeout=60, shield=True, key="all"),
        periodic=[Periodic(nothing, FIVE, config), Periodic(fail, FIVE, TaskConfig(key="other"))],
    ) as runner:
        task = runner.periodic["nightly"].run()
        assert (task.name, task.config.timeout, task.config.shield) == ("nightly", 5, True)
        assert task.config.key == "periodic:nightly"
        assert runner.periodic["fail"].run().config.key == "other"


@pytest.mark.parametrize("how", ["by the clock", "by hand"])
async def test_what_a_run_schedules_has_the_applications_settings(wall: Wall, how: str) -> None:
    """10.1 A periodic task's own settings are its runs', and not those of what they schedule."""
    made: list[Task] = []
    own = TaskConfig(
        name="nightly", key="night", unique=True, limit=1, timeout=0.0, run_on="always"
    )

    def schedule_others() -> None:
        made.extend(current_tasks().schedule(len, text) for text in ("one", "three"))

    async with open_at(
        wall, config=TaskConfig(shield=True), periodic=[Periodic(schedule_others, FIVE, own)]
    ) as runner:
        if how == "by hand":
            runner.periodic["nightly"].run()
        await wall.to("18:10")
        await runner.join()
        assert [task.result for task in made] == [3, 5]
        assert {task.config for task in made} == {TaskConfig(shield=True)}


async def test_a_run_is_a_task_like_any_other(wall: Wall) -> None:
    """10.1 The registry knows it, observers are told of it, `current_task` finds it."""
    seen: list[tuple[str, str]] = []
    inside: list[Task] = []

    def observe(task: Task) -> None:
        seen.append((task.name, str(task.state)))

    async def look() -> str:
        inside.append(current_task())
        assert current_tasks().get(inside[0].id) is inside[0]
        return "done"

    async with open_at(wall, periodic=[Periodic(look, FIVE)], observers=[observe]) as runner:
        await wall.to("18:10")
        await runner.join()
        last = runner.periodic[look.__qualname__].last
        assert last is not None
        assert last is inside[0]
        assert await last.wait() == "done"
        found = runner.get(last.id)
        assert found is not None
        assert found.record().name == look.__qualname__
    assert seen == [(look.__qualname__, state) for state in ("pending", "running", "succeeded")]


async def test_the_policies_hold_for_runs(wall: Wall) -> None:
    """10.1 Timeout, retry, limit, error handlers: as for any task."""
    attempts = count()
    handled: list[tuple[str, Exception]] = []

    async def twice(attempt: Callable[[], Awaitable[Any]], /) -> Any:
        try:
            return await attempt()
        except SomeError:
            return await attempt()

    async def fail_first() -> str:
        if next(attempts) == 0:
            raise SomeError
        return "second"

    def handle(task: Task, error: Exception) -> None:
        handled.append((task.name, error))

    periodic = [
        Periodic(until_cancelled, FIVE, TaskConfig(name="slow", timeout=0)),
        Periodic(fail_first, FIVE, TaskConfig(name="flaky", retry=twice)),
        Periodic(fail_async, FIVE, TaskConfig(name="broken")),
    ]
    async with open_at(wall, config=TaskConfig(on_error=handle), periodic=periodic) as runner:
        await wall.to("18:10")
        await runner.join()
        flaky = runner.periodic["flaky"].last
        assert flaky is not None
        assert (flaky.result, flaky.attempt) == ("second", 2)
    assert sorted((name, type(error)) for name, error in handled) == [
        ("broken", SomeError),
        ("slow", TaskTimedOut),
    ]


async def test_an_applications_limit_is_for_each_periodic_task(wall: Wall) -> None:
    """10.1 Each has a key of its own, so a limit for all tasks does not hold runs back."""
    release = Event()
    periodic = [Periodic(release.wait, FIVE, TaskConfig(name=name)) for name in ("a", "b")]
    async with open_at(wall, config=TaskConfig(key="all", limit=1), periodic=periodic) as runner:
        runner.schedule(release.wait)
        await wall.to("18:10")
        lasts = [runner.periodic[name].last for name in ("a", "b")]
        assert [last and last.state for last in lasts] == [TaskState.RUNNING] * 2
        release.set()


async def test_a_run_may_have_to_wait_for_its_turn(wall: Wall) -> None:
    """10.1 With a key and a limit that others have too, it is pending, and lives."""
    release = Event()
    config = TaskConfig(key="database", limit=1)
    async with open_at(wall, periodic=[Periodic(nothing, FIVE, config)]) as runner:
        runner.task(key="database", limit=1).schedule(release.wait)
        await wall.to("18:10")
        last = runner.periodic["nothing"].last
        assert last is not None
        states = [str(last.state)]
        await wall.to("18:15")
        assert runner.periodic["nothing"].last is last
        release.set()
        await runner.join()
        states.append(str(last.state))
        assert states == ["pending", "succeeded"]


class Engine(Carrier):
    """Takes one function's tasks."""

    name = "engine"

    def __init__(self, func: Callable[[], object]) -> None:
        self._func = func
        self.sent: list[str] = []
        self.refuses = False

    def carry(
        self, func: Callable[..., object], args: tuple[Any, ...], kwargs: Mapping[str, Any], /
    ) -> Callable[[str], object] | None:
        if func is self._func and self.refuses:
            raise TypeError("no arguments")
        return self._send if func is self._func else None

    async def _send(self, task_id: str) -> None:
        self.sent.append(task_id)


async def test_a_carried_task_is_handed_over_at_each_moment(wall: Wall) -> None:
    """10.1 Its run is over when the engine has it, so the next moment hands over again."""
    engine = Engine(fail_async)
    async with open_at(wall, periodic=[Periodic(fail_async, FIVE)], carriers=[engine]) as runner:
        for time in ("18:10", "18:15"):
            await wall.to(time)
            last = runner.periodic["fail_async"].last
            assert last is not None
            assert last.state is TaskState.HANDED_OVER
            assert engine.sent[-1] == last.id
        assert len(engine.sent) == 2


async def test_what_could_not_be_scheduled_is_said(
    wall: Wall, caplog: pytest.LogCaptureFixture
) -> None:
    """10.4 A moment whose task is refused has no run and one ERROR; the clock goes on."""
    release = Event()
    config = TaskConfig(key="database", limit=1, backlog=0)
    async with open_at(wall, periodic=[Periodic(nothing, FIVE, config)]) as runner:
        runner.task(key="database", limit=1).schedule(release.wait)
        await wall.to("18:10")
        release.set()
        await runner.join()
        await wall.to("18:15")
        await runner.join()
        assert runner.periodic["nothing"].last is not None
    (message,) = logged(caplog, "ERROR")
    assert message == (
        "Periodic task nothing does not run at 2026-11-26 18:10:00+00:00: it could not be scheduled"
    )


# The application around it (10.1)


class App:
    """An application with a lifespan that a test holds up, and a route that does what it wants."""

    def __init__(self, act: Callable[[], object] = lambda: None) -> None:
        self.opens = Event()
        self.held = Event()
        self.fails = False
        self._act = act

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            self._act()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await receive()
        self.opens.set()
        await self.held.wait()
        if self.fails:
            raise SomeError("no database")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


@asynccontextmanager
async def starting(app: App, wall: Wall, periodic: list[Periodic]) -> AsyncGenerator[None]:
    """Serve an application up to its start-up code, in a block in which that may be let go on."""

    async def run() -> None:
        async with serve(TasksMiddleware(app, periodic=periodic)):
            await stop.wait()

    stop = Event()
    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await app.opens.wait()
        await wall.asleep(len(periodic))
        yield
        stop.set()


async def test_runs_wait_for_the_end_of_the_start_up(wall: Wall) -> None:
    """10.1 Before that, what they use need not be there; what was missed has one run then."""
    runs = Runs(wall)
    app = App()
    async with starting(app, wall, [Periodic(runs.note, FIVE)]):
        for time in ("18:10", "18:15", "18:22"):
            await wall.to(time, asleep=0)
        assert runs == []
        app.held.set()
        await wall.asleep()
        assert runs == ["18:22:00"]
        await wall.to("18:25")
        assert runs == ["18:22:00", "18:25:00"]


async def test_each_lifespan_waits_for_its_own_start_up(wall: Wall) -> None:
    """10.1 Where one application is started twice at a time, the one runs before the other."""
    runs = Runs(wall)
    tasks = ApplicationTasks(periodic=[Periodic(runs.note, FIVE)])
    async with tasks.run():
        async with tasks.run():
            await wall.asleep(2)
            tasks.started()
            await wall.to("18:10", asleep=1)
            assert runs == ["18:10:00"]
        tasks.started()
        await wall.asleep()
        assert runs == ["18:10:00"] * 2


async def test_a_start_up_that_fails_runs_nothing(wall: Wall) -> None:
    """10.1 Its moments were held back, and stay so."""
    runs = Runs(wall)
    app = App()
    app.fails = True
    with pytest.raises(ExceptionGroup) as raised:  # noqa: PT012 - which the block itself raises
        async with starting(app, wall, [Periodic(runs.note, FIVE)]):
            await wall.to("18:10", asleep=0)
            app.held.set()
    assert raised.group_contains(SomeError, match="no database")
    assert runs == []


async def test_the_start_up_may_run_it_by_hand(wall: Wall) -> None:
    """10.7 What its start-up code runs is the application's own affair."""
    ran = Event()

    async def live(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await current_tasks().periodic["warm"].run().wait()
        assert ran.is_set()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    periodic = [Periodic(ran.set, FIVE, TaskConfig(name="warm"))]
    async with serve(TasksMiddleware(live, periodic=periodic)):
        pass
    assert ran.is_set()


async def test_an_application_is_started_again(wall: Wall) -> None:
    """10.2 Within the same moment nothing runs twice; the same settings serve each start."""
    runs = Runs(wall)
    app = App()
    app.held.set()
    with_tasks = TasksMiddleware(app, periodic=[Periodic(runs.note, FIVE)])
    for times in (["18:10"], ["18:10", "18:10:00.001"], ["18:10:00.002"], ["18:11", "18:15"]):
        async with serve(with_tasks):
            await wall.asleep()
            for time in times:
                await wall.to(time)
    assert runs == ["18:10:00", "18:15:00"]


async def test_a_mounted_application_has_none() -> None:
    """10.8 It has its tasks from the application further out, and no runner of its own."""
    inner = TasksMiddleware(App(), periodic=[Periodic(nothing, FIVE)])
    app = App()
    app.held.set()

    async def mounting(scope: Scope, receive: Receive, send: Send) -> None:
        await (app if scope["type"] == "lifespan" else inner)(scope, receive, send)

    async with serve(TasksMiddleware(mounting)) as server:
        exchange = await server.request()
    assert isinstance(exchange.error, MountedSettingsError)
    assert "periodic" in str(exchange.error)


def agree(name: str, moment: datetime) -> bool:
    return True


class Payload:
    """What a periodic task has in its hands."""

    async def __call__(self) -> Payload:
        return self


async def test_nothing_is_kept_alive(wall: Wall, caplog: pytest.LogCaptureFixture) -> None:
    """10.1 After the application has ended, its periodic tasks and their runs are garbage."""
    caplog.set_level(logging.CRITICAL, "tasks_core")
    seen: list[weakref.ref[Any]] = []

    async def live() -> None:
        payload = Payload()
        periodic = Periodic(payload, FIVE, TaskConfig(name="payload"), claim=agree)
        runner = TaskRunner(periodic=[periodic])
        async with runner:
            seen.extend(map(weakref.ref, (payload, runner, runner.periodic["payload"])))
            runner.periodic["payload"].run()
            await wall.to("18:10")
            await wall.asleep()
            await runner.join()

    await live()
    await wait_all_tasks_blocked()
    gc.collect()
    assert [one() for one in seen] == [None] * 3


# No overlap, and what was missed (10.3)


async def test_no_run_beside_the_last_one(wall: Wall, caplog: pytest.LogCaptureFixture) -> None:
    """10.3 At a moment at which the last run lives there is none, and one INFO record says so."""
    caplog.set_level("INFO", "tasks_core")
    release = Event()
    async with open_at(
        wall, periodic=[Periodic(release.wait, FIVE, TaskConfig(name="long\n"))]
    ) as runner:
        await wall.to("18:10")
        first = runner.periodic["long\n"].last
        await wall.to("18:15")
        assert runner.periodic["long\n"].last is first
        release.set()
        await runner.join()
        await wall.to("18:20")
        assert runner.periodic["long\n"].last is not first
    assert logged(caplog) == [
        r"Periodic task long\n does not run at 2026-11-26 18:15:00+00:00: its last run lives"
    ]
    assert records(caplog)[0].levelname == "INFO"


async def test_a_run_lives_until_its_error_handler_has_ended(wall: Wall) -> None:
    """10.3 As for any task, it is over when all is over."""
    release = Event()

    async def handle(task: Task, error: Exception) -> None:
        await release.wait()

    config = TaskConfig(name="failing", on_error=handle)
    async with open_at(wall, periodic=[Periodic(fail_async, FIVE, config)]) as runner:
        await wall.to("18:10")
        first = runner.periodic["failing"].last
        await wall.to("18:15")
        assert runner.periodic["failing"].last is first
        release.set()


@pytest.mark.parametrize(
    "trigger", [FIVE, Cron("*/5 * * * *"), CronTrigger(minute="*/5", timezone=UTC)]
)
@pytest.mark.parametrize(
    "how", ["a blocked loop", "up to one of its moments", "a machine asleep for days"]
)
async def test_what_was_missed_has_one_run(wall: Wall, trigger: Trigger, how: str) -> None:
    """10.3 However many moments have passed, and however they have."""
    asked: list[str] = []

    async def claim(name: str, moment: datetime) -> bool:
        asked.append(f"{moment:%d %H:%M}")
        return True

    runs = Runs(wall)
    async with open_at(wall, periodic=[Periodic(runs.note, trigger, claim=claim)]) as runner:
        if how == "a blocked loop":
            wall.set(after(15))  # nothing else can run meanwhile
            await wall.wake()
            late, missed, following = "18:22:30", "26 18:10", after(17.5)
        elif how == "up to one of its moments":
            await wall.to("18:20")
            late, missed, following = "18:20:00", "26 18:10", after(17.5)
        else:
            await wall.go(days=3)
            late, missed, following = "18:07:30", "26 18:10", after(2.5) + timedelta(days=3)
        assert runs == [late]
        assert asked == [missed]
        assert runner.periodic["Runs.note"].next_run_time == following
        await wall.to(following)
        assert len(runs) == len(asked) == 2


async def test_the_clock_is_set_forward_and_back(wall: Wall) -> None:
    """10.3 Forward: one run. Back: none, and the next time is kept."""
    runs = Runs(wall)
    async with open_at(wall, periodic=[Periodic(runs.note, FIVE)]) as runner:
        periodic = runner.periodic["Runs.note"]
        await wall.to("20:00:30")
        assert runs == ["20:00:30"]
        assert f"{periodic.next_run_time:%H:%M}" == "20:05"
        for time in ("18:07:30", "18:10", "19:59", "20:00", "20:00:30"):
            await wall.to(time)
            assert f"{periodic.next_run_time:%H:%M}" == "20:05"
        await wall.go(days=-5)
        await wall.go(days=5)
        assert runs == ["20:00:30"]
        await wall.to("20:05")
        assert runs == ["20:00:30", "20:05:00"]


BERLIN = ZoneInfo("Europe/Berlin")


class Standing:
    """A trigger as APScheduler 3.11.0's for cron is: when summer time ends, it stands still."""

    def __repr__(self) -> str:
        return "Standing"

    def __init__(self) -> None:
        self._cron = Cron("*/20 * * * *", tz=BERLIN)

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime, /
    ) -> datetime | None:
        if previous_fire_time is not None and previous_fire_time.fold:
            return previous_fire_time
        return self._cron.get_next_fire_time(previous_fire_time, now)


@pytest.mark.parametrize(
    "trigger",
    [
        Every(minutes=20),
        Cron("*/20 * * * *", tz=BERLIN),
        Cron("0,20,40 2 * * *", tz=BERLIN),
        CronTrigger(minute="*/20", timezone=BERLIN),
        CronTrigger(hour=2, minute=30, timezone=BERLIN),
        CronTrigger(second="*/30", minute=30, hour="1-3", timezone=BERLIN),
        IntervalTrigger(minutes=20, start_date=datetime(2026, 1, 1, tzinfo=UTC), timezone=BERLIN),
        OrTrigger([CronTrigger(hour=2, timezone=BERLIN), CronTrigger(hour=3, timezone=BERLIN)]),
        Standing(),
    ],
    ids=str,
)
@pytest.mark.parametrize("steps", [[5], [5, 5, -30, 40], [45, -25], [90, -70, 10], [-600, 1300]])
async def test_a_moment_never_runs_twice(wall: Wall, trigger: Trigger, steps: list[int]) -> None:
    """10.3 Whatever the clock does, also in the night in which an hour comes twice."""
    asked: list[datetime] = []

    async def claim(name: str, moment: datetime) -> bool:
        asked.append(moment.astimezone(UTC))
        assert asked[-1] <= wall.now
        return False

    wall.set(datetime(2026, 10, 24, 23, 50, tzinfo=UTC))
    async with open_at(wall, periodic=[Periodic(nothing, trigger, claim=claim)]) as runner:
        periodic = runner.periodic["nothing"]
        for minutes in [*steps * (180 // sum(map(abs, steps)) + 1), 1440, 1440]:
            await wall.go(minutes=minutes)
            assert periodic.next_run_time is not None
            assert not asked or periodic.next_run_time.astimezone(UTC) > asked[-1]
    assert f"{asked[-1]:%m-%d}" in {"10-26", "10-27"}
    assert asked == sorted(set(asked))


@pytest.mark.parametrize("start", ["10-24 23:50", "10-25 00:50", "10-25 01:10"])
@pytest.mark.parametrize(
    "trigger",
    [
        CronTrigger(minute="*/20", jitter=30, timezone=BERLIN),
        OrTrigger([CronTrigger(minute="*/20", timezone=BERLIN)], jitter=30),
    ],
    ids=str,
)
async def test_a_jitter_in_the_night_of_an_hour_that_comes_twice(
    wall: Wall, trigger: Trigger, start: str
) -> None:
    """10.5 What is added to a moment makes it no earlier one: it runs at each, and goes on."""
    runs = Runs(wall)
    ran = 0
    wall.set(datetime.fromisoformat(f"2026-{start}Z"))
    async with open_at(wall, periodic=[Periodic(runs.note, trigger)]) as runner:
        for number in range(9):
            await wall.go(minutes=20, seconds=30 * (number == 0), asleep=0)
            await runner.join()
            # APScheduler before 3.11 leaves out the second of the two hours.
            ran += wall.now.hour != 1 or version("apscheduler") >= "3.11"
            assert len(runs) == ran


async def test_a_date_runs_once(wall: Wall) -> None:
    """10.2 And never if it had passed when the application started."""
    runs = Runs(wall)
    periodic = [
        Periodic(runs.note, DateTrigger(after(5), UTC), TaskConfig(name="coming")),
        Periodic(runs.note, DateTrigger(after(-5), UTC), TaskConfig(name="past")),
        Periodic(runs.note, At(after(-9), after(-5), after(7)), TaskConfig(name="both")),
    ]
    async with open_at(wall, periodic=periodic) as runner:
        nexts = {name: one.next_run_time for name, one in runner.periodic.items()}
        assert nexts == {"coming": after(5), "past": None, "both": after(7)}
        for time, asleep in (("18:10", 2), ("18:12:30", 1), ("18:13", 1), ("18:14:30", 0)):
            await wall.to(time, asleep=asleep)
        assert runner.periodic["both"].next_run_time is None
        await wall.go(days=1)
    assert runs == ["18:12:30", "18:14:30"]


async def test_a_moment_that_has_come_when_the_application_starts(wall: Wall) -> None:
    """10.2 What a trigger gives for this very moment runs."""
    runs = Runs(wall)
    async with open_at(wall, periodic=[Periodic(runs.note, At(START))]):
        pass
    assert runs == ["18:07:30"]


async def test_the_clock_is_looked_at_each_minute(wall: Wall) -> None:
    """10.3 Nothing tells when it is set, or a machine has slept."""
    async with open_at(wall, periodic=[Periodic(nothing, Every(hours=1))]):
        for _ in range(52):
            await wall.go(minutes=1)
        assert set(wall.asked) == {60.0, 30.0}
        await wall.go(seconds=29.9)
        assert wall.asked[-1] == pytest.approx(0.1)


CLOCK = trio.testing.MockClock(autojump_threshold=0)


@pytest.mark.parametrize("anyio_backend", [pytest.param(("trio", {"clock": CLOCK}), id="trio")])
async def test_days_on_a_clock_that_jumps(monkeypatch: pytest.MonkeyPatch) -> None:
    """10.2 With the real sleep, on trio's clock for tests: no run comes early, late or twice."""
    zero = trio.current_time()
    seen: list[datetime] = []

    class Calendar(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return START + timedelta(seconds=trio.current_time() - zero)

    async def look() -> None:
        seen.append(Calendar.now())

    monkeypatch.setattr("tasks_core._periodic.datetime", Calendar)
    async with TaskRunner(periodic=[Periodic(look, Every(hours=8))]):
        await trio.sleep(timedelta(days=3).total_seconds())
    assert len(seen) == 9
    late = [
        moment - datetime(2026, 11, 27, tzinfo=UTC) - number * timedelta(hours=8)
        for number, moment in enumerate(seen)
    ]
    assert timedelta(0) <= min(late) <= max(late) < timedelta(milliseconds=1)


@on_clock
async def test_a_clock_that_was_set_is_noticed_within_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """10.3 With the real sleep, on both event loops: 60 s later, what was missed runs."""
    ran = Event()
    now = START

    class Calendar(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return now

    async def run() -> None:
        ran.set()

    monkeypatch.setattr("tasks_core._periodic.datetime", Calendar)
    async with TaskRunner(periodic=[Periodic(run, Every(days=1))]):
        await wait_all_tasks_blocked()
        now = START + timedelta(days=8)
        forward(60)
        await ran.wait()


# By hand (10.7)


async def test_it_is_run_by_hand(wall: Wall) -> None:
    """10.7 From a route, a thread, another task, without any clock; its times stay as they are."""
    seen: list[tuple[TasksScheduler, Task]] = []

    async def look() -> str:
        seen.append((current_tasks(), current_task()))
        return "done"

    async with open_at(wall, periodic=[Periodic(look, FIVE, TaskConfig(name="look"))]) as runner:
        periodic = runner.periodic["look"]
        by_runner = periodic.run()
        assert await by_runner.wait() == "done"
        by_thread = await to_thread.run_sync(periodic.run)
        assert await by_thread.wait() == "done"
        with TasksScheduler(runner) as tasks:
            by_request = tasks.periodic["look"].run()
            assert await by_request.wait() == "done"

            async def run_it() -> Task:
                return current_tasks().periodic["look"].run()

            by_task = await tasks.schedule(run_it).wait()
            await over(by_task)
        made = [by_runner, by_thread, by_request, by_task]
        assert [task for _, task in seen] == made
        assert len({task.id for task in made}) == 4
        assert tasks not in [scheduler for scheduler, _ in seen]
        assert periodic.last is by_task
        assert periodic.next_run_time == after(2.5)


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_what_a_run_may_ask_for(wall: Wall, kind: str) -> None:
    """10.7 Within it, `current_tasks` schedules, wherever it was run from."""
    made: list[Task] = []

    def schedule() -> None:
        made.append(current_tasks().schedule(len, current_task().name))

    async def schedule_async() -> None:
        schedule()

    func = schedule_async if kind == "async" else schedule
    async with open_at(wall, periodic=[Periodic(func, FIVE, TaskConfig(name="four"))]) as runner:
        await wall.to("18:10")
        await runner.join()
        await runner.periodic["four"].run().wait()
        thread = threading.Thread(target=runner.periodic["four"].run)
        thread.start()
        await to_thread.run_sync(thread.join)
        await runner.join()
    assert [task.result for task in made] == [4, 4, 4]


variable = ContextVar("variable", default="none")


async def test_a_run_by_hand_has_the_context_of_its_caller(wall: Wall) -> None:
    """10.7 A copy of it, as any task; `current_tasks` of the caller stays what it was."""
    seen: list[str] = []

    async def look() -> None:
        seen.append(variable.get())
        variable.set("its own")

    async with open_at(wall, periodic=[Periodic(look, FIVE, TaskConfig(name="look"))]) as runner:
        with TasksScheduler(runner) as tasks:
            variable.set("the caller's")
            await runner.periodic["look"].run().wait()
            assert current_tasks() is tasks
            assert variable.get() == "the caller's"
        await wall.to("18:10")
        await runner.join()
    assert seen == ["the caller's", "none"]


async def test_a_run_that_lives_is_returned(wall: Wall, caplog: pytest.LogCaptureFixture) -> None:
    """10.7 By hand as by the clock there is one at a time, from all threads."""
    caplog.set_level("INFO", "tasks_core")
    release = Event()
    async with open_at(wall, periodic=[Periodic(release.wait, FIVE)]) as runner:
        (periodic,) = runner.periodic.values()
        await wall.to("18:10")
        first = periodic.last
        assert periodic.run() is first
        assert await to_thread.run_sync(periodic.run) is first
        assert [record.levelname for record in records(caplog)] == ["INFO"] * 2
        release.set()
        await runner.join()
        assert periodic.run() is not first


@pytest.mark.parametrize("unique", [None, True])
async def test_several_of_one_function_that_share_a_key(
    wall: Wall,
    unique: bool | None,  # noqa: FBT001
) -> None:
    """10.3 Each has runs of its own, by the key's limit one at a time, unless they are unique."""
    ran: list[str] = []
    go = Event()

    async def work(what: str) -> None:
        ran.append(what)
        await go.wait()

    config = TaskConfig(key="key", limit=1, unique=unique)
    periodic = [
        Periodic(partial(work, name), FIVE, TaskConfig(name=name).merge(config)) for name in "ab"
    ]
    async with open_at(wall, periodic=periodic) as runner:
        a, b = runner.periodic.values()
        await wall.to("18:10")
        assert len(ran) == 1  # trio tells which
        lasts = [a.last, b.last]
        assert [one.run() for one in (a, b)] == lasts
        assert [one and one.name for one in lasts] == (ran * 2 if unique else ["a", "b"])
        go.set()
        await runner.join()
        assert len(ran) == (1 if unique else 2)
        await wall.to("18:15")
        assert len(ran) == (2 if unique else 4)
        assert unique or sorted(ran) == ["a", "a", "b", "b"]


async def test_a_run_that_lives_in_the_process_that_was_forked(
    wall: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5.4 It is not returned in the other one, where it never ends."""
    async with open_at(wall, periodic=[Periodic(until_cancelled, FIVE)]) as runner:
        (periodic,) = runner.periodic.values()
        assert periodic.run() is periodic.run()
        with monkeypatch.context() as forked:
            forked.setattr(runner, "_closed", Closed.FORKED)
            with pytest.raises(RunnerClosedError, match="was forked"):
                periodic.run()


@pytest.mark.parametrize("count", [2, 8])
async def test_run_by_hand_from_several_threads_at_once(wall: Wall, count: int) -> None:
    """10.7 All get the one run, also who asks while observers are told of it."""
    barrier, found = threading.Barrier(count), list[Task]()

    def observe(task: Task) -> None:
        if task.state is TaskState.PENDING:
            found.append(runner.periodic["until_cancelled"].run())

    def run() -> None:
        barrier.wait()
        found.append(runner.periodic["until_cancelled"].run())

    periodic = [Periodic(until_cancelled, FIVE)]
    async with open_at(wall, periodic=periodic, observers=[observe]) as runner:
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(to_thread.run_sync, run)
        last = runner.periodic["until_cancelled"].last
    assert found == [last] * (count + 1)


async def test_by_hand_whatever_the_rest_says(wall: Wall) -> None:
    """10.7 Pause, claim and a clock that has stopped do not keep it from running."""
    asked: list[str] = []

    async def refuse(name: str, moment: datetime) -> bool:
        asked.append(name)
        return False

    runs = Runs(wall)
    periodic = [
        Periodic(runs.note, FIVE, TaskConfig(name="refused"), claim=refuse),
        Periodic(runs.note, FIVE, TaskConfig(name="paused")),
        Periodic(runs.note, At(), TaskConfig(name="ended")),
        Periodic(runs.note, At(SomeError()), TaskConfig(name="broken")),
    ]
    async with open_at(wall, periodic=periodic) as runner:
        runner.periodic["paused"].paused = True
        for one in runner.periodic.values():
            await one.run().wait()
        assert len(runs) == 4
    assert asked == []


async def test_a_pause_lets_its_times_pass(wall: Wall) -> None:
    """10.7 Without a run, without a claim, and without making up for any of them."""
    asked: list[datetime] = []

    def claim(name: str, moment: datetime) -> bool:
        asked.append(moment)
        return True

    runs = Runs(wall)
    async with open_at(wall, periodic=[Periodic(runs.note, FIVE, claim=claim)]) as runner:
        periodic = runner.periodic["Runs.note"]
        assert periodic.paused is False
        periodic.paused = True
        await wall.to("18:10")
        await wall.to("18:17")
        assert (runs, asked) == ([], [])
        assert periodic.next_run_time == after(12.5)
        periodic.paused = False
        await wall.to("18:18")
        assert runs == []
        await wall.to("18:20")
        assert runs == ["18:20:00"]


async def test_it_is_known_from_the_start(wall: Wall) -> None:
    """10.7 When it runs next is known before anything else has happened, its last run after it."""
    triggers: list[Trigger] = [Every(minutes=5), Cron("20 * * * *"), At()]
    periodic = [
        Periodic(nothing, trigger, TaskConfig(name=f"{number}"))
        for number, trigger in enumerate(triggers)
    ]
    runner = TaskRunner(periodic=periodic)
    assert [one.next_run_time for one in runner.periodic.values()] == [None] * 3
    async with runner:
        nexts = [one.next_run_time for one in runner.periodic.values()]
        assert nexts == [after(2.5), after(12.5), None]
        assert [one.last for one in runner.periodic.values()] == [None] * 3
        await wall.asleep(2)
        await wall.to("18:10")
        await runner.join()
        assert runner.periodic["0"].next_run_time == after(7.5)
        last = runner.periodic["0"].last
        assert last is not None
        assert last.state is TaskState.SUCCEEDED
    assert [one.next_run_time for one in runner.periodic.values()] == [None] * 3
    assert runner.periodic["0"].last is last


@pytest.mark.parametrize("name", ["next_run_time", "last"])
async def test_what_its_clock_says_is_not_set(wall: Wall, name: str) -> None:
    """10.7 It would be lost at the next moment: only `paused` is the user's to set."""
    async with open_at(wall, periodic=[Periodic(nothing, FIVE)]) as runner:
        (periodic,) = runner.periodic.values()
        with pytest.raises(AttributeError, match=f"property '{name}' of 'PeriodicTask'"):
            setattr(periodic, name, None)
        assert (periodic.next_run_time, periodic.last) == (after(2.5), None)


async def test_where_they_are_found(wall: Wall) -> None:
    """10.7 By name, in the order in which they were declared; nobody adds one."""
    periodic = [Periodic(nothing, FIVE, TaskConfig(name=name)) for name in ("b", "a")]
    async with open_at(wall, periodic=periodic) as runner:
        found = TasksScheduler(runner).periodic
        assert found is runner.periodic
        assert list(found) == ["b", "a"]
        assert all(isinstance(one, PeriodicTask) for one in found.values())
        assert found.get("c") is None
        with pytest.raises(TypeError):
            found["c"] = found["a"]  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
        assert repr(found["a"]) == (
            "<PeriodicTask a next_run_time=2026-11-26 18:10:00+00:00 paused=False>"
        )
    async with open_at(wall) as runner:
        assert dict(runner.periodic) == {}


async def test_a_name_forges_no_line(wall: Wall) -> None:
    """4.2 As that of any task."""
    periodic = [Periodic(nothing, FIVE, TaskConfig(name="a\nb"))]
    async with open_at(wall, periodic=periodic) as runner:
        assert "\n" not in repr(runner.periodic["a\nb"])


async def test_too_early_and_too_late() -> None:
    """10.7 Before the runner's start and after its end it is refused, with the cause."""
    runner = TaskRunner(periodic=[Periodic(nothing, FIVE)])
    with pytest.raises(RunnerClosedError, match="has not been entered yet"):
        runner.periodic["nothing"].run()
    async with runner:
        pass
    with pytest.raises(RunnerClosedError, match="has shut down"):
        runner.periodic["nothing"].run()


@pytest.mark.parametrize("shield", [False, True])
async def test_by_hand_during_a_shutdown(wall: Wall, shield: bool) -> None:  # noqa: FBT001
    """10.7 As any task that is scheduled then: it runs if it is shielded (5.4)."""
    made: list[Task] = []
    config = TaskConfig(name="late", shield=shield)

    async def run_it() -> None:
        try:
            await until_cancelled()
        finally:
            made.append(runner.periodic["late"].run())

    async with open_at(wall, periodic=[Periodic(nothing, FIVE, config)]) as runner:
        await runner.schedule(run_it).started.wait()
    (task,) = made
    assert task.state is (TaskState.SUCCEEDED if shield else TaskState.CANCELLED)


async def test_the_testing_kit_sees_runs_by_hand(wall: Wall) -> None:
    """7.5 As any other task: it is waited for, or noted and not run."""
    runs = Runs(wall)
    async with open_at(wall, periodic=[Periodic(runs.note, FIVE)]) as runner:
        periodic = runner.periodic["Runs.note"]
        async with drain() as drained:
            periodic.run()
        assert [task.name for task in drained.tasks] == ["Runs.note"]
        async with inline():
            periodic.run()
        assert len(runs) == 2
        async with record() as recorded:
            periodic.run()
            periodic.run()
        recorded.assert_scheduled(runs.note)
        assert len(runs) == 2
        await periodic.run().wait()
        assert len(runs) == 3


@pytest.mark.parametrize("blocks", [1, 2])
async def test_the_testing_kit_leaves_the_clock_alone(wall: Wall, blocks: int) -> None:
    """7.5 What runs by the clock is of no test that has a block open, nor is what it schedules."""
    runs = Runs(wall)
    ran: list[str] = []

    async def run() -> None:
        await runs.note()
        current_tasks().schedule(ran.append, "by its tasks")
        runner.schedule(ran.append, "by the runner")

    async with open_at(wall, periodic=[Periodic(run, FIVE)]) as runner:
        recorded = [record() for _ in range(blocks)]
        for block in recorded:
            Context().run(block.__enter__)
        await wall.to("18:10")
        await runner.join()
        for block in recorded:
            block.__exit__(None, None, None)
    assert runs == ["18:10:00"]
    assert sorted(ran) == ["by its tasks", "by the runner"]
    assert [block.tasks for block in recorded] == [[]] * blocks


async def test_the_testing_kit_sees_the_clock_of_what_was_started_in_a_block(wall: Wall) -> None:
    """7.5 In a block around the application, what runs by the clock belongs to it."""
    runs = Runs(wall)
    async with record() as recorded, open_at(wall, periodic=[Periodic(runs.note, FIVE)]):
        await wall.to("18:10")
    recorded.assert_scheduled(runs.note)
    assert runs == []


# What is refused at set-up (10.8)


def sync_generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncGenerator[int]:
    yield 1


class Awkward:
    def __call__(self, needed: int) -> None: ...


def greet(user: str) -> None: ...


TOO_MANY: Any = partial(cast("Any", nothing), "a", "b")
REFUSED_FUNCTIONS: list[tuple[Any, str]] = [
    (greet, "Periodic calls greet without arguments, and it needs some: pass functools.partial"),
    (Awkward(), "Periodic calls Awkward without arguments"),
    (TOO_MANY, "the arguments of the partial do not fit"),
    (5, "Periodic takes a function, and int cannot be called"),
    (None, "Periodic takes a function, and NoneType cannot be called"),
    (sync_generator, "sync_generator is a generator function"),
    (async_generator, "async_generator is a generator function"),
]


@pytest.mark.parametrize(("func", "expected"), REFUSED_FUNCTIONS)
def test_a_function_that_could_not_be_called(func: Any, expected: str) -> None:
    """10.8 It is refused where it is declared, not when its time has come."""
    with pytest.raises(TypeError, match=expected):
        Periodic(func, FIVE)


def test_a_coroutine_is_no_function() -> None:
    """10.8 The error says what to write; the coroutine is closed, so nothing warns of it."""
    with pytest.raises(TypeError, match=r"write Periodic\(nothing, \.\.\.\)"):
        Periodic(nothing(), FIVE)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def claim_name(name: str) -> bool:
    return True


def claim_later(name: str, at: datetime) -> Iterator[bool]:
    yield True


BOTH: Any = AndTrigger([CronTrigger(hour=9), CronTrigger(day_of_week="mon")])
REFUSED_ARGUMENTS: list[tuple[str, Any, str]] = [
    ("trigger", 300, "needs a trigger, not int: Every(minutes=5), or Cron("),
    ("trigger", "0 9 * * *", "needs a trigger, not str"),
    ("trigger", timedelta(minutes=5), "needs a trigger, not timedelta"),
    ("trigger", None, "needs a trigger, not NoneType"),
    ("trigger", Every, "needs a trigger, not the class Every: Every(minutes=5)"),
    ("trigger", BOTH, "cannot take an AndTrigger of APScheduler 3"),
    ("trigger", OrTrigger([FIVE, OrTrigger([BOTH])]), "cannot take an AndTrigger of APScheduler 3"),
    ("config", {"name": "x"}, "config is a TaskConfig, not dict"),
    ("config", None, "config is a TaskConfig, not NoneType"),
    ("claim", True, "claim must be callable, not bool"),
    ("claim", claim_name, "claim must take the name and the moment, and claim_name does not"),
    ("claim", claim_later, "claim is called, and claim_later is a generator function, which"),
]


@pytest.mark.parametrize(("argument", "value", "expected"), REFUSED_ARGUMENTS)
def test_what_is_not_what_it_should_be(argument: str, value: Any, expected: str) -> None:
    """10.8 Each argument has its type, and the error says which."""
    arguments: dict[str, Any] = {"trigger": FIVE, argument: value}
    with pytest.raises(TypeError) as raised:
        Periodic(nothing, **arguments)
    assert expected in str(raised.value)


class Both(AndTrigger):  # type: ignore[misc]
    def get_next_fire_time(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, previous_fire_time: datetime | None, now: datetime, /
    ) -> datetime | None:
        return FIVE.get_next_fire_time(previous_fire_time, now)


def test_a_combination_that_finds_its_moments_by_itself() -> None:
    """10.8 An `AndTrigger` is refused for how it looks for a moment, and not for what it is."""
    both = Both(BOTH.triggers)
    assert Periodic(nothing, both).trigger is both


Host = Callable[..., object]
HOSTS: list[Host] = [TaskRunner, partial(TasksMiddleware, App())]


@pytest.mark.parametrize("host", HOSTS, ids=["TaskRunner", "TasksMiddleware"])
@pytest.mark.parametrize(
    ("periodic", "error", "expected"),
    [
        ([nothing], TypeError, "periodic is a list of Periodic(...), and function is none"),
        ([Every(minutes=5)], TypeError, "and Every is none"),
        (Periodic(nothing, FIVE), TypeError, "periodic is a list, not Periodic"),
        ("nightly", TypeError, "not str"),
        (None, TypeError, "not NoneType"),
        ([Periodic(nothing, FIVE)] * 2, ValueError, "two periodic tasks are called 'nothing'"),
        (
            [Periodic(partial(nothing), FIVE), Periodic(fail, FIVE, TaskConfig(name="nothing"))],
            ValueError,
            "give one of them a name by TaskConfig(name=...)",
        ),
    ],
)
def test_what_no_application_can_have(
    host: Host, periodic: Any, error: type[Exception], expected: str
) -> None:
    """10.8 It is refused when the application is set up."""
    with pytest.raises(error) as raised:
        host(periodic=periodic)
    assert expected in str(raised.value)


async def test_what_an_engine_could_not_take() -> None:
    """10.8 Its carrier is asked before anything runs; nothing is sent; what it takes is taken."""
    engine = Engine(fail)
    assert set(TaskRunner(periodic=[Periodic(fail, FIVE)], carriers=[engine]).periodic) == {"fail"}
    engine.refuses = True
    periodic = [Periodic(nothing, FIVE), Periodic(fail, FIVE)]
    with pytest.raises(TypeError) as raised:
        TaskRunner(periodic=periodic, carriers=[engine])
    assert str(raised.value) == (
        "Periodic(fail, ...) could never be handed over: no arguments (What it is called with goes "
        "into functools.partial(...).)"
    )
    assert engine.sent == []


async def test_a_server_is_told_that_it_could_not_start() -> None:
    """10.8 So that it does not serve requests, as for an application without a lifespan."""
    engine = Engine(fail)
    engine.refuses = True
    app = TasksMiddleware(App(), periodic=[Periodic(fail, FIVE)], carriers=[engine])
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        sent.append(message)

    with anyio.fail_after(GUARD), pytest.raises(TypeError, match="could never be handed over"):
        await app({"type": "lifespan"}, receive, send)
    (failed,) = sent
    assert failed["type"] == "lifespan.startup.failed"
    assert "Periodic(fail, ...) could never be handed over" in failed["message"]


def test_a_declaration_is_a_value() -> None:
    """10.8 It holds no state and does not change; its name is the configured or the function's."""
    one = Periodic(nothing, FIVE)
    assert one == Periodic(nothing, Every(minutes=5))
    assert (one.name, one.config, one.claim) == ("nothing", TaskConfig(), None)
    assert Periodic(partial(print, "x"), FIVE).name == "print"
    assert Periodic(nothing, FIVE, TaskConfig(name="nightly")).name == "nightly"
    with pytest.raises(AttributeError):
        one.claim = None  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
