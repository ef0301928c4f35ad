"""The settings of a runner, and what is refused among them."""

from __future__ import annotations

from typing import TypedDict

from ._config import TaskConfig


class RunnerSettings(TypedDict, total=False):
    """The settings of a `TaskRunner`, as all that makes one takes them too.

    `add_tasks`, plugins and middleware pass them on, so all mean what they mean there.

    Since 0.1.0.
    """

    config: TaskConfig | None
    grace_period: float
    shutdown_timeout: float | None
    thread_limit: int
    history: int


def check_config(value: object) -> TaskConfig:
    if value is None:
        return TaskConfig()
    if not isinstance(value, TaskConfig):
        msg = f"config is a TaskConfig, not {type(value).__name__}: write TaskConfig(...)"
        raise TypeError(msg)
    return value
