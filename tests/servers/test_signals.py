"""What becomes of each task when a server is told to stop.

Nothing is unaccounted for: each finished, was cancelled and cleaned up, or is named in the log.
"""

import re
import signal
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing

import pytest

from tests.servers.server import Server, Starter

Record = Callable[[str, object], None]

FINISHED, CLEANED, REPORTED = "finished", "cleaned up", "reported"

MIXED = ["unshielded", "plain", "shielded", "shielded thread", "failing", "failing badly"]
BEGIN = [
    *MIXED,
    "shielded after route",
    "thread",
    "shielded after response",
    "after response",
    "waiting",
    "shielded waiting",
]
BEGUN = [name for name in BEGIN if "waiting" not in name]
HELD = [
    "unshielded",
    "shielded",
    "shielded after route",
    "after response",
    "shielded after response",
]

GRACEFUL = {
    "uvicorn": ["--timeout-graceful-shutdown", "1"],
    "hypercorn-asyncio": ["--graceful-timeout", "1"],
    "hypercorn-trio": ["--graceful-timeout", "1"],
}

STAYS_AFTER_INTERRUPT = {
    "hypercorn-trio": "hypercorn takes it for a lifespan that is not supported, and goes on",
    "granian": "granian's worker ends where it is, its event loop turns no more",
}


def begins(server: Server, path: str, names: list[str]) -> None:
    assert server.get(path)[0] == 200
    server.wait_for(*(f"{name} begins" for name in names))


def outcomes(server: Server, names: list[str]) -> dict[str, str]:
    """Return what has become of each task, once the process has ended."""
    found: dict[str, str] = {}
    log = server.log()
    for name in names:
        ends = [end for end in (FINISHED, CLEANED) if f"{name} {end}" in server.said]
        assert len(ends) <= 1, f"{name} ended twice: {ends}"
        assert server.said.count(f"{name} begins") <= 1
        if ends:
            found[name] = ends[0]
        elif re.search(rf"(left unfinished: |left .*, |Task ){name} \(id=", log):
            found[name] = REPORTED
    unaccounted = set(names) - set(found)
    assert not unaccounted, f"unaccounted for: {unaccounted}\n{server.said}\n{log}"
    return found


def expected(names: list[str], *, but: dict[str, str]) -> dict[str, str]:
    """Return what becomes of tasks: all finish, but for those, and the one that cannot."""
    badly = dict.fromkeys(set(names) & {"failing badly"}, REPORTED)
    return dict.fromkeys(names, FINISHED) | badly | but


def summary(found: dict[str, str]) -> str:
    """Return a cell of the table."""
    return ", ".join(f"{count} {what}" for what, count in sorted(Counter(found.values()).items()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_signal(start: Starter, record_property: Record, number: int) -> None:
    """One signal: the shielded finish, their handlers too; others clean up or are named (5.2)."""
    with start("signals", settings={"thread_limit": 2}) as server:
        begins(server, "/begin", BEGUN)
        server.send_signal(number)
        server.wait_for("plain cleaned up")
        server.open("clean-up")
        server.wait_for("unshielded cleaned up")
        server.open("finish")
        server.wait()
        found = outcomes(server, BEGIN)
    record_property("outcome", summary(found))
    cleaned = dict.fromkeys(["unshielded", "plain", "after response"], CLEANED)
    # A thread cannot be cancelled: it ends when it likes, and that was before the shutdown's end.
    assert found == expected(BEGIN, but={**cleaned, "waiting": REPORTED})
    assert server.said[-1] == "teardown"
    assert "plain awaited" not in server.said
    assert server.log().count("Shutdown left unfinished") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_second_signal_while_tasks_finish(
    start: Starter, record_property: Record, number: int
) -> None:
    """A second signal while the shutdown waits for shielded tasks changes nothing (5.2)."""
    with start("signals", settings={"thread_limit": 2}) as server:
        begins(server, "/begin", BEGUN)
        server.send_signal(number)
        server.wait_for("plain cleaned up")
        server.send_signal(number)
        server.open("clean-up")
        server.open("finish")
        server.wait()
        found = outcomes(server, BEGIN)
    record_property("outcome", summary(found))
    cleaned = dict.fromkeys(["unshielded", "plain", "after response"], CLEANED)
    assert found == expected(BEGIN, but={**cleaned, "waiting": REPORTED})


def test_second_signal_while_a_request_is_served(start: Starter, record_property: Record) -> None:
    """A second signal may end a server at once: no task is lost even so (5.3)."""
    with start("signals") as server, closing(server.connect()) as connection:
        connection.request("GET", "/hold")
        server.wait_for("holds", "unshielded begins", "shielded begins")
        server.open("clean-up")
        server.send_signal(signal.SIGINT)
        if start.kind == "uvicorn":  # which then lets go of all, without the lifespan's shutdown
            server.wait_for_log("CTRL+C to force quit")
            server.send_signal(signal.SIGINT)
            if sys.version_info >= (3, 12):  # where asyncio's own server waits for the connection
                server.open("route")
            server.wait_for("unshielded cleaned up", "shielded cleaned up")
        else:
            server.send_signal(signal.SIGINT)
        for gate in ("route", "finish"):
            server.open(gate)
        server.wait()
        found = outcomes(server, HELD)
    record_property("outcome", summary(found))
    if start.kind == "uvicorn":
        assert "WARNING shielded" in server.said  # cancelled by the event loop, not by its runner


def test_signal_while_a_response_streams(start: Starter, record_property: Record) -> None:
    """A response is completed, and its last phase comes, before tasks are cancelled (1.3, 5.2)."""
    with start("signals") as server, closing(server.connect()) as connection:
        connection.request("GET", "/stream")
        response = connection.getresponse()
        assert response.read(5) == b"first"
        server.wait_for(*(f"{name} begins" for name in HELD[:3]))
        server.send_signal(signal.SIGTERM)
        server.open("stream")
        assert response.read() == b"last"
        server.open("clean-up")
        server.wait_for("unshielded cleaned up", "shielded after response begins")
        server.open("finish")
        server.wait()
        found = outcomes(server, HELD)
    record_property("outcome", summary(found))
    cleaned = dict.fromkeys(["unshielded", "after response"], CLEANED)
    assert found == expected(HELD, but=cleaned)


def test_server_that_cancels_requests(start: Starter, record_property: Record) -> None:
    """The server's own graceful timeout cancels a request: its tasks are told so (1.6, 5.2)."""
    if start.kind not in GRACEFUL:
        pytest.skip("granian has no such timeout: it kills the process, or waits")
    arguments = GRACEFUL[start.kind]
    with start("signals", arguments) as server, closing(server.connect()) as connection:
        connection.request("GET", "/hold")
        server.wait_for("holds", "unshielded begins", "shielded begins")
        server.send_signal(signal.SIGTERM)
        server.wait_for("INFO shielded after route", "INFO shielded after response")
        server.open("clean-up")
        server.wait_for("unshielded cleaned up")
        for gate in ("finish", "route"):  # the route's thread is left, and a process waits for it
            server.open(gate)
        server.wait()
        found = outcomes(server, HELD)
    record_property("outcome", summary(found))
    assert "route returns" not in server.said
    skipped = dict.fromkeys(HELD[2:], REPORTED)
    assert found == {"unshielded": CLEANED, "shielded": FINISHED, **skipped}


def test_signal_during_start_up(start: Starter, record_property: Record) -> None:
    """A signal while the application starts: tasks that it scheduled are accounted for (5.1)."""
    server = start("signals", environment={"TESTS_START": "slow"})
    try:
        server.wait_for(*(f"{name} begins" for name in MIXED))
        server.send_signal(signal.SIGTERM)
        for gate in ("start", "clean-up"):
            server.open(gate)
        server.wait_for("started", "plain cleaned up", "unshielded cleaned up")
        server.open("finish")
        server.wait()
        found = outcomes(server, MIXED)
    finally:
        server.__exit__()
    record_property("outcome", summary(found))
    assert found == expected(MIXED, but={"unshielded": CLEANED, "plain": CLEANED})


def test_tasks_that_never_end_with_a_bound(start: Starter, record_property: Record) -> None:
    """Past `shutdown_timeout` the shielded are cancelled too, and all are named (5.2, 5.3)."""
    names = ["shielded", "never", "thread", "swallowing"]
    with start("signals", settings={"shutdown_timeout": 0.2}) as server:
        begins(server, "/never", names)
        server.open("clean-up")
        server.send_signal(signal.SIGTERM)
        server.wait_for("never cleaned up", "teardown")
        (report,) = re.findall("Shutdown left unfinished: .*", server.log())
        assert all(f"{name} (id=" in report for name in names)
        assert "thread finished" not in server.said
        assert "swallowing finished" not in server.said
        for gate in ("thread", "swallow", "finish"):  # a process ends when its threads have
            server.open(gate)
        server.wait()
        found = outcomes(server, names)
    record_property("outcome", summary(found))


def test_tasks_that_never_end_without_a_bound(start: Starter, record_property: Record) -> None:
    """Without a bound a shutdown waits for the shielded, and says so again and again (5.2)."""
    names = ["shielded", "never", "thread", "swallowing"]
    with start("signals") as server:
        begins(server, "/never", names)
        server.open("clean-up")
        server.send_signal(signal.SIGTERM)
        said_twice = re.compile("(Shutdown is waiting for never .*\n.*){2}", re.DOTALL)
        while not said_twice.search(server.log()):
            server.wait_for_more()
        assert "teardown" not in server.said
        for gate in ("thread", "swallow", "finish"):
            server.open(gate)
        server.wait()
        found = outcomes(server, names)
    record_property("outcome", summary(found))
    assert found["never"] == FINISHED
    assert server.said[-1] == "teardown"


def test_task_that_raises_keyboard_interrupt(start: Starter, record_property: Record) -> None:
    """A KeyboardInterrupt in an async task stops the server, as Ctrl-C; no task is lost (4.1)."""
    if start.kind in STAYS_AFTER_INTERRUPT:
        pytest.skip(STAYS_AFTER_INTERRUPT[start.kind])
    names = ["unshielded", "shielded"]
    with start("signals") as server:
        begins(server, "/interrupt", names)
        for gate in ("interrupt", "clean-up"):
            server.open(gate)
        server.wait_for("unshielded cleaned up")
        server.open("finish")
        server.wait()
    found = outcomes(server, names)
    record_property("outcome", summary(found))
