"""What may be around an application, of whatever framework: limits of time, errors that are caught.

It knows no framework, as `watching` does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final, TypeAlias

import anyio
from anyio.abc import TaskStatus
from tasks_core.asgi import ASGIApp, Message, Receive, Scope, Send

from tests.conformance.driver import GUARD, Gone

Around: TypeAlias = Callable[[ASGIApp, Scope, Receive, Send], Awaitable[None]]
"""What serves a request by an application."""


class CommitError(Exception):
    pass


async def say(send: Send, text: bytes, status: int = 200) -> None:
    """Answer a request."""
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": text})


# What catches.


async def passes(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


async def catches(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    try:
        await app(scope, receive, send)
    except Exception:  # noqa: BLE001 - as the commonest error middleware does
        await say(send, b"sorry", 500)


async def catches_groups(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    caught = False
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(passes, app, scope, receive, send)
    except* Exception:  # noqa: BLE001
        caught = True
    if caught:
        await say(send, b"sorry", 500)


async def catches_in_a_copy(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await catches(app, {**scope}, receive, send)


async def catches_in_a_task(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(catches, app, scope, receive, send)


async def swallows(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    with suppress(Exception):
        await app(scope, receive, send)


async def tries_again(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Call the application until it neither raises nor answers that it cannot."""
    held: list[Message] = []

    async def hold(message: Message) -> None:
        held.append(message)

    for _ in range(3):
        held.clear()
        with suppress(Exception):
            await app({**scope}, receive, hold)
            if held[0]["status"] < 500:
                break
    for message in held:
        await send(message)


CATCH: Final = [catches, catches_groups, catches_in_a_copy, catches_in_a_task]


# What fails.


async def commits_in_send(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    async def commit(message: Message) -> None:
        raise CommitError

    await app(scope, receive, commit)


async def commits_at_the_end(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)
    raise CommitError


async def commits_whatever_happened(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    try:
        await app(scope, receive, send)
    finally:
        raise CommitError


# Limits of time. What is served says itself when its time is over.


class Limits:
    """The limit under which a request runs; it is ended by what runs under it."""

    def __init__(self) -> None:
        self.end: Callable[[], object] = lambda: None

    async def pass_by(self) -> None:
        """Run until the limit has passed."""
        self.end()
        await anyio.sleep_forever()


def moves_on(limits: Limits) -> Around:
    async def serve(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        with anyio.move_on_after(GUARD) as limit:
            limits.end = limit.cancel
            await app(scope, receive, send)
        if limit.cancelled_caught:
            await say(send, b"late", 504)

    return serve


def fails_after(limits: Limits) -> Around:
    async def serve(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        def end() -> None:
            limit.deadline = anyio.current_time()

        try:
            with anyio.fail_after(GUARD) as limit:
                limits.end = end
                await app(scope, receive, send)
        except TimeoutError:
            await say(send, b"late", 504)

    return serve


def times_out(limits: Limits) -> Around:
    async def serve(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(GUARD) as limit:
                limits.end = partial(limit.reschedule, 0)
                await app(scope, receive, send)
        except TimeoutError:
            await say(send, b"late", 504)

    return serve


def waits_for(limits: Limits) -> Around:
    async def serve(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        begun = asyncio.Event()
        limits.end = begun.set
        served = asyncio.ensure_future(app(scope, receive, send))
        await begun.wait()
        try:
            await asyncio.wait_for(served, 0)
        except TimeoutError:
            await say(send, b"late", 504)

    return serve


def cancels_a_group(limits: Limits) -> Around:
    async def serve(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as group:
            limits.end = group.cancel_scope.cancel
            group.start_soon(passes, app, scope, receive, send)
        if group.cancel_scope.cancel_called:
            await say(send, b"late", 504)

    return serve


LIMITS: Final = [moves_on, fails_after, times_out, waits_for, cancels_a_group]
OF_ASYNCIO: Final = {times_out, waits_for}
"""Those that trio does not have."""


# Servers.


def dispatching(apps: Mapping[str, ASGIApp]) -> ASGIApp:
    """Serve several applications as Hypercorn's dispatcher does: with one state of a lifespan.

    Args:
        apps: The applications, by the beginning of a path.
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(list(apps.values()), scope, receive, send)
            return
        for path, app in apps.items():
            if scope["path"].startswith(path):
                await app({**scope, "path": scope["path"].removeprefix(path)}, receive, send)

    return serve


async def _live(apps: list[ASGIApp], scope: Scope, receive: Receive, send: Send) -> None:
    stop = anyio.Event()

    async def start(app: ASGIApp, *, task_status: TaskStatus[None]) -> None:
        messages: list[Message] = [{"type": "lifespan.startup"}]

        async def its_receive() -> Message:
            if messages:
                return messages.pop()
            await stop.wait()
            return {"type": "lifespan.shutdown"}

        async def its_send(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                task_status.started()

        await app(scope, its_receive, its_send)

    await receive()
    async with anyio.create_task_group() as group:
        for app in apps:
            await group.start(start, app)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        stop.set()
    await send({"type": "lifespan.shutdown.complete"})


def losing(app: ASGIApp) -> ASGIApp:
    """A server that has lost its client once a WebSocket sends something to it."""

    async def lost(scope: Scope, receive: Receive, send: Send) -> None:
        async def failing(message: Message) -> None:
            if message["type"] == "websocket.send":
                raise Gone
            await send(message)

        await app(scope, receive, failing)

    return lost


def breaking_off(app: ASGIApp) -> ASGIApp:
    """A server whose client leaves before it has sent its body."""

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        async def gone() -> Message:
            return {"type": "http.disconnect"}

        await app(scope, gone if scope["type"] == "http" else receive, send)

    return broken
