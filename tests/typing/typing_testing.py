"""What the checkers promise of the testing kit and what they forbid; never run (contract 6.3)."""

from typing import Any, assert_type

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from fastapi_tasks import Task
from fastapi_tasks.testing import (
    RecordedPhase,
    RecordedTasks,
    TasksBlock,
    drain,
    inline,
    lifespan,
    record,
)
from litestar import Litestar
from starlette.applications import Starlette
from tasks_core.asgi import ASGIApp, TasksMiddleware


async def send_mail(to: str, *, subject: str = "Welcome!") -> bool:
    return bool(to + subject)


def charge(order: int) -> None: ...


async def asgi_app(scope: object, receive: object, send: object) -> None:
    """An ASGI application need not use our types."""


def test_blocks(client: TestClient) -> None:
    with drain() as drained, inline(timeout=1, raise_errors=False) as inlined:
        assert_type(drained, TasksBlock)
        assert_type(inlined.tasks, list[Task])
        client.get("/")
    with record(timeout=1) as recorded:
        assert_type(recorded, RecordedTasks)
        assert_type(recorded.tasks, list[Task])
    drain(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    record(raise_errors=False)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def test_errors_reach_the_checkers() -> int:
    """What follows a block is reached only if it did not raise: a block hides no error."""
    with drain():
        return 1


def test_recorded(recorded_tasks: RecordedTasks) -> None:
    task = recorded_tasks.assert_scheduled(send_mail, "ada@example.com", subject="x")
    assert_type(task.args, tuple[Any, ...])
    batch = recorded_tasks.after_response.task(name="mail", shield=True)
    assert_type(batch, RecordedPhase)
    batch.task(run_on="always").assert_scheduled(charge, 7)
    recorded_tasks.after_route.assert_scheduled(charge, order=7)
    recorded_tasks.task(name="x").assert_scheduled(charge, 7)
    recorded_tasks.assert_nothing_scheduled()


def test_forbidden(recorded_tasks: RecordedTasks) -> None:
    """Wrong arguments are errors in the test too."""
    recorded_tasks.assert_scheduled(charge, "7")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    recorded_tasks.assert_scheduled(charge)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    recorded_tasks.after_route.assert_scheduled(send_mail, "a", sender="b")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    recorded_tasks.after_response.task(name="x").assert_scheduled(send_mail, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    recorded_tasks.task(nam="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    recorded_tasks.after_route.task(run_on="never")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.anyio
async def test_lifespan() -> None:
    """Applications of every kind, to httpx's transport, without a cast."""
    async with lifespan(FastAPI()) as started, drain(), record():
        assert_type(started, ASGIApp)
        httpx.ASGITransport(started)
    async with lifespan(Starlette()) as started:
        httpx.ASGITransport(app=started)
    async with lifespan(Litestar()) as started:
        httpx.ASGITransport(app=started)
    async with lifespan(TasksMiddleware(asgi_app)) as started:
        httpx.ASGITransport(app=started)
    lifespan(charge)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
