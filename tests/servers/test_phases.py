"""The phases on the wire.

Where an async task holds the event loop in its first step, the server can send nothing more: what
the client has received by then was sent before the task began.
"""

from contextlib import closing

import pytest
from websockets.sync.client import connect

from tests.servers.server import Server, received_nothing

ROUTES = ["/async/{phase}/hold", "/sync/{phase}/hold", "/bare/{phase}"]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("phase", ["immediate", "after_route"])
def test_first_step_comes_before_the_first_byte(phases: Server, phase: str, route: str) -> None:
    """A task of the first two phases takes its first step before anything is sent (1.1, 1.2)."""
    with closing(phases.connect()) as client:
        client.request("GET", route.format(phase=phase))
        phases.wait_for("task begins")
        assert received_nothing(client)
        phases.open("task")
        assert len(client.getresponse().read()) > 10_000
    phases.wait_for("task ends", "over")


@pytest.mark.parametrize("route", ROUTES)
def test_after_response_begins_after_the_last_byte(phases: Server, route: str) -> None:
    """The client gets the whole body while an after-response task's first step lasts (1.3)."""
    with closing(phases.connect()) as client:
        client.request("GET", route.format(phase="after_response"))
        phases.wait_for("task begins")
        assert len(client.getresponse().read()) > 10_000
        assert "task ends" not in phases.said
        phases.open("task")
    phases.wait_for("task ends", "over")


@pytest.mark.parametrize("kind_of_route", ["async", "sync"])
@pytest.mark.parametrize("func", ["work", "hold_thread"])
@pytest.mark.parametrize("phase", ["immediate", "after_route", "after_response"])
def test_response_waits_for_no_task(
    phases: Server, kind_of_route: str, phase: str, func: str
) -> None:
    """The response is complete while a task still runs, async or sync (1.1, 1.2, 1.3)."""
    assert phases.get(f"/{kind_of_route}/{phase}/{func}")[0] == 200
    phases.wait_for("task begins", "committed")
    assert "task ends" not in phases.said
    if phase != "immediate":
        assert phases.said.index("route returns") < phases.said.index("task begins")
    if phase == "after_response":
        assert phases.said.index("committed") < phases.said.index("task begins")
    phases.open("task")
    phases.wait_for("task ends", "over")


@pytest.mark.parametrize(("how", "status"), [("http", 418), ("crash", 500)])
def test_failed_request_skips_the_later_phases(phases: Server, how: str, status: int) -> None:
    """After a failed request only `run_on="failure"` runs; the log tells of the others (1.6)."""
    assert phases.get(f"/fails/{how}")[0] == status
    phases.wait_for("states skipped skipped", "over")
    assert "task begins" not in phases.said
    assert phases.log().count("skipped: its request failed") == 2


def test_connection_is_kept_alive_beside_tasks(phases: Server) -> None:
    """A connection serves its next request while the first one's after-response task runs (1.3)."""
    with closing(phases.connect()) as client:
        client.request("GET", "/async/after_response/work")
        client.getresponse().read()
        first = client.sock
        phases.wait_for("task begins", "over")
        client.request("GET", "/openapi.json")
        assert client.getresponse().status == 200
        assert client.sock is first
    assert "task ends" not in phases.said
    phases.open("task")
    phases.wait_for("task ends")


def test_client_that_goes_away_cancels_nothing(phases: Server) -> None:
    """A client that leaves in mid-stream cancels no task and keeps no phase from coming (1.7)."""
    with closing(phases.connect()) as client:
        client.request("GET", "/stream")
        response = client.getresponse()
        assert response.read(5) == b"first"
        assert "after_response begins" not in phases.said
        response.close()
    phases.wait_for("after_response begins", "over")
    phases.open("task")
    phases.wait_for("task ends")


def test_websocket_has_phases(phases: Server) -> None:
    """A WebSocket's later phases begin when its route returns, and in their order (1.4, 1.8)."""
    with connect(f"ws://127.0.0.1:{phases.port}/ws") as client:
        client.send("hello")
        assert client.recv() == "HELLO"
        phases.wait_for("immediate begins")
        assert "after_route begins" not in phases.said
    phases.wait_for("after_response begins", "over")
    phases.said.remove("over")
    assert phases.said == [
        "immediate begins",
        "route returns",
        "after_route begins",
        "after_response begins",
    ]
