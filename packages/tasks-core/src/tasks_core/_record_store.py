"""The store of records, as it is asked: a few calls at a time, and none for long."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from anyio import Semaphore, move_on_after, sleep

R = TypeVar("R")

COLLECTION: Final = "tasks_core"
"""The collection of the store in which all is kept."""

GUARD: Final = 5.0
"""Seconds that one call of the store takes at most, and the last writes in all."""

CALLS: Final = 40
"""How many reads, and how many writes, the store is asked for at a time: clients have so many
connections, redis-py 100, and raise where there are no more."""


class RecordStore(Protocol):
    """Where records of tasks are kept; the stores of ``py-key-value-aio`` are such."""

    # Awaitable is all that they need to be; pyright takes `async def` for more, see `Retry`.
    def put(
        self,
        key: str,
        value: Mapping[str, Any],
        *,
        collection: str | None = None,
        ttl: float | None = None,
    ) -> Awaitable[None]:
        """Keep a value, which JSON can hold, for so many seconds."""
        ...

    def get(self, key: str, *, collection: str | None = None) -> Awaitable[dict[str, Any] | None]:
        """Return a value; ``None`` if there is none."""
        ...


class BoundedStore:
    """A store that is asked within its bounds. What it raises comes out as it is."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self._reads, self._writes = Semaphore(CALLS), Semaphore(CALLS)

    async def put(self, key: str, value: Mapping[str, Any], ttl: float) -> None:
        """Keep a value for so many seconds."""
        put = partial(self._store.put, key, value, collection=COLLECTION, ttl=ttl)
        await within_guard(partial(_in_turn, self._writes, put))

    async def get(self, key: str, seconds: float = 0.0) -> dict[str, Any] | None:
        """Return what is kept; if there is nothing, look again after so long."""
        get = partial(self._store.get, key, collection=COLLECTION)
        found = await within_guard(partial(_in_turn, self._reads, get))
        if found is not None or not seconds:
            return found
        await sleep(seconds)
        return await self.get(key)


async def within_guard(call: Callable[[], Awaitable[R]]) -> R:
    """Return what a call returns.

    Raises:
        TimeoutError: It has taken too long.
    """
    # Not `fail_after`: a generator's context manager sets attributes of what is raised.
    with move_on_after(GUARD):
        return await call()
    msg = f"the store of records did not answer within {GUARD:g} s"
    raise TimeoutError(msg)


async def _in_turn(at_a_time: Semaphore, call: Callable[[], Awaitable[R]]) -> R:
    async with at_a_time:
        return await call()
