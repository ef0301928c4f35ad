"""Load a real server for a while, and account for every task at the end.

python tests/soak/soak.py --minutes 1      200 clients with failures, cancellations, disconnects
python tests/soak/soak.py --smoke          the same with small counts, in seconds
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final, Self

ROOT: Final = Path(__file__).resolve().parents[2]
GUARD: Final = 120.0
BLOCKS: Final = 4
"""Into how many parts the requests without growth are divided, after the first as a warm-up."""


@dataclass(frozen=True)
class Load:
    """How much of everything."""

    seconds: float
    clients: int
    in_flight: int
    blocking: int
    requests: int


FULL: Final = Load(seconds=60, clients=200, in_flight=100_000, blocking=1_000, requests=20_000)
SMOKE: Final = Load(seconds=0.5, clients=10, in_flight=500, blocking=100, requests=200)


class Soaked:
    """A uvicorn process with `app.py`; a context manager that leaves none behind."""

    def __init__(self) -> None:
        # Bound but not listening, it keeps the port ours until the server listens there.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self.port: Final[int] = self._reserved.getsockname()[1]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        command = ["-m", "uvicorn", "--port", str(self.port), "--log-level", "critical"]
        # Failures are logged, as they should be: to nowhere.
        self.process = subprocess.Popen(
            [sys.executable, *command, "tests.soak.app:app"],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": path},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> Self:
        deadline = time.monotonic() + GUARD
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                self.get("/account")
            except OSError:
                time.sleep(0.05)
            else:
                return self
        self.__exit__()
        raise RuntimeError("the server did not start")

    def __exit__(self, *_: object) -> None:
        self._reserved.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(GUARD)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def connect(self) -> HTTPConnection:
        """Return a connection, which is opened with the first request."""
        return HTTPConnection("127.0.0.1", self.port, timeout=GUARD)

    def get(self, path: str) -> Any:
        """Return what a route tells."""
        connection = self.connect()
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def settled(self) -> dict[str, Any]:
        """Return the account once no task lives any more."""
        deadline = time.monotonic() + GUARD
        while (account := self.get("/account"))["living"]:
            if time.monotonic() > deadline:
                raise AssertionError(f"tasks that never end: {account}")
            time.sleep(0.05)
        told: dict[str, Any] = account
        return told


def hustle(server: Soaked, until: float, seen: Counter[str], seed: int) -> None:
    """Be a client: ask, and now and then leave at a bad moment."""
    chance = random.Random(seed)  # noqa: S311 - nothing secret
    connection = server.connect()
    while time.monotonic() < until:
        try:
            connection.request("GET", "/mixed")
            if (leaves := chance.random()) < 0.1:
                connection.close()
                seen["left before the response"] += 1
                continue
            response = connection.getresponse()
            if leaves < 0.2:
                response.read(100)
                response.close()
                connection.close()
                seen["left within the response"] += 1
                continue
            response.read()
            seen[f"answered {response.status}"] += 1
        except (OSError, HTTPException) as error:
            connection.close()
            seen[type(error).__name__] += 1
    connection.close()


def soak(server: Soaked, load: Load) -> dict[str, Any]:
    """Let clients come, fail and go; then all tasks are in one final state each."""
    seen: Counter[str] = Counter()
    until = time.monotonic() + load.seconds
    # Threads of one process: counting needs no lock, a lost count of a client harms nobody.
    clients = [
        threading.Thread(target=hustle, args=(server, until, seen, number))
        for number in range(load.clients)
    ]
    for client in clients:
        client.start()
    while time.monotonic() < until - load.seconds / 2:
        time.sleep(0.05)
    half = server.get("/account")["memory"]
    for client in clients:
        client.join()
    account = server.settled()
    total = sum(account["ended"].values())
    assert total == account["scheduled"], account
    return {
        "clients": dict(sorted(seen.items())),
        "tasks": account["scheduled"],
        **account["ended"],
        "MB at half time": round(half / 1e6, 1),
        "MB at the end": round(account["memory"] / 1e6, 1),
    }


def fly(server: Soaked, load: Load) -> dict[str, Any]:
    """Have many tasks in flight at once."""
    told: dict[str, Any] = server.get(f"/flight/{load.in_flight}")
    assert told["in_flight"] == told["succeeded"] == load.in_flight, told
    return told


def block(server: Soaked, load: Load) -> dict[str, Any]:
    """Ask a sync route, before and while sync tasks block all threads that are for tasks."""
    before = latencies(server)
    server.get(f"/block/{load.blocking}")
    during = latencies(server)
    assert server.get("/account")["living"] == load.blocking
    server.get("/release")
    server.settled()
    return {
        "blocking": load.blocking,
        "ms a sync route, before": round(statistics.median(before), 2),
        "ms a sync route, beside them": round(statistics.median(during), 2),
    }


def latencies(server: Soaked) -> list[float]:
    """Return the milliseconds of 100 requests to a sync route."""
    connection = server.connect()
    measured: list[float] = []
    for _ in range(100):
        began = time.perf_counter()
        connection.request("GET", "/sync")
        connection.getresponse().read()
        measured.append((time.perf_counter() - began) * 1_000)
    connection.close()
    return measured


def repeat(server: Soaked, load: Load) -> dict[str, Any]:
    """Ask again and again; after a warm-up the memory stays as it is."""
    connection = server.connect()
    sizes: list[float] = []
    for _ in range(BLOCKS + 1):
        for _ in range(load.requests // BLOCKS):
            connection.request("GET", "/plain")
            connection.getresponse().read()
        sizes.append(round(server.settled()["memory"] / 1e6, 2))
    connection.close()
    growth = sizes[-1] - sizes[0]
    assert growth < 2, sizes
    return {
        "requests after the warm-up": load.requests,
        "MB after each part": sizes,
        "bytes a request": round(growth * 1e6 / load.requests, 1),
    }


def run(load: Load) -> dict[str, dict[str, Any]]:
    """Run everything, each part against a process of its own."""
    found: dict[str, dict[str, Any]] = {}
    for part in (soak, fly, block, repeat):
        with Soaked() as server:
            found[part.__name__] = part(server, load)
        print(f"{part.__name__}: {json.dumps(found[part.__name__], indent=2)}", flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1, help="how long the clients come")
    parser.add_argument("--clients", type=int, default=FULL.clients)
    parser.add_argument("--smoke", action="store_true", help="small counts")
    options = parser.parse_args(arguments)
    load = Load(options.minutes * 60, options.clients, *(100_000, 1_000, 20_000))
    run(SMOKE if options.smoke else load)


if __name__ == "__main__":
    main()
