"""Who comes in between two lines: a signal handler or a finaliser, another thread, Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from threading import Thread
from types import CodeType
from typing import Any, Final, cast

import anyio
import pytest
from anyio import from_thread, to_thread
from anyio.lowlevel import checkpoint
from tasks_core import (
    BacklogFullError,
    Phase,
    RunnerClosedError,
    Task,
    TaskObserver,
    TaskRecord,
    TaskRunner,
    TasksScheduler,
    TaskState,
)
from tasks_core import _records as records_module
from tasks_core._backend import Backend
from tasks_core._living import Living
from tasks_core._observers import Observers, Updates

from tests.tasks_core.stage import GUARD, interrupting, logged, open_runner, states
from tests.tasks_core.store import Store

# A shutdown that would wait for ever ends as well.
open_guarded = partial(open_runner, shutdown_timeout=GUARD)

pytestmark = pytest.mark.anyio
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])

STEPS: Final = 60
"""More than a function has lines."""


async def succeed() -> None:
    await checkpoint()


def in_thread(act: Callable[[], object]) -> None:
    """Do something in another thread, while this one, with its event loop, waits."""
    thread = Thread(target=act)
    thread.start()
    thread.join(GUARD)


def code_of(function: object) -> CodeType:
    return cast("CodeType", cast("Any", function).__code__)


# A signal handler or a finaliser: in the same thread, so no lock keeps it out.


async def test_a_signal_handler_may_schedule_while_the_inbox_is_read() -> None:
    """2.3 What other threads have scheduled then begins, and what the handler has."""
    step = 0
    for step in range(STEPS):
        made: list[Task] = []
        async with open_guarded() as runner:

            def schedule(runner: TaskRunner = runner, made: list[Task] = made) -> None:
                made.append(runner.schedule(succeed))

            in_thread(schedule)
            in_thread(schedule)
            with interrupting(code_of(Backend.read_inbox), step, schedule) as met:
                schedule()
            await runner.join()
            assert states(*made) == ["succeeded"] * (3 + len(met))
        if not met:
            break
    assert 3 < step < STEPS - 1


async def test_a_signal_handler_may_end_a_task_while_an_end_is_counted() -> None:
    """2.8 Who waits for ends goes on with the last of them."""
    step = 0
    for step in range(STEPS):
        met: list[int] = []
        async with open_guarded() as runner:
            waiting = TasksScheduler(runner).after_response
            first, second, third = (waiting.schedule(succeed) for _ in range(3))
            living = first._backend.living
            async with anyio.create_task_group() as group:
                group.start_soon(living.wait, 2, inf)
                group.start_soon(living.wait, 3, inf)
                await anyio.wait_all_tasks_blocked()
                with interrupting(code_of(Living.count_end), step, second.cancel) as met:
                    first.cancel()
                second.cancel()
                third.cancel()
                await anyio.wait_all_tasks_blocked()
                assert not living._waiting
                group.cancel_scope.cancel()
        if not met:
            break
    assert 2 < step < STEPS - 1


async def test_a_signal_handler_may_schedule_while_updates_are_asked_for() -> None:
    """11.5 Who reads then gets that."""
    step = 0
    for step in range(STEPS):
        found: list[TaskRecord] = []
        met: list[int] = []
        async with open_guarded() as runner, anyio.create_task_group() as group:
            updates = runner.registry.updates()
            schedule = partial(TasksScheduler(runner).after_response.schedule, succeed)

            async def read(updates: Updates = updates, found: list[TaskRecord] = found) -> None:
                found.append(await anext(updates))

            with interrupting(code_of(Updates.__anext__), step, schedule) as met:
                group.start_soon(read)
                await anyio.wait_all_tasks_blocked()
            assert len(found) == len(met)
            group.cancel_scope.cancel()
        if not met:
            break
    assert 5 < step < STEPS - 1


class Noting(dict[Task, float]):
    """A dictionary that does something when something is looked up, once."""

    act: Callable[[], object] | None = None

    def get(self, key: Task, default: Any = None, /) -> Any:
        act, self.act = self.act, None
        if act is not None:
            act()
        return super().get(key, default)


async def test_a_signal_handler_may_schedule_what_is_followed_while_records_are_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """7.6 All is written: what was about to be, and that."""
    store = Store()
    async with open_guarded(records=store) as runner:
        made: list[str] = []
        written = Noting()
        written.act = lambda: made.append(runner.schedule(succeed).id)
        assert runner._records is not None
        runner._records._written = written
        made.append(runner.schedule(succeed).id)
        await runner.join()
    assert len(made) == 2
    assert set(made) <= set(store.kept)
    assert logged(caplog) == []


async def test_a_signal_handler_may_have_words_given_up_while_others_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """7.6 What there is no room for is given up once."""
    step = 0
    for step in range(STEPS):
        monkeypatch.setattr(records_module, "UNWRITTEN", 100)
        async with open_guarded(records=Store()) as runner:
            records = runner._records
            assert records is not None
            assert [runner.schedule(succeed).id for _ in range(5)]
            monkeypatch.setattr(records_module, "UNWRITTEN", 2)
            with interrupting(code_of(records._give_up), step, records._give_up) as met:
                records._give_up()
            assert len(records._changed) == 2
        if not met:
            break
    assert 3 < step < STEPS - 1


async def test_a_signal_handler_may_schedule_while_schedulers_are_forgotten() -> None:
    """2.8 What waits for a phase that nobody reaches is known to do so, its task too."""
    async with open_guarded() as runner:
        made: list[Task] = []

        def schedule() -> None:
            made.append(TasksScheduler(runner).after_response.schedule(succeed))

        lives = cast("property", Task._lives).fget
        with interrupting(code_of(lives), 0, schedule) as met:
            while not met:
                schedule()
        assert sum(len(scheduler._waiting) for scheduler in runner._shutdown.unentered) == len(made)
    assert set(states(*made)) == {"cancelled"}


class Served(TasksScheduler):
    """A scheduler that does something when it is asked whether it is served, once."""

    act: Callable[[], object] | None = None

    @property
    def _open(self) -> int:
        act, self.act = self.act, None
        if act is not None:
            act()
        return 0

    @_open.setter
    def _open(self, value: int) -> None: ...


async def test_a_signal_handler_may_schedule_while_the_unreachable_is_looked_for() -> None:
    """2.8 It is cut short with what it has found there."""
    async with open_guarded() as runner:
        tasks = Served(runner)
        made: list[Task] = []

        def schedule(tasks: TasksScheduler) -> None:
            made.append(tasks.after_response.task(shield=True).schedule(succeed))

        schedule(tasks)
        tasks.act = lambda: schedule(TasksScheduler(runner))
    assert states(*made) == ["cancelled"] * 2


async def test_a_finaliser_may_schedule_while_an_attempt_is_judged() -> None:
    """1.6 What it schedules is of the next attempt, and runs."""
    step = 0
    for step in range(STEPS):
        made: list[Task] = []
        async with open_guarded() as runner:
            with TasksScheduler(runner) as tasks:

                def schedule(tasks: TasksScheduler = tasks, made: list[Task] = made) -> None:
                    made.append(tasks.after_response.schedule(succeed))

                tasks._open_route()
                schedule()
                tasks._close_route()
                with interrupting(code_of(tasks._judge_attempt), step, schedule) as met:
                    tasks._open_route()
                tasks._close_route()
            await runner.join()
            assert states(*made) == ["succeeded"] * (1 + len(met))
        if not met:
            break
    assert 3 < step < STEPS - 1


# Another thread, or a signal handler: before observers are told.

ACCEPTING: Final = {
    "schedule": (TasksScheduler._schedule, False),
    "schedule in a thread": (TasksScheduler._schedule, True),
    "accept": (Observers.accept, False),
}


@pytest.mark.parametrize(("within", "elsewhere"), ACCEPTING.values(), ids=ACCEPTING)
async def test_a_task_is_cancelled_before_observers_are_told(
    within: object,
    elsewhere: bool,  # noqa: FBT001
) -> None:
    """11.1 Whoever has found it: it ends once they are told that it waits."""
    cancelled = step = 0
    for step in range(STEPS):
        told: list[TaskState] = []
        async with open_guarded(
            observers=[lambda task, told=told: told.append(task.state)]
        ) as runner:

            def cancel(runner: TaskRunner = runner) -> None:
                for task in runner.registry:
                    task.cancel()
                if elsewhere:
                    from_thread.run(checkpoint)  # the event loop has done that

            def schedule(
                runner: TaskRunner = runner, step: int = step, cancel: Callable[[], None] = cancel
            ) -> list[int]:
                batch = runner.task(unique=True)
                with interrupting(code_of(within), step, cancel) as met:
                    batch.schedule(succeed)
                return met

            met = await to_thread.run_sync(schedule) if elsewhere else schedule()
            await runner.join()
            assert not runner._observers._telling
        cancelled += told[-1] is TaskState.CANCELLED
        assert told[0] is TaskState.PENDING
        assert told[1:] in ([TaskState.CANCELLED], [TaskState.RUNNING, TaskState.SUCCEEDED])
        if not met:
            break
    assert cancelled > 1
    assert 3 < step < STEPS - 1


@on_asyncio
async def test_observers_know_nothing_of_what_is_not_taken_in() -> None:
    """11.1 A task that is refused, or in whose place another one lives, is no task."""
    told: list[str] = []
    async with open_guarded(observers=[lambda task: told.append(str(task.state))]) as runner:
        batch = runner.task(key="key", limit=1, backlog=0)
        first = batch.schedule(succeed)
        assert batch.task(unique=True).schedule(succeed) is first
        with pytest.raises(BacklogFullError):
            batch.schedule(succeed)
        assert told == ["pending"]
        assert not runner._observers._telling
    with pytest.raises(RunnerClosedError):
        batch.schedule(succeed)
    assert told == ["pending", "cancelled"]
    assert not runner._observers._telling


# Ctrl-C, where Python raises it, on trio and where nobody has replaced its handler.


# Where it comes between the making of a coroutine and that of its task.
unspawned = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")


def ignore(task: Task) -> None: ...


def interrupt() -> None:
    raise KeyboardInterrupt


STARTING: Final = {
    "schedule": TasksScheduler._schedule,
    "put": TasksScheduler._put,
    "hold": TaskRunner._hold,
    "begin": TasksScheduler._begin,
    "start": TaskRunner._start,
}


@unspawned
@pytest.mark.parametrize("observed", [False, True])
@pytest.mark.parametrize("phase", [Phase.IMMEDIATE, Phase.AFTER_RESPONSE])
@pytest.mark.parametrize("within", STARTING.values(), ids=STARTING)
async def test_ctrl_c_while_a_task_is_scheduled(
    within: object,
    phase: Phase,
    observed: bool,  # noqa: FBT001
) -> None:
    """4.1 Nobody has the task then, shielded or not, and nobody waits for it."""
    observers: list[TaskObserver] = [ignore] if observed else []
    step = 0
    for step in range(STEPS):
        async with open_guarded(observers=observers) as runner:
            tasks = TasksScheduler(runner)
            plain = tasks.task() if phase is Phase.IMMEDIATE else tasks.after_response
            met: list[int] = []
            try:
                with interrupting(code_of(within), step, interrupt) as met:
                    plain.task(shield=True).schedule(succeed)
            except KeyboardInterrupt:
                pass
            tasks.reach(Phase.AFTER_RESPONSE)
            await runner.join()
            assert not runner._observers._telling
        if not met:
            break
    assert step < STEPS - 1


@unspawned
@pytest.mark.parametrize("limit", [None, 1])
@pytest.mark.parametrize(
    "within", [TasksScheduler._begin, TaskRunner._start], ids=["begin", "start"]
)
async def test_ctrl_c_while_tasks_of_a_phase_begin(
    within: object,
    limit: int | None,
) -> None:
    """4.1 Those that have not begun are cancelled, and nobody waits for them."""
    step = 0
    for step in range(STEPS):
        async with open_guarded() as runner:
            tasks = TasksScheduler(runner)
            batch = tasks.after_response.task(
                shield=True, limit=limit, key="key" if limit else None
            )
            made = [
                batch.task(run_on=run_on).schedule(succeed) for run_on in (None, "failure", None)
            ]
            met: list[int] = []
            try:
                with interrupting(code_of(within), step, interrupt) as met:
                    tasks.reach(Phase.AFTER_RESPONSE)
            except KeyboardInterrupt:
                pass
            await runner.join()
            assert set(states(*made)) <= {"succeeded", "skipped", "cancelled"}
        if not met:
            break
    assert 5 < step < STEPS - 1


@unspawned
async def test_ctrl_c_while_those_of_a_key_begin() -> None:
    """4.1 So those whose turn has come as another one was over."""
    step = 0
    for step in range(STEPS):
        async with open_guarded() as runner:
            batch = runner.task(shield=True, key="key")
            first = batch.task(limit=1).schedule(anyio.sleep_forever)
            made = [batch.task(limit=limit).schedule(succeed) for limit in (1, 3, 3)]
            await anyio.wait_all_tasks_blocked()
            assert first._lane is not None
            met: list[int] = []
            try:
                with interrupting(code_of(TaskRunner._start), step, interrupt) as met:
                    runner._leave(first)
            except KeyboardInterrupt:
                pass
            first.cancel()
            await runner.join()
            assert set(states(*made)) <= {"succeeded", "cancelled"}
        if not met:
            break
    assert 10 < step < STEPS - 1
