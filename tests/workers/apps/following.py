"""A process of a server whose tasks any other process knows, by a Redis that they share."""

import json
import os
from collections.abc import AsyncIterator
from dataclasses import asdict
from importlib import import_module

from key_value.aio.stores.redis import RedisStore
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from starlette_tasks import add_tasks, current_task, get_tasks

from tests.servers.apps.wire import say, wait_at_gate

# How long one that has died counts as living.
records = vars(import_module("tasks_core._records"))
records.update(SILENCE=float(os.environ.get("TESTS_SILENCE", "20")), BEAT_EVERY=0.5)


async def work(name: str) -> None:
    try:
        for step in range(3):
            current_task().report(step, total=3)
            say(f"{name} at {step}")
            await wait_at_gate(f"{name} {step}")
    finally:
        say(f"{name} over")


async def start(request: Request) -> JSONResponse:
    task = get_tasks(request).schedule(work, request.path_params["name"])
    return JSONResponse({"task_id": task.id}, 202)


async def status(request: Request) -> JSONResponse:
    found = await get_tasks(request).status(request.path_params["task_id"])
    return JSONResponse(found and asdict(found), 404 if found is None else 200)


async def cancel(request: Request) -> JSONResponse:
    return JSONResponse(await get_tasks(request).cancel(request.path_params["task_id"]))


async def follow(request: Request) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        async for found in get_tasks(request).follow(request.path_params["task_id"]):
            yield json.dumps(asdict(found)) + "\n"

    return StreamingResponse(lines(), media_type="application/jsonl")


app = Starlette(
    routes=[
        Route("/start/{name}", start, methods=["POST"]),
        Route("/tasks/{task_id}", status),
        Route("/tasks/{task_id}", cancel, methods=["DELETE"]),
        Route("/tasks/{task_id}/follow", follow),
    ]
)
add_tasks(app, records=RedisStore(url=os.environ["REDIS_URL"]))
