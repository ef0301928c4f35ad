"""What is known of functions before they are called: their kinds, and what fits them."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from functools import partial
from inspect import (
    CO_ASYNC_GENERATOR,
    CO_COROUTINE,
    CO_GENERATOR,
    CO_ITERABLE_COROUTINE,
    Parameter,
    Signature,
    isasyncgenfunction,
    iscoroutine,
    isgeneratorfunction,
    signature,
)
from types import CodeType, CoroutineType, FunctionType, MethodType, NoneType
from typing import Any, TypeAlias, TypeGuard, cast

from ._names import ask, describe, unwrap_partial

_ASYNC = CO_COROUTINE | CO_ITERABLE_COROUTINE
_GENERATOR = CO_GENERATOR | CO_ASYNC_GENERATOR

if sys.version_info >= (3, 13):  # pragma: no cover - each version has one of them
    from inspect import iscoroutinefunction
else:  # pragma: no cover - it alone sees that what `create_autospec` makes is async
    from asyncio import iscoroutinefunction


def is_async(func: Callable[..., object]) -> bool:
    """Whether calling ``func`` only makes an awaitable, so that it belongs on the event loop.

    What is called decides, not what it wraps: a sync wrapper around an async function may block
    (or call `asyncio.run`), so it belongs in a thread, and what it returns is awaited afterwards.
    """
    if type(func) is FunctionType:
        flags = func.__code__.co_flags & _ASYNC
        if flags or not func.__dict__:  # where a function may be marked as async
            return flags != 0
    plain = unwrap_partial(func)
    return _is_kind(iscoroutinefunction, plain) or _flags(plain) & _ASYNC != 0


def _is_kind(kind: Callable[[object], bool], func: object) -> bool:
    """Whether a function, or the ``__call__`` of a callable object, is of the kind."""
    if type(func) is not FunctionType:
        if ask(partial(kind, getattr(type(func), "__call__", None))):  # noqa: B004 - the function
            return True
        if type(_ask_flags(func)) not in {int, NoneType}:
            return False  # of every kind, and a mock notes that it was asked
    return bool(ask(partial(kind, func)))


def _flags(func: object) -> int:
    if type(func) is FunctionType:
        return func.__code__.co_flags
    flags = _ask_flags(func)
    return flags if type(flags) is int else 0


def _ask_flags(func: object) -> object:
    """Return the flags of the code that anything says that it has; a mock's may be a mock."""
    return ask(lambda: getattr(getattr(func, "__code__", None), "co_flags", None))


def check_call(func: object, args: tuple[object, ...], kwargs: Mapping[str, object]) -> bool:
    """Refuse what could never run, in the caller's traceback (contract 2.2).

    Returns:
        What `is_async` says of it.

    Raises:
        TypeError: ``func`` cannot be called, is a coroutine object or a generator function, or
            the arguments do not fit its signature, as far as it can be read.
    """
    if type(func) is FunctionType and not kwargs:  # as most are
        code = func.__code__
        flags, left_out = code.co_flags, code.co_argcount - len(args)
        if (
            (flags & _ASYNC or not (func.__dict__ or flags & _GENERATOR))
            and (not left_out or 0 < left_out <= len(func.__defaults__ or ()))
            and not code.co_kwonlyargcount
        ):
            return flags & _ASYNC != 0
    return _check_any_call(func, args, kwargs)


def _check_any_call(func: object, args: tuple[object, ...], kwargs: Mapping[str, object]) -> bool:
    shape = _find_shape(func, len(args), kwargs)
    if shape is None:
        if not callable(func):
            raise TypeError(_not_callable(func))
        check_kind(func)
        _check_arguments(func, args, kwargs)
        return is_async(func)
    called, key, is_object = shape
    code = called.__code__
    if code.co_flags & _GENERATOR and not code.co_flags & CO_ITERABLE_COROUTINE:
        raise TypeError(_nothing_runs_it(func))
    if _FITTING.get(key) is not code:
        _check_arguments(func, args, kwargs)
        _remember(key, code)
    flags = code.co_flags & _ASYNC
    if flags or not (called.__dict__ or is_object):
        return flags != 0
    return is_async(cast("Callable[..., object]", func))  # it may be marked as such


_Shape: TypeAlias = tuple[FunctionType, tuple[object, ...], bool]


def _find_shape(func: object, given: int, kwargs: Mapping[str, object]) -> _Shape | None:
    """Return the function that a call ends in, and what decides whether the arguments fit.

    That is found out once for each, unless the signature is given in another way. And whether the
    function is that of a callable object.
    """
    names, is_object = kwargs, False
    if type(func) is partial:
        bound = cast("partial[object]", func)
        if _PLACEHOLDER is not None and any(arg is _PLACEHOLDER for arg in bound.args):
            return None  # pragma: no cover - they come with Python 3.14
        given += len(bound.args)
        names = {**bound.keywords, **kwargs} if bound.keywords else kwargs
        func = bound.func
    called: object = func
    if type(func) is MethodType:
        called = func.__func__  # pyright: ignore[reportFunctionMemberAccess]
        given += 1
    elif type(func) is not FunctionType:
        if isinstance(func, type) or ask(lambda: getattr(func, "__signature__", None)) is not None:
            return None
        called, given = getattr(type(func), "__call__", None), given + 1  # noqa: B004 - its function
        is_object = True
    if type(called) is FunctionType and _OTHER_SIGNATURES.isdisjoint(called.__dict__):
        defaults, more = called.__defaults__ or (), called.__kwdefaults__ or ()
        key = (id(called.__code__), given, len(defaults), len(more), *names)
        return called, key, is_object
    return None


_OTHER_SIGNATURES = frozenset({"__signature__", "_partialmethod", "__partialmethod__"})
"""Attributes that say how a function is called, in place of its code."""

_PLACEHOLDER: object = getattr(functools, "Placeholder", None)  # from Python 3.14 on

_FITTING: dict[tuple[object, ...], CodeType] = {}
"""Ways of calling functions that are known to fit, with the code that each is of."""

_MOST_SHAPES = 1000


def _remember(key: tuple[object, ...], code: CodeType) -> None:
    if len(_FITTING) >= _MOST_SHAPES:
        _FITTING.clear()
    _FITTING[key] = code


def is_generator(func: object) -> bool:
    """Whether calling ``func`` runs nothing yet, and makes a generator."""
    func = unwrap_partial(func)
    flags = _flags(func)
    if flags:
        return flags & _GENERATOR != 0 and not flags & CO_ITERABLE_COROUTINE
    return _is_kind(isgeneratorfunction, func) or _is_kind(isasyncgenfunction, func)


def check_kind(func: object) -> None:
    """Refuse a function of which nothing would run, whatever its arguments.

    Raises:
        TypeError: It is a generator function.
    """
    if is_generator(func):
        raise TypeError(_nothing_runs_it(func))


def _check_arguments(func: object, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
    readable = read_signature(func)
    inner = unwrap_partial(func)
    try:
        if readable is not None:
            readable.bind(*args, **kwargs)
        elif inner is not func and read_signature(inner) is not None:
            msg = "the arguments of the partial do not fit"
            raise TypeError(msg)  # noqa: TRY301 - said as for other arguments
    except TypeError as error:
        raise unfitting(describe(func), error) from None


def unfitting(name: str, why: object) -> TypeError:
    """Return what is raised for arguments that do not fit."""
    return TypeError(
        f"schedule({name}, ...): {why}. Pass the function's own arguments after it; settings such "
        "as name= or shield= go to .task(...)."
    )


def read_signature(func: object, *, follow_wrapped: bool = False) -> Signature | None:
    """Read the signature of what is called itself: a decorator may take other arguments.

    Args:
        func: Whatever can be called.
        follow_wrapped: Whether to read that of what a decorator says that it wraps.
    """
    return ask(lambda: _read_signature(func, follow_wrapped=follow_wrapped))


def _read_signature(func: object, *, follow_wrapped: bool) -> Signature | None:
    """Read it, or raise: of a partial and of a bound method by what these are of.

    An object is known by what it says, or by the function of its class. It is not itself asked:
    `inspect` compares it, and a mock notes that as a call.
    """
    kind = type(func)
    if issubclass(kind, partial):
        whole = cast("partial[object]", func)
        inner = _read_signature(whole.func, follow_wrapped=follow_wrapped)
        return inner and signature(partial(_takes(inner), *whole.args, **whole.keywords))
    if kind is MethodType:
        method = cast("MethodType", func)
        inner = _read_signature(method.__func__, follow_wrapped=follow_wrapped)
        return inner and _without_self(inner)
    call = getattr(kind, "__call__", None)  # noqa: B004 - its function
    if type(call) is not FunctionType or issubclass(kind, type):
        return signature(cast("Callable[..., object]", func), follow_wrapped=follow_wrapped)
    given = ask(lambda: getattr(func, "__signature__", None))
    if given is None:
        return _without_self(signature(call, follow_wrapped=follow_wrapped))
    return given if isinstance(given, Signature) else None


def _takes(arguments: Signature) -> Callable[..., object]:
    """Return a function that says that it takes such arguments."""

    def standing_in() -> None: ...

    vars(standing_in)["__signature__"] = arguments
    return standing_in


def _without_self(whole: Signature) -> Signature:
    first, *others = whole.parameters.values()
    takes_any = first.kind is Parameter.VAR_POSITIONAL
    return whole.replace(parameters=[first, *others] if takes_any else others)


def fits(func: object, args: tuple[object, ...]) -> bool:
    """Whether a function takes such arguments, as far as its signature can be read."""
    shape = _find_shape(func, len(args), {})
    if shape is not None and _FITTING.get(shape[1]) is shape[0].__code__:
        return True
    readable = read_signature(func)
    if readable is None:
        return True
    try:
        readable.bind(*args)
    except TypeError:
        return False
    if shape is not None:
        _remember(shape[1], shape[0].__code__)
    return True


def close_coroutine(value: object) -> TypeGuard[CoroutineType[Any, Any, Any]]:
    """Close a coroutine that is refused: so no warning says that it was never awaited.

    Returns:
        Whether it is one.
    """
    if not iscoroutine(value):
        return False
    value.close()
    return True


def _nothing_runs_it(func: object) -> str:
    return (
        f"{describe(func)} is a generator function, and nothing would iterate over it: "
        "schedule a function that loops over it"
    )


def _not_callable(func: object) -> str:
    if close_coroutine(func):
        return (
            f"schedule() takes a function, not the coroutine that {func.__qualname__}() returns: "
            f"write schedule({func.__qualname__}, ...) with its arguments after it"
        )
    return (
        f"schedule() takes a function, and {type(func).__name__} cannot be called: "
        "pass the function first, then its arguments"
    )
