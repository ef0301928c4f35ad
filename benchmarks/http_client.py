"""What asks the servers: wrk, a plain client for where that is missing, one with a timetable."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from contextlib import suppress
from typing import Final

CONNECTIONS: Final = 32

RATE: Final = "requests a second"
P50, P99 = "p50 ms", "p99 ms"
REQUESTS: Final = "requests"


def load_by_wrk(port: int, seconds: float) -> dict[str, float]:
    """Ask as often as wrk can.

    Raises:
        RuntimeError: There were errors, or its answer is not understood.
    """
    url = f"http://127.0.0.1:{port}/"
    said = subprocess.run(
        ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:.0f}s", "--latency", url],
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        check=True,
    ).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    requests = re.search(r"(\d+) requests in", said)
    if "Non-2xx" in said or "Socket errors" in said or rate is None or requests is None:
        raise RuntimeError(said)
    found = {RATE: float(rate[1]), REQUESTS: float(requests[1])}
    for label, percent in ((P50, 50), (P99, 99)):
        latency = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", said)
        if latency is None:
            raise RuntimeError(said)
        found[label] = float(latency[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[latency[2]]
    return found


async def load_by_ourselves(port: int, seconds: float) -> dict[str, float]:
    """Ask as often as this process can."""
    connections = [await Connection.open(port) for _ in range(CONNECTIONS)]
    took: list[float] = []
    deadline = time.perf_counter() + seconds

    async def ask(connection: Connection) -> None:
        while (began := time.perf_counter()) < deadline:
            await connection.get("/")
            took.append(time.perf_counter() - began)

    await asyncio.gather(*map(ask, connections))
    for connection in connections:
        await connection.close()
    return {RATE: len(took) / seconds, REQUESTS: len(took)} | percentiles(took)


async def ask_by_timetable(port: int, path: str, seconds: float, every: float) -> list[float]:
    """Ask every so many seconds; return the seconds from when each was due until its answer."""
    free = [await Connection.open(port) for _ in range(16)]
    took: list[float] = []

    async def ask(due: float) -> None:
        connection = free.pop() if free else await Connection.open(port)
        await connection.get(path)
        took.append(time.perf_counter() - due)
        free.append(connection)

    first = time.perf_counter()
    asked: list[asyncio.Task[None]] = []
    for number in range(int(seconds / every)):
        due = first + number * every
        await asyncio.sleep(max(0, due - time.perf_counter()))
        asked.append(asyncio.create_task(ask(due)))
    await asyncio.gather(*asked)
    for connection in free:
        await connection.close()
    return took


async def ask_often(port: int, path: str, times: int) -> None:
    """Ask one after the other."""
    connection = await Connection.open(port)
    for _ in range(times):
        await connection.get(path)
    await connection.close()


def percentiles(took: list[float]) -> dict[str, float]:
    """Return the median and the 99th percentile of some seconds."""
    took = sorted(took)
    last = min(len(took) - 1, len(took) * 99 // 100)
    return {P50: took[len(took) // 2] * 1e3, P99: took[last] * 1e3}


class Connection:
    """A connection that is kept alive."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Connect to this machine."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def get(self, path: str) -> None:
        """Ask, and wait for the whole answer.

        Raises:
            RuntimeError: It is not a good one.
        """
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"content-length: (\d+)", head)
        if length is None or head.split(b" ", 2)[1] != b"200":
            raise RuntimeError(head)
        await self._reader.readexactly(int(length[1]))

    async def close(self) -> None:
        """Close it."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()
