"""What was raised, as the interpreter itself reads and sets what belongs to it.

A user's exception may refuse attributes, as a frozen dataclass does, or have properties and methods
of these names.
"""

from __future__ import annotations

from typing import Final

from ._exceptions import TaskAborted
from ._names import type_name

get_traceback: Final = vars(BaseException)["__traceback__"].__get__
set_traceback: Final = vars(BaseException)["__traceback__"].__set__
get_context: Final = vars(BaseException)["__context__"].__get__
set_context: Final = vars(BaseException)["__context__"].__set__
get_cause: Final = vars(BaseException)["__cause__"].__get__
get_suppress: Final = vars(BaseException)["__suppress_context__"].__get__
set_suppress: Final = vars(BaseException)["__suppress_context__"].__set__
get_exceptions: Final = vars(BaseExceptionGroup)["exceptions"].__get__

_get_attributes: Final = vars(BaseException)["__dict__"].__get__


def add_note(raised: BaseException, note: str) -> None:
    """Add a note to what was raised, as its method does, which sets an attribute."""
    _get_attributes(raised).setdefault("__notes__", []).append(note)


def is_interrupt(raised: BaseException) -> bool:
    """Whether it is Ctrl-C, by itself or as task groups pass it on."""
    if isinstance(raised, BaseExceptionGroup):
        return any(map(is_interrupt, get_exceptions(raised)))
    return isinstance(raised, KeyboardInterrupt)


def aborted_by(raised: BaseException) -> TaskAborted:
    """Return the failure that stands for what is no `Exception`, which is its cause (4.1)."""
    aborted = TaskAborted(type_name(raised))
    aborted.__cause__ = raised
    return aborted


def comes_of(error: BaseException | None, other: BaseException | None) -> bool:
    """Whether an exception is another one, or has it as its cause, context or member, or is its."""
    return other is not None and (_has(error, other) or _has(other, error, chained=False))


def _has(error: BaseException | None, other: BaseException | None, *, chained: bool = True) -> bool:
    """Whether one exception is among another one, its members and, if asked, what it came of."""
    found, left = set[int](), [error]
    while left:
        one = left.pop()
        if one is None or id(one) in found:
            continue
        if one is other:
            return True
        found.add(id(one))
        if isinstance(one, BaseExceptionGroup):
            left += get_exceptions(one)
        if chained:
            left += (get_cause(one), get_context(one))
    return False
