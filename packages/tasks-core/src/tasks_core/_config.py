"""What can be set for a task, and the one rule by which layers of settings merge."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Protocol,
    Self,
    TypeAlias,
    TypedDict,
    cast,
    final,
    get_args,
)

from ._checks import check_callback, check_count, check_flag, check_seconds, check_text, name_kind

if TYPE_CHECKING:
    from ._task import Task

RunOn: TypeAlias = Literal["success", "failure", "always"]
"""Outcomes of a request after which a task of a later phase runs (contract 1.6)."""

_OUTCOMES = get_args(RunOn)

TaskErrorHandler: TypeAlias = "Callable[[Task[..., Any], Exception], object]"
"""Called with a failed task and what it raised, sync or async (contract 4.3)."""


class Retry(Protocol):
    """Makes attempts of a task, as many as it likes (contract 9.5).

    ``stamina.AsyncRetryingCaller(attempts=3).on(httpx.TransportError)`` is one, and so are
    ``tenacity.AsyncRetrying(...)`` and any async function of this shape.
    """

    # Of an awaitable it makes a coroutine: so a caller of sync functions, which returns what it has
    # called returns, is no retry to the checkers. Not by `async def`, which pyright takes for a
    # narrower type than what most decorators return.
    def __call__(self, attempt: Callable[[], Awaitable[Any]], /) -> Coroutine[Any, Any, Any]:
        """Call ``attempt()`` until it succeeds or enough is enough.

        Args:
            attempt: Makes one attempt: returns what the function returns, raises what it raises. Of
                several at a time each is a task by ``asyncio.ensure_future(attempt())``.

        Returns:
            What the task returns. What is raised at last is what the task raises.
        """
        ...


class TaskSettings(TypedDict, total=False):
    """The settings of a task, as every ``.task(...)`` takes them: see `TaskConfig`."""

    name: str | None
    shield: bool | None
    on_error: TaskErrorHandler | None
    run_on: RunOn | None
    timeout: float | None
    retry: Retry | None
    key: str | None
    unique: bool | None
    limit: int | None
    backlog: int | None
    daemon: bool | None
    confirm: bool | None


@final
@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """Settings of a task; ``None`` means "not set here" (contract 3).

    Args:
        name: The task's name, in logs and as the name of the running asyncio or trio task.
            Default: the function's qualified name.
        shield: Whether a shutdown waits for the task instead of cancelling it. Default: no.
        on_error: Called with the task and its error after the failure was logged. Default: none.
        run_on: For tasks of the later phases, the outcome of the request after which they run:
            ``"success"``, ``"failure"`` or ``"always"``. Default: ``"success"``.
        timeout: Seconds that an attempt may take, from its beginning; then it is cancelled, and
            has failed with a `TaskTimedOut` (contract 9.1). Default: without limit.
        retry: Calls the function again where that fails: see `Retry`. Default: it is called once.
        key: What tasks are counted by, for the three that follow; the application's tasks in this
            process are. Default: the function, by its qualified name.
        unique: Whether ``schedule`` returns the task of the same function and key that lives, if
            there is one, and makes none (contract 9.8). Default: no.
        limit: How many tasks of the key run at a time; the others wait their turn. Default: any
            number.
        backlog: How many tasks of the key may wait, where there is a ``limit``; one more raises a
            `BacklogFullError` (contract 9.11). Default: any number.
        daemon: Whether the task lives as long as the process, a listener for instance: a shutdown
            cancels it at once, shielded or not (contract 5.8). Default: no.
        confirm: Whether the response waits until the task's engine has it, and the request fails
            where it has not (contract 8.8). For tasks of this process, and those of *after
            response*, it changes nothing. Default: no.

    Raises:
        TypeError: A setting is of the wrong type, or cannot be called as it will be.
        ValueError: ``run_on`` is none of the three, or a number is out of its range.
    """

    name: str | None = None
    shield: bool | None = None
    on_error: TaskErrorHandler | None = None
    run_on: RunOn | None = None
    timeout: float | None = None
    retry: Retry | None = None
    key: str | None = None
    unique: bool | None = None
    limit: int | None = None
    backlog: int | None = None
    daemon: bool | None = None
    confirm: bool | None = None

    def __post_init__(self) -> None:
        """Refuse what could only fail later, far from the caller (contract 2.2)."""
        for name, check in _CHECKS.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, check(name, value))

    def __deepcopy__(self, memo: object) -> Self:
        """Return itself: it is immutable, and what it refers to must not be copied with it."""
        return self

    @property
    def shielded(self) -> bool:
        """Whether a shutdown waits for the task: `shield`, unless it is a `daemon`."""
        return bool(self.shield) and not self.daemon

    def merge(self, other: Self) -> Self:
        """Return a new config: ``other``'s value where it sets one, else this one's.

        Associative, with ``TaskConfig()`` as identity, for every field there is (contract 3.2).

        Raises:
            TypeError: ``other`` is no `TaskConfig`.
        """
        if not isinstance(cast("object", other), TaskConfig):
            msg = f"merge takes a TaskConfig, not {name_kind(other)}: write TaskConfig(...)"
            raise TypeError(msg)
        merged = object.__new__(type(self))
        given = {name: value for name, value in other.__dict__.items() if value is not None}
        merged.__dict__.update(self.__dict__, **given)
        return merged

    def _override(self, settings: TaskSettings) -> Self:
        """Return a new config with these settings over this one's: as merging them does.

        Raises:
            TypeError: A setting is of the wrong type, or there is none of that name.
            ValueError: A setting is out of its range.
        """
        merged = object.__new__(type(self))
        values = merged.__dict__
        values.update(self.__dict__)
        for name, value in settings.items():
            check = _CHECKS.get(name)
            if check is None:
                msg = f"there is no setting {name!r} of a task: there are {', '.join(_CHECKS)}"
                raise TypeError(msg)
            if value is not None:
                values[name] = check(name, value)
        return merged


def _check_outcome(name: str, value: object) -> object:
    if value not in _OUTCOMES:
        msg = f'{name} must be "success", "failure" or "always", not {value!r}'
        raise ValueError(msg)
    return value


def _check_on_error(name: str, value: object) -> object:
    remedy = "pass a function that takes (task, error)"
    return check_callback(name, value, "the task", "the error", remedy=remedy)


def _check_retry(name: str, value: object) -> object:
    remedy = "pass a caller such as stamina.AsyncRetryingCaller(attempts=3).on(ConnectionError)"
    return check_callback(name, value, "an attempt", remedy=remedy)


_CHECKS: dict[str, Callable[[str, object], object]] = {
    "name": check_text,
    "shield": check_flag,
    "on_error": _check_on_error,
    "run_on": _check_outcome,
    "timeout": check_seconds,
    "retry": _check_retry,
    "key": check_text,
    "unique": check_flag,
    "limit": partial(check_count, of="tasks", least=1),
    "backlog": partial(check_count, of="tasks", least=0),
    "daemon": check_flag,
    "confirm": check_flag,
}
