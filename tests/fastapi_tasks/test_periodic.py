"""What runs by the clock in a FastAPI application."""

from __future__ import annotations

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient
from fastapi_tasks import Every, Periodic, TaskConfig, Tasks, add_tasks


async def nothing() -> None: ...


def test_periodic() -> None:
    """10.1, 10.7 Routes, async and sync ones, list it and run it; the response says which task."""
    app = FastAPI()
    ran: list[str] = []
    refresh = Periodic(lambda: ran.append("ran"), Every(hours=1), TaskConfig(name="refresh"))
    add_tasks(app, periodic=[refresh])

    @app.post("/{name}", status_code=202)
    async def trigger(name: str, tasks: Tasks) -> dict[str, str]:
        if (found := tasks.periodic.get(name)) is None:
            raise HTTPException(404)
        task = found.run()
        await task.wait()
        return {"id": task.id}

    @app.get("/{name}")
    def show(name: str, tasks: Tasks) -> dict[str, str | None]:
        last = tasks.periodic[name].last
        return {"last": None if last is None else last.id}

    with TestClient(app) as client:
        assert client.get("/refresh").json() == {"last": None}
        response = client.post("/refresh")
        assert response.status_code == 202
        assert client.get("/refresh").json() == {"last": response.json()["id"]}
        assert client.post("/other").status_code == 404
    assert ran == ["ran"]


def test_two_of_one_name_are_refused() -> None:
    """10.8 By the call that adds them."""
    with pytest.raises(ValueError, match="two periodic tasks are called 'nothing'"):
        add_tasks(FastAPI(), periodic=[Periodic(nothing, Every(hours=1))] * 2)
