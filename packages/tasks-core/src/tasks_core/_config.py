"""What can be set for a task, and the one rule by which layers of settings merge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, cast, get_args

if TYPE_CHECKING:
    from ._task import Task

RunOn: TypeAlias = Literal["success", "failure", "always"]
"""Outcomes of a request after which a task of a later phase runs (contract 1.6)."""

_OUTCOMES = get_args(RunOn)

TaskErrorHandler: TypeAlias = "Callable[[Task[..., Any], Exception], object]"
"""Called with a failed task and what it raised, sync or async (contract 4.3)."""


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
        name, shield, on_error, run_on = cast(
            "tuple[object, ...]", (self.name, self.shield, self.on_error, self.run_on)
        )
        if name is not None and not isinstance(name, str):
            msg = f"name must be a string, not {type(name).__name__}: pass str(...) of it"
            raise TypeError(msg)
        if type(name) not in {str, NoneType}:  # an enum's, for instance: take its plain value
            object.__setattr__(self, "name", str.__str__(cast("str", name)))
        if not (shield is None or isinstance(shield, int)):
            msg = f"shield must be true or false, not {type(shield).__name__}"
            raise TypeError(msg)
        if on_error is not None and not callable(on_error):
            msg = (
                f"on_error must be callable, not {type(on_error).__name__}: "
                "pass a function that takes (task, error)"
            )
            raise TypeError(msg)
        if run_on is not None and run_on not in _OUTCOMES:
            msg = f'run_on must be "success", "failure" or "always", not {run_on!r}'
            raise ValueError(msg)

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
