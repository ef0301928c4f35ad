"""Give a task the services that FastAPI injects into the route.

The route passes them on as arguments, which the type checkers compare with the task's parameters
(promise 3.4). Such services must outlive the request: these live as long as the application, which
closes them once tasks have ended (5.1). Tests replace them by `app.dependency_overrides`.

    curl -X POST "http://127.0.0.1:8000/users/7/actions?action=login"
    curl http://127.0.0.1:8000/users/7/actions
"""

import logging
import os
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi_tasks import Tasks, add_tasks

logger = logging.getLogger(__name__)


class EmailService:
    """Sends e-mail; `examples/mail` shows how to."""

    def send(self, to: str, subject: str) -> None:
        """Send one."""
        logger.info("to %s: %s", to, subject)


class ActivityService:
    """Keeps in a database what users have done."""

    def __init__(self, path: str) -> None:
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("CREATE TABLE IF NOT EXISTS actions (user_id INTEGER, action TEXT)")

    def log(self, user_id: int, action: str) -> None:
        """Add an action."""
        self._database.execute("INSERT INTO actions VALUES (?, ?)", (user_id, action))

    def of(self, user_id: int) -> list[str]:
        """Return a user's actions."""
        rows = self._database.execute("SELECT action FROM actions WHERE user_id = ?", (user_id,))
        return [action for (action,) in rows]

    def close(self) -> None:
        """Close the database."""
        self._database.close()


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[dict[str, object]]:
    """Open the services, and close them."""
    path = os.environ.get("SERVICES_DATABASE", ":memory:")
    with closing(ActivityService(path)) as activities:
        yield {"email": EmailService(), "activities": activities}


def get_email(request: Request) -> EmailService:
    """Provide the e-mail service."""
    service: EmailService = request.state.email
    return service


def get_activities(request: Request) -> ActivityService:
    """Provide the activity service."""
    service: ActivityService = request.state.activities
    return service


Email = Annotated[EmailService, Depends(get_email)]
Activities = Annotated[ActivityService, Depends(get_activities)]
app = FastAPI(lifespan=lifespan)
add_tasks(app, grace_period=10)


def notify(user_id: int, action: str, email: EmailService, activities: ActivityService) -> None:
    """Log an action, and tell the user of it: the task."""
    activities.log(user_id, action)
    email.send(f"user{user_id}@example.com", f"You did: {action}")


@app.post("/users/{user_id}/actions", status_code=202)
async def act(
    user_id: int, action: str, email: Email, activities: Activities, tasks: Tasks
) -> dict[str, str]:
    """Do something."""
    tasks.after_response.schedule(notify, user_id, action, email, activities)
    return {"action": action}


@app.get("/users/{user_id}/actions")
def actions(user_id: int, activities: Activities) -> list[str]:
    """List what a user has done."""
    return activities.of(user_id)
