"""A server that speaks no ASGI, and drives the phases of its tasks by hand.

A client sends words, one a line; the server answers each with its length. It keeps a journal of
what it was asked, after the answer is out, and says goodbye when a word is missing.

    $ python examples/tiny_server.py        $ nc 127.0.0.1 8000
    listening on 127.0.0.1:8000             hello
    counted 'hello'                         5
"""

from __future__ import annotations

import signal
from functools import partial
from typing import Final

import anyio
from anyio.abc import SocketAttribute, SocketStream, TaskStatus
from anyio.streams.buffered import BufferedByteReceiveStream
from tasks_core import Phase, TaskRunner, TasksScheduler, current_tasks

LONGEST: Final = 1000
"""How many bytes a line may have."""


class RefusedError(Exception):
    """A line cannot be answered; the client is told why."""


async def journal(entry: str) -> None:
    """Note something for the operator; not worth a client's time."""
    print(entry)


async def route(word: str) -> str:
    """Answer a line. Tasks are found by `current_tasks`, however deep below the server."""
    tasks = current_tasks()
    tasks.after_response.schedule(journal, f"counted {word!r}")
    tasks.after_response.task(run_on="failure").schedule(journal, f"refused {word!r}")
    if not word:
        raise RefusedError("say something")
    return str(len(word))


async def serve_request(runner: TaskRunner, line: bytes, stream: SocketStream) -> None:
    """Serve a request with a scheduler of its own, which goes through the phases."""
    with TasksScheduler(runner) as tasks:  # the end of the block is Phase.AFTER_RESPONSE
        try:
            answer = await route(line.decode(errors="replace").strip())
        except RefusedError as error:
            answer = f"refused: {error}"
            tasks.reach(Phase.AFTER_ROUTE, failed=True)
        else:
            tasks.reach(Phase.AFTER_ROUTE)
        await tasks.begun()  # the tasks of that phase run their first step before the first byte
        await stream.send(answer.encode() + b"\n")


async def converse(runner: TaskRunner, stream: SocketStream) -> None:
    """Serve a client's requests until it leaves."""
    async with stream:
        lines = BufferedByteReceiveStream(stream)
        try:
            while True:
                line = await lines.receive_until(b"\n", LONGEST)
                await serve_request(runner, line, stream)
        except (anyio.IncompleteRead, anyio.DelimiterNotFound, anyio.BrokenResourceError):
            return  # it has left, or speaks another protocol


async def serve(port: int, *, task_status: TaskStatus[int] = anyio.TASK_STATUS_IGNORED) -> None:
    """Serve until cancelled. Then clients are left first, and leaving the runner ends the tasks."""
    async with TaskRunner(shutdown_timeout=10) as runner:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
        async with listener:
            task_status.started(listener.extra(SocketAttribute.local_port))  # noqa: S610 - no SQL
            await listener.serve(partial(converse, runner))


async def main() -> None:
    """Serve until the process is told to stop."""
    async with anyio.create_task_group() as group:
        print(f"listening on 127.0.0.1:{await group.start(serve, 8000)}")
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            await anext(signals)
        group.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main)
