"""What the suite runs over, and the table of what holds where."""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from tests.conformance.harness import Harness
from tests.conformance.promises import PROMISES

if TYPE_CHECKING:
    from collections.abc import Iterable

HARNESSES = {
    "asgi": "tests.conformance.harnesses.asgi:ASGIHarness",
    "starlette": "tests.conformance.harnesses.starlette:StarletteHarness",
    "fastapi": "tests.conformance.harnesses.fastapi:FastAPIHarness",
    "litestar": "tests.conformance.harnesses.litestar:LitestarHarness",
}


def load_harnesses(config: pytest.Config) -> list[Harness]:
    """Return the harnesses that were chosen, or else ours."""
    return [_load(name) for name in config.getoption("harness") or HARNESSES]


def _load(name: str) -> Harness:
    module, _, attribute = HARNESSES.get(name, name).partition(":")
    harness: Harness = getattr(import_module(module), attribute)()
    return harness


class Table:
    """For each promise, harness and event loop, how often what came out.

    Where several processes run the tests, this is in the one that collects their reports.
    """

    def __init__(self, path: Path, harnesses: list[Harness]) -> None:
        self._path = path
        self._columns = [
            (harness.name, backend) for harness in harnesses for backend in ("asyncio", "trio")
        ]
        self._cells: dict[tuple[str, str, str], Counter[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        where = dict(report.user_properties).get("conformance")
        if where is None or (report.when != "call" and report.passed):
            return
        number, harness, backend = cast("Iterable[str]", where)
        outcome = "xfailed" if hasattr(report, "wasxfail") else report.outcome
        self._cells.setdefault((number, harness, backend), Counter())[outcome] += 1

    def pytest_sessionfinish(self) -> None:
        self._path.write_text("\n".join(self._lines()) + "\n", encoding="utf-8")

    def _lines(self) -> Iterable[str]:
        heads = " | ".join(f"{name}, {backend}" for name, backend in self._columns)
        yield from (
            "# Conformance",
            "",
            "What the suite of `tests/conformance` found: tests passed, tests that a known",
            "deviation of a framework fails, and tests of what a framework does not have. In all:",
            f"{_cell(sum(self._cells.values(), Counter[str]()))}.",
            "",
            '??? quote "Each promise on each framework and event loop"',
            "",
            f"    | Promise | {heads} |",
            "    | --- |" + " --- |" * len(self._columns),
        )
        for number, title in PROMISES.items():
            cells = (self._cells.get((number, *column), Counter()) for column in self._columns)
            yield f"    | {number} {title} | {' | '.join(map(_cell, cells))} |"


def _cell(outcomes: Counter[str]) -> str:
    words = (("passed", "✓"), ("xfailed", "deviates"), ("skipped", "n/a"), ("failed", "✗"))
    counts = [f"{word} {outcomes[outcome]}" for outcome, word in words if outcomes[outcome]]
    return ", ".join(counts) or "-"
