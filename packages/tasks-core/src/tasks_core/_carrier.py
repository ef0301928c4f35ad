"""The seam to engines: task queues outside of this process, which tasks are handed over to (8)."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from secrets import token_hex
from typing import Any, Final, TypeAlias, cast

from ._record import Progress
from ._state import TaskState

HandOver: TypeAlias = Callable[[str], object]
"""Hands a call over to an engine, under an id: what `Carrier.carry` returns.

Sync, or async and then awaited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStatus:
    """What is known of a task by its id, wherever it runs.

    Its ``result`` is the very object that a task of this process has returned, for whoever is shown
    it: it may be secret, and JSON may not hold it. `dataclasses.replace(status, result=None)` is
    without it, as other processes have it.

    Attributes:
        id: The task's `Task.id`, which is the engine's too.
        state: Its state; of a task that was handed over, what the engine says.
        result: What it has returned; ``None`` unless it has succeeded.
        error_type: The qualified name of the type of what it raised; ``None`` unless it failed.
        error: The text of what it raised; ``None`` unless it failed.
        progress: What it has reported last, if anything.
        carrier: The name of the carrier whose engine has it; ``None`` for a task of this process.
    """

    id: str
    state: TaskState
    result: Any = None
    error_type: str | None = None
    error: str | None = None
    progress: Progress | None = None
    carrier: str | None = None


class Carrier(ABC):
    """Hands tasks over to an engine: those whose function is the engine's own task object."""

    name: str
    """The carrier's name: in ids, logs and statuses. Unique among a runner's carriers."""
    timeout: float = 5.0
    """Seconds that one hand-over takes at most, the wait for its turn included (contract 8.6); and
    one question for a status (8.9)."""
    needs_asyncio: bool = False
    """Whether the engine works on asyncio only."""

    @abstractmethod
    def carry(
        self, func: Callable[..., object], args: tuple[Any, ...], kwargs: Mapping[str, Any], /
    ) -> HandOver | None:
        """Return what hands a call over, or ``None`` if the function is not the engine's.

        Called by ``schedule``, in any thread: it waits for nothing, and asks no broker.

        Args:
            func: The function, of a partial the innermost one.
            args: Its positional arguments, the partial's included.
            kwargs: Its keyword arguments, likewise.

        Returns:
            A function that is called with the task's id, when its phase has begun. A sync one is
            called in a thread.

        Raises:
            TypeError: The function is the engine's, but the engine could not take the arguments.
        """

    def status(self, task_id: str, /) -> Awaitable[TaskStatus | None] | TaskStatus | None:
        """Ask the engine what has become of a task; ``None`` if it cannot know.

        Sync, and then called in a thread, or async; `timeout` bounds it. An engine that cannot tell
        an unknown id from one that waits says *pending*.
        """
        del task_id
        return None

    def _owns(self, func: Callable[..., object], /) -> bool:
        """Whether a function is of this carrier's own application, or broker: it is asked first."""
        del func
        return False


@dataclass(slots=True, eq=False)
class Carried:
    """How a task is handed over, and whether its engine has confirmed it.

    It may have after the task has failed: its error handler may hand it over again.
    """

    carrier: Carrier
    send: HandOver
    confirmed: bool = False


_ID: Final = re.compile("(.+)-[0-9a-f]{32}")


def make_id(carrier: str | None) -> str:
    """Return an id that nobody can guess, and that tells whom to ask (contract 8.4)."""
    digits = token_hex(16)
    return digits if carrier is None else f"{carrier}-{digits}"


def find_carrier(task_id: str) -> str:
    """Return the name of the carrier in an id; empty if that is none of a carried task.

    Clients send what they like, and to an engine an id may be a key, or the name of a file.
    """
    found = _ID.fullmatch(task_id)
    return found[1] if found else ""


def carry(
    carriers: Iterable[Carrier],
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Carried | None:
    """Return how a call is handed over, if it is: by its own carrier, or the first that takes it.

    Raises:
        TypeError: The engine could not take the arguments (contract 8.3).
    """
    called: object = func
    while isinstance(called, partial):
        inner = cast("partial[object]", called)
        called, args, kwargs = inner.func, (*inner.args, *args), {**inner.keywords, **kwargs}
    taken = cast("Callable[..., object]", called)
    for carrier in sorted(carriers, key=lambda one: not one._owns(taken)):
        send = carrier.carry(taken, args, kwargs)
        if send is not None:
            return Carried(carrier, send)
    return None
