"""What the checkers promise of tasks-core and what they forbid; never run (contract 6.3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from functools import partial
from typing import Any, assert_type

import anyio
import httpx
import stamina
import tenacity
from tasks_core import (
    BacklogFullError,
    Carrier,
    HandOver,
    PeriodicTask,
    Phase,
    PhaseScheduler,
    Retry,
    RunnerSettings,
    Task,
    TaskConfig,
    TaskErrorHandler,
    TaskObserver,
    TaskRecord,
    TaskRegistry,
    TaskRunner,
    TaskSettings,
    TasksScheduler,
    TaskState,
    TaskStatus,
    TaskTimedOut,
    Updates,
    current_task,
    current_tasks,
)
from tasks_core.asgi import ASGIApp, TasksMiddleware


async def fetch(url: str, *, retries: int = 3) -> bytes:
    return f"{url}{retries}".encode()


def resize(width: int, height: int = 1) -> float:
    return width / height


def starts(number: int) -> Awaitable[str]:
    raise NotImplementedError


class Mailer:
    async def send(self, to: str) -> bool:
        return bool(to)

    def __call__(self, to: str) -> int:
        return len(to)


async def takes_func(func: str) -> None:
    """A task may have a keyword called ``func``: the scheduler's own is positional-only."""


async def results(tasks: TasksScheduler) -> None:
    assert_type(await tasks.schedule(fetch, "x", retries=1).wait(), bytes)
    assert_type(await tasks.schedule(resize, 1, height=2).wait(), float)
    assert_type(await tasks.schedule(starts, 1).wait(), str)
    assert_type(await tasks.schedule(Mailer().send, "x").wait(), bool)
    assert_type(await tasks.schedule(Mailer(), "x").wait(), int)
    assert_type(await tasks.schedule(partial(fetch, "x")).wait(), bytes)
    assert_type(await tasks.schedule(takes_func, func="x").wait(), None)
    assert_type(await tasks.after_route.schedule(fetch, "x").wait(), bytes)
    assert_type(await tasks.after_response.schedule(resize, 1).wait(), float)
    assert_type(await tasks.task(name="x").schedule(fetch, "x").wait(), bytes)
    assert_type(await tasks.after_route.task(shield=True).schedule(fetch, "x").wait(), bytes)
    assert_type(await tasks.after_response.task(run_on="always").schedule(resize, 1).wait(), float)
    assert_type(await tasks.schedule(fetch, "x")(), bytes)


def forbidden(tasks: TasksScheduler) -> None:
    """Wrong arguments are errors, also after ``.task(...)``; so is a needless ignore."""
    tasks.schedule(fetch)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    tasks.schedule(fetch, 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    tasks.schedule(resize, "1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    tasks.schedule(fetch, "x", retries="1")  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    tasks.schedule(fetch("x"))  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    tasks.after_route.schedule(fetch, 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    tasks.task(name="x").schedule(fetch, 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    tasks.after_response.task(shield=True).schedule(resize)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    tasks.task(nam="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    tasks.task(run_on="never")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tasks.task(on_error=too_few)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tasks.config.name = "x"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    tasks.schedule(resize, 1).state = TaskState.FAILED  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    TaskRunner(grace=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    TasksMiddleware(asgi_app, timeout=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def too_few(task: Task) -> None:
    assert_type(task.config, TaskConfig)


async def async_handler(task: Task, error: Exception) -> None:
    """A bare ``Task`` is complete under strict checkers."""
    assert_type(task, "Task[..., Any]")
    assert_type(task.func, Callable[..., Any])
    assert_type(task.func.__name__, str)
    assert_type(task.state, TaskState)
    assert_type(task.started, anyio.Event)
    assert_type(task.id, str)
    assert_type(task.exception, Exception | None)
    assert_type(task.cancel(), bool)
    await task.func(*task.args, **task.kwargs)
    await task()
    del error


def sync_handler(task: Task, error: BaseException) -> str:
    return f"{task.name}{error}"


HANDLERS: list[TaskErrorHandler] = [async_handler, sync_handler, lambda task, error: (task, error)]


def configs() -> None:
    config = TaskConfig(name="x", shield=False, on_error=async_handler, run_on="always")
    assert_type(config.merge(TaskConfig(on_error=sync_handler)), TaskConfig)
    assert_type(config.shielded, bool)


def kept(tasks: TasksScheduler) -> None:
    mails = tasks.after_response.task(name="mail")
    assert_type(mails, PhaseScheduler)
    assert_type(mails.task(shield=True), PhaseScheduler)
    assert_type(tasks.after_route.scheduled, tuple[Task, ...])
    assert_type(mails.schedule(fetch, "x").result, bytes | None)


def by_the_clock(periodic: PeriodicTask) -> None:
    assert_type(periodic.next_run_time, datetime | None)
    assert_type(periodic.last, Task[..., Any] | None)
    periodic.paused = True
    periodic.name = "x"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    periodic.next_run_time = None  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    periodic.last = periodic.run()  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


async def asgi_app(scope: object, receive: object, send: object) -> None:
    """An ASGI application need not use our types."""


async def by_hand(settings: RunnerSettings) -> None:
    async with TaskRunner(**settings) as runner:
        with TasksScheduler(runner, TaskConfig(shield=True)) as tasks:
            assert_type(tasks, TasksScheduler)
            tasks.reach(Phase.AFTER_ROUTE, failed=True)
            await tasks.begun()
    app: ASGIApp = TasksMiddleware(asgi_app, grace_period=5, config=TaskConfig())
    del app
    assert_type(current_task(), Task)
    assert_type(current_tasks(), TasksScheduler)


async def twice(attempt: Callable[[], Awaitable[Any]]) -> object:
    try:
        return await attempt()
    except OSError:
        return await attempt()


class Patient:
    """A retry may be an object, with its own names and more parameters that have defaults."""

    async def __call__(self, call: Callable[[], Awaitable[Any]], times: int = 3) -> Any:
        del times
        return await call()


async def beside(attempt: Callable[[], Awaitable[Any]]) -> Any:
    """Several attempts at a time are tasks of the event loop's own."""
    return await asyncio.gather(*[asyncio.ensure_future(attempt()) for _ in range(2)])


def once(attempt: Callable[[], Awaitable[Any]]) -> object:
    """Not async: it would take the coroutine for the result."""
    return attempt


async def of_nothing() -> None:
    """No retry, as it takes no attempt."""


RETRIES: list[Retry] = [
    stamina.AsyncRetryingCaller(attempts=3).on(httpx.TransportError),
    tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(3), reraise=True),
    twice,
    beside,
    Patient(),
]


async def policies(tasks: TasksScheduler, runner: TaskRunner) -> None:
    """Policies are settings like any other, and take nothing from the function's types."""
    limited = tasks.after_response.task(key="mail", limit=3, backlog=100, unique=True)
    assert_type(limited, PhaseScheduler)
    assert_type(await limited.task(timeout=5).schedule(fetch, "x").wait(), bytes)
    assert_type(await tasks.task(retry=twice).schedule(resize, 1).wait(), float)
    assert_type(
        runner.task(daemon=True, timeout=0.5, retry=RETRIES[0]).schedule(resize, 1).attempt, int
    )
    assert_type(
        TaskConfig(timeout=5, key="x", limit=1, backlog=0, daemon=False).timeout, float | None
    )
    assert_type(current_task().record().attempt, int)
    settings: TaskSettings = {"timeout": 5, "retry": twice}
    tasks.task(**settings)
    try:
        limited.schedule(fetch, "x")
    except BacklogFullError as error:
        assert_type(error.key, str)
    except TaskTimedOut as late:
        assert_type(late, TaskTimedOut)
        timed_out: TimeoutError = late
        del timed_out


def forbidden_policies(tasks: TasksScheduler) -> None:
    """Wrong values are errors; so are wrong arguments behind each of them."""
    tasks.task(timeout="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tasks.task(limit=0.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tasks.task(key=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tasks.task(unique="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tasks.task(retries=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    tasks.task(retry=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tasks.task(retry=once)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tasks.task(retry=of_nothing)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tasks.task(retry=stamina.AsyncRetryingCaller(attempts=3))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tasks.task(retry=stamina.RetryingCaller().on(OSError))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    TaskConfig(daemon=1, backlog="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tasks.task(limit=1).schedule(fetch, 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    tasks.task(retry=twice).schedule(resize)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    tasks.schedule(resize, 1).attempt = 2  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


@contextmanager
def around(task: Task) -> Generator[str]:
    yield task.name


def observe(task: Task) -> AbstractContextManager[object] | None:
    return around(task) if task.state is TaskState.RUNNING else None


class Metrics:
    """An observer may be an object, and need return nothing."""

    def __call__(self, handle: Task, /) -> None:
        assert_type(handle.record(), TaskRecord)


async def observe_later(task: Task) -> None:
    """Not an observer: nobody would await it."""


def name_of(task: Task) -> str:
    return task.name


class Queue(Carrier):
    """A carrier of a user's own, whose engine has async functions or sync ones."""

    name = "queue"

    def __init__(self, sends: Callable[[str], Awaitable[None]] | None = None) -> None:
        self._sends = sends

    def carry(
        self, func: Callable[..., object], args: tuple[Any, ...], kwargs: Mapping[str, Any], /
    ) -> HandOver | None:
        return print if self._sends is None else self._sends

    async def status(self, task_id: str, /) -> TaskStatus | None:
        return None


WRONG: HandOver = resize  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
TaskRunner(carriers=[Queue()])
TaskRunner(carriers=[Queue])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]


OBSERVERS: Sequence[TaskObserver] = [observe, Metrics(), around, lambda _: None]
TaskRunner(observers=OBSERVERS)
TaskRunner(observers=[observe, Metrics()])
TaskRunner(observers=observe)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
TaskRunner(observers=[observe_later])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
TaskRunner(observers=[name_of])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
TaskRunner(observers=[resize])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]


async def follow(registry: TaskRegistry) -> AsyncIterator[str]:
    assert_type(registry.updates(), Updates)
    with registry.updates() as updates:
        assert_type(updates, Updates)
        async for record in updates:
            assert_type(record, TaskRecord)
            yield f"{record.name} {record.state} {record.attempt}"
    async for wrong in registry.updates():
        wrong.result  # type: ignore[attr-defined]  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
