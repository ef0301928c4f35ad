"""A stream of server-sent events that is open when a server is told to stop."""

from __future__ import annotations

import signal
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPResponse, IncompleteRead

import pytest

from tests.servers.server import Starter

WAITING = {
    "uvicorn": "Waiting for connections to close",
    "granian": "Shutting down granian",
}
"""What servers say that wait for a stream without limit, unless told otherwise."""

GRACEFUL = {
    "uvicorn": ["--timeout-graceful-shutdown", "1"],
    "hypercorn-asyncio": ["--graceful-timeout", "1"],
    "hypercorn-trio": ["--graceful-timeout", "1"],
}


def watch(connection: HTTPConnection) -> HTTPResponse:
    """Follow a task that goes on."""
    connection.request("GET", "/events")
    response = connection.getresponse()
    assert response.readline().startswith(b'data: {"done": 1')
    return response


def test_a_stream_holds_up_a_stop(start: Starter) -> None:
    """A server waits for a stream before it tells the application to stop: no task is cut."""
    if start.kind not in WAITING:
        pytest.skip("hypercorn gives requests three seconds by itself")
    with start("streams") as server, closing(server.connect()) as connection:
        response = watch(connection)
        server.send_signal(signal.SIGTERM)
        server.wait_for_log(WAITING[start.kind])
        server.open("convert")
        assert b"event: end" in response.read()
        server.wait()
        assert server.said[-2:] == ["converted", "teardown"]


def test_a_server_that_cuts_streams(start: Starter) -> None:
    """A server with a limit cuts the stream; then the application stops, and cancels the task."""
    if start.kind not in GRACEFUL:
        pytest.skip("granian has no such limit")
    with start("streams", GRACEFUL[start.kind]) as server, closing(server.connect()) as connection:
        response = watch(connection)
        server.send_signal(signal.SIGTERM)
        server.wait_for("cancelled")
        server.open("convert")  # the task's thread is left, and a process waits for it
        server.wait()
        with suppress(IncompleteRead, ConnectionError):  # as it was cut
            assert b"event: end" not in response.read()
        assert server.said[-2:] == ["cancelled", "teardown"]
