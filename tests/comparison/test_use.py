"""What a way gives, in applications and in tests, and what it needs."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterable
from inspect import signature
from threading import Event
from typing import Any

import anyio
import pytest
from aiojobs import Scheduler
from anyio.lowlevel import checkpoint
from fastapi import BackgroundTasks, FastAPI
from fastapi.testclient import TestClient
from fastapi_tasks import (
    Every,
    FastAPITasksUninitializedAppError,
    Periodic,
    RunnerSettings,
    Tasks,
    TaskState,
    TaskStatus,
    add_tasks,
    current_task,
)
from fastapi_tasks.testing import drain, record
from litestar.background_tasks import BackgroundTask
from litestar.testing import TestClient as LitestarTestClient
from taskiq import InMemoryBroker
from tasks_core import TaskCancelled
from tasks_core.carriers.taskiq import TaskiqCarrier

from tests.comparison.ways import (
    AsyncIOScheduler,
    NotingBroker,
    Stage,
    TaskManager,
    Way,
    aiojobs,
    apscheduler,
    background_tasks,
    carried,
    create_task,
    each,
    litestar,
    managed,
    nothing,
    ours,
    taskflow,
)
from tests.conformance.driver import GUARD, serve
from tests.tasks_core.store import Store


@pytest.mark.anyio
async def test_handle_ours() -> None:
    """Ours is found by its id from any request: state, progress, result, cancel."""
    app = FastAPI()
    add_tasks(app)
    release = anyio.Event()

    async def work() -> int:
        current_task().report(1, total=2)
        await release.wait()
        return 4

    @app.get("/")
    async def start(tasks: Tasks) -> str:
        return tasks.schedule(work).id

    @app.get("/{end}/{task_id}")
    async def follow(tasks: Tasks, end: str, task_id: str) -> None:
        task = tasks.get(task_id)
        assert task is not None
        assert task.state is TaskState.RUNNING
        assert task.progress is not None
        assert (task.progress.done, task.progress.total) == (1, 2)
        if end == "cancel":
            assert task.cancel()
            with pytest.raises(TaskCancelled):
                await task.wait()
        else:
            release.set()
            assert await task.wait() == 4
            assert task.result == 4

    async with serve(app) as server:
        for end in ("cancel", "await"):
            started = await server.request()
            task_id = started.body.decode().strip('"')
            assert (await server.request(f"/{end}/{task_id}")).error is None


@pytest.mark.anyio
async def test_handle_ours_of_another_process() -> None:
    """With a store, another process finds it by its id, too."""
    app, other = FastAPI(), FastAPI()
    store = Store()
    add_tasks(app, records=store)
    add_tasks(other, records=store)

    @app.get("/")
    async def start(tasks: Tasks) -> str:
        return tasks.schedule(anyio.sleep_forever).id

    @other.get("/{task_id}")
    async def cancel(tasks: Tasks, task_id: str) -> bool:
        status = await tasks.status(task_id)
        return status is not None and await tasks.cancel(task_id)

    async with serve(app) as server, serve(other) as another:
        task_id = (await server.request()).body.decode().strip('"')
        assert (await another.request(f"/{task_id}")).body == b"true"


@pytest.mark.anyio
async def test_handle_carried() -> None:
    """With a carrier, its status is the engine's, by the id, in each process that has one."""
    broker = InMemoryBroker()
    app, other = FastAPI(), FastAPI()
    for one in (app, other):
        add_tasks(one, carriers=[TaskiqCarrier(broker)])

    @app.get("/")
    async def start(tasks: Tasks) -> str:
        assert tasks.after_response.schedule(broker.task(double), -1).cancel()
        return tasks.after_route.task(confirm=True).schedule(broker.task(double), 2).id

    @other.get("/{task_id}")
    async def follow(tasks: Tasks, task_id: str) -> TaskStatus | None:
        return await tasks.status(task_id)

    async with serve(app) as server, serve(other) as another:
        task_id = (await server.request()).body.decode().strip('"')
        await broker.wait_all()  # it would not, had the other one been handed over
        status = json.loads((await another.request(f"/{task_id}")).body)
    assert (status["state"], status["result"], status["carrier"]) == ("succeeded", 4, "taskiq")


def test_handle_background_tasks() -> None:
    """`add_task` returns nothing."""
    returned: object = BackgroundTasks().add_task(nothing)  # type: ignore[func-returns-value]
    assert returned is None


def test_handle_litestar() -> None:
    """A `BackgroundTask` knows what to call, and nothing of the call."""
    assert set(BackgroundTask.__slots__) == {"fn", "args", "kwargs"}


async def double(number: int) -> int:
    if number < 0:
        await anyio.sleep_forever()
    return number * 2


@pytest.mark.anyio
async def test_handle_aiojobs() -> None:
    """A job gives the result, and can be cancelled."""
    async with Scheduler() as scheduler:
        job = await scheduler.spawn(double(2))
        assert await job.wait() == 4
        job = await scheduler.spawn(double(-1))
        await job.close()
        assert job.closed


@pytest.mark.anyio
async def test_handle_create_task() -> None:
    """A task gives the result, and can be cancelled."""
    assert await asyncio.create_task(double(2)) == 4
    task = asyncio.create_task(double(-1))
    assert task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.anyio
async def test_handle_taskflow() -> None:
    """`add_task` returns an id; the manager knows the state by it, and no result."""
    manager = TaskManager()
    async with serve(managed(Stage(nothing), manager)) as server:
        await server.request()
    (record,) = manager.store.list()
    assert manager.store.get(record.task_id) is record
    assert record.status == "success"
    assert not hasattr(record, "result")


@pytest.mark.anyio
async def test_handle_apscheduler() -> None:
    """A job can be removed before it begins; then the scheduler does not know it any more."""
    scheduler = AsyncIOScheduler()
    scheduler.start()
    began = anyio.Event()

    async def work() -> None:
        began.set()

    try:
        removed = scheduler.add_job(work)
        removed.remove()
        job = scheduler.add_job(work)
        assert scheduler.get_job(job.id) is not None
        await began.wait()
        assert scheduler.get_job(job.id) is None
    finally:
        scheduler.shutdown()


@each(
    ours=False,
    background_tasks=True,
    litestar=True,
    aiojobs=False,
    create_task=False,
    taskflow=True,
    apscheduler=False,
)
def test_in_tests(way: Way, fact: object) -> None:
    """When a test client returns, the tasks of its request have ended, or run on."""
    answered = asyncio.Event()
    ended = asyncio.Event()

    async def work() -> None:
        if not fact:
            await answered.wait()
        ended.set()

    app: Any = way(Stage(work))
    client_of: Any = LitestarTestClient if way is litestar else TestClient
    with client_of(app) as client:
        portal: Any = client.blocking_portal if way is litestar else client.portal
        client.get("/")
        assert ended.is_set() is fact
        portal.call(answered.set)
        portal.call(asyncio.wait_for, ended.wait(), GUARD)


def test_in_tests_ours() -> None:
    """Ours are waited for by `drain()`."""
    ended: list[str] = []

    async def work() -> None:
        await checkpoint()
        ended.append("work")

    app = FastAPI()
    add_tasks(app)

    @app.get("/")
    async def route(tasks: Tasks) -> None:
        tasks.after_response.schedule(work)

    with TestClient(app) as client, drain():
        client.get("/")
    assert ended == ["work"]


def test_in_tests_carried() -> None:
    """With a carrier, `record()` hands over nothing, and knows what would have been."""
    stage = Stage()
    broker = NotingBroker(stage)
    sent = broker.task(double)
    app = FastAPI()
    add_tasks(app, carriers=[TaskiqCarrier(broker)])

    @app.get("/")
    async def route(tasks: Tasks) -> None:
        tasks.after_response.schedule(sent, 2)

    with TestClient(app) as client, record() as tasks:
        client.get("/")
    tasks.after_response.assert_scheduled(sent, 2)
    assert stage.log == []


NAMES: dict[Way, Iterable[str]] = {
    ours: RunnerSettings.__annotations__,
    carried: RunnerSettings.__annotations__,
    background_tasks: dir(BackgroundTasks),
    litestar: signature(BackgroundTask).parameters,
    aiojobs: [*dir(Scheduler), *signature(Scheduler.spawn).parameters],
    create_task: signature(asyncio.create_task).parameters,
    taskflow: signature(TaskManager.schedule).parameters,
    apscheduler: signature(AsyncIOScheduler.add_job).parameters,
}
"""What each can be told."""


@each(
    ours=True,
    carried=True,
    background_tasks=False,
    litestar=False,
    aiojobs=False,
    create_task=False,
    taskflow=True,
    apscheduler=True,
)
def test_by_the_clock(way: Way, fact: object) -> None:
    """It can be told when to run something, or cannot."""
    assert (
        bool({"at", "cron", "every", "interval", "periodic", "trigger"}.intersection(NAMES[way]))
        is fact
    )


def test_by_the_clock_ours() -> None:
    """A function runs at its moments."""
    ran = Event()
    app = FastAPI()
    add_tasks(app, periodic=[Periodic(ran.set, Every(seconds=0.01))])
    with TestClient(app):
        assert ran.wait(GUARD)


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
@each(
    ours=None,
    carried=RuntimeError,
    background_tasks=None,
    litestar=None,
    aiojobs=RuntimeError,
    create_task=RuntimeError,
    taskflow=RuntimeError,
    apscheduler=RuntimeError,
)
def test_needs(way: Way, fact: type[Exception] | None) -> None:
    """It works on trio, or needs asyncio."""
    ran: list[str] = []

    async def work() -> None:
        ran.append("work")

    async def main() -> None:
        async with serve(way(Stage(work))) as server:
            exchange = await server.request()
            await anyio.wait_all_tasks_blocked()
            if exchange.error is not None:
                raise exchange.error

    if fact is None:
        anyio.run(main, backend="trio")
        assert ran == ["work"]
    else:
        says = "works on asyncio only" if way is carried else "no running event loop"
        with pytest.raises(fact, match=says):
            anyio.run(main, backend="trio")
        gc.collect()  # the coroutine that was never awaited


@pytest.mark.anyio
async def test_needs_ours() -> None:
    """Without `add_tasks` an error says what is missing."""
    app = FastAPI()

    @app.get("/")
    async def route(tasks: Tasks) -> None: ...

    async with serve(app) as server:
        exchange = await server.request()
    assert isinstance(exchange.error, FastAPITasksUninitializedAppError)
    assert "add_tasks(app)" in str(exchange.error)


@pytest.mark.anyio
async def test_needs_create_task() -> None:
    """The event loop does not keep a task alive; whoever creates it has to."""
    told: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context))

    async def work() -> None:
        await loop.create_future()

    asyncio.create_task(work())  # noqa: RUF006 - that is what is shown
    await anyio.wait_all_tasks_blocked()
    gc.collect()
    assert [it["message"] for it in told] == ["Task was destroyed but it is pending!"]
