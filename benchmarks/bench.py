"""Measure ours and what could be used instead, side by side.

hatch run bench                        everything
hatch run bench core http              some of core, request, http, memory, scale
hatch run bench --smoke                whether it works, in seconds; the figures mean nothing
"""

from __future__ import annotations

import sys
from pathlib import Path

# In place of this folder, where `http` would hide Python's.
sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse  # noqa: E402
import time  # noqa: E402
from importlib import import_module  # noqa: E402

from rich.console import Console  # noqa: E402

from benchmarks import peer, pictures, report  # noqa: E402
from benchmarks.measuring import Measured, Options, Verdict  # noqa: E402

SUITES = ("core", "request", "http", "memory", "scale")


def main() -> None:
    """Run as the command line says."""
    arguments = _parse()
    console = Console(width=None if sys.stdout.isatty() else 140)
    options = Options(
        smoke=arguments.smoke,
        processes=1 if arguments.smoke else arguments.processes,
        rounds=arguments.rounds,
        peer=_find_peer(console, arguments),
    )
    console.print(", ".join(f"{name} {value}" for name, value in report.versions().items()))
    results: dict[str, Measured] = {}
    verdicts: list[Verdict] = []
    for name in dict.fromkeys(arguments.suites or SUITES):
        suite = import_module(f"benchmarks.{name}")
        began = time.monotonic()
        measured = results[name] = suite.run(options)
        report.print_measured(console, name, measured, suite.reference)
        console.print(f"{name} took {time.monotonic() - began:.0f} s")
        verdicts += suite.goals(measured)
    if options.smoke:
        console.print("A smoke run: it works, and its figures mean nothing.")
    else:
        report.print_goals(console, verdicts)
    if arguments.json:
        report.write(arguments.json, results, verdicts)
    if arguments.pictures:
        try:
            drawn = pictures.draw(arguments.pictures, results)
        except ImportError as error:
            console.print(f"skipped: pictures: {error}", markup=False)
        else:
            console.print("drawn: " + ", ".join(map(str, drawn)))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suites", nargs="*", choices=[*SUITES, []], metavar="SUITE")
    parser.add_argument("--smoke", action="store_true", help="tiny counts; judges nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round there")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="draw there")
    parser.add_argument("--processes", type=int, default=5, help="fresh processes each")
    parser.add_argument("--rounds", type=int, default=40, help="rounds a process")
    parser.add_argument(
        "--peer", metavar="PYTHON", help="an interpreter with the published package; or 'none'"
    )
    return parser.parse_args()


def _find_peer(console: Console, arguments: argparse.Namespace) -> str | None:
    if arguments.peer is not None:
        return None if arguments.peer == "none" else str(arguments.peer)
    try:
        return peer.find(install=not arguments.smoke)
    except peer.NoPeerError as error:
        console.print(f"skipped: the published package: {error}", markup=False)
        return None


if __name__ == "__main__":
    main()
