"""Stores that several workers share, each a server of the tests' own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from shutil import chown, which
from tempfile import TemporaryDirectory

import psycopg
import pytest

from tests.engines.processes import Process, Redis
from tests.servers.server import reserve_port


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """Run a redis-server."""
    if which("redis-server") is None:
        pytest.skip("no redis-server is installed here")
    with Redis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a PostgreSQL; the address of its database."""
    if which("pg_ctl") is None or which("postgres") is None:
        pytest.skip("no PostgreSQL is installed here")
    with TemporaryDirectory() as folder, _serve_postgres(folder, tmp_path_factory) as address:
        yield address


@contextmanager
def _serve_postgres(folder: str, folders: pytest.TempPathFactory) -> Generator[str]:
    data, command = f"{folder}/data", list[str]()
    if os.getuid() == 0:  # it refuses to be the superuser's
        chown(folder, "postgres")
        command = ["setpriv", "--reuid", "postgres", "--clear-groups"]
    options = "--auth trust --username postgres --no-sync"
    subprocess.run(
        [*command, "pg_ctl", "initdb", "--silent", "--pgdata", data, "--options", options],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    reserved = reserve_port()
    port = reserved.getsockname()[1]
    where = ["-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", folder]
    log = folders.mktemp("postgres") / "log"
    with Process([*command, "postgres", *where, "-F"], log, reserved=[reserved]) as process:
        process.wait_for_log("ready to accept connections")
        address = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        psycopg.connect(address).close()
        yield address
        process.send_signal(signal.SIGINT)  # so that it leaves no memory behind
        process.process.wait(60)
