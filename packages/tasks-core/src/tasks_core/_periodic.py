"""Tasks that run by the clock: what is declared, and what lives while the application does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from anyio import Event, get_cancelled_exc_class, sleep
from anyio.lowlevel import checkpoint

from . import _report
from ._checks import check_callable
from ._config import TaskConfig
from ._function import check_call, describe
from ._record import escape
from ._scheduler import current
from ._service import Service
from ._task import Task
from ._triggers import Trigger

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
        config: Settings of its tasks, over the application's. Default: nothing set.
        claim: See `Claim`. Default: it runs in every process.

    Raises:
        TypeError: The function needs arguments, or something is not what it should be.

    Since 0.1.0.
    """

    func: Callable[[], object]
    trigger: Trigger
    config: TaskConfig = field(default_factory=TaskConfig)
    claim: Claim | None = None

    def __post_init__(self) -> None:
        """Refuse what could only fail when its time has come (contract 10.8)."""
        check_call(self.func, (), {})
        if not callable(getattr(cast("object", self.trigger), "get_next_fire_time", None)):
            msg = (
                f"Periodic({describe(self.func)}, ...) needs a trigger, not "
                f"{type(self.trigger).__name__}: Every(minutes=5), or Cron('0 3 * * *')"
            )
            raise TypeError(msg)
        if not isinstance(cast("object", self.config), TaskConfig):
            msg = f"config is a TaskConfig, not {type(self.config).__name__}: TaskConfig(...)"
            raise TypeError(msg)
        if self.claim is not None:
            check_callable("claim", self.claim, remedy="pass a function that takes (name, moment)")

    @property
    def name(self) -> str:
        """The configured name, or else the function's qualified name."""
        return describe(self.func) if self.config.name is None else self.config.name


class PeriodicTask:
    """A periodic task in an application: when it runs next, and what became of its last run.

    Attributes:
        name: Its name.
        next_run_time: When it runs next by the clock; ``None`` if never again, or before the
            application's runner has started.
        last: The task of its last run; ``None`` before the first.
        paused: Whether its times pass without a run; to be set.

    Since 0.1.0.
    """

    def __init__(self, periodic: Periodic, runner: TaskRunner) -> None:
        """Made by `TaskRunner`, not by users."""
        self.name: Final = periodic.name
        self.next_run_time: datetime | None = None
        self.last: Task[..., Any] | None = None
        self.paused: bool = False
        self._periodic = periodic
        self._runner = runner
        self._config = TaskConfig(key=f"periodic:{self.name}", unique=True).merge(periodic.config)

    def run(self) -> Task[[], Any]:
        """Run it now, whatever clock, pause and claim say; or return the run that lives.

        May be called from any thread. The times by the clock stay as they are.

        Raises:
            RunnerClosedError: The application has shut down (contract 5.4).
        """
        scheduler = self._runner._past(self._config)
        token = current.set(scheduler)  # so the function can schedule, wherever this is called
        try:
            self.last = task = scheduler.schedule(self._periodic.func)
        finally:
            current.reset(token)
        return task

    def __repr__(self) -> str:
        """Show the name, and when it runs next."""
        next_run_time, paused = self.next_run_time, self.paused
        return f"<PeriodicTask {escape(self.name)} {next_run_time=!s} {paused=}>"

    # Its clock.

    def _start(self, backend: Backend, released: Event) -> Service:
        """Follow the clock, and run from the event on."""
        try:
            self.next_run_time = self._find_next(None, datetime.now(UTC))
        except Exception as error:  # noqa: BLE001 - a trigger is anyone's
            self._stop_for(error)
        follow = partial(self._follow, backend, released)
        return Service(backend, f"clock of {self.name}", follow, self._stop_for)

    async def _follow(self, backend: Backend, released: Event) -> None:
        while self.next_run_time is not None:
            at = self.next_run_time
            # No event tells when a clock is set.
            while (left := (at - datetime.now(UTC)).total_seconds()) > 0:  # noqa: ASYNC110
                await sleep(min(left, LOOK_EVERY))
            await released.wait()
            await self._run_at(at, backend)
            # What has been missed by now this run has made up for.
            now = max(at, datetime.now(UTC))
            following = self._find_next(at, now)
            while following is not None and following <= now:
                await checkpoint()
                following = self._find_next(following, now)
            self.next_run_time = following

    def _find_next(self, previous: datetime | None, now: datetime) -> datetime | None:
        found = self._periodic.trigger.get_next_fire_time(previous, now)
        if found is not None and found.tzinfo is None:
            msg = f"{self._periodic.trigger!r} gives moments without a time zone"
            raise ValueError(msg)
        return found

    async def _run_at(self, at: datetime, backend: Backend) -> None:
        if self.paused:
            return
        if self.last is not None and not self.last._is_over:
            _report.overlap(self.name, at)
            return
        claim = self._periodic.claim
        try:
            if claim is None or await self._runner._messengers.ask(backend, claim, self.name, at):
                self.run()
        except get_cancelled_exc_class():
            raise
        except Exception as error:  # noqa: BLE001 - a claim is anyone's
            _report.unclaimed(self.name, at, error)

    def _stop_for(self, error: BaseException) -> None:
        self.next_run_time = None
        _report.clock_stopped(self.name, error)


def make_periodic(declared: Sequence[Periodic], runner: TaskRunner) -> Mapping[str, PeriodicTask]:
    """Return the periodic tasks of a runner, by their names."""
    return MappingProxyType({one.name: PeriodicTask(one, runner) for one in declared})
