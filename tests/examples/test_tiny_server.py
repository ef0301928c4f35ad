"""The tiny server drives the phases by hand, on both event loops (contract 6.2)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import cast

import anyio
import pytest
from anyio.abc import SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream
from tasks_core import Phase, Task, TaskRunner, TaskState, current_tasks

from examples import tiny_server
from tests.conformance.cases import async_function, at, finish
from tests.conformance.driver import GUARD

pytestmark = pytest.mark.anyio


class Client:
    def __init__(self, stream: SocketStream) -> None:
        self.stream = stream
        self._lines = BufferedByteReceiveStream(stream)

    async def hear(self) -> str:
        line = await self._lines.receive_until(b"\n", tiny_server.LONGEST)
        return line.decode()

    async def ask(self, word: str) -> str:
        await self.stream.send(f"{word}\n".encode())
        return await self.hear()


@asynccontextmanager
async def connected() -> AsyncGenerator[Client]:
    """Run the server while the body runs, with a client."""
    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as group:
            port = await group.start(tiny_server.serve, 0)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                yield Client(stream)
            group.cancel_scope.cancel()


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Read the server's journal."""
    entries: list[str] = []

    async def journal(entry: str) -> None:
        entries.append(entry)

    monkeypatch.setattr(tiny_server, "journal", journal)
    return entries


async def test_answers_and_journal(entries: list[str]) -> None:
    """1.3, 1.6: Each answer comes first, then the entry of its outcome."""
    async with connected() as client:
        assert await client.ask("hello") == "5"
        assert await client.ask("") == "refused: say something"
        assert await client.ask("you") == "3"
        await anyio.wait_all_tasks_blocked()
    assert entries == ["counted 'hello'", "refused ''", "counted 'you'"]


@pytest.mark.parametrize("fails", [False, True], ids=["success", "failure"])
async def test_phases(monkeypatch: pytest.MonkeyPatch, *, fails: bool) -> None:
    """1.1 to 1.4: Phases come in order, around the answer."""
    log: list[str] = []
    made: list[Task] = []

    async def route(word: str) -> str:
        for phase in reversed(Phase):
            task = async_function(partial(log.append, str(phase)))
            made.append(at(current_tasks(), phase).task(run_on="always").schedule(task))
        if fails:
            raise tiny_server.RefusedError(word)
        return "ok"

    async def serve_request(runner: TaskRunner, line: bytes, stream: SocketStream) -> None:
        class Noting:
            async def send(self, data: bytes) -> None:
                log.append("start")
                await stream.send(data)
                await anyio.wait_all_tasks_blocked()
                log.append("sent")

        await really_serve(runner, line, cast("SocketStream", Noting()))

    really_serve = tiny_server.serve_request
    monkeypatch.setattr(tiny_server, "serve_request", serve_request)
    monkeypatch.setattr(tiny_server, "route", route)
    async with connected() as client:
        await client.ask("hello")
        await anyio.wait_all_tasks_blocked()
        await finish(made)
    assert log == ["immediate", "after_route", "start", "sent", "after_response"]


async def test_shutdown(monkeypatch: pytest.MonkeyPatch) -> None:
    """5.2 A server that is stopped waits for what is shielded, and cancels the rest."""
    made: list[Task] = []

    async def until_stopped() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            release.set()

    async def route(word: str) -> str:
        tasks = current_tasks()
        made.append(tasks.after_response.task(shield=True).schedule(release.wait))
        made.append(tasks.schedule(until_stopped))
        return word

    release = anyio.Event()
    monkeypatch.setattr(tiny_server, "route", route)
    async with connected() as client:
        assert await client.ask("hello") == "hello"
    assert [task.state for task in made] == [TaskState.SUCCEEDED, TaskState.CANCELLED]


async def test_a_client_that_speaks_too_long(entries: list[str]) -> None:
    """A client that sends no line is left alone; others are served."""
    async with connected() as client:
        await client.stream.send(b"x" * (tiny_server.LONGEST + 1))
        with pytest.raises((anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError)):
            await client.hear()
    assert entries == []


def test_it_is_small() -> None:
    """The example stays one that is read in a minute."""
    assert len(Path(tiny_server.__file__).read_text(encoding="utf-8").splitlines()) < 100
