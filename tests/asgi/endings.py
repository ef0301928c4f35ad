"""How a WebSocket's handler may end, of whatever framework: what it says, hears and raises.

It knows no framework, as `watching` does not.
"""

from __future__ import annotations

from typing import Protocol

import anyio


class Socket(Protocol):
    """What frameworks' WebSockets have in common."""

    async def receive_text(self) -> str: ...
    async def send_text(self, data: str) -> None: ...
    async def close(self, code: int) -> None: ...


async def returns_at_once(socket: Socket) -> None: ...


async def closes(socket: Socket) -> None:
    await socket.close(4000)


async def hears(socket: Socket) -> None:
    await socket.receive_text()


async def says(socket: Socket) -> None:
    await socket.send_text("hello")


async def hears_in_a_group(socket: Socket) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep_forever)
        await socket.receive_text()


async def says_in_a_group(socket: Socket) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(says, socket)
        await anyio.sleep_forever()


async def hears_in_groups(socket: Socket) -> None:
    async with anyio.create_task_group() as outer, anyio.create_task_group() as group:
        outer.start_soon(anyio.sleep_forever)
        group.start_soon(hears, socket)


async def crashes(socket: Socket) -> None:
    raise ValueError


async def crashes_in_a_group(socket: Socket) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(crashes, socket)
        await anyio.sleep_forever()


async def crashes_when_left(socket: Socket) -> None:
    try:
        await socket.receive_text()
    finally:
        raise ValueError


async def crashes_beside(socket: Socket) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(crashes_when_left, socket)
        await anyio.sleep_forever()
