"""A route whose tasks are still at work, or have not begun, when the server is told to stop."""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from fastapi import FastAPI
from fastapi_tasks import RunnerClosedError, Tasks, TasksScheduler, add_tasks, current_tasks

from tests.servers.apps.wire import pass_gate, say, wait_at_gate

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    say("set-up")
    tasks = current_tasks()
    yield
    say("teardown")
    try:
        tasks.schedule(say, "too late")
    except RunnerClosedError:
        say("refused")


app = FastAPI(lifespan=lifespan)
add_tasks(app, thread_limit=1)


async def unshielded() -> None:
    try:
        say("unshielded begins")
        await anyio.sleep_forever()
    finally:
        say("unshielded is cancelled")
        with anyio.CancelScope(shield=True):
            await wait_at_gate("clean-up")
            say("unshielded ends")


async def shielded(name: str, tasks: TasksScheduler) -> None:
    say(f"{name} begins")
    await wait_at_gate("finish")
    tasks.task(shield=True).schedule(say, f"child of {name} ends")
    say(f"{name} ends")


def shielded_sync(name: str) -> None:
    say(f"{name} begins")
    pass_gate("finish")
    say(f"{name} ends")


@app.get("/")
async def start(tasks: Tasks) -> str:
    tasks.task(name="unshielded").schedule(unshielded)
    shielding = tasks.task(shield=True)
    shielding.schedule(shielded, "immediate", tasks)
    shielding.schedule(shielded_sync, "sync")
    shielding.schedule(shielded_sync, "waiting")
    tasks.after_route.task(shield=True).schedule(shielded, "after_route", tasks)
    tasks.after_response.task(shield=True).schedule(shielded, "after_response", tasks)
    return "started"
