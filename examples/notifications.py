"""Write notifications to a log file, from a sync task that runs in a thread (promise 2.1).

The file is NOTIFICATION_LOG, by default `notifications.log` in the current folder. One line of the
route says what to call, with which arguments; wrong ones are a type error, and refused in the route
(2.2).

    curl -X POST http://127.0.0.1:8000/send-notification/ada@example.com
"""

import os
from pathlib import Path

from fastapi import FastAPI
from fastapi_tasks import Tasks, add_tasks

LOG = Path(os.environ.get("NOTIFICATION_LOG", "notifications.log"))

app = FastAPI()
add_tasks(app, grace_period=10)


def write_notification(email: str, message: str = "") -> None:
    """Add a line to the log."""
    with LOG.open("a", encoding="utf-8") as file:
        file.write(f"notification for {email!r}: {message}\n")


@app.post("/send-notification/{email}")
async def send_notification(email: str, tasks: Tasks) -> dict[str, str]:
    """Notify somebody."""
    tasks.after_response.schedule(write_notification, email, message="some notification")
    return {"message": "Notification sent in the background"}
