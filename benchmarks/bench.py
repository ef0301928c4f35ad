"""Measure ours and what could be used instead, side by side.

hatch run bench                        everything
hatch run bench core http              some of core, request, http, memory, scale
hatch run bench --instructions         core and request in instructions, which repeat, by valgrind
hatch run bench --packages FOLDER      the packages of another checkout
hatch run bench --smoke                whether it works, in seconds; the figures mean nothing
"""

from __future__ import annotations

import sys
from pathlib import Path

# In place of this folder, where `http` would hide Python's.
sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse  # noqa: E402
import random  # noqa: E402
import time  # noqa: E402
from contextlib import nullcontext  # noqa: E402
from importlib import import_module  # noqa: E402

from rich.console import Console  # noqa: E402

from benchmarks import peer, pictures, report  # noqa: E402
from benchmarks.instructions import Callgrind, NoCallgrindError, callgrind  # noqa: E402
from benchmarks.measuring import (  # noqa: E402
    Measured,
    Options,
    Verdict,
    measured_core,
    use_packages,
)

SUITES = ("core", "request", "http", "memory", "scale")
COUNTABLE = ("core", "request")
"""What can be had in instructions: no servers, no threads, no bytes."""


def main() -> None:
    """Run as the command line says."""
    arguments = _parse()
    console = Console(width=None if sys.stdout.isatty() else 140)
    if arguments.packages is not None:
        use_packages(arguments.packages)
    if arguments.seed is None:  # counted instructions should repeat
        arguments.seed = 0 if arguments.instructions else random.SystemRandom().randrange(2**32)
    try:
        with callgrind() if arguments.instructions else nullcontext() as counter:
            _measure(console, arguments, counter)
    except NoCallgrindError as error:
        console.print(f"skipped: instructions: {error}", markup=False)


def _measure(console: Console, arguments: argparse.Namespace, counter: Callgrind | None) -> None:
    once = arguments.smoke or counter is not None
    options = Options(
        smoke=arguments.smoke,
        processes=arguments.processes or (1 if once else 5),
        rounds=arguments.rounds or (40 if counter is None else 2),
        seed=arguments.seed,
        peer=_find_peer(console, arguments),
        callgrind=counter,
    )
    versions = report.versions(measured_core())
    console.print(", ".join(f"{name} {value}" for name, value in versions.items()))
    console.print(f"Left to chance: by --seed {options.seed}")
    results: dict[str, Measured] = {}
    verdicts: list[Verdict] = []
    for name in arguments.suites:
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
        about = {"versions": versions, "seed": options.seed}
        report.write(arguments.json, about, results, verdicts)
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
    parser.add_argument(
        "--instructions", action="store_true", help="count them, in place of CPU time"
    )
    parser.add_argument(
        "--packages",
        type=Path,
        metavar="FOLDER",
        help="measure FOLDER/*/src, in place of ours",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round there")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="draw there")
    parser.add_argument("--processes", type=int, help="fresh processes each (5; 1 if counted)")
    parser.add_argument("--rounds", type=int, help="rounds a process (40; 2 if counted)")
    parser.add_argument(
        "--seed", type=int, help="what all that is left to chance is drawn from (0 if counted)"
    )
    parser.add_argument(
        "--peer", metavar="PYTHON", help="an interpreter with the published package; or 'none'"
    )
    arguments = parser.parse_args()
    possible = COUNTABLE if arguments.instructions else SUITES
    arguments.suites = list(dict.fromkeys(arguments.suites or possible))
    if not set(possible).issuperset(arguments.suites):
        parser.error(f"--instructions is for {' and '.join(COUNTABLE)}")
    if arguments.instructions and arguments.pictures:
        parser.error("--pictures are of CPU time")
    return arguments


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
