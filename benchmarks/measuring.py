"""How everything here is measured: in fresh processes, interleaved, in CPU time.

A process measures all of its variants in rounds; in each round every variant has one turn, in an
order that is drawn anew. So what disturbs the machine disturbs all alike, and a ratio is taken
within one round of one process. Variants that need another interpreter bring the references that
they are compared with into that interpreter, too.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final, TypeAlias

ROOT: Final = Path(__file__).resolve().parents[1]

PATIENCE: Final = 600.0
"""Seconds after which a measuring process is given up."""

OURS: Final = "ours"
PEER: Final = "peer"
OUR_PACKAGES: Final = {"tasks_core", "fastapi_tasks", "starlette_tasks", "litestar_tasks"}

Block: TypeAlias = Callable[[], Awaitable[int]]
"""Does its work some times over, to the end; returns how often."""

Values: TypeAlias = dict[str, list[float]]
"""What was measured, by variant, one number a round."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a run is to do, as the command line says it."""

    smoke: bool = False
    processes: int = 5
    rounds: int = 40
    peer: str | None = None
    """The interpreter that has the published package, if there is one."""

    def interpreters(self) -> dict[str, str]:
        """Return the interpreters to measure in, by the name of their environment."""
        return {OURS: sys.executable} | ({PEER: self.peer} if self.peer else {})


@dataclass(frozen=True)
class Ratio:
    """One variant by another: the median of all rounds' ratios, and the ratio of the minima."""

    median: float
    of_minima: float
    rounds: int

    def __str__(self) -> str:
        """Show both."""
        return f"{self.median:.2f} (minima {self.of_minima:.2f})"


@dataclass
class Measured:
    """What one suite has measured."""

    unit: str
    processes: list[Values] = field(default_factory=list[Values])
    skipped: dict[str, str] = field(default_factory=dict[str, str])

    def add(self, answer: Mapping[str, Any]) -> None:
        """Take in what a process has answered."""
        self.processes.append(answer["values"])
        self.skipped.update(answer["skipped"])

    def variants(self) -> list[str]:
        """Return what was measured, in the order of measuring."""
        return list(dict.fromkeys(name for values in self.processes for name in values))

    def median(self, variant: str) -> float:
        """Return the median of all rounds."""
        return median(self._all(variant))

    def minimum(self, variant: str) -> float:
        """Return the least of all rounds."""
        return min(self._all(variant))

    def ratio(self, variant: str, reference: str) -> Ratio | None:
        """Compare within rounds of the processes that have measured both, if any has."""
        both = [values for values in self.processes if variant in values and reference in values]
        if not both:
            return None
        pairs = [
            measured / against
            for values in both
            for measured, against in zip(values[variant], values[reference], strict=True)
        ]
        least = min(min(values[variant]) for values in both)
        return Ratio(
            median(pairs), least / min(min(values[reference]) for values in both), len(pairs)
        )

    def _all(self, variant: str) -> list[float]:
        return [value for values in self.processes for value in values.get(variant, ())]


@dataclass(frozen=True)
class Verdict:
    """A goal of the project, and what was measured."""

    goal: str
    limit: float
    measured: float
    of_minima: float | None = None
    at_least: bool = False
    unit: str = "x"

    @property
    def met(self) -> bool:
        """Whether the median keeps to the limit."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit


def verdict(
    measured: Measured, goal: str, limit: float, variant: str, reference: str
) -> Iterator[Verdict]:
    """Judge a ratio that may be at most ``limit``, where both variants were measured."""
    ratio = measured.ratio(variant, reference)
    if ratio is not None:
        yield Verdict(goal, limit, ratio.median, ratio.of_minima)


async def interleave(blocks: Mapping[str, Block], rounds: int, seed: int) -> Values:
    """Measure each block once a round; microseconds of CPU time for each time it does its work."""
    values: Values = {name: [] for name in blocks}
    for block in blocks.values():
        await block()  # imports, caches and threads are made now
    order, drawn = list(blocks), Random(seed)  # noqa: S311 - no secret
    gc.collect()
    gc.freeze()  # what the process consists of is not part of anybody's garbage
    for _ in range(rounds):
        drawn.shuffle(order)
        for name in order:
            gc.collect()  # what the one before has left is not this one's
            began = time.process_time()
            times = await blocks[name]()
            values[name].append((time.process_time() - began) / times * 1e6)
    return values


def missing(error: ImportError) -> str:
    """Say what is not installed; our own packages have to be.

    Raises:
        ImportError: They are not.
    """
    if (error.name or "").partition(".")[0] in OUR_PACKAGES:
        raise error
    return str(error)


async def turns(count: int = 2) -> None:
    """Let the event loop do what is left to do after a task's function has ended."""
    for _ in range(count):
        await asyncio.sleep(0)


# Processes: the parent asks `python -m benchmarks.measuring MODULE JSON`, which answers in JSON.


def ask(suite: str, interpreter: str = sys.executable, **question: object) -> dict[str, Any]:
    """Have a fresh process call ``measure(**question)`` of a suite's module.

    Raises:
        RuntimeError: The process has failed; the message holds what it said.
    """
    done = subprocess.run(
        command("benchmarks.measuring", suite, json.dumps(question), interpreter=interpreter),
        cwd=ROOT,
        env=environment(interpreter),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode:
        msg = f"{suite} {question} failed:\n{done.stderr}"
        raise RuntimeError(msg)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def command(module: str, *arguments: str, interpreter: str) -> Sequence[str]:
    """Return the command that runs a module of ours in an interpreter."""
    return (interpreter, "-m", module, *arguments)


def environment(interpreter: str) -> dict[str, str]:
    """Return the variables for a process; another interpreter must not find our packages."""
    variables = {**os.environ, "PYTHONHASHSEED": "0"}
    if interpreter != sys.executable:
        variables.pop("PYTHONPATH", None)
    return variables


def main() -> None:
    """Answer the parent."""
    suite, question = sys.argv[1:]
    measure = import_module(f"benchmarks.{suite}").measure
    print(json.dumps(asyncio.run(measure(**json.loads(question)))))


if __name__ == "__main__":
    main()
