"""What anybody would write first: a task group in the lifespan, two dependencies with `yield`.

It has as much of fastapi-tasks' surface as the applications here use, and no more thought than
that. The scenarios must fail with it, or they could not fail at all.
"""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from inspect import iscoroutinefunction
from typing import Annotated, Any

import anyio
from anyio.abc import TaskGroup
from fastapi import Depends, FastAPI
from fastapi.requests import HTTPConnection

logger = logging.getLogger("tasks_core")

RunnerSettings = dict[str, Any]


class RunnerClosedError(RuntimeError):
    pass


class Task:
    def __init__(self, func: Any, args: Any, kwargs: Any, settings: dict[str, Any]) -> None:
        self.func, self.args, self.kwargs = func, args, kwargs
        self.name = settings.get("name") or getattr(func, "__name__", None) or repr(func)
        self.shield = bool(settings.get("shield"))
        self.on_error: Any = settings.get("on_error")
        self.state = "pending"
        self.ended = anyio.Event()

    async def wait(self) -> None:
        await self.ended.wait()

    async def run(self) -> None:
        _current_task.set(self)
        with anyio.CancelScope(shield=self.shield):
            try:
                self.state = "running"
                if iscoroutinefunction(self.func):
                    await self.func(*self.args, **self.kwargs)
                else:
                    await anyio.to_thread.run_sync(lambda: self.func(*self.args, **self.kwargs))
                self.state = "succeeded"
            except Exception as error:
                self.state = "failed"
                logger.exception("Task %s failed", self.name, extra={"task_name": self.name})
                if iscoroutinefunction(self.on_error):
                    await self.on_error(self, error)
                elif self.on_error is not None:
                    self.on_error(self, error)
            finally:
                self.ended.set()


class PhaseScheduler:
    def __init__(self, take: Callable[[Task], None], settings: dict[str, Any]) -> None:
        self.take, self.settings = take, settings

    def schedule(self, func: Any, /, *args: Any, **kwargs: Any) -> Task:
        task = Task(func, args, kwargs, self.settings)
        self.take(task)
        return task

    def task(self, **settings: Any) -> "PhaseScheduler":
        return PhaseScheduler(self.take, self.settings | settings)


class TasksScheduler(PhaseScheduler):
    def __init__(self, group: TaskGroup, route: list[Task], response: list[Task]) -> None:
        super().__init__(self.start, {})
        self.group = group
        self.after_route = PhaseScheduler(route.append, {})
        self.after_response = PhaseScheduler(response.append, {})

    def start(self, task: Task) -> None:
        self.group.start_soon(task.run)


_current_task = ContextVar[Task]("current_task")
_current_tasks = ContextVar[TasksScheduler]("current_tasks")
current_task = _current_task.get
current_tasks = _current_tasks.get


def add_tasks(app: FastAPI, **_settings: Any) -> None:
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[Any]:
        async with anyio.create_task_group() as group:
            _current_tasks.set(TasksScheduler(group, [], []))
            async with inner(app):
                yield {"group": group}
            group.cancel_scope.cancel()

    app.router.lifespan_context = lifespan


async def _until_closed(connection: HTTPConnection) -> AsyncIterator[list[Task]]:
    tasks: list[Task] = []
    yield tasks
    for task in tasks:
        connection.state.group.start_soon(task.run)


async def _after_response(connection: HTTPConnection) -> AsyncIterator[list[Task]]:
    async for tasks in _until_closed(connection):
        yield tasks


async def _get_tasks(
    connection: HTTPConnection,
    route: Annotated[list[Task], Depends(_until_closed, scope="function")],
    response: Annotated[list[Task], Depends(_after_response, scope="request")],
) -> TasksScheduler:
    return TasksScheduler(connection.state.group, route, response)


Tasks = Annotated[TasksScheduler, Depends(_get_tasks)]
