"""Contract 7.5: tests of an application's tasks, without sleeping."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from contextvars import Context
from functools import partial
from typing import Any

import anyio
import pytest
from anyio import from_thread
from tasks_core import (
    Every,
    Periodic,
    Phase,
    Task,
    TaskConfig,
    TaskSkipped,
    TasksScheduler,
    TaskState,
    current_tasks,
)
from tasks_core.asgi import ASGIApp, Message, Scope
from tasks_core.testing import TasksBlock, drain, inline, lifespan, record

from tests.conformance.cases import (
    FunctionKind,
    RouteKind,
    at,
    each_function,
    each_phase,
    each_route,
    each_wrapping,
)
from tests.conformance.driver import GUARD, Server, serve
from tests.conformance.harness import Harness, Route, ServerSocket, SocketRoute, Stream, Text, build

pytestmark = [pytest.mark.anyio, pytest.mark.alike]


class SomeError(Exception):
    """What tasks and routes fail with."""


async def note(log: list[str], what: str) -> None:
    await anyio.lowlevel.checkpoint()
    log.append(what)


def schedule_all(tasks: TasksScheduler, func: Callable[..., Any], *args: Any) -> None:
    """Schedule for each phase, the last one first."""
    for phase in reversed(Phase):
        at(tasks, phase).task(name=str(phase)).schedule(func, *args, str(phase))


@each_route
@each_function
@each_phase
async def test_drain(
    harness: Harness, route_kind: RouteKind, function_kind: FunctionKind, phase: Phase
) -> None:
    """7.5 Leaving `drain` waits for tasks of every phase, and for those that these schedule."""
    log: list[str] = []

    def step(tasks: TasksScheduler) -> None:
        def first() -> None:
            at(tasks, phase).schedule(function_kind(lambda: log.append("second")))

        at(tasks, phase).schedule(function_kind(first))

    async with serve(build(harness, route_kind(step))) as server:
        async with drain() as block:
            await server.request()
        assert log == ["second"]
        assert [task.state for task in block.tasks] == [TaskState.SUCCEEDED] * 2


@pytest.mark.parametrize("make", [drain, inline])
async def test_failures_surface(harness: Harness, make: Callable[..., TasksBlock]) -> None:
    """7.5 What tasks raise comes out of the block: one as it is, several as a group."""
    error = SomeError("one")

    async def fail() -> None:
        raise error

    async def one(tasks: TasksScheduler) -> None:
        tasks.after_response.schedule(fail)

    async def two(tasks: TasksScheduler) -> None:
        tasks.schedule(fail)
        tasks.after_route.schedule(fail)

    async def test(server: Server, path: str, **options: Any) -> None:
        async with make(**options):
            assert (await server.request(path)).status == 200

    routes = {"/one": Route(endpoint=one), "/two": Route(endpoint=two)}
    async with serve(build(harness, routes=routes)) as server:
        with pytest.raises(SomeError) as raised:
            await test(server, "/one")
        assert raised.value is error
        with pytest.raises(ExceptionGroup, match="2 tasks failed") as several:
            await test(server, "/two")
        assert several.value.exceptions == (error, error)
        await test(server, "/two", raise_errors=False)


@each_wrapping
@each_route
async def test_inline(harness: Harness, route_kind: RouteKind, *, wrapped: bool) -> None:
    """7.5 Within `inline` tasks end where they begin: before the response, or with the request."""
    log: list[str] = []

    def step(tasks: TasksScheduler) -> None:
        schedule_all(tasks, note, log)

    def on_message(message: Message) -> None:
        log.append(message["type"].rpartition(".")[2])

    async with serve(build(harness, route_kind(step), wrapped=wrapped)) as server, inline():
        for _ in range(2):
            log.clear()
            await server.request(on_message=on_message)
            start = log.index("start")
            assert sorted(log[:start]) == ["after_route", "immediate"]
            assert "after_response" in log[start:]


async def test_the_guard_within_a_request(harness: Harness) -> None:
    """7.5 A task that its own request would have to wake is named by the guard."""
    go = anyio.Event()

    async def body() -> AsyncIterator[bytes]:
        go.set()
        yield b"never sent"

    async def route(tasks: TasksScheduler) -> Stream:
        tasks.task(name="waits").schedule(go.wait)
        return Stream(body())

    async def test(server: Server) -> None:
        async with inline(timeout=0):
            exchange = await server.request()
            assert not exchange.messages or exchange.status == 500

    async with serve(build(harness, route)) as server:
        with pytest.raises(TimeoutError, match=r"within 0 s: waits \(running, phase=immediate"):
            await test(server)


@each_route
@each_wrapping
async def test_record(harness: Harness, route_kind: RouteKind, *, wrapped: bool) -> None:
    """7.5 Within `record` nothing runs; tasks that would have are recorded in that order."""
    log: list[str] = []

    def step(tasks: TasksScheduler) -> None:
        schedule_all(tasks, note, log)

    async with serve(build(harness, route_kind(step), wrapped=wrapped)) as server:
        async with record() as recorded:
            assert (await server.request()).status == 200
        assert log == []
        recorded.assert_scheduled(note, log, what="immediate")
        recorded.after_route.assert_scheduled(note, log, "after_route")
        batch = recorded.after_response.task(name="after_response", run_on="success")
        task = batch.assert_scheduled(note, log, "after_response")
        assert recorded.tasks[-1] is task
        assert {task.state for task in recorded.tasks} == {TaskState.SKIPPED}
        with pytest.raises(AssertionError, match="the nearest differs in its argument what:"):
            recorded.assert_scheduled(note, log, "later")


async def test_failed_requests(harness: Harness) -> None:
    """7.5 What the outcome of a request skips is not recorded, and does not run inline."""
    log: list[str] = []

    async def route(tasks: TasksScheduler) -> None:
        schedule_all(tasks, note, log)
        tasks.after_response.task(run_on="failure").schedule(note, log, "failure")
        raise harness.http_error(418)

    async with serve(build(harness, route)) as server:
        async with record() as recorded:
            assert (await server.request()).status == 418
        assert [task.args[1] for task in recorded.tasks] == ["immediate", "failure"]
        async with inline():
            await server.request()
            assert log == ["immediate", "failure"]


async def test_errors_of_the_application(harness: Harness) -> None:
    """7.5 What a route raises is its own affair: blocks neither raise it nor wait in vain."""
    log: list[str] = []

    async def route(tasks: TasksScheduler) -> None:
        schedule_all(tasks, note, log)
        raise SomeError

    async with serve(build(harness, route)) as server:
        for block in (drain(), inline()):
            log.clear()
            async with block:
                await server.request()
            assert log == ["immediate"]


async def test_a_route_that_waits_for_a_recorded_task(harness: Harness) -> None:
    """7.5 For the application a recorded task is skipped."""

    async def route(tasks: TasksScheduler) -> Text:
        try:
            await tasks.schedule(int).wait()
        except TaskSkipped:
            return Text("skipped")
        return Text("ran")

    async with serve(build(harness, route)) as server:
        async with record():
            assert (await server.request()).body == b"skipped"
        assert (await server.request()).body == b"ran"


async def test_streams(harness: Harness) -> None:
    """7.5 What the body of a response schedules belongs to the block."""
    log: list[str] = []

    async def body(tasks: TasksScheduler) -> AsyncIterator[bytes]:
        yield b"one"
        tasks.after_route.schedule(note, log, "within")
        yield b"two"

    async def route(tasks: TasksScheduler) -> Stream:
        return Stream(body(tasks))

    async with serve(build(harness, route)) as server:
        async with inline():
            assert (await server.request()).body == b"onetwo"
            assert log == ["within"]
        async with record() as recorded:
            await server.request()
        recorded.after_route.assert_scheduled(note, log, "within")


@pytest.mark.needs("websockets")
async def test_websockets(harness: Harness) -> None:
    """7.5 The tasks of a WebSocket belong to the block in which it was opened."""
    log: list[str] = []

    async def converse(tasks: TasksScheduler, socket: ServerSocket) -> None:
        await socket.accept()
        schedule_all(tasks, note, log)
        await socket.close()

    app = build(harness, SocketRoute(converse))
    async with serve(app) as server:
        for block in (drain(), inline()):
            log.clear()
            async with block, server.websocket() as socket:
                await socket.receive()
            assert sorted(log) == ["after_response", "after_route", "immediate"]
        async with record() as recorded, server.websocket() as socket:
            await socket.receive()
        assert [task.phase for task in recorded.tasks] == list(Phase)


async def test_blocks_end(harness: Harness) -> None:
    """7.5 After a block tasks run as ever, and of nested blocks the innermost counts."""
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.append(tasks.schedule(int))

    async with serve(build(harness, route)) as server:
        async with record() as outer:
            async with drain() as inner:
                await server.request()
            await server.request()
        await server.request()
        assert await made[-1].wait() == 0
    assert inner.tasks == made[:1]
    assert outer.tasks == made[1:2]


async def test_at_the_same_time(harness: Harness) -> None:
    """7.5 Tests that run at the same time see their own tasks only."""
    found: dict[str, list[str]] = {}
    both = anyio.Event()

    async def route(tasks: TasksScheduler) -> None:
        tasks.schedule(note, [], "task")

    async def test(server: Server, name: str, block: Any) -> None:
        async with block:
            await server.request()
            if found.setdefault("entered", []):
                both.set()
            found["entered"].append(name)
            await both.wait()
        found[name] = [str(task.state) for task in block.tasks]

    async with serve(build(harness, route)) as server, anyio.create_task_group() as group:
        group.start_soon(test, server, "drains", drain())
        group.start_soon(test, server, "records", record())
    assert found["drains"] == ["succeeded"]
    assert found["records"] == ["skipped"]


async def test_the_lifespan(harness: Harness) -> None:
    """7.5 `lifespan` starts an application, and shuts it down after the block."""
    log: list[str] = []

    @asynccontextmanager
    async def resources() -> AsyncGenerator[None]:
        current_tasks().schedule(note, log, "task of the lifespan")
        log.append("open")
        yield
        log.append("closed")

    async def route(tasks: TasksScheduler) -> None:
        tasks.after_response.schedule(note, log, "task")

    app = build(harness, route, lifespan=resources, grace_period=GUARD)
    async with lifespan(app) as started:
        async with inline():
            assert await answer(started) == [200]
        assert log[-1] == "task"
    assert sorted(log[:2]) == ["open", "task of the lifespan"]
    assert log[-1] == "closed"


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("was_within", [False, True])
async def test_a_lifespan_is_of_no_other_tests_block(
    harness: Harness, blocks: int, *, was_within: bool
) -> None:
    """7.5 An application starts and stops by itself, whatever blocks are open elsewhere."""
    log: list[str] = []
    if was_within:  # a block that has ended, and that this context still names
        ended = record()
        ended.__enter__()
        Context().run(ended.__exit__, None, None, None)

    async def go_on() -> None:
        current_tasks().schedule(note, log, "its task's task")
        current_tasks().periodic["note"].run()

    @asynccontextmanager
    async def resources() -> AsyncGenerator[None]:
        current_tasks().schedule(go_on)
        await current_tasks().periodic["at the start"].run().wait()
        yield

    periodic = [
        Periodic(partial(note, log, name), Every(days=1), TaskConfig(name=name))
        for name in ("note", "at the start")
    ]
    recorded = [record() for _ in range(blocks)]
    for block in recorded:
        Context().run(block.__enter__)
    async with serve(build(harness, lifespan=resources, periodic=periodic, grace_period=GUARD)):
        pass
    for block in recorded:
        block.__exit__(None, None, None)
    assert sorted(log) == ["at the start", "its task's task", "note"]
    assert [block.tasks for block in recorded] == [[]] * blocks


@pytest.mark.needs("lifespan errors")
@pytest.mark.parametrize("moment", ["startup", "shutdown"])
async def test_errors_of_the_lifespan(harness: Harness, moment: str) -> None:
    """7.5 What an application's lifespan raises comes out of `lifespan` as it is."""
    error = SomeError(moment)

    @asynccontextmanager
    async def resources() -> AsyncGenerator[None]:
        if moment == "startup":
            raise error
        yield
        raise error

    async def route(tasks: TasksScheduler) -> None:
        """Answer."""

    entered: list[bool] = []
    app = build(harness, route, lifespan=resources)
    with pytest.raises(SomeError) as raised:
        async with lifespan(app):
            entered.append(True)
    assert raised.value is error
    assert entered == [True] * (moment == "shutdown")


@each_phase
async def test_a_client_with_a_thread(harness: Harness, phase: Phase) -> None:
    """7.5 Tasks on the event loop of a client's thread are waited for in the test's."""
    log: list[str] = []

    async def route(tasks: TasksScheduler) -> None:
        at(tasks, phase).schedule(note, log, "there")

    app = build(harness, route)
    for block in (drain(), inline()):
        log.clear()
        with open_client(app) as get:
            async with block:
                get()
            assert log == ["there"]
    with open_client(app) as get:
        async with record() as recorded:
            get()
    assert [task.phase for task in recorded.tasks] == [phase]


def test_a_client_with_a_thread_in_a_sync_test(harness: Harness, anyio_backend: str) -> None:
    """7.5 So they are in sync tests, by `with`."""
    log: list[str] = []

    async def route(tasks: TasksScheduler) -> None:
        schedule_all(tasks, note, log)

    app = build(harness, route)
    for block in (drain(), inline()):
        log.clear()
        with open_client(app, anyio_backend) as get, block:
            get()
        # The client shuts down after the block has waited.
        assert len(log) == 3
    with open_client(app, anyio_backend) as get, record() as recorded:
        get()
    recorded.after_response.assert_scheduled(note, log, "after_response")


@contextmanager
def open_client(app: ASGIApp, backend: str = "asyncio") -> Generator[Callable[[], object]]:
    """Serve an application on the event loop of another thread, as frameworks' test clients do."""
    with (
        from_thread.start_blocking_portal(backend) as portal,
        portal.wrap_async_context_manager(lifespan(app)) as started,
    ):
        yield lambda: portal.call(answer, started)


async def answer(app: ASGIApp) -> list[int]:
    """Send a request, and return the status of its answer."""
    statuses: list[int] = []
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http",
        "method": "GET",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"testserver")],
        "client": ("127.0.0.1", 50000),
        "server": ("testserver", 80),
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(scope, receive, send)
    return statuses
