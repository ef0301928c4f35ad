"""A stream of a task's progress, as docs/progress.md has it, and a task that ends when told to."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from fastapi_tasks import Task, Tasks, add_tasks, current_task

from tests.servers.apps.wire import say, wait_at_gate


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    yield
    say("teardown")


app = FastAPI(lifespan=lifespan)
add_tasks(app)


async def convert() -> None:
    current_task().report(1, total=2)
    try:
        await wait_at_gate("convert")
        say("converted")
    except BaseException:
        say("cancelled")
        raise


async def events(task: Task) -> AsyncIterator[str]:
    async for progress in task.updates():
        yield f"data: {json.dumps(asdict(progress))}\n\n"
    yield f"event: end\ndata: {json.dumps(asdict(task.record()))}\n\n"


@app.get("/events")
async def watch(tasks: Tasks) -> StreamingResponse:
    return StreamingResponse(events(tasks.schedule(convert)), media_type="text/event-stream")
