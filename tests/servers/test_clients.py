"""Clients that leave, dawdle or hurry: a client neither cancels a task nor keeps a phase away."""

import socket
import struct
from collections.abc import Callable
from contextlib import closing
from typing import Any

import h2.connection
import h2.events
import pytest
from websockets.sync.client import connect

from tests.servers.server import GUARD, Server

PHASES = ("immediate", "thread", "after_route", "after_response")


def dial(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), GUARD)


def head(path: str, method: str = "GET", *more: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: test", *more, "", ""]).encode()


def read_until(wire: socket.socket, end: bytes, *, times: int = 1) -> bytes:
    received = b""
    while received.count(end) < times:
        part = wire.recv(65_536)
        assert part, f"closed after {received[:1000]!r}"
        received += part
    return received


def leave(wire: socket.socket) -> None:
    wire.close()


def reset(wire: socket.socket) -> None:
    """Leave without a goodbye."""
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.close()


LEAVE = pytest.mark.parametrize("go", [leave, reset])


def all_tasks_end(server: Server, name: str = "") -> None:
    """Check that all phases come and that nothing cancels their tasks, and go on."""
    server.wait_for(*(f"{name}{phase} begins" for phase in PHASES))
    assert not [said for said in server.said if said.endswith(" ends") and said.startswith(PHASES)]
    server.open("task")
    server.wait_for(*(f"{name}{phase} ends" for phase in PHASES))
    next_request_works(server)


def next_request_works(server: Server) -> None:
    server.forget()
    assert server.get("/plain")[0] == 200
    server.wait_for(*(f"{phase} begins" for phase in PHASES))
    server.open("task")
    server.wait_for(*(f"{phase} ends" for phase in PHASES))


@LEAVE
@pytest.mark.parametrize("sent", [b"", b"GET /pla", head("/plain")[:-2]], ids=["0", "8", "all-2"])
def test_client_that_never_asks(
    clients: Server, sent: bytes, go: Callable[[socket.socket], None]
) -> None:
    """A connection that ends before its request does is none, and harms no other."""
    clients.forget()
    wire = dial(clients)
    wire.sendall(sent)
    go(wire)
    next_request_works(clients)


@LEAVE
@pytest.mark.parametrize("path", ["/slow", "/thread"])
def test_client_that_leaves_before_the_response(
    clients: Server, path: str, go: Callable[[socket.socket], None]
) -> None:
    """A client that leaves while the route works keeps no phase from coming (1.7)."""
    clients.forget()
    wire = dial(clients)
    wire.sendall(head(path))
    clients.wait_for("route begins", "immediate begins", "thread begins")
    go(wire)
    clients.open("route")
    clients.wait_for("route ends")
    all_tasks_end(clients)


@LEAVE
def test_client_that_leaves_within_the_response(
    clients: Server, go: Callable[[socket.socket], None]
) -> None:
    """A client that leaves while the body streams keeps no phase from coming (1.7)."""
    clients.forget()
    wire = dial(clients)
    wire.sendall(head("/stream"))
    read_until(wire, b"first")
    clients.wait_for("body waits")
    assert "after_response begins" not in clients.said
    go(wire)
    clients.open("body")
    all_tasks_end(clients)


@LEAVE
def test_client_that_leaves_after_the_response(
    clients: Server, go: Callable[[socket.socket], None]
) -> None:
    """A client that has all it wanted and leaves cancels nothing (1.7)."""
    clients.forget()
    wire = dial(clients)
    wire.sendall(head("/plain"))
    read_until(wire, b'x"')
    go(wire)
    all_tasks_end(clients)


def test_client_that_reads_slowly(clients: Server) -> None:
    """The last phase comes when the server has taken the body, the others do not wait (1.3)."""
    clients.forget()
    with closing(dial(clients)) as wire:
        wire.sendall(head("/large"))
        early = [phase for phase in PHASES if phase != "after_response"]
        clients.wait_for(*(f"{phase} begins" for phase in early))
        clients.open("task")
        clients.wait_for(*(f"{phase} ends" for phase in early))
        if clients.kind != "granian":  # it takes any body at once
            assert "body ends" not in clients.said
            assert "after_response begins" not in clients.said
        received = 0
        while received < 400 * 50_000:
            received += len(wire.recv(1_000_000))
        clients.wait_for("body ends", "after_response ends")
    next_request_works(clients)


def test_connection_that_is_kept_alive(clients: Server) -> None:
    """Requests on one connection have their tasks each, which hold up no later request (1.3)."""
    clients.forget()
    names = ["first ", "second ", "third "]
    with closing(dial(clients)) as wire:
        for name in names:
            wire.sendall(head(f"/plain?name={name.strip()}%20"))
            read_until(wire, b'x"')
    for name in names:
        clients.wait_for(*(f"{name}{phase} begins" for phase in PHASES))
    assert not [said for said in clients.said if said.endswith(" ends")]
    clients.open("task")
    for name in names:
        clients.wait_for(*(f"{name}{phase} ends" for phase in PHASES))
    next_request_works(clients)


def test_requests_in_a_pipeline(clients: Server) -> None:
    """Requests sent together are answered in order, each with all of its tasks (1.3)."""
    clients.forget()
    names = ["first ", "second ", "third "]
    with closing(dial(clients)) as wire:
        wire.sendall(b"".join(head(f"/plain?name={name.strip()}%20") for name in names))
        read_until(wire, b'x"', times=3)
    for name in names:
        clients.wait_for(*(f"{name}{phase} begins" for phase in PHASES))
    clients.open("task")
    for name in names:
        clients.wait_for(*(f"{name}{phase} ends" for phase in PHASES))
    begun = [said for said in clients.said if said.endswith("after_route begins")]
    assert begun == [f"{name}after_route begins" for name in names]
    next_request_works(clients)


@pytest.mark.parametrize("status", [204, 304])
def test_response_without_a_body(clients: Server, status: int) -> None:
    """A response that has no body has phases (1.8)."""
    clients.forget()
    with closing(dial(clients)) as wire:
        wire.sendall(head(f"/status/{status}"))
        assert str(status).encode() in read_until(wire, b"\r\n\r\n")
        all_tasks_end(clients)


def test_head(clients: Server) -> None:
    """A HEAD request has phases (1.8)."""
    clients.forget()
    with closing(dial(clients)) as wire:
        wire.sendall(head("/plain", "HEAD"))
        assert b" 200 " in read_until(wire, b"\r\n\r\n")
        all_tasks_end(clients)


@LEAVE
def test_upload_that_ends_half_way(clients: Server, go: Callable[[socket.socket], None]) -> None:
    """A client that leaves within its upload fails the request: its tasks are accounted for (1.6).

    Those that had begun go on; the later ones are skipped, with a record each.
    """
    clients.forget()
    wire = dial(clients)
    wire.sendall(head("/upload", "POST", "Content-Length: 1000") + b"half of it")
    clients.wait_for("route begins", "immediate begins", "thread begins")
    go(wire)
    clients.wait_for("INFO work")
    while clients.said.count("INFO work") < 2:
        clients.wait_for_more()
    clients.open("task")
    clients.wait_for("immediate ends", "thread ends")
    assert clients.log().count("skipped: its request failed") == 2
    next_request_works(clients)


@pytest.mark.parametrize("closes", ["client", "server", "crash"])
def test_websocket(clients: Server, closes: str) -> None:
    """A WebSocket's later phases come whoever closes it; not if the route fails (1.6, 1.8)."""
    if clients.kind == "hypercorn-trio" and closes != "client":
        pytest.skip("hypercorn's trio worker dies of this by itself: BusyResourceError")
    clients.forget()
    with connect(f"ws://127.0.0.1:{clients.port}/ws/{closes}") as wire:
        wire.send("hello")
        assert wire.recv() == "HELLO"
        clients.wait_for("immediate begins")
        if closes == "client":
            assert "after_route begins" not in clients.said
    if closes != "crash":
        all_tasks_end(clients)
        return
    clients.wait_for("INFO work")
    while clients.said.count("INFO work") < 2:
        clients.wait_for_more()
    clients.open("task")
    clients.wait_for("immediate ends", "thread ends")
    next_request_works(clients)


@LEAVE
def test_websocket_that_is_cut_off(clients: Server, go: Callable[[socket.socket], None]) -> None:
    """A client that leaves a WebSocket without closing it cancels nothing (1.7)."""
    clients.forget()
    wire = dial(clients)
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    more = ("Upgrade: websocket", "Connection: Upgrade", key, "Sec-WebSocket-Version: 13")
    wire.sendall(head("/ws/client", "GET", *more))
    assert b" 101 " in read_until(wire, b"\r\n\r\n")
    clients.wait_for("immediate begins")
    go(wire)
    all_tasks_end(clients)


class H2:
    """A connection that speaks HTTP/2 from its first byte."""

    def __init__(self, server: Server) -> None:
        self.wire = dial(server)
        self.state = h2.connection.H2Connection()
        self.state.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.wire.sendall(self.state.data_to_send())

    def ask(self, path: str, method: str = "GET") -> int:
        stream = self.state.get_next_available_stream_id()
        names = (":method", ":path", ":scheme", ":authority")
        self.state.send_headers(
            stream, list(zip(names, (method, path, "http", "test"), strict=True)), end_stream=True
        )
        self.flush()
        return stream

    def wait_for(self, kind: type[Any], *streams: int) -> None:
        left = set(streams)
        while left:
            received = self.wire.recv(65_536)
            assert received, f"closed, without {kind} of {left}"
            for event in self.state.receive_data(received):
                if isinstance(event, h2.events.DataReceived):
                    assert event.stream_id is not None
                    self.state.acknowledge_received_data(
                        event.flow_controlled_length or 0, event.stream_id
                    )
                if isinstance(event, kind):
                    left.discard(getattr(event, "stream_id", 0))
            self.flush()


def _needs_http2(server: Server) -> None:
    if server.kind == "uvicorn":
        pytest.skip("uvicorn speaks no HTTP/2")


def test_http2(clients: Server) -> None:
    """Requests that share one HTTP/2 connection have their tasks each (1.8)."""
    _needs_http2(clients)
    clients.forget()
    names = ["first ", "second ", "third "]
    client = H2(clients)
    with closing(client.wire):
        streams = [client.ask(f"/plain?name={name.strip()}%20") for name in names]
        streams.append(client.ask("/status/204?name=fourth%20"))
        client.wait_for(h2.events.StreamEnded, *streams)
        for name in [*names, "fourth "]:
            clients.wait_for(*(f"{name}{phase} begins" for phase in PHASES))
    clients.open("task")
    for name in [*names, "fourth "]:
        clients.wait_for(*(f"{name}{phase} ends" for phase in PHASES))
    next_request_works(clients)


def test_http2_stream_that_is_reset(clients: Server) -> None:
    """A client that gives up one stream of several cancels nothing (1.7)."""
    _needs_http2(clients)
    clients.forget()
    client = H2(clients)
    with closing(client.wire):
        given_up = client.ask("/stream")
        client.wait_for(h2.events.DataReceived, given_up)
        clients.wait_for("body waits")
        client.state.reset_stream(given_up)
        client.flush()
        clients.open("body")
        all_tasks_end(clients)
        other = client.ask("/plain")
        client.wait_for(h2.events.StreamEnded, other)
