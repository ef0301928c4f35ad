"""An application served by uvicorn, in a process that its parent can ask what was done in it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from threading import Thread
from typing import Any, Final, Literal

import uvicorn

from benchmarks.measuring import ROOT, command, environment, missing
from benchmarks.serving import load
from benchmarks.work import done

LIFETIME: Final = 1800
"""Seconds after which a server ends by itself, come what may."""

LOOP: Final[Literal["uvloop", "asyncio"]] = "uvloop" if find_spec("uvloop") else "asyncio"


class SkippedError(Exception):
    """What the application is built on is not installed."""


def serve(application: str) -> None:
    """Serve until standard input ends; for each line in it, say what has been done so far."""
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(LIFETIME)
    try:
        app = load(application)
    except ImportError as error:
        print(json.dumps({"skipped": missing(error)}), flush=True)
        return
    listener = socket.create_server(("127.0.0.1", 0))
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    server = uvicorn.Server(uvicorn.Config(app, loop=LOOP, access_log=False, log_level="error"))

    def answer() -> None:
        for _ in sys.stdin:
            said = {"cpu": time.process_time(), "ended": done.ended, "up": server.started}
            print(json.dumps(said), flush=True)
        server.should_exit = server.force_exit = True

    Thread(target=answer, daemon=True).start()
    server.run(sockets=[listener])


class Server:
    """A server's process, as its parent sees it."""

    def __init__(self, application: str, interpreter: str, seed: int) -> None:
        self.seed = seed
        self._process = subprocess.Popen(
            command("benchmarks.http_server", application, interpreter=interpreter),
            cwd=ROOT,
            env=environment(interpreter, seed),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        own = sorted(cores())
        if len(own) > 1:
            os.sched_setaffinity(self._process.pid, own[:1])
        self.port = 0

    def wait_until_up(self) -> None:
        """Wait until the application has started.

        Raises:
            SkippedError: It lacks something.
        """
        said = self._read()
        if "skipped" in said:
            raise SkippedError(said["skipped"])
        self.port = said["port"]
        while not self.state()["up"]:
            time.sleep(0.01)

    def state(self) -> dict[str, Any]:
        """Return the server's CPU time in seconds, and how many tasks have ended in it."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def wait_until_ended(self, ended: int) -> None:
        """Wait until so many tasks have ended.

        Raises:
            RuntimeError: They do not.
        """
        deadline = time.monotonic() + 60
        while self.state()["ended"] < ended:
            if time.monotonic() > deadline:
                raise RuntimeError("tasks have been lost")
            time.sleep(0.02)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            assert self._process.stderr is not None
            raise RuntimeError(f"the server has ended:\n{self._process.stderr.read()}")
        said: dict[str, Any] = json.loads(line)
        return said

    def stop(self) -> None:
        """Ask it to end."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def wait(self) -> None:
        """Wait until it has ended, or end it."""
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in self._process.stdout, self._process.stderr:
            if pipe is not None:
                pipe.close()


@contextmanager
def all_up(servers: dict[str, Server]) -> Generator[dict[str, str]]:
    """Wait until servers are up, and end them afterwards; say which had to be left out, and why."""
    skipped: dict[str, str] = {}
    try:
        for name, server in servers.items():
            try:
                server.wait_until_up()
            except SkippedError as error:
                skipped[name] = str(error)
        yield skipped
    finally:
        for server in servers.values():
            server.stop()
        for server in servers.values():
            server.wait()


def cores() -> set[int]:
    """Return the cores of this process, where they can be chosen."""
    return os.sched_getaffinity(0) if sys.platform == "linux" else set()


@contextmanager
def off_the_servers_core() -> Generator[None]:
    """Keep this process and those that it starts from the servers' core, if there are two."""
    before = cores()
    if len(before) < 2:
        yield
        return
    os.sched_setaffinity(0, sorted(before)[1:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


if __name__ == "__main__":
    serve(sys.argv[1])
