"""A dependency that audits: what a user has done, or has tried in vain.

The auditor is a dependency that depends on the tasks. It schedules two entries for each action, and
the outcome of the request decides which of them is written, after the response. An entry that
cannot be written goes to the log.

    curl -X DELETE http://127.0.0.1:8000/users/7 -H "X-User: 1"
    curl -X DELETE http://127.0.0.1:8000/users/7 -H "X-User: 1"
    curl http://127.0.0.1:8000/audit-log
"""

import logging
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi_tasks import Task, Tasks, add_tasks

logger = logging.getLogger(__name__)


def connect() -> closing[sqlite3.Connection]:
    """Connect to the database, which is there while the application runs."""
    return closing(sqlite3.connect(app.state.database))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Make a database with three users, and remove it."""
    with TemporaryDirectory() as folder:
        app.state.database = Path(folder, "users.sqlite")
        with connect() as db, db:
            db.execute("CREATE TABLE users (id INTEGER PRIMARY KEY)")
            db.execute("CREATE TABLE audit_log (action TEXT, user_id INTEGER)")
            db.executemany("INSERT INTO users VALUES (?)", [(1,), (7,), (8,)])
        yield


app = FastAPI(lifespan=lifespan)
add_tasks(app)


def audit_log(action: str, user_id: int) -> None:
    """Write an entry."""
    with connect() as db, db:
        db.execute("INSERT INTO audit_log (action, user_id) VALUES (?, ?)", (action, user_id))


def keep_in_log(task: Task, error: Exception) -> None:
    """Lose no entry: log what the database would not take."""
    logger.critical("audit entry not written: %r by user %d (%s)", *task.args, error)


CurrentUser = Annotated[int, Header(alias="X-User")]
"""Stands for an authenticated user."""


def get_auditor(tasks: Tasks, user: CurrentUser) -> Callable[[str], None]:
    """Return what audits an action of the current user."""
    # Shielded, so that a shutdown does not come between an action and its entry.
    done = tasks.after_response.task(name="audit", shield=True, on_error=keep_in_log)
    in_vain = done.task(run_on="failure")

    def audit(action: str) -> None:
        done.schedule(audit_log, action, user)
        in_vain.schedule(audit_log, f"{action}: failed", user)

    return audit


Auditor = Annotated[Callable[[str], None], Depends(get_auditor)]


@app.delete("/users/{user_id}")
def delete_user(user_id: int, audit: Auditor) -> dict[str, int]:
    """Delete a user, and audit that, whether there was one or not."""
    audit(f"delete user {user_id}")
    with connect() as db, db:
        if not db.execute("DELETE FROM users WHERE id = ?", (user_id,)).rowcount:
            raise HTTPException(404, f"There is no user {user_id}")
    return {"deleted": user_id}


@app.get("/audit-log")
def read_audit_log() -> list[tuple[str, int]]:
    """Return what was audited, the first entry first."""
    with connect() as db:
        return db.execute("SELECT action, user_id FROM audit_log ORDER BY rowid").fetchall()
