from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from inspect import stack
from typing import Any

import anyio
import pytest
from anyio import CancelScope, from_thread, get_cancelled_exc_class, to_thread
from tasks_core import (
    Phase,
    RunnerClosedError,
    Task,
    TaskRunner,
    TasksScheduler,
    TaskState,
    current_task,
)
from tasks_core.asgi import ApplicationTasks

from tests.tasks_core.stage import (
    GUARD,
    SomeError,
    fail_async,
    logged,
    open_runner,
    over,
    until_cancelled,
)

on_both = pytest.mark.anyio
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])
on_trio = pytest.mark.parametrize("anyio_backend", ["trio"])


class Listener(logging.Handler):
    """Calls back when something is logged that contains a text."""

    def __init__(self, text: str, heard: Callable[[], object]) -> None:
        super().__init__()
        self._text = text
        self._heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        if self._text in record.getMessage():
            self._heard()


@contextmanager
def on_record(text: str, call: Callable[[], object]) -> Generator[None]:
    """Call back when the core logs something that contains a text."""
    logger, listener = logging.getLogger("tasks_core"), Listener(text, call)
    logger.addHandler(listener)
    try:
        yield
    finally:
        logger.removeHandler(listener)


async def swallow(go: anyio.Event) -> str:
    """Stand in for a task that swallows its cancellation, and goes on until it is let go."""
    try:
        await anyio.sleep_forever()
    except get_cancelled_exc_class():
        with CancelScope(shield=True):
            await go.wait()
    return "swallowed"


def nothing() -> None: ...


def named(task: Task) -> str:
    """Return a pattern of how a task is named to who reads the log."""
    return rf"\b{task.name} \(id={task.id}, phase={task.phase}, age=\d+\.\d s, "


# Settings


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"grace_period": "1"}, TypeError),
        ({"grace_period": None}, TypeError),
        ({"grace_period": True}, TypeError),
        ({"grace_period": -1}, ValueError),
        ({"grace_period": float("nan")}, ValueError),
        ({"grace_period": 10**5000}, ValueError),
        ({"shutdown_timeout": "1"}, TypeError),
        ({"shutdown_timeout": -0.1}, ValueError),
        ({"thread_limit": 1.5}, TypeError),
        ({"thread_limit": True}, TypeError),
        ({"thread_limit": None}, TypeError),
        ({"thread_limit": 0}, ValueError),
    ],
)
def test_nonsense_is_refused_by_name(settings: dict[str, Any], error: type[Exception]) -> None:
    """A runner refuses settings when it is made, and names the one that is wrong (3.3)."""
    with pytest.raises(error, match=next(iter(settings))):
        TaskRunner(**settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"graceperiod": 1},
            "there is no setting 'graceperiod' of a runner: there are config, gra",
        ),
        ({"config": {"shield": True}}, "config is a TaskConfig, not dict"),
        (
            {"on_error": print},
            "on_error is a task's setting, not a runner's: config=TaskConfig(on_",
        ),
    ],
)
@pytest.mark.parametrize("make", [TaskRunner, ApplicationTasks])
def test_settings_that_would_be_lost_are_refused(
    make: Callable[..., object], settings: dict[str, Any], says: str
) -> None:
    """A misspelt setting is an error, one of a task, and a config that is none (3.3)."""
    with pytest.raises(TypeError) as raised:
        make(**settings)
    assert str(raised.value).startswith(says)


# Opening and closing


def test_a_runner_that_was_not_entered_refuses_tasks() -> None:
    """The error names the task and the remedy (5.4)."""
    tasks = TasksScheduler(TaskRunner())
    for schedule in (tasks.schedule, tasks.after_route.schedule):
        with pytest.raises(RunnerClosedError, match=r"nothing was refused.*has not been entered"):
            schedule(nothing)
    assert tasks.after_route.scheduled == ()


@on_both
async def test_a_runner_that_was_left_refuses_tasks() -> None:
    """A task is never accepted and then forgotten, in no phase and no thread (5.4)."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
    tasks.reach(Phase.AFTER_RESPONSE)

    for schedule in (tasks.schedule, tasks.after_response.schedule):
        with pytest.raises(RunnerClosedError):
            schedule(nothing)
    with pytest.raises(RunnerClosedError):
        await to_thread.run_sync(tasks.schedule, nothing)


@on_both
async def test_a_runner_is_entered_once() -> None:
    """A second lifespan needs a runner of its own (5.7)."""
    async with open_runner() as runner:
        with pytest.raises(RuntimeError, match="make a new one"):
            await runner.__aenter__()

    with pytest.raises(RuntimeError, match="make a new one"):
        await runner.__aenter__()


@on_both
@pytest.mark.parametrize("error", [SomeError(), ExceptionGroup("own", [SomeError()])])
async def test_an_error_of_the_body_comes_out_as_it_is(error: Exception) -> None:
    """What the block raises is not wrapped in a group, with tasks running as well (5.7)."""
    scheduled: list[Task] = []

    async def host() -> None:
        async with open_runner() as runner:
            scheduled.append(TasksScheduler(runner).schedule(until_cancelled))
            await scheduled[0].started.wait()
            raise error

    with pytest.raises(type(error)) as raised:
        await host()
    assert raised.value is error
    assert scheduled[0].state is TaskState.CANCELLED


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_two_runners_live_on_two_event_loops(backend: str) -> None:
    """Each runs its tasks on its own loop, and may be given some by the other's thread (5.7)."""
    together = threading.Barrier(2)
    schedulers: dict[int, TasksScheduler] = {}
    threads: dict[int, int] = {}

    async def where() -> int:
        return threading.get_ident()

    async def main(number: int) -> None:
        async with open_runner() as runner:
            schedulers[number] = TasksScheduler(runner)
            together.wait(GUARD)
            own = schedulers[number].schedule(where)
            given = schedulers[1 - number].task(shield=True).schedule(where)
            assert await own.wait() == threading.get_ident()
            await to_thread.run_sync(together.wait, GUARD)
        await to_thread.run_sync(together.wait, GUARD)
        assert given.result is not None
        threads[number] = given.result

    others = threading.Thread(target=anyio.run, args=(main, 1), kwargs={"backend": backend})
    others.start()
    anyio.run(main, 0, backend=backend)
    others.join(GUARD)

    assert threads == {0: others.ident, 1: threading.get_ident()}


@pytest.mark.parametrize("backends", [("asyncio", "trio"), ("trio", "asyncio"), ("trio", "trio")])
def test_an_application_may_be_started_again(backends: tuple[str, str]) -> None:
    """A new runner works on a new event loop, of another kind as well (5.7)."""

    async def main() -> int:
        async with open_runner() as runner:
            return await TasksScheduler(runner).schedule(len, "four").wait()

    assert [anyio.run(main, backend=backend) for backend in backends] == [4, 4]


# Without a request


@on_both
async def test_a_runner_is_waited_for_where_it_runs() -> None:
    """Neither before it was entered nor on another event loop (2.8)."""
    with pytest.raises(RuntimeError, match="has not been entered yet"):
        await TaskRunner().join()
    with pytest.raises(RuntimeError, match="has not been entered yet"):
        await TaskRunner().drain()
    async with open_runner() as runner:
        with pytest.raises(RuntimeError, match="on the event loop in which it was entered"):
            await to_thread.run_sync(anyio.run, runner.join)


@on_both
async def test_joining_goes_on_for_what_is_scheduled_at_the_last_moment() -> None:
    """Who waits for a task may schedule another one as it ends (2.8)."""
    last: list[Task] = []
    go = anyio.Event()

    async def follow() -> None:
        await task.wait()
        last.append(runner.schedule(anyio.lowlevel.checkpoint))

    async with open_runner() as runner, anyio.create_task_group() as group:
        task = runner.schedule(go.wait)
        group.start_soon(follow)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(runner.join)
        await anyio.wait_all_tasks_blocked()
        go.set()
        await runner.join()
        if not last:  # on trio the two that wait wake in any order
            await anyio.wait_all_tasks_blocked()
            await runner.join()
        assert last[0].state is TaskState.SUCCEEDED


@on_both
@on_asyncio
@pytest.mark.parametrize("meanwhile", [False, True])
async def test_joining_does_not_wait_for_what_was_cancelled_natively(
    meanwhile: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A task that never ran its first step is noticed, as by a shutdown (2.8, 4.1)."""
    monkeypatch.setattr("tasks_core._runner.WARN_EVERY", 0.01)
    lost: list[Task] = []
    async with open_runner() as runner, anyio.create_task_group() as group:
        if meanwhile:
            held = TasksScheduler(runner).after_response.schedule(until_cancelled)
            group.start_soon(runner.join)
            await anyio.wait_all_tasks_blocked()
            held.cancel()  # who joins looks in the next turn, just before the task were to begin
        before = asyncio.all_tasks()
        lost.append(runner.schedule(until_cancelled))
        (native,) = asyncio.all_tasks() - before
        native.cancel()
        if not meanwhile:
            await runner.join()
    assert [task.state for task in lost] == [TaskState.CANCELLED]
    assert ["cancelled by the event loop" in message for message in logged(caplog)] == [True]


def test_requests_on_another_event_loop_have_their_tasks_there() -> None:
    """Of the same thread; some clients serve each request on an event loop of its own (2.7)."""
    with asyncio.Runner() as own, asyncio.Runner() as other:
        runner = own.run(TaskRunner().__aenter__())

        async def current() -> object:
            return asyncio.get_running_loop()

        async def request() -> list[object]:
            return [await TasksScheduler(runner).schedule(current).wait() for _ in range(2)]

        assert other.run(request()) == [other.get_loop()] * 2
        assert own.run(request()) == [own.get_loop()] * 2
        assert other.run(request()) == [other.get_loop()] * 2
        own.run(runner.__aexit__(None, None, None))


# Draining


@on_both
async def test_running_tasks_have_the_grace_period(caplog: pytest.LogCaptureFixture) -> None:
    """A shutdown goes on as soon as they have ended, and reports nothing (5.2)."""
    go = anyio.Event()
    async with open_runner(grace_period=GUARD) as runner:
        task = TasksScheduler(runner).schedule(go.wait)
        await task.started.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(runner.drain)
            await anyio.wait_all_tasks_blocked()
            go.set()

    assert task.state is TaskState.SUCCEEDED
    assert logged(caplog) == []


@on_both
async def test_what_has_not_begun_gets_no_grace(caplog: pytest.LogCaptureFixture) -> None:
    """An unshielded task that waits for something is cut at once, and says for what (5.3, 5.4).

    So is one that is scheduled meanwhile, for whatever phase.
    """
    go, release = anyio.Event(), threading.Event()
    running, meanwhile, waiting = list[Task](), list[Task](), dict[str, Task]()

    async def schedule_more() -> None:
        await anyio.wait_all_tasks_blocked()
        meanwhile.extend([tasks.schedule(nothing), tasks.after_response.schedule(nothing)])
        for task in (*waiting.values(), *meanwhile):
            assert task.state is TaskState.CANCELLED
        assert [task.state for task in running] == [TaskState.RUNNING] * 2
        go.set()
        release.set()

    async with (
        open_runner(grace_period=GUARD, thread_limit=1) as runner,
        anyio.create_task_group() as group,
    ):
        with TasksScheduler(runner) as tasks:
            running += [tasks.schedule(go.wait), tasks.schedule(release.wait, GUARD)]
            waiting["a thread"] = tasks.schedule(nothing)
            await tasks.begun()
            waiting["after_route"] = tasks.after_route.schedule(nothing)
            waiting["after_response"] = tasks.after_response.schedule(until_cancelled)
            waiting["its first step"] = tasks.schedule(until_cancelled)
            group.start_soon(schedule_more)
            await runner.drain()

    assert [task.state for task in running] == [TaskState.SUCCEEDED] * 2
    (report,) = logged(caplog)
    for waited_for, task in waiting.items():
        (told,) = [part for part in report.split("), ") if task.id in part]
        assert told.rstrip(")").endswith(f" s, cancelled, waited for {waited_for}")
    assert [report.count(task.id) for task in meanwhile] == [1, 1]


@on_both
@pytest.mark.parametrize("grace_period", [0, 0.01])
async def test_what_outlives_the_grace_period_is_cancelled(
    grace_period: float, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unshielded tasks are cancelled and reported once: begun, waiting for a phase or not (5.3)."""
    monkeypatch.setattr("tasks_core._runner.WARN_EVERY", 0.01)
    release = threading.Event()
    async with open_runner(grace_period=grace_period, thread_limit=1) as runner:
        tasks = TasksScheduler(runner)
        running = tasks.task(name="running").schedule(until_cancelled)
        waiting = tasks.after_route.task(name="waiting").schedule(until_cancelled)
        in_thread = tasks.task(name="thread").schedule(release.wait, GUARD)
        no_thread = tasks.task(name="queued").schedule(nothing)
        await running.started.wait()
        await tasks.begun()
        with on_record("still running", release.set):  # once only the thread is left
            await runner.drain()

    assert [task.state for task in (running, waiting, no_thread)] == [TaskState.CANCELLED] * 3
    assert in_thread.state is TaskState.SUCCEEDED
    (report,) = [message for message in logged(caplog) if "unfinished" in message]
    for task in (running, waiting, no_thread):
        assert len(re.findall(named(task), report)) == 1
    assert in_thread.id not in report


@on_both
async def test_what_is_shielded_runs_to_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """A shutdown waits for shielded tasks: running, and not begun yet (5.2, 5.4)."""
    go = anyio.Event()
    async with open_runner(thread_limit=1) as runner:
        shielded = TasksScheduler(runner).task(shield=True)
        running, in_thread, no_thread = (
            shielded.schedule(go.wait),
            shielded.schedule(from_thread.run, go.wait),
            shielded.schedule(len, "four"),
        )
        async with anyio.create_task_group() as group:
            group.start_soon(runner.drain)
            await anyio.wait_all_tasks_blocked()
            go.set()

    for task in (running, in_thread, no_thread):
        assert task.state is TaskState.SUCCEEDED
    assert logged(caplog) == []


@on_both
async def test_a_shielded_task_waits_for_its_phase_during_a_shutdown() -> None:
    """A request that ends while the shutdown waits still gets its shielded tasks (5.4)."""
    scheduled: list[Task] = []
    async with open_runner() as runner, anyio.create_task_group() as group:
        with TasksScheduler(runner) as tasks:
            shielded = tasks.after_response.task(shield=True)
            scheduled.append(shielded.schedule(len, "four"))
            plain = tasks.after_response.schedule(len, "four")
            group.start_soon(runner.drain)
            await anyio.wait_all_tasks_blocked()
            assert (scheduled[0].state, plain.state) == (TaskState.PENDING, TaskState.CANCELLED)
            scheduled.append(shielded.schedule(len, "four"))

    assert [task.state for task in scheduled] == [TaskState.SUCCEEDED] * 2


@on_both
async def test_tasks_that_are_scheduled_while_draining(caplog: pytest.LogCaptureFixture) -> None:
    """Shielded ones run, others are cancelled before they begin, and reported (5.3, 5.4)."""
    draining = anyio.Event()
    called: list[str] = []
    scheduled: list[Task] = []
    async with open_runner() as runner, anyio.create_task_group() as group:
        tasks = TasksScheduler(runner)

        async def work() -> None:
            await draining.wait()
            scheduled.append(tasks.schedule(called.append, "plain"))
            scheduled.append(tasks.task(shield=True).schedule(called.append, "shielded"))

        tasks.task(shield=True).schedule(work)
        group.start_soon(runner.drain)
        await anyio.wait_all_tasks_blocked()
        draining.set()

    assert called == ["shielded"]
    assert [task.state for task in scheduled] == [TaskState.CANCELLED, TaskState.SUCCEEDED]
    (report,) = logged(caplog, "WARNING")
    assert scheduled[0].id in report
    assert scheduled[1].id not in report


@on_both
async def test_past_its_bound_a_shutdown_cancels_the_shielded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`shutdown_timeout` bounds the waiting, and what it cuts is reported (5.2, 5.3)."""
    steps: list[str] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
                steps.append("cleaned up")

    async with open_runner(shutdown_timeout=0) as runner:
        task = TasksScheduler(runner).task(shield=True).schedule(work)
        waiting = TasksScheduler(runner).after_route.task(shield=True).schedule(nothing)
        await task.started.wait()

    assert steps == ["cleaned up"]
    assert (task.state, waiting.state) == (TaskState.CANCELLED, TaskState.CANCELLED)
    (report,) = logged(caplog)
    assert task.id in report
    assert waiting.id in report
    assert "still" not in report


@on_both
async def test_a_shutdown_says_what_it_waits_for(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Warnings name each task that it waits for, those that swallow included (5.2, 5.5)."""
    monkeypatch.setattr("tasks_core._runner.WARN_EVERY", 0.01)
    go = anyio.Event()
    warned: list[str] = []

    def hear() -> None:
        warned.append("once more")
        if len(warned) == 3:
            go.set()

    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        swallows = tasks.task(name="swallows").schedule(swallow, go)
        shielded = tasks.task(name="shielded", shield=True).schedule(go.wait)
        await swallows.started.wait()
        with on_record("Shutdown is waiting for", hear):
            await runner.drain()

    warnings = logged(caplog, "WARNING")
    for warning in warnings[:3]:
        assert re.search(named(swallows), warning)
        assert "still running" in warning
        assert shielded.id in warning
    assert (swallows.state, swallows.result) == (TaskState.SUCCEEDED, "swallowed")


@on_both
async def test_a_grace_period_is_waited_out_with_warnings_too(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits in a long grace period is told for what (5.2)."""
    monkeypatch.setattr("tasks_core._runner.WARN_EVERY", 0.01)
    go = anyio.Event()
    async with open_runner(grace_period=GUARD) as runner:
        task = TasksScheduler(runner).schedule(go.wait)
        await task.started.wait()
        with on_record("Shutdown is waiting for", go.set):
            await runner.drain()

    assert task.state is TaskState.SUCCEEDED
    warnings = logged(caplog)
    assert warnings
    assert all(warning.startswith("Shutdown is waiting for Event.wait") for warning in warnings)


@on_both
async def test_a_warning_that_is_late_ends_no_grace_period(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time may come while the shutdown looks what lives (5.2)."""
    monkeypatch.setattr("tasks_core._runner.WARN_EVERY", 0)
    go = anyio.Event()
    async with open_runner(grace_period=GUARD) as runner:
        task = runner.schedule(go.wait)
        await task.started.wait()
        with on_record("Shutdown is waiting for", go.set):
            await runner.drain()

    assert task.state is TaskState.SUCCEEDED


@on_both
@pytest.mark.parametrize("kind", ["swallows", "thread"])
async def test_a_task_that_does_not_end_is_left_and_reported(
    kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drain with a bound ends without a task that swallows, or sits in a thread (5.3, 5.5)."""
    monkeypatch.setattr("tasks_core._runner.UNWIND_TIME", 0.01)
    go, release = anyio.Event(), threading.Event()
    async with open_runner(shutdown_timeout=0.01) as runner:
        tasks = TasksScheduler(runner)
        batch = tasks.task(shield=True)
        task = (
            batch.schedule(swallow, go)
            if kind == "swallows"
            else batch.schedule(release.wait, GUARD)
        )
        await tasks.begun()
        await runner.drain()

        assert str(task.state) == "running"
        (report,) = logged(caplog)
        assert re.search(named(task), report)
        assert "still running" in report
        go.set()
        release.set()
        await over(task)
        assert task.state is TaskState.SUCCEEDED


@on_both
@on_asyncio
async def test_on_asyncio_a_runner_can_be_left_while_a_thread_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing waits for ever for a thread once the bound has passed (5.2)."""
    monkeypatch.setattr("tasks_core._runner.UNWIND_TIME", 0.01)
    running, release = threading.Event(), threading.Event()

    def work() -> None:
        running.set()
        release.wait(GUARD)

    async with open_runner(shutdown_timeout=0) as runner:
        task = TasksScheduler(runner).schedule(work)
        await to_thread.run_sync(running.wait, GUARD)

    assert task.state is TaskState.RUNNING
    release.set()
    await over(task)


@on_both
@on_trio
async def test_on_trio_leaving_a_runner_waits_for_all(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trio leaves no task behind, so the warnings go on until a thread ends (5.2)."""
    monkeypatch.setattr("tasks_core._runner.UNWIND_TIME", 0.01)
    monkeypatch.setattr("tasks_core._runner.WARN_EVERY", 0.01)
    release = threading.Event()
    with on_record("Shutdown is waiting for", release.set):
        async with open_runner(shutdown_timeout=0) as runner:
            tasks = TasksScheduler(runner)
            task = tasks.schedule(release.wait, GUARD)
            await tasks.begun()

    assert task.state is TaskState.SUCCEEDED
    assert task.id in logged(caplog)[0]


@on_both
async def test_draining_again_waits_for_the_first() -> None:
    """All who drain go on when the one drain has ended; later calls return at once (5.1)."""
    go = anyio.Event()
    ended: list[TaskState] = []
    async with open_runner() as runner:
        task = TasksScheduler(runner).task(shield=True).schedule(go.wait)

        async def drain() -> None:
            await runner.drain()
            ended.append(task.state)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(drain)
            await anyio.wait_all_tasks_blocked()
            assert ended == []
            go.set()
        await runner.drain()

    assert ended == [TaskState.SUCCEEDED] * 3


@on_both
async def test_a_drain_that_is_cancelled_cuts_everything_short(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server that gives up waiting cancels shielded tasks too, and gets the report (5.2, 5.3)."""
    steps: list[str] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
                steps.append("cleaned up")

    async with open_runner() as runner:
        task = TasksScheduler(runner).task(shield=True).schedule(work)
        await task.started.wait()
        with anyio.move_on_after(0):
            await runner.drain()

        assert steps == ["cleaned up"]
        assert task.state is TaskState.CANCELLED
        with pytest.raises(RunnerClosedError):
            TasksScheduler(runner).schedule(nothing)

    (report,) = logged(caplog)
    assert task.id in report


@on_both
@on_asyncio
async def test_a_drain_that_is_cancelled_natively_twice_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server that loses its patience twice does not make the runner hang (5.2, 5.3)."""
    go = anyio.Event()
    runner = await TaskRunner().__aenter__()
    task = TasksScheduler(runner).schedule(swallow, go)
    await task.started.wait()
    drain = asyncio.create_task(runner.drain())
    for _ in range(2):
        await anyio.wait_all_tasks_blocked()
        drain.cancel()
    await asyncio.wait([drain])

    try:
        with anyio.fail_after(GUARD):
            await runner.drain()
    finally:
        go.set()
        await task.wait()
    assert task.id in logged(caplog)[-1]


@on_both
async def test_a_task_may_drain_the_runner_that_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A drain that an unshielded task awaits cancels that task, and is over then (5.2)."""
    monkeypatch.setattr("tasks_core._runner.UNWIND_TIME", 0.01)
    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(runner.drain)
        await over(task)
        await runner.drain()

    assert task.state is TaskState.CANCELLED


@on_both
async def test_a_task_that_fails_while_it_is_cancelled_is_no_part_of_the_report(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It has ended with a failure of its own, which is logged as such (4.2, 5.3)."""

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            await fail_async()

    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(work)
        await task.started.wait()

    assert task.state is TaskState.FAILED
    assert [task.id in message for message in logged(caplog)] == [True]
    assert len(logged(caplog, "ERROR")) == 1


@on_both
async def test_shields_inside_a_task_hold() -> None:
    """An unshielded task is cancelled through its scope only, on both event loops (5.5)."""
    inside, go = anyio.Event(), anyio.Event()
    steps: list[str] = []

    async def work() -> None:
        with CancelScope(shield=True):
            inside.set()
            await go.wait()
            steps.append("held")
        await anyio.lowlevel.checkpoint()
        steps.append("not here")

    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(work)
        async with anyio.create_task_group() as group:
            await inside.wait()
            group.start_soon(runner.drain)
            await anyio.wait_all_tasks_blocked()
            assert task.state is TaskState.RUNNING
            go.set()

    assert (steps, task.state) == (["held"], TaskState.CANCELLED)


@on_both
async def test_a_host_that_is_cancelled_from_outside_drains() -> None:
    """Whoever is cancelled in the runner's block still waits for shielded tasks (5.2)."""
    go = anyio.Event()
    scheduled: list[Task] = []
    entered = anyio.Event()

    async def host() -> None:
        async with TaskRunner() as runner:
            tasks = TasksScheduler(runner)
            scheduled.append(tasks.schedule(until_cancelled))
            scheduled.append(tasks.task(shield=True).schedule(go.wait))
            await tasks.begun()
            entered.set()
            await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(host)
        await entered.wait()
        group.cancel_scope.cancel()
        with CancelScope(shield=True):
            await over(scheduled[0])
            assert scheduled[1].state is TaskState.RUNNING
            go.set()

    assert [task.state for task in scheduled] == [TaskState.CANCELLED, TaskState.SUCCEEDED]


# The event loop's own cancellation


@pytest.mark.parametrize("shield", [False, True])
def test_a_loop_that_is_torn_down_natively_loses_no_task(
    shield: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Started or not, every task ends and is named when asyncio cancels everything (5.3)."""
    scheduled: list[Task] = []

    async def lifespan(entered: asyncio.Event) -> None:
        async with TaskRunner() as runner:
            tasks = TasksScheduler(runner).task(shield=shield)
            scheduled.append(tasks.schedule(until_cancelled))
            await scheduled[0].started.wait()
            scheduled.append(tasks.schedule(until_cancelled))
            scheduled.append(tasks.schedule(nothing))
            scheduled.append(TasksScheduler(runner).after_route.schedule(nothing))
            entered.set()
            await anyio.sleep_forever()

    async def main() -> None:
        entered = asyncio.Event()
        keep = asyncio.create_task(lifespan(entered))
        await entered.wait()
        assert not keep.done()

    asyncio.run(main())

    assert [task.state for task in scheduled] == [TaskState.CANCELLED] * 4
    for task in scheduled:
        assert [task.id in message for message in logged(caplog, "WARNING")].count(True) == 1


@on_both
@on_asyncio
@pytest.mark.parametrize("begun", [False, True])
async def test_a_shielded_task_that_was_cancelled_natively_is_over_for_its_runner(
    begun: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A shutdown does not wait for what the event loop has cancelled (5.3)."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        before = asyncio.all_tasks()
        task = tasks.task(shield=True).schedule(until_cancelled)
        (native,) = asyncio.all_tasks() - before
        if begun:
            await task.started.wait()
        native.cancel()
        await runner.drain()

    assert task.state is TaskState.CANCELLED
    assert [task.id in message for message in logged(caplog)] == [True]


@on_both
@on_asyncio
@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(
            False,
            marks=pytest.mark.xfail(
                raises=TimeoutError, reason="noticed by a drain only, or up to 10 s later in one"
            ),
        ),
        True,
    ],
)
async def test_who_waits_for_a_task_that_was_cancelled_natively_goes_on(
    begun: bool,  # noqa: FBT001
) -> None:
    """A task that never ran its first step ends for its waiters as well (2.6)."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        before = asyncio.all_tasks()
        task = tasks.schedule(until_cancelled)
        (native,) = asyncio.all_tasks() - before
        if begun:
            await task.started.wait()
        native.cancel()

        with anyio.fail_after(GUARD if begun else 0.1):
            await over(task)


@on_both
@on_asyncio
async def test_a_thread_that_is_abandoned_natively_holds_up_no_other() -> None:
    """Sync tasks go on in order after one was torn from its thread (1.4, 4.1)."""
    running, release = threading.Event(), threading.Event()

    def work() -> None:
        running.set()
        release.wait(GUARD)

    async with open_runner(thread_limit=2) as runner:
        tasks = TasksScheduler(runner)
        before = asyncio.all_tasks()
        task = tasks.schedule(work)
        (native,) = asyncio.all_tasks() - before
        await to_thread.run_sync(running.wait, GUARD)
        native.cancel()
        await over(task)
        assert task.state is TaskState.CANCELLED
        assert await tasks.schedule(len, "four").wait() == 4
        release.set()


# Threads


@on_both
@pytest.mark.parametrize("shield", [False, True])
async def test_any_thread_may_schedule_until_the_end(
    shield: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What a foreign thread schedules while the runner closes ends, or is refused (2.3, 5.4)."""
    calls: list[int] = []
    scheduled: list[Task] = []
    refused = threading.Event()
    begun = threading.Barrier(4)

    def schedule(tasks: TasksScheduler) -> None:
        batch = tasks.after_route.task(shield=shield)
        with suppress(RunnerClosedError):
            for number in range(300):
                scheduled.append(batch.schedule(calls.append, number))
                if number == 10:
                    begun.wait(GUARD)
            return
        refused.set()

    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        tasks.reach(Phase.AFTER_ROUTE)
        threads = [threading.Thread(target=schedule, args=(tasks,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        await to_thread.run_sync(begun.wait, GUARD)
    for thread in threads:
        await to_thread.run_sync(thread.join, GUARD)

    states = [task.state for task in scheduled]
    assert set(states) <= {TaskState.SUCCEEDED, TaskState.CANCELLED}
    assert states.count(TaskState.SUCCEEDED) == len(calls)
    report = "".join(logged(caplog))
    for task in scheduled:
        assert (task.id in report) == (task.state is TaskState.CANCELLED)
    if shield:
        assert TaskState.CANCELLED not in states


@on_both
async def test_a_thread_may_schedule_while_the_shutdown_looks_at_its_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a shutdown looks through may grow at any moment (2.3, 5.2)."""
    monkeypatch.setattr("tasks_core._runner.WARN_EVERY", 0.01)
    go = anyio.Event()

    class Name:
        """Has a name that takes its time, so that another thread comes in between."""

        def __init__(self, tasks: TasksScheduler) -> None:
            self.tasks = tasks
            self.asked = False

        def __getattr__(self, name: str) -> str:
            if name == "__qualname__" and drains and not self.asked:
                self.asked = True
                thread = threading.Thread(target=self.tasks.schedule, args=(nothing,))
                thread.start()
                thread.join(GUARD)
                go.set()
            raise AttributeError(name)

        async def __call__(self) -> None:
            await go.wait()

    drains: list[str] = []
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        for _ in range(3):
            tasks.task(shield=True).schedule(Name(tasks))
        await tasks.begun()
        drains.append("now")
        await runner.drain()


@on_both
async def test_a_shielded_task_of_a_thread_is_not_lost_between_idle_and_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A task that comes in as the shutdown finds nothing left runs, or is refused (2.3, 5.4)."""
    outcomes: list[Task | RunnerClosedError] = []

    class Living(dict[Task, Any]):
        """Lets a thread schedule just after the shutdown has seen that nothing lives."""

        def __len__(self) -> int:
            length = super().__len__()
            asks = {frame.function for frame in stack(0)[1:3]}
            if runner._shutdown.cancels and not length and not outcomes and moment in asks:
                thread = threading.Thread(target=schedule)
                thread.start()
                thread.join(0.1)  # or it waits for a lock that is held here
                threads.append(thread)
            return length

    def schedule() -> None:
        batch = TasksScheduler(runner).task(shield=True)
        try:
            outcomes.append(batch.schedule(len, "four"))
        except RunnerClosedError as error:
            outcomes.append(error)

    for moment in ("_until_idle", "_close_if_idle"):  # noqa: B007 - `Living` reads it
        outcomes.clear()
        threads: list[threading.Thread] = []
        async with open_runner() as runner:
            assert runner._backend is not None
            monkeypatch.setattr(runner._backend.living, "scopes", Living())
            TasksScheduler(runner).task(shield=True).schedule(anyio.lowlevel.checkpoint)
        for thread in threads:
            await to_thread.run_sync(thread.join, GUARD)

        (outcome,) = outcomes
        assert isinstance(outcome, RunnerClosedError) or outcome.state is TaskState.SUCCEEDED


@on_both
async def test_a_skip_may_come_from_any_thread(caplog: pytest.LogCaptureFixture) -> None:
    """A phase may be reached in a thread, with and without success (1.6, 2.3)."""
    caplog.set_level("INFO")
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        skipped = tasks.after_route.schedule(nothing)
        runs = tasks.after_route.task(run_on="failure").schedule(len, "four")
        await to_thread.run_sync(lambda: tasks.reach(Phase.AFTER_ROUTE, failed=True))
        await over(skipped, runs)

    assert (skipped.state, runs.state) == (TaskState.SKIPPED, TaskState.SUCCEEDED)


@on_both
async def test_sync_tasks_share_no_threads_with_anyio() -> None:
    """Sync tasks do not use up the limiter of the framework's sync routes (2.5)."""
    release = threading.Event()
    default = to_thread.current_default_thread_limiter()
    async with open_runner(thread_limit=2) as runner:
        tasks = TasksScheduler(runner)
        scheduled = [tasks.schedule(release.wait, GUARD) for _ in range(3)]
        await tasks.begun()

        assert default.borrowed_tokens == 0
        assert [task.started.is_set() for task in scheduled] == [True, True, False]
        assert await to_thread.run_sync(len, "four") == 4
        release.set()
        await over(*scheduled)


@on_both
async def test_tasks_schedule_tasks_for_ever_and_end_with_the_runner() -> None:
    """A chain of unshielded tasks ends when a shutdown begins (5.2)."""
    links: list[Task] = []
    long = anyio.Event()

    async with open_runner() as runner:
        tasks = TasksScheduler(runner)

        async def link() -> None:
            links.append(current_task())
            if len(links) > 10:
                long.set()
            await anyio.lowlevel.checkpoint()
            tasks.schedule(link)

        tasks.schedule(link)
        await long.wait()

    assert all(task.state in {TaskState.SUCCEEDED, TaskState.CANCELLED} for task in links)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_thread_that_is_too_late_for_the_loop_gets_no_error_of_the_loop(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that was accepted, and cancelled by the shutdown, is returned as such (2.3, 5.4)."""
    accepted, closed = threading.Event(), threading.Event()
    outcome: list[Task | Exception] = []

    async def main() -> None:
        async with open_runner() as runner:
            assert runner._backend is not None
            call_soon = runner._backend.call_soon

            def late(callback: Callable[[], None]) -> None:
                accepted.set()
                closed.wait(GUARD)
                call_soon(callback)

            monkeypatch.setattr(runner._backend, "call_soon", late)
            thread = threading.Thread(target=schedule, args=(TasksScheduler(runner),))
            thread.start()
            threads.append(thread)
            await to_thread.run_sync(accepted.wait, GUARD)

    def schedule(tasks: TasksScheduler) -> None:
        try:
            outcome.append(tasks.schedule(nothing))
        except Exception as error:  # noqa: BLE001 - that is what is looked at
            outcome.append(error)

    threads: list[threading.Thread] = []
    anyio.run(main, backend=backend)
    closed.set()
    threads[0].join(GUARD)

    if isinstance(outcome[0], Exception):
        raise outcome[0]
    assert outcome[0].state is TaskState.CANCELLED


def test_a_thread_learns_of_a_loop_that_ended_without_a_shutdown() -> None:
    """Where nobody has left the runner, the error says that a task would never run (5.4)."""
    loop = asyncio.new_event_loop()
    runner = loop.run_until_complete(TaskRunner().__aenter__())
    loop.close()
    errors: list[Exception] = []

    def schedule() -> None:
        try:
            TasksScheduler(runner).schedule(nothing)
        except RunnerClosedError as error:
            errors.append(error)

    thread = threading.Thread(target=schedule)
    thread.start()
    thread.join(GUARD)

    assert "the event loop on which it was to run has ended" in str(errors[0])
    assert len(runner.registry) == 0


def test_a_runner_has_few_attributes() -> None:
    """CPython 3.11 finds those of an object with more than 30 in a slower way, for each task."""
    assert len(vars(TaskRunner())) <= 30
