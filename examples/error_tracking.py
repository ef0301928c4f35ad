"""Report the failures of all tasks to Sentry, by one setting of the application.

The error handler given to `add_tasks` is every task's, unless it has its own (promise 3.3). Set
SENTRY_DSN to report; without it failures are logged only.

    curl -X POST http://127.0.0.1:8000/reports/0
"""

import os

import sentry_sdk
from fastapi import FastAPI
from fastapi_tasks import Task, TaskConfig, Tasks, add_tasks
from sentry_sdk.integrations.logging import ignore_logger

if dsn := os.environ.get("SENTRY_DSN"):
    sentry_sdk.init(dsn)
# The runner logs each failure (promise 4.2), and Sentry reports what is logged as an error: without
# this line it would report that, and take our report, which says more, for a duplicate.
ignore_logger("tasks_core")


def report(task: Task, error: Exception) -> None:
    """Report a failure, with its task; not with the arguments, which may hold secrets."""
    with sentry_sdk.new_scope() as scope:
        scope.set_tag("task", task.name)
        scope.set_context("task", {"id": task.id, "phase": str(task.phase)})
        scope.capture_exception(error)


async def make_report(rows: int) -> float:
    """Make a report; without rows this fails."""
    return 100 / rows


async def notify(rows: int) -> None:
    """Say that there will be a report."""


# All tasks: failures go to Sentry, and a shutdown does not wait. A task may say otherwise.
app = FastAPI()
add_tasks(app, config=TaskConfig(on_error=report, shield=False))


@app.post("/reports/{rows}", status_code=202)
async def create_report(rows: int, tasks: Tasks) -> dict[str, str]:
    """Begin a report."""
    tasks.task(name="report", shield=True).schedule(make_report, rows)
    tasks.after_response.schedule(notify, rows)
    return {"status": "begun"}
