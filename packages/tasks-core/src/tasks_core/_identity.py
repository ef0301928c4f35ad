"""Which functions are the same one, however often they are made or bound (contract 9.9)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from types import BuiltinFunctionType, FunctionType, MemberDescriptorType, MethodType
from typing import Final, cast

from ._names import ask, describe, unwrap_partial

_MOST_REACHED: Final = 50
"""So much that can be called is looked at; some keep all that there is."""


def identify(func: object) -> object:
    """Return what is the same for the same function, however often it is made or bound.

    What it keeps that can be called belongs to it, and what that keeps: so what a decorator makes
    is one function for each that it was given, and the same one when it is made anew.
    """
    reached = [func]
    known = {id(func)}
    parts: list[object] = []
    for one in reached:  # it grows
        parts += _identify(one, known)
        for kept in _kept_by(one):
            if callable(kept) and id(kept) not in known and len(reached) < _MOST_REACHED:
                reached.append(kept)
                known.add(id(kept))
    return tuple(parts)


def _kept_by(one: object) -> Iterator[object]:
    """Iterate over what a function keeps: what it is bound to comes after itself."""
    if issubclass(type(one), partial):
        whole = cast("partial[object]", one)
        yield from (whole.func, *whole.args, *whole.keywords.values())
    elif type(one) is MethodType:
        yield one.__func__
        receiver = one.__self__
        if type(receiver) is FunctionType or _is_class(receiver):
            yield receiver
        elif not callable(receiver):
            yield from _attributes(receiver)
    elif type(one) is FunctionType:
        for cell in one.__closure__ or ():
            yield from _each(ask(partial(getattr, cell, "cell_contents")))  # it may be empty
        for value in (*(one.__defaults__ or ()), *(one.__kwdefaults__ or {}).values()):
            yield from _each(value)
        for value in list(one.__dict__.values()):
            yield from _each(value)
    elif type(one) is not BuiltinFunctionType and not _is_class(one):
        yield from _attributes(one)


def _each(value: object) -> Iterable[object]:
    """Return a value that a function keeps; of a small container what is in it."""
    if type(value) is dict:
        value = list(cast("dict[object, object]", value).values())
    if type(value) is list or type(value) is tuple:
        values = cast("Sequence[object]", value)
        return values if len(values) <= _MOST_REACHED else ()
    return (value,)


def _attributes(one: object) -> Iterator[object]:
    """Iterate over the attributes that an object has, without asking it."""
    values = ask(lambda: [(str(name), value) for name, value in list(vars(one).items())]) or []
    # Not what a mock makes of itself when it is called: it is known by its class, which it has
    # for itself.
    yield from (value for name, value in values if not name.startswith("_mock_"))
    for kind in type(one).__mro__:
        if "__slots__" in vars(kind):
            for slot in list(vars(kind).values()):
                if type(slot) is MemberDescriptorType:
                    yield ask(partial(slot.__get__, one))


def unbind(func: object) -> object:
    """Return the function of a bound method, and of partials."""
    func = unwrap_partial(func)
    return func.__func__ if type(func) is MethodType else func


def _identify(one: object, known: set[int]) -> tuple[object, ...]:
    """Return by what something callable is known: a function by its code, an object by its class.

    Who lives by an identity holds what it is of, so ids are told apart.
    """
    if issubclass(type(one), partial):
        return ()
    if type(one) is MethodType:
        # What a method is of is known only where it can be called, as it sends for a function; and
        # not where that has the method as an attribute.
        receiver = one.__self__
        plain = type(receiver) is FunctionType or _is_class(receiver)
        return () if plain or not callable(receiver) or id(receiver) in known else (id(receiver),)
    kind: object = None
    if type(one) is FunctionType:
        kind = one.__code__
    elif type(one) is not BuiltinFunctionType and not _is_class(one):
        kind = id(type(one))
    module = ask(lambda: getattr(one, "__module__", None))
    return (module if type(module) is str else None, describe(one), kind)


def _is_class(value: object) -> bool:
    return issubclass(type(value), type)
