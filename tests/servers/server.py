"""A real server in a process of its own, for tests that look at it from outside."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from select import select
from threading import Condition, Thread
from typing import ClassVar, Final, Self

from tests.forked import ForkedProcess

GUARD: Final = 60.0
"""Seconds after which a test gives up. Nothing sleeps for a number of seconds."""

ROOT: Final = Path(__file__).parents[2]

COMMANDS: Final[dict[str, Sequence[str]]] = {
    "uvicorn": ("uvicorn", "--host", "127.0.0.1", "--port", "{port}"),
    "hypercorn-asyncio": ("hypercorn", "-k", "asyncio", "-b", "127.0.0.1:{port}"),
    "hypercorn-trio": ("hypercorn", "-k", "trio", "-b", "127.0.0.1:{port}"),
    "granian": ("granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}"),
}


def reserve_port() -> socket.socket:
    """Take a port of 127.0.0.1, which nobody else is given until this is closed.

    It is bound and does not listen, so a server that reuses addresses may listen there.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved


class Server:
    """A server process with an application, what the application says, and the log of both.

    Used as a context manager, which leaves no process behind.

    Attributes:
        forks: Whether a server is forked from a process that has imported the frameworks; otherwise
            it is started as users start it.

    Args:
        kind: One of `COMMANDS`.
        app: The application, as ``module:name``.
        log: Where the process writes.
        arguments: More for the command line.
        environment: More for the environment.
        guard: Seconds after which waiting for the application fails.
    """

    forks: ClassVar[bool] = True

    def __init__(  # noqa: PLR0913, PLR0917 - as above
        self,
        kind: str,
        app: str,
        log: Path,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        guard: float = GUARD,
    ) -> None:
        self.kind: Final = kind
        self.said: list[str] = []
        self._guard = guard
        self._changed = Condition()
        # How many processes of the server hold a wire; none does any more once all have ended.
        self._speakers = 0
        self._spoken = False
        self._wires: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._reserved = reserve_port()
        self.port: Final[int] = self._reserved.getsockname()[1]
        self._log = log
        self._read_from = 0
        Thread(target=self._listen, daemon=True).start()
        command = [*(part.format(port=self.port) for part in COMMANDS[kind]), *arguments, app]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self.wire: Final = "{}:{}".format(*self._listener.getsockname())
        variables = {**os.environ, **(environment or {}), "PYTHONPATH": path}
        self.process = self._start(command, {**variables, "TESTS_WIRE": self.wire})

    def _start(
        self, command: Sequence[str], environment: Mapping[str, str]
    ) -> ForkedProcess | subprocess.Popen[bytes]:
        if self.forks and self.kind != "granian":  # which starts processes of its own anyway
            return ForkedProcess(command, ROOT, environment, self._log)
        with self._log.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        try:
            self._wait_until_it_listens()
            self.wait_for("hello")  # some servers listen before they import the application
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, error: object = None, *_: object) -> None:
        try:
            if self.process.poll() is None:
                if error is None:
                    self.stop()
                else:  # the test has failed already
                    self.kill()
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        finally:
            # Who waits for a wire does not hear of a close, and would take the next server's: its
            # number is given again, and a process that was stopped asks anew by that.
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            for closes in (self._reserved, self._listener, *self._wires):
                closes.close()

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + GUARD
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), GUARD).close()
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, f"it does not listen\n{self.log()}"
            else:
                return
            try:
                self.process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(f"it has ended\n{self.log()}")

    def _listen(self) -> None:
        try:
            while True:
                wire, _ = self._listener.accept()
                wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._wires.append(wire)
                with self._changed:
                    self._speakers += 1
                Thread(target=self._read, args=(wire,), daemon=True).start()
        except OSError:
            pass  # closed

    def _read(self, wire: socket.socket) -> None:
        try:
            with wire.makefile() as lines:
                for line in lines:
                    with self._changed:
                        self._spoken = True
                        self.said.append(line.strip())
                        self._changed.notify_all()
        except OSError:
            pass  # closed
        finally:
            with self._changed:
                self._speakers -= 1
                self._changed.notify_all()

    def wait_for(self, *whats: str) -> None:
        """Wait until the application has said all this, in whatever order.

        Raises:
            AssertionError: It has not in time; or it never will, as it has ended.
        """

        def settled() -> bool:
            return set(whats) <= set(self.said) or (self._spoken and not self._speakers)

        with self._changed:
            self._changed.wait_for(settled, self._guard)
            missing = [what for what in whats if what not in self.said]
        if missing:
            raise AssertionError(f"never: {missing}, only {self.said}\n{self.log()}")

    def wait_until(self, settled: Callable[[set[str]], bool]) -> None:
        """Wait until what the application has said settles a question."""
        with self._changed:
            in_time = self._changed.wait_for(lambda: settled(set(self.said)), self._guard)
        assert in_time, f"never settled: {self.said}\n{self.log()}"

    def wait_for_more(self) -> None:
        """Wait until the application says anything more."""
        with self._changed:
            known = len(self.said)
            more = self._changed.wait_for(lambda: len(self.said) > known, self._guard)
        assert more, f"nothing more than {self.said}\n{self.log()}"

    def wait_for_log(self, text: str) -> None:
        """Wait until the server itself has logged this."""
        deadline = time.monotonic() + self._guard
        while text not in self.log():
            assert time.monotonic() < deadline, f"never logged: {text}\n{self.log()}"
            try:
                self.process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
            assert text in self.log(), f"ended without logging: {text}\n{self.log()}"

    def forget(self) -> None:
        """Forget what was said and logged, and close all gates: the next test may begin."""
        self.open("forget")
        self.wait_for("forgotten")
        self.said.clear()
        self._read_from = len(self._log.read_bytes())

    def open(self, gate: str) -> None:
        """Open a gate of the application, unless that has ended."""
        for wire in self._wires:
            with suppress(OSError):
                wire.sendall(gate.encode() + b"\n")

    def connect(self) -> HTTPConnection:
        """Return a connection, which is opened with the first request."""
        return HTTPConnection("127.0.0.1", self.port, timeout=GUARD)

    def get(self, path: str) -> tuple[int, bytes]:
        """Return the status and the body of a response."""
        connection = self.connect()
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def send_signal(self, number: int) -> None:
        """Send a signal to the server's main process."""
        self.process.send_signal(number)

    def wait(self) -> None:
        """Wait until the process has ended by itself, and all that it said has arrived."""
        self.process.wait(self._guard)
        with self._changed:
            assert self._changed.wait_for(lambda: not self._speakers, self._guard)

    def kill(self) -> None:
        """End it and its workers at once."""
        os.killpg(self.process.pid, signal.SIGKILL)  # the session is ours
        self.process.wait(GUARD)

    def stop(self) -> None:
        """Stop it, and wait until it has ended."""
        self.send_signal(signal.SIGTERM)
        self.wait()

    def log(self) -> str:
        """Return what the process has written so far, or since `forget`."""
        return self._log.read_bytes()[self._read_from :].decode(errors="replace")


class Starter:
    """Starts servers of one kind, with the applications of `apps/`.

    Args:
        kind: One of `COMMANDS`.
        folder: Where the logs go.
        naive: Whether the applications get `apps/naive.py` in place of fastapi-tasks.
        guard: As that of `Server`.
    """

    def __init__(
        self, kind: str, folder: Path, *, naive: bool = False, guard: float = GUARD
    ) -> None:
        self.kind: Final = kind
        self._folder = folder
        self._package = "tests.servers.apps.naive" if naive else "fastapi_tasks"
        self._guard = guard
        self._count = 0

    def __call__(
        self,
        app: str,
        arguments: Sequence[str] = (),
        settings: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Server:
        """Start a server with ``apps/<app>.py``; ``settings`` are those of `add_tasks`."""
        self._count += 1
        variables = {
            **(environment or {}),
            "TESTS_PACKAGE": self._package,
            "TESTS_SETTINGS": json.dumps(settings or {}),
            "TESTS_FOLDER": str(self._folder),
        }
        log = self._folder / f"log {self._count}"
        target = f"tests.servers.apps.{app}:app"
        return Server(self.kind, target, log, arguments, variables, self._guard)


def received_nothing(connection: HTTPConnection) -> bool:
    """Return whether the client has not received a single byte."""
    return not select([connection.sock], [], [], 0)[0]
