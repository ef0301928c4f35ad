"""Processes that import nothing anew: each is forked from one that has imported the frameworks.

Half of what the tests of servers took was to import the same again. Our packages are not among what
is imported beforehand: a process has them as if it had started by itself. Hypercorn's worker, which
it would spawn, is forked as well.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import BinaryIO, TextIO, TypeAlias
from unittest.mock import patch


@cache
def _server() -> ForkServerContext:
    context = get_context("forkserver")
    context.set_forkserver_preload(
        [
            "fastapi.responses",
            "hypercorn.run",
            "hypercorn.trio.run",
            "key_value.aio.stores.redis",
            "sqlalchemy.ext.asyncio",
            "starlette.middleware.sessions",
            "starlette.testclient",
            "trio",
            "uvicorn.main",
            "uvicorn.lifespan.on",
            "uvicorn.protocols.http.auto",
            "uvicorn.protocols.websockets.auto",
        ]
    )
    return context


Output: TypeAlias = "Path | Connection[str, str]"
"""Where a process writes: a file, or what another process reads."""


def _run(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], output: Output
) -> None:
    os.setsid()
    with Path(os.devnull).open("rb") as nothing, _opened(output) as written:
        for number, file in enumerate((nothing, written, written)):
            os.dup2(file.fileno(), number)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - which `multiprocessing` closed
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = command
    sys.path[:0] = [str(folder), *environment.get("PYTHONPATH", "").split(os.pathsep)]
    program = command[0]
    if program == "hypercorn":
        patch("hypercorn.run.get_context", return_value=get_context("fork")).start()
    if os.sep in program:
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


def _opened(output: Output) -> BinaryIO | Connection[str, str]:
    return output.open("wb") if isinstance(output, Path) else output


class ForkedProcess:
    """A process of ``python -m command`` in a session of its own, as `subprocess.Popen` is one.

    Args:
        command: A module, or a path with a program, and its arguments.
        folder: Where it runs, and finds modules.
        environment: All of its environment.
        output: Where it writes.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        output: Output,
    ) -> None:
        self._process = _server().Process(target=_run, args=(command, folder, environment, output))
        self._process.start()

    @property
    def pid(self) -> int:
        """Its id, and that of its session."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Return how it has ended, if it has."""
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """Wait until it has ended, and return how.

        Raises:
            subprocess.TimeoutExpired: It has not in time.
        """
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(str(self._process), timeout)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has ended since
                os.kill(self.pid, number)


@contextmanager
def read(
    command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> Generator[tuple[ForkedProcess, TextIO]]:
    """Start such a process; give it, and what it writes."""
    ours, its = Pipe(duplex=False)
    with ours, os.fdopen(os.dup(ours.fileno()), encoding="utf-8") as written:
        with its:
            process = ForkedProcess(command, folder, environment, its)
        yield process, written


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> str:
    """Run such a process to its end, and return what it has written.

    Raises:
        AssertionError: It ended with an error.
    """
    with read(command, folder, environment) as (process, written):
        said = written.read()
        assert process.wait(60) == 0, said
    return said
