"""What many tests are parametrised with: kinds of routes, kinds of functions, phases."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TypeAlias, TypeVar

import pytest
from anyio import wait_all_tasks_blocked
from tasks_core import Phase, PhaseScheduler, Task, TasksScheduler
from tasks_core.asgi import Message

from tests.conformance.driver import OnMessage, is_last
from tests.conformance.harness import Answer, Endpoint

R = TypeVar("R")

Step: TypeAlias = Callable[[TasksScheduler], Answer | None]
RouteKind: TypeAlias = Callable[[Step], Endpoint]
FunctionKind: TypeAlias = Callable[[Callable[[], object]], Callable[[], object]]


def async_route(step: Step) -> Endpoint:
    """Make an async route that awaits nothing."""

    async def route(tasks: TasksScheduler) -> Answer | None:
        return step(tasks)

    return route


def sync_route(step: Step) -> Endpoint:
    def route(tasks: TasksScheduler) -> Answer | None:
        return step(tasks)

    return route


def async_function(step: Callable[[], R]) -> Callable[[], Awaitable[R]]:
    async def function() -> R:
        return step()

    return function


def sync_function(step: Callable[[], R]) -> Callable[[], R]:
    def function() -> R:
        return step()

    return function


def at(tasks: TasksScheduler, phase: Phase) -> PhaseScheduler:
    """Return what schedules for a phase."""
    return {
        Phase.IMMEDIATE: tasks.task(),
        Phase.AFTER_ROUTE: tasks.after_route,
        Phase.AFTER_RESPONSE: tasks.after_response,
    }[phase]


each_route = pytest.mark.parametrize(
    "route_kind", [async_route, sync_route], ids=["async_route", "sync_route"]
)
each_function = pytest.mark.parametrize(
    "function_kind", [async_function, sync_function], ids=["async_function", "sync_function"]
)
each_phase = pytest.mark.parametrize("phase", list(Phase), ids=str)
each_wrapping = pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "wrapped"])


async def finish(tasks: Iterable[Task]) -> None:
    """Wait until tasks have ended, however they do."""
    for task in tasks:
        with suppress(Exception):
            await task.wait()


def noting(log: list[str]) -> OnMessage:
    """Note the start of a response, and its end once the server has accepted that."""

    async def look(message: Message) -> None:
        if message["type"] == "http.response.start":
            log.append("start")
        elif is_last(message):
            await wait_all_tasks_blocked()
            log.append("sent")

    return look
