"""What is awaited may be typed in every way that an async function is; never run (contract 6.3).

To pyright an ``async def`` returns a ``CoroutineType``, and behind most decorators a ``Coroutine``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import datetime
from typing import Any, ParamSpec, SupportsFloat, TypeVar

import stamina
import tenacity
from key_value.aio.stores.memory import MemoryStore
from tasks_core import (
    Carrier,
    Claim,
    Every,
    HandOver,
    Periodic,
    RecordStore,
    Retry,
    Task,
    TaskConfig,
    TaskErrorHandler,
    TaskRunner,
    TaskStatus,
)
from tasks_core.asgi import Receive, Scope, Send, TasksMiddleware
from tasks_core.page import TasksPage
from tasks_core.testing import lifespan

P = ParamSpec("P")
R = TypeVar("R")


def traced(func: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    return func


def awaited(func: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    return func


def times(number: int) -> Callable[[Callable[[], Awaitable[Any]]], Coroutine[Any, Any, Any]]:
    @traced
    async def retry(attempt: Callable[[], Awaitable[Any]]) -> Any:
        print(number)
        return await attempt()

    return retry


def policy() -> Retry:
    return times(3)


async def again(attempt: Callable[[], Awaitable[R]]) -> R:
    return await attempt()


async def call(func: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
    return await func(*args, **kwargs)


class Traced:
    @traced
    async def __call__(self, attempt: Callable[[], Awaitable[Any]]) -> Any:
        return await attempt()


RETRIES: list[Retry] = [times(3), policy(), again, traced(again), call, traced(call), Traced()]
TaskConfig(retry=times(3))
TaskConfig(retry=Traced())


def anything(attempt: Callable[[], R]) -> R:
    """Not async: what it would try again has only begun when it returns."""
    return attempt()


@awaited
async def begun(attempt: Callable[[], Awaitable[Any]]) -> None:
    """Typed as what any caller of sync functions returns for an attempt."""
    await attempt()


def forbidden_retries() -> None:
    TaskConfig(retry=anything)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    TaskConfig(retry=begun)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    TaskConfig(retry=stamina.RetryingCaller().on(OSError))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    TaskConfig(retry=tenacity.Retrying())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Store:
    async def put(
        self,
        key: str,
        value: Mapping[str, Any],
        *,
        collection: str | None = None,
        ttl: SupportsFloat | None = None,
    ) -> None: ...

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None: ...


class TracedStore:
    @traced
    async def put(
        self,
        key: str,
        value: Mapping[str, Any],
        *,
        collection: str | None = None,
        ttl: float | None = None,
    ) -> None: ...

    @awaited
    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None: ...


class WritesSync(Store):
    def put(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        key: str,
        value: Mapping[str, Any],
        *,
        collection: str | None = None,
        ttl: SupportsFloat | None = None,
    ) -> None: ...


class ReadsSync(Store):
    def get(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        self, key: str, *, collection: str | None = None
    ) -> dict[str, Any] | None: ...


class ReadsText(Store):
    async def get(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        self, key: str, *, collection: str | None = None
    ) -> str:
        return f"{collection}{key}"


STORES: list[RecordStore] = [MemoryStore(), Store(), TracedStore()]
TaskRunner(records=TracedStore())


def forbidden_stores() -> None:
    TaskRunner(records=WritesSync())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    TaskRunner(records=ReadsSync())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    TaskRunner(records=ReadsText())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def claim(name: str, due: datetime) -> bool:
    return name < due.isoformat()


async def unsaid(name: str, due: datetime) -> None:
    """No claim: it does not say whether."""


def begin(name: str, due: datetime) -> Callable[[], bool]:
    return lambda: name < due.isoformat()


CLAIMS: list[Claim] = [claim, traced(claim), awaited(claim), lambda name, due: bool((name, due))]
Periodic(print, Every(minutes=1), claim=traced(claim))


def forbidden_claims() -> None:
    Periodic(print, Every(minutes=1), claim=unsaid)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Periodic(print, Every(minutes=1), claim=begin)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@traced
async def tell(task: Task, error: Exception) -> None: ...


@traced
async def allow(scope: Scope) -> bool:
    return bool(scope)


@traced
async def app(scope: Scope, receive: Receive, send: Send) -> None: ...


class Queue(Carrier):
    name = "queue"

    def carry(
        self, func: Callable[..., object], args: tuple[Any, ...], kwargs: Mapping[str, Any], /
    ) -> HandOver | None:
        @traced
        async def send(task_id: str) -> None: ...

        return send

    @traced
    async def status(self, task_id: str, /) -> TaskStatus | None: ...


HANDLERS: list[TaskErrorHandler] = [tell, awaited(tell)]
TaskRunner(carriers=[Queue()])
TasksPage(allow=allow)
TasksPage(allow=awaited(allow))
TasksMiddleware(app)
TasksMiddleware(awaited(app))
lifespan(app)
