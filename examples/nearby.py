"""What programs with an engine need beside them: a redis-server, and a worker."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from shutil import which
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]


def _choose() -> str:
    """Return the address of a Redis that `start` will start, if it can."""
    if which("redis-server") is None:
        return ""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        return f"redis://127.0.0.1:{free.getsockname()[1]}/0"


_given: Final = os.environ.get("REDIS_URL")
REDIS: Final = _choose() if _given is None else _given
"""Where Redis is: REDIS_URL, or else one of this program's own. Empty: there is none."""


@contextmanager
def start(*worker: str) -> Generator[None]:
    """Start a worker, ``python -m`` this, and a redis-server unless there is one; end both."""
    with ExitStack() as started:
        if not REDIS:
            print("There is no redis-server here: tasks run in this process.", flush=True)
        else:
            if _given is None:
                port = int(REDIS.rpartition(":")[2].partition("/")[0])
                server = ("redis-server", "--bind", "127.0.0.1", "--port", str(port))
                started.enter_context(_process(*server, "--save", "", "--loglevel", "warning"))
                _wait_for(port)
            started.enter_context(_process(sys.executable, "-m", *worker))
        yield


def _wait_for(port: int) -> None:
    """Return once a server of this machine listens."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.05)
    msg = "redis-server does not answer"
    raise TimeoutError(msg)


@contextmanager
def _process(*command: str) -> Generator[None]:
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"REDIS_URL": REDIS, "PYTHONPATH": paths}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)  # the session is its own
            process.wait()
