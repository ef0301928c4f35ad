"""Contract 7.1: what lives is found, what has ended is remembered, and what a record says."""

from __future__ import annotations

import gc
import json
import logging
import random
import re
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import FrozenInstanceError, asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from secrets import token_hex
from typing import Any, NoReturn

import anyio
import pytest
from anyio import to_thread
from tasks_core import (
    Phase,
    Progress,
    Task,
    TaskCancelled,
    TaskFailed,
    TaskRecord,
    TaskRunner,
    TaskSkipped,
    TasksScheduler,
    TaskState,
    current_task,
)

from tests.tasks_core.stage import (
    GUARD,
    SomeError,
    fail,
    fail_async,
    interrupting,
    open_runner,
    over,
    records,
    still_task,
    until_cancelled,
)

pytestmark = pytest.mark.anyio


async def succeed() -> str:
    return "done"


async def test_what_lives_is_found_by_its_id() -> None:
    """By the runner and by any request's scheduler: while it waits, and while it runs (7.1)."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        waiting, running = (
            tasks.after_route.schedule(succeed),
            tasks.schedule(until_cancelled),
        )
        await running.started.wait()

        for task in (waiting, running):
            assert runner.get(task.id) is task
            assert TasksScheduler(runner).get(task.id) is task
        assert tasks.registry is runner.registry
        running.cancel()


async def test_an_id_that_nobody_has_is_not_found() -> None:
    """Neither a made-up one nor one of another runner (7.1)."""
    async with open_runner() as runner, TaskRunner() as other:
        task = TasksScheduler(other).schedule(succeed)
        await task.wait()

        assert other.get(task.id) is not None
        for unknown in (task.id, "", "0" * 32):
            assert runner.get(unknown) is None


@pytest.mark.parametrize("ask", ["get", "status", "cancel", "follow"])
async def test_what_is_no_id_is_refused(ask: str) -> None:
    """The task itself is nobody's id, and is not taken for one that nobody knows (7.1)."""
    async with open_runner() as runner:
        task = runner.schedule(succeed)
        cases: list[Any] = [task, None, 5, b"0" * 32, []]
        for wrong in cases:
            asking = partial(getattr(runner, ask), wrong)
            with pytest.raises(TypeError, match=rf"string, not {type(wrong).__name__}: pass task"):
                await (anext(asking()) if ask == "follow" else asking())
        await task.wait()


async def test_ids_are_made_when_somebody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task of which nobody asks the id has none, and is not remembered (7.1)."""
    made: list[str] = []

    def make(number: int) -> str:
        made.append(token_hex(number))
        return made[-1]

    monkeypatch.setattr("tasks_core._carrier.token_hex", make)
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        assert await tasks.schedule(succeed).wait() == "done"
        tasks.after_route.schedule(succeed).cancel()
        assert (made, runner.registry.ended()) == ([], [])

        task = tasks.schedule(succeed)
        await task.wait()
        assert [task.id, task.id, task.record().id] == [made[0]] * 3
        assert len(made) == 1


def test_ids_cannot_be_guessed_from_the_random_module() -> None:
    """They are the system's randomness, not that which a program seeds (7.1)."""
    ids: set[str] = set()
    for _ in range(2):
        random.seed(1)
        ids.add(still_task(succeed).id)

    assert len(ids) == 2


async def ended(tasks: TasksScheduler, outcome: TaskState) -> Task:
    """Return a task that has ended so, and has an id."""
    batch = tasks.after_route.task(name=f"it {outcome}")
    task = batch.schedule(fail_async if outcome is TaskState.FAILED else succeed)
    task.report(2, total=3, message="on the way")
    assert task.id
    if outcome is TaskState.CANCELLED:
        task.cancel()
    tasks.reach(Phase.AFTER_ROUTE, failed=outcome is TaskState.SKIPPED)
    await over(task)
    assert task.state is outcome
    return task


OUTCOMES = [TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED, TaskState.SKIPPED]
each_outcome = pytest.mark.parametrize("outcome", OUTCOMES)


@each_outcome
async def test_what_has_ended_is_remembered_with_its_record(outcome: TaskState) -> None:
    """It is another handle, of which all is the same that may be told (7.1)."""
    async with open_runner() as runner:
        task = await ended(TasksScheduler(runner), outcome)
        found = runner.get(task.id)

        assert found is not None
        assert found is not task
        assert found is runner.get(task.id)
        assert found.record() == task.record()
        assert repr(found) == repr(task)
        assert (found.phase, found.result) == (task.phase, task.result)
        assert found.progress == Progress(2, 3, "on the way")
        assert not found.cancel()


async def test_a_remembered_handle_is_waited_for_as_the_task() -> None:
    """It gives the result, or says how the task has ended (7.1)."""
    async with open_runner() as runner:
        found: dict[TaskState, Task] = {}
        for outcome in OUTCOMES:
            task = runner.get((await ended(TasksScheduler(runner), outcome)).id)
            assert task is not None
            found[outcome] = task

        assert await found[TaskState.SUCCEEDED].wait() == "done"
        with pytest.raises(TaskCancelled, match="task it cancelled was cancelled"):
            await found[TaskState.CANCELLED].wait()
        with pytest.raises(TaskSkipped, match="task it skipped was skipped: its request failed"):
            await found[TaskState.SKIPPED].wait()
        with pytest.raises(TaskFailed, match=r"^SomeError: it failed$") as raised:
            await found[TaskState.FAILED].wait()
        assert (raised.value.kind, raised.value.text) == ("SomeError", "it failed")
        assert found[TaskState.SUCCEEDED].started.is_set()
        assert found[TaskState.SKIPPED].attempt == 0


async def test_calling_a_remembered_handle_is_refused() -> None:
    """Its function and arguments are gone, and it says so; the task's own handle has them (7.1)."""
    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(sum, [1, 2])
        found_while_it_lived = runner.get(task.id)
        await task.wait()
        found = runner.get(task.id)

        assert found is not None
        assert (found.args, found.kwargs) == ((), {})
        with pytest.raises(RuntimeError, match=r"Task sum had ended when it was looked up"):
            await found()
        assert found.state is TaskState.SUCCEEDED
        assert found_while_it_lived is task
        assert await task() == 3


class Thing:
    """What can be referred to weakly."""


class HoldingError(Exception):
    def __init__(self, held: Thing) -> None:
        super().__init__("it failed")
        self.held = held


variable: ContextVar[object] = ContextVar("variable")


async def test_what_is_remembered_keeps_nothing_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the arguments, the function, the context, the handler, nor the error's frames (7.1)."""
    # Pytest keeps what is logged, and so the error.
    monkeypatch.setattr(logging.getLogger("tasks_core"), "disabled", True)

    def schedule(tasks: TasksScheduler) -> tuple[Task, dict[str, weakref.ref[Any]]]:
        things = {name: Thing() for name in ("argument", "closure", "context", "handler")}
        closure, handler = things["closure"], things["handler"]

        def work(given: Thing) -> None:
            inside = [given, closure, Thing()][-1]
            raise HoldingError(inside)

        def handle(task: Task, error: Exception) -> None:
            assert handler is not None

        variable.set(things["context"])
        task = tasks.after_route.task(on_error=handle).schedule(work, things["argument"])
        watched: dict[str, weakref.ref[Any]] = {
            name: weakref.ref(thing) for name, thing in things.items()
        }
        watched["function"] = weakref.ref(work)
        variable.set(None)
        tasks.reach(Phase.AFTER_ROUTE)
        return task, watched

    async with open_runner() as runner:
        task, watched = schedule(TasksScheduler(runner))
        await over(task)
        assert isinstance(task.exception, HoldingError)
        watched["error"] = weakref.ref(task.exception)
        watched["error's local"] = weakref.ref(task.exception.held)
        watched["handle"] = weakref.ref(task)
        task_id = task.id
        del task
        # Its thread may still have in its hands what it did last, until it does something else.
        await to_thread.run_sync(int)
        gc.collect()

        assert [name for name, thing in watched.items() if thing() is not None] == []
        found = runner.get(task_id)
        assert found is not None
        assert found.record().error == "it failed"


async def test_who_waits_for_a_remembered_failure_is_not_kept() -> None:
    """Each gets an error of its own, so none of their frames stays with the registry (7.1, 7.4)."""
    raised: list[bool] = []

    async def wait(found: Task) -> weakref.ref[Thing]:
        inside = Thing()
        try:
            await found.wait()
        except TaskFailed as error:
            raised.append(error is not found.exception)
        return weakref.ref(inside)

    async with open_runner() as runner:
        found = runner.get((await ended(TasksScheduler(runner), TaskState.FAILED)).id)
        assert found is not None
        inside = await wait(found)
        gc.collect()

        assert raised == [True]
        assert inside() is None
        assert isinstance(found.exception, TaskFailed)
        assert found.exception.__traceback__ is None


async def test_a_task_may_fail_with_another_ones_failure() -> None:
    """What it raised is a `TaskFailed`, and its record says that (7.1, 2.6)."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        first = await ended(tasks, TaskState.FAILED)
        found = runner.get(first.id)
        assert found is not None

        second = tasks.schedule(found.wait)
        with pytest.raises(TaskFailed) as raised:
            await second.wait()
        assert raised.value is second.exception
        assert runner.get(second.id) is not second
        for task in (second, runner.get(second.id)):
            assert task is not None
            record = task.record()
            assert (record.error_type, record.error) == ("TaskFailed", "SomeError: it failed")


async def test_the_last_ones_are_remembered() -> None:
    """As many as `history` says, the oldest goes first; 0 remembers none (7.1)."""
    for history in (0, 1, 2):
        async with open_runner(history=history) as runner:
            tasks = TasksScheduler(runner)
            made = [tasks.task(name=str(number)).schedule(succeed) for number in range(3)]
            ids = [task.id for task in made]
            assert all(runner.get(task_id) for task_id in ids)
            for task in made:
                assert await task.wait() == "done"

            kept = ["0", "1", "2"][3 - history :]
            assert [task.name for task in runner.registry.ended()] == kept
            assert [task.name for task in map(runner.get, ids) if task] == kept
            assert repr(runner.registry) == f"<TaskRegistry living=0 ended={history}>"


async def test_a_thousand_are_remembered_by_default() -> None:
    """The runner's memory is bounded where nothing is set (7.1)."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        made = [tasks.after_route.schedule(succeed) for _ in range(1001)]
        ids = [task.id for task in made]
        for task in made:
            task.cancel()

        assert [task.id for task in runner.registry.ended()] == ids[1:]


async def test_an_id_asked_for_late_is_remembered_from_then_on() -> None:
    """Who has kept the handle may still give its id to others (7.1)."""
    async with open_runner(history=2) as runner:
        tasks = TasksScheduler(runner)
        late, early = tasks.schedule(succeed), tasks.schedule(succeed)
        assert early.id
        await over(late, early)
        assert len(runner.registry.ended()) == 1

        found = runner.get(late.id)
        assert found is not None
        assert found.record() == late.record()
        assert [task.id for task in runner.registry.ended()] == [early.id, late.id]
        assert late.id
        assert len(runner.registry.ended()) == 2


async def test_what_only_the_log_names_is_not_remembered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log shows the id of a failure or a skipped task, and makes neither known (4.2, 7.1)."""
    caplog.set_level("INFO")
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        failed, skipped = tasks.schedule(fail), tasks.after_route.schedule(succeed)
        tasks.reach(Phase.AFTER_ROUTE, failed=True)
        await over(failed)

        shown = [getattr(record, "task_id", "") for record in records(caplog)]
        assert all(shown)
        assert (list(map(runner.get, shown)), runner.registry.ended()) == ([None, None], [])
        assert [skipped.id, failed.id] == shown  # somebody asks
        found = [runner.get(task_id) for task_id in shown]
        assert [task.state for task in found if task] == [TaskState.SKIPPED, TaskState.FAILED]


async def test_what_lives_can_be_filtered() -> None:
    """By name, phase and state, in the order of scheduling (7.1)."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        a = tasks.task(name="a").schedule(until_cancelled)
        b = tasks.after_route.task(name="b").schedule(until_cancelled)
        c = tasks.after_response.task(name="a").schedule(until_cancelled)
        await a.started.wait()
        registry = runner.registry

        assert registry.living() == list(registry) == [a, b, c]
        assert registry.living(name="a") == [a, c]
        assert registry.living(name="") == []
        assert registry.living(phase=Phase.IMMEDIATE) == [a]
        as_in_records: Any = "after_route", "pending"
        assert registry.living(phase=as_in_records[0], state=as_in_records[1]) == [b]
        assert registry.living(phase=Phase.AFTER_ROUTE) == [b]
        assert registry.living(state=TaskState.PENDING) == [b, c]
        assert registry.living(name="a", state=TaskState.PENDING) == [c]
        assert registry.living(name="b", phase=Phase.IMMEDIATE) == []
        assert registry.ended() == []
        assert len(registry) == 3
        assert registry.counts() == {TaskState.PENDING: 2, TaskState.RUNNING: 1}

        ids = [task.id for task in (a, b, c)]
        for task in (c, b, a):
            task.cancel()
            await over(task)
        assert [task.id for task in registry.ended()] == ids[::-1]
        assert [task.id for task in registry.ended(name="a")] == [ids[2], ids[0]]
        assert [task.id for task in registry.ended(phase=Phase.AFTER_ROUTE)] == [ids[1]]
        assert registry.ended(state=TaskState.FAILED) == []
        assert registry.living() == []
        assert (len(registry), registry.counts()) == (0, {})


@pytest.mark.parametrize("ask", ["living", "ended"])
@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"state": "runing"}, "ValueError: state must be one of pending, .*, not 'runing'"),
        ({"state": Phase.IMMEDIATE}, "ValueError: state must be .*, not <Phase.IMMEDIATE: 0>"),
        ({"phase": "after"}, "ValueError: phase must be one of immediate, .*, not 'after'"),
        ({"phase": 2}, "ValueError: phase must be one of .*, after_response, not 2"),
        ({"phase": Phase}, "ValueError: phase must be one of .*, not <enum 'Phase'>"),
        ({"name": succeed}, "TypeError: name must be a string, not function: pass .*"),
    ],
)
async def test_what_no_task_could_have_is_no_filter(ask: str, wanted: Any, says: str) -> None:
    """It is refused, whether there are tasks or not: it would find none, for ever (7.1)."""
    async with open_runner() as runner:
        with pytest.raises((TypeError, ValueError)) as raised:
            getattr(runner.registry, ask)(**wanted)
        assert re.fullmatch(says, f"{raised.typename}: {raised.value}")


async def test_a_task_lives_while_its_error_handler_is_at_work() -> None:
    """It has failed, and is not over (7.1)."""
    begun, go = anyio.Event(), anyio.Event()

    async def handle(task: Task, error: Exception) -> None:
        begun.set()
        await go.wait()

    async with open_runner() as runner:
        task = TasksScheduler(runner).task(on_error=handle).schedule(fail_async)
        await begun.wait()

        assert runner.registry.living(state=TaskState.FAILED) == [task]
        assert runner.registry.counts() == {TaskState.FAILED: 1}
        assert runner.get(task.id) is task
        record = task.record()
        assert (record.state, record.ended_at, record.error) == ("failed", None, "it failed")
        go.set()
        await over(task)
        assert task.record().ended_at is not None
        assert runner.get(task.id) is not task


async def test_what_lives_may_change_while_it_is_gone_through() -> None:
    """Iterating goes through what lived when it began (7.1)."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        made = [tasks.after_route.schedule(succeed) for _ in range(3)]
        seen: list[Task] = []
        for task in runner.registry:
            seen.append(task)
            task.cancel()
            tasks.after_response.schedule(succeed)

        assert seen == made
        assert len(runner.registry) == 3


async def test_the_registry_serves_any_thread() -> None:
    """A sync route asks for all of it (7.1)."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        made = [tasks.after_route.schedule(succeed) for _ in range(2)]
        assert made[0].id

        def ask() -> tuple[object, ...]:
            registry = runner.registry
            found = registry.get(made[0].id)
            return found, list(registry), len(registry), registry.counts(), registry.ended()

        made_of = await to_thread.run_sync(ask)
        assert made_of == (made[0], made, 2, {TaskState.PENDING: 2}, [])


async def test_a_record_tells_a_life() -> None:
    """Its times are in order, and begin at the calendar's (7.1)."""
    go = anyio.Event()
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        before = datetime.now(UTC)
        task = tasks.after_response.task(name="wait for it").schedule(go.wait)
        pending = task.record()
        tasks.reach(Phase.AFTER_RESPONSE)
        await task.started.wait()
        running = task.record()
        go.set()
        await task.wait()
        ended = task.record()
        after = datetime.now(UTC)

    # Less than two seconds off: what the calendar's clock is set by meanwhile may be left out.
    scheduled = datetime.fromisoformat(pending.scheduled_at)
    assert before - timedelta(seconds=2) <= scheduled <= after + timedelta(seconds=2)
    assert pending == TaskRecord(
        id=task.id,
        name="wait for it",
        function="Event.wait",
        phase="after_response",
        state=TaskState.PENDING,
        scheduled_at=pending.scheduled_at,
        started_at=None,
        ended_at=None,
        waited=pending.waited,
        ran=None,
        error_type=None,
        error=None,
        progress=None,
        attempt=0,
        carrier=None,
    )
    assert (running.state, running.ended_at) == (TaskState.RUNNING, None)
    assert running.started_at is not None
    assert ended.ended_at is not None
    assert running.ran is not None
    assert ended.ran is not None
    assert 0 <= pending.waited <= running.waited == ended.waited
    assert 0 <= running.ran <= ended.ran
    assert ended == task.record()  # the clock goes on, a record of what is over does not
    assert pending.scheduled_at <= running.started_at <= ended.ended_at
    with pytest.raises(FrozenInstanceError):
        ended.state = TaskState.FAILED  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


async def test_a_task_that_never_began_ran_for_no_time() -> None:
    """It waited until its end, and has no beginning (7.1)."""
    async with open_runner() as runner:
        task = await ended(TasksScheduler(runner), TaskState.SKIPPED)
        record = task.record()

        assert (record.started_at, record.ran) == (None, None)
        assert record.ended_at is not None
        assert record.waited == task.record().waited > 0


def as_json(record: TaskRecord) -> dict[str, Any]:
    """Write the record and read it, as strictly as a framework does."""
    text = json.dumps(asdict(record), ensure_ascii=False, allow_nan=False)
    read: dict[str, Any] = json.loads(text.encode())
    return read


@pytest.mark.parametrize(
    "name", ["", "%s {0} \n\0", '"</script>', "é" * 1000, "a\udcffb"], ids=ascii
)
async def test_any_name_can_be_written(name: str) -> None:
    """What cannot be encoded or stored is escaped: another encoding of file names, a NUL (7.1)."""
    async with open_runner() as runner:
        task = TasksScheduler(runner).task(name=name).schedule(succeed)
        task_id = task.id  # and no failure, as xdist could not pass on what is logged
        await over(task)
        found = runner.registry.ended(name=name)

        assert [(one.id, one.name) for one in found] == [(task_id, name)]
        assert as_json(task.record()) == as_json(found[0].record())
        assert task.record().name == name.replace("\udcff", "\\udcff").replace("\0", "\\x00")


class Nameless:
    def __call__(self) -> None: ...

    def __getattr__(self, name: str) -> NoReturn:
        raise SystemExit


class Misnamed:
    def __init__(self) -> None:
        vars(self)["__qualname__"] = 3

    def __call__(self) -> None: ...


@pytest.mark.parametrize("func", [Nameless(), Misnamed()], ids=["nameless", "misnamed"])
async def test_any_function_can_be_named(func: Callable[[], None]) -> None:
    """One that does not say its name has its type's (7.1)."""
    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(func)
        task_id = task.id
        await task.wait()
        found = runner.get(task_id)

        assert found is not None
        assert found.record() == task.record()
        assert as_json(found.record())["function"] == type(func).__name__


class Secretive(type):
    """A type that does not say its name."""

    def __getattribute__(cls, name: str) -> Any:
        if name in {"__name__", "__qualname__"}:
            raise SomeError
        return super().__getattribute__(name)


class SecretError(Exception, metaclass=Secretive):
    def __str__(self) -> str:
        raise SystemExit


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return self


class OddError(Exception):
    def __str__(self) -> str:
        # Where it is logged it is odd too, and xdist could not pass that on.
        return Text("a" if sys.exception() is self else "a\udcffb")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SecretError(), ("SecretError", "SecretError")),
        (OddError(), ("OddError", "a\\udcffb")),
        (
            SystemExit(1),
            ("TaskAborted", "the task was ended by SystemExit, which ends nothing else"),
        ),
    ],
    ids=["secret", "odd", "no exception"],
)
async def test_any_error_can_be_told(error: BaseException, said: tuple[str, str]) -> None:
    """Whatever an error does when it is asked for its name and text, the task ends (7.1, 4.1)."""

    async def raise_it() -> NoReturn:
        raise error

    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(raise_it)
        await over(task)
        found = runner.get(task.id)

        assert found is not None
        for record in (task.record(), found.record()):
            assert (record.error_type, record.error) == said
            assert type(record.error) is str
            as_json(record)
        assert len(runner.registry) == 0


def asks(runner: TaskRunner, answered: list[bool]) -> None:
    """Note whether the registry answers a thread now."""
    thread = threading.Thread(target=runner.get, args=("",), daemon=True)
    thread.start()
    thread.join(GUARD)
    answered.append(not thread.is_alive())


async def test_an_error_may_ask_the_registry_for_its_text() -> None:
    """The registry is not locked while code of users runs (7.1, 4.1)."""
    answered: list[bool] = []

    class Asking(Exception):  # noqa: N818 - what it does
        def __str__(self) -> str:
            asks(runner, answered)
            return "asked"

    async def raise_it() -> NoReturn:
        raise Asking

    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(raise_it)
        await over(task)
        assert task.record().error == "asked"

    assert answered
    assert all(answered)


async def test_a_result_may_ask_the_registry_as_it_goes() -> None:
    """The registry is not locked while it forgets what was the last to hold a result (7.1)."""
    answered: list[bool] = []

    class Going:
        def __del__(self) -> None:
            asks(runner, answered)

    async with open_runner(history=1) as runner:
        tasks = TasksScheduler(runner)
        for func in (Going, Thing):
            task = tasks.schedule(func)
            assert task.id
            await over(task)
            del task
        gc.collect()

        assert answered == [True]


def test_a_signal_handler_may_ask_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that comes in between, in the same thread, does not wait for itself (7.1)."""
    runner = TaskRunner()
    task = still_task(succeed, runner=runner)

    def make(number: int) -> str:
        assert runner.get("") is None
        return token_hex(number)

    monkeypatch.setattr("tasks_core._carrier.token_hex", make)
    thread = threading.Thread(target=lambda: task.id, daemon=True)
    thread.start()
    thread.join(GUARD)
    assert not thread.is_alive()
    assert runner.get(task.id) is task


@pytest.mark.parametrize("step", range(7))
async def test_the_id_may_be_asked_for_in_a_thread_while_the_task_ends(step: int) -> None:
    """Whichever of the two is first, the task is remembered, once, and known no longer (7.1)."""
    async with open_runner() as runner:
        go = anyio.Event()
        task = TasksScheduler(runner).schedule(go.wait)
        await task.started.wait()

        def end() -> None:
            from_loop.set()
            ended.wait(0.1)  # in vain where this has the lock, for which the end waits

        def ask() -> None:
            with interrupting(type(runner.registry)._know.__code__, step, end):
                ids.append(task.id)

        ids: list[str] = []
        from_loop, ended = threading.Event(), threading.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(to_thread.run_sync, ask)
            await to_thread.run_sync(from_loop.wait, 0.2)
            go.set()
            await task.wait()
            ended.set()

        found = runner.get(ids[0])
        assert ids == [task.id]
        assert found is not None
        assert found is not task
        assert found.record() == task.record()
        assert [one.id for one in runner.registry.ended()] == ids


async def test_ids_of_many_may_be_asked_for_in_threads_while_they_end() -> None:
    """None is lost, and none is known for ever (7.1)."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        made = [tasks.after_route.schedule(succeed) for _ in range(500)]

        def ask() -> list[str]:
            return [task.id for task in made]

        asked: list[list[str]] = []

        async def in_thread() -> None:
            asked.append(await to_thread.run_sync(ask))

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(in_thread)
            await anyio.lowlevel.checkpoint()
            tasks.reach(Phase.AFTER_ROUTE)
        await over(*made)

        assert asked[0] == asked[1] == asked[2]
        found = [runner.get(task_id) for task_id in asked[0]]
        assert [task.state for task in found if task] == [TaskState.SUCCEEDED] * 500
        assert not set(map(id, made)) & set(map(id, found))


def check(record: TaskRecord) -> None:
    """A record is one of a moment that there was."""
    final = record.state not in {TaskState.PENDING, TaskState.RUNNING}
    assert (record.error_type is not None) is (record.state is TaskState.FAILED), record
    assert (record.error is not None) is (record.state is TaskState.FAILED), record
    assert final or record.ended_at is None, record
    assert record.state is not TaskState.PENDING or record.started_at is None, record
    assert record.state is not TaskState.RUNNING or record.started_at is not None, record
    assert record.waited >= 0, record
    assert record.ran is None or record.ran >= 0, record


def live(task: Task, outcome: TaskState, steps: slice) -> None:
    """Take a task through these steps of its life: it begins, has an outcome, ends."""
    become = (
        partial(Task._succeed, task, "done")
        if outcome is TaskState.SUCCEEDED
        else partial(Task._fail, task, SomeError("it failed"))
    )
    todo: list[Callable[[], object]] = [task._begin, become, task._end]
    for step in todo[steps]:
        step()


def in_thread(act: Callable[[], None]) -> None:
    """Call a function in a thread, where nobody else traces and no task runs."""
    thread = threading.Thread(target=act)
    thread.start()
    thread.join(GUARD)


@pytest.mark.parametrize("outcome", [TaskState.SUCCEEDED, TaskState.FAILED])
@pytest.mark.parametrize("writes", [Task._begin, Task._succeed, Task._fail, Task._end])
def test_a_thread_never_sees_half_a_step(writes: Callable[..., None], outcome: TaskState) -> None:
    """A record that is taken while the task moves on is of before or of after (7.1)."""
    seen: list[TaskRecord] = []

    def run() -> None:
        for step in range(10):
            task = still_task(succeed)

            def look(task: Task = task) -> None:
                seen.append(task.record())
                if task.state is TaskState.SUCCEEDED:
                    results.append(task.result)

            with interrupting(writes.__code__, step, look) as met:
                live(task, outcome, slice(3))
            if not met:
                break

    results: list[object] = []
    in_thread(run)
    wrong = {Task._succeed: TaskState.FAILED, Task._fail: TaskState.SUCCEEDED}
    assert bool(seen) is (wrong.get(writes) is not outcome)
    for record in seen:
        check(record)
    assert set(results) <= {"done"}


@pytest.mark.parametrize("outcome", [TaskState.SUCCEEDED, TaskState.FAILED])
@pytest.mark.parametrize("lived", range(3))
def test_a_task_may_go_on_while_it_is_recorded(lived: int, outcome: TaskState) -> None:
    """Between any two of its own lines a record stays one of a moment that there was (7.1)."""
    seen: list[TaskRecord] = []

    def run() -> None:
        for step in range(30):
            task = still_task(succeed)
            live(task, outcome, slice(lived))
            go_on = partial(live, task, outcome, slice(lived, 3))
            with interrupting(Task.record.__code__, step, go_on) as met:
                seen.append(task.record())
            if not met:
                break

    in_thread(run)
    assert len(seen) > 10
    for record in seen:
        check(record)


async def test_the_running_task_may_record_itself() -> None:
    """A task finds itself in the registry (7.1)."""

    async def look() -> bool:
        task = current_task()
        return runner.get(task.id) is task and task.record().state is TaskState.RUNNING

    async with open_runner() as runner:
        assert await TasksScheduler(runner).schedule(look).wait()


async def test_a_closed_runner_remembers() -> None:
    """What the shutdown has cancelled can still be looked up (7.1)."""
    with anyio.fail_after(GUARD):
        async with TaskRunner() as runner:
            task = TasksScheduler(runner).schedule(until_cancelled)
            await task.started.wait()

    found = runner.get(task.id)
    assert found is not None
    assert found.state is TaskState.CANCELLED
    with suppress(TaskCancelled):
        await found.wait()
