"""Contract 7.6 in four processes of real servers, with a store of py-key-value-aio in Redis."""

from __future__ import annotations

import json
import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.engines.processes import Redis, wait_until
from tests.servers.server import GUARD, Server

WORKERS = 4


def serve(redis: str, log: Path, silence: float = 20) -> Server:
    environment = {"REDIS_URL": redis, "TESTS_SILENCE": str(silence)}
    return Server("uvicorn", "tests.workers.apps.following:app", log, (), environment)


@pytest.fixture(scope="module")
def database(redis: Redis) -> str:
    return redis.new()


@pytest.fixture(scope="module")
def workers(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    folder = tmp_path_factory.mktemp("workers")
    servers = [serve(database, folder / f"log {number}") for number in range(WORKERS)]
    with ExitStack() as stack:
        yield [stack.enter_context(server) for server in servers]


@contextmanager
def asking(server: Server, method: str, path: str) -> Generator[Any]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=GUARD)
    try:
        connection.request(method, path)
        yield connection.getresponse()
    finally:
        connection.close()


def ask(server: Server, method: str, path: str) -> Any:
    """Return what a worker answers; `None` if it knows no such task."""
    with asking(server, method, path) as response:
        body = response.read()
        assert response.status in {200, 202, 404}, server.log()
        return json.loads(body)


def start(server: Server, name: str) -> str:
    task_id: str = ask(server, "POST", f"/start/{name}")["task_id"]
    return task_id


def all_say(workers: Sequence[Server], task_id: str, **expected: object) -> None:
    """Wait until each worker says so of a task; that nobody knows it none may ever say."""

    def agree() -> bool:
        found = [ask(worker, "GET", f"/tasks/{task_id}") for worker in workers]
        assert None not in found, found
        return all(expected.items() <= one.items() for one in found)

    wait_until(agree)


def test_7_6_every_poll_is_right(workers: list[Server]) -> None:
    """7.6: From the 202 on each of four workers knows the task, its progress and its end."""
    task_id = start(workers[0], "import")
    all_say(workers, task_id, state="running", progress={"done": 0, "total": 3, "message": None})
    workers[0].open("import 0")
    all_say(workers, task_id, state="running", progress={"done": 1, "total": 3, "message": None})
    for step in (1, 2):
        workers[0].open(f"import {step}")
    all_say(workers, task_id, state="succeeded", result=None, error=None, carrier=None)
    for worker in workers:
        assert ask(worker, "GET", f"/tasks/{'0' * 32}") is None
        assert ask(worker, "DELETE", f"/tasks/{task_id}") is False


def test_7_6_cancelled_by_another_worker(workers: list[Server]) -> None:
    """7.6: Who answers says that it takes effect, and it does."""
    task_id = start(workers[1], "export")
    assert ask(workers[3], "DELETE", f"/tasks/{task_id}") is True
    workers[1].wait_for("export over")
    all_say(workers, task_id, state="cancelled")


def test_7_6_followed_by_another_worker(workers: list[Server]) -> None:
    """7.6: Its progress comes as it is made, and the stream ends with the task."""
    task_id = start(workers[2], "convert")
    seen: list[Any] = []
    with asking(workers[0], "GET", f"/tasks/{task_id}/follow") as response:
        for line in response:
            seen.append(json.loads(line))
            done = (seen[-1]["progress"] or {"done": 0})["done"]
            workers[2].open(f"convert {done}")
    assert [one["progress"]["done"] for one in seen if one["progress"]] == [0, 1, 2, 2]
    assert seen[-1]["state"] == "succeeded"


@pytest.mark.parametrize(
    ("number", "end"),
    [
        (signal.SIGKILL, {"state": "failed", "error_type": "TaskLost"}),
        (signal.SIGTERM, {"state": "cancelled", "error_type": None}),
    ],
    ids=["killed", "stopped"],
)
def test_7_6_a_worker_that_ends(
    workers: list[Server], database: str, tmp_path: Path, number: int, end: dict[str, object]
) -> None:
    """7.6: For all others, tasks of a worker that was killed are lost, of a stopped one over."""
    with serve(database, tmp_path / "log", silence=3) as server:
        task_id = start(server, "doomed")
        all_say(workers, task_id, state="running")
        server.send_signal(number)
        server.wait()
    all_say(workers, task_id, **end)
