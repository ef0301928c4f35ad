"""Tasks and what the application opens and closes: a pool of connections, a session a request."""

import signal

import pytest

from tests.servers.server import Server, Starter

ORDERS = ["session-first", "tasks-first", "dependency-first", "dependency-last"]


@pytest.fixture(scope="module", autouse=True)
def _asyncio_only(kind: str) -> None:
    if kind == "hypercorn-trio":
        pytest.skip("SQLAlchemy's asyncio part does not run on trio")


@pytest.mark.parametrize("order", [*ORDERS, "session-takes-tasks"])
def test_session_of_the_request(resources: Server, order: str) -> None:
    """An after-response task sees what the request's own session committed at its exit (1.3)."""
    resources.forget()
    assert resources.get(f"/request/{order}")[0] == 200
    resources.wait_for("committed", "after_response sees the row")
    assert resources.said.index("committed") < resources.said.index("after_response begins")


@pytest.mark.parametrize("order", ORDERS)
def test_session_of_the_function(resources: Server, order: str) -> None:
    """Tasks of both later phases see what a session of function scope committed (1.2, 1.3)."""
    resources.forget()
    assert resources.get(f"/function/{order}")[0] == 200
    resources.wait_for("committed", "after_route sees the row", "after_response sees the row")
    assert resources.said.index("committed") < resources.said.index("after_route begins")


def test_commit_that_fails_after_the_response(resources: Server) -> None:
    """A request whose session fails to commit runs no after-response task, and warns (1.6)."""
    resources.forget()
    resources.get("/request/commit-fails")
    resources.wait_for("commit fails", "WARNING look", "after_route sees nothing")
    assert "after_response sees nothing" not in resources.said
    assert "phase=after_response) skipped: its request failed" in resources.log()


def test_commit_that_fails_before_the_response(resources: Server) -> None:
    """A request whose session fails to commit before the response runs no later task (1.6)."""
    resources.forget()
    assert resources.get("/function/commit-fails")[0] == 500
    resources.wait_for("commit fails", "INFO look")
    assert resources.get("/function/tasks-first")[0] == 200
    resources.wait_for("after_response sees the row")
    assert resources.said.count("INFO look") == 2
    assert not [said for said in resources.said if said.endswith("sees nothing")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_pool_outlives_tasks(start: Starter, number: int) -> None:
    """Tasks never meet a closed pool, not even while a shutdown waits for them (5.1)."""
    tasks = ["immediate", "after_route", "after_response"]
    with start("resources") as server:
        assert server.get("/at-work")[0] == 200
        server.wait_for("unshielded begins", *(f"{name} begins" for name in tasks))
        server.send_signal(number)
        server.wait_for("unshielded cleaned up")
        assert "pool closed" not in server.said
        server.open("finish")
        server.wait()
        server.wait_for(*(f"{name} finished" for name in tasks))
        assert server.said[-1] == "pool closed"
        assert not [said for said in server.said if said.startswith("ERROR")]
