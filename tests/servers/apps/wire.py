"""How an application under test speaks with its test: it says things, and the test opens gates."""

import os
import socket
from threading import Event, Lock, Thread

import anyio.to_thread

GUARD = 60.0

_gates: dict[str, Event] = {}
_lock = Lock()


def say(what: str) -> None:
    """Tell the test, in one line."""
    with _lock:
        _test.sendall(what.encode() + b"\n")


def pass_gate(name: str) -> None:
    """Block this thread, and the event loop if it is the loop's, until the test opens the gate."""
    if not _gate(name).wait(GUARD):
        say(f"nobody opened {name}")


async def wait_at_gate(name: str) -> None:
    """Wait until the test opens the gate."""
    await anyio.to_thread.run_sync(pass_gate, name, abandon_on_cancel=True)


def _gate(name: str) -> Event:
    with _lock:
        return _gates.setdefault(name, Event())


def _listen() -> None:
    for line in _test.makefile():
        if line.strip() == "forget":
            _forget()
        else:
            _gate(line.strip()).set()


def _forget() -> None:
    """Let go of who waits at a gate; then all gates are closed, for the next test."""
    with _lock:
        waited_at = list(_gates.values())
        _gates.clear()
    for gate in waited_at:
        gate.set()
    say("forgotten")


host, _, port = os.environ["TESTS_WIRE"].partition(":")
_test = socket.create_connection((host, int(port)))
_test.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a line at a time, at once
Thread(target=_listen, daemon=True).start()
say("hello")
