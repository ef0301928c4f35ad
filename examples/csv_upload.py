r"""Upload a CSV file, process it in the background, follow that and stop it.

The file is removed at the end, however it comes: after success, an error, a stop, a request that
failed, or a shutdown.

    printf 'name,amount\ntea,3.50\nmilk,1.20\n' > prices.csv
    curl -F file=@prices.csv http://127.0.0.1:8000/upload-csv/7
    curl http://127.0.0.1:8000/imports/ID
    curl -X DELETE http://127.0.0.1:8000/imports/ID
"""

import csv
import logging
import os
import shutil
import tempfile
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import anyio
from anyio.from_thread import check_cancelled
from fastapi import FastAPI, HTTPException, UploadFile
from fastapi_tasks import Task, TaskRecord, Tasks, add_tasks, current_task

logger = logging.getLogger(__name__)
amounts: dict[int, Decimal] = {}
"""What was imported for each user: stands for a database."""

app = FastAPI()
add_tasks(app)


def process_csv_row(row: dict[str, str], user_id: int) -> None:
    """Add the row's amount to the user's."""
    amounts[user_id] = amounts.get(user_id, Decimal(0)) + Decimal(row["amount"])


def process_csv_file(path: Path, user_id: int) -> int:
    """Process all rows, in a thread; return how many there were."""
    task = current_task()
    with path.open(newline="", encoding="utf-8") as file:
        total = sum(1 for _ in csv.DictReader(file))
        task.report(0, total=total)
        file.seek(0)
        for number, row in enumerate(csv.DictReader(file), start=1):
            check_cancelled()
            process_csv_row(row, user_id)
            task.report(number)
    notify_user(user_id, f"{total} rows were imported")
    return total


async def remove_file(path: Path, task: Task) -> None:
    """Remove the file when the task that reads it is over, also if that never began."""
    with suppress(Exception):  # the task's own, which was logged
        await task.wait()
    await anyio.Path(path).unlink()


def notify_user(user_id: int, message: str) -> None:
    """Stand for a message to the user."""
    logger.info("user %d: %s", user_id, message)


def notify_user_error(task: Task, error: Exception) -> None:
    """Tell the user that the import has failed."""
    _, user_id = task.args
    notify_user(user_id, f"the import has failed: {error!r}")


@app.post("/upload-csv/{user_id}", status_code=202)
def upload_csv(user_id: int, file: UploadFile, tasks: Tasks) -> dict[str, str]:
    """Store the file and have it processed."""
    descriptor, name = tempfile.mkstemp(prefix="upload-", suffix=".csv")
    path = Path(name)
    # Scheduled before the file is written: if that fails, the request has failed, the import is
    # skipped, and the file is removed all the same.
    batch = tasks.after_response.task(name=f"import of user {user_id}", on_error=notify_user_error)
    task = batch.schedule(process_csv_file, path, user_id)
    clean_up = tasks.after_response.task(name="clean-up", shield=True, run_on="always")
    clean_up.schedule(remove_file, path, task)
    with os.fdopen(descriptor, "wb") as stored:
        shutil.copyfileobj(file.file, stored)
    return {"status_url": f"/imports/{task.id}"}


def find(task_id: str, tasks: Tasks) -> Task:
    """Return the import of an id."""
    if (task := tasks.get(task_id)) is None:
        raise HTTPException(404, "There is no such import")
    return task


@app.get("/imports/{task_id}")
async def get_status(task_id: str, tasks: Tasks) -> TaskRecord:
    """Return the state of an import and how many rows are done."""
    return find(task_id, tasks).record()


@app.delete("/imports/{task_id}", status_code=202)
async def stop(task_id: str, tasks: Tasks) -> TaskRecord:
    """Stop an import after the present row; what was imported stays."""
    task = find(task_id, tasks)
    task.cancel()
    return task.record()
