"""Few cases of many: so that each two values that could meet do meet, on one of the event loops.

What a request's outcome depends on are two things at a time: how it failed and what answered it,
say. All combinations of five are thousands of requests, and show nothing more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import product
from typing import Any, TypeAlias

import pytest

Row: TypeAlias = tuple[int, ...]
"""A case: of each axis the value's number."""


def in_pairs(
    *marks: pytest.MarkDecorator, of_asyncio: Collection[object] = (), loops: bool = True
) -> pytest.MarkDecorator:
    """Join parametrisations, with the event loops, into one that has each pair of values.

    Args:
        marks: What would be several decorators of ``pytest.mark.parametrize``.
        of_asyncio: Values that trio does not have.
        loops: Whether the test is run on event loops.
    """
    axes = [_axis(*mark.args) for mark in marks]
    if loops:
        axes.append((("anyio_backend",), [("asyncio",), ("trio",)]))
    names = [name for axis, _ in axes for name in axis]
    cases: list[tuple[Any, ...]] = []
    for row in _rows([len(values) for _, values in axes]):
        picked = [values[number] for (_, values), number in zip(axes, row, strict=True)]
        case = tuple(value for values in picked for value in values)
        if loops and any(value in of_asyncio for value in case if callable(value)):
            case = (*case[:-1], "asyncio")
        cases.append(case)
    different = {repr(case): case for case in cases}
    return pytest.mark.parametrize(names, list(different.values()))


def _axis(names: Any, values: Any) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    if isinstance(names, str):
        return (names,), [(value,) for value in values]
    return tuple(names), [tuple(value) for value in values]


def _rows(sizes: Sequence[int]) -> Iterator[Row]:
    """Return cases that have each pair: all of the two longest axes, then one axis more a time."""
    order = sorted(range(len(sizes)), key=lambda axis: -sizes[axis])
    first, *rest = order
    rows: list[dict[int, int]] = [{first: number} for number in range(sizes[first])]
    for done, axis in enumerate(rest, 1):
        before = order[:done]
        missing = {
            (other, theirs, ours)
            for other in before
            for theirs, ours in product(range(sizes[other]), range(sizes[axis]))
        }
        if done == 1:
            rows = [{**row, axis: number} for row, number in product(rows, range(sizes[axis]))]
            continue
        for index, row in enumerate(rows):
            # The value that brings most; of equal ones each in turn.
            turns = [(index + turn) % sizes[axis] for turn in range(sizes[axis])]
            brings = [{(other, row[other], ours) for other in before} & missing for ours in turns]
            gains = [len(pairs) for pairs in brings]
            most = gains.index(max(gains))
            row[axis] = turns[most]
            missing -= brings[most]
        for other, theirs, ours in sorted(missing):
            fill = {one: len(rows) % sizes[one] for one in before}
            rows.append({**fill, other: theirs, axis: ours})
    return (tuple(row[axis] for axis in range(len(sizes))) for row in rows)
