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
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path
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
            "trio",
            "uvicorn.main",
            "uvicorn.lifespan.on",
            "uvicorn.protocols.http.auto",
            "uvicorn.protocols.websockets.auto",
        ]
    )
    return context


def _run(command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path) -> None:
    os.setsid()
    with Path(os.devnull).open("rb") as nothing, log.open("wb") as output:
        for number, file in enumerate((nothing, output, output)):
            os.dup2(file.fileno(), number)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - which `multiprocessing` closed
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = command
    sys.path[:0] = [str(folder), *environment.get("PYTHONPATH", "").split(os.pathsep)]
    if command[0] == "hypercorn":
        patch("hypercorn.run.get_context", return_value=get_context("fork")).start()
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)


class ForkedProcess:
    """A process of ``python -m command`` in a session of its own, as `subprocess.Popen` is one.

    Args:
        command: A module and its arguments.
        folder: Where it runs, and finds modules.
        environment: All of its environment.
        log: Where it writes.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path
    ) -> None:
        self._process = _server().Process(target=_run, args=(command, folder, environment, log))
        self._process.start()

    @property
    def pid(self) -> int:
        """Its id, and that of its session."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Return how it has ended, if it has."""
        return self._process.exitcode

    def wait(self, timeout: float) -> None:
        """Wait until it has ended.

        Raises:
            subprocess.TimeoutExpired: It has not in time.
        """
        self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(str(self._process), timeout)

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)
