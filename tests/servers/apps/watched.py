"""An application with the page of tasks, whose stream ends as soon as the test wants."""

import os

import anyio
from fastapi import FastAPI
from fastapi_tasks import Every, Periodic, TaskConfig, Tasks, add_tasks
from tasks_core import page

from tests.servers.apps.wire import say

page.STREAM_FOR = float(os.environ.get("TESTS_STREAM_FOR", "5"))  # type: ignore[misc]


async def endless() -> None:
    try:
        await anyio.sleep_forever()
    finally:
        say("cancelled")


app = FastAPI()
clock = Periodic(endless, Every(days=1), TaskConfig(name=os.environ.get("TESTS_NAME")))
add_tasks(app, periodic=[clock])
app.mount("/tasks", page.TasksPage(allow=lambda _scope: True))


@app.post("/start")
async def start(name: str, tasks: Tasks) -> str:
    return tasks.task(name=name).schedule(endless).id
