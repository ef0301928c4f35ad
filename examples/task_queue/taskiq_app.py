"""The same queue of tasks in Redis, by Taskiq.

This starts a redis-server and a worker, too; with REDIS_URL, only a worker. Where there is no
redis-server, tasks run in this process.

    curl -X POST "http://127.0.0.1:8000/tasks?kind=report" --json '{"month": 5}'
    curl http://127.0.0.1:8000/tasks/ID
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi_tasks import Tasks, TaskStatus, add_tasks
from taskiq import AsyncBroker, InMemoryBroker
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker
from tasks_core.carriers.taskiq import TaskiqCarrier

from examples import nearby
from examples.task_queue.work import Kind, process


def make_broker() -> AsyncBroker:
    """Return a broker in Redis, or one that nobody sends anything to."""
    if not nearby.REDIS:
        return InMemoryBroker()
    # "0": what was sent before the first worker came is not lost.
    broker = RedisStreamBroker(nearby.REDIS, consumer_id="0", maxlen=100_000)
    return broker.with_result_backend(RedisAsyncResultBackend(nearby.REDIS, result_ex_time=3600))


broker = make_broker()


@broker.task("examples.process_task")
async def process_task(kind: Kind, payload: dict[str, Any]) -> dict[str, Any]:
    """Do the work, in whatever process."""
    return await process(kind, payload)


WORKER = ("taskiq", "worker", "examples.task_queue.taskiq_app:broker", "--workers", "1")


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    """Have a worker as long as the application is up."""
    with nearby.start(*WORKER):
        await broker.startup()
        yield
        await broker.shutdown()


app = FastAPI(lifespan=lifespan)
add_tasks(app, carriers=[TaskiqCarrier(broker)] if nearby.REDIS else [])


@app.post("/tasks", status_code=202)
async def create_task(kind: Kind, payload: dict[str, Any], tasks: Tasks) -> dict[str, str]:
    """Answer when the queue has it: nothing that was answered with 202 is lost."""
    task = tasks.after_route.task(confirm=True).schedule(process_task, kind, payload)
    return {"task_id": task.id}


@app.get("/tasks/{task_id}")
async def get_task(task_id: str, tasks: Tasks) -> TaskStatus:
    """Return what has become of it, wherever it runs."""
    if (status := await tasks.status(task_id)) is None:
        raise HTTPException(404, "There is no such task")
    return status
