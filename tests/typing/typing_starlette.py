"""What the checkers promise of starlette-tasks; checked, never run (contract 6.3)."""

from __future__ import annotations

from typing import TypedDict, assert_type

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.websockets import WebSocket
from starlette_tasks import TasksScheduler, add_tasks, get_tasks


class State(TypedDict):
    pool: str


async def connect(user: str) -> int:
    return len(user)


async def plain(request: Request) -> None:
    assert_type(get_tasks(request), TasksScheduler)
    assert_type(await get_tasks(request).schedule(connect, "x").wait(), int)
    get_tasks(request).schedule(connect, 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    get_tasks(request.scope)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def with_state(request: Request[State]) -> None:
    assert_type(get_tasks(request), TasksScheduler)
    assert_type(request.state["pool"], str)


async def socket(websocket: WebSocket, connection: HTTPConnection) -> None:
    assert_type(get_tasks(websocket), TasksScheduler)
    assert_type(get_tasks(connection), TasksScheduler)


app = Starlette()
add_tasks(app, grace_period=1.5)
add_tasks(app, grace=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
