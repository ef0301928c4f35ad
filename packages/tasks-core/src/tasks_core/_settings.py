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


def check_seconds(name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        msg = f"{name} is a number of seconds, not {value!r}"
        raise TypeError(msg)
    if not value >= 0:
        msg = f"{name} is a number of seconds from 0, not {value!r}"
        raise ValueError(msg)
    return float(value)


def check_count(name: str, value: object, *, of: str, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        msg = f"{name} is a whole number of {of}, not {value!r}"
        raise TypeError(msg)
    if value < least:
        msg = f"{name} is a number of {of} from {least}, not {value!r}"
        raise ValueError(msg)
    return value
