"""Contract 9, and 5.8: policies of tasks, set for an application and held across its requests."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
from anyio import from_thread
from anyio.lowlevel import checkpoint
from tasks_core import (
    BacklogFullError,
    Task,
    TaskConfig,
    TasksScheduler,
    TaskTimedOut,
    current_task,
    current_tasks,
)

from tests.conformance.cases import RouteKind, each_route, finish
from tests.conformance.driver import GUARD, serve
from tests.conformance.harness import ErrorAnswer, Harness, Route, Text, build

pytestmark = pytest.mark.anyio


class SomeError(Exception):
    pass


async def thrice(attempt: Callable[[], Awaitable[Any]]) -> Any:
    """Stand in for stamina's or tenacity's caller, without waiting."""
    for _ in range(2):
        with suppress(SomeError):
            return await attempt()
    return await attempt()


class Gate:
    """A function that waits until it is let go, and notes who has called it, in order."""

    def __init__(self) -> None:
        self.begun: list[object] = []
        self.go = anyio.Event()

    async def __call__(self, name: object = None) -> None:
        self.begun.append(name)
        await self.go.wait()


async def test_each_setting_of_the_application_arrives(harness: Harness) -> None:
    """3.3 Policies are settings like any other: what the application sets holds for its tasks."""
    config = TaskConfig(
        timeout=60, retry=thrice, key="all", unique=True, limit=2, backlog=3, daemon=False
    )
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.append(tasks.schedule(int))

    mounted = {"/inner": Route(endpoint=route)}
    async with serve(build(harness, route, mounted=mounted, config=config)) as server:
        for path in ("/", "/mounted/inner"):
            await server.request(path)
            await finish(made)
    assert [task.config for task in made] == [config] * 2
    assert dataclasses.replace(config, timeout=None) != config


async def test_a_task_that_takes_too_long_has_failed(harness: Harness) -> None:
    """9.1 It is cancelled, and its error handler told; nobody else notices."""
    handled: list[Exception] = []
    over = anyio.Event()

    def note(task: Task, error: Exception) -> None:
        del task
        handled.append(error)
        from_thread.run_sync(over.set)

    async def route(tasks: TasksScheduler) -> None:
        tasks.after_route.task(timeout=0.001).schedule(anyio.sleep_forever)

    async with serve(build(harness, route, config=TaskConfig(on_error=note))) as server:
        exchange = await server.request()
        await over.wait()
    assert exchange.status == 200
    assert [type(error) for error in handled] == [TaskTimedOut]


async def test_a_timeout_of_the_functions_own(harness: Harness) -> None:
    """9.2 What a function raises by itself is its failure, whatever the application has set."""
    made: list[Task] = []

    async def fail() -> None:
        raise TimeoutError("its own")

    async def route(tasks: TasksScheduler) -> None:
        made.append(tasks.after_response.schedule(fail))

    async with serve(build(harness, route, config=TaskConfig(timeout=GUARD))) as server:
        await server.request()
        await finish(made)
    assert type(made[0].exception) is TimeoutError


async def test_a_sync_function_is_told(harness: Harness) -> None:
    """9.3 One that asks, in its thread, whether its time is over, ends there."""
    made: list[Task] = []

    def ask() -> None:
        pause = threading.Event()
        while True:
            from_thread.check_cancelled()
            pause.wait(0.001)

    async def route(tasks: TasksScheduler) -> None:
        made.append(tasks.after_response.task(timeout=0.001).schedule(ask))

    async with serve(build(harness, route)) as server:
        await server.request()
        await finish(made)
    assert isinstance(made[0].exception, TaskTimedOut)


async def test_a_timeout_of_zero(harness: Harness) -> None:
    """9.4 Zero is a value: what awaits is cut there, what does not has succeeded."""
    made: list[Task] = []

    async def at_once() -> None: ...

    async def route(tasks: TasksScheduler) -> None:
        made.extend((tasks.schedule(at_once), tasks.schedule(anyio.sleep_forever)))

    async with serve(build(harness, route, config=TaskConfig(timeout=0))) as server:
        await server.request()
        await finish(made)
    assert [str(task.state) for task in made] == ["succeeded", "failed"]


async def test_a_function_is_called_again(harness: Harness) -> None:
    """9.5 As the application's retry wants it; 9.7 and each attempt knows its number."""
    made: list[Task] = []
    attempts: list[int] = []

    def step() -> int:
        attempts.append(current_task().attempt)
        if len(attempts) < 3:
            raise SomeError
        return 7

    async def route(tasks: TasksScheduler) -> None:
        made.append(tasks.after_response.schedule(step))

    async with serve(build(harness, route, config=TaskConfig(retry=thrice))) as server:
        await server.request()
        await finish(made)
    assert (made[0].result, made[0].attempt, attempts) == (7, 3, [1, 2, 3])


async def test_a_shutdown_between_two_attempts(harness: Harness) -> None:
    """9.6 None follows: a shielded task fails, and is handled before resources are closed."""
    log: list[str] = []
    waits = anyio.Event()

    async def wait_for_ever(attempt: Callable[[], Awaitable[Any]]) -> None:
        with suppress(SomeError):
            await attempt()
        waits.set()
        await anyio.sleep_forever()

    async def fail() -> None:
        log.append("attempt")
        raise SomeError

    async def handle(task: Task, error: Exception) -> None:
        await checkpoint()
        log.append(f"{task.state} {type(error).__name__}")

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[None, None]:
        yield
        log.append("closed")

    async def route(tasks: TasksScheduler) -> None:
        tasks.after_response.task(shield=True, retry=wait_for_ever, on_error=handle).schedule(fail)

    async with serve(build(harness, route, lifespan=lifespan)) as server:
        await server.request()
        await waits.wait()
    assert log == ["attempt", "failed SomeError", "closed"]


async def test_attempts_are_in_records(harness: Harness) -> None:
    """9.7 Where others look it up: 0 before the first, then from 1."""
    found: list[int] = []
    go = anyio.Event()
    ids: list[str] = []

    async def route(tasks: TasksScheduler) -> None:
        task = tasks.after_response.schedule(go.wait)
        ids.append(task.id)
        found.append(task.record().attempt)

    async def look(tasks: TasksScheduler) -> None:
        task = tasks.get(ids[0])
        assert task is not None
        await task.started.wait()
        found.append(task.record().attempt)
        go.set()

    async with serve(build(harness, route, routes={"/look": Route(endpoint=look)})) as server:
        await server.request()
        await server.request("/look")
    assert found == [0, 1]


@each_route
async def test_a_task_that_lives_is_found(harness: Harness, route_kind: RouteKind) -> None:
    """9.8 By each request that wants it once, in whichever phase, in a mounted application too."""
    gate, ids = Gate(), list[str]()

    def step(tasks: TasksScheduler) -> None:
        task = tasks.after_response.task(key="import", unique=True).schedule(gate)
        ids.append(task.id)

    route = route_kind(step)
    mounted = {"/inner": Route(endpoint=route)}
    async with serve(build(harness, route, mounted=mounted)) as server:
        for path in ("/", "/", "/mounted/inner"):
            await server.request(path)
        gate.go.set()
    assert len(gate.begun) == 1
    assert len(ids) == 3
    assert len(set(ids)) == 1


async def test_applications_have_keys_of_their_own(harness: Harness) -> None:
    """9.9 Nothing is shared between two that run side by side."""
    gate = Gate()

    async def route(tasks: TasksScheduler) -> None:
        for name in ("a", "b"):
            tasks.task(key=name, limit=1).schedule(gate, name)
            tasks.task(key=name, limit=1).schedule(gate, "waits")

    async with serve(build(harness, route)) as first, serve(build(harness, route)) as second:
        await first.request()
        await second.request()
        assert gate.begun == ["a", "b", "a", "b"]
        gate.go.set()


async def test_no_more_run_than_the_limit(harness: Harness) -> None:
    """9.10 Of all requests, in the order of their times; no response waits for one's turn."""
    gate, numbers = Gate(), iter(range(9))

    async def route(tasks: TasksScheduler) -> None:
        tasks.after_route.schedule(gate, next(numbers))

    mounted = {"/inner": Route(endpoint=route)}
    config = TaskConfig(key="all", limit=2, shield=True)
    async with serve(build(harness, route, mounted=mounted, config=config)) as server:
        for path in ("/", "/mounted/inner", "/", "/"):
            exchange = await server.request(path)
            assert exchange.status == 200
        assert gate.begun == [0, 1]
        gate.go.set()
    assert gate.begun == [0, 1, 2, 3]


async def test_sync_functions_wait_without_a_thread(harness: Harness) -> None:
    """9.10 Those that wait for their turn leave the threads to others."""
    go, ran = threading.Event(), anyio.Event()

    def other() -> None:
        from_thread.run_sync(ran.set)

    async def route(tasks: TasksScheduler) -> None:
        for _ in range(3):
            tasks.task(limit=1, shield=True).schedule(go.wait, GUARD)
        tasks.schedule(other)

    async with serve(build(harness, route, thread_limit=2)) as server:
        await server.request()
        await ran.wait()
        go.set()


async def test_a_route_may_say_that_it_is_too_much(harness: Harness) -> None:
    """9.11 Where none may wait, it answers 409 by the framework's way of answering errors."""
    gate, living = Gate(), list[int]()

    async def route(tasks: TasksScheduler) -> Text:
        try:
            tasks.after_response.task(limit=1, backlog=0).schedule(gate)
        finally:
            living.append(len(tasks.registry))
        return Text("accepted", 202)

    answers: dict[type[Exception], ErrorAnswer] = {BacklogFullError: lambda _: Text("at work", 409)}
    async with serve(build(harness, route, answers=answers)) as server:
        first, second = await server.request(), await server.request()
        gate.go.set()
    assert (first.status, second.status, second.body) == (202, 409, b"at work")
    assert living == [1, 1]


async def test_a_daemon_of_the_lifespan(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """5.8 A shutdown cancels it before the grace period, and resources close after it."""
    log: list[str] = []
    begun = anyio.Event()

    async def consume() -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await checkpoint()
            log.append("cleaned up")

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[None, None]:
        current_tasks().task(daemon=True).schedule(consume)
        yield
        log.append("closed")

    app = build(harness, lifespan=lifespan, grace_period=2 * GUARD, config=TaskConfig(shield=True))
    async with serve(app):
        await begun.wait()
    assert log == ["cleaned up", "closed"]
    assert not [record for record in caplog.records if record.name == "tasks_core"]
