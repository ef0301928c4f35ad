"""Arguments of every type, of which an engine can send some, and settings of carriers: for all."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import BaseModel


class Colour(Enum):
    RED = "red"


class Size(IntEnum):
    SMALL = 1


@dataclass
class Point:
    x: int
    y: int


@dataclass
class Holder:
    what: object


class Pair(NamedTuple):
    first: int
    second: int


class Order(BaseModel):
    number: int


class Tells:
    """What some libraries take for its own JSON."""

    def __json__(self) -> dict[str, int]:
        return {"told": 1}


class Raises:
    """What cannot be looked at."""

    def __reduce__(self) -> Any:
        raise ZeroDivisionError

    def __repr__(self) -> str:
        raise ZeroDivisionError


def _circle() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


def _deep() -> list[Any]:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


def module_function() -> None: ...


VALUES: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "bool": lambda: True,
    "int": lambda: 1,
    "big int": lambda: 2**80,
    "float": lambda: 0.5,
    "nan": lambda: float("nan"),
    "complex": lambda: 1j,
    "str": lambda: "é",
    "surrogate": lambda: "\udc80",
    "bytes": lambda: b"\xff",
    "bytearray": lambda: bytearray(b"\xff"),
    "memoryview": lambda: memoryview(b"\xff"),
    "datetime": lambda: datetime(2026, 1, 2, tzinfo=UTC),
    "naive datetime": lambda: datetime(2026, 1, 2),  # noqa: DTZ001 - as users have them
    "date": lambda: date(2026, 1, 2),
    "time": lambda: time(1, 2),
    "timedelta": lambda: timedelta(1),
    "Decimal": lambda: Decimal("1.5"),
    "Fraction": lambda: Fraction(1, 3),
    "UUID": lambda: UUID(int=1),
    "list": lambda: [1, [2]],
    "tuple": lambda: (1, 2),
    "dict": lambda: {"a": {"b": 1}},
    "int keys": lambda: {1: 2},
    "tuple keys": lambda: {(1, 2): 3},
    "OrderedDict": lambda: OrderedDict[str, int](a=1),
    "set": lambda: {1},
    "frozenset": lambda: frozenset({1}),
    "deque": lambda: deque([1]),
    "range": lambda: range(3),
    "generator": lambda: (number for number in (1, 2)),
    "Enum": lambda: Colour.RED,
    "IntEnum": lambda: Size.SMALL,
    "dataclass": lambda: Point(1, 2),
    "dataclass of a lock": lambda: Holder(threading.Lock()),
    "NamedTuple": lambda: Pair(1, 2),
    "model": lambda: Order(number=1),
    "list of models": lambda: [Order(number=1)],
    "path": lambda: PurePosixPath("a"),
    "pattern": lambda: re.compile("a"),
    "exception": lambda: ValueError("a"),
    "type": lambda: int,
    "function": lambda: module_function,
    "lambda": lambda: lambda: None,
    "module": lambda: re,
    "lock": threading.Lock,
    "__json__": Tells,
    "object": object,
    "raises": Raises,
    "circle": _circle,
    "deep": _deep,
}


NONSENSE: list[tuple[dict[str, object], type[Exception], str]] = [
    ({"name": 5}, TypeError, "name must be a string, not int: pass str(...) of it"),
    ({"timeout": "x"}, TypeError, "timeout is a number of seconds, not 'x'"),
    ({"timeout": -1}, ValueError, "timeout is a number of seconds from 0, not -1"),
]
"""Settings of a carrier that make no sense, and what is said of them."""
