"""What is kept of tasks, and what their names and errors may do: nothing (4.2, 7.1)."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import suppress
from math import inf
from typing import Any

import anyio
import pytest
from tasks_core import (
    Phase,
    Task,
    TaskAborted,
    TaskRunner,
    TasksError,
    TasksScheduler,
    TaskState,
)
from tasks_core._living import Living
from tasks_core._record import TEXT_LIMIT, calendar
from tasks_core.testing import drain

from tests.tasks_core.stage import (
    GUARD,
    Abrupt,
    SomeError,
    logged,
    open_runner,
    over,
    records,
    states,
)

pytestmark = pytest.mark.anyio


class Payload:
    """What a task has in its hands."""


async def succeed(payload: Payload) -> None:
    await anyio.lowlevel.checkpoint()


async def fail(payload: Payload) -> None:
    await anyio.lowlevel.checkpoint()
    raise SomeError


async def abort(payload: Payload) -> None:
    raise Abrupt


async def fail_in_group(payload: Payload) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(fail, payload)


def fail_in_thread(payload: Payload) -> None:
    raise SomeError


def returns_what_fails(payload: Payload) -> Any:
    return fail(payload)


async def run_forever(payload: Payload) -> None:
    await anyio.Event().wait()  # asyncio's loop holds timers for a while, also cancelled ones


FUNCTIONS: list[Callable[[Payload], Any]] = [
    succeed,
    fail,
    abort,
    fail_in_group,
    fail_in_thread,
    returns_what_fails,
    run_forever,
]


def handle(task: Task, error: Exception) -> None: ...


def handle_badly(task: Task, error: Exception) -> None:
    raise LookupError


async def handle_badly_too(task: Task, error: Exception) -> None:
    raise LookupError


def raise_again(task: Task, error: Exception) -> None:
    raise error


async def raise_again_too(task: Task, error: Exception) -> None:
    raise error


async def raise_again_at_last(task: Task, error: Exception) -> None:
    try:
        await handle_badly_too(task, error)
    except LookupError:
        raise error  # noqa: B904 - so it gets a context


async def raise_again_in_vain(task: Task, error: Exception) -> None:
    with suppress(Exception):
        raise error


HANDLERS = [
    None,
    handle,
    handle_badly,
    handle_badly_too,
    raise_again,
    raise_again_too,
    raise_again_at_last,
    raise_again_in_vain,
]


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("func", FUNCTIONS)
@pytest.mark.parametrize("on_error", HANDLERS)
async def test_a_task_takes_what_it_had_with_it(
    func: Callable[[Payload], Any], on_error: Any, anyio_backend_name: str
) -> None:
    """4.2 However a task ends, its arguments go with it, without the garbage collector."""
    in_thread = func is fail_in_thread or on_error in {handle, handle_badly, raise_again}
    if anyio_backend_name == "trio" and (in_thread or func is fail_in_group):
        pytest.skip("errors out of trio's own threads and nurseries are cycles by themselves")
    kept: list[weakref.ref[Payload]] = []

    async def schedule(runner: TaskRunner) -> None:
        for _ in range(3):
            payload = Payload()
            kept.append(weakref.ref(payload))
            task = TasksScheduler(runner).task(on_error=on_error).schedule(func, payload)
            if func is run_forever:
                await task.started.wait()
                task.cancel()

    async with open_runner() as runner:
        await schedule(runner)
        await runner.join()
        await anyio.wait_all_tasks_blocked()
        # Worker threads hold what they did last until they do something else, here all at once.
        barrier = threading.Barrier(6)
        for _ in range(6):
            runner.schedule(barrier.wait, GUARD)
        await runner.join()
        assert [one() for one in kept] == [None] * 3


async def in_vain(waiting: Awaitable[object]) -> None:
    with suppress(SomeError):
        await waiting


@pytest.mark.usefixtures("no_collector")
async def test_a_handle_that_is_dropped_is_no_cycle() -> None:
    """4.2 A failed task refers to its error, and the error's traceback not to the task."""
    async with open_runner() as runner:
        task = runner.schedule(fail, Payload())
        for _ in range(2):
            await in_vain(task.wait())
        seen = weakref.ref(task)
        del task
        assert seen() is None


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_result_that_has_the_event_loops_task_is_no_cycle() -> None:
    """4.2 That task's context no longer refers to ours, which refers to the result."""

    async def give_away(payload: Payload) -> object:
        return asyncio.current_task()

    async with open_runner() as runner:
        task = runner.schedule(give_away, Payload())
        assert isinstance(await task.wait(), asyncio.Task)
        seen = weakref.ref(task)
        del task
        await anyio.wait_all_tasks_blocked()
        assert seen() is None


async def sleep(payload: Payload) -> None:
    await anyio.sleep_forever()


async def sleep_within_its_own_timeout(payload: Payload) -> None:
    with anyio.fail_after(0.001):
        await anyio.sleep_forever()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("func", "seconds"), [(sleep, 0.001), (sleep_within_its_own_timeout, None)]
)
async def test_an_error_that_has_a_timer_is_no_cycle(
    func: Callable[[Payload], Any], seconds: float | None
) -> None:
    """4.2 A timer keeps a copy of the task's context, which forgets the task."""
    if func is sleep_within_its_own_timeout and sys.version_info >= (3, 12):
        pytest.skip("there a frame has those around it, and anyio's timeout the error")
    async with open_runner() as runner:
        payload = Payload()
        seen = weakref.ref(payload)
        task = runner.task(timeout=seconds).schedule(func, payload)
        del payload
        await runner.join()
        assert isinstance(task.exception, TimeoutError)
        del task
        await anyio.wait_all_tasks_blocked()
        assert seen() is None


async def test_a_traceback_begins_in_the_users_function() -> None:
    """4.2 It shows the function and what that called, not how it was run."""

    def names(task: Task) -> list[str]:
        error, found = task.exception, list[str]()
        assert error is not None
        part = error.__traceback__
        while part is not None:
            found.append(part.tb_frame.f_code.co_name)
            part = part.tb_next
        return found

    async with open_runner() as runner:
        for func in (fail, fail_in_thread, returns_what_fails):
            task = runner.schedule(func, Payload())
            await runner.join()
            assert names(task) == ["fail" if func is returns_what_fails else func.__name__]
        aborted = runner.schedule(abort, Payload())
        await runner.join()
        assert isinstance(aborted.exception, TaskAborted)
        assert names(aborted) == []
        assert aborted.exception.__cause__ is not None
        cause = aborted.exception.__cause__.__traceback__
        assert cause is not None
        assert cause.tb_frame.f_code is abort.__code__


async def test_a_block_of_the_kit_keeps_nothing_when_it_is_gone() -> None:
    """7.1 What is remembered does not hold on to the block that has seen it."""
    async with open_runner() as runner:
        payload = Payload()
        seen = weakref.ref(payload)
        async with drain():
            task = TasksScheduler(runner).schedule(succeed, payload)
            assert task.id
        del payload, task
        gc.collect()
        assert seen() is None


# Logging.


@pytest.mark.parametrize("level", ["WARNING", "DEBUG"])
async def test_what_is_logged_is_not_known_for_that(
    caplog: pytest.LogCaptureFixture, level: str
) -> None:
    """7.1 History holds only what somebody asked to know, whatever the log says."""
    caplog.set_level(level, "tasks_core")
    async with open_runner(history=5) as runner:
        asked = runner.schedule(succeed, Payload())
        asked_id = asked.id
        await over(asked)
        for _ in range(10):
            tasks = TasksScheduler(runner)
            skipped = tasks.after_response.schedule(succeed, Payload())
            tasks.reach(Phase.AFTER_RESPONSE, failed=True)
            failed = tasks.schedule(fail, Payload())
            assert repr(failed).startswith("<Task fail id=")
            await over(skipped, failed)
        assert [task.id for task in runner.registry.ended()] == [asked_id]


async def test_an_id_that_was_logged_is_the_tasks(caplog: pytest.LogCaptureFixture) -> None:
    """4.2 Who asks for it after that gets the same, and can look the task up."""
    async with open_runner() as runner:
        task = runner.schedule(fail, Payload())
        await over(task)
        (record,) = records(caplog)
        assert runner.get(vars(record)["task_id"]) is None
        assert task.id == vars(record)["task_id"]
        found = runner.get(task.id)
        assert found is not None
        assert found.state is TaskState.FAILED


async def test_nothing_is_written_where_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    """4.2 Where the level is off, a record costs no text and no id."""

    class Named:
        def __getattr__(self, name: str) -> str:
            if name == "__qualname__":
                asked.append(name)
                return "name"
            raise AttributeError(name)

        async def __call__(self) -> None: ...

    asked: list[str] = []
    caplog.set_level(logging.CRITICAL, "tasks_core")
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        task = tasks.after_response.schedule(Named())
        asked.clear()
        tasks.reach(Phase.AFTER_RESPONSE, failed=True)
        assert task.state is TaskState.SKIPPED
        assert task._id == ""
    assert not asked


async def test_a_name_forges_no_line(caplog: pytest.LogCaptureFixture) -> None:
    """4.2 Names hold what users typed: what breaks a line or controls a terminal is escaped."""
    name = "mail eve\nCRITICAL payments: gone\r\x1b[2K\u2028\ud800\u202e ü 🦊"
    escaped = r"mail eve\nCRITICAL payments: gone\r\x1b[2K\u2028\ud800\u202e ü 🦊"
    async with open_runner() as runner:
        task = runner.task(name=name).schedule(fail, Payload())
        await over(task)
        waiting = runner.task(name=name, shield=True).schedule(run_forever, Payload())
        await waiting.started.wait()
        waiting.cancel()
        (record,) = records(caplog)
        assert escaped in record.getMessage()
        assert vars(record)["task_name"] == escaped
        assert repr(task).startswith(f"<Task {escaped} id=")
        assert task.name == name
        assert "\n" not in record.getMessage()
        late = runner.task(name=name, timeout=0.001).schedule(run_forever, Payload())
        await over(late)
        held = TasksScheduler(runner)
        left = held.after_response.task(name=name).schedule(succeed, Payload())
        held.reach(Phase.AFTER_RESPONSE, failed=True)
        for one, expected in ((waiting, "cancelled"), (left, "skipped"), (late, "took longer")):
            with pytest.raises((TasksError, TimeoutError), match=expected) as raised:
                await one.wait()
            assert str(raised.value).startswith(f"task {escaped} ")


async def test_long_texts_of_errors_are_cut() -> None:
    """7.1 In records, and in what is remembered; the handle has the original."""

    async def fail_at_length() -> None:
        raise SomeError("x" * 1_000_000)

    async with open_runner() as runner:
        task = runner.schedule(fail_at_length)
        assert task.id
        await over(task)
        found = runner.get(task.id)
        assert found is not None
        expected = "x" * TEXT_LIMIT + f"... ({1_000_000 - TEXT_LIMIT} characters more)"
        assert task.record().error == found.record().error == expected
        assert len(str(found.exception)) < TEXT_LIMIT + 100
        assert len(str(task.exception)) == 1_000_000


# Waiters.


async def test_what_a_waiter_was_handling_is_not_shown_to_the_next() -> None:
    """4.2 One waiter's context is not in the traceback of another's error."""
    contexts: list[BaseException | None] = []

    async def wait_while_handling(task: Task) -> None:
        try:
            raise LookupError("the waiter's own")  # noqa: TRY301
        except LookupError:
            with suppress(SomeError):
                await task.wait()

    async with open_runner() as runner:
        task = runner.schedule(fail, Payload())
        await wait_while_handling(task)
        assert task.exception is not None
        contexts.append(task.exception.__context__)
        try:
            await task.wait()
        except SomeError as error:
            contexts.append(error.__context__)
    assert contexts == [None, None]


async def test_the_errors_own_context_stays() -> None:
    """4.2 What the function was handling when it raised is part of its error."""

    async def fail_twice() -> None:
        try:
            raise LookupError  # noqa: TRY301
        except LookupError:
            raise SomeError  # noqa: B904 - implicitly chained

    async with open_runner() as runner:
        task = runner.schedule(fail_twice)
        for _ in range(2):
            with pytest.raises(SomeError) as raised:
                await task.wait()
            assert isinstance(raised.value.__context__, LookupError)


# Task factories.


def old_factory(loop: asyncio.AbstractEventLoop, coro: Any) -> asyncio.Task[Any]:
    return asyncio.Task(coro, loop=loop)


def future_factory(loop: asyncio.AbstractEventLoop, coro: Any) -> Any:
    class Unnamed(asyncio.Future[Any]):
        """What is no task."""

    running = asyncio.Task(coro, loop=loop)
    made = Unnamed(loop=loop)
    running.add_done_callback(lambda _: made.set_result(None))
    return made


@pytest.mark.parametrize(
    "factory",
    [
        old_factory,
        pytest.param(
            future_factory,
            marks=pytest.mark.skipif(
                sys.version_info[:2] == (3, 13), reason="asyncio itself names what it returns"
            ),
        ),
    ],
)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_factory_of_the_older_form(factory: Any) -> None:
    """2.4 Factories that take a loop and a coroutine only work, with context and name."""
    from contextvars import ContextVar  # noqa: PLC0415

    variable = ContextVar[str]("variable")
    seen: list[tuple[str, str]] = []

    async def look() -> None:
        current = asyncio.current_task()
        assert current is not None
        seen.append((variable.get(), current.get_name()))

    loop = asyncio.get_running_loop()
    async with open_runner() as runner:
        loop.set_task_factory(factory)
        try:
            tasks = TasksScheduler(runner)
            variable.set("scheduled")
            task = tasks.after_route.task(name="named").schedule(look)
            variable.set("later")
            tasks.reach(Phase.AFTER_ROUTE)
            await over(task)
        finally:
            loop.set_task_factory(None)
    ((value, name),) = seen
    assert value == "scheduled"
    assert name == "named" or factory is future_factory


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_factory_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """4.3 The task fails with that, is logged once, and its error handler is called."""
    handled: list[tuple[Task, str]] = []

    async def handle(task: Task, error: Exception) -> None:
        await asyncio.sleep(0)
        handled.append((task, str(error)))

    def refuse(loop: object, coro: Any, **_: object) -> Any:
        raise SomeError("no tasks today")

    loop = asyncio.get_running_loop()
    async with open_runner() as runner:
        loop.set_task_factory(refuse)
        try:
            task = runner.task(name="refused", on_error=handle).schedule(succeed, Payload())
        finally:
            loop.set_task_factory(None)
        with pytest.raises(SomeError, match="no tasks today"):
            await task.wait()
    assert handled == [(task, "no tasks today")]
    assert len(logged(caplog, "ERROR")) == 1


# Schedulers that nobody enters, or that are left elsewhere.


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_scheduler_that_is_left_in_another_context() -> None:
    """2.8 A generator that is not read to its end is closed elsewhere: the phase comes."""
    log: list[int] = []

    async def acknowledge(message: int) -> None:
        log.append(message)

    async with open_runner() as runner:

        async def messages() -> AsyncGenerator[int]:
            for message in range(3):
                with TasksScheduler(runner) as tasks:
                    important = tasks.after_response.task(shield=True, run_on="always")
                    important.schedule(acknowledge, message)
                    yield message

        async def take_one() -> AsyncGenerator[int]:
            reading = messages()
            await anext(reading)
            return reading

        reading = await asyncio.create_task(take_one())
        await reading.aclose()
        await runner.join()
    assert log == [0]


@pytest.mark.parametrize("others", [False, True])
async def test_a_phase_that_nobody_reaches(
    caplog: pytest.LogCaptureFixture,
    others: bool,  # noqa: FBT001
) -> None:
    """2.8 A shielded task that waits for it ends with all the rest; the report says what for."""
    log: list[str] = []

    async def shielded() -> None:
        await anyio.wait_all_tasks_blocked()
        log.append("other")

    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        waiting = tasks.after_response.task(name="waiting", shield=True).schedule(
            succeed, Payload()
        )
        if others:
            runner.task(shield=True).schedule(shielded)
    assert waiting.state is TaskState.CANCELLED
    assert log == (["other"] if others else [])
    (report,) = logged(caplog, "WARNING")
    assert "waited for after_response, and nobody has entered its scheduler" in report


async def test_a_phase_that_is_reached_by_hand_in_time() -> None:
    """5.4 While something else lives, a shielded task may still get its phase, and runs."""
    log: list[str] = []

    async def note() -> None:
        log.append("ran")

    async with open_runner() as runner:
        tasks = TasksScheduler(runner)

        async def reach() -> None:
            await anyio.wait_all_tasks_blocked()
            tasks.reach(Phase.AFTER_RESPONSE)

        tasks.after_response.task(shield=True).schedule(note)
        runner.task(shield=True).schedule(reach)
    assert log == ["ran"]
    assert not runner._shutdown.unentered


async def test_a_phase_that_nobody_reaches_of_a_task_that_comes_while_draining(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """2.8 It is cut short with the end of the last other task, not with the next warning."""
    monkeypatch.setattr("tasks_core._runner.WARN_EVERY", inf)
    scheduled: list[Task] = []

    async def work() -> None:
        await anyio.wait_all_tasks_blocked()
        late = TasksScheduler(runner).after_response.task(shield=True)
        scheduled.append(late.schedule(succeed, Payload()))
        await anyio.wait_all_tasks_blocked()

    async with open_runner() as runner:
        runner.task(shield=True).schedule(work)
        await runner.drain()
    assert states(*scheduled) == ["cancelled"]


async def test_a_phase_that_nobody_reaches_of_a_task_that_a_thread_is_about_to_add(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """2.8 The shutdown may have seen it when it did not wait for its phase yet."""
    monkeypatch.setattr("tasks_core._runner.WARN_EVERY", inf)
    go, release = threading.Event(), threading.Event()
    late: list[Task] = []

    def hold(task: Task) -> None:  # between the two, in the thread
        if task.phase is Phase.AFTER_RESPONSE and not late:
            late.append(task)
            go.set()
            assert release.wait(GUARD)

    def add() -> None:
        TasksScheduler(runner).after_response.task(shield=True).schedule(succeed, Payload())

    async with open_runner(observers=[hold]) as runner, anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, add)
        await anyio.to_thread.run_sync(go.wait)
        group.start_soon(runner.drain)
        await anyio.wait_all_tasks_blocked()
        assert states(*late) == ["pending"]
        release.set()
    assert states(*late) == ["cancelled"]


async def test_who_was_cancelled_by_hand_is_not_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """5.3 No shutdown has cut it short: not one that waited, not one that cleans up by now."""

    async def clean_up() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await cleaned.wait()

    cleaned = anyio.Event()
    async with open_runner() as runner, anyio.create_task_group() as group:
        tasks = TasksScheduler(runner)
        waiting = tasks.after_response.schedule(succeed, Payload())
        running = runner.schedule(clean_up)
        await running.started.wait()
        assert waiting.cancel()
        assert running.cancel()
        group.start_soon(runner.drain)
        await anyio.wait_all_tasks_blocked()
        cleaned.set()
        await over(running)
        assert states(waiting, running) == ["cancelled", "cancelled"]
    assert logged(caplog) == []


async def test_schedulers_of_which_nothing_waits_are_forgotten() -> None:
    """2.8 Where nobody reaches the phases of many, those are kept of which something waits."""
    async with open_runner() as runner:
        kept = TasksScheduler(runner)
        kept.after_response.schedule(succeed, Payload())
        seen: list[weakref.ref[Payload]] = []
        for _ in range(1000):
            payload = Payload()
            seen.append(weakref.ref(payload))
            TasksScheduler(runner).after_response.schedule(succeed, payload).cancel()
        gc.collect()
        assert sum(one() is not None for one in seen) < 100
        assert kept in runner._shutdown.unentered


async def test_what_was_handled_is_not_kept_with_what_was_cancelled() -> None:
    """1.6, 4.2 An exception is kept only for what may still run for it."""
    async with open_runner() as runner:
        with TasksScheduler(runner) as tasks:
            seen: list[weakref.ref[SomeError]] = []
            for _ in range(1000):
                try:
                    raise SomeError  # noqa: TRY301 - this is what it is about
                except SomeError as error:
                    seen.append(weakref.ref(error))
                    tasks.after_response.schedule(succeed, Payload()).cancel()
            gc.collect()
            assert sum(one() is not None for one in seen) < 100


async def test_what_was_cancelled_before_its_phase_is_not_kept() -> None:
    """4.2 On a connection that stays open the last change may be saved after it; others go."""
    async with open_runner() as runner:
        with TasksScheduler(runner) as tasks:
            first = tasks.after_response.schedule(succeed, Payload())
            seen: list[weakref.ref[Payload]] = []
            last = first
            for _ in range(1000):
                payload = Payload()
                seen.append(weakref.ref(payload))
                last = tasks.after_response.schedule(succeed, payload)
                last.cancel()
                del payload
            last = tasks.after_response.schedule(succeed, Payload())
            gc.collect()
            assert sum(one() is not None for one in seen) < 100
            assert tasks.after_response.scheduled == (first, last)
        await over(first, last)
        assert states(first, last) == ["succeeded", "succeeded"]


class Looks(Living):
    """What lives, and how often all of it is looked at."""

    looks = 0

    def __iter__(self) -> Iterator[Task]:
        type(self).looks += 1
        return super().__iter__()


@pytest.mark.parametrize("how", ["join", "drain", "drain after join"])
async def test_waiting_for_many_costs_the_same_for_each(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2.8, 5.2 All are looked at now and then, not as each of them ends."""
    monkeypatch.setattr(Looks, "looks", 0)
    monkeypatch.setattr("tasks_core._backend.Living", Looks)
    async with open_runner() as runner:
        if how == "drain after join":
            runner.schedule(succeed, Payload())
            await runner.join()
        # Perhaps nobody reaches its phase.
        TasksScheduler(runner).after_response.task(daemon=True).schedule(succeed, Payload())
        one_by_one = runner.task(key="one", limit=1, shield=True)
        for _ in range(100):
            one_by_one.schedule(succeed, Payload())
        if how == "join":
            await runner.join()
            assert len(runner.registry) == 1
        else:
            await runner.drain()
            assert len(runner.registry) == 0
        assert 0 < Looks.looks < 20


# The runner schedules by itself.


async def test_a_runner_schedules() -> None:
    """2.8 Every phase has passed there; `join` waits until nothing lives."""
    log: list[str] = []

    async def note(what: str) -> None:
        await anyio.lowlevel.checkpoint()
        log.append(what)
        if what == "first":
            runner.schedule(note, "second")

    async with open_runner() as runner:
        await runner.join()
        task = runner.task(name="named", run_on="always").schedule(note, "first")
        assert task.name == "named"
        assert task.phase is Phase.IMMEDIATE
        await runner.join()
        assert log == ["first", "second"]
        assert len(runner.registry) == 0
        assert await runner.schedule(len, "four").wait() == 4


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_join_on_another_event_loop() -> None:
    """2.8 The runner's tasks would stand still, so it is refused."""

    async def join() -> None:
        await runner.join()

    async with open_runner() as runner:
        with pytest.raises(RuntimeError, match="on the event loop in which it was entered"):
            await anyio.to_thread.run_sync(asyncio.run, join())


def test_public_attributes_of_a_runner() -> None:
    """2.8 Only what users need."""
    assert {name for name in dir(TaskRunner()) if not name.startswith("_")} == {
        "cancel",
        "config",
        "drain",
        "follow",
        "get",
        "join",
        "periodic",
        "registry",
        "schedule",
        "status",
        "task",
    }


# Dates.


def test_dates_are_those_of_a_calendar_that_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """7.1 In a test that has stopped the clock no record has a date that it never had."""
    moments = iter(range(1000, 2000))
    monkeypatch.setattr("tasks_core._record.time.monotonic", lambda: next(moments) / 3)
    monkeypatch.setattr("tasks_core._record.time.time", lambda: 1_893_456_000.0)
    calendar.look()
    dates = {calendar.date(next(moments) / 3) for _ in range(20)}
    assert dates == {"2030-01-01T00:00:00.000+00:00"}
