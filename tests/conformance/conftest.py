"""Runs every test over every harness, and makes the table of what holds where."""

from __future__ import annotations

import re
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from tests.conformance.harness import CAPABILITIES, Harness
from tests.conformance.promises import PROMISES

if TYPE_CHECKING:
    from collections.abc import Iterable

HARNESSES = (
    "tests.conformance.harnesses.asgi:ASGIHarness",
    "tests.conformance.harnesses.starlette:StarletteHarness",
    "tests.conformance.harnesses.fastapi:FastAPIHarness",
    "tests.conformance.harnesses.litestar:LitestarHarness",
)

# The harnesses of this run.
_harnesses = pytest.StashKey[list[Harness]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption(
        "--harness",
        action="append",
        metavar="MODULE:CLASS",
        help="run the suite over this harness instead of the project's own; may be repeated",
    )
    group.addoption(
        "--conformance-table",
        type=Path,
        metavar="FILE",
        help="write the table of promises, frameworks and event loops as Markdown",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*capabilities): skip where a framework lacks them")
    chosen: Iterable[str] = config.getoption("harness", None) or HARNESSES
    config.stash[_harnesses] = [_load(name) for name in chosen]
    path: Path | None = config.getoption("conformance_table", None)
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Table(path, config.stash[_harnesses]))


def _load(name: str) -> Harness:
    module, _, attribute = name.partition(":")
    harness: Harness = getattr(import_module(module), attribute)()
    return harness


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "harness" in metafunc.fixturenames:
        harnesses = metafunc.config.stash[_harnesses]
        metafunc.parametrize("harness", harnesses, ids=[harness.name for harness in harnesses])


def pytest_itemcollected(item: pytest.Item) -> None:
    """Note what the test proves and where, and what is known of that combination."""
    if not isinstance(item, pytest.Function) or "harness" not in item.fixturenames:
        return
    function: object = cast("object", item.obj)
    number = str(function.__doc__).partition(" ")[0]
    if number not in PROMISES:
        message = f"the docstring of {item.nodeid} does not begin with a promise's number"
        raise pytest.UsageError(message)
    harness = cast("Harness", item.callspec.params["harness"])
    backend = str(item.callspec.params["anyio_backend"])
    item.user_properties.append(("conformance", (number, harness.name, backend)))
    for mark in item.iter_markers("needs"):
        for capability in mark.args:
            if capability not in CAPABILITIES:
                message = f"{item.nodeid} needs {capability!r}, which is no capability"
                raise pytest.UsageError(message)
            if capability in harness.lacks:
                item.add_marker(pytest.mark.skip(reason=harness.lacks[capability]))
    for known, reason in harness.deviations.items():
        name, _, parameter = known.rstrip("]").partition("[")
        ids = re.split("[-]", item.callspec.id)
        if name == item.originalname and (not parameter or parameter in ids):
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


class _Table:
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
            "deviation of a framework fails, and tests of what a framework does not have.",
            "",
            f"| Promise | {heads} |",
            "| --- |" + " --- |" * len(self._columns),
        )
        for number, title in PROMISES.items():
            cells = (self._cells.get((number, *column), Counter()) for column in self._columns)
            yield f"| {number} {title} | {' | '.join(map(_cell, cells))} |"


def _cell(outcomes: Counter[str]) -> str:
    words = (("passed", "✓"), ("xfailed", "deviates"), ("skipped", "n/a"), ("failed", "✗"))
    counts = [f"{word} {outcomes[outcome]}" for outcome, word in words if outcomes[outcome]]
    return ", ".join(counts) or "-"
