"""Watch the tasks of orders in a browser: they appear, progress and end, and can be stopped.

An order has tasks in all three phases, and its route takes a moment itself, so that one sees them
wait for it. What shows them is `tasks_core.page`, which any application can mount.

Open http://127.0.0.1:8000 in a browser.
"""

from itertools import count
from pathlib import Path
from typing import Annotated, Literal

import anyio
from anyio import from_thread
from fastapi import FastAPI, HTTPException, Query
from fastapi.responses import FileResponse
from fastapi_tasks import Every, Periodic, Tasks, add_tasks, current_task
from tasks_core.asgi import Scope
from tasks_core.page import TasksPage

app = FastAPI()


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
    """Place an order."""
    number = next(numbers)

    def name(what: str) -> str:
        return f"order {number}: {what}"

    after = tasks.after_response
    reachable = kind != "accepted, and its mail fails"
    tasks.task(name=name("charge"), shield=True).schedule(work, pace, "ask", "wait", "book")
    tasks.after_route.task(name=name("pack")).schedule(
        work_in_a_thread, pace, "find", "wrap", "weigh", "label"
    )
    after.task(name=name("confirm")).schedule(send_mail, pace, reachable=reachable)
    after.task(name=name("refund"), run_on="failure").schedule(work, pace, "ask", "pay")
    await anyio.sleep(2 * pace)
    if kind == "refused":
        raise HTTPException(409, "It is sold out")
    return {"order": number}


async def count_stock() -> None:
    """Run by the clock, and by the page's button."""
    await work(0.5, "count", "compare")


def is_here(scope: Scope) -> bool:
    """Show the tasks to who sits at this machine."""
    client = scope["client"]
    return client is not None and client[0] == "127.0.0.1"


add_tasks(app, shutdown_timeout=3, periodic=[Periodic(count_stock, Every(minutes=5))])
app.mount("/tasks", TasksPage(allow=is_here))


@app.get("/", response_class=FileResponse)
async def show_page() -> Path:
    """Show the buttons for orders, above the page of tasks."""
    return Path(__file__).with_suffix(".html")
