"""The tables, and the JSON."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.measuring import Measured, Verdict

PACKAGES: Final = (
    "anyio",
    "fastapi",
    "starlette",
    "litestar",
    "uvicorn",
    "uvloop",
    "aiojobs",
    "asgi-background",
    "quart",
    "fastapi-taskflow",
)


_SAID: Final = {True: "[green]met[/green]", False: "[red]MISSED[/red]", None: "to compare"}


def versions(core: str) -> dict[str, str]:
    """Return what was measured on and with; ``core`` is where our own core is."""
    found = {
        "tasks_core": core,
        "python": sys.version.split()[0],
        "machine": f"{platform.platform()}, {os.cpu_count()} cores",
    }
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def print_measured(
    console: Console, suite: str, measured: Measured, reference: Callable[[str], str]
) -> None:
    """Print what a suite has measured, each variant with its ratio to what it is compared with."""
    places = 3 if measured.instructions else 2
    table = Table(title=f"{suite}: {measured.unit}", title_justify="left")
    table.add_column("what", overflow="fold")
    for heading in "median", "minimum", "ratio", "of minima", "rounds":
        table.add_column(heading, justify="right", no_wrap=True)
    for variant in measured.variants():
        ratio = measured.ratio(variant, reference(variant))
        row = [variant, f"{measured.median(variant):.2f}", f"{measured.minimum(variant):.2f}"]
        if ratio is not None:
            row += [f"{each:.{places}f}" for each in (ratio.median, ratio.of_minima)]
            row.append(str(ratio.rounds))
        table.add_row(*row)
    console.print(table)
    for what, why in measured.skipped.items():
        console.print(f"skipped: {what}: {why}", markup=False)


def print_goals(console: Console, verdicts: Sequence[Verdict]) -> None:
    """Print each goal with what was measured."""
    table = Table(title="Goals", title_justify="left")
    table.add_column("goal", overflow="fold")
    for heading in "limit", "measured", "of minima", "":
        table.add_column(heading, justify="right", no_wrap=True)
    for each in verdicts:
        sign = "≥" if each.at_least else "≤"
        table.add_row(
            each.goal,
            each.unit if each.limit is None else f"{sign} {each.limit:.2f} {each.unit}",
            f"{each.measured:.3f}",
            "" if each.of_minima is None else f"{each.of_minima:.3f}",
            _SAID[each.met],
        )
    console.print(table)


def write(
    path: Path,
    about: Mapping[str, object],
    results: Mapping[str, Measured],
    verdicts: Sequence[Verdict],
) -> None:
    """Write everything, each round included."""
    content: dict[str, Any] = {
        **about,
        "goals": [asdict(each) | {"met": each.met} for each in verdicts],
        "suites": {suite: asdict(measured) for suite, measured in results.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
