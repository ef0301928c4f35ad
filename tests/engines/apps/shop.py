"""A shop that hands work over: the same routes, whatever the engine."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Literal

import anyio
from fastapi import Depends, FastAPI, HTTPException
from fastapi_tasks import Carrier, HandOverError, Task, Tasks, TaskStatus, add_tasks
from pydantic import BaseModel

from tests.engines.apps.wire import pass_gate
from tests.servers.apps.package import tell_records
from tests.servers.apps.wire import say, wait_at_gate

REDIS = os.environ.get("TESTS_REDIS", "")
IN_PROCESS = os.environ.get("TESTS_MODE") == "in process"
TIMEOUT = float(os.environ.get("TESTS_TIMEOUT", "60"))
SOCKET_TIMEOUT, CONNECT_TIMEOUT = (2, 1) if "TESTS_TIMEOUT" in os.environ else (60, 60)
"""Short, as the documentation recommends, where a test is about a Redis that hangs."""
AGAIN = 20 if os.environ.get("TESTS_AGAIN") else 0
"""How often what was not confirmed is handed over again."""
EXPIRES = int(os.environ.get("TESTS_EXPIRES", "3600"))
"""Seconds that a result is kept."""

tell_records()


def work(order: int) -> str:
    """Be what `invoice` does, in whatever process."""
    say_from_worker(f"invoice {order} runs")
    return f"invoice {order}"


def hold(order: int) -> str:
    """Be what `hold` does: begin, and wait for the test."""
    pass_gate(f"go {order}", f"{order} holds in {os.getpid()}")
    return f"held {order}"


def refuse(order: int) -> None:
    """Be what `refuse` does."""
    msg = f"order {order} was refused"
    raise ValueError(msg)


def say_from_worker(what: str) -> None:
    """Tell the test, and in which process this is."""
    from tests.engines.apps.wire import say  # noqa: PLC0415 - not the web process's

    say(f"{what} in {os.getpid()}")


class Placed(BaseModel):
    """The answer of who takes an order."""

    task_id: str
    pid: int


class Seen(BaseModel):
    """The answer of who is asked what has become of it."""

    status: TaskStatus
    pid: int


Phase = Literal["immediate", "after_route", "after_response"]
Function = Callable[[int], Any]


async def open_session() -> AsyncGenerator[None]:
    """Commit when the response is out; or wait before that, if the test wants it."""
    yield
    if os.environ.get("TESTS_SESSION") == "slow":
        say("commits")
        await wait_at_gate("commit")


def make_app(  # noqa: C901 - it is its routes
    functions: dict[str, Function],
    carriers: Sequence[Carrier],
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None,
) -> FastAPI:
    app = FastAPI(lifespan=lifespan)
    add_tasks(app, carriers=[] if IN_PROCESS else carriers)

    async def heard(task: Task, error: Exception) -> None:
        for _ in range(AGAIN):
            await anyio.sleep(0.2)
            with suppress(HandOverError):
                await task()
                return
        say(f"not confirmed: {task.args[0]}")

    @app.post(
        "/orders/{order}", status_code=202, dependencies=[Depends(open_session, scope="request")]
    )
    async def place(
        order: int,
        tasks: Tasks,
        what: str = "invoice",
        phase: Phase = "after_response",
        *,
        confirm: bool = False,
    ) -> Placed:
        batches = {"after_route": tasks.after_route, "after_response": tasks.after_response}
        batch = batches.get(phase, tasks.task()).task(on_error=heard)
        if confirm:
            batch = batch.task(confirm=True)
        task = batch.schedule(functions[what], order)
        return Placed(task_id=task.id, pid=os.getpid())

    @app.post("/orders/{order}/refused")
    async def refuse_order(order: int, tasks: Tasks) -> None:
        tasks.after_route.schedule(functions["invoice"], order)
        tasks.after_response.schedule(functions["invoice"], order)
        raise HTTPException(409)

    @app.post("/wrong/{how}", status_code=202)
    async def wrong(how: str, tasks: Tasks) -> None:
        invoice: Any = functions["invoice"]
        try:
            tasks.after_response.schedule(invoice, *([] if how == "arity" else [open]))
        except TypeError as error:
            raise HTTPException(422, str(error)) from error

    @app.post("/burst/{order}", status_code=202)
    async def burst(order: int, tasks: Tasks) -> None:
        handing = tasks.after_route.task(on_error=heard)
        handing.schedule(functions["invoice"], order)
        tasks.after_response.task(on_error=heard).schedule(functions["invoice"], order + 1)
        tasks.after_response.schedule(say, f"in process {order}")

    @app.get("/tasks/{task_id}")
    async def status(task_id: str, tasks: Tasks) -> Seen:
        found = await tasks.status(task_id)
        if found is None:
            raise HTTPException(404)
        return Seen(status=found, pid=os.getpid())

    @app.get("/begun/{task_id}")
    async def begun(task_id: str, tasks: Tasks) -> None:
        task = tasks.get(task_id)
        if task is not None:
            await task.started.wait()

    @app.get("/ping")
    async def ping() -> str:
        return "pong"

    @app.get("/pid")
    async def pid() -> int:
        return os.getpid()

    @app.get("/sync")
    def in_thread() -> str:
        return "pong"

    return app
