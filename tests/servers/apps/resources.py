"""A database that the lifespan opens, and sessions that commit when their dependency closes."""

import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import anyio
from fastapi import Depends, FastAPI
from fastapi.exceptions import FastAPIError
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from tests.servers.apps.package import (
    SETTINGS,
    Phase,
    Tasks,
    add_tasks,
    batch_of,
    current_tasks,
    tell_records,
)
from tests.servers.apps.wire import say, wait_at_gate

tell_records()

ENGINES: list[AsyncEngine] = []


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    path = Path(os.environ["TESTS_FOLDER"]) / f"{uuid4().hex}.db"
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    async with engine.begin() as connection:
        await connection.execute(text("create table rows (id text primary key)"))
    ENGINES[:] = [engine]
    say("pool opened")
    yield
    await engine.dispose()
    # SQLAlchemy would open the pool again for who comes later.
    event.listen(engine.sync_engine, "engine_connect", refuse)
    say("pool closed")


def refuse(_: object) -> None:
    raise ConnectionError("the pool is closed")


app = FastAPI(lifespan=lifespan)
add_tasks(app, **SETTINGS)
numbers = count(1)


async def look(row: str, phase: str) -> None:
    """Tell whether a row is there for others to see."""
    say(f"{phase} begins")
    async with ENGINES[0].connect() as connection:
        found = (await connection.execute(text(f"select 1 from rows where id = '{row}'"))).all()  # noqa: S608
    say(f"{phase} sees {'the row' if found else 'nothing'}")


async def insert(session: AsyncSession, row: str) -> None:
    await session.execute(text("insert into rows values (:id)"), {"id": row})


async def open_session() -> AsyncIterator[AsyncSession]:
    async with AsyncSession(ENGINES[0]) as session:
        yield session
        await session.commit()
        say("committed")


async def open_failing_session() -> AsyncIterator[AsyncSession]:
    """A constraint that the database only checks when it commits would do the same."""
    async with AsyncSession(ENGINES[0]) as session:
        yield session
        say("commit fails")
        await insert(session, "taken")
        await insert(session, "taken")


async def schedule_looks(tasks: Tasks) -> str:
    row = str(next(numbers))
    tasks.after_route.schedule(look, row, "after_route")
    tasks.after_response.schedule(look, row, "after_response")
    return row


# A dependency's own session, from which the tasks are taken; and tasks taken before the session.
async def open_session_after_tasks(tasks: Tasks) -> AsyncIterator[AsyncSession]:
    async for session in open_session():
        yield session


Function = Annotated[AsyncSession, Depends(open_session, scope="function")]
Request = Annotated[AsyncSession, Depends(open_session, scope="request")]
Row = Annotated[str, Depends(schedule_looks)]


@app.get("/request/session-first")
async def request_session_first(session: Request, tasks: Tasks) -> None:
    await insert(session, await schedule_looks(tasks))


@app.get("/request/tasks-first")
async def request_tasks_first(tasks: Tasks, session: Request) -> None:
    await insert(session, await schedule_looks(tasks))


@app.get("/request/dependency-first")
async def request_dependency_first(row: Row, session: Request) -> None:
    await insert(session, row)


@app.get("/request/dependency-last")
async def request_dependency_last(session: Request, row: Row) -> None:
    await insert(session, row)


@app.get("/function/session-first")
async def function_session_first(session: Function, tasks: Tasks) -> None:
    await insert(session, await schedule_looks(tasks))


@app.get("/function/tasks-first")
async def function_tasks_first(tasks: Tasks, session: Function) -> None:
    await insert(session, await schedule_looks(tasks))


@app.get("/function/dependency-first")
async def function_dependency_first(row: Row, session: Function) -> None:
    await insert(session, row)


@app.get("/function/dependency-last")
async def function_dependency_last(session: Function, row: Row) -> None:
    await insert(session, row)


with suppress(FastAPIError):  # the naive double's dependency does not fit in this one

    @app.get("/request/session-takes-tasks")
    async def request_session_takes_tasks(
        tasks: Tasks, session: Annotated[AsyncSession, Depends(open_session_after_tasks)]
    ) -> None:
        await insert(session, await schedule_looks(tasks))


@app.get("/request/commit-fails")
async def request_commit_fails(
    session: Annotated[AsyncSession, Depends(open_failing_session, scope="request")], row: Row
) -> None:
    await insert(session, row)


@app.get("/function/commit-fails")
async def function_commit_fails(
    session: Annotated[AsyncSession, Depends(open_failing_session, scope="function")], row: Row
) -> None:
    await insert(session, row)


async def query(name: str) -> None:
    """Use the pool from the task's begin to its end."""
    async with ENGINES[0].connect() as connection:
        await ping(connection)
        say(f"{name} begins")
        await wait_at_gate("finish")
        await ping(connection)
    async with ENGINES[0].connect() as connection:
        await ping(connection)
    say(f"{name} finished")


async def query_cleanly(name: str) -> None:
    """Use the pool to clean up when it is cancelled."""
    try:
        say(f"{name} begins")
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            async with ENGINES[0].connect() as connection:
                await ping(connection)
            say(f"{name} cleaned up")


async def ping(connection: AsyncConnection) -> Any:
    return (await connection.execute(text("select 1"))).all()


@app.get("/at-work")
async def be_at_work(tasks: Tasks) -> None:
    phases: tuple[Phase, ...] = ("immediate", "after_route", "after_response")
    for phase in phases:
        batch_of(tasks, phase).task(name=phase, shield=True).schedule(query, phase)
        current = batch_of(current_tasks(), phase) if phase == "immediate" else None
        if current is not None:
            current.task(name="unshielded").schedule(query_cleanly, "unshielded")
