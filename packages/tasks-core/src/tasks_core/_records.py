"""Records of followed tasks, where every process of the server can read them (contract 7.6)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import inf
from secrets import token_hex
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

from anyio import Event, create_task_group, current_time, move_on_after, sleep

from . import _report
from ._backend import Backend
from ._carrier import TaskStatus
from ._exceptions import LoopEndedError
from ._record import Progress
from ._record_store import BoundedStore, RecordStore, within_guard
from ._service import Service
from ._state import FAILED, LIVING, TaskState

if TYPE_CHECKING:
    from ._registry import TaskRegistry
    from ._task import Task

WRITE_EVERY: Final = 0.25
"""Seconds between two writes of a task's record; the first one is written at once."""

AGAIN: Final = 0.1
"""Seconds after which a shutdown tries again to write what could not be written."""

BEAT_EVERY: Final = 5.0
"""Seconds after which a process says again that it lives, while tasks of it are followed."""

SILENCE: Final = 20.0
"""Seconds without that after which it is taken for dead."""

LOOK_EVERY: Final = 0.5
"""Seconds after which a process looks whether another one wants to cancel its tasks, and whether
the store still has what it has written."""

ANSWER_WITHIN: Final = 5.0
"""Seconds in which it is to have done so."""

AT_A_TIME: Final = 8
"""How many records are written at a time."""

UNWRITTEN: Final = 10_000
"""How many may wait for a store that does not answer; the first of more are given up."""

TRIES: Final = 16
"""How often the last record of a task is tried again that the store refuses while it takes others:
for a minute, as a part of it alone may fail."""

LOST: Final = "TaskLost"
"""The type of the error of a task whose process has ended without a word."""

_ID: Final = re.compile(r"(.{1,100}-)?[0-9a-f]{32}")


def may_be_id(text: str) -> bool:
    """Whether a task can have this id."""
    return _ID.fullmatch(text) is not None


class Records:
    """What a process writes of its followed tasks, and reads of those of all processes.

    Args:
        store: The store.
        ttl: Seconds for which the record of a task that has ended is kept.
    """

    def __init__(self, store: RecordStore, ttl: float) -> None:
        self._store = BoundedStore(store)
        self._ttl = ttl
        self._process = f"process-{token_hex(8)}"  # which is no task's id
        # Tasks that have changed since they were written, in order; and when those that live were.
        self._changed: dict[Task, None] = {}
        self._written: dict[Task, float] = {}
        # What others have asked of tasks: whether to cancel them takes effect.
        self._cancelled: dict[str, bool] = {}
        # A signal handler or a finaliser may come in between all the same, and note a task.
        self._changing = RLock()
        # What fails since it last worked, "put" or "get": while anything does, that is known, and
        # the store is asked. And the tasks whose records it refuses while it works: how often, and
        # when at last.
        self._failing = set[str]()
        self._refused: dict[Task, tuple[int, float]] = {}
        # When it was last said that this process lives, -inf while the store may have no mailbox
        # of it; and when that was last looked into.
        self._beat_at = self._looked_at = -inf
        self._backend: Backend | None = None

    def start(self, backend: Backend, registry: TaskRegistry) -> Service:
        """Write from now on, until the service is stopped."""
        self._registry = registry
        self._new = Event()
        self._backend = backend
        return Service(backend, "records of tasks", self._run, _report.records_stopped)

    def note(self, task: Task) -> None:
        """Note that a task has changed, or is followed from now on; from any thread."""
        if not task._known:
            return
        with self._changing:
            is_new = task not in self._changed and task not in self._written
            self._changed[task] = None
            given_up = self._give_up()
        self._forget(given_up)
        if is_new and self._backend is not None:
            try:
                self._backend.act(self._wake)
            except LoopEndedError:
                return

    async def flush(self) -> None:
        """Write what has changed, as far as there is time: what fails is tried again."""
        try:
            await within_guard(self._write_all)
        except TimeoutError as error:
            self._tell("put", error)

    async def find(self, task_id: str, seconds: float) -> TaskStatus | None:
        """Return what is written of a task; wait so long for that to arrive.

        One whose process has ended without a word has failed.
        """
        found = await self._store.get(task_id, seconds)
        if found is None:
            return None
        status = _read(found["record"])
        if status.state in LIVING and not await self._lives(found["process"]):
            return TaskStatus(
                id=task_id,
                state=FAILED,
                error_type=LOST,
                error="its process has ended without a word",
                progress=status.progress,
                carrier=status.carrier,
            )
        return status

    async def cancel(self, task_id: str, seconds: float) -> bool:
        """Let the process that has a task cancel it; return whether that takes effect.

        As `find`, it waits for what is written to arrive.
        """
        asked = False
        with move_on_after(ANSWER_WITHIN):
            while (found := await self._store.get(task_id, seconds)) is not None:
                lives = TaskState(found["record"]["state"]) in LIVING
                # An answer to who asked before, of a task that has ended since, is none to this.
                if found["cancelled"] is not None and (lives or asked):
                    return bool(found["cancelled"])
                if not lives or not await self._lives(found["process"]):
                    return False
                asked = True
                # Two may write at the same time, and one of them be lost: so it looks again.
                mailbox = _mailbox(found["process"])
                letters = await self._store.get(mailbox) or {"ids": []}
                if task_id not in letters["ids"]:
                    ids = [*letters["ids"], task_id]
                    await self._store.put(mailbox, {"ids": ids}, 2 * ANSWER_WITHIN)
                await sleep(LOOK_EVERY / 2)
        return False

    # The writing.

    async def _write_all(self) -> None:
        while not await self._write(0.0):  # noqa: ASYNC110 - only time may mend a store
            await sleep(AGAIN)

    def _wake(self) -> None:
        self._new.set()

    async def _run(self) -> None:
        while True:
            # While nothing is followed, and nothing fails, there is nothing to do.
            busy = self._changed or self._written or self._failing
            with move_on_after(WRITE_EVERY if busy else inf):
                await self._new.wait()
            if self._new.is_set():
                self._new = Event()
            await self._write(WRITE_EVERY)
            await self._look()

    async def _write(self, pause: float) -> bool:
        """Write what has changed, but for what was written within the last seconds.

        Returns:
            Whether nothing of that is left.
        """
        now = current_time()
        with self._changing:
            due = [task for task in list(self._changed) if self._is_due(task, now, pause)]
            # Those of which a word was given up, and those that live on.
            old = [t for t, at in self._written.items() if t._is_over or self._is_old(now - at)]
            due += [task for task in old if task not in self._changed]
            for task in due:
                self._changed.pop(task, None)
        due.sort(key=self._refused.__contains__)  # these hold up no others
        left, refused = dict.fromkeys(due), set(self._refused)
        works = True
        try:
            if (self._written or self._failing) and not due:
                works = await self._beat()
            for at in range(0, len(due), AT_A_TIME):
                # First: who reads of a task asks whether its process lives. And where nothing can
                # be written, no more is tried.
                works = await self._beat() and await self._write_some(
                    due[at : at + AT_A_TIME], left
                )
                if not works:
                    break
            if works and refused.issuperset(self._refused):
                self._failing.discard("put")
        finally:
            if left:
                with self._changing:
                    self._changed = {**left, **self._changed}
                    given_up = self._give_up()
                self._forget(given_up)
        return not left

    async def _beat(self) -> bool:
        """Say that this process lives, if it is time to; return whether others can know it."""
        now = current_time()
        if now - self._beat_at >= BEAT_EVERY:
            if self._beat_at == -inf and not await self._empty_mailbox():
                return False
            if not await self._put_ours(self._process, {"lives": True}, SILENCE):
                return False
            self._beat_at = now
        return True

    async def _empty_mailbox(self) -> bool:
        """Put up an empty mailbox; what is written after it the store has as long as that.

        So it is not put up again unseen: that would hide that the store has come back empty.
        """
        return await self._put_ours(_mailbox(self._process), {"ids": []}, self._keep_living())

    async def _put_ours(self, key: str, value: Mapping[str, Any], ttl: float) -> bool:
        """Put what is of the process, and small: where that fails, the store does."""
        error = await self._try_to_put(key, value, ttl)
        if error is not None:
            self._tell("put", error)
        return error is None

    async def _write_some(self, tasks: Sequence[Task], left: dict[Task, None]) -> bool:
        """Write records at the same time; return whether the store works, whatever it refuses."""
        failed: dict[Task, BaseException] = {}
        async with create_task_group() as group:
            for task in tasks:
                group.start_soon(self._write_one, task, left, failed)
        # The beat is due now, and shows which of the two it is.
        if failed and not await self._beat():
            return False
        for task, error in failed.items():
            self._refuse(task, error, left)
        return True

    async def _write_one(
        self, task: Task, left: dict[Task, None], failed: dict[Task, BaseException]
    ) -> None:
        over = task._is_over  # first: what is written then is the last
        record = task.record()
        value = {
            "record": {**asdict(record), "state": str(record.state)},
            "process": self._process,
            "cancelled": self._cancelled.get(task.id),
        }
        ttl = self._ttl if over else self._keep_living()
        error = await self._try_to_put(task.id, value, ttl)
        if error is not None:
            failed[task] = error
            return
        with self._changing:
            left.pop(task)
            self._refused.pop(task, None)
            if over:
                self._end(task)
            else:
                self._written[task] = current_time()

    def _refuse(self, task: Task, error: BaseException, left: dict[Task, None]) -> None:
        """Note that the store takes others, but not the record of this task."""
        times, _ = self._refused.get(task, (0, None))
        if not times:
            self._tell("put", error)
        over = task._is_over
        if not over or times < TRIES:
            # The rest is for the last record.
            times = min(times + 1, TRIES if over else TRIES // 2)
            self._refused[task] = times, current_time()
            return
        with self._changing:
            left.pop(task)
            self._refused.pop(task)
            self._end(task)
        _report.record_refused(task, error)

    def _end(self, task: Task) -> None:
        """Forget a task of which no more is written; under the lock."""
        self._written.pop(task, None)
        self._cancelled.pop(task.id, None)

    def _is_due(self, task: Task, now: float, pause: float) -> bool:
        times, at = self._refused.get(task) or (0, self._written.get(task, -inf))
        return now - at >= min(pause * 2.0**times, BEAT_EVERY)

    def _give_up(self) -> list[Task]:
        """Take out what there is no room for; under the lock."""
        if len(self._changed) <= UNWRITTEN:
            return []
        given_up = list(self._changed)[: len(self._changed) - UNWRITTEN]
        for task in given_up:
            self._changed.pop(task, None)
            self._refused.pop(task, None)
        return given_up

    def _forget(self, given_up: list[Task]) -> None:
        """Say that there was no room; outside of the lock, as a result may go now."""
        if given_up:
            given_up.clear()
            self._tell("put", OverflowError("the store is too slow, the oldest are given up"))

    def _is_old(self, seconds: float) -> bool:
        return seconds > self._keep_living() / 2

    def _keep_living(self) -> float:
        return max(self._ttl, 2 * SILENCE)

    async def _look(self) -> None:
        """Look whether others want to cancel tasks, and do so."""
        now = current_time()
        if not (self._written or self._failing) or now - self._looked_at < LOOK_EVERY:
            return
        self._looked_at = now
        try:
            letters = await self._store.get(_mailbox(self._process))
        except BaseException as error:  # noqa: BLE001 - a store is anyone's
            self._let_pass(error)
            self._tell("get", error)
            return
        self._failing.discard("get")
        if letters is None:
            self._write_again()
            return
        ids: Sequence[str] = letters["ids"]
        if not ids:
            return
        for task_id in ids:
            task = self._registry.get(task_id)
            # Of one that is over its last record says what has become of it.
            if task is not None and not task._is_over and task_id not in self._cancelled:
                self._cancelled[task_id] = task.cancel()
                self.note(task)
        await self._empty_mailbox()

    def _write_again(self) -> None:
        """Write all that lives, at once: the store has come back empty."""
        with self._changing:
            self._written = dict.fromkeys(self._written, -inf)
        self._beat_at = -inf
        self._wake()

    async def _try_to_put(
        self, key: str, value: Mapping[str, Any], ttl: float
    ) -> BaseException | None:
        """Return what it fails with; the beat is due then."""
        try:
            await self._store.put(key, value, ttl)
        except BaseException as error:  # noqa: BLE001 - a store is anyone's
            self._let_pass(error)
            self._beat_at = min(self._beat_at, current_time() - BEAT_EVERY)
            return error
        return None

    def _let_pass(self, error: BaseException) -> None:
        """Raise what is no failure of the store; a cancellation that it let escape is one."""
        ends = isinstance(error, KeyboardInterrupt | GeneratorExit)
        if ends or (self._backend is not None and self._backend.cancels(error)):
            raise error

    def _tell(self, what: str, error: BaseException) -> None:
        """Log that something fails; once, until all works again."""
        if not self._failing:
            _report.records_failed(error)
        self._failing.add(what)

    async def _lives(self, process: str) -> bool:
        """Return whether a process does; it has time to see that the store has come back empty."""
        if process == self._process:
            return True
        return await self._store.get(process, 3 * LOOK_EVERY) is not None


def _mailbox(process: str) -> str:
    return f"cancel-{process}"


def _read(record: Mapping[str, Any]) -> TaskStatus:
    progress = record["progress"]
    return TaskStatus(
        id=record["id"],
        state=TaskState(record["state"]),
        error_type=record["error_type"],
        error=record["error"],
        progress=None if progress is None else Progress(**progress),
        carrier=record["carrier"],
    )
