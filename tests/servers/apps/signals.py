"""Tasks of every kind, at work or not begun when the server is told to stop.

Each says how it ends: ``finished`` or ``cleaned up``.
"""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from tests.servers.apps.package import (
    SETTINGS,
    PhaseScheduler,
    Task,
    Tasks,
    add_tasks,
    current_tasks,
    tell_records,
)
from tests.servers.apps.wire import pass_gate, say, wait_at_gate

tell_records()


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    say("set-up")
    if os.environ.get("TESTS_START") == "slow":
        schedule_all(current_tasks().task())
        await wait_at_gate("start")
        say("started")
    yield
    say("teardown")


app = FastAPI(lifespan=lifespan)
add_tasks(app, **SETTINGS)


async def work(name: str) -> None:
    """Finish, or clean up in a block that awaits, as the documentation shows it."""
    try:
        say(f"{name} begins")
        await wait_at_gate("finish")
        say(f"{name} finished")
    except BaseException:
        with anyio.CancelScope(shield=True):
            await wait_at_gate("clean-up")
            say(f"{name} cleaned up")
        raise


async def work_plainly(name: str) -> None:
    """Clean up in a block that awaits without a shield: it gets no further than that."""
    try:
        say(f"{name} begins")
        await wait_at_gate("finish")
        say(f"{name} finished")
    finally:
        say(f"{name} cleaned up")
        await anyio.lowlevel.checkpoint()
        say(f"{name} awaited")


async def swallow(name: str) -> None:
    """Go on whatever happens."""
    say(f"{name} begins")
    done = anyio.Event()
    while not done.is_set():
        try:
            with anyio.CancelScope(shield=True):
                await wait_at_gate("swallow")
                done.set()
            await anyio.lowlevel.checkpoint()
        except BaseException:  # noqa: BLE001, S110 - as above
            pass
    say(f"{name} finished")


def work_in_thread(name: str) -> None:
    say(f"{name} begins")
    pass_gate("finish")
    say(f"{name} finished")


def block_thread(name: str) -> None:
    say(f"{name} begins")
    pass_gate("thread")
    say(f"{name} finished")


async def fail(name: str) -> None:
    say(f"{name} begins")
    await wait_at_gate("finish")
    raise ValueError


async def handle(task: Task, error: Exception) -> None:
    await anyio.lowlevel.checkpoint()
    say(f"{task.name} finished")


async def handle_badly(_task: Task, _error: Exception) -> None:
    await anyio.lowlevel.checkpoint()
    raise SystemExit(1)


async def interrupt() -> None:
    await wait_at_gate("interrupt")
    raise KeyboardInterrupt


def schedule(
    batch: PhaseScheduler, name: str, func: Callable[[str], object] = work, **settings: bool
) -> None:
    batch.task(name=name, shield=settings.get("shield")).schedule(func, name)


def schedule_all(batch: PhaseScheduler) -> None:
    schedule(batch, "unshielded")
    schedule(batch, "plain", work_plainly)
    schedule(batch, "shielded", shield=True)
    schedule(batch, "shielded thread", work_in_thread, shield=True)
    handling = batch.task(name="failing", shield=True, on_error=handle)
    handling.schedule(fail, "failing")
    handling = batch.task(name="failing badly", shield=True, on_error=handle_badly)
    handling.schedule(fail, "failing badly")


@app.get("/begin")
async def begin(tasks: Tasks) -> None:
    """With two threads, the last two tasks have none to begin in."""
    schedule_all(tasks.task())
    schedule(tasks.after_route, "shielded after route", shield=True)
    schedule(tasks.after_route, "thread", work_in_thread)
    schedule(tasks.after_response, "shielded after response", shield=True)
    schedule(tasks.after_response, "after response")
    schedule(tasks.after_response, "waiting", work_in_thread)
    schedule(tasks.after_response, "shielded waiting", work_in_thread, shield=True)


@app.get("/stream")
async def stream(tasks: Tasks) -> StreamingResponse:
    async def body() -> AsyncIterator[str]:
        yield "first"
        await wait_at_gate("stream")
        yield "last"

    schedule(tasks.task(), "unshielded")
    schedule(tasks.task(), "shielded", shield=True)
    schedule(tasks.after_route, "shielded after route", shield=True)
    schedule(tasks.after_response, "after response")
    schedule(tasks.after_response, "shielded after response", shield=True)
    return StreamingResponse(body())


@app.get("/hold")
async def hold(tasks: Tasks) -> None:
    schedule(tasks.task(), "unshielded")
    schedule(tasks.task(), "shielded", shield=True)
    schedule(tasks.after_route, "shielded after route", shield=True)
    schedule(tasks.after_response, "after response")
    schedule(tasks.after_response, "shielded after response", shield=True)
    say("holds")
    await wait_at_gate("route")
    say("route returns")


@app.get("/never")
async def never_end(tasks: Tasks) -> None:
    schedule(tasks.task(), "shielded")
    schedule(tasks.task(), "never", shield=True)
    schedule(tasks.task(), "thread", block_thread)
    schedule(tasks.task(), "swallowing", swallow)


@app.get("/interrupt")
async def be_interrupted(tasks: Tasks) -> None:
    schedule(tasks.task(), "unshielded")
    schedule(tasks.task(), "shielded", shield=True)
    tasks.task(name="interrupting").schedule(interrupt)
