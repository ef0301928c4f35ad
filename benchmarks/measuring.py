"""How everything here is measured: in fresh processes, in CPU time or in instructions.

A process measures all of its variants in rounds; in each round every variant has one turn, in an
order that is drawn anew. So what disturbs the machine disturbs all alike, and a ratio is taken
within one round of one process. Variants that need a process of their own bring the references that
they are compared with into it, too.

What is left to chance is drawn anew for each process, or a bias that one draw has, and it can be
several percent, would look like a result: the hash seed, and the order in which the variants are
made. Both come from one number, which is recorded.
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final, TypeAlias

from benchmarks.instructions import Callgrind, Counter

ROOT: Final = Path(__file__).resolve().parents[1]

PATIENCE: Final = 1800.0
"""Seconds after which a measuring process is given up."""

OURS: Final = "ours"
PEER: Final = "peer"
TASKFLOW: Final = "taskflow"
OUR_PACKAGES: Final = {"tasks_core", "fastapi_tasks", "starlette_tasks", "litestar_tasks"}

TURNS: Final = {OURS: 2, PEER: 2, TASKFLOW: 10}
"""Turns of the event loop in which a task is over whose function has ended, by place.

With too few the rest would be measured as part of whatever has the next turn.
"""

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
    seed: int = 0
    """From which all that is left to chance is drawn."""
    peer: str | None = None
    """The interpreter that has the published package, if there is one."""
    callgrind: Callgrind | None = None
    """With which instructions are counted, in place of CPU time."""

    def interpreters(self) -> dict[str, str]:
        """Return the interpreters to measure in, by the name of what is measured there."""
        return {OURS: sys.executable, TASKFLOW: sys.executable} | (
            {PEER: self.peer} if self.peer else {}
        )

    def drawn_for(self, suite: str, place: str, process: int) -> int:
        """Return the seed of a process, the same one whatever else a run does."""
        drawn = Random(f"{self.seed} {suite} {place} {process}")  # noqa: S311 - no secret
        return drawn.randrange(2**32)

    def measured(self, each: str) -> Measured:
        """Return what is to hold the results of a suite that may count instructions."""
        unit = "μs of CPU" if self.callgrind is None else "thousand instructions"
        return Measured(f"{unit} {each}", instructions=self.callgrind is not None)

    def ask(self, suite: str, place: str, process: int, **question: object) -> dict[str, Any]:
        """Have a fresh process call ``measure(place, **question)`` of a suite's module.

        Raises:
            RuntimeError: The process has failed; the message holds what it said.
        """
        interpreter, seed = self.interpreters()[place], self.drawn_for(suite, place, process)
        question = {"place": place, **question}
        before: Sequence[str] = ()
        if self.callgrind is not None:
            before = self.callgrind.command(place)
            question["counting"] = self.callgrind.output(place)
        asked = command(
            "benchmarks.measuring", suite, json.dumps(question), interpreter=interpreter
        )
        done = subprocess.run(
            [*before, *asked],
            cwd=ROOT,
            env=environment(interpreter, seed),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode:
            msg = f"{suite} {question} failed:\n{done.stderr}"
            raise RuntimeError(msg)
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer | {"seeds": {f"{place} {process}": seed}}

    def ask_everywhere(
        self, suite: str, process: int, **question: object
    ) -> Iterator[dict[str, Any]]:
        """Ask in each place: one after the other for CPU time, else all that the cores can take."""

        def ask(place: str) -> dict[str, Any]:
            return self.ask(suite, place, process, **question)

        with ThreadPoolExecutor(1 if self.callgrind is None else os.cpu_count()) as pool:
            yield from pool.map(ask, self.interpreters())


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
    instructions: bool = False
    processes: list[Values] = field(default_factory=list[Values])
    skipped: dict[str, str] = field(default_factory=dict[str, str])
    seeds: dict[str, int] = field(default_factory=dict[str, int])
    """What was drawn for each process, which is its ``PYTHONHASHSEED`` too."""

    def add(self, answer: Mapping[str, Any]) -> None:
        """Take in what a process has answered."""
        self.processes.append(answer["values"])
        self.note(answer)

    def note(self, answer: Mapping[str, Any]) -> None:
        """Take in what a process has answered, but for its values."""
        self.skipped.update(answer["skipped"])
        self.seeds.update(answer["seeds"])

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
    limit: float | None
    """None where this is no goal, and shown beside one."""
    measured: float
    of_minima: float | None = None
    at_least: bool = False
    unit: str = "x"

    @property
    def met(self) -> bool | None:
        """Whether the median keeps to the limit, if there is one."""
        if self.limit is None:
            return None
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit


@dataclass(frozen=True)
class Goal:
    """The ratio that one variant may have to another at most, in instructions and in CPU time."""

    what: str
    variant: str
    reference: str
    instructions: float | None = None
    cpu: float | None = None

    def judge(self, measured: Measured) -> Iterator[Verdict]:
        """Judge what was measured, where it was both variants."""
        ratio = measured.ratio(self.variant, self.reference)
        if ratio is not None:
            limit = self.instructions if measured.instructions else self.cpu
            unit = "x instr." if measured.instructions else "x CPU"
            yield Verdict(self.what, limit, ratio.median, ratio.of_minima, unit=unit)


def chance() -> Random:
    """Return where this process's draws come from: the number that is its hash seed as well."""
    return Random(int(os.environ["PYTHONHASHSEED"]))  # noqa: S311 - no secret


async def measure_blocks(
    blocks: Mapping[str, Block], rounds: int, drawn: Random, counting: str | None = None
) -> Values:
    """Measure each block some times, for each time that it does its work.

    Args:
        blocks: What is measured, by name.
        rounds: How often.
        drawn: What draws the order.
        counting: Where `Callgrind` writes, to count thousands of instructions; microseconds of CPU
            time are measured without.
    """
    for block in blocks.values():
        await block()  # imports, caches and threads are made now
    gc.collect()
    gc.freeze()  # what the process consists of is not part of anybody's garbage
    if counting is None:
        return await _interleave(blocks, rounds, drawn)
    return await _one_after_another(blocks, rounds, drawn, Counter(counting))


async def _interleave(blocks: Mapping[str, Block], rounds: int, drawn: Random) -> Values:
    """Measure in CPU time: what disturbs the machine should meet all alike."""
    values: Values = {name: [] for name in blocks}
    order = list(blocks)
    for _ in range(rounds):
        drawn.shuffle(order)
        for name in order:
            gc.collect()  # what the one before has left is not this one's
            began = time.process_time()
            times = await blocks[name]()
            values[name].append((time.process_time() - began) / times * 1e6)
    return values


async def _one_after_another(
    blocks: Mapping[str, Block], rounds: int, drawn: Random, counter: Counter
) -> Values:
    """Count instructions: nothing disturbs them but the variant before.

    Python specializes code for what it meets there, and for a while pays for having met another.
    """
    values: Values = {name: [] for name in blocks}
    for name in drawn.sample([*blocks], len(blocks)):
        await blocks[name]()
        for _ in range(rounds):
            gc.collect()
            values[name].append(await counter(blocks[name]))
    return values


def missing(error: ImportError) -> str:
    """Say what is not installed; our own packages have to be.

    Raises:
        ImportError: They are not.
    """
    if (error.name or "").partition(".")[0] in OUR_PACKAGES:
        raise error
    return str(error)


async def turns(count: int) -> None:
    """Let the event loop do what is left to do after a task's function has ended."""
    for _ in range(count):
        await asyncio.sleep(0)


# Processes: the parent asks `python -m benchmarks.measuring MODULE JSON`, which answers in JSON.


def command(module: str, *arguments: str, interpreter: str) -> Sequence[str]:
    """Return the command that runs a module of ours in an interpreter."""
    return (interpreter, "-m", module, *arguments)


def environment(interpreter: str, seed: int) -> dict[str, str]:
    """Return the variables for a process; another interpreter must not find our packages."""
    variables = {**os.environ, "PYTHONHASHSEED": str(seed)}
    if interpreter != sys.executable:
        variables.pop("PYTHONPATH", None)
    return variables


def use_packages(folder: Path) -> None:
    """Let the processes to come find the packages of another checkout before the installed ones.

    Raises:
        FileNotFoundError: There are none.
    """
    sources = sorted(str(source.resolve()) for source in folder.glob("*/src"))
    if not sources:
        raise FileNotFoundError(f"{folder} has no folders */src")
    os.environ["PYTHONPATH"] = os.pathsep.join(sources)


def measured_core() -> str:
    """Return the file of the core that a process finds."""
    return subprocess.run(
        [sys.executable, "-c", "import tasks_core; print(tasks_core.__file__)"],
        cwd=ROOT,
        env=environment(sys.executable, 0),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def main() -> None:
    """Answer the parent."""
    suite, question = sys.argv[1:]
    measure = import_module(f"benchmarks.{suite}").measure
    print(json.dumps(asyncio.run(measure(**json.loads(question)))))


if __name__ == "__main__":
    main()
