"""Scheduled calls side by side: whether they are the same, and if not, in what they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from inspect import Parameter, isroutine
from itertools import takewhile
from typing import Any, Final, TypeAlias

from tasks_core._config import TaskConfig
from tasks_core._function import read_signature
from tasks_core._names import describe, show, type_name
from tasks_core._phase import IMMEDIATE, Phase
from tasks_core._task import Task

Differences: TypeAlias = Mapping[str, tuple[object, object]]
"""What is expected and what was recorded, by what that is."""

_WIDTH: Final = 200  # characters of a value that are shown
_BEFORE: Final = 50  # of these, before the first difference

_CALLED: Final = frozenset({"function", "on_error", "retry"})
"""What is called is compared with its like only: each mock is of a type of its own, and would note
a comparison as a call."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call as it was scheduled, or should have been, with the settings that matter."""

    phase: Phase
    config: TaskConfig
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def settings(self) -> dict[str, Any]:
        """Return what is set."""
        values = {field.name: getattr(self.config, field.name) for field in fields(self.config)}
        return {name: value for name, value in values.items() if value is not None}

    def parts(self) -> dict[str, object]:
        """Take it apart into what can differ; arguments by the names of their parameters."""
        func, args, kwargs = self.func, self.args, self.kwargs
        while isinstance(func, partial):
            args, kwargs = (*func.args, *args), {**func.keywords, **kwargs}
            func = func.func
        arguments = {f"argument {name}": value for name, value in _name(func, args, kwargs)}
        return {"function": func, "phase": self.phase, **self.settings(), **arguments}

    def render(self) -> str:
        """Write it as the code that schedules it."""
        settings = ", ".join(f"{name}={_repr(value)}" for name, value in self.settings().items())
        call = ", ".join(_write(self.func, self.args, self.kwargs))
        steps = [
            *([] if self.phase is IMMEDIATE else [str(self.phase)]),
            *([f"task({settings})"] if settings else []),
            f"schedule({call})",
        ]
        return ".".join(steps)


def _write(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[str]:
    """Write a function and its arguments as code; those of a partial are its own."""
    if isinstance(func, partial):
        yield f"partial({', '.join(_write(func.func, func.args, func.keywords))})"
    else:
        yield describe(func)
    yield from map(_repr, args)
    yield from (f"{name}={_repr(value)}" for name, value in kwargs.items())


def _name(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[tuple[str, object]]:
    """Name arguments by the function's parameters, with its defaults, where these can be read."""
    takes = read_signature(func, follow_wrapped=True)
    try:
        bound = None if takes is None else takes.bind(*args, **kwargs)
    except TypeError:  # it is that of what the function wraps
        bound = None
    if bound is None:
        yield from ((str(n), arg) for n, arg in enumerate(args, 1))
        yield from kwargs.items()
        return
    bound.apply_defaults()
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind is Parameter.VAR_POSITIONAL:
            yield from ((f"{name}[{n}]", arg) for n, arg in enumerate(value))
        elif kind is Parameter.VAR_KEYWORD:
            yield from ((f"{name}[{key!r}]", arg) for key, arg in value.items())
        else:
            yield name, value


def recorded_call(task: Task, wanted: TaskConfig) -> Call:
    """Return a task as a call; of its settings those that are wanted, as they are in force."""
    config = task.config
    in_force = replace(
        config,
        name=task.name,
        shield=config.shielded,
        run_on=config.run_on or "success",
        key=config.key or describe(task.func),
        unique=bool(config.unique),
        daemon=bool(config.daemon),
        confirm=bool(config.confirm),
    )
    settings = {
        field.name: getattr(in_force, field.name)
        for field in fields(wanted)
        if getattr(wanted, field.name) is not None
    }
    return Call(task.phase, TaskConfig(**settings), task.func, task.args, task.kwargs)


class _Absent:
    """Stands for what is not there, and equals nothing else."""

    def __repr__(self) -> str:
        """Say so."""
        return "nothing"


_ABSENT: Final = _Absent()


def find_differences(expected: Call, recorded: Call) -> Differences:
    """Return in what two calls differ."""
    parts, others = expected.parts(), recorded.parts()
    pairs = {name: (parts.get(name, _ABSENT), others.get(name, _ABSENT)) for name in parts | others}
    return {name: pair for name, pair in pairs.items() if _compare(name, *pair) is not True}


def _compare(name: str, expected: object, recorded: object) -> bool | Exception:
    """Return whether two values are the same; or what they raise when they are asked."""
    if expected is _ABSENT or recorded is _ABSENT:
        return False
    if name in _CALLED and type(expected) is not type(recorded):
        return False
    try:
        # The expected one is asked first: it may be one that equals anything, as `mock.ANY` does.
        return expected is recorded or bool(expected == recorded)
    except Exception as error:  # noqa: BLE001 - arrays do so
        return error


def tell_nearest(
    expected: Call, recorded: Sequence[Call], found: Sequence[Differences]
) -> Iterator[str]:
    """Tell in lines what was expected, what there is, and in what the nearest of it differs."""
    yield "no such task was recorded:"
    yield f"    {expected.render()}"
    if not recorded:
        yield "nothing was recorded"
        return
    yield "recorded:"
    yield from (f"    {call.render()}" for call in recorded)
    name = describe(expected.func)
    of_func = [differences for differences in found if "function" not in differences]
    if not of_func:
        named = any(describe(call.func) == name for call in recorded)
        yield f"none of them calls {name}" + (", but another one of that name" if named else "")
        return
    for what, pair in min(of_func, key=len).items():
        yield f"the nearest differs in its {what}:"
        outcome = _compare(what, *pair)
        if isinstance(outcome, Exception):
            yield from _tell_incomparable(*pair, outcome)
            continue
        for side, text in zip(("expected", "recorded"), _beside(*pair), strict=True):
            yield f"    {side} {text}"


def _tell_incomparable(expected: object, recorded: object, error: Exception) -> Iterator[str]:
    yield f"    expected {_repr(expected)}"
    yield f"    recorded {_repr(recorded)}"
    yield f"    comparing them raises {type_name(error)}: {_cut(_in_line(show(error)), 0)}"
    yield "    pass the same object; or unittest.mock.ANY, and compare what the task has got"


def _beside(expected: object, recorded: object) -> tuple[str, str]:
    """Write two values so that their first difference is seen."""
    texts = _text(expected), _text(recorded)
    if texts[0] == texts[1]:
        return texts[0][:_WIDTH], f"{texts[1][:_WIDTH]}, which looks the same and is not equal"
    begin = 0
    if max(map(len, texts)) > _WIDTH:
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*texts, strict=False)))
        begin = max(0, same - _BEFORE)
    return _cut(texts[0], begin), _cut(texts[1], begin)


def _repr(value: object) -> str:
    return _cut(_text(value), 0)


def _cut(text: str, begin: int) -> str:
    end = begin + _WIDTH
    return ("..." if begin else "") + text[begin:end] + ("..." if text[end:] else "")


def _text(value: object) -> str:
    """Write a value in one line, whatever it does when it is asked for its text."""
    if isinstance(value, Phase):
        return str(value)
    return _in_line(describe(value) if isroutine(value) else show(value, repr))


def _in_line(text: str) -> str:
    return " ".join(text.split("\n"))
