"""Tasks that run by the clock: what is declared, and what lives while the application does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from anyio import Event, sleep
from anyio.lowlevel import checkpoint

from . import _report
from ._carrier import carry
from ._checks import check_callback, name_kind
from ._config import TaskConfig
from ._function import check_call, close_coroutine, fits
from ._names import describe
from ._phase import IMMEDIATE
from ._record import escape
from ._scheduler import current
from ._scheduling import Executor, watching
from ._service import Service
from ._task import Task
from ._triggers import Trigger, is_endless

if TYPE_CHECKING:
    from ._backend import Backend
    from ._runner import TaskRunner

LOOK_EVERY: Final = 60.0
"""Seconds after which the clock is looked at again: it may be set, or the machine have slept."""

Claim: TypeAlias = "Callable[[str, datetime], Awaitable[bool] | bool]"
"""Called before each run by the clock, with the task's name and the moment: whether it is this
process that runs it (contract 10.6). Sync, and then called in a thread, or async."""


@dataclass(frozen=True, slots=True)
class Periodic:
    """A function that runs by the clock while the application lives (contract 10).

    A declaration: what lives is a `PeriodicTask`, one in each application.

    Args:
        func: The function, async or sync. It is called without arguments; `functools.partial`
            gives it some.
        trigger: When: `Every`, `Cron`, or a trigger of APScheduler 3.
        config: Settings of its tasks, its ``name`` among them, over the application's. Default:
            nothing set, and the function's name.
        claim: See `Claim`. Default: it runs in every process.

    Raises:
        TypeError: The function needs arguments, or something is not what it should be.
    """

    func: Callable[[], object]
    trigger: Trigger
    config: TaskConfig = field(default_factory=TaskConfig)
    claim: Claim | None = None

    def __post_init__(self) -> None:
        """Refuse what could only fail when its time has come (contract 10.8)."""
        _check_func(self.func)
        trigger = cast("object", self.trigger)
        if isinstance(trigger, type) or not callable(getattr(trigger, "get_next_fire_time", None)):
            msg = (
                f"Periodic({describe(self.func)}, ...) needs a trigger, not {name_kind(trigger)}: "
                "Every(minutes=5), or Cron('0 3 * * *')"
            )
            raise TypeError(msg)
        if is_endless(trigger):
            msg = (
                f"Periodic({describe(self.func)}, ...) cannot take an AndTrigger of APScheduler 3: "
                "it never finds a moment after its first one, and looks without end. Say it all in "
                "the fields of one CronTrigger, or in a trigger of your own"
            )
            raise TypeError(msg)
        if not isinstance(cast("object", self.config), TaskConfig):
            msg = f"config is a TaskConfig, not {name_kind(self.config)}: TaskConfig(...)"
            raise TypeError(msg)
        if self.claim is not None:
            _check_claim(self.claim)

    @property
    def name(self) -> str:
        """The configured name, or else the function's qualified name."""
        return describe(self.func) if self.config.name is None else self.config.name


class PeriodicTask:
    """A periodic task in an application: when it runs next, and what became of its last run.

    Attributes:
        name: Its name.
        paused: Whether its times pass without a run; to be set.
    """

    def __init__(self, periodic: Periodic, runner: TaskRunner) -> None:
        """Made by `TaskRunner`, not by users."""
        self.name: Final = periodic.name
        self.paused: bool = False
        self._next_run_time: datetime | None = None
        self._last: Task[..., Any] | None = None
        self._periodic = periodic
        self._runner = runner
        self._config = TaskConfig(key=f"periodic:{self.name}").merge(periodic.config)

    @property
    def next_run_time(self) -> datetime | None:
        """When it runs next by the clock.

        ``None`` if never again, or before the application's runner has started.
        """
        return self._next_run_time

    @property
    def last(self) -> Task[..., Any] | None:
        """The task of its last run; ``None`` before the first."""
        return self._last

    def run(self) -> Task[[], Any]:
        """Run it now, whatever clock, pause and claim say; or return the run that lives.

        May be called from any thread. The times by the clock stay as they are.

        Raises:
            RunnerClosedError: The application has shut down (contract 5.4).
        """
        # Its own settings are those of its task, and not of what that schedules.
        scheduler = self._runner._past()
        config = scheduler.config.merge(self._config)
        token = current.set(scheduler)  # so the function can schedule, wherever this is called
        try:
            return scheduler._schedule(
                self._periodic.func,
                (),
                {},
                IMMEDIATE,
                config,
                partial(self._accept, scheduler._executor),
            )
        finally:
            current.reset(token)

    def _accept(self, executor: Executor, task: Task) -> Task:
        """Let a run in, or return the one that lives; the caller holds the runner's lock."""
        last = self._last
        if last is None or last._is_over or self._runner._closed is not None:
            self._last = last = executor._accept(task)
        return last

    def __repr__(self) -> str:
        """Show the name, and when it runs next."""
        next_run_time, paused = self.next_run_time, self.paused
        return f"<PeriodicTask {escape(self.name)} {next_run_time=!s} {paused=}>"

    # Its clock.

    def _start(self, backend: Backend, released: Event) -> Service:
        """Follow the clock, and run from the event on."""
        try:
            self._next_run_time = self._find_first(datetime.now(UTC))
        except Exception as error:  # noqa: BLE001 - a trigger is anyone's
            self._stop_for(error)
        follow = partial(self._follow, backend, released)
        return Service(backend, f"clock of {self.name}", follow, self._stop_for)

    async def _follow(self, backend: Backend, released: Event) -> None:
        try:
            while self._next_run_time is not None:
                at = self._next_run_time
                # No event tells when a clock is set.
                while (left := (at - datetime.now(UTC)).total_seconds()) > 0:  # noqa: ASYNC110
                    await sleep(min(left, LOOK_EVERY))
                await released.wait()
                await self._run_at(at, backend)
                # What has been missed by now this run has made up for.
                now = max(at.astimezone(UTC), datetime.now(UTC))
                following = self._find_next(at, now)
                while following is not None and following <= now:
                    await checkpoint()
                    following = self._find_next(following, now)
                self._next_run_time = following
        finally:
            self._next_run_time = None

    def _find_first(self, now: datetime) -> datetime | None:
        found = self._find_next(None, now)
        while found is not None and found < now:  # it has passed before there was a clock
            found = self._find_next(found, now)
        return found

    def _find_next(self, previous: datetime | None, now: datetime) -> datetime | None:
        found = self._ask(previous, now)
        if previous is None or _is_later(found, previous):
            return found
        # So some versions of APScheduler do when summer time ends, or the clock is set back.
        found = self._ask(None, previous.astimezone(UTC) + timedelta(microseconds=1))
        # What is added to a moment, such as a jitter, drops that it is the second of two of one
        # time on the wall.
        for moment in (found, found and found.replace(fold=1)):
            if _is_later(moment, previous):
                return moment
        msg = (
            f"{self._periodic.trigger!r} gives {found}, which is not after {previous}: a trigger "
            "gives a later moment each time"
        )
        raise ValueError(msg)

    def _ask(self, previous: datetime | None, now: datetime) -> datetime | None:
        found = self._periodic.trigger.get_next_fire_time(previous, now)
        if found is None:
            return None
        given = cast("object", found)
        if not hasattr(given, "tzinfo"):  # not by its class: tests put others in the place of that
            close_coroutine(given)
            msg = (
                f"{self._periodic.trigger!r} gives a {type(given).__name__}: get_next_fire_time is "
                "a sync method that returns a datetime with a time zone, or None for never again"
            )
            raise TypeError(msg)
        if found.tzinfo is None:
            msg = (
                f"{self._periodic.trigger!r} gives moments without a time zone: give them one, "
                "UTC for instance"
            )
            raise ValueError(msg)
        return found

    async def _run_at(self, at: datetime, backend: Backend) -> None:
        if self.paused:
            return
        if self._last is not None and not self._last._is_over:
            _report.overlap(self.name, at)
            return
        claim, why = self._periodic.claim, "its claim failed"
        ask = partial(self._runner._messengers.ask, ("claim", self.name), backend)
        try:
            if claim is None or await ask(claim, self.name, at):
                why = "it could not be scheduled"
                watching.apart(self.run)  # the clock is nobody's test
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | GeneratorExit):
                raise
            if backend.cancels(error):  # it may be granted all the same, and nobody else's then
                _report.no_run(self.name, at, "its clock was stopped before its claim answered")
                raise
            _report.no_run(self.name, at, why, error)
        backend.uncancel()

    def _stop_for(self, error: BaseException) -> None:
        self._next_run_time = None
        _report.clock_stopped(self.name, error)


def _check_func(func: object) -> None:
    if close_coroutine(func):
        called = func.__qualname__
        msg = (
            f"Periodic takes a function, not the coroutine that {called}() returns: write "
            f"Periodic({called}, ...)"
        )
    elif not callable(func):
        msg = f"Periodic takes a function, and {type(func).__name__} cannot be called"
    elif not fits(func, ()):
        msg = (
            f"Periodic calls {describe(func)} without arguments, and it needs some: pass "
            f"functools.partial({describe(func)}, ...)"
        )
    else:
        check_call(func, (), {})
        return
    raise TypeError(msg)


def _check_claim(claim: object) -> None:
    remedy = "pass a function that takes (name, moment)"
    check_callback("claim", claim, "the name", "the moment", remedy=remedy)


def _is_later(found: datetime | None, previous: datetime) -> bool:
    # In UTC: two moments of one time zone compare by what a clock on the wall shows.
    return found is None or found.astimezone(UTC) > previous.astimezone(UTC)


def make_periodic(declared: Sequence[Periodic], runner: TaskRunner) -> Mapping[str, PeriodicTask]:
    """Return the periodic tasks of a runner, by their names.

    Raises:
        TypeError: An engine could not take the call of one (contract 10.8).
    """
    for one in declared:
        try:
            carry(runner._carriers.values(), one.func, (), {})
        except TypeError as error:
            msg = (
                f"Periodic({describe(one.func)}, ...) could never be handed over: {error} (What "
                "it is called with goes into functools.partial(...).)"
            )
            raise TypeError(msg) from error
    return MappingProxyType({one.name: PeriodicTask(one, runner) for one in declared})
