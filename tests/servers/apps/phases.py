"""Routes whose tasks tell when they begin, and hold where the test wants to look."""

import logging
from collections.abc import AsyncIterator
from typing import Annotated, Literal

import anyio
from fastapi import Depends, FastAPI, HTTPException, WebSocket
from fastapi.responses import StreamingResponse
from fastapi_tasks import PhaseScheduler, Task, Tasks, TasksScheduler, add_tasks
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.servers.apps.wire import pass_gate, say, wait_at_gate

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")

Phase = Literal["immediate", "after_route", "after_response"]

app = FastAPI()
add_tasks(app)


class Over:
    """Tells when the application's call has ended: nothing more will come of a request itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        finally:
            say("over")


app.add_middleware(Over)


async def commit() -> AsyncIterator[None]:
    yield
    say("committed")


Commit = Annotated[None, Depends(commit)]


def batch_of(tasks: TasksScheduler, phase: Phase) -> PhaseScheduler:
    if phase == "after_route":
        return tasks.after_route
    return tasks.after_response if phase == "after_response" else tasks.task()


async def hold() -> None:
    say("task begins")
    pass_gate("task")
    say("task ends")


def hold_thread() -> None:
    say("task begins")
    pass_gate("task")
    say("task ends")


async def work() -> None:
    say("task begins")
    await wait_at_gate("task")
    say("task ends")


FUNCTIONS = {"hold": hold, "hold_thread": hold_thread, "work": work}


@app.get("/async/{phase}/{func}")
async def async_route(phase: Phase, func: str, tasks: Tasks, _: Commit) -> str:
    batch_of(tasks, phase).schedule(FUNCTIONS[func])
    say("route returns")
    return "x" * 10_000


@app.get("/sync/{phase}/{func}")
def sync_route(phase: Phase, func: str, tasks: Tasks, _: Commit) -> str:
    batch_of(tasks, phase).schedule(FUNCTIONS[func])
    say("route returns")
    return "x" * 10_000


@app.get("/bare/{phase}")
async def bare_route(phase: Phase, tasks: Tasks) -> str:
    """Has no dependency but the tasks: nothing awaits."""
    batch_of(tasks, phase).schedule(hold)
    return "x" * 10_000


@app.get("/fails/{how}")
async def failing_route(how: str, tasks: Tasks) -> str:
    later: list[Task] = [tasks.after_route.schedule(hold), tasks.after_response.schedule(hold)]

    async def look() -> None:
        say("states " + " ".join(task.state for task in later))

    tasks.after_response.task(run_on="failure").schedule(look)
    if how == "http":
        raise HTTPException(418)
    raise ZeroDivisionError


@app.get("/stream")
async def streaming_route(tasks: Tasks) -> StreamingResponse:
    async def body() -> AsyncIterator[str]:
        yield "first"
        await anyio.sleep_forever()

    tasks.schedule(work)
    tasks.after_response.schedule(say, "after_response begins")
    return StreamingResponse(body())


async def tell(what: str) -> None:
    say(what)


@app.websocket("/ws")
async def websocket_route(websocket: WebSocket, tasks: Tasks) -> None:
    await websocket.accept()
    tasks.schedule(tell, "immediate begins")
    tasks.after_route.schedule(tell, "after_route begins")
    tasks.after_response.schedule(tell, "after_response begins")
    async for text in websocket.iter_text():
        await websocket.send_text(text.upper())
    say("route returns")
