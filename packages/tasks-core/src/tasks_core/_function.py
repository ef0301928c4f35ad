"""What is known of functions before they are called: their names, their kinds, what fits them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from inspect import (
    CO_ASYNC_GENERATOR,
    CO_COROUTINE,
    CO_GENERATOR,
    CO_ITERABLE_COROUTINE,
    CO_VARARGS,
    Signature,
    isasyncgenfunction,
    iscoroutine,
    iscoroutinefunction,
    isgeneratorfunction,
    signature,
)
from types import FunctionType, MethodType
from typing import TypeVar, cast

_ASYNC = CO_COROUTINE | CO_ITERABLE_COROUTINE
_GENERATOR = CO_GENERATOR | CO_ASYNC_GENERATOR

_type_qualname = vars(type)["__qualname__"].__get__

R = TypeVar("R")


def describe(func: object) -> str:
    """Return the qualified name of anything callable, whatever its attributes do when read."""
    if type(func) is FunctionType:
        return func.__qualname__
    func = _unwrap_partial(func)
    name = _ask(lambda: getattr(func, "__qualname__", None))
    return name if type(name) is str else type_name(func)


def type_name(value: object) -> str:
    """Return the qualified name of the type of anything, whatever its metaclass does when asked."""
    name: str = _type_qualname(type(value))
    return name


def show(value: object, how: Callable[[object], str] = str) -> str:
    """Return the text of anything, whatever it does when it is asked for it."""
    text = _ask(lambda: how(value))
    return type_name(value) if text is None else text


def _ask(question: Callable[[], R]) -> R | None:
    """Return the answer of code that reads attributes; a hostile one says nothing (4.1)."""
    try:
        return question()
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - whatever it raises
        return None


def _unwrap_partial(func: object) -> object:
    while isinstance(func, partial):
        func = cast("partial[object]", func).func
    return func


def is_async(func: Callable[..., object]) -> bool:
    """Whether calling ``func`` only makes an awaitable, so that it belongs on the event loop.

    What is called decides, not what it wraps: a sync wrapper around an async function may block
    (or call `asyncio.run`), so it belongs in a thread, and what it returns is awaited afterwards.
    """
    if type(func) is FunctionType:
        flags = func.__code__.co_flags & _ASYNC
        if flags or not func.__dict__:  # where a function may be marked as async
            return flags != 0
    plain = _unwrap_partial(func)
    return _is_kind(iscoroutinefunction, plain) or _flags(plain) & CO_ITERABLE_COROUTINE != 0


def _is_kind(kind: Callable[[object], bool], func: object) -> bool:
    """Whether a function, or the ``__call__`` of a callable object, is of the kind."""
    asked = (func, getattr(type(func), "__call__", None))  # noqa: B004 - the function
    return any(_ask(partial(kind, one)) for one in asked)


def _flags(func: object) -> int:
    func = func.__func__ if type(func) is MethodType else func
    return func.__code__.co_flags if type(func) is FunctionType else 0


def check_call(func: object, args: tuple[object, ...], kwargs: Mapping[str, object]) -> bool:
    """Refuse what could never run, in the caller's traceback (contract 2.2).

    Returns:
        What `is_async` says of it.

    Raises:
        TypeError: ``func`` cannot be called, is a coroutine object or a generator function, or
            the arguments do not fit its signature, as far as it can be read.
    """
    plain, given = func, len(args)
    if type(plain) is MethodType:
        plain, given = plain.__func__, given + 1
    if type(plain) is FunctionType:
        code = plain.__code__
        if code.co_flags & _GENERATOR and not code.co_flags & CO_ITERABLE_COROUTINE:
            raise TypeError(_nothing_runs_it(func))
        least = code.co_argcount - len(plain.__defaults__ or ())
        if (
            not kwargs
            and not code.co_kwonlyargcount
            and least <= given
            and (given <= code.co_argcount or code.co_flags & CO_VARARGS)
        ):
            return is_async(cast("Callable[..., object]", func))
    elif not callable(func):
        raise TypeError(_not_callable(func))
    elif _is_generator(func):
        raise TypeError(_nothing_runs_it(func))
    _check_arguments(func, args, kwargs)
    return is_async(cast("Callable[..., object]", func))


def _is_generator(func: object) -> bool:
    func = _unwrap_partial(func)
    generator = _is_kind(isgeneratorfunction, func) or _is_kind(isasyncgenfunction, func)
    return generator and not _flags(func) & CO_ITERABLE_COROUTINE


def _check_arguments(func: object, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
    readable = _signature(func)
    inner = _unwrap_partial(func)
    try:
        if readable is not None:
            readable.bind(*args, **kwargs)
        elif inner is not func and _signature(inner) is not None:
            msg = "the arguments of the partial do not fit"
            raise TypeError(msg)  # noqa: TRY301 - said as for other arguments
    except TypeError as error:
        msg = (
            f"schedule({describe(func)}, ...): {error}. Pass the function's own arguments after "
            "it; settings such as name= or shield= go to .task(...)."
        )
        raise TypeError(msg) from None


def _signature(func: object) -> Signature | None:
    """Read the signature of what is called itself: a decorator may take other arguments."""
    called = cast("Callable[..., object]", func)
    return _ask(lambda: signature(called, follow_wrapped=False))


def fits(func: object, args: tuple[object, ...]) -> bool:
    """Whether a function takes such arguments, as far as its signature can be read."""
    readable = _signature(func)
    try:
        if readable is not None:
            readable.bind(*args)
    except TypeError:
        return False
    return True


def identify(func: object) -> object:
    """Return what is the same for the same function, however often it is made or bound."""
    func = _unwrap_partial(func)
    func = func.__func__ if type(func) is MethodType else func
    module = _ask(lambda: getattr(func, "__module__", None))
    code = func.__code__ if type(func) is FunctionType else None
    return (module if type(module) is str else None, describe(func), code)


def _nothing_runs_it(func: object) -> str:
    return (
        f"{describe(func)} is a generator function, and nothing would iterate over it: "
        "schedule a function that loops over it"
    )


def _not_callable(func: object) -> str:
    if iscoroutine(func):
        func.close()  # it was refused: no warning that it was never awaited
        return (
            f"schedule() takes a function, not the coroutine that {func.__qualname__}() returns: "
            f"write schedule({func.__qualname__}, ...) with its arguments after it"
        )
    return (
        f"schedule() takes a function, and {type(func).__name__} cannot be called: "
        "pass the function first, then its arguments"
    )
