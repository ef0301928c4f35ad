"""The ways to start a background task that are compared, each as a context manager."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, Final, TypeAlias

import anyio

from benchmarks.measuring import OURS, PEER, TASKFLOW

Function: TypeAlias = Callable[[], Any]


@dataclass(frozen=True)
class Start:
    """How to start one task; ``call(func)`` may itself have to be awaited."""

    call: Callable[[Function], Any]
    is_async: bool = False
    by: Any = None
    """What `benchmarks.calls` calls, where that has calls for it: a scheduler, a task group."""

    async def many(self, func: Function, count: int) -> None:
        """Start a number of tasks."""
        call = self.call
        if self.is_async:
            for _ in range(count):
                await call(func)
        else:
            for _ in range(count):
                call(func)


Way: TypeAlias = Callable[[], AbstractAsyncContextManager[Start]]


@asynccontextmanager
async def create_task() -> AsyncGenerator[Start]:
    """Start with bare asyncio, the tasks kept in a set as its documentation asks for."""
    tasks: set[asyncio.Task[Any]] = set()
    create, keep, discard = asyncio.get_running_loop().create_task, tasks.add, tasks.discard

    def start(func: Callable[[], Any]) -> None:
        task = create(func())
        keep(task)
        task.add_done_callback(discard)

    yield Start(start)


@asynccontextmanager
async def create_task_unkept() -> AsyncGenerator[Start]:
    """Start with bare asyncio and nothing else: less than its documentation asks for."""
    create = asyncio.get_running_loop().create_task
    yield Start(lambda func: create(func()))


@asynccontextmanager
async def start_soon() -> AsyncGenerator[Start]:
    """Start with a bare task group of anyio."""
    async with anyio.create_task_group() as group:
        yield Start(group.start_soon, by=group)


@asynccontextmanager
async def aiojobs() -> AsyncGenerator[Start]:
    """Start with an unlimited scheduler of aiojobs."""
    from aiojobs import Scheduler  # noqa: PLC0415 - may be missing

    async with Scheduler(limit=None) as scheduler:

        def start(func: Callable[[], Any]) -> Awaitable[object]:
            return scheduler.spawn(func())

        yield Start(start, is_async=True)


@asynccontextmanager
async def quart() -> AsyncGenerator[Start]:
    """Start with `Quart.add_background_task`."""
    from quart import Quart  # noqa: PLC0415 - may be missing

    add: Any = getattr(Quart(__name__), "add_background_task")  # noqa: B009 - not wholly typed
    yield Start(add)


@asynccontextmanager
async def ours() -> AsyncGenerator[Start]:
    """Start with a scheduler of tasks_core."""
    from tasks_core import TaskRunner, TasksScheduler  # noqa: PLC0415 - not in the peer's place

    async with TaskRunner() as runner:
        tasks = TasksScheduler(runner)
        yield Start(tasks.schedule, by=tasks)


@asynccontextmanager
async def ours_shielded() -> AsyncGenerator[Start]:
    """Start shielded, configured anew for every task."""
    from tasks_core import TaskRunner, TasksScheduler  # noqa: PLC0415 - not in the peer's place

    async with TaskRunner() as runner:
        task = TasksScheduler(runner).task
        yield Start(lambda func: task(shield=True).schedule(func))


@asynccontextmanager
async def ours_shielded_kept() -> AsyncGenerator[Start]:
    """Start shielded, configured once."""
    from tasks_core import TaskRunner, TasksScheduler  # noqa: PLC0415 - not in the peer's place

    async with TaskRunner() as runner:
        yield Start(TasksScheduler(runner).task(shield=True).schedule)


@asynccontextmanager
async def peer() -> AsyncGenerator[Start]:
    """Start with the published package's scheduler."""
    scheduler = import_module("fastapi_tasks.tasks").TasksScheduler
    async with anyio.create_task_group() as group:
        tasks = scheduler(group)
        yield Start(tasks.schedule, by=tasks)


@asynccontextmanager
async def taskflow() -> AsyncGenerator[Start]:
    """Start with fastapi-taskflow's BackgroundTasks, at once and not after a response."""
    flow = import_module("fastapi_taskflow")
    tasks = flow.ManagedBackgroundTasks(flow.TaskManager())
    yield Start(partial(tasks.add_task, eager=True), by=tasks)


BARE: Final = "asyncio create_task"
GROUP: Final = "anyio start_soon"
CORE: Final = "tasks_core schedule"
SHIELDED: Final = "tasks_core task(shield).schedule"
EARLIER: Final = "fastapi-tasks 0.1.0 of PyPI"
MANAGED: Final = "fastapi-taskflow"

WAYS: Final[dict[str, dict[str, Way]]] = {
    OURS: {
        BARE: create_task,
        "asyncio create_task, not kept": create_task_unkept,
        GROUP: start_soon,
        "aiojobs spawn": aiojobs,
        "Quart add_background_task": quart,
        CORE: ours,
        SHIELDED: ours_shielded,
        "tasks_core, shielded, configured once": ours_shielded_kept,
    },
    TASKFLOW: {
        BARE: create_task,
        GROUP: start_soon,
        MANAGED: taskflow,
    },
    PEER: {
        BARE: create_task,
        GROUP: start_soon,
        EARLIER: peer,
    },
}
"""By where they are measured; each place is a process of its own."""
