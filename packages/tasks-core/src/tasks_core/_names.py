"""What is called what, whatever it does when it is asked (contract 4.1)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Final, TypeVar, cast

_type_qualname = vars(type)["__qualname__"].__get__

R = TypeVar("R")

_RENAMED: Final = "__taskiq_original"
"""What Taskiq appends to the name of a function of which it makes a task."""


def describe(func: object) -> str:
    """Return the qualified name of anything callable, whatever its attributes do when read."""
    if type(func) is FunctionType:
        return func.__qualname__.removesuffix(_RENAMED)
    func = unwrap_partial(func)
    name = ask(lambda: getattr(func, "__qualname__", None))
    return name.removesuffix(_RENAMED) if type(name) is str else type_name(func)


def full_name(func: object) -> str:
    """Return that name, with the module before it where there is one."""
    module = ask(lambda: getattr(unwrap_partial(func), "__module__", None))
    name = describe(func)
    return f"{module}.{name}" if type(module) is str else name


def type_name(value: object) -> str:
    """Return the qualified name of the type of anything, whatever its metaclass does when asked."""
    name: str = _type_qualname(type(value))
    return name


def show(value: object, how: Callable[[object], str] = str) -> str:
    """Return the text of anything, whatever it does when it is asked for it."""
    text = ask(lambda: how(value))
    return type_name(value) if text is None else text


def ask(question: Callable[[], R]) -> R | None:
    """Return the answer of code that reads attributes; a hostile one says nothing (4.1)."""
    try:
        return question()
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - whatever it raises
        return None


def unwrap_partial(func: object) -> object:
    """Return the function of a partial, and of partials of that."""
    while issubclass(type(func), partial):  # no `__class__` is asked, which may raise
        func = cast("partial[object]", func).func
    return func
