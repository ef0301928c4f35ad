"""Contract 11: who is told of the tasks of an application, whichever framework carries it."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

import anyio
import pytest
from tasks_core import Phase, Task, TaskConfig, TasksScheduler, TaskState, current_tasks

from tests.conformance.cases import RouteKind, at, each_route, finish
from tests.conformance.driver import Exchange, serve
from tests.conformance.harness import Harness, Route, Stream, build

pytestmark = pytest.mark.anyio

variable = ContextVar("variable", default="unset")


class SomeError(Exception):
    pass


async def succeed() -> None: ...


@each_route
async def test_they_are_told_of_each_step(harness: Harness, route_kind: RouteKind) -> None:
    """11.1 When a route schedules, in its thread and context; when it begins; when it is over."""
    told: list[str] = []
    threads: list[int] = []
    made: list[Task] = []

    def observe(task: Task) -> None:
        threads.append(threading.get_ident())
        where = variable.get() if task.state is not TaskState.SKIPPED else "anywhere"
        told.append(f"{task.name} {task.state} {where}")

    def step(tasks: TasksScheduler) -> None:
        variable.set("route")
        threads.append(threading.get_ident())
        made.append(tasks.after_response.task(name="runs").schedule(succeed))
        made.append(tasks.after_response.task(name="not", run_on="failure").schedule(succeed))

    async with serve(build(harness, route_kind(step), observers=[observe])) as server:
        await server.request()
        await finish(made)
    assert told[:2] == ["runs pending route", "not pending route"]
    assert set(told[2:]) == {"runs running route", "runs succeeded route", "not skipped anywhere"}
    assert len(told) == 5
    assert threads[1:3] == [threads[0]] * 2
    assert threads[3:] == [threading.get_ident()] * 3


async def test_a_context_manager_is_around_a_task(harness: Harness) -> None:
    """11.2 Within is its function, in a thread too, and its error handler; it gets the error."""
    seen: list[str] = []
    made: list[Task] = []

    @contextmanager
    def around() -> Generator[None]:
        token = variable.set("task")
        try:
            yield
        except SomeError:
            seen.append("error")
        finally:
            variable.reset(token)

    def observe(task: Task) -> AbstractContextManager[None] | None:
        return around() if task.state is TaskState.RUNNING else None

    def fail() -> None:
        seen.append(f"function {variable.get()}")
        raise SomeError

    def handle(task: Task, error: Exception) -> None:
        seen.append(f"handler {variable.get()}")

    async def route(tasks: TasksScheduler) -> None:
        made.append(tasks.after_response.schedule(fail))

    app = build(harness, route, observers=[observe], config=TaskConfig(on_error=handle))
    async with serve(app) as server:
        await server.request()
        await finish(made)
    assert seen == ["function task", "handler task", "error"]
    assert made[0].state is TaskState.FAILED


async def test_what_they_raise_reaches_nobody(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    """11.3 Neither the route, nor its tasks; a handler of a task's own takes nothing from them."""
    told: list[str] = []
    made: list[Task] = []

    def broken(task: Task) -> None:
        raise SystemExit

    def observe(task: Task) -> None:
        told.append(str(task.state))

    async def fail() -> None:
        raise SomeError

    async def route(tasks: TasksScheduler) -> None:
        made.append(tasks.task(on_error=lambda _, __: None).schedule(fail))

    async with serve(build(harness, route, observers=[broken, observe])) as server:
        exchange = await server.request()
        await finish(made)
    assert exchange.status == 200
    assert told == ["pending", "running", "failed"]
    messages = [record.getMessage() for record in caplog.records if record.name == "tasks_core"]
    assert sum("broken failed, of task" in message for message in messages) == 3


async def test_nobody_is_told_arguments_or_results(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    """11.4 Neither who reads the records of a request's tasks, nor the log."""
    shown: list[str] = []
    caplog.set_level(0, "tasks_core")

    async def fail(password: str) -> str:
        raise SomeError

    async def work(password: str) -> str:
        return password

    async def route(tasks: TasksScheduler) -> None:
        with tasks.registry.updates() as updates:
            made = [tasks.schedule(fail, "secret"), tasks.schedule(work, password="secret")]  # noqa: S106
            await finish(made)
            updates.close()
            shown.extend([repr(record) async for record in updates])

    async with serve(build(harness, route)) as server:
        await server.request()
    assert len(shown) == 2
    assert "secret" not in "".join(shown) + caplog.text


Source = Callable[[TasksScheduler], AsyncIterator[object]]


async def of_all(tasks: TasksScheduler) -> AsyncIterator[object]:
    async for record in tasks.registry.updates():
        yield record.name


async def of_one(tasks: TasksScheduler) -> AsyncIterator[object]:
    yield "first"
    (task,) = tasks.registry.living(name="import")
    async for progress in task.updates():
        yield progress


@pytest.mark.parametrize("source", [of_all, of_one])
async def test_who_streams_does_not_hold_up_a_shutdown(harness: Harness, source: Source) -> None:
    """11.5 A stream of what changes ends as the drain begins, while tasks are still at work."""
    streams, go = anyio.Event(), anyio.Event()
    streamed: list[bool] = []

    async def start(tasks: TasksScheduler) -> None:
        tasks.task(name="import", shield=True).schedule(go.wait)

    async def watch(tasks: TasksScheduler) -> Stream:
        async def chunks() -> AsyncIterator[bytes]:
            streams.set()
            async for _ in source(tasks):
                yield b"."
            streamed.append(go.is_set())
            go.set()  # which the shutdown waits for

        return Stream(chunks())

    exchange = Exchange()
    routes = {"/watch": Route(endpoint=watch)}
    async with serve(build(harness, start, routes=routes)) as server:
        await server.request()
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: server.request("/watch", exchange=exchange))
            await streams.wait()
            await anyio.wait_all_tasks_blocked()
            await server.stop()
    assert streamed == [False]
    assert exchange.error is None


async def test_without_them_tasks_go_the_shortest_way(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """11.7 No framework's adapter observes, limits or repeats anything by itself."""

    def attempts(*_: object) -> None:
        raise AssertionError("not the shortest way")

    monkeypatch.setattr("tasks_core._execution.Attempts", attempts)
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.extend(at(tasks, phase).schedule(succeed) for phase in Phase)
        made.append(current_tasks().schedule(len, ""))

    async with serve(build(harness, route)) as server:
        await server.request()
        await finish(made)
    assert [str(task.state) for task in made] == ["succeeded"] * 4
