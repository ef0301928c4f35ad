"""Calls as people write them, and each as it has to be written for what is compared."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any, Final, ParamSpec, TypeAlias

from benchmarks.measuring import OURS, PEER, TASKFLOW
from benchmarks.ways import CORE, EARLIER, GROUP, MANAGED
from benchmarks.work import done

P = ParamSpec("P")

Call: TypeAlias = Callable[[Any], object]
"""Starts one task by a scheduler, or by what is in its place."""


async def function(a: int, b: int = 2) -> None:
    """Do nothing but count."""
    del a, b
    done.ended += 1


async def keyword_only(*, b: int) -> None:
    """Do nothing but count."""
    del b
    done.ended += 1


def _decorated(func: Callable[P, Awaitable[None]]) -> Callable[P, Awaitable[None]]:
    @wraps(func)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        await func(*args, **kwargs)

    return wrapper


wrapped: Final = _decorated(function)


class Mailer:
    async def send(self, a: int) -> None:
        """Do nothing but count."""
        del a
        done.ended += 1

    async def __call__(self, a: int) -> None:
        """Do nothing but count."""
        del a
        done.ended += 1


mailer: Final = Mailer()

BY_POSITION: Final = "by position"
BY_KEYWORD: Final = "by keyword"
KEYWORD_ONLY: Final = "keyword-only"
WRAPPED: Final = "behind functools.wraps by keyword"
METHOD: Final = "bound method"
PARTIAL: Final = "partial"
OBJECT: Final = "callable object"
CONFIGURED: Final = "name and shield anew"

_SCHEDULE: Final[dict[str, Call]] = {
    BY_POSITION: lambda tasks: tasks.schedule(function, 1),
    BY_KEYWORD: lambda tasks: tasks.schedule(function, 1, b=3),
    KEYWORD_ONLY: lambda tasks: tasks.schedule(keyword_only, b=3),
    WRAPPED: lambda tasks: tasks.schedule(wrapped, 1, b=3),
    METHOD: lambda tasks: tasks.schedule(mailer.send, 1),
    PARTIAL: lambda tasks: tasks.schedule(partial(function, 1)),
    OBJECT: lambda tasks: tasks.schedule(mailer, 1),
    CONFIGURED: lambda tasks: tasks.task(name="mail", shield=True).schedule(function, 1),
}

# It takes no keyword arguments for the function, so there they need a partial.
_START_SOON: Final[dict[str, Call]] = {
    BY_POSITION: lambda group: group.start_soon(function, 1),
    BY_KEYWORD: lambda group: group.start_soon(partial(function, 1, b=3)),
    KEYWORD_ONLY: lambda group: group.start_soon(partial(keyword_only, b=3)),
    WRAPPED: lambda group: group.start_soon(partial(wrapped, 1, b=3)),
    METHOD: lambda group: group.start_soon(mailer.send, 1),
    PARTIAL: lambda group: group.start_soon(partial(function, 1)),
    OBJECT: lambda group: group.start_soon(mailer, 1),
    CONFIGURED: lambda group: group.start_soon(function, 1, name="mail"),
}

_ADD_TASK: Final[dict[str, Call]] = {
    BY_POSITION: lambda tasks: tasks.add_task(function, 1, eager=True),
    BY_KEYWORD: lambda tasks: tasks.add_task(function, 1, b=3, eager=True),
    KEYWORD_ONLY: lambda tasks: tasks.add_task(keyword_only, b=3, eager=True),
    WRAPPED: lambda tasks: tasks.add_task(wrapped, 1, b=3, eager=True),
    METHOD: lambda tasks: tasks.add_task(mailer.send, 1, eager=True),
}

CALLS: Final[dict[str, dict[str, dict[str, Call]]]] = {
    OURS: {GROUP: _START_SOON, CORE: _SCHEDULE},
    TASKFLOW: {GROUP: _START_SOON, MANAGED: _ADD_TASK},
    PEER: {GROUP: _START_SOON, EARLIER: _SCHEDULE},
}
"""By the names of `benchmarks.ways.WAYS`."""

LACKING: Final = {
    TASKFLOW: {
        f"{MANAGED}, {PARTIAL}": "it asks for __name__, which a partial has not",
        f"{MANAGED}, {OBJECT}": "it asks for __name__, which an object has not",
        f"{MANAGED}, {CONFIGURED}": "it names where a function is decorated, and has no shield",
    },
}
"""What cannot be measured, by place, and why."""
