"""Contract 8: what is handed over to an engine, with one that needs no server."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import FrozenInstanceError, asdict
from functools import partial
from secrets import token_hex
from typing import Any, NoReturn, cast, get_args

import anyio
import pytest
from anyio import CancelScope, fail_after, to_thread
from tasks_core import (
    BacklogFullError,
    Carrier,
    HandOverError,
    Phase,
    PhaseScheduler,
    RunnerClosedError,
    RunOn,
    Task,
    TaskAborted,
    TaskConfig,
    TaskHandedOver,
    TaskRecord,
    TaskRunner,
    TasksError,
    TaskSkipped,
    TasksScheduler,
    TaskState,
    TaskStatus,
    TaskTimedOut,
    current_task,
)
from tasks_core import _everywhere as everywhere
from tasks_core import _runner as runner_module
from tasks_core._layer import LayeredScheduler
from tasks_core.asgi import Message, Receive, Scope, Send, TasksMiddleware
from tasks_core.testing import drain, inline, record

from tests.conformance.driver import Exchange, serve
from tests.tasks_core.clock import LONG, forward, on_clock
from tests.tasks_core.engine import Engine, EngineTask, Kind, variable
from tests.tasks_core.stage import (
    GUARD,
    Abrupt,
    Frozen,
    SomeError,
    fail,
    logged,
    open_runner,
    over,
    records,
    until_cancelled,
)

pytestmark = pytest.mark.anyio

SHORT = 0.05
"""Seconds that a hand-over takes which never ends by itself."""

PHASES = list(Phase)
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])
on_trio = pytest.mark.parametrize("anyio_backend", ["trio"])


@pytest.fixture(params=["async", "sync"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Run the test with an engine that is sent to by async functions, and by sync ones."""
    kind: Kind = request.param
    return kind


@pytest.fixture
def engine(kind: Kind) -> Engine:
    return Engine(kind)


def double(number: int, *, by: int = 2) -> int:
    return number * by


async def double_async(number: int, *, by: int = 2) -> int:
    return number * by


def at(tasks: TasksScheduler, phase: Phase) -> PhaseScheduler:
    batches = {Phase.AFTER_ROUTE: tasks.after_route, Phase.AFTER_RESPONSE: tasks.after_response}
    return batches.get(phase, tasks.task())


def running(task_id: str, name: str = "engine") -> TaskStatus:
    return TaskStatus(id=task_id, state=TaskState.RUNNING, carrier=name)


def pending(task_id: str, name: str = "engine") -> TaskStatus:
    return TaskStatus(id=task_id, state=TaskState.PENDING, carrier=name)


async def until(settled: Callable[[], object]) -> None:
    """Wait for something that a thread does."""
    while not settled():
        await anyio.lowlevel.checkpoint()


# 8.1


async def test_8_1_call_sites_are_the_same(engine: Engine) -> None:
    """8.1: The same call is handed over where there is a carrier, and runs here where is none."""
    func = engine.task(double)
    async with open_runner(carriers=[engine]) as runner:
        carried = runner.schedule(func, 2, by=3)
        with pytest.raises(TaskHandedOver):
            await carried.wait()
    async with open_runner() as runner:
        here = runner.schedule(func, 2, by=3)
        assert await here.wait() == 6

    assert (carried.carrier, here.carrier) == ("engine", None)
    ((task_id, args, kwargs, _, _),) = engine.sent
    assert (task_id, args, kwargs) == (carried.id, (2,), {"by": 3})


@pytest.mark.parametrize("func", [double, double_async])
async def test_8_1_other_functions_run_here(engine: Engine, func: Callable[..., Any]) -> None:
    """8.1: A function that is not the engine's own task object runs in this process."""
    async with open_runner(carriers=[engine]) as runner:
        task = runner.schedule(func, 2)
        assert await task.wait() == 4
        assert (task.carrier, task.record().carrier) == (None, None)
        assert re.fullmatch("[0-9a-f]{32}", task.id)
    assert engine.sent == []


async def test_8_1_a_partial_is_carried_too(engine: Engine) -> None:
    """8.1: The engine gets the function's own arguments, those of nested partials included."""
    func = engine.task(double)
    async with open_runner(carriers=[engine]) as runner:
        await over(
            runner.schedule(partial(func, 2)),
            runner.schedule(partial(partial(func, by=3), 4)),
            runner.schedule(partial(func, by=5), 6, by=7),
        )
    calls = sorted((args, kwargs) for _, args, kwargs, _, _ in engine.sent)
    assert calls == [((2,), {}), ((4,), {"by": 3}), ((6,), {"by": 7})]


async def test_8_1_the_first_carrier_that_takes_a_function_has_it(kind: Kind) -> None:
    """8.1: Each function is its own engine's, whatever others there are."""
    engines = [Engine(kind, f"engine-{number}") for number in range(3)]
    async with open_runner(carriers=engines) as runner:
        tasks = [runner.schedule(engine.task(double), 1) for engine in engines]
        await over(*tasks)
        assert [task.carrier for task in tasks] == [engine.name for engine in engines]
    for engine, task in zip(engines, tasks, strict=True):
        assert engine.ids == [task.id]


async def test_8_1_what_sends_by_itself_runs_here(engine: Engine) -> None:
    """8.1: A method of an engine's task, ``f.delay`` for instance, is a function like any other."""
    made: Any = engine.task(double)
    async with open_runner(carriers=[engine]) as runner:
        task = runner.schedule(made.delay, 1)
        await task.wait()
        assert (task.state, task.carrier) == (TaskState.SUCCEEDED, None)
    assert engine.ids == ["its own"]


async def test_8_1_without_carriers_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """8.1: Who has no carriers pays one look at an empty dictionary a task, and no thread."""

    def ask(*_: object) -> NoReturn:
        raise AssertionError

    monkeypatch.setattr(runner_module, "carry", ask)
    async with open_runner() as runner:
        assert await runner.schedule(double_async, 2).wait() == 4
        assert runner._messengers._groups == {}


@pytest.mark.parametrize("module", ["tasks_core", "tasks_core.asgi", "tasks_core.testing"])
def test_8_1_no_engine_is_imported(module: str) -> None:
    """8.1: Nothing but a carrier's own module imports an engine."""
    program = f"import {module}, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, text=True, stdout=subprocess.PIPE
    )
    tops = {name.partition(".")[0] for name in done.stdout.split()}
    assert not tops & {"celery", "docket", "kombu", "redis", "taskiq", "taskiq_redis"}
    assert "tasks_core.carriers" not in done.stdout.split()


# 8.2

OUTCOMES = [
    (phase, failed, run_on)
    for phase in PHASES
    for failed in (False, True)
    for run_on in (None, "success", "failure", "always")
]


@pytest.mark.parametrize(("phase", "failed", "run_on"), OUTCOMES)
async def test_8_2_the_rules_of_phases_and_outcomes_hold(
    engine: Engine, phase: Phase, *, failed: bool, run_on: Any
) -> None:
    """8.2: A failed request hands over nothing of its later phases, unless its tasks say so."""
    wanted = {None, "success", "always"} if not failed else {"failure", "always"}
    sent = phase is Phase.IMMEDIATE or run_on in wanted
    async with open_runner(carriers=[engine]) as runner:
        tasks = TasksScheduler(runner)
        task = at(tasks, phase).task(run_on=run_on).schedule(engine.task(double), 1)
        tasks.reach(Phase.AFTER_RESPONSE, failed=failed)
        await over(task)
        assert task.state is (TaskState.HANDED_OVER if sent else TaskState.SKIPPED)
        assert engine.ids == ([task.id] if sent else [])
        assert len(runner.registry) == 0


async def test_8_2_a_task_is_handed_over_when_its_phase_begins(engine: Engine) -> None:
    """8.2: Nothing is sent before the phase has come, and then at once."""
    async with open_runner(carriers=[engine]) as runner:
        tasks = TasksScheduler(runner)
        func = engine.task(double)
        now, route, response = (at(tasks, phase).schedule(func, 1) for phase in PHASES)
        await over(now)
        assert engine.ids == [now.id]
        assert (route.state, response.state) == (TaskState.PENDING, TaskState.PENDING)
        assert tasks.after_route.scheduled == (route,)
        tasks.reach(Phase.AFTER_ROUTE)
        await over(route)
        assert engine.ids == [now.id, route.id]
        tasks.reach(Phase.AFTER_RESPONSE)
        late = tasks.after_route.schedule(func, 1)  # a phase that has passed
        await over(response, late)
        assert sorted(engine.ids) == sorted([now.id, route.id, response.id, late.id])


@pytest.mark.parametrize("phase", PHASES)
async def test_8_2_record_hands_over_nothing(engine: Engine, phase: Phase) -> None:
    """8.2: A test that records tasks sends none, and sees which engine would have each."""
    func, wrong = engine.task(double), cast("int", [])
    async with open_runner(carriers=[engine]) as runner, record() as recorded:
        with TasksScheduler(runner) as tasks:
            at(tasks, phase).schedule(func, 1, by=2)
            with pytest.raises(TypeError, match="cannot send list"):
                at(tasks, phase).schedule(func, wrong)
        where = {Phase.AFTER_ROUTE: recorded.after_route}.get(phase, recorded.after_response)
        found = (recorded if phase is Phase.IMMEDIATE else where).assert_scheduled(func, 1, by=2)
        assert found.carrier == "engine"
        with pytest.raises(TaskSkipped):
            await found.wait()
    assert engine.sent == []


async def test_8_2_confirm_is_a_setting_that_tests_can_ask_for(engine: Engine) -> None:
    """8.2: What is in force counts, the default included."""
    func = engine.task(double)
    async with open_runner(carriers=[engine]) as runner, record() as recorded:
        with TasksScheduler(runner) as tasks:
            tasks.after_route.task(confirm=True).schedule(func, 1)
            tasks.after_route.schedule(func, 2)
        batch = recorded.after_route
        batch.task(confirm=True).assert_scheduled(func, 1)
        batch.task(confirm=False).assert_scheduled(func, 2)
        with pytest.raises(AssertionError):
            batch.task(confirm=True).assert_scheduled(func, 2)


@pytest.mark.parametrize("block", [drain, inline])
async def test_8_2_blocks_of_tests_wait_for_hand_overs(
    engine: Engine, block: Callable[[], Any]
) -> None:
    """8.2: Leaving the block waits until the engine has what was scheduled in it."""
    async with open_runner(carriers=[engine]) as runner:
        async with block():
            with TasksScheduler(runner) as tasks:
                task = tasks.after_response.schedule(engine.task(double), 1)
        assert task.state is TaskState.HANDED_OVER
        engine.trouble = SomeError()
        with pytest.raises(HandOverError):  # noqa: PT012 - leaving the inner block raises
            async with block():
                with TasksScheduler(runner) as tasks:
                    tasks.after_response.schedule(engine.task(double), 1)


# 8.3


def refused(tasks: TasksScheduler, phase: Phase, func: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(TypeError) as refusal:
        at(tasks, phase).schedule(func, *args)
    frames = [entry.frame.code.name for entry in refusal.traceback]
    assert frames[0] == "refused"
    return str(refusal.value)


@pytest.mark.parametrize("phase", PHASES)
async def test_8_3_bad_arguments_are_refused_in_the_callers_traceback(
    engine: Engine, phase: Phase
) -> None:
    """8.3: What the engine could not take leaves no trace, and no engine is asked."""
    with engine.hangs():
        async with open_runner(carriers=[engine]) as runner:
            tasks = TasksScheduler(runner)
            wrong = cast("int", [])
            said = refused(tasks, phase, engine.task(double), object())
            assert said == "engine cannot send object"
            assert "cannot send list" in refused(tasks, phase, partial(engine.task(double), wrong))
            assert len(runner.registry) == 0
            assert runner.registry._known == {}
            assert len(runner._lanes) == 0
            assert tasks.after_route.scheduled == tasks.after_response.scheduled == ()
    assert (engine.sent, engine.asked, engine.holding) == ([], [], 0)


async def test_8_3_a_refusal_counts_for_no_key(engine: Engine) -> None:
    """8.3: A refused task takes no place of its key's limit or backlog."""
    func = engine.task(double)
    async with open_runner(carriers=[engine]) as runner:
        tasks = TasksScheduler(runner)
        one = tasks.after_response.task(limit=1, backlog=0, unique=True)
        with pytest.raises(TypeError):
            one.schedule(func, cast("int", None))
        task = one.schedule(func, 1)
        with pytest.raises(BacklogFullError):
            tasks.after_response.task(limit=1, backlog=0).schedule(func, 1)
        tasks.reach(Phase.AFTER_RESPONSE)
        await over(task)
        assert len(runner._lanes) == 0


async def test_8_3_threads_are_refused_likewise(engine: Engine) -> None:
    """8.3: In whatever thread ``schedule`` is called."""
    async with open_runner(carriers=[engine]) as runner:
        tasks = TasksScheduler(runner)
        said = await to_thread.run_sync(
            refused, tasks, Phase.IMMEDIATE, engine.task(double), object()
        )
        assert said == "engine cannot send object"
        func = engine.task(double)
        task = await to_thread.run_sync(lambda: runner.schedule(func, 1))
        await over(task)
        assert engine.ids == [task.id]


@on_trio
async def test_8_3_an_engine_that_needs_asyncio_refuses_on_trio(engine: Engine) -> None:
    """8.3: It says which, when its function is scheduled; all else goes on."""
    engine.needs_asyncio = True
    async with open_runner(carriers=[engine]) as runner:
        with pytest.raises(RuntimeError, match="Carrier engine works on asyncio only"):
            runner.schedule(engine.task(double), 1)
        assert len(runner.registry) == 0
        assert await runner.schedule(double, 1).wait() == 2


@on_asyncio
async def test_8_3_an_engine_that_needs_asyncio_works_there(engine: Engine) -> None:
    """8.3: On asyncio it is an engine like any other."""
    engine.needs_asyncio = True
    async with open_runner(carriers=[engine]) as runner:
        task = runner.schedule(engine.task(double), 1)
        await over(task)
        assert engine.ids == [task.id]


@pytest.mark.parametrize(
    ("carriers", "error", "said"),
    [
        (Engine("sync"), TypeError, "carriers is a list of carriers, not Engine"),
        ("celery", TypeError, "carriers is a list of carriers, not str"),
        ([Engine("sync"), object()], TypeError, "carriers is a list of carriers, and object"),
        ([Engine], TypeError, "carriers is a list of carriers, and "),
        ([Engine("sync", "a"), Engine("async", "a")], ValueError, "two carriers have the name 'a'"),
        ([Engine("sync", "")], ValueError, "the name of Engine is empty"),
        ([Engine("sync", cast("str", 5))], TypeError, "the name of Engine must be a string"),
        (
            [Engine("sync", timeout=cast("float", "x"))],
            TypeError,
            "the timeout of Engine is a number",
        ),
        (
            [Engine("sync", timeout=-1)],
            ValueError,
            "the timeout of Engine is a number of seconds from 0",
        ),
    ],
)
def test_8_3_nonsense_is_refused_when_the_runner_is_made(
    carriers: Any, error: type[Exception], said: str
) -> None:
    """8.3: What is no carrier, and two of which nobody could say which one an id means."""
    with pytest.raises(error, match=re.escape(said)):
        TaskRunner(carriers=carriers)


async def test_8_3_a_runner_that_is_closed_refuses_as_ever(engine: Engine) -> None:
    """8.3: After a shutdown nothing is handed over, and the error says so (5.4)."""
    async with open_runner(carriers=[engine]) as runner:
        tasks = TasksScheduler(runner)
    with pytest.raises(RunnerClosedError):
        tasks.schedule(engine.task(double), 1)
    assert engine.sent == []


# 8.4


@pytest.mark.parametrize("name", ["engine", "my-engine", "a.b_c"])
async def test_8_4_the_id_is_the_engines(kind: Kind, name: str) -> None:
    """8.4: It is known before anything is sent, and begins with the carrier's name."""
    engine = Engine(kind, name)
    async with open_runner(carriers=[engine]) as runner:
        with TasksScheduler(runner) as tasks:
            task = tasks.after_response.schedule(engine.task(double), 1)
            task_id = task.id
            assert re.fullmatch(rf"{re.escape(name)}-[0-9a-f]{{32}}", task_id)
            assert engine.sent == []
        await over(task)
        assert engine.ids == [task_id] == [task.id]
        unasked = runner.schedule(engine.task(double), 1)
        await over(unasked)
        assert engine.ids[1] == unasked.id


async def test_8_4_what_is_told_of_a_task_names_id_and_carrier(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """8.4: Records and log records have the engine's id (7.1, 4.2)."""
    engine.trouble = SomeError()
    seen: list[TaskRecord] = []
    async with open_runner(
        carriers=[engine], observers=[lambda task: seen.append(task.record())]
    ) as runner:
        task = runner.schedule(engine.task(double), 1)
        await over(task)
        remembered = runner.get(task.id)
    (failed,) = records(caplog, "ERROR")
    assert vars(failed)["task_id"] == task.id
    assert f"(id={task.id}, " in failed.getMessage()
    assert {one.carrier for one in seen} == {"engine"}
    assert remembered is not None
    assert (remembered.carrier, remembered.record().carrier) == ("engine", "engine")


# 8.5


@pytest.mark.parametrize("phase", PHASES)
async def test_8_5_a_task_is_pending_until_the_engine_has_it(engine: Engine, phase: Phase) -> None:
    """8.5: It is never *running* here; `wait` says that it was handed over."""
    async with open_runner(carriers=[engine]) as runner:
        tasks = TasksScheduler(runner)
        with engine.hangs():
            task = at(tasks, phase).schedule(engine.task(double), 1)
            states = [task.state]
            tasks.reach(Phase.AFTER_RESPONSE)
            await task.started.wait()
            await until(lambda: engine.holding)
            states.append(task.state)
            assert task.record().started_at is None
            assert runner.registry.counts() == {TaskState.PENDING: 1}
        with pytest.raises(TaskHandedOver) as told:
            await task.wait()
        assert states == [TaskState.PENDING, TaskState.PENDING]
        assert task.state is TaskState.HANDED_OVER
        assert (task.result, task.exception, task.attempt) == (None, None, 1)
        assert task.record().ran is not None
        assert isinstance(told.value, TasksError)
        assert str(told.value) == (
            "task double was handed over to engine, which runs it: "
            "ask `await tasks.status(task.id)` what has become of it"
        )


async def test_8_5_a_task_may_be_cancelled_until_the_hand_over_begins(engine: Engine) -> None:
    """8.5: Before that nothing is sent; from then on `cancel` says no, and changes nothing."""
    async with open_runner(carriers=[engine]) as runner:
        tasks = TasksScheduler(runner)
        waiting = tasks.after_route.schedule(engine.task(double), 1)
        in_thread = tasks.after_route.schedule(engine.task(double), 2)
        spawned = tasks.schedule(engine.task(double), 3)
        assert spawned.cancel()
        assert waiting.cancel()
        assert await to_thread.run_sync(in_thread.cancel)
        tasks.reach(Phase.AFTER_RESPONSE)
        await over(waiting, in_thread, spawned)
        assert {task.state for task in (waiting, in_thread, spawned)} == {TaskState.CANCELLED}
        assert engine.sent == []

        with engine.hangs():
            task = tasks.schedule(engine.task(double), 4)
            await task.started.wait()
            assert not task.cancel()
            assert not await to_thread.run_sync(task.cancel)
            assert str(task.state) == "pending"
        await over(task)
        assert task.state is TaskState.HANDED_OVER
        assert not task.cancel()
        assert engine.ids == [task.id]


async def test_8_5_a_thread_that_cancels_at_the_last_moment(engine: Engine) -> None:
    """8.5: Where the hand-over begins before the thread's word arrives, it goes on."""
    async with open_runner(carriers=[engine]) as runner:
        batch = runner.task(unique=True)
        with engine.hangs():
            task = batch.schedule(engine.task(double), 1)
            thread = threading.Thread(target=task.cancel)
            thread.start()
            thread.join()  # what it asks for waits for the event loop
            task._begin()
            runner._entered().read_inbox()
            assert task.state is TaskState.PENDING
            assert batch.schedule(task.func, 2) is task  # so it has not made way (9.8)
        await over(task)
        assert engine.ids == [task.id]


async def test_8_5_observers_see_the_end_and_no_run(engine: Engine) -> None:
    """8.5: A carried task is scheduled, and it is over: it does not run here (11.1)."""
    seen: list[TaskState] = []
    async with open_runner(
        carriers=[engine], observers=[lambda task: seen.append(task.state)]
    ) as runner:
        await over(runner.schedule(engine.task(double), 1))
    assert seen == [TaskState.PENDING, TaskState.HANDED_OVER]


async def test_8_5_policies_of_this_process_do_not_reach_it(engine: Engine) -> None:
    """8.5: `timeout`, `retry`, `daemon` and `shield` are about what runs here (9)."""
    calls: list[object] = []

    async def retry(attempt: Callable[[], Any]) -> object:
        calls.append(attempt)
        return await attempt()

    async with open_runner(carriers=[engine]) as runner:
        with engine.hangs():
            task = runner.task(timeout=0, retry=retry, daemon=True).schedule(engine.task(double), 1)
            await task.started.wait()
        await over(task)
        assert task.state is TaskState.HANDED_OVER
        engine.trouble = SomeError()
        task = runner.task(retry=retry).schedule(engine.task(double), 1)
        await over(task)
        assert not isinstance(task.exception, TaskTimedOut)
    assert calls == []


async def test_8_5_a_daemon_is_handed_over_by_a_shutdown_too(engine: Engine) -> None:
    """8.5: It is no daemon of this process, which would be cut short at once (5.8, 8.6)."""
    async with open_runner(carriers=[engine]) as runner:
        task = runner.task(daemon=True).schedule(engine.task(double), 1)
    assert task.state is TaskState.HANDED_OVER


async def test_8_5_keys_count_a_task_until_it_is_handed_over(engine: Engine) -> None:
    """8.5: `limit` and `unique` are about hand-overs, not about what the engine does (9.8)."""
    func = engine.task(double)
    async with open_runner(carriers=[engine]) as runner:
        one = runner.task(limit=1)
        with engine.hangs():
            first, second = one.schedule(func, 1), one.schedule(func, 2)
            await first.started.wait()
            assert runner.task(unique=True).schedule(func, 3) in {first, second}
            assert second._waits_for == "others of its key"
        await over(first, second)
        third = runner.task(unique=True).schedule(func, 3)
        await over(third)
    assert engine.ids == [first.id, second.id, third.id]


async def test_8_5_calling_the_task_hands_it_over_again(engine: Engine) -> None:
    """8.5: By the same id, and without its handler; its function itself runs here (4.4)."""
    async with open_runner(carriers=[engine]) as runner:
        task = runner.schedule(engine.task(double), 1)
        await over(task)
        assert await task() is None
        assert engine.ids == [task.id, task.id]
        assert task.func(*task.args, **task.kwargs) == 2
        engine.trouble = SomeError()
        with pytest.raises(HandOverError):
            await task()
        assert task.state is TaskState.HANDED_OVER


async def test_8_5_the_engine_is_sent_to_in_the_tasks_context(engine: Engine) -> None:
    """8.5: What was set when it was scheduled is what the sender sees, also in its thread (2.4)."""
    async with open_runner(carriers=[engine]) as runner:
        with TasksScheduler(runner) as tasks:
            variable.set("then")
            task = tasks.after_response.schedule(engine.task(double), 1)
            variable.set("later")
        await over(task)
    assert [sent.value for sent in engine.sent] == ["then"]
    assert (engine.sent[0].thread == threading.get_ident()) is (engine.kind == "async")


async def test_8_5_what_is_handed_over_knows_its_task(kind: Kind) -> None:
    """8.5: `current_task` is there for who writes a carrier."""
    found: list[Task] = []

    class Asking(Engine):
        def _answer(self, task_id: str) -> TaskStatus | None: ...

        def note(self, sent: object) -> None:
            found.append(current_task())

    engine = Asking(kind)
    async with open_runner(carriers=[engine]) as runner:
        task = runner.schedule(engine.task(double), 1)
        await over(task)
    assert found == [task]


# 8.6


async def test_8_6_a_hand_over_that_hangs_ends_in_time(kind: Kind) -> None:
    """8.6: After the carrier's timeout the task has failed, with a `TimeoutError` as the cause."""
    engine = Engine(kind, timeout=SHORT)
    async with open_runner(carriers=[engine]) as runner:
        with engine.hangs():
            task = runner.schedule(engine.task(double), 1)
            with pytest.raises(HandOverError) as failure:
                await task.wait()
            assert isinstance(failure.value.__cause__, TimeoutError)
            assert task.state is TaskState.FAILED


async def test_8_6_an_engine_that_hangs_takes_no_thread_of_others(kind: Kind) -> None:
    """8.6: Twenty hung hand-overs leave the event loop, sync tasks and other threads alone."""
    engine = Engine(kind)
    limiter = to_thread.current_default_thread_limiter()
    async with open_runner(carriers=[engine], thread_limit=1) as runner:
        with engine.hangs():
            tasks = [runner.schedule(engine.task(double), number) for number in range(20)]
            for task in tasks:
                await task.started.wait()
            await until(lambda: engine.holding >= 4)
            assert await runner.schedule(double, 2).wait() == 4
            assert await runner.schedule(double_async, 2).wait() == 4
            assert limiter.borrowed_tokens == 0
            assert await to_thread.run_sync(double, 2) == 4
            names = [thread.name for thread in threading.enumerate()]
            messengers = names.count("tasks_core messenger")
            assert messengers == (0 if kind == "async" else 4)
        await over(*tasks)
    assert sorted(engine.ids) == sorted(task.id for task in tasks)


async def test_8_6_an_engine_that_hangs_holds_up_no_other() -> None:
    """8.6: Each carrier has its threads, and others for the status: so has who polls (8.9)."""
    hung, other = Engine("sync", "hung"), Engine("sync", "other")
    digits, tasks = token_hex(16), list[Task]()
    async with open_runner(carriers=[hung, other]) as runner:
        with hung.hangs():
            async with anyio.create_task_group() as group:
                for _ in range(6):
                    group.start_soon(runner.status, f"hung-{digits}")
                await until(lambda: hung.holding == 4)
                tasks += [runner.schedule(hung.task(double), number) for number in range(6)]
                await until(lambda: hung.holding == 8)
                task = runner.schedule(other.task(double), 1)
                await over(task)
                assert other.ids == [task.id]
                assert await runner.status(f"other-{digits}") is None
                group.cancel_scope.cancel()
        await over(*tasks)
    assert sorted(hung.ids) == sorted(task.id for task in tasks)


async def test_8_6_a_closed_runner_asks_all_the_same(kind: Kind) -> None:
    """8.6: A thread that answers after the end ends with its answer."""
    engine = Engine(kind)
    digits = token_hex(16)
    async with open_runner(carriers=[engine]) as runner:
        pass
    engine.statuses[f"engine-{digits}"] = running(f"engine-{digits}")
    assert await runner.status(f"engine-{digits}") == running(f"engine-{digits}")
    for thread in threading.enumerate():
        if thread.name == "tasks_core messenger":
            await to_thread.run_sync(thread.join, GUARD)
            assert not thread.is_alive()


@on_clock
async def test_8_6_the_time_counts_from_the_beginning_of_the_hand_over() -> None:
    """8.6: Also while it waits for a thread: so no queue of them makes it longer."""
    engine = Engine("sync", timeout=LONG)
    async with open_runner(carriers=[engine]) as runner:
        with engine.hangs():
            tasks = [runner.schedule(engine.task(double), number) for number in range(12)]
            await until(lambda: engine.holding == 4)
            await anyio.wait_all_tasks_blocked()
            forward()
            await over(*tasks)
            assert {task.state for task in tasks} == {TaskState.FAILED}
            assert engine.holding == 4  # the others never had a thread
        # Those that were left behind come back; what waited with them is not sent any more.
        await until(lambda: len(engine.sent) == 4)
        engine.timeout = GUARD
        later = runner.schedule(engine.task(double), 99)
        await over(later)
        assert engine.ids[-1] == later.id
        assert len(engine.sent) == 5


async def test_8_6_few_are_handed_over_at_a_time() -> None:
    """8.6: A client that is async has so many connections; each hand-over has its turn in time."""
    engine = Engine("async")
    async with open_runner(carriers=[engine]) as runner:
        with engine.hangs():
            tasks = [runner.schedule(engine.task(double), number) for number in range(100)]
            await anyio.wait_all_tasks_blocked()
            assert engine.holding == 40
            assert await runner.schedule(double_async, 2).wait() == 4
        await over(*tasks)
    assert sorted(engine.ids) == sorted(task.id for task in tasks)


async def test_8_6_who_waits_for_its_turn_fails_in_time(kind: Kind) -> None:
    """8.6: The timeout includes that wait; those that have failed have given their turns back."""
    engine = Engine(kind, timeout=SHORT)
    async with open_runner(carriers=[engine]) as runner:
        with engine.hangs():
            tasks = [runner.schedule(engine.task(double), number) for number in range(100)]
            await over(*tasks)
            assert {task.state for task in tasks} == {TaskState.FAILED}
        engine.timeout = GUARD
        later = [runner.schedule(engine.task(double), number) for number in range(100)]
        await over(*later)
        assert {task.state for task in later} == {TaskState.HANDED_OVER}


async def test_8_6_a_shutdown_waits_no_longer_than_the_timeout(
    kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    """8.6: Twenty hung hand-overs hold it up once, not twenty times; no thread is waited for."""
    engine = Engine(kind, timeout=SHORT)
    with engine.hangs():
        async with open_runner(carriers=[engine]) as runner:
            tasks = [runner.schedule(engine.task(double), number) for number in range(20)]
            began = time.monotonic()
        assert time.monotonic() - began < GUARD / 2
        assert {task.state for task in tasks} == {TaskState.FAILED}
        assert len(records(caplog, "ERROR")) == 20
    assert logged(caplog, "WARNING") == []


async def test_8_6_a_shutdown_lets_no_hand_over_wait_for_its_turn(engine: Engine) -> None:
    """8.6: Those that a `limit` holds back begin at once, and each once: one timeout bounds all."""
    async with TaskRunner(carriers=[engine]) as runner:
        with fail_after(GUARD):
            one, forever = runner.task(key="one", limit=1), anyio.Event()
            tasks = TasksScheduler(runner)
            later = tasks.after_response.task(key="one", limit=1).schedule(engine.task(double), 9)
            with engine.hangs(), tasks:
                here = one.task(shield=True).schedule(forever.wait)
                behind = one.task(shield=True).schedule(double, 1)
                cut = one.schedule(double, 1)
                cancelled, *carried = [one.schedule(engine.task(double), n) for n in range(4)]
                await here.started.wait()
                assert cancelled.cancel()
                async with anyio.create_task_group() as group:
                    group.start_soon(runner.drain)
                    for task in carried:
                        await task.started.wait()
                    tasks.reach(Phase.AFTER_RESPONSE)
                    await later.started.wait()
                    assert behind.state is TaskState.PENDING  # what runs here keeps to the limit
                    engine._open.set()
                    engine._held.set()
                    await over(later, *carried)
                    forever.set()
        assert behind.state is TaskState.SUCCEEDED
        assert {cut.state, cancelled.state} == {TaskState.CANCELLED}
        assert sorted(engine.ids) == sorted(task.id for task in (later, *carried))
        assert len(runner._lanes) == 0


async def test_8_6_a_shutdown_hands_over_what_was_scheduled_before(engine: Engine) -> None:
    """8.6: What is on its way, and what waits for a phase that comes, shielded or not (5.4)."""
    async with TaskRunner(carriers=[engine]) as runner:
        tasks, during = TasksScheduler(runner), list[Task]()
        with fail_after(GUARD), engine.hangs(), tasks:
            started = tasks.schedule(engine.task(double), 1)
            waiting = tasks.after_response.schedule(engine.task(double), 2)
            plain = tasks.after_response.schedule(double, 3)
            await started.started.wait()
            async with anyio.create_task_group() as group:
                group.start_soon(runner.drain)
                await until(lambda: runner._shutdown.drains and plain.state is TaskState.CANCELLED)
                during.append(tasks.schedule(engine.task(double), 4))
                engine._open.set()
                engine._held.set()
                await over(started, *during)
                tasks.reach(Phase.AFTER_RESPONSE)
        assert sorted(engine.ids) == sorted(task.id for task in (started, waiting, *during))


async def test_8_6_a_shutdown_does_not_wait_for_a_phase_that_nobody_reaches(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """8.6: A carried task of it is cut short and reported, as a shielded one is (2.8)."""
    async with open_runner(carriers=[engine]) as runner:
        task = TasksScheduler(runner).after_response.schedule(engine.task(double), 1)
    assert task.state is TaskState.CANCELLED
    (said,) = logged(caplog, "WARNING")
    assert "Shutdown left unfinished: double" in said
    assert engine.sent == []


async def test_8_6_the_bound_of_a_shutdown_counts_for_hand_overs_too(
    kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    """8.6: Past `shutdown_timeout` they are cancelled like what is shielded, and named (5.2)."""
    engine = Engine(kind)
    with engine.hangs():
        async with open_runner(carriers=[engine], shutdown_timeout=0) as runner:
            task = runner.schedule(engine.task(double), 1)
            await task.started.wait()
        assert task.state is TaskState.CANCELLED
    (said,) = logged(caplog, "WARNING")
    assert task.id in said
    assert "waited for carrier engine" in said


async def test_8_6_a_shutdown_that_waits_says_for_which_engine(
    engine: Engine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8.6: As it does for all that it waits for (5.2)."""
    monkeypatch.setattr(runner_module, "WARN_EVERY", 0.01)
    async with TaskRunner(carriers=[engine]) as runner:
        with fail_after(GUARD), engine.hangs():
            task = runner.schedule(engine.task(double), 1)
            async with anyio.create_task_group() as group:
                group.start_soon(runner.drain)
                await until(lambda: logged(caplog, "WARNING"))
                engine._open.set()
                engine._held.set()
        assert task.state is TaskState.HANDED_OVER
    assert "waited for carrier engine" in logged(caplog, "WARNING")[0]


def test_8_6_a_thread_that_hangs_keeps_no_process_alive() -> None:
    """8.6: The process ends once its shutdown has."""
    program = """
import threading, anyio
from tests.tasks_core.engine import Engine
from tasks_core import TaskRunner

async def main():
    engine = Engine("sync")
    engine._open = threading.Event()
    async with TaskRunner(carriers=[engine], shutdown_timeout=0) as runner:
        runner.schedule(engine.task(print), 1)
        while not engine.holding:
            await anyio.sleep(0)

anyio.run(main)
print([thread.name for thread in threading.enumerate()])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        cwd=__file__.partition("/tests/")[0],
        text=True,
        timeout=60,
    )
    assert "tasks_core messenger" in done.stdout


async def test_8_6_threads_end_with_the_runner(kind: Kind) -> None:
    """8.6: Those that have nothing to do do not outlive it."""
    engine = Engine(kind)
    before = threading.active_count()
    async with open_runner(carriers=[engine]) as runner:
        await over(*(runner.schedule(engine.task(double), number) for number in range(20)))
        assert runner.registry.living() == []
        names = [thread.name for thread in threading.enumerate()]
        assert names.count("tasks_core messenger") <= 4
    messengers = [it for it in threading.enumerate() if it.name == "tasks_core messenger"]
    for thread in messengers:
        await to_thread.run_sync(thread.join, GUARD)
        assert not thread.is_alive()
    assert before <= threading.active_count() + 1


async def test_8_6_an_engine_that_answers_after_the_end_disturbs_nobody(
    anyio_backend: str,
) -> None:
    """8.6: A thread that was left behind finds the event loop gone, and says nothing."""
    engine = Engine("sync")
    caught: list[object] = []
    before, threading.excepthook = threading.excepthook, caught.append
    try:
        with engine.hangs():

            def serve_once() -> None:
                async def main() -> None:
                    async with TaskRunner(carriers=[engine], shutdown_timeout=0) as runner:
                        runner.schedule(engine.task(double), 1)
                        await until(lambda: engine.holding)

                anyio.run(main, backend=anyio_backend)

            await to_thread.run_sync(serve_once)
        await until(lambda: engine.sent)
        for thread in threading.enumerate():
            if thread.name == "tasks_core messenger":
                await to_thread.run_sync(thread.join, GUARD)
    finally:
        threading.excepthook = before
    assert caught == []


# 8.7


async def test_8_7_what_is_not_confirmed_has_failed_once(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """8.7: Logged once, handled once; not sent again, and not run here instead (4.2, 4.3)."""
    engine.trouble = trouble = ConnectionError("no route to it")
    handled: list[tuple[Task, Exception]] = []
    ran: list[int] = []
    func = engine.task(ran.append)
    async with open_runner(carriers=[engine]) as runner:
        batch = runner.task(on_error=lambda task, error: handled.append((task, error)))
        task = batch.schedule(func, 1)
        with pytest.raises(HandOverError) as failure:
            await task.wait()
    assert task.exception is failure.value
    assert failure.value.__cause__ is trouble
    assert handled == [(task, failure.value)]
    (logged_once,) = records(caplog, "ERROR")
    assert logged_once.exc_info is not None
    assert "no route to it" in (logging.Formatter().format(logged_once))
    assert (engine.sent, ran) == ([], [])
    assert isinstance(failure.value, TasksError)
    assert str(failure.value) == (
        "engine did not confirm task list.append. It may have it all the same: hand it over again "
        "(`await task()`) only if it may run twice"
    )


async def test_8_7_a_handler_may_hand_it_over_again(engine: Engine) -> None:
    """8.7: Nothing is sent twice by itself, but by who knows that it may be (4.4)."""
    engine.trouble = SomeError()

    async def again(task: Task, error: Exception) -> None:
        engine.trouble = None
        await task()

    async with open_runner(carriers=[engine]) as runner:
        task = runner.task(on_error=again).schedule(engine.task(double), 1)
        await over(task)
        assert task.state is TaskState.FAILED  # the first hand-over has
    assert engine.ids == [task.id]


@pytest.mark.parametrize("trouble", [Abrupt("gone"), SystemExit(3)], ids=type)
async def test_8_7_nothing_that_an_engine_raises_gets_out(
    engine: Engine, trouble: BaseException
) -> None:
    """8.7: Whatever it is, the task has failed with a `HandOverError` (4.1)."""
    engine.trouble = trouble
    async with open_runner(carriers=[engine]) as runner:
        task = runner.schedule(engine.task(double), 1)
        with pytest.raises(HandOverError) as failure:
            await task.wait()
        assert isinstance(failure.value.__cause__, TaskAborted)
        assert failure.value.__cause__.__cause__ is trouble
        assert await runner.schedule(double, 1).wait() == 2


async def test_8_7_an_engines_error_may_refuse_attributes(engine: Engine) -> None:
    """8.7: The cause is what the engine has raised, a frozen dataclass too (4.1)."""
    engine.trouble = trouble = Frozen()
    async with open_runner(carriers=[engine]) as runner:
        task = runner.schedule(engine.task(double), 1)
        with pytest.raises(HandOverError) as failure:
            await task.wait()
    assert failure.value.__cause__ is trouble


@on_asyncio  # trio's cannot be made by others
async def test_8_7_a_stray_cancellation_of_an_engine_is_a_failure(engine: Engine) -> None:
    """8.7: A library's cancelled error that nobody meant for the task means "not confirmed"."""
    engine.trouble = asyncio.CancelledError()
    async with open_runner(carriers=[engine]) as runner:
        task = runner.schedule(engine.task(double), 1)
        with pytest.raises(HandOverError):
            await task.wait()


async def test_8_7_a_name_forges_no_line(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """8.7: Line breaks of a name are escaped in the error too (4.2)."""
    engine.trouble = SomeError()
    async with open_runner(carriers=[engine]) as runner:
        task = runner.task(name="a\nERROR b").schedule(engine.task(double), 1)
        await over(task)
    assert "a\\nERROR b" in str(task.exception)
    assert "\n" not in str(task.exception)
    engine.trouble = None
    async with open_runner(carriers=[engine]) as runner:
        task = runner.task(name="a\nERROR b").schedule(engine.task(double), 1)
        with pytest.raises(TaskHandedOver) as raised:
            await task.wait()
    assert str(raised.value).startswith(r"task a\nERROR b was handed over to ")


async def test_8_7_what_was_not_confirmed_is_remembered(engine: Engine) -> None:
    """8.7: It can be looked up, as any task that has failed (7.1)."""
    engine.trouble = SomeError()
    async with open_runner(carriers=[engine]) as runner:
        task = runner.schedule(engine.task(double), 1)
        task_id = task.id
        await over(task)
        found = runner.get(task_id)
        assert found is not None
        assert found.record().error_type == "HandOverError"
        with pytest.raises(TasksError, match="did not confirm"):
            await found.wait()
        with pytest.raises(RuntimeError, match="its function and arguments are not kept"):
            await found()


async def in_vain(waiting: Awaitable[object]) -> None:
    with suppress(HandOverError):
        await waiting


class Payload(str):
    """An argument that can be referred to weakly."""

    __slots__ = ("__weakref__",)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("ends", ["handed over", "refused", "aborted", "hung", "cancelled"])
async def test_8_7_arguments_go_with_the_task(
    kind: Kind, ends: str, anyio_backend_name: str
) -> None:
    """8.7: However a hand-over ends, it leaves no cycle of references (4.2)."""
    engine = Engine(kind, timeout=SHORT if ends == "hung" else GUARD)
    engine.note = lambda sent: None  # type: ignore[method-assign]
    trouble = {"refused": SomeError, "aborted": Abrupt}.get(ends)
    kept: list[weakref.ref[Payload]] = []

    async def hand_over(runner: TaskRunner) -> None:
        payload = Payload("p")
        kept.append(weakref.ref(payload))
        engine.trouble = None if trouble is None else trouble()
        tasks = TasksScheduler(runner)
        task = tasks.after_route.task(confirm=True).schedule(engine.task(len), payload)
        if ends == "cancelled":
            task.cancel()
        tasks.reach(Phase.AFTER_ROUTE)
        await in_vain(tasks.begun())
        tasks.reach(Phase.AFTER_RESPONSE)
        engine.trouble = None

    async with open_runner(carriers=[engine]) as runner:
        with engine.hangs() if ends == "hung" else nullcontext():
            await hand_over(runner)
        engine.timeout = GUARD
        await over(runner.schedule(engine.task(len), "what a thread has done last"))
        await anyio.wait_all_tasks_blocked()
        others = anyio_backend_name == "trio" or sys.version_info >= (3, 12)
        if others and ends in {"hung", "refused", "aborted"}:
            # Errors out of trio's own scopes are cycles by themselves; and from Python 3.12 on a
            # frame has those further out.
            gc.collect()
        if ends != "hung":
            assert kept[0]() is None
    for thread in threading.enumerate():
        if thread.name == "tasks_core messenger":
            thread.join(GUARD)
    if ends == "hung":
        gc.collect()
    assert kept[0]() is None


# 8.8


class Application:
    """An ASGI application, what its route does, and what its client got."""

    def __init__(self, route: Callable[[TasksScheduler], object], **settings: Any) -> None:
        self.route = route
        self.tasks: list[Task] = []
        self.app = TasksMiddleware(self._answer, **settings)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
        self.route(scope["tasks_core.scheduler"])
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": b"accepted"})

    async def request(self, on_message: Any = None) -> Exchange:
        async with serve(self.app) as server:
            return await server.request(on_message=on_message)


CONFIRMED = [Phase.IMMEDIATE, Phase.AFTER_ROUTE]


@pytest.mark.parametrize("phase", CONFIRMED)
async def test_8_8_the_response_leaves_when_the_engine_has_it(engine: Engine, phase: Phase) -> None:
    """8.8: Its first message waits for the engine's word, and not before the phase has begun."""
    had: list[int] = []

    def route(tasks: TasksScheduler) -> None:
        at(tasks, phase).task(confirm=True).schedule(engine.task(double), 1)

    def look(message: Message) -> None:
        had.append(len(engine.sent))

    exchange = await Application(route, carriers=[engine]).request(look)
    assert exchange.status == 202
    assert had == [1, 1]


@pytest.mark.parametrize("trouble", ["refuses", "hangs"])
@pytest.mark.parametrize("phase", CONFIRMED)
async def test_8_8_what_is_not_confirmed_fails_the_request(
    kind: Kind, phase: Phase, trouble: str
) -> None:
    """8.8: No success leaves, and *after response* is a failure."""
    engine = Engine(kind, timeout=SHORT)
    engine.trouble = SomeError() if trouble == "refuses" else None
    ran: list[str] = []

    def route(tasks: TasksScheduler) -> None:
        at(tasks, phase).task(confirm=True).schedule(engine.task(double), 1)
        after = tasks.after_response
        for run_on in get_args(RunOn):
            after.task(run_on=run_on).schedule(ran.append, run_on)

    hangs = engine.hangs() if trouble == "hangs" else nullcontext()
    app = Application(route, carriers=[engine]).app
    with hangs:
        async with serve(app) as server, drain(raise_errors=False):
            exchange = await server.request()
    assert exchange.messages == []
    assert isinstance(exchange.error, HandOverError)
    assert sorted(ran) == ["always", "failure"]


@pytest.mark.parametrize("works", [True, False])
@pytest.mark.parametrize("phase", CONFIRMED)
async def test_8_8_what_its_error_handler_has_handed_over_is_confirmed(
    engine: Engine, phase: Phase, *, works: bool
) -> None:
    """8.8: The engine has it then; where the handler has failed, too, it has not (8.7)."""
    engine.trouble = SomeError()
    made: list[Task] = []

    async def again(task: Task, error: Exception) -> None:
        engine.trouble = None if works else SomeError()
        with suppress(HandOverError):
            await task()

    def route(tasks: TasksScheduler) -> None:
        confirmed = at(tasks, phase).task(confirm=True, on_error=again)
        made.append(confirmed.schedule(engine.task(double), 1))

    async with serve(Application(route, carriers=[engine]).app) as server:
        exchange = await server.request()
    (task,) = made
    assert task.state is TaskState.FAILED
    assert engine.ids == [task.id] * works
    assert bool(exchange.messages) is works
    assert isinstance(exchange.error, HandOverError) is not works


async def test_8_8_what_was_handed_over_again_is_not_kept(engine: Engine) -> None:
    """8.8: One that has failed is kept, to be told of; not one that the engine has after all."""
    engine.trouble = SomeError()

    async def again(task: Task, error: Exception) -> None:
        engine.trouble = None
        await task()

    async with open_runner(carriers=[engine]) as runner:
        tasks = TasksScheduler(runner)
        await over(tasks.task(confirm=True, on_error=again).schedule(engine.task(double), 1))
        for number in range(100):
            await over(tasks.task(confirm=True).schedule(engine.task(double), number))
        await tasks.begun()
        assert not tasks._confirmed


async def test_8_8_without_confirm_no_response_waits(kind: Kind) -> None:
    """8.8: An engine that hangs delays no response that was not told to wait (8.6)."""
    engine = Engine(kind)

    def route(tasks: TasksScheduler) -> None:
        for phase in PHASES:
            at(tasks, phase).schedule(engine.task(double), 1)

    async with serve(Application(route, carriers=[engine]).app) as server:
        with engine.hangs():
            exchange = await server.request()
            assert (exchange.status, exchange.body) == (202, b"accepted")
            assert engine.sent == []
    assert len(engine.sent) == 3


async def test_8_8_for_tasks_of_this_process_it_changes_nothing(engine: Engine) -> None:
    """8.8: Without a carrier, and for other functions, the response waits for no task."""
    done = threading.Event()

    def route(tasks: TasksScheduler) -> None:
        for func in (until_cancelled, engine.task(done.wait), fail):
            tasks.task(confirm=True).schedule(func)
            tasks.after_route.task(confirm=True).schedule(func)

    async with serve(Application(route).app) as server:
        exchange = await server.request()
        assert (exchange.status, exchange.error) == (202, None)
        done.set()


async def test_8_8_for_after_response_it_is_refused(engine: Engine) -> None:
    """8.8: That is too late; as a setting of the application it is for the other phases."""
    async with open_runner(carriers=[engine], config=TaskConfig(confirm=True)) as runner:
        tasks = TasksScheduler(runner)
        with pytest.raises(ValueError, match="confirm=True is not for after_response"):
            tasks.after_response.task(confirm=True)
        tasks.after_response.task(confirm=False, name="no")
        tasks.after_response.schedule(engine.task(double), 1)
        confirmed = tasks.after_route.schedule(engine.task(double), 2)
        assert tasks._confirmed == [confirmed]
        tasks.reach(Phase.AFTER_RESPONSE)
        await tasks.begun()
        assert confirmed.state is TaskState.HANDED_OVER


async def test_8_8_a_task_that_is_skipped_or_cancelled_holds_nothing_up(engine: Engine) -> None:
    """8.8: There is nothing to confirm: its request has failed already, or its route knows."""
    engine.trouble = SomeError()
    async with open_runner(carriers=[engine]) as runner:
        tasks = TasksScheduler(runner)
        confirmed = tasks.after_route.task(confirm=True)
        cancelled = confirmed.schedule(engine.task(double), 1)
        skipped = confirmed.task(run_on="failure").schedule(engine.task(double), 2)
        cancelled.cancel()
        tasks.reach(Phase.AFTER_ROUTE)
        await tasks.begun()
        assert (cancelled.state, skipped.state) == (TaskState.CANCELLED, TaskState.SKIPPED)


async def test_8_8_what_a_shutdown_cuts_short_is_not_confirmed(kind: Kind) -> None:
    """8.8: Past `shutdown_timeout` a request that waits for its engine fails."""
    engine = Engine(kind)
    async with TaskRunner(carriers=[engine], shutdown_timeout=0) as runner:
        with fail_after(GUARD), engine.hangs():
            tasks = TasksScheduler(runner)
            task = tasks.task(confirm=True).schedule(engine.task(double), 1)
            await task.started.wait()
            await runner.drain()
            with pytest.raises(HandOverError):
                await tasks.begun()
    assert task.state is TaskState.CANCELLED


async def test_8_8_a_task_that_was_there_before_is_waited_for(engine: Engine) -> None:
    """8.8: Where `unique` finds another request's task, that one is to be confirmed (9.8)."""
    func = engine.task(double)
    async with open_runner(carriers=[engine]) as runner:
        with engine.hangs():
            there = runner.schedule(func, 1)
            tasks = TasksScheduler(runner)
            assert tasks.task(confirm=True, unique=True).schedule(func, 1) is there
            with anyio.move_on_after(SHORT) as waiting:
                await tasks.begun()
            assert waiting.cancelled_caught
        await tasks.begun()
        assert engine.ids == [there.id]


@pytest.mark.parametrize("phase", CONFIRMED)
@pytest.mark.parametrize("twins", list(Phase)[1:])
@pytest.mark.parametrize("own", [False, True])
async def test_8_8_a_task_that_waits_for_a_later_phase_confirms_nothing(
    engine: Engine, phase: Phase, twins: Phase, *, own: bool
) -> None:
    """8.8: Where `unique` finds one, `schedule` refuses; but for *after route* of the request."""
    func = engine.task(double)
    async with open_runner(carriers=[engine]) as runner:
        with TasksScheduler(runner) as tasks, TasksScheduler(runner) as others:
            there = at(tasks if own else others, twins).schedule(func, 1)
            confirmed = at(tasks, phase).task(confirm=True, unique=True)
            if own and twins is Phase.AFTER_ROUTE:
                assert confirmed.schedule(func, 1) is there
                tasks.reach(Phase.AFTER_ROUTE)
                await tasks.begun()
                assert engine.ids == [there.id]
                return
            with pytest.raises(RuntimeError) as raised:
                confirmed.schedule(func, 1)
            assert str(raised.value) == (
                "Task double cannot be confirmed before the response leaves: with unique=True it "
                f"is task {there.id}, which waits for {twins}{'' if own else ' of another request'}"
                ". Leave out confirm=True or unique=True, or give it a key=... of its own."
            )
            assert not tasks._confirmed
            other = at(tasks, phase).task(confirm=True, unique=True, key="other").schedule(func, 1)
            tasks.reach(Phase.AFTER_ROUTE)
            await tasks.begun()
            assert other.id in engine.ids
        await over(there)
    assert sorted(engine.ids) == sorted([other.id, there.id])


async def test_8_8_a_task_of_a_later_phase_that_has_come_is_waited_for(engine: Engine) -> None:
    """8.8: Another request's, of whatever phase, that is being handed over (9.8)."""
    func = engine.task(double)
    async with open_runner(carriers=[engine]) as runner:
        with engine.hangs():
            with TasksScheduler(runner) as others:
                there = others.after_response.schedule(func, 1)
            tasks = TasksScheduler(runner)
            assert tasks.after_route.task(confirm=True, unique=True).schedule(func, 1) is there
            tasks.reach(Phase.AFTER_ROUTE)
            with anyio.move_on_after(SHORT) as waiting:
                await tasks.begun()
            assert waiting.cancelled_caught
        await tasks.begun()
        assert engine.ids == [there.id]


async def test_8_8_where_no_response_waits_nothing_is_refused(engine: Engine) -> None:
    """8.8: Without a request `unique` returns what lives, whatever `confirm` says (2.8)."""
    func = engine.task(double)
    async with open_runner(carriers=[engine], config=TaskConfig(confirm=True)) as runner:
        with TasksScheduler(runner) as tasks:
            there = tasks.after_response.schedule(func, 1)
            assert runner.task(unique=True).schedule(func, 1) is there
            assert tasks.after_response.task(unique=True).schedule(func, 1) is there


async def test_8_8_a_websocket_waits_for_none_of_a_later_phase(engine: Engine) -> None:
    """8.8: It is closed before *after route*: nothing waits for what has not begun."""
    engine.trouble = SomeError()

    def route(tasks: TasksScheduler) -> None:
        tasks.after_route.task(confirm=True).schedule(engine.task(double), 1)

    application = Application(route, carriers=[engine])
    async with serve(application.app) as server, server.websocket() as socket:
        assert (await socket.receive())["type"] == "websocket.accept"
        assert (await socket.receive())["type"] == "websocket.close"
    assert socket.error is None


class Data(str):
    """What a task has in its hands."""

    __slots__ = ("__weakref__",)


def take(data: Data) -> None: ...


@pytest.mark.parametrize("open_for_long", [False, True])
async def test_8_8_what_is_confirmed_is_not_kept(engine: Engine, *, open_for_long: bool) -> None:
    """8.8: On a connection that stays open, and where no response will wait (4.2)."""
    seen: list[weakref.ref[Data]] = []
    async with open_runner(carriers=[engine], config=TaskConfig(confirm=True)) as runner:
        with TasksScheduler(runner) as tasks:
            tasks.after_route.schedule(engine.task(take), Data())
            if not open_for_long:
                tasks.reach(Phase.AFTER_RESPONSE)
            for _ in range(20):
                for _ in range(10):
                    data = Data()
                    seen.append(weakref.ref(data))
                    await over(tasks.schedule(engine.task(take), data))
                    del data
            engine.sent.clear()
            gc.collect()
            assert sum(one() is not None for one in seen) < (50 if open_for_long else 1)


async def test_8_8_a_failure_among_many_is_told_once(engine: Engine) -> None:
    """8.8: Whatever is confirmed after it; the page that tells of it waits for nothing."""
    async with open_runner(carriers=[engine]) as runner:
        tasks = TasksScheduler(runner)
        confirmed = tasks.task(confirm=True)
        for number in range(100):
            engine.trouble = SomeError() if number == 10 else None
            await over(confirmed.schedule(engine.task(double), number))
        assert len(tasks._confirmed or ()) < 50
        with pytest.raises(HandOverError):
            await tasks.begun()
        await tasks.begun()
        await over(confirmed.schedule(engine.task(double), 1))
        await tasks.begun()
        assert not tasks._confirmed


async def test_8_8_a_client_that_waits_may_be_cancelled(engine: Engine) -> None:
    """8.8: What cuts the request off does not cut the hand-over off."""
    async with open_runner(carriers=[engine]) as runner:
        with engine.hangs():
            tasks = TasksScheduler(runner)
            task = tasks.task(confirm=True).schedule(engine.task(double), 1)
            with CancelScope() as scope:
                scope.cancel()
                await tasks.begun()
        await over(task)
        assert task.state is TaskState.HANDED_OVER


# 8.9


@pytest.mark.parametrize("is_async", [True, False])
async def test_8_9_few_are_asked_at_a_time(*, is_async: bool) -> None:
    """8.9: As hand-overs, apart from these; also where the client's function is a sync one."""

    class Pool(Engine):
        async def status_async(self, task_id: str, /) -> TaskStatus | None:
            return await self._ask_async(task_id)

    engine = Pool("async")
    if is_async:
        engine.status = engine.status_async  # type: ignore[method-assign]
    engine.statuses = {f"engine-{n:032x}": running(f"engine-{n:032x}") for n in range(100)}
    found, tasks = list[TaskStatus | None](), list[Task]()

    async def ask(runner: TaskRunner, task_id: str) -> None:
        found.append(await runner.status(task_id))

    async with open_runner(carriers=[engine]) as runner:
        with engine.hangs():
            async with anyio.create_task_group() as group:
                for task_id in engine.statuses:
                    group.start_soon(ask, runner, task_id)
                await until(lambda: engine.holding >= 40)
                await anyio.wait_all_tasks_blocked()
                assert engine.holding == 40
                tasks.append(runner.schedule(engine.task(double), 1))
                await until(lambda: engine.holding == 41)
                engine._open.set()
                engine._held.set()
        await over(*tasks)
    assert len(engine.asked) == len(found) == 100
    assert None not in found


async def test_8_9_a_task_of_this_process_tells_of_itself(engine: Engine) -> None:
    """8.9: The same question is answered for what runs here, by its state, result or error."""
    async with open_runner(carriers=[engine]) as runner:
        tasks = TasksScheduler(runner)
        func = engine.task(double_async)
        succeeded = tasks.schedule(double, 2)
        failed = tasks.schedule(fail)
        begun = tasks.schedule(until_cancelled)
        cancelled = tasks.after_route.schedule(double, 2)
        skipped = tasks.after_route.task(run_on="failure").schedule(double, 2)
        waiting = tasks.after_response.schedule(double, 2)
        carried = tasks.after_response.schedule(func, 2)
        ids = [it.id for it in (succeeded, failed, begun, cancelled, skipped, waiting, carried)]
        cancelled.cancel()
        tasks.reach(Phase.AFTER_ROUTE)
        await begun.started.wait()
        await over(succeeded, failed, cancelled, skipped)

        found = [await tasks.status(task_id) for task_id in ids]
        states = [one and one.state for one in found]
        assert states == [
            TaskState.SUCCEEDED,
            TaskState.FAILED,
            TaskState.RUNNING,
            TaskState.CANCELLED,
            TaskState.SKIPPED,
            TaskState.PENDING,
            TaskState.PENDING,
        ]
        assert found[0] == TaskStatus(id=ids[0], state=TaskState.SUCCEEDED, result=4)
        assert found[1] == TaskStatus(
            id=ids[1], state=TaskState.FAILED, error_type="SomeError", error="it failed"
        )
        assert found[6] == TaskStatus(id=ids[6], state=TaskState.PENDING, carrier="engine")
        assert engine.asked == []
        begun.cancel()
        tasks.reach(Phase.AFTER_RESPONSE)


async def test_8_9_progress_is_told(engine: Engine) -> None:
    """8.9: As far as the task has reported it (7.2)."""

    async def report() -> None:
        current_task().report(1, total=3)

    async with open_runner(carriers=[engine]) as runner:
        task = runner.schedule(report)
        task_id = task.id
        await over(task)
        status = await runner.status(task_id)
        assert status is not None
        assert status.progress is not None
        assert (status.progress.done, status.progress.total) == (1, 3)


async def test_8_9_after_the_hand_over_the_engine_is_asked(engine: Engine) -> None:
    """8.9: This process forgets the task, so that every process gives the same answer."""
    async with open_runner(carriers=[engine]) as runner, TaskRunner(carriers=[engine]) as other:
        task = runner.schedule(engine.task(double), 1)
        task_id = task.id
        await over(task)
        assert runner.get(task_id) is None
        assert runner.registry.ended() == []
        for state in TaskState:
            engine.statuses[task_id] = TaskStatus(id=task_id, state=state, carrier="engine")
            for one in (runner, other, TasksScheduler(other)):
                assert await one.status(task_id) is engine.statuses[task_id]
    assert set(engine.asked) == {task_id}


async def test_8_9_during_the_hand_over_this_process_tells(engine: Engine) -> None:
    """8.9: *pending*: the engine need not know of it yet, and is not asked."""
    async with open_runner(carriers=[engine]) as runner:
        with engine.hangs():
            task = runner.schedule(engine.task(double), 1)
            task_id = task.id
            await task.started.wait()
            assert await runner.status(task_id) == pending(task_id)
        await over(task)
    assert engine.asked == []


async def test_8_9_a_hand_over_that_was_not_confirmed(engine: Engine) -> None:
    """8.9: It has failed, unless the engine knows that it has it all the same."""
    engine.trouble = SomeError("no answer")
    async with open_runner(carriers=[engine]) as runner:
        task = runner.schedule(engine.task(double), 1)
        task_id = task.id
        await over(task)
        failed = await runner.status(task_id)  # the engine does not know it
        assert failed is not None
        assert (failed.state, failed.error_type) == (TaskState.FAILED, "HandOverError")
        assert failed.carrier == "engine"
        engine.statuses[task_id] = pending(task_id)  # which some say of all that they do not know
        assert await runner.status(task_id) == failed
        engine.statuses[task_id] = running(task_id)
        assert await runner.status(task_id) == running(task_id)


async def test_8_9_who_follows_what_is_handed_over(engine: Engine) -> None:
    """8.9: Its engine tells from then on, and nothing here holds the task."""
    async with open_runner(carriers=[engine]) as runner:
        with engine.hangs():
            task = runner.schedule(engine.task(double), 1)
            task_id = task.id
            following = runner.follow(task_id)
            assert await anext(following) == pending(task_id)
        await over(task)
        held = weakref.ref(task)
        del task
        engine.statuses[task_id] = running(task_id)
        assert await anext(following) == running(task_id)
        gc.collect()
        assert held() is None


async def test_8_9_who_follows_what_was_not_confirmed(engine: Engine) -> None:
    """8.9: It has failed, also where it is forgotten by then (7.6)."""
    engine.trouble = SomeError("no answer")
    async with open_runner(carriers=[engine], history=0) as runner:
        with engine.hangs():
            task_id = runner.schedule(engine.task(double), 1).id
            following = runner.follow(task_id)
            assert await anext(following) == pending(task_id)
        engine.statuses[task_id] = pending(task_id)  # which some say of all that they do not know
        with fail_after(GUARD):
            (failed,) = [status async for status in following]
        assert (failed.state, failed.error_type) == (TaskState.FAILED, "HandOverError")


async def test_8_9_all_who_follow_what_was_not_confirmed_ask_together(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8.9: Its engine is asked twice a second, as for all that it has (7.6)."""
    monkeypatch.setattr(everywhere, "ASK_EVERY", LONG)
    engine.trouble = SomeError("no answer")
    told = list[TaskStatus]()
    async with open_runner(carriers=[engine]) as runner:
        task = runner.schedule(engine.task(double), 1)
        task_id = task.id
        await over(task)
        engine.statuses[task_id] = running(task_id)

        async def follow() -> None:
            async for status in runner.follow(task_id):
                told.append(status)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(follow)
            with fail_after(GUARD):
                await until(lambda: len(told) == 3)
            await anyio.wait_all_tasks_blocked()
            assert engine.asked == [task_id]
            await runner.drain()
    assert told[:3] == [running(task_id)] * 3


async def test_8_9_what_nobody_knows_is_none(engine: Engine) -> None:
    """8.9: An id of nobody, of another process, of a carrier that is not there, and nonsense."""
    digits = token_hex(16)
    async with open_runner(carriers=[engine]) as runner:
        for task_id in (digits, f"other-{digits}", f"-{digits}", "", "-", "engine"):
            assert await runner.status(task_id) is None
        assert engine.asked == []
        assert await runner.status(f"engine-{digits}") is None
        assert engine.asked == [f"engine-{digits}"]


@pytest.mark.parametrize(
    "rest",
    ["", "x", "../../secrets", "0" * 31, "0" * 34, "A" * 32, "g" * 32, "0" * 32 + "\n"],
)
async def test_8_9_no_engine_is_asked_for_what_cannot_be_an_id(engine: Engine, rest: str) -> None:
    """8.9: To an engine an id may be a key or a file's name, and clients send what they like."""
    async with open_runner(carriers=[engine]) as runner:
        assert await runner.status(f"engine-{rest}") is None
    assert engine.asked == []


async def test_8_9_one_engine_is_asked(kind: Kind) -> None:
    """8.9: The id says which, also where a name is part of another."""
    first, second = Engine(kind, "a"), Engine(kind, "a-b")
    digits = token_hex(16)
    async with open_runner(carriers=[first, second]) as runner:
        for engine in (first, second):
            task_id = f"{engine.name}-{digits}"
            engine.statuses[task_id] = running(task_id, engine.name)
            assert await runner.status(task_id) is engine.statuses[task_id]
    assert (first.asked, second.asked) == ([f"a-{digits}"], [f"a-b-{digits}"])


async def test_8_9_what_an_engine_raises_comes_out(engine: Engine) -> None:
    """8.9: An engine that cannot be asked is no unknown id."""
    engine.confused = SomeError("it is away")
    async with open_runner(carriers=[engine]) as runner:
        with pytest.raises(SomeError, match="it is away"):
            await runner.status(f"engine-{token_hex(16)}")


async def test_8_9_a_question_that_hangs_blocks_nobody(engine: Engine) -> None:
    """8.9: It may be given up like any other await, and the thread is left behind."""
    async with open_runner(carriers=[engine]) as runner:
        with engine.hangs():
            with anyio.move_on_after(SHORT) as given_up:
                await runner.status(f"engine-{token_hex(16)}")
            assert given_up.cancelled_caught
            assert await runner.schedule(double, 1).wait() == 2


async def test_8_9_a_question_that_hangs_ends_in_time(kind: Kind) -> None:
    """8.9: An engine is asked as long as the carrier's timeout says; then it is named."""
    engine = Engine(kind, timeout=SHORT)
    task_id = f"engine-{token_hex(16)}"
    async with open_runner(carriers=[engine]) as runner:
        with engine.hangs(), pytest.raises(TimeoutError) as raised:
            await runner.status(task_id)
        assert str(raised.value) == (
            f"engine did not tell the status of task {task_id} within 0.05 s, the timeout of its "
            "carrier"
        )
        engine.timeout = GUARD
        engine.confused = TimeoutError("its own")
        with pytest.raises(TimeoutError, match=r"^its own$"):
            await runner.status(task_id)


async def test_8_9_a_coroutine_that_comes_too_late_is_closed() -> None:
    """8.9: Also where a sync function returns one: no warning that it was never awaited."""

    class Late(Engine):
        def status(self, task_id: str, /) -> Awaitable[TaskStatus | None]:
            self._wait()
            return self._ask_async(task_id)

    engine = Late("sync", timeout=SHORT)
    async with open_runner(carriers=[engine]) as runner:
        with engine.hangs(), pytest.raises(TimeoutError):
            await runner.status(f"engine-{token_hex(16)}")
    for thread in threading.enumerate():
        if thread.name == "tasks_core messenger":
            await to_thread.run_sync(thread.join, GUARD)
    gc.collect()
    assert engine.asked == []


async def test_8_9_a_shutdown_ends_who_follows_while_an_engine_is_asked(kind: Kind) -> None:
    """8.9: However long that takes, and while nobody is asked; then no engine is (7.6)."""
    engine, told = Engine(kind), list[TaskStatus]()
    task_id = f"engine-{token_hex(16)}"
    engine.statuses[task_id] = running(task_id)
    async with TaskRunner(carriers=[engine]) as runner:

        async def follow() -> None:
            async for status in runner.follow(task_id):
                told.append(status)

        with fail_after(GUARD), ExitStack() as hanging:
            async with anyio.create_task_group() as group:
                for followers in (1, 2):
                    group.start_soon(follow)
                    await until(lambda followers=followers: len(told) == followers)  # type: ignore[misc]
                hanging.enter_context(engine.hangs())
                await until(lambda: engine.holding)
                await runner.drain()
            held = engine.holding
            assert [one async for one in runner.follow(task_id)] == []
            assert engine.holding == held
    assert told == [running(task_id)] * 2


def test_8_9_who_follows_on_another_event_loop_is_let_alone() -> None:
    """8.9: Of a thread's loops one runs at a time: a shutdown on its own has nobody to wake."""
    engine, loops = Engine("async"), [asyncio.new_event_loop() for _ in range(2)]
    task_id = f"engine-{token_hex(16)}"
    engine.statuses[task_id] = running(task_id)
    runner = TaskRunner(carriers=[engine])
    loops[0].run_until_complete(runner.__aenter__())
    following = runner.follow(task_id)

    async def read() -> TaskStatus | None:
        return await anext(following, None)

    assert loops[1].run_until_complete(read()) == running(task_id)
    with engine.hangs():
        waiting = loops[1].create_task(read())

        async def until_asked() -> None:
            await until(lambda: engine.holding)

        loops[1].run_until_complete(until_asked())
        loops[0].run_until_complete(runner.__aexit__(None, None, None))
    assert loops[1].run_until_complete(waiting) is None
    assert engine.asked == [task_id] * 2
    for loop in loops:
        loop.close()


async def test_8_9_a_carrier_may_know_nothing() -> None:
    """8.9: One that says no more of its tasks answers with None."""

    class Silent(Engine):
        status = Carrier.status

    engine = Silent("async")
    async with open_runner(carriers=[engine]) as runner:
        task = runner.schedule(engine.task(double), 1)
        task_id = task.id
        await over(task)
        assert await runner.status(task_id) is None


async def test_8_9_it_waits_for_no_task(engine: Engine) -> None:
    """8.9: Also while the task runs, or waits for its phase."""
    async with open_runner(carriers=[engine]) as runner:
        task = runner.schedule(until_cancelled)
        task_id = task.id
        with fail_after(GUARD):
            status = await runner.status(task_id)
        assert status is not None
        assert status.state in {TaskState.PENDING, TaskState.RUNNING}
        task.cancel()


async def test_8_9_what_is_handed_over_evicts_nothing(engine: Engine) -> None:
    """8.9: However much is handed over, tasks of this process are remembered as long as ever."""
    async with open_runner(carriers=[engine], history=2) as runner:
        kept = [runner.schedule(double, 1), runner.schedule(double, 2)]
        ids = [task.id for task in kept]
        await over(*kept)
        carried = [runner.schedule(engine.task(double), number) for number in range(5)]
        assert len({task.id for task in carried}) == 5
        await over(*carried)
        assert {task.id for task in carried}.isdisjoint(runner.registry._known)
        assert all([await runner.status(task_id) for task_id in ids])


async def test_8_9_a_mounted_applications_scheduler_asks_too(engine: Engine) -> None:
    """8.9: The runner is the outermost application's."""
    digits = token_hex(16)
    engine.statuses[f"engine-{digits}"] = running(f"engine-{digits}")
    async with open_runner(carriers=[engine]) as runner:
        layered = LayeredScheduler(TasksScheduler(runner), TaskConfig(name="mounted"))
        assert await layered.status(f"engine-{digits}") == running(f"engine-{digits}")
        carried = layered.schedule(engine.task(double), 1)
        assert (carried.carrier, carried.name) == ("engine", "mounted")
        await over(carried)


def test_8_9_a_status_is_plain_data() -> None:
    """8.9: A frozen dataclass, whose fields say all; how adapters show it is tested with them."""
    status = running("engine-1")
    assert asdict(status) == {
        "id": "engine-1",
        "state": "running",
        "result": None,
        "error_type": None,
        "error": None,
        "progress": None,
        "carrier": "engine",
    }
    with pytest.raises(FrozenInstanceError):
        status.state = TaskState.SUCCEEDED  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]


def test_a_double_is_what_it_stands_for() -> None:
    """The engine of these tests is a `Carrier` that takes its own task objects only."""
    engine = Engine("sync")
    assert isinstance(engine.task(double), EngineTask)
    assert engine.carry(double, (1,), {}) is None
