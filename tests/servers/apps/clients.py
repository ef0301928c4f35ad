"""Routes for clients that misbehave: tasks of every phase, and who waits for what."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, Request, Response, WebSocket
from fastapi.responses import StreamingResponse

from tests.servers.apps.package import SETTINGS, Tasks, add_tasks, tell_records
from tests.servers.apps.wire import pass_gate, say, wait_at_gate

tell_records()
app = FastAPI()
add_tasks(app, **SETTINGS)


async def work(name: str) -> None:
    say(f"{name} begins")
    await wait_at_gate("task")
    say(f"{name} ends")


def work_in_thread(name: str) -> None:
    say(f"{name} begins")
    pass_gate("task")
    say(f"{name} ends")


async def schedule(tasks: Tasks, name: str = "") -> None:
    tasks.schedule(work, f"{name}immediate")
    tasks.schedule(work_in_thread, f"{name}thread")
    tasks.after_route.schedule(work, f"{name}after_route")
    tasks.after_response.schedule(work, f"{name}after_response")


Scheduled = Annotated[None, Depends(schedule)]


@app.get("/slow")
async def answer_late(_: Scheduled) -> str:
    say("route begins")
    await wait_at_gate("route")
    say("route ends")
    return "x" * 100_000


@app.get("/thread")
def answer_late_in_thread(_: Scheduled) -> str:
    say("route begins")
    pass_gate("route")
    say("route ends")
    return "x" * 100_000


@app.api_route("/plain", methods=["GET", "HEAD"])
async def answer(_: Scheduled) -> str:
    return "x" * 1_000


@app.get("/status/{status}")
async def answer_without_body(status: int, _: Scheduled) -> Response:
    return Response(status_code=status)


@app.get("/large")
async def answer_much(_: Scheduled) -> StreamingResponse:
    async def body() -> AsyncIterator[bytes]:
        for _number in range(400):
            yield bytes(50_000)
        say("body ends")

    return StreamingResponse(body())


@app.get("/stream")
async def answer_in_parts(_: Scheduled) -> StreamingResponse:
    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        say("body waits")
        await wait_at_gate("body")
        for _number in range(100):
            yield bytes(50_000)

    return StreamingResponse(body())


@app.post("/upload")
async def receive(request: Request, _: Scheduled) -> int:
    say("route begins")
    return len(await request.body())


@app.websocket("/ws/{closes}")
async def talk(closes: str, websocket: WebSocket, _: Scheduled) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text.upper())
        if closes == "server":
            await websocket.close()
            return
        if closes == "crash":
            raise ZeroDivisionError
