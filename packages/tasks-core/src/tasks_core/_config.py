"""What can be set for a task, and the one rule by which layers of settings merge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypedDict, cast, get_args

from ._checks import check_callable, check_flag, check_text

if TYPE_CHECKING:
    from ._task import Task

RunOn: TypeAlias = Literal["success", "failure", "always"]
"""Outcomes of a request after which a task of a later phase runs (contract 1.6)."""

_OUTCOMES = get_args(RunOn)

TaskErrorHandler: TypeAlias = "Callable[[Task[..., Any], Exception], object]"
"""Called with a failed task and what it raised, sync or async (contract 4.3)."""


class TaskSettings(TypedDict, total=False):
    """The settings of a task, as every ``.task(...)`` takes them: see `TaskConfig`.

    Since 0.1.0.
    """

    name: str | None
    shield: bool | None
    on_error: TaskErrorHandler | None
    run_on: RunOn | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskConfig:
    """Settings of a task; ``None`` means "not set here" (contract 3).

    Args:
        name: The task's name, in logs and as the name of the running asyncio or trio task.
            Default: the function's qualified name.
        shield: Whether a shutdown waits for the task instead of cancelling it. Default: no.
        on_error: Called with the task and its error after the failure was logged. Default: none.
        run_on: For tasks of the later phases, the outcome of the request after which they run:
            ``"success"``, ``"failure"`` or ``"always"``. Default: ``"success"``.

    Raises:
        TypeError: ``name`` is no string, ``shield`` no boolean, or ``on_error`` cannot be called.
        ValueError: ``run_on`` is none of the three.

    Since 0.1.0.
    """

    name: str | None = None
    shield: bool | None = None
    on_error: TaskErrorHandler | None = None
    run_on: RunOn | None = None

    def __post_init__(self) -> None:
        """Refuse what could only fail later, far from the caller (contract 2.2)."""
        name = check_text("name", self.name)
        if name is not self.name:
            object.__setattr__(self, "name", name)
        check_flag("shield", self.shield)
        check_callable("on_error", self.on_error, takes="(task, error)")
        run_on = cast("object", self.run_on)
        if run_on is not None and run_on not in _OUTCOMES:
            msg = f'run_on must be "success", "failure" or "always", not {run_on!r}'
            raise ValueError(msg)

    def __deepcopy__(self, memo: object) -> Self:
        """Return itself: it is immutable, and what it refers to must not be copied with it."""
        return self

    @property
    def shielded(self) -> bool:
        """Whether the task is shielded: `shield`, with its default applied."""
        return bool(self.shield)

    def merge(self, other: Self) -> Self:
        """Return a new config: ``other``'s value where it sets one, else this one's.

        Associative, with ``TaskConfig()`` as identity, for every field there is (contract 3.2).
        """
        merged = object.__new__(type(self))
        for name in self.__dataclass_fields__:
            value = getattr(other, name)
            object.__setattr__(merged, name, getattr(self, name) if value is None else value)
        return merged
