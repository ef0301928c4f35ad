"""What becomes of tasks when a server is told to stop."""

import signal

import pytest

from tests.servers.server import Server

SHIELDED = {"immediate", "sync", "waiting", "after_route", "after_response"}
BEGUN = SHIELDED - {"waiting"}


def begin(server: Server) -> None:
    assert server.get("/")[0] == 200
    server.wait_for("unshielded begins", *(f"{name} begins" for name in BEGUN))
    assert "waiting begins" not in server.said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_shielded_tasks_complete(stopping: Server, number: int) -> None:
    """Shielded tasks complete at a shutdown, begun or not; others are cancelled (5.1, 5.2, 5.4)."""
    begin(stopping)

    stopping.send_signal(number)
    stopping.wait_for("unshielded is cancelled")
    assert "teardown" not in stopping.said
    stopping.open("clean-up")
    stopping.open("finish")
    stopping.wait()

    ended = {f"{name} ends" for name in SHIELDED | {"unshielded", "child of after_route"}}
    stopping.wait_for("refused")
    assert ended <= set(stopping.said)
    assert stopping.said[-2:] == ["teardown", "refused"]


def test_shutdown_reports_what_it_cancelled(stopping: Server) -> None:
    """The log names once, by name, id, phase and age, what did not finish (5.3)."""
    begin(stopping)
    for gate in ("clean-up", "finish"):
        stopping.open(gate)
    stopping.wait_for(*(f"{name} ends" for name in SHIELDED))

    stopping.stop()

    lines = [line for line in stopping.log().splitlines() if "Shutdown left unfinished" in line]
    assert len(lines) == 1
    assert "WARNING tasks_core: Shutdown left unfinished: unshielded (id=" in lines[0]
    assert "phase=immediate, age=" in lines[0]
    assert "shielded (" not in lines[0].replace("unshielded (", "")
