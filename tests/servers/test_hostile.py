"""Tasks and error handlers that do their worst, under real servers.

After each: the tasks beside it finish, the next request works, the log has one record, no secret.
"""

from urllib.parse import quote

import pytest

from tests.servers.server import Server

PHASES = ("immediate", "after_route", "after_response")

# What the task ends as, and what is logged of it; otherwise it has failed, with one error.
OTHERWISE: dict[str, tuple[str, list[str]]] = {
    "cancels itself": ("cancelled", []),
    "cancels itself natively": ("cancelled", ["WARNING hostile"]),
    "cancels a scope of its own": ("succeeded", []),
}
FAILED = ("failed", ["ERROR hostile"])

TASKS = [
    "Exception",
    "Exception at once",
    "Exception in a thread",
    "SystemExit",
    "SystemExit at once",
    "SystemExit in a thread",
    "KeyboardInterrupt in a thread",
    "GeneratorExit",
    "GeneratorExit in a thread",
    "StopIteration in a thread",
    "BaseException",
    "BaseException in a thread",
    "group of exceptions",
    "group of worse",
    "CancelledError",
    "CancelledError in a thread",
    "look-alike of trio.Cancelled",
    "future that was cancelled",
    "task that was cancelled",
    "task group",
    "recursion",
    "recursion in a thread",
    "callable with a hostile repr",
    "partial with a secret",
    "method of what has a secret",
    *OTHERWISE,
]
UNNAMED = ["callable with a hostile repr", "partial with a secret", "method of what has a secret"]
HANDLERS = [
    "Exception in a thread",
    "Exception",
    "SystemExit",
    "BaseException in a thread",
    "CancelledError",
    "hostile repr",
]


def nobody_else_notices(server: Server) -> None:
    server.wait_for("async begins", "sync begins")
    assert "async ends" not in server.said
    server.open("bystanders")
    server.wait_for("async ends", "sync ends")
    assert server.get("/next")[0] == 200
    phases = ("immediate", "thread", "after_route", "after_response")
    server.wait_for(*(f"next {phase}" for phase in phases))
    assert "hunter2" not in server.log()


def records(server: Server) -> list[str]:
    return [said for said in server.said if said.startswith(("ERROR", "WARNING", "INFO"))]


@pytest.mark.parametrize("shield", ["", "?shield=1"], ids=["", "shielded"])
@pytest.mark.parametrize("how", TASKS)
def test_hostile_task(hostile: Server, how: str, shield: str) -> None:
    """A task that ends badly, in each phase: nobody else notices, one record (4.1, 4.2)."""
    ending, logged = OTHERWISE.get(how, FAILED)
    if how == "cancels itself natively" and hostile.kind == "hypercorn-trio":
        ending, logged = FAILED
    for phase in PHASES:
        hostile.forget()
        assert hostile.get(f"/task/{quote(how)}/{phase}{shield}")[0] == 200
        hostile.wait_for(f"hostile {ending}", *logged)
        nobody_else_notices(hostile)
        assert records(hostile) == logged


@pytest.mark.parametrize("how", UNNAMED)
def test_hostile_task_without_a_name(hostile: Server, how: str) -> None:
    """A task whose function hides its name, or holds a secret: the log tells none (4.1, 4.2)."""
    for phase in PHASES:
        hostile.forget()
        assert hostile.get(f"/unnamed/{quote(how)}/{phase}")[0] == 200
        hostile.wait_for("hostile failed")
        nobody_else_notices(hostile)
        (record,) = records(hostile)
        assert record.startswith("ERROR ")


@pytest.mark.parametrize("shield", ["", "?shield=1"], ids=["", "shielded"])
@pytest.mark.parametrize("how", HANDLERS)
def test_hostile_handler(hostile: Server, how: str, shield: str) -> None:
    """An error handler that fails, in each phase: nobody else notices, a record more (4.3)."""
    for phase in PHASES:
        hostile.forget()
        assert hostile.get(f"/handler/{quote(how)}/{phase}{shield}")[0] == 200
        hostile.wait_for("hostile failed")
        nobody_else_notices(hostile)
        assert records(hostile) == ["ERROR hostile"] * 2
        assert "Error handler " in hostile.log()


def test_task_that_cancels_its_host(hostile: Server) -> None:
    """A task that cancels the request that scheduled it harms that request alone (4.1)."""
    hostile.forget()
    connection = hostile.connect()
    connection.request("GET", "/host")
    hostile.wait_for("hostile succeeded")
    nobody_else_notices(hostile)
    connection.close()
