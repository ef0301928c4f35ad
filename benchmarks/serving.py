"""Applications to measure, by name, and how to serve them without a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any, Final, TypeAlias

from benchmarks.measuring import turns
from benchmarks.work import done

Message: TypeAlias = MutableMapping[str, Any]
Application: TypeAlias = Callable[..., Awaitable[None]]
Call: TypeAlias = Callable[[], Awaitable[None]]

PATIENCE: Final = 100_000
"""Turns of the event loop in which the tasks of a request must have ended."""


def load(name: str) -> Application:
    """Make an application from ``module:function:number``, where the number is that of tasks.

    Raises:
        ImportError: What it is built on is not installed.
    """
    module, function, count = name.split(":")
    routes = import_module(f"benchmarks.applications.{module}")
    application: Application = getattr(routes, function)(int(count))
    return application


@asynccontextmanager
async def served(app: Application) -> AsyncGenerator[Call]:
    """Run an application's lifespan; within it, each call makes a request."""
    state: dict[str, Any] = {}
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    outbox: asyncio.Queue[Message] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}
    lifespan = asyncio.ensure_future(app(scope, inbox.get, outbox.put))
    await inbox.put({"type": "lifespan.startup"})
    started = await outbox.get()
    if started["type"] != "lifespan.startup.complete":
        raise RuntimeError(started)
    try:
        yield _call(app, state)
    finally:
        await inbox.put({"type": "lifespan.shutdown"})
        await outbox.get()
        await lifespan


def _call(app: Application, state: dict[str, Any]) -> Call:
    headers = [(b"host", b"127.0.0.1"), (b"user-agent", b"bench"), (b"accept", b"*/*")]
    base = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
    }

    async def call() -> None:
        received = False
        statuses: list[int] = []

        async def receive() -> Message:
            nonlocal received
            if received:
                # The client stays, until it is no longer listened to. (No sleep: the timers of many
                # requests would be swept up in the turn of somebody else.)
                await asyncio.get_running_loop().create_future()
            received = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        await app({**base, "headers": list(headers), "state": state.copy()}, receive, send)
        if statuses != [200]:
            raise RuntimeError(statuses)

    return call


async def one_by_one(call: Call, requests: int, tasks: int, after: int) -> int:
    """Make requests, each of which waits until the tasks of the one before have ended."""
    ended = done.ended
    for _ in range(requests):
        await call()
        ended += tasks
        await _until(ended)
    await turns(after)
    return requests


async def many(call: Call, requests: int, tasks: int, after: int) -> int:
    """Make requests at the same time, each in a task of its own as servers do."""
    ended = done.ended + requests * tasks
    create = asyncio.get_running_loop().create_task
    made = [create(_as_coroutine(call)) for _ in range(requests)]
    for request in made:
        await request
    await _until(ended)
    await turns(after)
    return requests


async def _as_coroutine(call: Call) -> None:
    await call()


async def _until(ended: int) -> None:
    await asyncio.sleep(0)  # servers always come back to the event loop
    for _ in range(PATIENCE):
        if done.ended >= ended:
            return
        await asyncio.sleep(0)
    raise RuntimeError("the tasks of a request do not end")
