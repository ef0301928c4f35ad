"""Contract 8: what is handed over to engines, in applications of each framework.

What no framework can change is in tests/tasks_core/test_carriers.py; real engines are in
tests/engines.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tasks_core import (
    HandOverError,
    Phase,
    Task,
    TaskHandedOver,
    TasksScheduler,
    TaskState,
    TaskStatus,
    current_tasks,
)
from tasks_core.asgi import Message
from tasks_core.testing import drain

from tests.conformance.cases import RouteKind, at, each_phase, each_route, sync_route
from tests.conformance.driver import serve
from tests.conformance.harness import Harness, Route, Text, build
from tests.tasks_core.engine import Engine, Kind

pytestmark = pytest.mark.anyio

CONFIRMED = [Phase.IMMEDIATE, Phase.AFTER_ROUTE]


def double(number: int) -> int:
    return 2 * number


@pytest.fixture
def engine() -> Engine:
    return Engine("async")


@each_phase
async def test_the_same_call(harness: Harness, engine: Engine, phase: Phase) -> None:
    """8.1 A route's call is handed over where its application has a carrier, else it runs here."""
    func = engine.task(double)
    scheduled: list[Task[..., int]] = []

    def route(tasks: TasksScheduler) -> None:
        scheduled.append(at(tasks, phase).schedule(func, 1))

    for carriers in ([engine], []):
        async with serve(build(harness, sync_route(route), carriers=carriers)) as server, drain():
            assert (await server.request()).status == 200
    assert [task.carrier for task in scheduled] == ["engine", None]
    assert [sent.args for sent in engine.sent] == [(1,)]
    assert scheduled[1].result == 2


async def test_a_failed_request_hands_over_nothing_later(harness: Harness, engine: Engine) -> None:
    """8.2 What the framework answers with an error leaves the later phases' tasks here."""
    func = engine.task(double)

    def route(tasks: TasksScheduler) -> None:
        tasks.after_route.schedule(func, 1)
        tasks.after_response.schedule(func, 2)
        tasks.after_response.task(run_on="failure").schedule(func, 3)
        raise harness.http_error(409)

    async with serve(build(harness, sync_route(route), carriers=[engine])) as server, drain():
        assert (await server.request()).status == 409
    assert [sent.args for sent in engine.sent] == [(3,)]


@each_route
async def test_what_cannot_be_sent_is_refused_in_the_route(
    harness: Harness, engine: Engine, route_kind: RouteKind
) -> None:
    """8.3 The route may answer it, as any error of its own."""
    func: Any = engine.task(double)

    def route(tasks: TasksScheduler) -> Text:
        try:
            tasks.after_response.schedule(func, object())
        except TypeError as error:
            return Text(str(error), 422)
        return Text()

    async with serve(build(harness, route_kind(route), carriers=[engine])) as server, drain():
        exchange = await server.request()
    assert (exchange.status, exchange.body) == (422, b"engine cannot send object")
    assert engine.sent == []


@each_route
async def test_the_id_is_known_in_the_route(
    harness: Harness, engine: Engine, route_kind: RouteKind
) -> None:
    """8.4 What the route answers is what the engine is sent by."""
    func = engine.task(double)

    def route(tasks: TasksScheduler) -> Text:
        return Text(tasks.after_response.schedule(func, 1).id)

    async with serve(build(harness, route_kind(route), carriers=[engine])) as server, drain():
        exchange = await server.request()
    assert engine.ids == [exchange.body.decode()]
    assert engine.ids[0].startswith("engine-")


async def test_pending_then_handed_over(harness: Harness, engine: Engine) -> None:
    """8.5 Within the request it is *pending*, and afterwards `wait` says whose it is."""
    scheduled: list[Task[..., int]] = []
    states: list[TaskState] = []

    def route(tasks: TasksScheduler) -> None:
        scheduled.append(tasks.after_response.schedule(engine.task(double), 1))
        states.append(scheduled[0].state)

    async with serve(build(harness, sync_route(route), carriers=[engine])) as server, drain():
        await server.request()
        with pytest.raises(TaskHandedOver):
            await scheduled[0].wait()
    assert [*states, scheduled[0].state] == [TaskState.PENDING, TaskState.HANDED_OVER]


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_an_engine_that_hangs_delays_no_response(harness: Harness, kind: Kind) -> None:
    """8.6 Neither its own request nor another one's sync route waits, nor does a sync task."""
    engine = Engine(kind)
    ran: list[int] = []

    def route(tasks: TasksScheduler) -> None:
        for number in range(10):
            tasks.after_route.schedule(engine.task(double), number)
        tasks.after_route.schedule(ran.append, 1)

    async with serve(build(harness, sync_route(route), carriers=[engine])) as server, drain():
        with engine.hangs():
            assert [(await server.request()).status for _ in range(3)] == [200] * 3
            assert engine.sent == []
    assert len(engine.sent) == 30
    assert ran == [1] * 3


async def test_a_lifespans_tasks_are_handed_over_before_it_closes(
    harness: Harness, engine: Engine
) -> None:
    """8.6 What a lifespan has opened, a broker for instance, is there for each hand-over (5.1)."""
    log: list[str] = []

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[None, None]:
        current_tasks().schedule(engine.task(double), 1)
        yield
        log.append(f"closes, {len(engine.sent)} sent")

    def route(tasks: TasksScheduler) -> None:
        tasks.after_response.schedule(engine.task(double), 2)

    app = build(harness, sync_route(route), lifespan=lifespan, carriers=[engine])
    async with serve(app) as server:
        await server.request()
    assert log == ["closes, 2 sent"]


async def test_what_is_not_confirmed_is_a_failure(harness: Harness, engine: Engine) -> None:
    """8.7 The route's error handler hears of it; the response is as ever."""
    engine.trouble = OSError("no broker")
    heard: list[Exception] = []

    def route(tasks: TasksScheduler) -> None:
        after = tasks.after_response.task(on_error=lambda _, error: heard.append(error))
        after.schedule(engine.task(double), 1)

    app = build(harness, sync_route(route), carriers=[engine])
    async with serve(app) as server, drain(raise_errors=False):
        assert (await server.request()).status == 200
    assert [(type(error), error.__cause__) for error in heard] == [(HandOverError, engine.trouble)]


@each_route
@pytest.mark.parametrize("phase", CONFIRMED)
async def test_confirmed_before_the_response(
    harness: Harness, engine: Engine, route_kind: RouteKind, phase: Phase
) -> None:
    """8.8 The response's first message leaves when the engine has the task."""
    had: list[int] = []

    def route(tasks: TasksScheduler) -> None:
        at(tasks, phase).task(confirm=True).schedule(engine.task(double), 1)

    def look(message: Message) -> None:
        if message["type"] == "http.response.start":
            had.append(len(engine.sent))

    async with serve(build(harness, route_kind(route), carriers=[engine])) as server, drain():
        assert (await server.request(on_message=look)).status == 200
    assert had == [1]


@pytest.mark.parametrize("phase", CONFIRMED)
async def test_not_confirmed_no_success(harness: Harness, engine: Engine, phase: Phase) -> None:
    """8.8 No success status leaves, and *after response* is a failure."""
    engine.trouble = OSError("no broker")
    ran: list[str] = []

    def route(tasks: TasksScheduler) -> None:
        at(tasks, phase).task(confirm=True).schedule(engine.task(double), 1)
        tasks.after_response.schedule(ran.append, "success")
        tasks.after_response.task(run_on="failure").schedule(ran.append, "failure")

    app = build(harness, sync_route(route), carriers=[engine])
    async with serve(app) as server, drain(raise_errors=False):
        exchange = await server.request()
    assert [it["status"] for it in exchange.messages if "status" in it] in ([], [500])
    assert ran == ["failure"]


async def test_any_request_asks_by_the_id(harness: Harness, engine: Engine) -> None:
    """8.9 Whoever has the id asks the engine, and gets None for that of nobody."""
    seen: list[TaskStatus | None] = []

    async def ask(tasks: TasksScheduler) -> None:
        seen.extend([await tasks.status(engine.ids[0]), await tasks.status("engine-" + "0" * 32)])

    def place(tasks: TasksScheduler) -> None:
        tasks.after_route.task(confirm=True).schedule(engine.task(double), 1)

    routes = {"/place": Route(endpoint=sync_route(place)), "/ask": Route(endpoint=ask)}
    app = build(harness, routes=routes, carriers=[engine])
    async with serve(app) as server:
        await server.request("/place")
        status = TaskStatus(id=engine.ids[0], state=TaskState.RUNNING, carrier="engine")
        engine.statuses[engine.ids[0]] = status
        await server.request("/ask")
    assert seen == [status, None]
