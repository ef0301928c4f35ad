"""The table of scenarios, servers and outcomes."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import cast

import pytest

from tests.servers.server import COMMANDS

_WORDS = {"passed": "✓", "xfailed": "known not to", "skipped": "n/a", "failed": "✗"}


class Table:
    """For each scenario and kind of server, how often what came out, in words.

    Where several processes run the tests, this is in the one that collects their reports.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: dict[tuple[str, int, str], dict[str, Counter[str]]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        properties = dict(report.user_properties)
        if "scenario" not in properties or (report.when != "call" and report.passed):
            return
        place, kind = cast("tuple[tuple[str, int, str], str]", properties["scenario"])
        outcome = "xfailed" if hasattr(report, "wasxfail") else report.outcome
        word = _WORDS[outcome]
        if outcome == "passed" and "outcome" in properties:
            word = f"{word} {properties['outcome']}"
        # Between processes a tuple becomes a list.
        module, line, scenario = place
        row = self._rows.setdefault((module, line, scenario), {})
        row.setdefault(kind, Counter())[word] += 1

    def pytest_sessionfinish(self) -> None:
        self._path.write_text("\n".join(self._lines()) + "\n", encoding="utf-8")

    def _lines(self) -> Iterator[str]:
        yield from (
            "# On real servers",
            "",
            "What each scenario of `tests/servers` came to on each server: made by the tests' own",
            "run, `hatch run servers`. Each table opens.",
        )
        rows = sorted(self._rows.items(), key=lambda item: item[0])
        for module, those in groupby(rows, key=lambda item: item[0][0]):
            yield from _section(module, [(scenario, row) for (_, _, scenario), row in those])


def _section(module: str, rows: Sequence[tuple[str, dict[str, Counter[str]]]]) -> Iterator[str]:
    """Say what was tried, and fold what came out."""
    yield from ("", f"## {module.capitalize()}", "")
    sentences = dict.fromkeys(re.sub(r"(?<=\.) `[^`]*`$", "", scenario) for scenario, _ in rows)
    yield from (f"- {sentence}" for sentence in sentences)
    heads = " | ".join(COMMANDS)
    yield from ("", f'??? quote "{len(rows)} cases on {len(COMMANDS)} servers"', "")
    yield f"    | Scenario | {heads} |"
    yield "    | --- |" + " --- |" * len(COMMANDS)
    for scenario, row in rows:
        cells = " | ".join(", ".join(row.get(kind, Counter("-"))) for kind in COMMANDS)
        yield f"    | {scenario} | {cells} |"
