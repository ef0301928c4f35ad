"""Real processes for the tests of engines: Redis, workers and web servers, each its own session."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, RemoteDisconnected
from itertools import count
from pathlib import Path
from typing import Any, Final, Self

from redis import Redis as RedisClient

from tests.servers.server import ROOT, Server, reserve_port

GUARD: Final = 60.0
"""Seconds after which a test gives up."""

DBOS_RUNS: Final = sys.version_info < (3, 12) or sqlite3.sqlite_version_info >= (3, 42)
"""Whether SQLite is new enough for DBOS here."""

RABBITMQ: Final = "/usr/lib/rabbitmq/bin/rabbitmq-server"
"""Debian's own wrapper of it wants to be another user, with one folder for all."""


class Process:
    """A process of the test's own, with its log; as a context manager it leaves none behind.

    Args:
        command: What is run.
        log: Where it writes.
        environment: More for the environment.
        folder: Where it is run.
        reserved: What keeps its ports its own, see `reserve_port`.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path = ROOT,
        reserved: Sequence[socket.socket] = (),
    ) -> None:
        self._log = log
        self._reserved = reserved
        # None of them is empty: that would be the current folder.
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        with log.open("wb") as output:
            self.process: Final = subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | (environment or {}) | {"PYTHONPATH": path},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for reserved in self._reserved:
            reserved.close()

    def kill(self) -> None:
        """End it, and all that it has started, at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # the session is ours
        self.process.wait(GUARD)

    def send_signal(self, number: int) -> None:
        """Send a signal to it, not to what it has started."""
        self.process.send_signal(number)

    def log(self) -> str:
        """Return what it has written."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait_for_log(self, text: str, times: int = 1) -> None:
        """Wait until it has written something so often."""
        wait_until(
            lambda: self.log().count(text) >= times, lambda: f"never logged: {text}\n{self.log()}"
        )


def wait_until(settled: Callable[[], object], why: Callable[[], str] = lambda: "never") -> None:
    """Look again and again, until something is so."""
    deadline, pause = time.monotonic() + GUARD, 0.01
    waiting = socket.socket()  # only for its timeout
    waiting.bind(("127.0.0.1", 0))
    waiting.listen()
    with waiting:
        while not settled():
            assert time.monotonic() < deadline, why()
            waiting.settimeout(pause)
            with suppress(TimeoutError):
                waiting.accept()
            pause = min(pause * 1.5, 0.2)


class Redis(Process):
    """A redis-server on a port of its own, which keeps nothing on disk."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        reserved = [] if port else [reserve_port()]
        self.port: Final[int] = port or reserved[0].getsockname()[1]
        super().__init__(
            [
                "redis-server",
                *("--port", str(self.port), "--bind", "127.0.0.1"),
                *("--save", "", "--appendonly", "no", "--databases", "512"),
            ],
            folder / f"redis {self.port} {time.monotonic_ns()}",
            reserved=reserved,
        )
        self.wait_for_log("Ready to accept connections")
        self._databases = count()

    def new(self) -> str:
        """Return the address of a database that nobody else has."""
        return self.url(next(self._databases))

    def url(self, database: int = 0) -> str:
        """Return the address of a database."""
        return f"redis://127.0.0.1:{self.port}/{database}"


class RabbitMQ(Process):
    """A rabbitmq-server on ports of its own, with all that it writes in a folder."""

    def __init__(self, folder: Path) -> None:
        reserved = [reserve_port() for _ in range(3)]
        port, among_nodes, names = (it.getsockname()[1] for it in reserved)
        self.address: Final = f"amqp://guest:guest@127.0.0.1:{port}/"
        self._names = {"ERL_EPMD_PORT": str(names)}  # the daemon that Erlang finds nodes by
        environment = self._names | {
            "HOME": str(folder),
            "RABBITMQ_DIST_PORT": str(among_nodes),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_NODENAME": f"tests{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
        }
        super().__init__([RABBITMQ], folder / "log", environment, reserved=reserved)
        self.wait_for_log("Server startup complete")

    def kill(self) -> None:
        """End it, and the daemon, which is of another session."""
        super().kill()
        environment = os.environ | self._names
        stop = partial(subprocess.run, ["epmd", "-kill"], check=False, env=environment)
        wait_until(lambda: stop().returncode == 0)  # it goes once it knows that the server is gone


@dataclass(frozen=True)
class Engine:
    """How an engine's shop and its workers are started, and how its queue is counted."""

    name: str
    worker: Sequence[str]
    """The command of a worker, after ``python -m``."""
    queued: Callable[[Any], int]
    """How many tasks wait, by a client of its Redis."""
    knows_unknown: bool = False
    """Whether it can tell an id of nobody from a task that waits."""
    shows_running: bool = True
    """Whether it says of a task that it runs."""
    retries: bool = True
    """Whether its client can be told to try again, where Redis is away."""
    forgets: bool = True
    """Whether its worker can be told for how long results are kept."""
    recovers: bool = True
    """Whether a worker finds by itself what another one has left behind."""

    @property
    def app(self) -> str:
        return f"tests.engines.apps.{self.name}_shop:app"

    def command(self, redis: str) -> list[str]:
        """Return the command of a worker."""
        return [sys.executable, "-m", *(part.format(redis=redis) for part in self.worker)]


ENGINES: Final = {
    engine.name: engine
    for engine in (
        Engine(
            "celery",
            (
                *("celery", "-A", "tests.engines.apps.celery_shop:celery", "worker"),
                *("--concurrency", "2", "--loglevel", "INFO"),
                *("--without-gossip", "--without-mingle", "--without-heartbeat"),
            ),
            lambda client: client.llen("celery"),
        ),
        Engine(
            "taskiq",
            (
                *("taskiq", "worker", "tests.engines.apps.taskiq_shop:broker"),
                *("--workers", "1", "--ack-type", "when_saved"),
            ),
            lambda client: client.xlen("taskiq"),
            shows_running=False,
            recovers=False,
        ),
        Engine(
            "docket",
            (
                *("docket", "worker", "--docket", "shop", "--url", "{redis}"),
                *("--tasks", "tests.engines.apps.docket_shop:tasks"),
                *("--redelivery-timeout", "2s", "--concurrency", "2"),
            ),
            lambda client: client.xlen("shop:stream"),
            knows_unknown=True,
            retries=False,
            forgets=False,
        ),
    )
}


@dataclass
class Answer:
    """What the shop has answered."""

    status: int
    body: Any


class Shop:
    """A web server with the shop of an engine, its workers, and its database in Redis.

    Used as a context manager, which leaves no process behind.
    """

    def __init__(
        self, engine: Engine, redis: str, folder: Path, arguments: Sequence[str] = (), **more: str
    ) -> None:
        self.engine: Final = engine
        self.redis: Final = redis
        self._folder = folder
        self._environment = {"TESTS_REDIS": redis, **more}
        self._arguments = arguments
        self._workers: list[Process] = []
        self.server = self.serve()

    def serve(self) -> Server:
        """Start a web server; the test's second one, for instance."""
        self._count = getattr(self, "_count", 0) + 1
        log = self._folder / f"web {self._count}"
        environment = self._environment
        self.server = Server(
            "uvicorn", self.engine.app, log, self._arguments, environment, guard=GUARD
        )
        return self.server

    def __enter__(self) -> Self:
        self.server.__enter__()
        return self

    def __exit__(self, error: object = None, *_: object) -> None:
        for worker in self._workers:
            worker.kill()
        self.server.__exit__(error)

    def work(self) -> Process:
        """Start a worker."""
        worker = Process(
            self.engine.command(self.redis),
            self._folder / f"worker {len(self._workers)} {time.monotonic_ns()}",
            {**self._environment, "TESTS_WIRE": self.server.wire},
        )
        self._workers.append(worker)
        return worker

    def kill(self, worker: Process) -> None:
        """End a worker, with all its processes, at once."""
        self._workers.remove(worker)
        worker.kill()

    def queued(self) -> int:
        """Return how many tasks have been sent, or wait: each engine counts as it does."""
        with RedisClient.from_url(self.redis) as client:  # pyright: ignore[reportUnknownMemberType] - its options
            return self.engine.queued(client)

    def logs(self) -> str:
        """Return all that was logged, for who looks why a test has failed."""
        return "\n".join([self.server.log(), *(worker.log() for worker in self._workers)])

    def request(self, method: str, path: str) -> Answer:
        """Send a request.

        Raises:
            RemoteDisconnected: The server has gone meanwhile.
        """
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=GUARD)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        try:
            return Answer(response.status, json.loads(body) if body else None)
        except ValueError:
            return Answer(response.status, body.decode())

    def place(self, order: int, query: str = "") -> str:
        """Place an order; return the task's id."""
        answer = self.request("POST", f"/orders/{order}?{query}")
        assert answer.status == 202, (answer, self.logs())
        task_id: str = answer.body["task_id"]
        return task_id

    def status(self, task_id: str) -> dict[str, Any] | None:
        """Ask what has become of a task."""
        answer = self.request("GET", f"/tasks/{task_id}")
        if answer.status == 404:
            return None
        assert answer.status == 200, (answer, self.logs())
        status: dict[str, Any] = answer.body["status"]
        return status

    def state(self, task_id: str) -> str | None:
        """Ask for a task's state."""
        status = self.status(task_id)
        return None if status is None else status["state"]

    def wait_for_state(self, task_id: str, *states: str) -> dict[str, Any]:
        """Poll until a task is in one of these states; return its status."""
        found: list[dict[str, Any] | None] = []

        def look() -> bool:
            self._check_workers()
            found.append(self.status(task_id))
            return found[-1] is not None and found[-1]["state"] in states

        wait_until(look, lambda: f"never {states}: {found[-1]}\n{self.logs()}")
        assert found[-1] is not None
        return found[-1]

    def said(self, beginning: str) -> list[str]:
        """Return what was said that begins so."""
        return [what for what in self.server.said if what.startswith(beginning)]

    def wait_for(self, beginning: str, times: int = 1) -> list[str]:
        """Wait until something that begins so was said so often."""

        def look() -> bool:
            self._check_workers()
            return len(self.said(beginning)) >= times

        wait_until(
            look,
            lambda: f"never said: {beginning}, only {self.server.said}\n{self.logs()}",
        )
        return self.said(beginning)

    def _check_workers(self) -> None:
        """Fail at once where a worker has ended by itself."""
        for worker in self._workers:
            assert worker.process.poll() is None, worker.log()


__all__ = ["ENGINES", "GUARD", "Engine", "Process", "Redis", "RemoteDisconnected", "Shop"]
