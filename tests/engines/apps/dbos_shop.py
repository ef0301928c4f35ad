"""The recipe of docs/outgrowing.md: durable in one file, on DBOS, with no carrier and no server."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import uuid4

from dbos import DBOS, SetWorkflowID
from fastapi import FastAPI, HTTPException
from fastapi_tasks import Tasks, add_tasks

from tests.engines.apps.wire import pass_gate
from tests.servers.apps.wire import say


@DBOS.step()
def charge(order: int) -> None:
    """Be done before the process is killed."""
    say(f"{order} charged")


@DBOS.step()
def ship(order: int) -> str:
    """Be in the midst when the process is killed."""
    pass_gate(f"go {order}", f"{order} ships in {os.getpid()}")
    return f"shipped {order}"


@DBOS.workflow()
def fulfil(order: int) -> str:
    """Do both."""
    charge(order)
    return ship(order)


def start(workflow_id: str, order: int) -> None:
    with SetWorkflowID(workflow_id):
        DBOS.start_workflow(fulfil, order)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    DBOS(
        config={
            "name": "shop",
            "system_database_url": f"sqlite:///{os.environ['TESTS_FILE']}",
            "application_version": "1",
            "executor_id": "one",
        }
    )
    DBOS.launch()
    yield
    DBOS.destroy()


app = FastAPI(lifespan=lifespan)
add_tasks(app)


@app.post("/orders/{order}", status_code=202)
async def place(order: int, tasks: Tasks) -> str:
    workflow_id = uuid4().hex
    tasks.after_route.schedule(start, workflow_id, order)
    return workflow_id


@app.get("/tasks/{workflow_id}")
async def status(workflow_id: str) -> str:
    if (found := await DBOS.get_workflow_status_async(workflow_id)) is None:
        raise HTTPException(404)
    return found.status
