"""Signatures that hold `Any` lose neither arguments nor results; checked, never run (6.3).

And what a wrong call says: mypy names the argument where some are given by position and some by
name, pyright always.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, assert_type

from tasks_core import Task, TaskRunner, TasksScheduler

P = ParamSpec("P")
R = TypeVar("R")


async def log_event(payload: dict[str, Any]) -> int:
    return len(payload)


async def send(to: str, **extra: Any) -> int:
    return len(to) + len(extra)


async def fetch_json(url: str) -> dict[str, Any]:
    return {"url": url}


def log_sync(payload: dict[str, Any]) -> int:
    return len(payload)


async def clean(payload: dict[str, object]) -> int:
    return len(payload)


def traced(func: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    return func


@traced
async def decorated(number: int) -> str:
    return str(number)


class Repository:
    async def save(self, row: dict[str, Any]) -> int:
        return len(row)


def later(number: int) -> Awaitable[str]:
    raise NotImplementedError


async def fetch(url: str, *, retries: int = 3) -> bytes:
    return f"{url}{retries}".encode()


async def results(tasks: TasksScheduler, runner: TaskRunner, repository: Repository) -> None:
    """The result is what is awaited, for every way to schedule."""
    assert_type(await tasks.schedule(log_event, {}).wait(), int)
    assert_type(await tasks.after_route.schedule(send, "x", a=1).wait(), int)
    assert_type(await tasks.after_response.schedule(fetch_json, "x").wait(), dict[str, Any])
    assert_type(await tasks.task(name="x").schedule(log_sync, {}).wait(), int)
    assert_type(await tasks.schedule(clean, {}).wait(), int)
    assert_type(await tasks.schedule(decorated, 1).wait(), str)
    assert_type(await tasks.schedule(repository.save, {}).wait(), int)
    assert_type(await runner.schedule(log_event, {}).wait(), int)
    assert_type(await runner.task(shield=True).schedule(decorated, 1)(), str)
    assert_type(tasks.schedule(log_event, {}).result, int | None)
    assert_type(await tasks.schedule(later, 1).wait(), str)
    assert_type(await tasks.schedule(later, 1)(), str)


async def wrong_results(tasks: TasksScheduler) -> None:
    """A result that is another one is an error."""
    one: str = await tasks.schedule(log_event, {}).wait()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    two: bytes = await tasks.after_response.schedule(decorated, 1).wait()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    three: Task[[bytes], bytes] = tasks.schedule(log_event, {})  # type: ignore[call-overload]  # pyright: ignore[reportAssignmentType]
    four: Task[..., str] = tasks.schedule(log_event, {})  # type: ignore[call-overload]  # pyright: ignore[reportAssignmentType]
    print(one, two, three, four)


def wrong_arguments(tasks: TasksScheduler) -> None:
    """A wrong argument is an error, which names it where the checker can."""
    tasks.schedule(log_event, 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    tasks.schedule(send, 1, a=1)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    tasks.schedule(fetch, url=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    tasks.schedule(fetch, "x", retries="1")  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    tasks.schedule(fetch, "x", retry=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    tasks.schedule(fetch, retries=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
