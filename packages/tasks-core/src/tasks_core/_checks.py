"""Checks of the values that users pass; each message says what is wrong, and what to pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, tzinfo
from sys import float_info
from typing import Final, TypeGuard, TypeVar, cast

from ._function import close_coroutine, fits, is_generator
from ._names import describe, show

C = TypeVar("C")


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a number; what is true or false is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_seconds(name: str, value: object) -> float:
    """Return a duration, in seconds; it may be infinite."""
    if not is_number(value):
        msg = f"{name} is a number of seconds, not {value!r}"
        raise TypeError(msg)
    if not value >= 0:
        msg = f"{name} is a number of seconds from 0, not {value!r}"
        raise ValueError(msg)
    try:
        return float(value)
    except OverflowError:
        msg = f"{name} is a number of seconds up to {float_info.max:.1e}, or inf for no limit"
        raise ValueError(msg) from None


def check_count(name: str, value: object, *, of: str, least: int) -> int:
    """Return how many there are of something."""
    if not isinstance(value, int) or isinstance(value, bool):
        msg = f"{name} is a whole number of {of}, not {value!r}"
        raise TypeError(msg)
    if value < least:
        msg = f"{name} is a number of {of} from {least}, not {value!r}"
        raise ValueError(msg)
    return value


def check_amount(name: str, value: object) -> None:
    """Refuse an amount that a reader could not make sense of, or JSON not hold."""
    if not is_number(value):
        msg = f"{name} is a number, not {name_kind(value)}"
        raise TypeError(msg)
    if not 0 <= value <= float_info.max:  # an int may be larger
        msg = f"{name} is a finite number from 0, not {value!r}"
        raise ValueError(msg)


def check_text(name: str, value: object) -> str:
    """Return a text as a plain one: an enum's member may be a string too."""
    if not isinstance(value, str):
        msg = f"{name} must be a string, not {name_kind(value)}: pass str(...) of it"
        raise TypeError(msg)
    return value if type(value) is str else str.__str__(value)


def check_choice(name: str, value: object, *, of: Iterable[C]) -> C:
    """Return which one of an enum's members it is, or has the text of, as records have it."""
    members = {str(member): member for member in of}
    if str(value) not in members:
        msg = f"{name} must be one of {', '.join(members)}, not {value!r}"
        raise ValueError(msg)
    return members[str(value)]


def check_id(value: object) -> None:
    """Refuse what is no task's id; the task itself, for instance."""
    if not isinstance(value, str):
        msg = f"the id of a task is a string, not {name_kind(value)}: pass task.id"
        raise TypeError(msg)


def check_engine(carrier: str, value: object, kind: type, *, what: str, remedy: str) -> None:
    """Refuse what is not the engine of a carrier; its address, for instance."""
    if not isinstance(value, kind):
        msg = f"{carrier} takes {what}, not {name_kind(value)}: {remedy}"
        raise TypeError(msg)


def name_kind(value: object) -> str:
    """Return what a value is: a class that was given in place of what it makes is told as that."""
    return f"the class {describe(value)}" if isinstance(value, type) else type(value).__name__


def check_zone(name: str, value: object) -> tzinfo:
    """Return a time zone."""
    if not isinstance(value, tzinfo):
        msg = f"{name} is a time zone, not {value!r}: zoneinfo.ZoneInfo('Europe/Berlin')"
        raise TypeError(msg)
    if any(shown_by(value, noon) != noon for noon in _NOONS):
        msg = (
            f"{name} is a time zone for datetime.replace(tzinfo=...), and {value!r} is not, as "
            f"most of pytz: zoneinfo.ZoneInfo({show(value)!r})"
        )
        raise TypeError(msg)
    return value


_NOONS: Final = (datetime(2024, 1, 15, 12), datetime(2024, 7, 15, 12))  # noqa: DTZ001 - the wall's
"""Times that no time zone leaves out, in one of which it is summer."""


def shown_by(tz: tzinfo, time: datetime) -> datetime:
    """Return what a clock on the wall shows at the moment that a time is; another one in a gap."""
    return time.replace(tzinfo=tz).astimezone(UTC).astimezone(tz).replace(tzinfo=None)


def check_flag(name: str, value: object) -> object:
    """Return what is set or not."""
    if not isinstance(value, int):
        msg = f"{name} must be true or false, not {name_kind(value)}"
        raise TypeError(msg)
    return value


def check_answer(name: str, value: object) -> bool:
    """Return a function's answer; not what only counts as true, as any other function does."""
    if not isinstance(value, bool):
        close_coroutine(value)
        msg = (
            f"{name} must return True or False, not {name_kind(value)}: call and await what "
            "decides, and return bool(...) of that"
        )
        raise TypeError(msg)
    return value


def check_callback(name: str, value: object, *given: str, remedy: str) -> Callable[..., object]:
    """Return what can be called with what it will be given, and runs when it is."""
    if not callable(value):
        msg = f"{name} must be callable, not {name_kind(value)}: {remedy}"
        raise TypeError(msg)
    if _is_of_callables(value):
        msg = f"{name} must be an instance, not {name_kind(value)}: {describe(value)}(...)"
        raise TypeError(msg)
    if is_generator(value):
        msg = (
            f"{name} is called, and {describe(value)} is a generator function, which nothing would "
            f"iterate over: {remedy}"
        )
        raise TypeError(msg)
    if not fits(value, given):
        msg = f"{name} must take {' and '.join(given)}, and {describe(value)} does not: {remedy}"
        raise TypeError(msg)
    return value


def _is_of_callables(value: object) -> bool:
    """Whether it is a class whose instances can be called; one of them is meant then."""
    is_class = issubclass(type(value), type)  # a mock only says that it is one
    return is_class and any("__call__" in vars(one) for one in cast("type", value).__mro__)


def check_exceptions(name: str, value: object) -> None:
    """Refuse what `isinstance` could not look for, once an exception has come."""
    kinds = cast("tuple[object, ...]", value)
    if not isinstance(value, tuple) or not all(
        isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds
    ):
        msg = f"{name} is a tuple of exception classes, not {value!r}: {name}=(ClientDisconnect,)"
        raise TypeError(msg)
