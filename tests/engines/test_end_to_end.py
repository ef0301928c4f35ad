"""Contract 8 with real workers, a real web server and a real Redis."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.engines.conftest import Open
from tests.engines.processes import (
    GUARD,
    RABBITMQ,
    Engine,
    RabbitMQ,
    Redis,
    Shop,
    wait_until,
)

Folders: TypeAlias = pytest.TempPathFactory

LIFE = ["pending", "running", "succeeded"]
"""The order in which states are seen."""


@pytest.fixture(scope="module")
def idle(engine: Engine, shared_redis: Redis, tmp_path_factory: Folders) -> Iterator[Shop]:
    """Serve the shop without a worker, for all tests of the module."""
    with Shop(engine, shared_redis.new(), tmp_path_factory.mktemp("idle")) as shop:
        yield shop


@pytest.fixture(scope="module")
def shop(engine: Engine, shared_redis: Redis, tmp_path_factory: Folders) -> Iterator[Shop]:
    """Serve the shop, with a worker, for all tests of the module."""
    with Shop(engine, shared_redis.new(), tmp_path_factory.mktemp("shop")) as shop:
        shop.work()
        yield shop


def test_8_from_202_to_done(shop: Shop) -> None:
    """8: In each phase: an id in the 202, one run in a worker's process, a result by the id."""
    ids = {
        phase: shop.place(number, f"phase={phase}")
        for number, phase in enumerate(("immediate", "after_route", "after_response"))
    }
    for number, task_id in enumerate(ids.values()):
        assert re.fullmatch(rf"{shop.engine.name}-[0-9a-f]{{32}}", task_id)
        status = shop.wait_for_state(task_id, "succeeded")
        assert status == {
            "id": task_id,
            "state": "succeeded",
            "result": f"invoice {number}",
            "error_type": None,
            "error": None,
            "progress": None,
            "carrier": shop.engine.name,
        }
    runs = [shop.wait_for(f"invoice {number} runs in ") for number in range(3)]
    assert [len(run) for run in runs] == [1, 1, 1]
    assert not {int(run[0].split()[-1]) for run in runs} & {shop.server.process.pid}


def test_8_9_a_failure_is_told_by_type_and_text(shop: Shop) -> None:
    """8.9: Of a task that has failed in its worker."""
    status = shop.wait_for_state(shop.place(1, "what=refuse"), "failed")
    assert (status["error_type"], status["error"]) == ("ValueError", "order 1 was refused")
    assert status["result"] is None


def test_8_2_a_refused_request_sends_nothing(idle: Shop) -> None:
    """8.2: 409 leaves nothing in the queue, in either later phase."""
    before = idle.queued()
    assert idle.request("POST", "/orders/1/refused").status == 409
    idle.place(2, "phase=after_route&confirm=true")
    assert idle.queued() == before + 1


@pytest.mark.parametrize("how", ["argument", "arity"])
def test_8_3_wrong_arguments_are_refused_in_the_route(idle: Shop, how: str) -> None:
    """8.3: By a `TypeError` of `schedule`, with nothing sent."""
    before = idle.queued()
    answer = idle.request("POST", f"/wrong/{how}")
    if idle.engine.name == "docket" and how == "argument":  # it pickles functions
        assert answer.status == 202
        wait_until(lambda: idle.queued() == before + 1)
        return
    assert answer.status == 422
    assert ("cannot send" in answer.body["detail"]) == (how == "argument")
    assert idle.queued() == before


def test_8_9_an_id_of_nobody(idle: Shop) -> None:
    """8.9: Nonsense is nobody's; an id in the engine's form is, where the engine can tell."""
    for task_id in ("0" * 32, f"{idle.engine.name}-nonsense", f"other-{'0' * 32}"):
        assert idle.status(task_id) is None
    unknown = idle.state(f"{idle.engine.name}-{'0' * 32}")
    assert unknown == (None if idle.engine.knows_unknown else "pending")


def test_8_8_confirmed_work_is_in_the_queue(idle: Shop) -> None:
    """8.8: When the 202 has come, the engine has the task."""
    before = idle.queued()
    for number, phase in enumerate(("immediate", "after_route"), 1):
        idle.place(number, f"phase={phase}&confirm=true")
        assert idle.queued() == before + number


def test_8_taskiq_on_rabbitmq(
    engine: Engine, open_shop: Open, database: str, tmp_path: Path
) -> None:
    """8: The same shop, with what waits in RabbitMQ, and results in Redis."""
    if engine.name != "taskiq":
        pytest.skip("Taskiq's")
    if not Path(RABBITMQ).exists():
        pytest.skip("no rabbitmq-server is installed here")
    folder = tmp_path / "rabbitmq"
    folder.mkdir()
    with RabbitMQ(folder) as rabbitmq, open_shop(database, TESTS_AMQP=rabbitmq.address) as shop:
        waiting = shop.place(1, "phase=after_route&confirm=true")
        assert shop.state(waiting) == "pending"
        shop.work()
        assert shop.wait_for_state(waiting, "succeeded")["result"] == "invoice 1"
        refused = shop.wait_for_state(shop.place(2, "what=refuse"), "failed")
        assert refused["error"] == "order 2 was refused"
        assert len(shop.said("invoice 1 runs")) == 1


@contextmanager
def connections_to_each(shop: Shop, processes: int) -> Generator[list[HTTPConnection]]:
    """Open a connection to each process of a server."""
    found = dict[int, HTTPConnection]()
    with ExitStack() as opened:

        def look() -> bool:
            connection = HTTPConnection("127.0.0.1", shop.server.port, timeout=GUARD)
            opened.callback(connection.close)
            found[json.loads(ask(connection, "/pid"))] = connection
            return len(found) == processes

        wait_until(look)
        yield list(found.values())


def ask(connection: HTTPConnection, path: str) -> bytes:
    connection.request("GET", path)
    return connection.getresponse().read()


def test_8_9_two_processes_agree(open_shop: Open, database: str) -> None:
    """8.9: Of two uvicorn processes both answer each poll alike, from the 202 to the result."""
    arguments = ("--workers", "2", "--timeout-keep-alive", "60")
    with open_shop(database, *arguments) as shop, connections_to_each(shop, 2) as both:
        task_id = shop.place(1, "what=hold&phase=after_route&confirm=true")
        seen: list[str] = []

        def poll_until(state: str) -> None:
            """Poll both in turn, until both say this; then some more."""
            agreed = 0
            while agreed < 10:
                for connection in both:
                    answer = json.loads(ask(connection, f"/tasks/{task_id}"))
                    seen.append(answer["status"]["state"])
                agreed += seen[-2:] == [state, state]

        poll_until("pending")
        shop.work()
        shop.wait_for("1 holds in ")
        if shop.engine.shows_running:
            poll_until("running")
        shop.server.open("go 1")
        poll_until("succeeded")
    # Whoever is asked, and whenever: no answer falls behind one that was given before.
    assert seen == sorted(seen, key=LIFE.index)


def test_8_1_without_carriers_the_same_program_runs_alone(engine: Engine, tmp_path: Path) -> None:
    """8.1: No worker, no Redis: the same endpoints answer, and the work is done here."""
    with Shop(engine, "redis://127.0.0.1:1/0", tmp_path, TESTS_MODE="in process") as shop:
        task_id = shop.place(1)
        status = shop.wait_for_state(task_id, "succeeded")
        assert (status["result"], status["carrier"]) == ("invoice 1", None)
        assert re.fullmatch("[0-9a-f]{32}", task_id)
        failed = shop.wait_for_state(shop.place(2, "what=refuse"), "failed")
        assert failed["error_type"] == "ValueError"
        assert shop.status("0" * 32) is None
        (run,) = shop.wait_for("invoice 1 runs in ")
        assert int(run.split()[-1]) == shop.server.process.pid


def test_8_each_task_runs_once(shop: Shop) -> None:
    """8: Fifty orders, fifty runs, in the workers' processes."""
    for order in range(2100, 2150):
        shop.place(order)
    runs = Counter(what.split()[1] for what in shop.wait_for("invoice 21", 50))
    assert runs == Counter(str(order) for order in range(2100, 2150))


def test_8_statuses_are_what_fastapi_documents(idle: Shop) -> None:
    """8.9: `TaskStatus` is in the schema that the server publishes, with its states."""
    schema: dict[str, Any] = idle.request("GET", "/openapi.json").body
    assert "handed_over" in schema["components"]["schemas"]["TaskState"]["enum"]
    assert set(schema["components"]["schemas"]["TaskStatus"]["properties"]) == {
        *("id", "state", "result", "error_type", "error", "progress", "carrier")
    }
