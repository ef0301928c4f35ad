"""Watch the tasks of orders in a browser: they appear, progress and end, and can be stopped.

An order has tasks in all three phases. The page hears of every change by server-sent events, which
say what `Task.record` says.

Open http://127.0.0.1:8000 in a browser. A server that is stopped waits for its open streams: by
uvicorn's option `--timeout-graceful-shutdown 3` for 3 s at most.
"""

from collections.abc import AsyncGenerator
from itertools import count
from pathlib import Path
from typing import Annotated, Literal

import anyio
from anyio import from_thread
from fastapi import FastAPI, HTTPException, Query
from fastapi.responses import FileResponse
from fastapi.sse import EventSourceResponse
from fastapi_tasks import Progress, Task, TaskRecord, Tasks, TaskState, add_tasks, current_task

app = FastAPI()
add_tasks(app, shutdown_timeout=3)


# The order flow.


async def work(pace: float, *steps: str) -> None:
    """Take the steps, and report each."""
    task = current_task()
    for done, step in enumerate(steps):
        task.report(done, total=len(steps), message=step)
        await anyio.sleep(pace)
    task.report(len(steps), message="done")


def work_in_a_thread(pace: float, *steps: str) -> None:
    """Do the same in a sync function. Where it waits like this, it can be stopped."""
    task = current_task()
    for done, step in enumerate(steps):
        task.report(done, total=len(steps), message=step)
        from_thread.run(anyio.sleep, pace)
    task.report(len(steps), message="done")


async def send_mail(pace: float, *, reachable: bool) -> None:
    """Send a mail, where the server can be reached."""
    task = current_task()
    task.report(0, total=2, message="write")
    await anyio.sleep(pace)
    task.report(1, message="connect")
    await anyio.sleep(pace)
    if not reachable:
        raise ConnectionError("the mail server does not answer")
    task.report(2, message="done")


numbers = count(1)
Kind = Literal["accepted", "refused", "accepted, and its mail fails"]
Pace = Annotated[float, Query(ge=0, le=3600, description="seconds a step")]


@app.post("/orders", status_code=202)
async def place_order(tasks: Tasks, kind: Kind = "accepted", pace: Pace = 0.7) -> dict[str, int]:
    """Place an order; this route takes two steps itself, so that one sees tasks wait for it."""
    number = next(numbers)

    def name(what: str) -> str:
        return f"order {number}: {what}"

    after = tasks.after_response
    reachable = kind != "accepted, and its mail fails"
    follow(
        tasks,
        tasks.task(name=name("charge"), shield=True).schedule(work, pace, "ask", "wait", "book"),
        tasks.after_route.task(name=name("pack")).schedule(
            work_in_a_thread, pace, "find", "wrap", "weigh", "label"
        ),
        after.task(name=name("confirm")).schedule(send_mail, pace, reachable=reachable),
        after.task(name=name("refund"), run_on="failure").schedule(work, pace, "ask", "pay"),
    )
    await anyio.sleep(2 * pace)
    if kind == "refused":
        raise HTTPException(409, "It is sold out")
    return {"order": number}


# The stream, of all tasks of the application.


waiting: list[anyio.Event] = []
"""An event of each stream, until the next change."""


def announce_change() -> None:
    """Let the streams look for what has changed."""
    while waiting:
        waiting.pop().set()


async def announce_changes(task: Task) -> None:
    """Announce that there is a task, each report of it, and its end."""
    announce_change()
    async for _ in task.updates():
        announce_change()
    announce_change()


def follow(tasks: Tasks, *followed: Task) -> None:
    """Have the changes of tasks announced."""
    for task in followed:
        tasks.task(name="follow").schedule(announce_changes, task)


@app.get("/events", response_class=EventSourceResponse)
async def stream_events(tasks: Tasks) -> AsyncGenerator[TaskRecord]:
    """Send the record of each task that lives or is remembered, and again when it has changed.

    Whoever is slow gets fewer records, and always the newest.
    """
    sent: dict[str, tuple[TaskState, Progress | None]] = {}
    while True:
        changed = anyio.Event()
        waiting.append(changed)  # first, so that nothing is missed from here on
        for task in (*tasks.registry.ended(), *tasks.registry):
            if task.name == "follow":
                continue
            record = task.record()
            if sent.get(record.id) != (record.state, record.progress):
                sent[record.id] = (record.state, record.progress)
                yield record
        await changed.wait()


@app.post("/tasks/{task_id}/stop", status_code=202)
async def stop(task_id: str, tasks: Tasks) -> dict[str, bool]:
    """Cancel a task, and say whether that surely takes effect."""
    if (task := tasks.get(task_id)) is None:
        raise HTTPException(404, "There is no such task")
    return {"cancelled": task.cancel()}


@app.get("/", response_class=FileResponse)
async def show_page() -> Path:
    """Show the page."""
    return Path(__file__).with_suffix(".html")
