"""The settings of a runner, and what is refused among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Self, TypedDict, cast

from ._carrier import Carrier
from ._checks import check_callback, check_count, check_seconds, check_text, name_kind
from ._config import TaskConfig, TaskSettings
from ._function import is_async
from ._names import describe
from ._periodic import Periodic
from ._record_store import RecordStore

if TYPE_CHECKING:
    from ._observers import TaskObserver


class RunnerSettings(TypedDict, total=False):
    """The settings of a `TaskRunner`, as all that makes one takes them too.

    `add_tasks`, plugins and middleware pass them on, so all mean what they mean here. Each raises
    a `TypeError` where it is of the wrong type, and a `ValueError` where it is out of its range.
    """

    config: TaskConfig | None
    """The application's layer of task settings. Default: nothing set."""
    grace_period: float
    """Seconds that running tasks have at shutdown before they are cancelled. Default: 0."""
    shutdown_timeout: float | None
    """Seconds that a shutdown then waits for shielded tasks, before it cancels them too. Default:
    without limit."""
    thread_limit: int
    """How many sync functions may run at the same time, on each event loop. Default: 40."""
    observers: Sequence[TaskObserver]
    """Who is told of each task's steps, in this order: see `TaskObserver`. Default: nobody."""
    periodic: Sequence[Periodic]
    """What runs by the clock: see `Periodic`. Default: nothing."""
    records: RecordStore | None
    """Where records of followed tasks are kept, for the other processes of the server: a store of
    ``py-key-value-aio``, for instance. Default: nowhere. See `TasksScheduler.status`."""
    records_ttl: float
    """Seconds for which the record of a task that has ended is kept there. Default: 3600."""
    carriers: Sequence[Carrier]
    """What hands tasks over to engines, asked in this order: see `Carrier`. Default: none, so that
    all tasks run in this process."""
    history: int
    """How many tasks that have ended are remembered, of those whose id was asked for (about 1 KiB
    each, and their results); 0 remembers none. Default: 1000. See `TaskRegistry`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a runner, checked, with their defaults."""

    config: TaskConfig | None = None
    grace_period: float = 0.0
    shutdown_timeout: float | None = None
    thread_limit: int = 40
    observers: Sequence[TaskObserver] = ()
    periodic: Sequence[Periodic] = ()
    records: RecordStore | None = None
    records_ttl: float = 3600.0
    carriers: Sequence[Carrier] = ()
    history: int = 1000

    @classmethod
    def of(cls, settings: RunnerSettings) -> Self:
        """Check the settings that a user has given.

        Raises:
            TypeError: One is of the wrong type, or there is none of that name.
            ValueError: One is out of its range.
        """
        names = RunnerSettings.__annotations__
        for name in settings:
            if name in TaskSettings.__annotations__:
                msg = f"{name} is a task's setting, not a runner's: config=TaskConfig({name}=...)"
                raise TypeError(msg)
            if name not in names:
                msg = f"there is no setting {name!r} of a runner: there are {', '.join(names)}"
                raise TypeError(msg)
        return cls(**settings)

    def __post_init__(self) -> None:
        """Refuse nonsense."""
        config = cast("object", self.config)
        if config is not None and not isinstance(config, TaskConfig):
            msg = f"config is a TaskConfig, not {name_kind(config)}: write TaskConfig(...)"
            raise TypeError(msg)
        check_seconds("grace_period", self.grace_period)
        if self.shutdown_timeout is not None:
            check_seconds("shutdown_timeout", self.shutdown_timeout)
        check_count("thread_limit", self.thread_limit, of="threads", least=1)
        check_observers(self.observers)
        check_periodic(self.periodic)
        check_store(self.records)
        if check_seconds("records_ttl", self.records_ttl) in {0.0, inf}:
            msg = f"records_ttl is a finite number of seconds above 0, not {self.records_ttl!r}"
            raise ValueError(msg)
        check_carriers(self.carriers)
        check_count("history", self.history, of="tasks", least=0)


def check_observers(value: object) -> None:
    """Refuse observers that could not be called, or whose calls nobody would await."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        msg = f"observers is a list of functions, not {name_kind(value)}: observers=[...]"
        raise TypeError(msg)
    for observer in cast("Sequence[object]", value):
        remedy = "pass a function that takes it"
        if is_async(check_callback("an observer", observer, "the task", remedy=remedy)):
            msg = f"observers are not async, and {describe(observer)} is: let it schedule a task"
            raise TypeError(msg)


def check_carriers(value: object) -> None:
    """Refuse what is none, and two of which nobody could say which one is meant."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        msg = f"carriers is a list of carriers, not {name_kind(value)}: carriers=[...]"
        raise TypeError(msg)
    names = set[str]()
    for carrier in cast("Sequence[object]", value):
        if not isinstance(carrier, Carrier):
            msg = (
                f"carriers is a list of carriers, and {name_kind(carrier)} is none: "
                "pass such as CeleryCarrier(app)"
            )
            raise TypeError(msg)
        kind = type(carrier).__name__
        check_seconds(f"the timeout of {kind}", carrier.timeout)
        if not check_text(f"the name of {kind}", getattr(carrier, "name", None)):
            msg = f"the name of {kind} is empty, and ids begin with it: name=..."
            raise ValueError(msg)
        if carrier.name in names:
            msg = f"two carriers have the name {carrier.name!r}: pass name=... to one of them"
            raise ValueError(msg)
        names.add(carrier.name)


def check_periodic(value: object) -> None:
    """Refuse what is none, and two of one name (contract 10.8)."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        msg = f"periodic is a list, not {name_kind(value)}: periodic=[Periodic(...)]"
        raise TypeError(msg)
    names = set[str]()
    for periodic in cast("Sequence[object]", value):
        if not isinstance(periodic, Periodic):
            msg = f"periodic is a list of Periodic(...), and {name_kind(periodic)} is none"
            raise TypeError(msg)
        if periodic.name in names:
            msg = (
                f"two periodic tasks are called {periodic.name!r}: give one of them a name by "
                "TaskConfig(name=...)"
            )
            raise ValueError(msg)
        names.add(periodic.name)


def check_store(value: object) -> None:
    """Refuse what is no store of records."""
    if value is None:
        return
    if isinstance(value, type):
        msg = f"records is a store, not {name_kind(value)}: {describe(value)}(...)"
        raise TypeError(msg)
    for name in ("put", "get"):
        method = getattr(value, name, None)
        if not (callable(method) and is_async(method)):
            msg = (
                f"records is a store with async put and get, and {name_kind(value)} has no "
                f"such {name}: pass one of py-key-value-aio, RedisStore(...) for instance"
            )
            raise TypeError(msg)
