"""Run tasks safely: what fails is logged, handled, and does not stop anything else.

No wrapper is needed around a task: the runner logs each failure once, with its traceback (promise
4.2), then calls `on_error` (4.3), which here keeps the last failures for an operator to see. The
other tasks and the response go on (4.1).

    curl -X POST "http://127.0.0.1:8000/notifications/0?message=hi"
    curl http://127.0.0.1:8000/failures
"""

import logging
from collections import deque

from fastapi import FastAPI
from fastapi_tasks import Task, TaskConfig, Tasks, add_tasks

logger = logging.getLogger(__name__)
failures: deque[str] = deque(maxlen=100)


def keep(task: Task, error: Exception) -> None:
    """Keep a failure for the operator."""
    failures.append(f"{task.name}: {error}")


async def send_notification(user_id: int, message: str) -> None:
    """Send a notification."""
    if user_id <= 0:
        raise ValueError(f"there is no user {user_id}")
    logger.info("to user %d: %s", user_id, message)


def clean_up() -> None:
    """Clean up after the notification, whatever became of it."""
    logger.info("cleaned up")


app = FastAPI()
add_tasks(app, config=TaskConfig(on_error=keep), grace_period=10)


@app.post("/notifications/{user_id}", status_code=202)
async def notify(user_id: int, message: str, tasks: Tasks) -> dict[str, str]:
    """Notify a user."""
    tasks.task(name="notification").schedule(send_notification, user_id, message)
    tasks.task(name="clean-up").schedule(clean_up)
    return {"status": "accepted"}


@app.get("/failures")
async def get_failures() -> list[str]:
    """List the last failures."""
    return list(failures)
