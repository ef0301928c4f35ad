"""Contract 7.6: a task is known, followed and cancelled in every process of the server."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import weakref
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, fields
from functools import partial
from itertools import pairwise
from typing import Any

import anyio
import pytest
from anyio import from_thread, to_thread
from tasks_core import (
    Carrier,
    Phase,
    Progress,
    RecordStore,
    Task,
    TaskRecord,
    TaskRunner,
    TasksScheduler,
    TaskState,
    TaskStatus,
    current_task,
)
from tasks_core import _everywhere as everywhere
from tasks_core import _record_store as asked
from tasks_core import _records as module

from tests.tasks_core.clock import LONG, forward, on_clock
from tests.tasks_core.stage import (
    GUARD,
    Frozen,
    SomeError,
    fail_async,
    logged,
    open_runner,
    over,
    until_cancelled,
)
from tests.tasks_core.store import Store, two_processes

pytestmark = pytest.mark.anyio

UNKNOWN = "0" * 32


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done now and then is done often, and what is waited for is not waited for long."""
    monkeypatch.setattr(module, "WRITE_EVERY", 0.01)
    monkeypatch.setattr(module, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(everywhere, "ASK_EVERY", 0.01)
    monkeypatch.setattr(everywhere, "ARRIVES_WITHIN", 0.01)


class Clock:
    """The clock of the event loop, as records see it; it stands."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "current_time", clock)
    return clock


def followed(runner: TaskRunner, func: Callable[[], object]) -> Task:
    task = runner.schedule(func)
    assert task.id
    return task


def records_of(runner: TaskRunner) -> module.Records:
    assert runner._records is not None
    return runner._records


async def until_it_works(runner: TaskRunner) -> None:
    """Wait until nothing of the store fails any more, as the runner knows."""
    while records_of(runner)._failing:
        await anyio.lowlevel.checkpoint()


async def succeed(*args: object) -> str:
    return "the result"


def do_nothing() -> None: ...


# What is written.


@pytest.mark.usefixtures("hurry")
async def test_only_what_somebody_follows_is_written() -> None:
    """A task whose id nobody has asked for is none of the store's business, nor its process."""
    store = Store()
    async with open_runner(records=store) as runner:
        for _ in range(3):
            task = runner.schedule(succeed)
            failing = runner.schedule(fail_async)
            repr(task)
            await over(task, failing)
        await anyio.wait_all_tasks_blocked()
        assert store.puts == []

        followed = runner.schedule(succeed)
        assert followed.id
        await store.until_state(followed.id, "succeeded")
    (process,) = store.processes()
    assert {key for key, _, _ in store.puts} == {followed.id, process, f"cancel-{process}"}
    assert store.gets == []


async def test_without_a_store_nothing_is_written_or_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is even made, and an unknown id is unknown at once."""

    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("tasks_core._runner.Records", refuse)
    monkeypatch.setattr(anyio, "sleep", refuse)
    async with open_runner() as runner:
        task = runner.schedule(succeed)
        assert task.id
        assert not runner._observers.active
        await over(task)
        assert await runner.status(UNKNOWN) is None
        assert await runner.cancel(UNKNOWN) is False
        assert [one async for one in runner.follow(UNKNOWN)] == []


async def test_what_is_written_is_json_and_shows_no_values() -> None:
    """11.4 It is the task's record: neither arguments nor results, and always JSON."""
    store = Store()
    name = 'mail "eve"\n\x00\ud800 🦊'

    async def work(*args: object, **kwargs: object) -> object:
        current_task().report(1e300, total=10**300, message="half \ud800")
        return "a secret result"

    async with open_runner(records=store) as runner:
        task = runner.task(name=name).schedule(work, "a secret argument", key="a secret argument")
        failing = runner.schedule(fail_async, "a secret argument")
        assert task.id
        assert failing.id
        await over(task, failing)
        await store.until_state(task.id, "succeeded")
        await store.until_state(failing.id, "failed")
    text = json.dumps(store.puts)
    assert "secret" not in text
    found, failed = store.read(task.id), store.read(failing.id)
    assert found is not None
    assert failed is not None
    assert set(found["record"]) == {field.name for field in fields(TaskRecord)}
    assert found["record"] == json.loads(json.dumps(asdict(task.record())))
    assert failed["record"]["error_type"] == "SomeError"
    assert failed["record"]["error"] == "it failed"


async def test_the_first_record_at_once_then_seldom_and_at_last_the_newest(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a task reports, it is written a few times a second, and its end for sure."""
    monkeypatch.setattr(module, "WRITE_EVERY", 0.25)
    store = Store()
    steps = [anyio.Event(), anyio.Event()]

    async def work() -> None:
        task = current_task()
        await steps[0].wait()
        for done in range(1000):
            task.report(done)
        await steps[1].wait()
        task.report(1000)

    async with open_runner(records=store) as runner:
        task = runner.schedule(work)
        assert task.id
        await store.until_read(task.id)
        steps[0].set()
        await anyio.wait_all_tasks_blocked()
        for _ in range(3):  # turns of the writer, while no time passes
            await records_of(runner)._write(module.WRITE_EVERY)
        assert len(store.written(task.id)) == 1
        clock.now += 0.25
        await store.until(lambda: len(store.written(task.id)) == 2)
        assert store.written(task.id)[-1]["progress"]["done"] == 999
        steps[1].set()
        await over(task)
        assert len(store.written(task.id)) == 2
    assert len(store.written(task.id)) == 3
    assert store.written(task.id)[-1]["progress"]["done"] == 1000
    assert store.written(task.id)[-1]["state"] == "succeeded"


async def test_the_first_record_does_not_wait_for_the_next_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who has got an id may ask another process for it the next moment."""
    monkeypatch.setattr(module, "WRITE_EVERY", 3600)
    store = Store()
    async with open_runner(records=store) as runner:
        for _ in range(3):
            task = runner.schedule(until_cancelled)
            await task.started.wait()
            assert task.id
            await store.until_state(task.id, "running")
            task.cancel()


@pytest.mark.usefixtures("hurry")
async def test_threads() -> None:
    """A task that a thread schedules, asks for and reports from is written like any other."""
    store = Store()

    def work() -> None:
        current_task().report(1, total=2)

    async with open_runner(records=store) as runner:
        task_id = await to_thread.run_sync(lambda: runner.schedule(work).id)
        await store.until_state(task_id, "succeeded")
    assert store.written(task_id)[-1]["progress"] == {"done": 1, "total": 2, "message": None}


@pytest.mark.usefixtures("hurry")
async def test_each_step_is_written_whoever_has_read_the_updates(clock: Clock) -> None:
    """7.6 That a reader of the registry's updates (11.5) has closed ends nothing for the store."""
    store, reported = Store(), anyio.Event()

    async def work() -> None:
        current_task().report(1)
        reported.set()
        await anyio.sleep_forever()

    async with open_runner(records=store) as runner:
        runner.registry.updates().close()
        await over(runner.schedule(succeed))
        scheduler = TasksScheduler(runner)
        task = scheduler.after_response.schedule(work)
        await store.until_state(task.id, "pending")
        scheduler.reach(Phase.AFTER_RESPONSE)
        await reported.wait()
        assert task in records_of(runner)._changed
        clock.now += 1
        await store.until_state(task.id, "running")
        assert store.written(task.id)[-1]["progress"]["done"] == 1
        task.cancel()


@pytest.mark.usefixtures("hurry")
async def test_an_id_that_is_asked_for_late() -> None:
    """Also that of a task that has ended long ago is known everywhere from then on."""
    store = Store()
    async with two_processes(store) as (here, there):
        task = here.schedule(succeed)
        await over(task)
        assert task.id
        await store.until_state(task.id, "succeeded")
        status = await there.status(task.id)
        assert status == TaskStatus(id=task.id, state=TaskState.SUCCEEDED)


# How long it is kept.


async def test_living_ones_are_renewed_and_ended_ones_expire(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of a task that lives is written again in time, however little it says."""
    monkeypatch.setattr(module, "WRITE_EVERY", 0.001)
    store = Store()
    async with open_runner(records=store, records_ttl=600) as runner:
        task = runner.schedule(until_cancelled)
        await task.started.wait()
        assert task.id
        await store.until_state(task.id, "running")
        for _ in range(4):
            written = store.count(task.id)
            await anyio.wait_all_tasks_blocked()
            clock.now += 301
            await store.until_put(task.id, written + 1)
        task.cancel()
        await over(task)
        clock.now += 1
        await store.until_state(task.id, "cancelled")
        await anyio.wait_all_tasks_blocked()
        assert not records_of(runner)._written
        assert not records_of(runner)._changed
        written = len(store.puts)
        clock.now += 100_000
        await records_of(runner)._write(0.0)
        assert len(store.puts) == written
    assert {ttl for key, _, ttl in store.puts if key == task.id} == {600}


async def test_a_short_time_to_live_is_that_of_ended_ones() -> None:
    """A living task is kept at least as long as its process may be silent."""
    store = Store()
    async with open_runner(records=store, records_ttl=1.5) as runner:
        task = runner.schedule(until_cancelled)
        assert task.id
        await store.until_read(task.id)
        task.cancel()
    ttls = [ttl for key, _, ttl in store.puts if key == task.id]
    assert ttls[0] >= module.SILENCE
    assert ttls[-1] == 1.5


async def test_a_process_says_that_it_lives_while_its_tasks_are_followed(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first record of a task and every few seconds from then on; at no other time."""
    monkeypatch.setattr(module, "WRITE_EVERY", 0.001)
    store = Store()

    def beats() -> list[float]:
        return [ttl for key, _, ttl in store.puts if key.startswith("process-")]

    async with open_runner(records=store) as runner:
        await over(runner.schedule(succeed))
        assert beats() == []
        task = runner.schedule(until_cancelled)
        assert task.id
        await store.until_read(task.id)
        assert store.puts[1][0].startswith("process-")
        for number in range(2, 5):
            await anyio.wait_all_tasks_blocked()
            clock.now += module.BEAT_EVERY
            await store.until_put("process-", number)
            assert len(beats()) == number
        task.cancel()
        await store.until_state(task.id, "cancelled")
        clock.now += module.BEAT_EVERY
        await records_of(runner)._write(0.0)
        assert len(beats()) == 4
    assert set(beats()) == {module.SILENCE}
    assert module.SILENCE > 3 * module.BEAT_EVERY


async def test_many_records_do_not_silence_the_process(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a slow store takes longer for all than a process may be silent, it is not silent."""
    monkeypatch.setattr(module, "WRITE_EVERY", 0.001)
    store = Store()
    store.before = lambda key: setattr(clock, "now", clock.now + 1)  # each takes a second
    async with open_runner(records=store) as runner:
        tasks = [runner.schedule(until_cancelled) for _ in range(50)]
        ids = [task.id for task in tasks]
        await store.until_read(*ids)
        beats = [number for number, put in enumerate(store.puts) if put[0] not in ids]
        store.before = lambda key: None
        for task in tasks:
            task.cancel()
    between = [after - before for before, after in pairwise(beats)]
    assert max(between) < module.SILENCE


# What others read.


@pytest.mark.usefixtures("hurry")
async def test_what_another_process_says() -> None:
    """Its state, progress and error, as its own process says; only the result stays there."""
    store = Store()
    go_on = anyio.Event()

    async def work() -> str:
        current_task().report(3, total=10, message="reading")
        await go_on.wait()
        return "the result"

    async with two_processes(store) as (here, there):
        tasks = TasksScheduler(here)
        waiting = tasks.after_response.schedule(succeed)
        skipped = tasks.after_response.task(run_on="failure").schedule(succeed)
        working, failing = tasks.schedule(work), tasks.schedule(fail_async)
        cancelled = tasks.schedule(until_cancelled)
        everyone: list[Task] = [waiting, skipped, working, failing, cancelled]
        ids = [task.id for task in everyone]
        await over(failing)
        cancelled.cancel()
        for task_id, state in zip(
            ids, ("pending", "pending", "running", "failed", "cancelled"), strict=True
        ):
            await store.until_state(task_id, state)

        async def agree() -> list[TaskStatus | None]:
            told = [await there.status(task_id) for task_id in ids]
            assert told == [await TasksScheduler(there).status(task_id) for task_id in ids]
            return told

        told = await agree()
        assert told == [await here.status(task_id) for task_id in ids]
        assert told[2] == TaskStatus(
            id=working.id, state=TaskState.RUNNING, progress=Progress(3, 10, "reading")
        )
        assert told[3] is not None
        assert (told[3].error_type, told[3].error) == ("SomeError", "it failed")
        go_on.set()
        tasks.reach(Phase.AFTER_RESPONSE)
        await over(*everyone)
        for task_id, state in zip(
            ids, ("succeeded", "skipped", "succeeded", "failed", "cancelled"), strict=True
        ):
            await store.until_state(task_id, state)
        told = await agree()
        assert [one and one.result for one in told] == [None] * 5
        own = await here.status(working.id)
        assert own is not None
        assert own.result == "the result"
        assert there.get(working.id) is None


@pytest.mark.usefixtures("hurry")
async def test_what_a_process_has_forgotten_is_still_written() -> None:
    """Its own word is then the store's, without the result."""
    store = Store()
    async with open_runner(records=store, history=0) as runner:
        task = runner.schedule(succeed)
        assert task.id
        await over(task)
        await store.until_state(task.id, "succeeded")
        assert runner.get(task.id) is None
        status = await runner.status(task.id)
    assert status == TaskStatus(id=task.id, state=TaskState.SUCCEEDED)


@pytest.mark.usefixtures("hurry")
async def test_a_process_that_has_died() -> None:
    """Its tasks have failed, lost; unless it says a word after all."""
    store = Store()

    async def work() -> None:
        current_task().report(1, total=2)
        await anyio.sleep_forever()

    async with two_processes(store) as (here, there):
        task, ended = here.schedule(work), here.schedule(succeed)
        assert ended.id
        await store.until_state(task.id, "running")
        await store.until_state(ended.id, "succeeded")
        before = dict(store.kept)
        store.kill()
        lost = TaskStatus(
            id=task.id,
            state=TaskState.FAILED,
            error_type="TaskLost",
            error="its process has ended without a word",
            progress=Progress(1, 2),
        )
        assert await there.status(task.id) == lost
        assert [one async for one in there.follow(task.id)] == [lost]
        assert await there.cancel(task.id) is False
        status = await there.status(ended.id)
        assert status is not None
        assert status.state is TaskState.SUCCEEDED
        own = await here.status(task.id)
        assert own is not None
        assert own.state is TaskState.RUNNING
        store.kept.update(before)  # it was only slow
        status = await there.status(task.id)
        assert status is not None
        assert status.state is TaskState.RUNNING
        task.cancel()


@pytest.mark.parametrize(
    "task_id",
    [
        "",
        "unknown",
        "0" * 31,
        "0" * 33,
        "0" * 31 + "g",
        "0" * 31 + "A",
        "0" * 32 + "\n",
        "-" + "0" * 32,
        "x" * 101 + "-" + "0" * 32,
        "../" + "0" * 32,
        "process-0123456789abcdef",
        "cancel-process-0123456789abcdef",
        "\ud800" * 32,
        "x" * 1_000_000,
    ],
)
async def test_what_is_no_id_is_not_looked_up(
    task_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No such id is ever given, so the store is not asked, and nobody waits."""
    monkeypatch.setattr(everywhere, "ARRIVES_WITHIN", 3600)
    store = Store()
    async with open_runner(records=store) as runner:
        assert await runner.status(task_id) is None
        assert await runner.cancel(task_id) is False
        assert [one async for one in runner.follow(task_id)] == []
    assert store.gets == []


@pytest.mark.usefixtures("hurry")
async def test_an_unknown_id_is_waited_for_once() -> None:
    """Its process may just have given it to somebody."""
    store = Store()
    async with open_runner(records=store) as runner:
        for task_id in (UNKNOWN, f"engine-{UNKNOWN}"):
            assert await runner.status(task_id) is None
            assert await runner.cancel(task_id) is False
            assert store.gets == [task_id] * 4
            store.gets.clear()


async def test_a_record_that_is_on_its_way() -> None:
    """Who asks before it has arrived gets it all the same, and can cancel the task."""
    store = Store()
    async with two_processes(store) as (here, there):
        for ask in (there.status, there.cancel):
            task = here.schedule(until_cancelled)
            assert task.id
            assert store.read(task.id) is None
            answer = await ask(task.id)
            assert answer is True or isinstance(answer, TaskStatus)
            task.cancel()


# Cancelling.


def letters(store: Store) -> list[list[str]]:
    """Return what was to be in mailboxes, each time."""
    return [value["ids"] for key, value, _ in store.puts if key.startswith("cancel-")]


@pytest.mark.usefixtures("hurry")
async def test_cancelled_from_another_process() -> None:
    """A task that runs, one that waits for its phase; each answer comes from its process."""
    store = Store()
    async with two_processes(store) as (here, there):
        running = here.schedule(until_cancelled)
        await running.started.wait()
        shielded = here.task(shield=True).schedule(until_cancelled)
        waiting = TasksScheduler(here).after_response.schedule(succeed)
        for task in (shielded, running, waiting):
            assert task.id
            await store.until_read(task.id)
            assert await there.cancel(task.id) is True
            await over(task)
            assert task.state is TaskState.CANCELLED
            await store.until_state(task.id, "cancelled")
            assert await there.cancel(task.id) is False  # that of one that has ended (2.6)
        assert waiting.attempt == 0


@pytest.mark.usefixtures("hurry")
async def test_a_sync_function_is_told() -> None:
    """As `Task.cancel`: no promise, but one that asks for it ends."""
    store = Store()
    begun = threading.Event()

    def work() -> None:
        begun.set()
        from_thread.run(anyio.sleep_forever)

    async with two_processes(store) as (here, there):
        task = here.schedule(work)
        await to_thread.run_sync(begun.wait, GUARD)
        await store.until_state(task.id, "running")
        assert await there.cancel(task.id) is False
        await over(task)
        assert task.state is TaskState.CANCELLED
        await store.until_state(task.id, "cancelled")
        assert await there.cancel(task.id) is False


@pytest.mark.usefixtures("hurry")
async def test_a_task_that_is_over_cannot_be_cancelled() -> None:
    """Nor is its process asked."""
    store = Store()
    async with two_processes(store) as (here, there):
        task = here.schedule(succeed)
        assert task.id
        await store.until_state(task.id, "succeeded")
        assert await there.cancel(task.id) is False
        assert await here.cancel(task.id) is False
    assert not any(letters(store))


@pytest.mark.usefixtures("hurry")
async def test_one_that_ends_meanwhile() -> None:
    """The letter comes too late: the answer is no, and nothing of it stays."""
    store = Store()
    async with two_processes(store) as (here, there):
        go_on = anyio.Event()

        async def work() -> None:
            with anyio.CancelScope(shield=True):
                await go_on.wait()

        task = here.schedule(work)
        await store.until_state(task.id, "running")

        def end(key: str) -> None:
            if key.startswith("cancel-"):
                go_on.set()

        store.before = end
        answer = await there.cancel(task.id)
        assert answer is (task.state is TaskState.CANCELLED)
        await store.until(lambda: not records_of(here)._written)
        assert not records_of(here)._cancelled


@pytest.mark.usefixtures("hurry")
async def test_two_are_cancelled_at_a_time() -> None:
    """Who writes the other's letter over writes it again."""
    store = Store()
    async with two_processes(store) as (here, there):
        tasks = [here.schedule(until_cancelled) for _ in range(5)]
        answers: list[bool] = []
        for task in tasks:
            await store.until_state(task.id, "running")

        async def cancel(task_id: str) -> None:
            answers.append(await there.cancel(task_id))

        async with anyio.create_task_group() as group:
            for task in tasks:
                group.start_soon(cancel, task.id)
        assert answers == [True] * 5
        await over(*tasks)
        assert {task.state for task in tasks} == {TaskState.CANCELLED}


@on_clock
@pytest.mark.usefixtures("hurry")
async def test_a_process_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while the answer is no."""
    monkeypatch.setattr(module, "ANSWER_WITHIN", LONG)
    store, answers = Store(), list[bool]()
    async with two_processes(store) as (here, there):
        task = here.schedule(until_cancelled)
        await store.until_state(task.id, "running")
        assert here._writing is not None
        here._writing.stop()  # it lives, and does not look
        await here._writing.until_over()

        async def cancel() -> None:
            answers.append(await there.cancel(task.id))

        async with anyio.create_task_group() as group:
            group.start_soon(cancel)
            await store.until(lambda: [task.id] in letters(store))
            assert not answers
            forward()
        assert answers == [False]
        assert letters(store) == [[], [task.id]]
        task.cancel()


@pytest.mark.usefixtures("hurry")
async def test_a_letter_that_is_nobodys() -> None:
    """A process that no longer knows the task goes on."""
    store = Store()
    async with open_runner(records=store) as runner:
        task = runner.schedule(until_cancelled)
        await store.until_state(task.id, "running")
        (process,) = store.processes()
        store.kept[f"cancel-{process}"] = json.dumps({"ids": [UNKNOWN, "junk"]})
        await store.until(lambda: store.read(f"cancel-{process}") == {"ids": []})
        assert task.state is TaskState.RUNNING
        task.cancel()


# Stores that are slow, hang, fail, and come back.


@pytest.mark.usefixtures("hurry")
async def test_a_store_that_hangs_holds_up_nobody(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks run, the shutdown waits no longer than its bound, and one record says why."""
    monkeypatch.setattr(asked, "GUARD", 0.05)
    store = Store()
    store.hangs = True
    async with open_runner(records=store) as runner:
        for _ in range(20):
            task = runner.schedule(succeed)
            assert task.id
            assert await task.wait() == "the result"
    (warning,) = logged(caplog)
    assert "cannot be kept, for now: TimeoutError: the store of records did not answer" in warning


@pytest.mark.usefixtures("hurry")
async def test_a_write_that_hangs_is_given_up(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within its bound, and made again."""
    monkeypatch.setattr(asked, "GUARD", 0.01)
    store = Store()
    store.hangs = True
    async with open_runner(records=store) as runner:
        task = runner.schedule(until_cancelled)
        assert task.id
        await store.until(lambda: len(store.puts) > 1)
        (warning,) = logged(caplog)
        assert warning.endswith("TimeoutError: the store of records did not answer within 0.01 s")
        store.hangs = False
        await store.until_read(task.id)


async def test_a_store_that_hangs_only_at_the_shutdown(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is lost then is said, too."""
    store = Store()
    async with open_runner(records=store) as runner:
        task = runner.schedule(until_cancelled)
        assert task.id
        await store.until_read(task.id)
        monkeypatch.setattr(asked, "GUARD", 0.05)
        store.hangs = True
        task.cancel()
        await over(task)
    assert task.state is TaskState.CANCELLED
    (warning,) = logged(caplog)
    assert "TimeoutError: the store of records did not answer within 0.05 s" in warning


async def test_a_store_that_fails_once_at_the_shutdown() -> None:
    """7.6 The last words are tried again as long as there is time."""
    store = Store()

    def come_back(_: str) -> None:
        if len(store.puts) >= before + 12:
            store.error = None

    async with open_runner(records=store) as runner:
        tasks = [runner.schedule(until_cancelled) for _ in range(30)]
        await store.until_read(*(task.id for task in tasks))
        before, store.before = len(store.puts), come_back
        store.error = SomeError("closed")
        await runner.drain()
    assert {store.state(task.id) for task in tasks} == {"cancelled"}


async def test_a_shutdown_during_a_write() -> None:
    """What was being written then is written once more, so that nothing is lost."""
    store = Store()
    async with open_runner(records=store) as runner:
        tasks = [runner.schedule(succeed) for _ in range(30)]
        ids = [task.id for task in tasks]
        store.hangs = True
        await store.until(lambda: store.puts)
        store.hangs = False
        await over(*tasks)
    assert {store.state(task_id) for task_id in ids} == {"succeeded"}


async def test_a_shutdown_that_is_cancelled_writes_the_last_word() -> None:
    """7.6 What has become of the tasks by that is there to be read."""
    store = Store()
    async with open_runner(records=store) as runner:
        task = runner.schedule(until_cancelled)
        await store.until_state(task.id, "running")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await runner.drain()
        assert store.state(task.id) == "cancelled"


@pytest.mark.usefixtures("hurry")
async def test_a_store_that_fails_and_comes_back(
    caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    """One record says so however long it fails, then the newest is written; the same again."""
    store = Store()
    async with open_runner(records=store) as runner:
        records = records_of(runner)
        for number in range(1, 3):
            store.error = SomeError("out of\nmemory")
            task = runner.schedule(until_cancelled)
            tried = len(store.puts)
            assert task.id
            await store.until_more(store.puts, tried + 10)
            task.report(7)
            assert store.read(task.id) is None
            assert (
                logged(caplog)
                == [r"Records of tasks cannot be kept, for now: SomeError: out of\nmemory"] * number
            )
            store.error = None
            await store.until_read(task.id)
            assert store.written(task.id)[-1]["progress"]["done"] == 7
            task.cancel()
            clock.now += 100  # beats are tried, too
            await store.until_state(task.id, "cancelled")
            await store.until(lambda: not records._changed)
            await anyio.wait_all_tasks_blocked()


@pytest.mark.usefixtures("hurry")
async def test_a_store_that_fails_while_there_is_nothing_to_write(
    caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    """7.6 Each outage is said, also where only the process's own sign of life meets it."""
    store = Store()
    async with open_runner(records=store) as runner:
        task = runner.schedule(until_cancelled)
        await task.started.wait()
        await store.until_state(task.id, "running")
        written = store.count(task.id)
        for number in range(1, 4):
            store.error = SomeError("down")
            clock.now += module.BEAT_EVERY
            await store.until_more(store.puts, len(store.puts) + 1)
            assert len(logged(caplog)) == number
            store.error = None
            clock.now += 1
            await until_it_works(runner)
        assert store.count(task.id) == written
        task.cancel()


@pytest.mark.usefixtures("hurry")
async def test_a_store_that_comes_back_when_nothing_is_followed_any_more(
    caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    """7.6 It is asked until it works, and then no more: so each outage is said."""
    store = Store()
    async with open_runner(records=store) as runner:
        first = runner.schedule(until_cancelled)
        await first.started.wait()
        await store.until_read(first.id)
        store.error = SomeError("down")
        clock.now += 1
        await store.until_more(store.gets)
        first.cancel()
        await over(first)
        store.error = None
        clock.now += 1
        await store.until_state(first.id, "cancelled")
        await until_it_works(runner)
        calls = len(store.gets) + len(store.puts)
        await anyio.wait_all_tasks_blocked()
        assert len(store.gets) + len(store.puts) == calls
        store.error = SomeError("down again")
        second = runner.schedule(until_cancelled)
        assert second.id
        await store.until_more(store.puts, len(store.puts) + 1)
        assert [line.rpartition(": ")[2] for line in logged(caplog)] == ["down", "down again"]
        store.error = None
        second.cancel()


@pytest.mark.usefixtures("hurry")
async def test_a_store_that_fails_to_read_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    """As above, where it is asked who wants to cancel what lives."""

    class Unreadable(Store):
        error_of_get: Exception | None = None

        async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
            found = await super().get(key, collection=collection)
            if self.error_of_get is not None:
                raise self.error_of_get.with_traceback(None)
            return found

    store = Unreadable()
    async with open_runner(records=store) as runner:
        task = runner.schedule(until_cancelled)
        assert task.id
        await store.until_read(task.id)
        for number in range(1, 3):
            store.error_of_get = SomeError("not now")
            await store.until_more(store.gets, len(store.gets) + 3)
            said = "Records of tasks cannot be kept, for now: SomeError: not now"
            assert logged(caplog) == [said] * number
            store.error_of_get = None
            await store.until_more(store.gets, len(store.gets) + 1)


@pytest.mark.usefixtures("hurry")
async def test_a_store_that_fails_is_tried_by_one_call_a_time(clock: Clock) -> None:
    """A thousand tasks are no thousand calls of a store that is not there."""
    store = Store()
    store.error = SomeError()
    async with open_runner(records=store) as runner:
        tasks = [runner.schedule(until_cancelled) for _ in range(100)]
        for task in tasks:
            assert task.id
        await store.until(lambda: len(store.puts) > 5)
        assert {key for key, _, _ in store.puts} == {store.puts[0][0]}
        store.error = None
        await store.until_read(*(task.id for task in tasks))
        store.error = SomeError()
        store.puts.clear()
        for task in tasks:
            task.report(1)
        clock.now += 1
        await store.until(lambda: store.puts)
        assert len(store.puts) <= module.AT_A_TIME
        store.error = None
        for task in tasks:
            task.cancel()


@pytest.mark.usefixtures("hurry")
async def test_a_record_that_the_store_refuses_holds_up_no_others() -> None:
    """7.6 However many there are: later ones are written, and so is each end of the others."""
    store = Store()
    store.too_large = "large"
    async with open_runner(records=store) as runner:
        large = [runner.task(name="large").schedule(until_cancelled) for _ in range(20)]
        await store.until_put(large[-1].id, 1)
        later = [runner.schedule(until_cancelled) for _ in range(20)]
        await store.until_read(*(task.id for task in later))
        assert not any(store.read(task.id) for task in large)
    assert {store.state(task.id) for task in later} == {"cancelled"}


async def test_a_record_that_is_refused_is_tried_ever_more_seldom_and_given_up(
    caplog: pytest.LogCaptureFixture, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """7.6 Once the task is over, and with its name; that store works for all others."""
    monkeypatch.setattr(module, "TRIES", 4)
    store = Store()
    store.too_large = "large"
    async with open_runner(records=store) as runner:
        records = records_of(runner)
        task = runner.task(name="large").schedule(until_cancelled)
        await store.until_put(task.id, 1)
        for _ in range(10):  # while it lives it is tried on
            clock.now += module.BEAT_EVERY
            await records._write(1.0)
        tried = store.count(task.id)
        assert tried > 10
        task.cancel()
        await over(task)
        for seconds, more in ((3.9, 0), (0.1, 1), (4.9, 1), (0.1, 2), (4.9, 2), (0.1, 3)):
            clock.now += seconds
            await records._write(1.0)
            assert store.count(task.id) == tried + more
        assert not records._changed
        assert not records._refused
        general, given_up = logged(caplog)
        assert general == "Records of tasks cannot be kept, for now: ValueError: too large"
        assert given_up.startswith("The record of task large (id=")
        assert given_up.endswith("the store takes only others: ValueError: too large")


@pytest.mark.usefixtures("hurry")
async def test_a_record_that_is_refused_hides_no_outage(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """7.6 One WARNING says each; what is refused now and then is written when it is taken."""
    store = Store()
    store.too_large = "large"
    async with open_runner(records=store) as runner:
        task = runner.task(name="large").schedule(until_cancelled)
        await store.until_put(task.id, 1)
        await until_it_works(runner)
        store.error = SomeError("down")
        other = runner.schedule(until_cancelled)
        assert other.id
        await store.until_more(store.puts, len(store.puts) + 3)
        assert [line.rpartition(": ")[2] for line in logged(caplog)] == ["too large", "down"]
        store.error = None
        await store.until_read(other.id)
        other.cancel()
        await until_it_works(runner)
        task.cancel()


async def test_what_no_store_may_take_is_in_no_record() -> None:
    """7.6 PostgreSQL takes no NUL, and texts are bounded."""

    async def work() -> None:
        current_task().report(1, message="\0" + "long" * 1000)
        msg = "bad magic b'PK\0'"
        raise ValueError(msg)

    store = Store()
    async with open_runner(records=store) as runner:
        task = runner.task(name="read\0").schedule(work)
        assert task.id
        await over(task)
    (*_, record) = store.written(task.id)
    assert record["error"] == r"bad magic b'PK\x00'"
    assert record["name"] == r"read\x00"
    assert len(record["progress"]["message"]) == 2000


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.usefixtures("hurry")
async def test_a_stray_cancellation_of_the_store_is_a_failure_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """7.6 Nobody has cancelled the writing: it goes on, as for any error of a store."""
    store = Store()
    async with open_runner(records=store) as runner:
        for task in [runner.schedule(until_cancelled) for _ in range(2)]:
            store.error = asyncio.CancelledError("stray")
            assert task.id
            await store.until_more(store.puts, len(store.puts) + 2)
            store.error = None
            await store.until_state(task.id, "running")
            await until_it_works(runner)
            store.error = asyncio.CancelledError("stray")
            await store.until_more(store.gets, len(store.gets) + 2)
            store.error = None
            await until_it_works(runner)
            task.cancel()
            await store.until_state(task.id, "cancelled")
    said = "Records of tasks cannot be kept, for now: CancelledError: stray"
    assert set(logged(caplog)) == {said}


@pytest.mark.usefixtures("hurry")
async def test_a_store_that_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    """Who asks is told, as is the log: once."""
    store = Store()
    async with two_processes(store) as (here, there):
        task = here.schedule(until_cancelled)
        await store.until_state(task.id, "running")
        store.error = SomeError("cannot read")
        with pytest.raises(SomeError, match="cannot read"):
            await there.status(task.id)
        with pytest.raises(SomeError, match="cannot read"):
            await there.cancel(task.id)
        with pytest.raises(SomeError, match="cannot read"):
            [one async for one in there.follow(task.id)]
        await store.until_more(store.gets, len(store.gets) + 5)
        assert len(logged(caplog)) == 1
        store.error = None
        await store.until_more(store.gets, len(store.gets) + 5)
        assert await there.cancel(task.id) is True
    assert len(logged(caplog)) == 1


async def test_a_store_that_hangs_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks waits no longer than its bound."""
    monkeypatch.setattr(asked, "GUARD", 0.01)
    monkeypatch.setattr(module, "ANSWER_WITHIN", 0.005)
    store = Store()
    async with open_runner(records=store) as runner:
        store.hangs = True
        with pytest.raises(TimeoutError, match=r"^the store of records did not answer within 0.01"):
            await runner.status(UNKNOWN)
        assert await runner.cancel(UNKNOWN) is False


async def test_an_error_of_a_store_comes_out_as_it_is() -> None:
    """Whatever it refuses to have set; its own `TimeoutError` is no word on our bound."""
    store = Store()
    async with open_runner(records=store) as runner:
        for error in (Frozen(), TimeoutError("its own")):
            store.error = error
            with pytest.raises(type(error)) as raised:
                await runner.status(UNKNOWN)
            assert raised.value is error


@pytest.mark.usefixtures("hurry")
async def test_many_ask_at_once() -> None:
    """A client has so many connections: few calls are made at a time, and all have answers."""
    store = Store()
    found = list[TaskStatus | None]()

    async def ask(runner: TaskRunner, task_id: str) -> None:
        found.append(await runner.status(task_id))

    async with two_processes(store) as (here, there):
        task = here.schedule(until_cancelled)
        await task.started.wait()
        await store.until_read(task.id)
        before = len(store.gets)
        store.hangs = True
        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(ask, there, task.id)
            await anyio.wait_all_tasks_blocked()
            assert len(store.gets) - before <= 41  # and what a process looks for by itself
            group.cancel_scope.cancel()
        store.hangs = False
        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(ask, there, task.id)
        assert [one and one.state for one in found] == [TaskState.RUNNING] * 100


@pytest.mark.usefixtures("hurry")
async def test_a_store_that_comes_back_empty(clock: Clock) -> None:
    """7.6 All that lives is written again, though no call has failed and it has nothing to say."""
    store = Store()
    async with two_processes(store) as (here, there):
        tasks = [here.schedule(until_cancelled) for _ in range(3)]
        for task in tasks:
            await task.started.wait()
        ids = [task.id for task in tasks]
        for _ in range(2):
            await store.until_read(*ids)
            before = set(store.kept)
            store.kept.clear()
            clock.now += module.BEAT_EVERY  # its sign of life does not hide that it is empty
            await store.until_read(*ids)
            assert set(store.kept) == before
        for task in tasks:
            status = await there.status(task.id)
            assert status is not None
            assert status.state is TaskState.RUNNING
            task.cancel()


class Forgetful(Store):
    """Does not know some keys, the first times that it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.forgets: dict[str, int] = {}

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        found = await super().get(key, collection=collection)
        left = self.forgets.get(key, 0)
        self.forgets[key] = left - 1
        return None if left > 0 else found


@pytest.mark.usefixtures("hurry")
async def test_a_process_has_time_to_see_that_the_store_has_come_back_empty() -> None:
    """7.6 Who finds a task's record before its process's sign of life does not take it for dead."""
    store = Forgetful()
    async with two_processes(store) as (here, there):
        task = here.schedule(until_cancelled)
        await store.until_state(task.id, "running")
        (process,) = store.processes()
        store.forgets[process] = 1
        status = await there.status(task.id)
        assert status is not None
        assert status.state is TaskState.RUNNING
        store.forgets[process] = 1
        assert await there.cancel(task.id) is True


@pytest.mark.usefixtures("hurry")
async def test_who_follows_what_the_store_has_forgotten_for_a_moment() -> None:
    """7.6 The stream goes on, until the task is over."""
    store = Forgetful()
    async with two_processes(store) as (here, there):
        task = here.schedule(until_cancelled)
        await store.until_state(task.id, "running")
        seen: list[TaskState] = []
        async for status in there.follow(task.id):
            seen.append(status.state)
            if len(seen) == 1:
                store.forgets[task.id] = 10
                task.cancel()
        assert seen == [TaskState.RUNNING, TaskState.CANCELLED]


@on_clock
@pytest.mark.parametrize("drains", [False, True])
@pytest.mark.usefixtures("hurry")
async def test_who_follows_what_the_store_has_forgotten_for_good(drains: bool) -> None:  # noqa: FBT001
    """7.6 The stream ends after 5 s, or as a shutdown begins."""
    store = Forgetful()
    async with two_processes(store) as (here, there):
        task = here.schedule(until_cancelled)
        await store.until_state(task.id, "running")
        following = there.follow(task.id)
        assert (await anext(following)).state is TaskState.RUNNING
        store.forgets[task.id] = 1_000_000
        store.gets.clear()

        async def end() -> None:
            await store.until(lambda: store.gets.count(task.id) > 10)
            if drains:
                await there.drain()
            else:
                forward(everywhere.FILLED_WITHIN)

        async with anyio.create_task_group() as group:
            group.start_soon(end)
            assert [status async for status in following] == []
        assert store.gets.count(task.id) > 10


async def test_a_store_that_never_comes_back_fills_no_memory(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of too many are given up, which is said once."""
    monkeypatch.setattr(module, "UNWRITTEN", 10)
    monkeypatch.setattr(asked, "GUARD", 0.05)
    store = Store()
    store.error = SomeError()

    class Result:
        pass

    results: list[weakref.ref[Result]] = []

    async def work() -> Result:
        result = Result()
        results.append(weakref.ref(result))
        return result

    async with open_runner(records=store, history=0) as runner:
        for _ in range(50):
            await over(followed(runner, work))
        assert len(records_of(runner)._changed) <= 10
        await records_of(runner).flush()
        assert len(records_of(runner)._changed) <= 10
        gc.collect()
        assert sum(result() is not None for result in results) <= 11
    assert len(logged(caplog)) == 1


@pytest.mark.usefixtures("hurry")
async def test_what_was_given_up_is_made_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that others believe to run is written once more, when there is room again."""
    monkeypatch.setattr(module, "UNWRITTEN", 10)
    store = Store()
    async with open_runner(records=store) as runner:
        first = runner.schedule(until_cancelled)
        await store.until_state(first.id, "running")
        store.error = SomeError()
        first.cancel()
        await over(first)
        later = [runner.schedule(until_cancelled) for _ in range(20)]
        for task in later:
            assert task.id
        assert first not in records_of(runner)._changed
        store.error = None
        await store.until_state(first.id, "cancelled")
        for task in later:
            task.cancel()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.usefixtures("hurry")
async def test_who_cancels_everything_stops_the_writing(caplog: pytest.LogCaptureFixture) -> None:
    """Then one ERROR says so; the last word is written all the same."""
    store = Store()
    async with open_runner(records=store) as runner:
        task = runner.schedule(until_cancelled)
        await store.until_state(task.id, "running")
        for running in asyncio.all_tasks():
            if running is not asyncio.current_task() and "records" in running.get_name():
                running.cancel()
        await anyio.wait_all_tasks_blocked()
        assert logged(caplog, "ERROR") == [
            "Records of tasks are written no more, which was stopped by CancelledError"
        ]
        task.cancel()
        await over(task)
    assert store.state(task.id) == "cancelled"
    assert len(logged(caplog)) == 1


@pytest.mark.usefixtures("hurry")
async def test_a_thread_that_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shutdown that does not get its end leaves the record as it is: lost, in the end."""
    monkeypatch.setattr("tasks_core._runner.UNWIND_TIME", 0.01)
    store = Store()
    release = threading.Event()
    async with open_runner(records=store, shutdown_timeout=0) as there:
        with anyio.fail_after(GUARD):
            here = await TaskRunner(records=store, shutdown_timeout=0).__aenter__()
            task = here.schedule(release.wait, GUARD)
            assert task.id
            await task.started.wait()
            await here.drain()
            assert store.state(task.id) == "running"
            status = await there.status(task.id)
            assert status is not None
            assert status.state is TaskState.RUNNING
            store.kill()
            status = await there.status(task.id)
            assert status is not None
            assert status.error_type == "TaskLost"
            release.set()
            await here.__aexit__(None, None, None)


# Following.


async def statuses(runner: TaskRunner, task_id: str) -> list[TaskStatus]:
    return [status async for status in TasksScheduler(runner).follow(task_id)]


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.usefixtures("hurry")
async def test_following(remote: bool) -> None:  # noqa: FBT001
    """What is known now, what changes, and the last, here and from another process."""
    store = Store()
    steps = [anyio.Event() for _ in range(3)]

    async def work() -> str:
        for number, step in enumerate(steps):
            await step.wait()
            current_task().report(number)
        return "done"

    async with two_processes(store) as (here, there):
        scheduler = TasksScheduler(here)
        task = scheduler.after_response.schedule(work)
        assert task.id
        seen: list[tuple[TaskState, object]] = []
        async for status in (there if remote else here).follow(task.id):
            seen.append((status.state, status.progress and status.progress.done))
            if status.state is TaskState.PENDING:
                scheduler.reach(Phase.AFTER_RESPONSE)
            elif status.state is TaskState.RUNNING:
                steps[0 if status.progress is None else int(status.progress.done) + 1].set()
            if len(seen) == 4:
                steps[2].set()
    states = [TaskState.PENDING, *[TaskState.RUNNING] * 3, TaskState.SUCCEEDED]
    assert seen == list(zip(states, [None, None, 0, 1, 2], strict=True))


async def test_many_who_follow_a_task_ask_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """7.6 The store is asked once for all of a process; of its own tasks not at all."""
    monkeypatch.setattr(everywhere, "ASK_EVERY", GUARD)
    store, told = Store(), list[TaskStatus]()

    async def follow(runner: TaskRunner, task_id: str) -> None:
        told.append(await anext(runner.follow(task_id)))

    async with two_processes(store) as (here, there):
        task = here.schedule(until_cancelled)
        await store.until_state(task.id, "running")
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(follow, there, task.id)
                group.start_soon(follow, here, task.id)
        assert [status.state for status in told] == [TaskState.RUNNING] * 40
        assert store.gets.count(task.id) == 1
        task.cancel()
        await store.until_state(task.id, "cancelled")
        monkeypatch.setattr(everywhere, "ASK_EVERY", 0.0)
        await follow(there, task.id)
        assert told[-1].state is TaskState.CANCELLED
        gc.collect()
        assert not there._asked


async def test_who_asks_for_others_may_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """7.6 Another one asks then."""
    monkeypatch.setattr(everywhere, "ASK_EVERY", GUARD)
    store = Store()
    async with two_processes(store) as (here, there):
        task = here.schedule(until_cancelled)
        await store.until_state(task.id, "running")
        store.hangs = True

        async def follow_in(scope: anyio.CancelScope) -> None:
            with scope:
                await anext(there.follow(task.id))

        scope, other = anyio.CancelScope(), anyio.CancelScope()
        async with anyio.create_task_group() as group:
            group.start_soon(follow_in, scope)
            await store.until(lambda: task.id in store.gets)
            group.start_soon(follow_in, other)
            await anyio.wait_all_tasks_blocked()
            assert store.gets.count(task.id) == 1
            store.hangs = False
            scope.cancel()
        assert scope.cancelled_caught
        assert not other.cancelled_caught
        assert store.gets.count(task.id) == 2


class Held(Store):
    """Fails, once it is told to: the first who asks, and then the others."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = [anyio.Event(), anyio.Event()]

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        self.gets.append(key)
        self._announce()
        await self.gates[len(self.gets) > 1].wait()
        raise SomeError


async def test_who_has_waited_for_an_answer_that_fails_does_not_wait_in_a_row() -> None:
    """7.6 All who have waited for another one's answer ask at the same time then."""
    store, failed = Held(), list[str]()

    async def follow() -> None:
        with pytest.raises(SomeError):
            await anext(runner.follow(UNKNOWN))
        failed.append("failed")

    async with open_runner(records=store) as runner, anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(follow)
        await store.until_more(store.gets, 0)
        await anyio.wait_all_tasks_blocked()
        assert len(store.gets) == 1
        store.gates[0].set()
        await store.until_more(store.gets, 5)
        store.gates[1].set()
    assert failed == ["failed"] * 6


async def test_following_what_nobody_knows() -> None:
    """There is nothing to tell."""
    async with open_runner() as runner:
        assert await statuses(runner, UNKNOWN) == []


async def test_following_what_is_over() -> None:
    """There is one thing to tell."""
    async with open_runner() as runner:
        task = runner.schedule(succeed)
        assert task.id
        await over(task)
        (status,) = await statuses(runner, task.id)
        assert (status.state, status.result) == (TaskState.SUCCEEDED, "the result")


@pytest.mark.parametrize("drains", [False, True])
async def test_following_what_is_forgotten_when_it_ends(drains: bool) -> None:  # noqa: FBT001
    """7.6 The last status is given all the same; until then the task is held, and no longer."""
    go_on = anyio.Event()

    async def work() -> str:
        await go_on.wait()
        return "the result"

    async with open_runner(history=0) as runner:
        task = runner.schedule(work)
        following = runner.follow(task.id)
        await task.started.wait()
        assert (await anext(following)).state is TaskState.RUNNING
        go_on.set()
        await over(task)
        assert runner.get(task.id) is None
        held = weakref.ref(task)
        del task
        gc.collect()
        assert held() is not None
        if drains:
            await runner.drain()
        last = await anext(following)
        assert (last.state, last.result) == (TaskState.SUCCEEDED, "the result")
        gc.collect()
        assert held() is None
        assert [status async for status in following] == []


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.usefixtures("hurry")
async def test_a_shutdown_ends_it_as_it_begins(remote: bool) -> None:  # noqa: FBT001
    """So nobody who streams it holds up the shutdown for which it waits."""
    store = Store()
    told: list[TaskStatus] = []
    async with open_runner(records=store) as there:
        async with open_runner(records=store) as here:
            task = there.schedule(until_cancelled)
            task = task if remote else here.task(shield=True).schedule(until_cancelled)
            await store.until_state(task.id, "running")

            async def follow() -> None:
                told.extend([status async for status in here.follow(task.id)])

            async with anyio.create_task_group() as group:
                group.start_soon(follow)
                await anyio.wait_all_tasks_blocked()
                group.start_soon(here.drain)
                while not here._shutdown.drains:
                    await anyio.lowlevel.checkpoint()
                if not remote:
                    await anyio.wait_all_tasks_blocked()
                    task.cancel()
        task.cancel()
    assert [status.state for status in told] == [TaskState.RUNNING]


# Carried tasks.


class Engine(Carrier):
    """Takes functions of its own, and says of each id what it is told to say."""

    name = "engine"

    def __init__(self, *functions: object, confirms: bool = True) -> None:
        self._functions = functions
        self._confirms = confirms
        self.says: dict[str, TaskState] = {}
        self.otherwise: TaskState | None = TaskState.PENDING

    def carry(
        self, func: Callable[..., object], args: tuple[Any, ...], kwargs: Mapping[str, Any], /
    ) -> Callable[[str], Awaitable[None]] | None:
        return self._send if func in self._functions else None

    async def _send(self, task_id: str) -> None:
        if not self._confirms:
            raise SomeError("no broker")

    async def status(self, task_id: str, /) -> TaskStatus | None:
        state = self.says.get(task_id, self.otherwise)
        return None if state is None else TaskStatus(id=task_id, state=state, carrier=self.name)


@pytest.mark.usefixtures("hurry")
async def test_what_an_engine_has_is_the_engines_word() -> None:
    """8.9 The record says that it was handed over, the engine everything else, everywhere."""
    store, engine = Store(), Engine(succeed)
    async with two_processes(store, carriers=[engine]) as (here, there):
        task = here.schedule(succeed)
        await over(task)
        await store.until_state(task.id, "handed_over")
        for state in (TaskState.PENDING, TaskState.RUNNING, TaskState.SUCCEEDED):
            engine.says[task.id] = state
            for runner in (here, there):
                status = await runner.status(task.id)
                assert status is not None
                assert status.state is state
        assert [one.state for one in await statuses(there, task.id)] == [TaskState.SUCCEEDED]
        assert await there.cancel(task.id) is False  # it is the engine's to revoke
    assert store.written(task.id)[-1]["carrier"] == "engine"


@pytest.mark.usefixtures("hurry")
async def test_an_engine_that_does_not_know() -> None:
    """8.9 Where an engine keeps nothing, the records say how far it came."""
    store, engine = Store(), Engine(succeed)
    engine.otherwise = None
    async with two_processes(store, carriers=[engine]) as (here, there):
        task = here.schedule(succeed)
        await over(task)
        await store.until_state(task.id, "handed_over")
        assert await here.status(task.id) == await there.status(task.id)
        status = await there.status(task.id)
        assert status == TaskStatus(id=task.id, state=TaskState.HANDED_OVER, carrier="engine")
        assert await statuses(there, task.id) == [status]
        assert await there.status(f"engine-{UNKNOWN}") is None


@pytest.mark.usefixtures("hurry")
async def test_what_an_engine_has_not_confirmed() -> None:
    """8.7 A *pending* of an engine that knows no id is no answer: the record says *failed*."""
    store, engine = Store(), Engine(succeed, confirms=False)
    async with two_processes(store, carriers=[engine]) as (here, there):
        task = here.schedule(succeed)
        assert task.id
        await over(task)
        await store.until_state(task.id, "failed")
        for runner in (here, there):
            status = await runner.status(task.id)
            assert status is not None
            assert (status.state, status.error_type) == (TaskState.FAILED, "HandOverError")
            assert status.carrier == "engine"
        engine.says[task.id] = TaskState.RUNNING  # it has it all the same
        for runner in (here, there):
            status = await runner.status(task.id)
            assert status is not None
            assert status.state is TaskState.RUNNING


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("how", ["cancelled", "skipped"])
async def test_what_has_ended_before_its_hand_over(how: str) -> None:
    """8.9 An engine that knows no id says *pending*; the record says that it was never sent."""
    store, engine = Store(), Engine(succeed)
    async with two_processes(store, carriers=[engine]) as (here, there):
        tasks = TasksScheduler(here)
        task = tasks.after_response.schedule(succeed)
        assert task.id
        if how == "cancelled":
            task.cancel()
        tasks.reach(Phase.AFTER_RESPONSE, failed=True)
        await over(task)
        await store.until_state(task.id, how)
        for runner in (here, there):
            status = TaskStatus(id=task.id, state=TaskState(how), carrier="engine")
            assert await runner.status(task.id) == status
            assert await statuses(runner, task.id) == [status]


@pytest.mark.usefixtures("hurry")
async def test_a_process_that_has_died_before_it_could_say_so() -> None:
    """An engine may have what its process could not write: what that says counts."""
    store, engine = Store(), Engine(succeed)
    async with two_processes(store, carriers=[engine]) as (here, there):
        task = TasksScheduler(here).after_response.schedule(succeed)
        await store.until_state(task.id, "pending")
        store.kill()
        status = await there.status(task.id)
        assert status is not None
        assert status.state is TaskState.PENDING
        engine.otherwise = None
        status = await there.status(task.id)
        assert status is not None
        assert (status.error_type, status.carrier) == ("TaskLost", "engine")


@pytest.mark.usefixtures("hurry")
async def test_a_carried_task_that_waits_is_cancelled_from_another_process() -> None:
    """8.5 Until its hand-over begins it is a task like any other."""
    store, engine = Store(), Engine(succeed)
    async with two_processes(store, carriers=[engine]) as (here, there):
        task = TasksScheduler(here).after_response.schedule(succeed)
        assert task.id.startswith("engine-")
        assert await there.cancel(task.id) is True
        await over(task)
        assert task.state is TaskState.CANCELLED


# The setting.


class NoPut:
    async def get(self, key: str, *, collection: str | None = None) -> None: ...


class SyncStore(NoPut):
    def put(self, key: str, value: object, *, collection: str | None, ttl: float) -> None: ...


@pytest.mark.parametrize("store", ["redis://localhost", {}, NoPut(), SyncStore()])
def test_what_is_no_store(store: Any) -> None:
    """It is refused when the application is set up, with what to pass instead."""
    with pytest.raises(TypeError, match=r"records is a store with async put and get.*RedisStore"):
        TaskRunner(records=store)


@pytest.mark.parametrize(
    ("ttl", "error"),
    [(0, ValueError), (-1, ValueError), (float("inf"), ValueError), ("60", TypeError)],
)
def test_how_long_records_are_kept(ttl: Any, error: type[Exception]) -> None:
    """A number of seconds, above 0."""
    with pytest.raises(error, match="records_ttl is"):
        TaskRunner(records=Store(), records_ttl=ttl)


def test_no_store() -> None:
    """None is the default, and what a setting that is not there may be."""
    assert TaskRunner(records=None)._records is None


# Stores of others.


@pytest.fixture
def memory() -> RecordStore:
    """One of py-key-value-aio, which was written for asyncio."""
    stores = pytest.importorskip("key_value.aio.stores.memory")
    store: RecordStore = stores.MemoryStore()
    return store


@pytest.mark.usefixtures("hurry")
async def test_the_memory_store_of_py_key_value(memory: RecordStore) -> None:
    """It is taken as it is, on both event loops."""
    go_on = anyio.Event()

    async def work() -> None:
        current_task().report(1, total=2)
        await go_on.wait()

    async with (
        open_runner(records=memory, records_ttl=60) as here,
        open_runner(records=memory) as there,
    ):
        task, other = here.schedule(work), here.schedule(until_cancelled)
        assert task.id
        assert other.id
        seen: list[TaskState] = []
        with anyio.fail_after(GUARD):
            while await there.status(task.id) is None:  # its first record may take longer
                pass
        async for status in there.follow(task.id):
            seen.append(status.state)
            if status.state is TaskState.RUNNING and status.progress is not None:
                assert status.progress == Progress(1, 2)
                go_on.set()
        assert seen[-1] is TaskState.SUCCEEDED
        assert await there.cancel(other.id) is True
        await over(other)
        ttl: Any = await partial(getattr(memory, "ttl"), task.id, collection="tasks_core")()  # noqa: B009
        assert 50 < ttl[1] <= 60


def test_an_id_that_is_asked_for_when_the_loop_has_ended() -> None:
    """There is nobody to write any more, and who asks gets it all the same."""
    loop = asyncio.new_event_loop()
    store = Store()
    runner = loop.run_until_complete(TaskRunner(records=store).__aenter__())

    async def schedule() -> Task:
        return TasksScheduler(runner).after_response.schedule(do_nothing)

    task = loop.run_until_complete(schedule())
    for running in asyncio.all_tasks(loop):
        running.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert len(task.id) == 32
    assert store.puts == []
