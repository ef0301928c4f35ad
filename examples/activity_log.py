"""Log what users do in a database, after their request has been committed.

The request's session commits at the exit of its dependency. A task of the phase after the response
sees that (promise 1.3); it has a session of its own, as the request's is closed by then. If the
request fails, be it at the commit, the task does not run (1.6).

    curl -X POST "http://127.0.0.1:8000/users/7/posts?title=Hello"
    curl http://127.0.0.1:8000/activities
"""

import os
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi_tasks import Tasks, add_tasks
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///activity.db"))


class Base(DeclarativeBase):
    """The tables."""


class Post(Base):
    """What a user has written."""

    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int]
    title: Mapped[str]


class Activity(Base):
    """What a user has done."""

    __tablename__ = "activities"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    at: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC))


def open_session() -> Generator[Session]:
    """Open a session for a request; commit when the request is over, roll back when it fails."""
    with Session(engine) as session, session.begin():
        yield session


def log_activity(post_id: int) -> None:
    """Log that a post was written."""
    with Session(engine) as session, session.begin():
        post = session.get_one(Post, post_id)  # raises if it has not been committed
        session.add(Activity(text=f"user {post.user_id} wrote {post.title!r}"))


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    """Create the tables; close the database once tasks have ended (promise 5.1)."""
    Base.metadata.create_all(engine)
    try:
        yield
    finally:
        engine.dispose()


app = FastAPI(lifespan=lifespan)
add_tasks(app, grace_period=10)
RequestSession = Annotated[Session, Depends(open_session)]


@app.post("/users/{user_id}/posts", status_code=201)
def write_post(user_id: int, title: str, session: RequestSession, tasks: Tasks) -> dict[str, int]:
    """Write a post."""
    post = Post(user_id=user_id, title=title)
    session.add(post)
    session.flush()  # gives it its id
    tasks.after_response.schedule(log_activity, post.id)
    return {"id": post.id}


@app.get("/activities")
def activities(session: RequestSession) -> Sequence[str]:
    """List what users have done."""
    return session.scalars(select(Activity.text).order_by(Activity.id)).all()
