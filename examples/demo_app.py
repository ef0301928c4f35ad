"""A FastAPI application whose background tasks can be watched; `demo.py` starts it and looks on.

The routes are plain. What is for the demo only is what notes the moments: `note`, `noted`, `plan`
and `Watch`; without the environment variable `DEMO_NOTES` they note nothing.
"""

import json
import logging
import os
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, ParamSpec

import anyio
import anyio.from_thread
from fastapi import Depends, FastAPI, HTTPException
from fastapi_tasks import PhaseScheduler, Task, Tasks, TasksScheduler, add_tasks, current_task
from starlette.types import ASGIApp, Message, Receive, Scope, Send

P = ParamSpec("P")


# What notes the moments.


@dataclass
class Watched:
    """The request that is being served."""

    path: str
    answered: anyio.Event = field(default_factory=anyio.Event)
    tasks: list[Task] = field(default_factory=list[Task])


_watched: ContextVar[Watched] = ContextVar("watched")
_one_line = Lock()


def _connect() -> socket.socket | None:
    host, _, port = os.environ.get("DEMO_NOTES", "").partition(":")
    return socket.create_connection((host, int(port)), timeout=5) if port else None


_demo = _connect()


def note(who: str, what: str, **facts: object) -> None:
    """Tell the demo what has happened, and when."""
    if _demo is not None:
        watched = _watched.get(None)
        request = watched.path if watched else ""
        at = time.monotonic_ns()
        line = json.dumps({"at": at, "request": request, "who": who, "what": what, **facts})
        with _one_line:
            _demo.sendall(line.encode() + b"\n")


@contextmanager
def noted() -> Generator[None]:
    """Note how the current task begins and how it ends."""
    name = current_task().name
    note(name, "began")
    try:
        yield
    except Exception:
        note(name, "failed")
        raise
    except BaseException:
        note(name, "cancelled")
        raise
    note(name, "ended")


def plan(
    batch: PhaseScheduler, func: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs
) -> None:
    """Do `batch.schedule(func, ...)`, and note it."""
    note(str(batch.config.name), "scheduled", phase=str(batch.phase))
    _watched.get().tasks.append(batch.schedule(func, *args, **kwargs))


def hold_until_the_client_has_all() -> None:
    """Hold the event loop, which can send nothing more meanwhile, until the client has the body.

    That it gets there at all proves that everything had been sent before.
    """
    if _demo is not None:
        note(current_task().name, "holds")
        try:
            _demo.recv(1)
        except TimeoutError:
            return
        note(current_task().name, "the client has all")


class NoteLogs(logging.Handler):
    """Notes what the tasks' logger says."""

    def emit(self, record: logging.LogRecord) -> None:
        note(
            str(getattr(record, "task_name", "runner")),
            f"logged {record.levelname}",
            message=record.getMessage(),
            traceback=record.exc_info is not None,
        )


logging.basicConfig(format="%(levelname)s:     %(name)s: %(message)s")
logging.getLogger("tasks_core").setLevel(logging.DEBUG)
logging.getLogger("tasks_core").addHandler(NoteLogs())


class Watch:
    """Notes what passes between the application and the server, so it is around all of it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        watched = Watched(scope["path"])
        _watched.set(watched)

        async def noting_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                for task in watched.tasks:
                    note(task.name, "as the response starts", state=str(task.state))
                note("response", "began")
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                note("response", "ended")
                watched.answered.set()

        await self.app(scope, receive, noting_send)


# The tasks.


async def work(seconds: float) -> None:
    """Stand for real work, which ends after the response has been sent."""
    with noted():
        await anyio.sleep(seconds)
        await _answered()


def work_in_a_thread(seconds: float) -> None:
    """Do the same, in a sync function."""
    with noted():
        time.sleep(seconds)
        anyio.from_thread.run(_answered)


async def _answered() -> None:
    with anyio.move_on_after(2):
        await _watched.get().answered.wait()


async def work_that_holds(seconds: float) -> None:
    """Work, once the client says that it has the whole body."""
    with noted():
        hold_until_the_client_has_all()
        await anyio.sleep(seconds)


async def fail(seconds: float) -> None:
    """Work, in vain."""
    with noted():
        await anyio.sleep(seconds)
        raise ConnectionError("the mail server hung up")


async def on_error(task: Task, _error: Exception) -> None:
    """Handle a task's failure."""
    note(task.name, "handler began")
    await anyio.sleep(0.02)
    note(task.name, "handler ended")


async def work_until_cancelled(shutdown: anyio.Event) -> None:
    """Work for ever; clean up when the shutdown comes."""
    with noted():
        try:
            await anyio.sleep_forever()
        finally:
            note(current_task().name, "cleans up")
            shutdown.set()
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)


async def finish(shutdown: anyio.Event, seconds: float) -> None:
    """Be at work when the shutdown comes, and need a while longer."""
    with noted():
        await shutdown.wait()
        await anyio.sleep(seconds)


def finish_in_a_thread(shutdown: anyio.Event, seconds: float) -> None:
    """Do the same, in a sync function."""
    with noted():
        anyio.from_thread.run(shutdown.wait)
        time.sleep(seconds)


# The application.


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    """Open what the application needs, and close it."""
    yield
    note("lifespan", "closes resources")


api = FastAPI(lifespan=lifespan)
add_tasks(api, thread_limit=3)
app = Watch(api)


async def open_session() -> AsyncIterator[None]:
    """Commit when the request is over."""
    note("dependency, scope request", "began")
    yield
    note("dependency, scope request", "ended")


async def open_file() -> AsyncIterator[None]:
    """Close when the route has returned."""
    note("dependency, scope function", "began")
    yield
    note("dependency, scope function", "ended")


both_scopes: list[Any] = [Depends(open_session), Depends(open_file, scope="function")]


@contextmanager
def noted_route() -> Generator[None]:
    """Note how long the route runs."""
    note("route", "began")
    try:
        yield
    finally:
        note("route", "ended")


def plan_in_all_phases(tasks: TasksScheduler) -> None:
    """Schedule an async and a sync task in each phase."""
    plan(tasks.task(name="now, async"), work, 0.05)
    plan(tasks.task(name="now, sync"), work_in_a_thread, 0.04)
    plan(tasks.after_route.task(name="after route, async"), work, 0.05)
    plan(tasks.after_route.task(name="after route, sync"), work_in_a_thread, 0.04)
    plan(tasks.after_response.task(name="after response, async"), work_that_holds, 0.05)
    plan(tasks.after_response.task(name="after response, sync"), work_in_a_thread, 0.04)


@api.get("/phases/async", dependencies=both_scopes)
async def phases_async(tasks: Tasks) -> dict[str, str]:
    """Schedule in all three phases, from a route that never awaits."""
    with noted_route():
        plan_in_all_phases(tasks)
    return {"hello": "from an async route"}


@api.get("/phases/sync", dependencies=both_scopes)
def phases_sync(tasks: Tasks) -> dict[str, str]:
    """Do the same, from a sync route."""
    with noted_route():
        plan_in_all_phases(tasks)
    return {"hello": "from a sync route"}


@api.get("/mail")
async def mail(tasks: Tasks) -> dict[str, str]:
    """Schedule three tasks, of which one fails."""
    with noted_route():
        batch = tasks.after_route
        plan(batch.task(name="count"), work, 0.05)
        plan(batch.task(name="send mail", on_error=on_error), fail, 0.02)
        plan(batch.task(name="index"), work, 0.06)
    return {"hello": "mail is on its way"}


@api.get("/orders/{number}")
async def order(number: int, tasks: Tasks) -> dict[str, str]:
    """Find no such order."""
    with noted_route():
        plan(tasks.task(name="count"), work, 0.05)
        plan(tasks.after_route.task(name="reserve"), work, 0.05)
        plan(tasks.after_response.task(name="confirm"), work, 0.05)
        plan(tasks.after_response.task(name="on failure", run_on="failure"), work, 0.03)
        plan(tasks.after_response.task(name="always", run_on="always"), work, 0.03)
        raise HTTPException(404, f"There is no order {number}.")


@api.get("/long")
async def long(tasks: Tasks) -> dict[str, str]:
    """Schedule tasks that are still at work when the server is told to stop."""
    shutdown = anyio.Event()
    with noted_route():
        plan(tasks.task(name="unshielded"), work_until_cancelled, shutdown)
        plan(tasks.task(name="shielded, async", shield=True), finish, shutdown, 0.06)
        for number in (1, 2, 3, 4):  # one more than there are threads
            name = f"shielded, sync {number}"
            plan(tasks.task(name=name, shield=True), finish_in_a_thread, shutdown, 0.02)
    return {"hello": "now stop the server"}
