"""What the FAQ says of `Tasks` that is imported for type checkers only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from fastapi_tasks import add_tasks
from litestar import Litestar, get
from litestar_tasks import TasksPlugin

if TYPE_CHECKING:
    from fastapi_tasks import Tasks


async def route(tasks: Tasks) -> None: ...


def test_fastapi() -> None:
    """FastAPI takes the parameter for one of the query, and answers 422."""
    app = FastAPI()
    add_tasks(app)
    app.get("/")(route)
    with TestClient(app) as client:
        answer = client.get("/")
    assert answer.status_code == 422
    assert [(it["loc"], it["msg"]) for it in answer.json()["detail"]] == [
        (["query", "tasks"], "Field required")
    ]


def test_litestar() -> None:
    """Litestar does not start."""
    with pytest.raises(NameError, match="Tasks"):
        Litestar([get("/")(route)], plugins=[TasksPlugin()])
