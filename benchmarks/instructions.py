"""Instructions in place of CPU time: what others do on the machine cannot change them.

One process of valgrind's callgrind measures all variants of a suite. It starts without
instrumentation, so imports and the first turn of each variant cost seconds and not minutes. Then
each turn counts for itself: the process sets callgrind's counters to zero just before its loop and
has them written just after it.

Those are client requests, instructions that valgrind takes for itself, so the cut is exact and the
same in each run. They are macros for C, hence a library of four functions, compiled when needed.
The other ways would need no compiler, but `callgrind_control` asks from outside, and is heard
somewhere in the midst of whatever runs; and `--toggle-collect` wants the name of a C function that
is called for the loop and for nothing else, which differs from one build of Python to the next.

The garbage collector is off meanwhile: when it comes, and what it then has to look at, is up to all
that lives in the process. CPU time is measured with it.

What is left is where things lie in memory, by which Python finds some of them, as by the hash seed.
With that one given, and the layout not left to the kernel's chance, the same command repeats to a
tenth of a thousand. Another seed or a changed line of code moves things: seen were one percent of a
count and half a percent of a ratio, one thing that both sides share moving both.
"""

from __future__ import annotations

import gc
import shutil
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from ctypes import CDLL
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("callgrind.c")
LIBRARY: Final = "callgrind.so"

_STILL: Final = ("setarch", "--addr-no-randomize")


class NoCallgrindError(Exception):
    """Instructions cannot be counted here; the message says why."""


@dataclass(frozen=True)
class Callgrind:
    """What processes that count need: a folder that has the library, where they also write."""

    folder: str
    before: tuple[str, ...] = ()
    """What lays memory out in the same way each time, where that is allowed."""

    def output(self, process: str) -> str:
        """Return what the names of a process's files begin with."""
        return f"{self.folder}/{process}"

    def command(self, process: str) -> list[str]:
        """Return what goes before the command of a process that counts."""
        return [
            *self.before,
            "valgrind",
            "--quiet",
            "--tool=callgrind",
            "--instr-atstart=no",
            f"--callgrind-out-file={self.output(process)}",
        ]


@contextmanager
def callgrind() -> Generator[Callgrind]:
    """Compile the library, and keep it for as long as needed.

    Raises:
        NoCallgrindError: Valgrind, its headers or a C compiler are missing.
    """
    if shutil.which("valgrind") is None:
        raise NoCallgrindError("valgrind is not installed")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NoCallgrindError("there is no C compiler, which makes the library that asks valgrind")
    with tempfile.TemporaryDirectory(prefix="tasks-benchmarks-") as folder:
        done = subprocess.run(
            [compiler, "-O2", "-shared", "-fPIC", "-o", f"{folder}/{LIBRARY}", SOURCE],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["without a word"]
            raise NoCallgrindError(f"{compiler} refuses {SOURCE.name}: {said[0]}")
        yield Callgrind(folder, _STILL if _runs((*_STILL, "true")) else ())


def _runs(command: tuple[str, ...]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


class Counter:
    """Counts, within a process that callgrind runs.

    Raises:
        NoCallgrindError: This process is none of those.
    """

    def __init__(self, output: str) -> None:
        self._output = Path(output)
        self._library = CDLL(str(self._output.with_name(LIBRARY)))
        if not self._library.runs_here():
            raise NoCallgrindError("this process does not run in valgrind")
        self._library.start()

    async def __call__(self, block: Callable[[], Awaitable[int]]) -> float:
        """Return the thousand instructions that a block takes each time it does its work."""
        zero, dump = self._library.zero, self._library.dump
        gc.disable()
        zero()
        times = await block()
        dump()
        gc.enable()
        return self._read() / times / 1000

    def _read(self) -> int:
        """Return the sum of the file that was just written; there is no other."""
        (file,) = self._output.parent.glob(f"{self._output.name}.*")
        with file.open(encoding="utf-8") as lines:
            # Not `totals`, which says more: also of a loop that does nothing, four times as much.
            summary = next(line for line in lines if line.startswith("summary: "))
        file.unlink()
        return int(summary.split()[1])
