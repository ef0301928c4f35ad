"""How what runs in a worker speaks with the test, in whatever process that the worker forks.

As `tests.servers.apps.wire`, but each message has a connection of its own.
"""

from __future__ import annotations

import os
import socket
from contextlib import closing

GUARD = 60.0


def _connect() -> socket.socket:
    host, _, port = os.environ["TESTS_WIRE"].partition(":")
    return socket.create_connection((host, int(port)), GUARD)


def say(what: str) -> None:
    """Tell the test, in one line."""
    with closing(_connect()) as wire:
        wire.sendall(what.encode() + b"\n")


def pass_gate(name: str, what: str) -> None:
    """Tell the test, then block this thread until it opens the gate."""
    with closing(_connect()) as wire:
        wire.sendall(what.encode() + b"\n")
        for line in wire.makefile():
            if line.strip() == name:
                return
