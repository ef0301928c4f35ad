"""Starts the programs of examples/: in this process, or by the launcher in a forked one."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from tests import forked

ROOT = Path(__file__).parents[2]
GUARD = 60.0
"""Seconds after which something that should have happened counts as missing."""
FRAMEWORKS = ["fastapi", "starlette", "litestar"]


def client(
    module: str, *, on_shutdown: Callable[[], object] = lambda: None, **options: Any
) -> TestClient:
    """Return a client of a program; `with` runs its lifespan, and drains its tasks at the end.

    Args:
        module: Where the program is, in examples/.
        on_shutdown: Called when the program is told to stop.
        options: Those of the client.
    """
    program: Any = import_module(f"examples.{module}").app

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def watched() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                on_shutdown()
            return message

        await program(scope, watched, send)

    return TestClient(app, **options)


@contextmanager
def launched(name: str, **environment: str) -> Generator[str]:
    """Start a program as a user does, on a free port; the address is what it says."""
    command = [str(ROOT / "examples"), name, "--port", "0"]
    with forked.read(command, ROOT, os.environ | environment) as (process, written):
        try:
            output = ""
            for line in written:
                output += line
                if address := re.search(r"running on (http://127\.0\.0\.1:[1-9]\d*)", line):
                    yield address[1]
                    break
            else:
                raise AssertionError(f"it has ended before it listened\n{output}")
            process.send_signal(signal.SIGTERM)
            output += written.read()
            assert "Application shutdown complete" in output
        finally:
            process.send_signal(signal.SIGKILL)
