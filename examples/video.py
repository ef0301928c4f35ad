"""Process videos on Celery: started by a request, followed by the id from any process.

The call is the one that runs here where there is no carrier, and so is the question for its status.
This starts a redis-server and a worker, too; with REDIS_URL, only a worker. Where there is no
redis-server, tasks run in this process.

    curl -X POST http://127.0.0.1:8000/videos/7/process
    curl http://127.0.0.1:8000/tasks/ID
"""

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from celery import Celery, shared_task
from fastapi import FastAPI, HTTPException
from fastapi_tasks import Tasks, TaskStatus, add_tasks
from tasks_core.carriers.celery import CeleryCarrier

from examples import nearby

celery = Celery("video", broker=nearby.REDIS or "memory://", backend=nearby.REDIS or None)
celery.conf.update(task_track_started=True, task_acks_late=True, task_reject_on_worker_lost=True)
celery.set_default()


def transcode(video_id: int) -> str:
    """Stand for what takes its time."""
    time.sleep(0.5)
    return f"video-{video_id}.webm"


@shared_task
def process_video(video_id: int) -> dict[str, str]:
    """Do the work, in whatever process."""
    return {"file": transcode(video_id)}


WORKER = ("celery", "-A", "examples.video:celery", "worker", "--concurrency", "1")


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    """Have a worker as long as the application is up."""
    with nearby.start(*WORKER):
        yield


app = FastAPI(lifespan=lifespan)
add_tasks(app, carriers=[CeleryCarrier(celery)] if nearby.REDIS else [])


@app.post("/videos/{video_id}/process", status_code=202)
async def start_processing(video_id: int, tasks: Tasks) -> dict[str, str]:
    """Hand it over once the response is out."""
    task = tasks.after_response.schedule(process_video, video_id)
    return {"task_id": task.id}


@app.get("/tasks/{task_id}")
async def get_task_status(task_id: str, tasks: Tasks) -> TaskStatus:
    """Return what has become of it, wherever it runs."""
    if (status := await tasks.status(task_id)) is None:
        raise HTTPException(404, "There is no such task")
    return status
