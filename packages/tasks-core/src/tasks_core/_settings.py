"""The settings of a runner, and what is refused among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict, cast

from ._checks import check_count, check_seconds
from ._config import TaskConfig


class RunnerSettings(TypedDict, total=False):
    """The settings of a `TaskRunner`, as all that makes one takes them too.

    `add_tasks`, plugins and middleware pass them on, so all mean what they mean here. Each raises
    a `TypeError` where it is of the wrong type, and a `ValueError` where it is out of its range.

    Since 0.1.0.
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
    history: int = 1000

    def __post_init__(self) -> None:
        """Refuse nonsense."""
        config = cast("object", self.config)
        if config is not None and not isinstance(config, TaskConfig):
            msg = f"config is a TaskConfig, not {type(config).__name__}: write TaskConfig(...)"
            raise TypeError(msg)
        check_seconds("grace_period", self.grace_period)
        if self.shutdown_timeout is not None:
            check_seconds("shutdown_timeout", self.shutdown_timeout)
        check_count("thread_limit", self.thread_limit, of="threads", least=1)
        check_count("history", self.history, of="tasks", least=0)
