"""Every public coroutine, cancelled at each of its awaits, on both event loops.

Each case is a program that uses the coroutine within a scope; the scope is cancelled when the
coroutine comes to its Nth await, for every N that there is. Whatever N, nothing may be left behind:
no task that lives, no slot or thread that is taken, no runner that cannot be left; and what did not
ask to be cancelled goes on.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import anyio
import pytest
import tasks_core
import tasks_core.asgi
import tasks_core.testing
from anyio import CancelScope, fail_after
from tasks_core import Every, Periodic, Phase, Task, TaskConfig, TaskRunner, TasksScheduler
from tasks_core.asgi import (
    ApplicationTasks,
    Message,
    Receive,
    Scope,
    Send,
    TasksMiddleware,
    serve_route,
)
from tasks_core.asgi import serve as serve_request
from tasks_core.testing import drain, inline, lifespan, record

from tests.tasks_core.stage import GUARD, states, until_cancelled

pytestmark = pytest.mark.anyio

Case = Callable[[TaskRunner, TasksScheduler], Awaitable[object]]


class CancelledAt:
    """Awaits something, and cancels it when that comes to its Nth await."""

    def __init__(self, awaited: Awaitable[object], at: int, cancel: Callable[[], object]) -> None:
        self._awaited = awaited
        self._at = at
        self._cancel = cancel
        self.awaits = 0

    def __await__(self) -> Generator[Any, Any, object]:
        steps = self._awaited.__await__()
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                step = steps.send(value) if error is None else steps.throw(error)
            except StopIteration as stop:
                return stop.value
            if self.awaits == self._at:
                self._cancel()
            self.awaits += 1
            value, error = None, None
            try:
                value = yield step
            except BaseException as thrown:  # noqa: BLE001 - passed on
                error = thrown


async def pause() -> None:
    for _ in range(3):
        await anyio.lowlevel.checkpoint()


def pause_in_thread() -> None:
    """Do nothing, in a thread."""


async def fail() -> None:
    await pause()
    raise ValueError


CLOCKS = [Periodic(pause, Every(hours=9), TaskConfig(name=name)) for name in ("a", "b")]


def assert_clocks_stand(runner: TaskRunner) -> None:
    assert [clock.next_run_time for clock in runner.periodic.values()] == [None, None]


CASES: dict[str, Case] = {}


def case(*names: str) -> Callable[[Case], Case]:
    def note(build: Case) -> Case:
        for name in names:
            CASES[name] = build
        return build

    return note


@case("Task.wait")
async def wait(runner: TaskRunner, tasks: TasksScheduler) -> None:
    await tasks.schedule(pause).wait()


@case("Task.wait of a sync function")
async def wait_for_thread(runner: TaskRunner, tasks: TasksScheduler) -> None:
    await tasks.schedule(pause_in_thread).wait()


@case("Task.__call__")
async def call(runner: TaskRunner, tasks: TasksScheduler) -> None:
    await tasks.schedule(pause)()


@case("Task.__call__ of a sync function")
async def call_in_thread(runner: TaskRunner, tasks: TasksScheduler) -> None:
    await tasks.schedule(pause_in_thread)()


@case("Task.updates")
async def updates(runner: TaskRunner, tasks: TasksScheduler) -> None:
    async def report() -> None:
        for number in range(3):
            tasks_core.current_task().report(number)
            await anyio.lowlevel.checkpoint()

    async for _ in tasks.schedule(report).updates():
        pass


@case("Task.started")
async def started(runner: TaskRunner, tasks: TasksScheduler) -> None:
    await tasks.schedule(pause).started.wait()


@case("TasksScheduler.begun")
async def begun(runner: TaskRunner, tasks: TasksScheduler) -> None:
    tasks.schedule(pause)
    tasks.schedule(pause_in_thread)
    tasks.after_route.schedule(pause_in_thread)
    tasks.reach(Phase.AFTER_ROUTE)
    await tasks.begun()


@case("TasksScheduler.settle")
async def settle(runner: TaskRunner, tasks: TasksScheduler) -> None:
    async with inline():
        inner = TasksScheduler(runner)
        inner.schedule(pause)
        await inner.settle()


@case("TaskRunner.join")
async def join(runner: TaskRunner, tasks: TasksScheduler) -> None:
    tasks.schedule(pause)
    tasks.schedule(fail)
    await runner.join()


@case("TaskRunner.drain")
async def drain_runner(runner: TaskRunner, tasks: TasksScheduler) -> None:
    daemon = tasks.task(daemon=True).schedule(until_cancelled)
    tasks.schedule(pause)
    tasks.task(shield=True).schedule(pause)
    changes = runner.registry.updates()
    try:
        await runner.drain()
    finally:
        assert states(daemon) == ["cancelled"]
        assert_clocks_stand(runner)
        with CancelScope(shield=True):
            async for _ in changes:  # it ends
                pass


@case("TaskRunner.__aenter__", "TaskRunner.__aexit__")
async def enter(runner: TaskRunner, tasks: TasksScheduler) -> None:
    inner = TaskRunner(periodic=CLOCKS)
    try:
        async with inner:
            inner.task(daemon=True).schedule(until_cancelled)
            inner.task(shield=True).schedule(pause)
            inner.schedule(fail)
            await pause()
    finally:
        assert len(inner.registry) == 0
        assert_clocks_stand(inner)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    tasks = tasks_core.current_tasks()
    if scope["type"] == "lifespan":
        await receive()
        lives: list[Task] = [
            tasks.task(shield=True).schedule(pause),
            tasks.task(daemon=True).schedule(until_cancelled),
        ]
        try:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        finally:
            assert not any(task._lives for task in lives)
        await send({"type": "lifespan.shutdown.complete"})
        return
    for batch in (tasks.task(), tasks.after_route, tasks.after_response):
        batch.task(run_on="always").schedule(pause)
        batch.task(run_on="always").schedule(pause_in_thread)
    await pause()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})
    await pause()


async def routed(scope: Scope, receive: Receive, send: Send) -> None:
    await serve_route(application, scope, receive, send)


async def nowhere(message: Message) -> None:
    await anyio.lowlevel.checkpoint()


async def nothing() -> Message:
    await anyio.lowlevel.checkpoint()
    return {"type": "http.request"}


@case("serve", "serve_route")
async def serve(runner: TaskRunner, tasks: TasksScheduler) -> None:
    scope = {"type": "http", "path": "/"}
    await serve_request(routed, scope, nothing, nowhere, TasksScheduler(runner))


@case("ApplicationTasks.live", "ApplicationTasks.serve", "ApplicationTasks.run")
async def live(runner: TaskRunner, tasks: TasksScheduler) -> None:
    await run_application(ApplicationTasks(periodic=CLOCKS))


@case("TasksMiddleware.__call__", "TasksMiddleware.pass_on")
async def middleware(runner: TaskRunner, tasks: TasksScheduler) -> None:
    async with lifespan(TasksMiddleware(application)) as app:
        await app({"type": "http", "path": "/"}, nothing, nowhere)


async def run_application(tasks: ApplicationTasks) -> None:
    messages: list[Message] = [{"type": "lifespan.shutdown"}, {"type": "lifespan.startup"}]

    async def receive() -> Message:
        await anyio.lowlevel.checkpoint()
        return messages.pop()

    await tasks.live(application, {"type": "lifespan", "state": {}}, receive, nowhere)


@case("lifespan")
async def run_lifespan(runner: TaskRunner, tasks: TasksScheduler) -> None:
    async with lifespan(TasksMiddleware(application)):
        await pause()


@case("drain")
async def block_drain(runner: TaskRunner, tasks: TasksScheduler) -> None:
    async with drain():
        TasksScheduler(runner).schedule(pause)


@case("inline")
async def block_inline(runner: TaskRunner, tasks: TasksScheduler) -> None:
    async with inline():
        inner = TasksScheduler(runner)
        inner.schedule(pause)
        await inner.begun()


@case("record")
async def block_record(runner: TaskRunner, tasks: TasksScheduler) -> None:
    async with record():
        TasksScheduler(runner).schedule(pause)
        await pause()


@case("TaskRunner.status", "TasksScheduler.status", "TaskRunner.cancel", "TasksScheduler.cancel")
async def ask_by_id(runner: TaskRunner, tasks: TasksScheduler) -> None:
    task = tasks.schedule(pause)
    await runner.status(task.id)
    await tasks.status(task.id)
    await runner.cancel(task.id)
    await tasks.cancel(task.id)


@case("Updates.__anext__")
async def read_updates(runner: TaskRunner, tasks: TasksScheduler) -> None:
    with runner.registry.updates() as changes:
        tasks.schedule(pause)
        async for record in changes:
            if record.ended_at is not None:
                break


async def run_cancelled(build: Case, at: int, *, natively: bool = False) -> bool:
    """Run a case, cancelled at an await; return whether it came that far."""
    with fail_after(GUARD):
        async with TaskRunner(shutdown_timeout=GUARD, periodic=CLOCKS) as runner:
            backend = runner._entered()
            with TasksScheduler(runner) as tasks:
                scope = CancelScope()
                task = asyncio.current_task() if natively else None
                cancel = scope.cancel if task is None else task.cancel
                cancelled = CancelledAt(build(runner, tasks), at, cancel)
                try:
                    with scope:
                        await cancelled
                except asyncio.CancelledError:
                    if task is None:
                        raise
                    task.uncancel()
                bystander = tasks.schedule(pause) if runner._closed is None else None
            if bystander is not None:
                await bystander.wait()
                await runner.join()
        assert len(runner.registry) == 0
        assert backend.threads._free == 40
        assert not backend.threads._waiting
        assert not backend.threads._coming
        return cancelled.awaits > at


@pytest.mark.parametrize("name", CASES)
async def test_cancelled_at_each_await(name: str) -> None:
    """5.5 Whichever of its awaits is cancelled, nothing is left behind, and others go on."""
    at = 0
    while await run_cancelled(CASES[name], at):
        at += 1
        assert at < 500
    assert at > 0


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("name", CASES)
async def test_cancelled_natively_at_each_await(name: str) -> None:
    """5.5 So it is for asyncio's own cancellation."""
    at = 0
    while await run_cancelled(CASES[name], at, natively=True):
        at += 1
        assert at < 500
    assert at > 0


def public_coroutines() -> set[str]:
    """Return the names of all that users may await; what a protocol names is theirs."""
    found: set[str] = set()
    for module in (tasks_core, tasks_core.asgi, tasks_core.testing):
        for exported in module.__all__:
            value = getattr(module, exported)
            if inspect.iscoroutinefunction(value):
                found.add(exported)
            if inspect.isclass(value) and not getattr(value, "_is_protocol", False):
                found |= {
                    f"{value.__name__}.{name}"
                    for name, method in vars(value).items()
                    if inspect.iscoroutinefunction(method)
                    and (not name.startswith("_") or name.startswith("__"))
                }
    return found


def test_no_public_coroutine_is_missing() -> None:
    """What can be awaited is a case above, or is what one of these awaits."""
    within = {  # blocks, which are awaited as such
        "TasksBlock.__aenter__",
        "TasksBlock.__aexit__",
        "RecordedTasks.__aenter__",
        "RecordedTasks.__aexit__",
    }
    assert public_coroutines() - within <= CASES.keys()
