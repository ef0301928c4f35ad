"""Contract 1.1 to 1.5: when tasks begin, and in which order."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from functools import partial
from typing import Literal

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from tasks_core import Phase, Task, TasksScheduler, TaskState
from tasks_core.asgi import Message

from tests.conformance.cases import (
    FunctionKind,
    RouteKind,
    async_function,
    at,
    each_function,
    each_phase,
    each_route,
    finish,
    noting,
)
from tests.conformance.driver import GUARD, serve
from tests.conformance.harness import Dependency, Harness, Route, Stream, Text, build

pytestmark = pytest.mark.anyio


@each_route
async def test_immediate_task_begins_before_the_response(
    harness: Harness, route_kind: RouteKind
) -> None:
    """1.1 An immediate task of a route that awaits nothing begins before the response."""
    log: list[str] = []

    def route(tasks: TasksScheduler) -> None:
        tasks.schedule(async_function(partial(log.append, "task")))

    async with serve(build(harness, route_kind(route))) as server:
        await server.request(on_message=noting(log))
    assert log == ["task", "start", "sent"]


@each_route
async def test_immediate_task_begins_before_an_error_response(
    harness: Harness, route_kind: RouteKind
) -> None:
    """1.1 An immediate task has run its first step also when an error is answered."""
    log: list[str] = []

    def route(tasks: TasksScheduler) -> None:
        tasks.schedule(async_function(partial(log.append, "task")))
        raise harness.http_error(418)

    async with serve(build(harness, route_kind(route))) as server:
        exchange = await server.request(on_message=noting(log))
    assert exchange.status == 418
    assert log == ["task", "start", "sent"]


@each_route
@pytest.mark.parametrize("times", [1, 20])
async def test_immediate_sync_function_has_a_thread_before_the_response(
    harness: Harness, route_kind: RouteKind, times: int
) -> None:
    """1.1 An immediate sync function has been handed to a thread when the response starts."""
    await _begins_while_the_loop_stands_still(harness, route_kind, Phase.IMMEDIATE, times)


async def test_immediate_task_runs_beside_an_async_route(harness: Harness) -> None:
    """1.1 An immediate task runs concurrently with an async route."""

    async def route(tasks: TasksScheduler) -> None:
        done = anyio.Event()
        tasks.schedule(async_function(done.set))
        await done.wait()

    async with serve(build(harness, route)) as server:
        assert (await server.request()).status == 200


async def test_immediate_task_runs_beside_a_sync_route(harness: Harness) -> None:
    """1.1 An immediate task runs concurrently with a sync route."""

    def route(tasks: TasksScheduler) -> Text:
        done = threading.Event()
        tasks.schedule(async_function(done.set))
        return Text(str(done.wait(GUARD)))

    async with serve(build(harness, route)) as server:
        assert (await server.request()).body == b"True"


async def test_after_route_begins_once_the_route_has_returned(harness: Harness) -> None:
    """1.2 A task of the phase begins after the route has returned, before the response."""
    log: list[str] = []

    async def route(tasks: TasksScheduler) -> None:
        tasks.after_route.schedule(async_function(partial(log.append, "task")))
        await wait_all_tasks_blocked()
        log.append("route")

    async with serve(build(harness, route)) as server:
        await server.request(on_message=noting(log))
    assert log == ["route", "task", "start", "sent"]


@each_route
async def test_after_route_has_begun_when_the_response_starts(
    harness: Harness, route_kind: RouteKind
) -> None:
    """1.2 Every async task of the phase has run its first step before the response starts."""
    log: list[str] = []

    def route(tasks: TasksScheduler) -> None:
        for number in range(50):
            tasks.after_route.schedule(async_function(partial(log.append, str(number))))
        log.append("route")

    async with serve(build(harness, route_kind(route))) as server:
        await server.request(on_message=noting(log))
    assert log == ["route", *map(str, range(50)), "start", "sent"]


@pytest.mark.needs("function dependencies")
@each_route
async def test_after_route_begins_once_function_dependencies_are_closed(
    harness: Harness, route_kind: RouteKind
) -> None:
    """1.2 A task of the phase begins after function-scoped dependencies are closed."""
    log: list[str] = []

    async def around(tasks: TasksScheduler) -> AsyncGenerator[None, None]:
        tasks.after_route.schedule(async_function(partial(log.append, "task")))
        yield
        await wait_all_tasks_blocked()
        log.append("closed")

    endpoint = route_kind(lambda _: log.append("route"))
    route = Route(endpoint=endpoint, dependency=Dependency(around=around, scope="function"))
    async with serve(build(harness, route)) as server:
        await server.request(on_message=noting(log))
    assert log == ["route", "closed", "task", "start", "sent"]


@each_route
@pytest.mark.parametrize("times", [1, 20])
async def test_after_route_sync_function_has_a_thread_before_the_response(
    harness: Harness, route_kind: RouteKind, times: int
) -> None:
    """1.2 A sync function of the phase has been handed to a thread when the response starts."""
    await _begins_while_the_loop_stands_still(harness, route_kind, Phase.AFTER_ROUTE, times)


async def _begins_while_the_loop_stands_still(
    harness: Harness, route_kind: RouteKind, phase: Phase, times: int
) -> None:
    began = [threading.Event() for _ in range(times)]
    in_time: list[bool] = []

    def route(tasks: TasksScheduler) -> None:
        for event in began:
            at(tasks, phase).schedule(event.set)

    def look(message: Message) -> None:
        if message["type"] == "http.response.start":
            in_time.append(all(event.wait(GUARD / 2) for event in began))

    async with serve(build(harness, route_kind(route))) as server:
        await server.request(on_message=look)
    assert in_time == [True]


@each_phase
async def test_response_does_not_wait_for_async_tasks(harness: Harness, phase: Phase) -> None:
    """1.2 The response, and the request, never wait for an async task to finish."""
    release = anyio.Event()
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.append(at(tasks, phase).schedule(release.wait))

    async with serve(build(harness, route)) as server:
        exchange = await server.request()
        assert exchange.body == b"ok"
        await made[0].started.wait()
        assert made[0].state is TaskState.RUNNING
        release.set()
        await made[0].wait()


@each_phase
async def test_response_does_not_wait_for_sync_tasks(harness: Harness, phase: Phase) -> None:
    """1.2 The response never waits for a sync task to finish, nor for a thread to become free."""
    release = threading.Event()
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.extend(at(tasks, phase).schedule(release.wait, GUARD) for _ in range(3))

    async with serve(build(harness, route, thread_limit=1)) as server:
        exchange = await server.request()
        assert exchange.body == b"ok"
        assert not any(task.state is TaskState.SUCCEEDED for task in made)
        release.set()
        await finish(made)
        assert [task.result for task in made] == [True] * 3


@each_route
async def test_after_response_begins_once_the_response_is_sent(
    harness: Harness, route_kind: RouteKind
) -> None:
    """1.3 A task of the phase begins after the server has accepted the last body message."""
    log: list[str] = []
    made: list[Task] = []

    def route(tasks: TasksScheduler) -> None:
        task = async_function(partial(log.append, "task"))
        made.append(tasks.after_response.schedule(task))

    async with serve(build(harness, route_kind(route))) as server:
        await server.request(on_message=noting(log))
        await finish(made)
    assert log == ["start", "sent", "task"]


@pytest.mark.needs("dependencies")
@each_function
@pytest.mark.parametrize("first", [True, False], ids=["dependency_first", "tasks_first"])
async def test_after_response_sees_what_a_dependency_commits(
    harness: Harness, function_kind: FunctionKind, *, first: bool
) -> None:
    """1.3 A task of the phase sees what a dependency did at its exit, in any order."""
    await _sees_what_a_dependency_commits(harness, function_kind, None, first=first)


@pytest.mark.needs("request dependencies")
@each_function
@pytest.mark.parametrize("first", [True, False], ids=["dependency_first", "tasks_first"])
async def test_after_response_sees_what_a_request_dependency_commits(
    harness: Harness, function_kind: FunctionKind, *, first: bool
) -> None:
    """1.3 A task of the phase sees what a request-scoped dependency did at its exit."""
    await _sees_what_a_dependency_commits(harness, function_kind, "request", first=first)


async def _sees_what_a_dependency_commits(
    harness: Harness, function_kind: FunctionKind, scope: Literal["request"] | None, *, first: bool
) -> None:
    log: list[str] = []
    made: list[Task] = []

    async def around(_: TasksScheduler) -> AsyncGenerator[None, None]:
        yield
        await wait_all_tasks_blocked()
        log.append("committed")

    def schedule(tasks: TasksScheduler) -> None:
        task = function_kind(partial(log.append, "task"))
        made.append(tasks.after_response.schedule(task))

    async def endpoint(tasks: TasksScheduler) -> None:
        schedule(tasks)

    dependency = Dependency(around=around, scope=scope, first=first)
    async with serve(build(harness, Route(endpoint=endpoint, dependency=dependency))) as server:
        await server.request()
        await finish(made)
    assert log == ["committed", "task"]


@each_phase
@each_route
async def test_async_tasks_begin_in_order(
    harness: Harness, route_kind: RouteKind, phase: Phase
) -> None:
    """1.4 Async tasks of a phase begin in the order in which they were scheduled."""
    begun: list[int] = []
    made: list[Task] = []

    def route(tasks: TasksScheduler) -> None:
        for number in range(50):
            task = async_function(partial(begun.append, number))
            made.append(at(tasks, phase).schedule(task))

    async with serve(build(harness, route_kind(route))) as server:
        await server.request()
        await finish(made)
    assert begun == list(range(50))


@each_phase
@each_route
async def test_sync_tasks_begin_in_order(
    harness: Harness, route_kind: RouteKind, phase: Phase
) -> None:
    """1.4 Where there is one thread, sync tasks run in the order of their scheduling."""
    begun: list[int] = []
    made: list[Task] = []

    def route(tasks: TasksScheduler) -> None:
        made.extend(at(tasks, phase).schedule(begun.append, number) for number in range(20))

    async with serve(build(harness, route_kind(route), thread_limit=1)) as server:
        await server.request()
        await finish(made)
    assert begun == list(range(20))


def assert_handed_over_in_order(made: Sequence[Task]) -> None:
    """Assert that sync tasks began in their order; which runs first, the system decides."""
    started = [task.record().started_at for task in made]
    assert None not in started
    assert started == sorted(map(str, started))


@each_phase
@each_route
async def test_sync_tasks_are_handed_to_threads_in_order(
    harness: Harness, route_kind: RouteKind, phase: Phase
) -> None:
    """1.4 Sync tasks of a phase are handed to their threads in the order of their scheduling."""
    made: list[Task] = []

    def route(tasks: TasksScheduler) -> None:
        made.extend(at(tasks, phase).schedule(int) for _ in range(20))

    async with serve(build(harness, route_kind(route), thread_limit=40)) as server:
        await server.request()
        await finish(made)
    assert_handed_over_in_order(made)


@each_phase
async def test_mixed_tasks_begin_in_order(harness: Harness, phase: Phase) -> None:
    """1.4 Where sync and async tasks are mixed, those of each kind begin in order."""
    begun: list[int] = []
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        for number in range(10):
            made.append(at(tasks, phase).schedule(int))
            task = async_function(partial(begun.append, number))
            made.append(at(tasks, phase).schedule(task))

    async with serve(build(harness, route)) as server:
        await server.request()
        await finish(made)
    assert begun == list(range(10))
    assert_handed_over_in_order(made[::2])


@each_phase
async def test_tasks_of_a_phase_run_concurrently(harness: Harness, phase: Phase) -> None:
    """1.4 The tasks of a phase run concurrently: each can wait for what a later one does."""
    events = [anyio.Event() for _ in range(5)]
    made: list[Task] = []

    async def task(number: int) -> None:
        events[number].set()
        for event in events:
            await event.wait()

    async def route(tasks: TasksScheduler) -> None:
        made.extend(at(tasks, phase).schedule(task, number) for number in range(5))

    async with serve(build(harness, route)) as server:
        await server.request()
        await finish(made)
    assert all(task.state is TaskState.SUCCEEDED for task in made)


@each_route
async def test_phases_begin_in_order(harness: Harness, route_kind: RouteKind) -> None:
    """1.4 Phases begin in order, in whatever order their tasks were scheduled."""
    log: list[str] = []
    made: list[Task] = []

    def route(tasks: TasksScheduler) -> None:
        for phase in reversed(Phase):
            task = async_function(partial(log.append, str(phase)))
            made.append(at(tasks, phase).schedule(task))

    async with serve(build(harness, route_kind(route))) as server:
        await server.request(on_message=noting(log))
        await finish(made)
    assert log == ["immediate", "after_route", "start", "sent", "after_response"]


@each_function
async def test_a_task_schedules_into_a_phase_that_has_passed(
    harness: Harness, function_kind: FunctionKind
) -> None:
    """1.5 What a task schedules into the phase that it belongs to starts at once."""
    log: list[str] = []
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        def schedule() -> None:
            for phase in (Phase.IMMEDIATE, Phase.AFTER_ROUTE):
                task = async_function(partial(log.append, str(phase)))
                made.append(at(tasks, phase).schedule(task))

        made.append(tasks.after_route.schedule(function_kind(schedule)))

    async def look(message: Message) -> None:
        if message["type"] == "http.response.start":
            await made[0].wait()
            await finish(made)
            log.append("start")

    async with serve(build(harness, route)) as server:
        await server.request(on_message=look)
    assert log == ["immediate", "after_route", "start"]


async def test_a_streaming_body_schedules_into_a_phase_that_has_passed(harness: Harness) -> None:
    """1.5 What a streaming body schedules into "after route" starts at once, while it streams."""
    log: list[str] = []
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> Stream:
        async def chunks() -> AsyncIterator[bytes]:
            later = async_function(partial(log.append, "after_response"))
            made.append(tasks.after_response.schedule(later))
            done = anyio.Event()
            made.append(tasks.after_route.schedule(async_function(done.set)))
            yield b"1"
            await done.wait()
            log.append("after_route")
            yield b"2"

        return Stream(chunks())

    async with serve(build(harness, route)) as server:
        exchange = await server.request(on_message=noting(log))
        await finish(made)
    assert exchange.body == b"12"
    assert log == ["start", "after_route", "sent", "after_response"]


@pytest.mark.needs("dependencies")
@each_phase
async def test_exit_code_of_a_dependency_schedules(harness: Harness, phase: Phase) -> None:
    """1.5 What the exit code of a dependency schedules runs, whatever the phase."""
    made: list[Task] = []

    async def around(tasks: TasksScheduler) -> AsyncGenerator[None, None]:
        yield
        made.append(at(tasks, phase).schedule(async_function(lambda: "done")))

    async def endpoint(_: TasksScheduler) -> None: ...

    route = Route(endpoint=endpoint, dependency=Dependency(around=around))
    async with serve(build(harness, route)) as server:
        await server.request()
        assert await made[0].wait() == "done"


@pytest.mark.needs("request dependencies")
async def test_exit_code_after_the_response_schedules_into_after_route(harness: Harness) -> None:
    """1.5 What exit code schedules into "after route" after the response starts at once."""
    log: list[str] = []

    async def around(tasks: TasksScheduler) -> AsyncGenerator[None, None]:
        yield
        done = anyio.Event()
        tasks.after_route.schedule(async_function(done.set))
        await done.wait()
        log.append("closed")

    async def endpoint(_: TasksScheduler) -> None: ...

    route = Route(endpoint=endpoint, dependency=Dependency(around=around, scope="request"))
    async with serve(build(harness, route)) as server:
        await server.request(on_message=noting(log))
    assert log == ["start", "sent", "closed"]


@each_phase
@each_function
async def test_the_scheduler_works_after_the_request(
    harness: Harness, function_kind: FunctionKind, phase: Phase
) -> None:
    """1.5 After the request, tasks of every phase start at once."""
    kept: list[TasksScheduler] = []

    async with serve(build(harness, kept.append)) as server:
        await server.request()
        task = at(kept[0], phase).schedule(function_kind(lambda: "done"))
        assert await task.wait() == "done"


async def test_a_task_schedules_after_the_request(harness: Harness) -> None:
    """1.5 A task that outlives its request can still schedule into each of its phases."""
    release = anyio.Event()
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        async def task() -> list[str]:
            await release.wait()
            later = [at(tasks, phase).schedule(async_function(lambda: "done")) for phase in Phase]
            return [await task.wait() for task in later]

        made.append(tasks.schedule(task))

    async with serve(build(harness, route)) as server:
        await server.request()
        release.set()
        assert await made[0].wait() == ["done"] * 3
