"""A store of records in memory, which can be slow, hang and fail; and two processes with it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence, Sized
from contextlib import asynccontextmanager
from typing import Any, Final, SupportsFloat

from anyio import Event, fail_after, sleep_forever
from anyio.lowlevel import checkpoint
from tasks_core import Carrier, TaskRunner

from tests.tasks_core.stage import GUARD


class Store:
    """Keeps texts, as real stores do, and never forgets by itself."""

    def __init__(self) -> None:
        self.kept: Final[dict[str, str]] = {}
        # Every write that was asked for, and all that was read.
        self.puts: Final[list[tuple[str, dict[str, Any], float]]] = []
        self.gets: Final[list[str]] = []
        self.error: BaseException | None = None
        self.hangs = False
        # Called with each key before it is written: for what happens meanwhile.
        self.before: Callable[[str], object] = lambda key: None
        # The name of tasks whose records are too large for it.
        self.too_large: str | None = None
        self._changed = Event()

    async def put(
        self,
        key: str,
        value: Mapping[str, Any],
        *,
        collection: str | None = None,
        ttl: SupportsFloat | None = None,
    ) -> None:
        assert collection == "tasks_core"
        assert ttl is not None
        text = json.dumps(dict(value), allow_nan=False)
        self.puts.append((key, json.loads(text), float(ttl)))
        self.before(key)
        await self._answer()
        if self.too_large is not None and value.get("record", {}).get("name") == self.too_large:
            msg = "too large"  # unannounced: what is written next tells that it is known
            raise ValueError(msg)
        self.kept[key] = text
        self._announce()

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        assert collection == "tasks_core"
        self.gets.append(key)
        await self._answer()
        self._announce()
        return self.read(key)

    async def _answer(self) -> None:
        await checkpoint()
        if self.hangs:
            self._announce()
            await sleep_forever()
        if self.error is not None:
            self._announce()
            raise self.error.with_traceback(None)  # or it would keep who asked

    def _announce(self) -> None:
        self._changed.set()
        self._changed = Event()

    def read(self, key: str) -> dict[str, Any] | None:
        """Return what is kept."""
        text = self.kept.get(key)
        found: dict[str, Any] | None = None if text is None else json.loads(text)
        return found

    def state(self, task_id: str) -> str | None:
        """Return the state that is written of a task."""
        found = self.read(task_id)
        return None if found is None else found["record"]["state"]

    def written(self, task_id: str) -> list[dict[str, Any]]:
        """Return each record of a task that was written, or was to be."""
        return [value["record"] for key, value, _ in self.puts if key == task_id]

    def processes(self) -> list[str]:
        """Return the processes that say that they live."""
        return [key for key in self.kept if key.startswith("process-")]

    def kill(self, process: str | None = None) -> None:
        """Forget what a process, or each, has said last of itself: it has been silent so long."""
        for key in self.processes():
            if process in {None, key}:
                del self.kept[key]

    async def until(self, settled: Callable[[], object]) -> None:
        """Wait until what was written, or was to be, settles a question."""
        with fail_after(GUARD):
            while not settled():
                await self._changed.wait()

    async def until_read(self, *task_ids: str) -> None:
        """Wait until something is written of tasks."""
        await self.until(lambda: all(map(self.read, task_ids)))

    async def until_more(self, calls: Sized, than: int | None = None) -> None:
        """Wait until there are more of `puts` or `gets` than there are now, or than so many."""
        before = len(calls) if than is None else than
        await self.until(lambda: len(calls) > before)

    async def until_put(self, beginning: str, times: int) -> None:
        """Wait until keys that begin so were to be written so many times."""
        await self.until(lambda: self.count(beginning) >= times)

    def count(self, beginning: str) -> int:
        """Count how often keys that begin so were to be written."""
        return sum(key.startswith(beginning) for key, _, _ in self.puts)

    async def until_state(self, task_id: str, state: str) -> None:
        """Wait until this is written of a task."""
        await self.until(lambda: self.state(task_id) == state)


@asynccontextmanager
async def two_processes(
    store: Store, carriers: Sequence[Carrier] = ()
) -> AsyncGenerator[tuple[TaskRunner, TaskRunner]]:
    """Run two runners with a store: what each knows of the other it knows from there."""
    with fail_after(GUARD):
        async with (
            TaskRunner(records=store, carriers=carriers) as here,
            TaskRunner(records=store, carriers=carriers) as there,
        ):
            yield here, there
