"""What becomes of tasks when one of them, the request or the connection fails."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import anyio
import pytest
import stamina
from aiojobs import Scheduler
from anyio import from_thread
from fastapi import FastAPI, HTTPException
from fastapi_tasks import Task, TaskConfig, Tasks, TaskState, add_tasks
from litestar.exceptions import HTTPException as LitestarHTTPException
from litestar.exceptions import LitestarException
from taskiq import BrokerMessage, InMemoryBroker
from tasks_core import HandOverError

from tests.comparison.ways import (
    AsyncIOScheduler,
    Stage,
    TaskManager,
    Way,
    background_tasks,
    carried,
    each,
    litestar,
    managed,
    scheduled,
    taskflow,
)
from tests.conformance.driver import Exchange, serve

pytestmark = pytest.mark.anyio


class Failure(Exception):  # noqa: N818 - what it is
    pass


async def fail() -> None:
    raise Failure


async def is_run(way: Way, *functions: Any, **stage_settings: Any) -> tuple[bool, Exchange]:
    """Serve one request that schedules these functions and one more; say if that has run."""
    ran = anyio.Event()

    async def work() -> None:
        ran.set()

    asyncio.get_running_loop().set_exception_handler(lambda _, __: None)  # it would only log
    fails_from = stage_settings.pop("fails_from", None)
    async with serve(way(Stage(*functions, work, **stage_settings))) as server:
        exchange = await server.request(fails_from=fails_from)
        await anyio.wait_all_tasks_blocked()
        return ran.is_set(), exchange


@each(
    ours=True,
    carried=True,
    background_tasks=False,
    litestar=False,
    aiojobs=True,
    create_task=True,
    taskflow=True,
    apscheduler=True,
)
async def test_one_fails(way: Way, fact: object) -> None:
    """One task fails, and the one that was scheduled after it runs or does not."""
    ran, _ = await is_run(way, fail)
    assert ran is fact


async def test_one_fails_in_litestars_task_group() -> None:
    """With `run_in_task_group=True` the failure cancels a task that runs."""
    began, cancelled = anyio.Event(), anyio.Event()

    async def work() -> None:
        began.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    async def fail_then() -> None:
        await began.wait()
        raise Failure

    app = litestar(Stage(work, fail_then), run_in_task_group=True)
    async with serve(app) as server:
        await server.request()
        assert cancelled.is_set()


async def test_told_ours(caplog: pytest.LogCaptureFixture) -> None:
    """Ours: one ERROR record with name, id and traceback, then `on_error`."""
    failed: list[tuple[Task, Exception]] = []
    called = anyio.Event()

    async def on_error(task: Task, error: Exception) -> None:
        assert len(caplog.records) == 1
        failed.append((task, error))
        called.set()

    app = FastAPI()
    add_tasks(app, config=TaskConfig(on_error=on_error))

    @app.get("/")
    async def route(tasks: Tasks) -> None:
        tasks.after_response.schedule(fail)

    async with serve(app) as server:
        exchange = await server.request()
        await called.wait()
    ((task, error),) = failed
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("tasks_core", logging.ERROR)
    assert f"{task.name} (id={task.id}" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert exchange.error is None


async def test_told_observers() -> None:
    """Ours: an observer hears of every task, also of one that the request has cut."""
    told: list[str] = []
    app = FastAPI()
    add_tasks(app, observers=[lambda task: told.append(f"{task.name} {task.state}")])

    @app.get("/")
    async def route(tasks: Tasks) -> None:
        tasks.task(name="mail").schedule(fail)
        tasks.after_response.task(name="index").schedule(fail)
        raise HTTPException(409)

    async with serve(app) as server:
        await server.request()
    assert told[:2] == ["mail pending", "index pending"]
    assert sorted(told[2:]) == ["index skipped", "mail failed", "mail running"]


async def test_told_carried(caplog: pytest.LogCaptureFixture) -> None:
    """With a carrier, of a hand-over that fails as of a task: by one ERROR record, with the id."""

    class Broken(InMemoryBroker):
        async def kick(self, message: BrokerMessage) -> None:
            raise Failure

    async with serve(carried(Stage(fail), Broken())) as server:
        exchange = await server.request()
        await anyio.wait_all_tasks_blocked()
    (record,) = [it for it in caplog.records if it.levelno >= logging.ERROR]
    assert (record.name, exchange.error) == ("tasks_core", None)
    assert "(id=taskiq-" in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], HandOverError)


@each(background_tasks=Failure, litestar=LitestarException)
async def test_told(way: Way, fact: type[Exception]) -> None:
    """An error comes out of the application, after the response: the server logs it."""
    async with serve(way(Stage(fail))) as server:
        exchange = await server.request()
    assert exchange.status == 200
    assert exchange.error is not None
    assert type(exchange.error) is fact
    assert isinstance(exchange.error.__cause__ or exchange.error, Failure)


async def test_told_aiojobs() -> None:
    """The scheduler's `exception_handler` is called; as it is, the event loop's."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    async with Scheduler() as scheduler:
        await scheduler.spawn(fail())
    assert [it["message"] for it in told] == ["Job processing failed"]

    handled: list[dict[str, Any]] = []
    async with Scheduler(exception_handler=lambda _, context: handled.append(context)) as scheduler:
        await scheduler.spawn(fail())
    assert len(handled) == len(told) == 1


async def test_told_create_task() -> None:
    """Nothing is told before the task, which nobody has awaited, is collected."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    task = asyncio.create_task(fail())
    await anyio.wait_all_tasks_blocked()
    assert task.done()
    assert not told

    del task
    gc.collect()
    assert [it["message"] for it in told] == ["Task exception was never retrieved"]


async def test_told_taskflow(caplog: pytest.LogCaptureFixture) -> None:
    """The manager knows it, by the task's id: nothing is logged, unless an observer does."""
    manager = TaskManager()
    async with serve(managed(Stage(fail), manager)) as server:
        exchange = await server.request()
    (record,) = manager.store.list()
    assert record.status == "failed"
    # The collector may end a span that another test has left, whose exporter is closed.
    told = [it for it in caplog.records if not it.name.startswith("opentelemetry")]
    assert told == []
    assert exchange.error is None


async def test_told_apscheduler(caplog: pytest.LogCaptureFixture) -> None:
    """One ERROR record of the executor, with the job's name; then listeners are called."""
    heard = anyio.Event()
    scheduler = AsyncIOScheduler()

    def on_event(event: Any) -> None:
        if getattr(event, "exception", None):
            heard.set()

    scheduler.add_listener(on_event)
    async with serve(scheduled(Stage(fail), scheduler)) as server:
        await server.request()
        await heard.wait()
    (record,) = [it for it in caplog.records if it.levelno >= logging.ERROR]
    assert (record.name, record.levelno) == ("apscheduler.executors.default", logging.ERROR)
    assert "fail" in record.getMessage()


async def raise_404() -> None:
    raise HTTPException(404)


async def raise_404_of_litestar() -> None:
    raise LitestarHTTPException(status_code=404)


@each(
    ours=False,
    carried=False,
    background_tasks=False,
    litestar=False,
    aiojobs=True,
    create_task=True,
    taskflow=False,
    apscheduler=True,
)
async def test_route_raises(way: Way, fact: object) -> None:
    """The route schedules a task and raises: the task runs or does not."""
    raises = raise_404_of_litestar if way is litestar else raise_404
    ran, exchange = await is_run(way, route=raises)
    assert exchange.status == 404
    assert ran is fact


@pytest.mark.parametrize("run_on", ["success", "failure", "always"])
async def test_route_raises_ours(run_on: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Ours is skipped, with a log record, or runs: as its `run_on` says."""
    caplog.set_level(logging.INFO, "tasks_core")
    scheduled: list[Task] = []
    app = FastAPI()
    add_tasks(app)

    @app.get("/")
    async def route(tasks: Tasks) -> None:
        scheduled.append(tasks.after_response.task(run_on=run_on).schedule(anyio.sleep, 0))
        raise HTTPException(404)

    async with serve(app) as server:
        await server.request()
        await anyio.wait_all_tasks_blocked()
    (task,) = scheduled
    if run_on == "success":
        assert task.state is TaskState.SKIPPED
        assert [record.levelno for record in caplog.records] == [logging.INFO]
    else:
        assert task.state is TaskState.SUCCEEDED
        assert not caplog.records


@each(
    ours=True,
    carried=True,
    background_tasks=False,
    litestar=False,
    aiojobs=True,
    create_task=True,
    taskflow=False,
    apscheduler=True,
)
async def test_client_leaves(way: Way, fact: object) -> None:
    """The server's `send` raises for the body, as ASGI 2.4 lets it: the task runs or does not."""
    ran, _ = await is_run(way, fails_from=1)
    assert ran is fact


@pytest.mark.parametrize("way", [background_tasks, litestar, taskflow])
async def test_client_leaves_in_silence(way: Way) -> None:
    """The server's `send` says nothing, as that of uvicorn: the task runs."""
    exchange = Exchange()
    exchange.leave()
    ran = anyio.Event()

    async def work() -> None:
        ran.set()

    async with serve(way(Stage(work))) as server:
        await server.request(exchange=exchange)
        assert ran.is_set()


@each(ours=1, carried=1, background_tasks=1, litestar=1, aiojobs=1, create_task=1, apscheduler=1)
async def test_retries(way: Way, fact: int) -> None:
    """A task that fails is called once."""
    calls = 0

    async def fail_again() -> None:
        nonlocal calls
        calls += 1
        raise Failure

    await is_run(way, fail_again)
    assert calls == fact


async def test_retries_taskflow() -> None:
    """One that is decorated is called again."""
    calls = 0
    manager = TaskManager()

    async def fail_again() -> None:
        nonlocal calls
        calls += 1
        raise Failure

    decorated = manager.task(retries=2)(fail_again)
    async with serve(managed(Stage(decorated), manager)) as server:
        await server.request()
    assert calls == 3


async def test_retries_ours() -> None:
    """Ours: by stamina's caller, as a setting of the application."""
    calls = 0
    done = anyio.Event()

    def fail_at_first() -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise Failure
        from_thread.run_sync(done.set)

    retry = stamina.AsyncRetryingCaller(wait_initial=0, wait_jitter=0).on(Failure)
    app = FastAPI()
    add_tasks(app, config=TaskConfig(retry=retry))

    @app.get("/")
    async def route(tasks: Tasks) -> None:
        tasks.after_response.schedule(fail_at_first)

    async with serve(app) as server:
        await server.request()
        await done.wait()
    assert calls == 3
