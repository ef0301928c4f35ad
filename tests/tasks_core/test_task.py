from __future__ import annotations

import re
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from functools import wraps
from secrets import token_hex
from typing import Any

import anyio
import pytest
from anyio import from_thread, to_thread
from tasks_core import (
    Phase,
    Task,
    TaskCancelled,
    TaskConfig,
    TaskRunner,
    TasksError,
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
    logged,
    open_runner,
    over,
    records,
    still_task,
    until_cancelled,
)

pytestmark = pytest.mark.anyio


async def greet(name: str, *, mark: str = "!") -> str:
    return f"Hello {name}{mark}"


async def test_a_task_says_what_it_is() -> None:
    """The handle has the call, the settings, the phase and an id of its own (contract 2.6)."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        task = tasks.task(shield=True).schedule(greet, "you", mark="?")
        other = tasks.after_route.task(name="other").schedule(greet, "you")

        assert task.func is greet
        assert (task.args, task.kwargs) == (("you",), {"mark": "?"})
        assert task.config == TaskConfig(shield=True)
        assert (task.phase, other.phase) == (Phase.IMMEDIATE, Phase.AFTER_ROUTE)
        assert (task.name, other.name) == ("greet", "other")
        assert re.fullmatch("[0-9a-f]{32}", task.id)
        assert task.id != other.id


async def test_a_task_that_returns_succeeds() -> None:
    """It is pending, running, then succeeded, with its result (contract 2.6)."""
    go = anyio.Event()

    async def work() -> str:
        await go.wait()
        return "done"

    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(work)
        assert (task.state, task.started.is_set()) == (TaskState.PENDING, False)

        await task.started.wait()
        assert (task.state, task.result) == (TaskState.RUNNING, None)

        go.set()
        assert await task.wait() == "done"
        assert (task.state, task.result, task.exception) == (TaskState.SUCCEEDED, "done", None)


@pytest.mark.parametrize("func", [fail, fail_async])
async def test_a_task_that_raises_fails(func: Any) -> None:
    """Whoever waits gets what the function raised, and so does `exception` (contract 2.6)."""
    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(func)

        with pytest.raises(SomeError) as raised:
            await task.wait()
        assert task.state is TaskState.FAILED
        assert task.exception is raised.value
        assert task.result is None


async def test_a_skipped_task_says_so() -> None:
    """Whoever waits is told, also who waited before it was skipped (contract 1.6, 2.6)."""
    async with open_runner() as runner, anyio.create_task_group() as group:
        tasks = TasksScheduler(runner)
        task = tasks.after_route.task(name="mail").schedule(greet, "you")

        async def wait() -> None:
            with pytest.raises(TaskSkipped, match="task mail was skipped: its request failed"):
                await task.wait()

        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        tasks.reach(Phase.AFTER_ROUTE, failed=True)
        await wait()
        assert task.state is TaskState.SKIPPED
        assert task.result is None
        assert task.attempt == 0
        assert not task.cancel()


async def test_a_task_for_a_failure_says_that_there_was_none() -> None:
    """Whoever waits for a task that was skipped is told the outcome that was (2.6)."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        task = tasks.after_route.task(run_on="failure").schedule(greet, "you")
        tasks.reach(Phase.AFTER_ROUTE)
        with pytest.raises(TaskSkipped, match="its request succeeded, and it runs on failure"):
            await task.wait()


async def test_a_skipped_task_leaves_one_record(caplog: pytest.LogCaptureFixture) -> None:
    """The record names the task and the outcome; its level says how much that is (1.6)."""
    caplog.set_level("DEBUG", "tasks_core")
    async with open_runner() as runner:
        failure, success, answered = (TasksScheduler(runner) for _ in range(3))
        skipped = [
            failure.after_route.task(run_on="failure").schedule(greet, "you"),
            success.after_route.schedule(greet, "you"),
            answered.after_response.task(run_on="success").schedule(greet, "you"),
        ]
        failure.reach(Phase.AFTER_ROUTE)
        success.reach(Phase.AFTER_ROUTE, failed=True)
        answered.reach(Phase.AFTER_ROUTE)
        answered.fail()

    assert [task.state for task in skipped] == [TaskState.SKIPPED] * 3
    assert [record.levelname for record in records(caplog)] == ["DEBUG", "INFO", "WARNING"]
    for task, message in zip(skipped, logged(caplog), strict=True):
        assert task.id in message
    assert "its request succeeded, and it runs on failure" in logged(caplog)[0]
    for message in logged(caplog)[1:]:
        assert "its request failed, and it runs on success" in message


async def test_a_pending_task_that_is_cancelled_never_begins() -> None:
    """A task that waits for its phase is cancelled at once, and its phase leaves it (2.6)."""
    called: list[str] = []
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        task = tasks.after_route.schedule(called.append, "x")

        assert task.cancel()
        assert task.state is TaskState.CANCELLED
        tasks.reach(Phase.AFTER_ROUTE)
        with pytest.raises(TaskCancelled, match=r"task list.append was cancelled"):
            await task.wait()
        assert not task.cancel()
    assert called == []


async def test_a_cancelled_task_is_not_skipped_any_more(caplog: pytest.LogCaptureFixture) -> None:
    """A final state never changes, whatever the request's outcome (contract 2.6)."""
    caplog.set_level("INFO")
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        task = tasks.after_route.schedule(greet, "you")
        task.cancel()
        tasks.reach(Phase.AFTER_ROUTE, failed=True)

    assert task.state is TaskState.CANCELLED
    assert records(caplog) == []


async def test_a_cancelled_task_waits_for_no_phase() -> None:
    """`scheduled` does not list what will not run."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        tasks.after_route.schedule(greet, "you").cancel()

        assert tasks.after_route.scheduled == ()


@pytest.mark.parametrize("sync", [False, True])
async def test_a_task_cancelled_before_its_first_step_is_not_called(
    sync: bool,  # noqa: FBT001
) -> None:
    """A task that was handed over but has not begun never begins (contract 2.6)."""
    called: list[str] = []

    async def call() -> None:
        called.append("async")

    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        task = tasks.schedule(called.append, "sync") if sync else tasks.schedule(call)

        assert task.cancel()
        await over(task)
        await tasks.begun()
        assert (task.state, called) == (TaskState.CANCELLED, [])
        assert task.attempt == 0


async def test_a_running_async_task_can_be_cancelled() -> None:
    """It is cancelled at its next step, and its clean-up runs (contract 2.6, 5.5)."""
    steps: list[str] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
                steps.append("cleaned up")

    async with open_runner() as runner:
        task = TasksScheduler(runner).task(shield=True).schedule(work)
        await task.started.wait()

        assert task.cancel()
        with pytest.raises(TaskCancelled):
            await task.wait()
        assert (task.state, steps) == (TaskState.CANCELLED, ["cleaned up"])
        assert not task.cancel()


async def test_a_task_may_cancel_itself() -> None:
    """It goes on to its next step, and no further (contract 2.6)."""
    steps: list[str] = []

    async def work() -> None:
        current_task().cancel()
        steps.append("goes on")
        await anyio.lowlevel.checkpoint()
        steps.append("not here")

    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(work)
        await over(task)

    assert (task.state, steps) == (TaskState.CANCELLED, ["goes on"])


async def test_a_task_in_a_thread_cannot_be_stopped() -> None:
    """`cancel` says so, and the function ends as if nothing had been (contract 2.6)."""
    running, release = threading.Event(), threading.Event()

    def work() -> str:
        running.set()
        release.wait(GUARD)
        return "done"

    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(work)
        await to_thread.run_sync(running.wait, GUARD)

        assert not task.cancel()
        release.set()
        assert await task.wait() == "done"


async def test_a_task_in_a_thread_may_ask_whether_it_was_cancelled() -> None:
    """`anyio.from_thread.check_cancelled` ends a sync function that asks (contract 2.6)."""
    running, release = threading.Event(), threading.Event()

    def work() -> None:
        running.set()
        release.wait(GUARD)
        from_thread.check_cancelled()

    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(work)
        await to_thread.run_sync(running.wait, GUARD)
        task.cancel()
        release.set()

        await over(task)
        assert task.state is TaskState.CANCELLED


async def test_a_sync_task_that_waits_for_a_thread_can_be_cancelled() -> None:
    """A task without a thread has not begun, and the next one is given the slot (2.6)."""
    release = threading.Event()
    async with open_runner(thread_limit=1) as runner:
        tasks = TasksScheduler(runner)
        first, second, third = (tasks.schedule(release.wait, GUARD) for _ in range(3))
        await tasks.begun()

        assert second.cancel()
        release.set()
        await over(first, second, third)
        states = [task.state for task in (first, second, third)]
        assert states == [TaskState.SUCCEEDED, TaskState.CANCELLED, TaskState.SUCCEEDED]


async def test_cancel_tells_the_truth_whenever_it_is_called() -> None:
    """A sync task that says that it can be cancelled is never called (contract 2.6)."""
    for turns in range(6):
        called = threading.Event()
        async with open_runner() as runner:
            task = TasksScheduler(runner).schedule(called.set)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            effective = task.cancel()
            await over(task)

        if effective:
            assert (called.is_set(), turns) == (False, turns)
            assert (task.state, turns) == (TaskState.CANCELLED, turns)


async def test_a_task_can_be_cancelled_from_any_thread() -> None:
    """`cancel` works where `schedule` does (contract 2.3, 2.6)."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        running, waiting = (
            tasks.schedule(until_cancelled),
            tasks.after_route.schedule(until_cancelled),
        )
        await running.started.wait()

        assert await to_thread.run_sync(running.cancel)
        assert await to_thread.run_sync(waiting.cancel)
        await over(running, waiting)
        assert (running.state, waiting.state) == (TaskState.CANCELLED, TaskState.CANCELLED)


async def test_a_thread_that_cancels_too_late_changes_nothing() -> None:
    """Of two cancellations of a pending task one takes effect (contract 2.3, 2.6)."""
    async with open_runner() as runner:
        task = TasksScheduler(runner).after_route.schedule(until_cancelled)
        thread = threading.Thread(target=task.cancel)
        thread.start()
        thread.join(GUARD)  # its call waits for the event loop, which is blocked here

        assert task.cancel()
        await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()
        assert task.state is TaskState.CANCELLED


def test_a_task_is_identified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two threads that ask for the id at the same time both get the same (contract 2.6)."""
    together = threading.Barrier(2)

    def make(number: int) -> str:
        with suppress(threading.BrokenBarrierError):
            together.wait(0.1)  # the other one does not come if only one id is made
        return token_hex(number)

    monkeypatch.setattr("tasks_core._carrier.token_hex", make)
    task = still_task(greet, "you")
    ids: list[str] = []
    threads = [
        threading.Thread(target=lambda: ids.append(task.id), daemon=True),
        threading.Thread(target=lambda: ids.append(task._show_id()), daemon=True),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD)

    assert ids == [task.id] * 2


def test_showing_an_id_makes_no_task_known() -> None:
    """Only who asks for `id` can look the task up; a log or a `repr` shows the same (7.1)."""
    runner = TaskRunner()
    task = still_task(greet, "you", runner=runner)

    shown = task._show_id()
    assert shown in repr(task)
    assert runner.get(shown) is None
    assert task.id == shown
    assert runner.get(shown) is task


async def test_cancelling_who_waits_does_not_cancel_the_task() -> None:
    """A timeout around `wait` ends the waiting only (contract 2.6)."""
    go = anyio.Event()
    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(go.wait)
        await task.started.wait()

        with anyio.move_on_after(0) as waited:
            await task.wait()
        assert waited.cancelled_caught
        assert task.state is TaskState.RUNNING

        go.set()
        await task.wait()


async def test_many_may_wait() -> None:
    """All waiters get the result, those who come late as well (contract 2.6)."""
    go = anyio.Event()
    results: list[str] = []

    async def work() -> str:
        await go.wait()
        return "done"

    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(work)

        async def wait() -> None:
            results.append(await task.wait())

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            go.set()
        await wait()

    assert results == ["done"] * 4


async def test_a_sync_route_may_wait() -> None:
    """A worker thread waits through the event loop, for the start and for the end (2.3, 2.6)."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)

        def route() -> str:
            task = tasks.schedule(greet, "you")
            from_thread.run(task.started.wait)
            return from_thread.run(task.wait)

        assert await to_thread.run_sync(route) == "Hello you!"


def generates() -> Iterator[None]:
    yield


async def generates_later() -> AsyncIterator[None]:
    yield


async def returns_a_generator() -> Iterator[None]:
    return generates()


@wraps(generates)
def wraps_a_generator_function() -> object:
    return generates()


@contextmanager
def manages() -> Generator[None]:
    yield


@asynccontextmanager
async def manages_later() -> AsyncGenerator[None]:
    yield


async def returns_a_coroutine() -> Coroutine[Any, Any, str]:
    return greet("you")


LOOP = "generator, of which nothing has run: schedule a function that loops over it"
ENTER = "context manager, of which nothing has run: schedule a function that enters it"
AWAIT = "coroutine, of which nothing has run: await it in the function"

UNRUN: list[tuple[Any, str]] = [
    (wraps_a_generator_function, LOOP),
    (lambda: generates_later(), LOOP),  # noqa: PLW0108 - it hides what it calls
    (returns_a_generator, LOOP),
    (manages, ENTER),
    (manages_later, ENTER),
    (returns_a_coroutine, AWAIT),
]


@pytest.mark.parametrize(("func", "what"), UNRUN)
async def test_what_is_returned_and_has_not_run(
    caplog: pytest.LogCaptureFixture, func: Callable[[], object], what: str
) -> None:
    """2.2 The log says so, and who waits may run it."""
    async with open_runner() as runner:
        task = runner.task(name="rows").schedule(func)
        result = await task.wait()
        assert result is not None
    if isinstance(result, Coroutine):
        result.close()
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("Task rows (id=")
    assert said.endswith(f" has returned a {what}")


@pytest.mark.parametrize(
    "returned",
    [nullcontext(), threading.Lock(), range(1), anyio.Event],
    ids=lambda it: type(it).__name__,
)
async def test_what_is_returned_and_may_be_meant(
    caplog: pytest.LogCaptureFixture, returned: object
) -> None:
    """2.2 Nothing is said of results that do not come of a call that has run nothing."""
    async with open_runner() as runner:
        assert await runner.schedule(lambda: returned).wait() is returned
    assert not caplog.records


@pytest.mark.parametrize("phase", ["after_route", "after_response"])
async def test_who_waits_within_the_request_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, phase: str
) -> None:
    """2.6 A route that waits for a later phase of its own request never ends; the log says why."""
    monkeypatch.setattr("tasks_core._runner.WARN_EVERY", 0)
    results: list[object] = []

    async def wait(task: Task) -> None:
        results.append(await task.wait())

    async with open_runner() as runner, anyio.create_task_group() as group:
        with TasksScheduler(runner) as tasks:
            task = getattr(tasks, phase).task(name="render").schedule(greet, "you")
            group.start_soon(wait, task)  # as the route would
            with anyio.fail_after(GUARD):
                while not caplog.records:
                    await anyio.wait_all_tasks_blocked()
            assert not results
    assert results == ["Hello you!"]
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("Task render (id=")
    assert f"to begin in {phase}: a route that waits for it never ends. Schedule it at on" in said


async def test_a_task_that_waits_for_a_later_phase_is_not_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """2.6 A task of the request may wait: that does not keep the request from ending."""
    monkeypatch.setattr("tasks_core._runner.WARN_EVERY", 0)
    async with open_runner() as runner, anyio.create_task_group() as group:
        with TasksScheduler(runner) as tasks:
            later = tasks.after_response.schedule(greet, "you")
            told = tasks.after_response.task(name="told").schedule(greet, "you")
            waits = tasks.schedule(later.wait)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(told.wait)  # as the route would, and after the task
            with anyio.fail_after(GUARD):
                while not caplog.records:
                    await anyio.wait_all_tasks_blocked()
        assert await waits.wait() == "Hello you!"
    (record,) = caplog.records
    assert record.getMessage().startswith("Task told ")


@pytest.mark.parametrize("whose", ["begins in time", "another request"])
async def test_who_waits_otherwise_is_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, whose: str
) -> None:
    """2.6 Another request's task, and one that begins in time, may be waited for."""
    if whose == "another request":
        monkeypatch.setattr("tasks_core._runner.WARN_EVERY", 0)
    async with open_runner() as runner, anyio.create_task_group() as group:
        with TasksScheduler(runner) as tasks:
            task = tasks.after_response.schedule(greet, "you")
            with TasksScheduler(runner) if whose == "another request" else nullcontext():
                group.start_soon(task.wait)
                await anyio.wait_all_tasks_blocked()
        assert await task.wait() == "Hello you!"
    assert not caplog.records


async def test_waiting_includes_the_error_handler() -> None:
    """Whoever waits goes on when the handler has ended (contract 2.6, 4.3)."""
    go = anyio.Event()
    handled: list[Task] = []

    async def handle(task: Task, error: Exception) -> None:
        await go.wait()
        handled.append(task)

    async with open_runner() as runner, anyio.create_task_group() as group:
        task = TasksScheduler(runner).task(on_error=handle).schedule(fail_async)

        async def wait() -> None:
            with pytest.raises(SomeError):
                await task.wait()
            assert handled == [task]

        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert task.state is TaskState.FAILED
        assert not task.cancel()
        go.set()


@pytest.mark.parametrize("skips", [False, True])
async def test_started_is_set_where_a_task_ends_without_beginning(
    skips: bool,  # noqa: FBT001
) -> None:
    """2.6 Who waits for the start of a task that is skipped or cancelled does not wait for ever."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        task, unasked = (tasks.after_response.schedule(fail_async) for _ in range(2))
        started = task.started
        assert not started.is_set()
        if skips:
            tasks.fail()
        else:
            task.cancel()
            unasked.cancel()
        with anyio.fail_after(GUARD):
            await started.wait()
            await unasked.started.wait()
        assert task.state is (TaskState.SKIPPED if skips else TaskState.CANCELLED)


async def test_started_is_one_event_for_all() -> None:
    """The event may be asked for before and after the function was called (contract 2.6)."""
    async with open_runner() as runner:
        task, late = (TasksScheduler(runner).schedule(greet, "you") for _ in range(2))
        before = task.started
        await over(task, late)

        assert before is task.started
        assert before.is_set()
        assert late.started.is_set()


async def test_started_is_one_event_for_two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that ask at the same time wait for the same event (contract 2.3, 2.6)."""
    together = threading.Barrier(2)
    event = anyio.Event

    def make() -> anyio.Event:
        with suppress(threading.BrokenBarrierError):
            together.wait(0.1)  # the other one does not come if only one event is made
        return event()

    async with open_runner() as runner:
        task = TasksScheduler(runner).after_route.schedule(greet, "you")
        events: list[anyio.Event] = []
        threads = [
            threading.Thread(target=lambda: events.append(task.started), daemon=True)
            for _ in range(2)
        ]
        monkeypatch.setattr("tasks_core._task.Event", make)
        for thread in threads:
            thread.start()
        for thread in threads:
            await to_thread.run_sync(thread.join, GUARD)
        monkeypatch.undo()

        assert events[0] is events[1]


def test_a_repr_shows_no_arguments() -> None:
    """Arguments may hold secrets, so neither args nor kwargs are shown (contract 4.2)."""
    task = still_task(greet, "secret", mark="secret")

    assert repr(task) == f"<Task greet id={task.id} phase=immediate state=pending>"


@pytest.mark.parametrize("sync", [False, True])
async def test_the_current_task_is_known_in_all_that_it_calls(
    sync: bool,  # noqa: FBT001
) -> None:
    """`current_task` works in the function, in threads and in its error handler (2.6)."""
    seen: list[Task] = []

    def look() -> None:
        seen.append(current_task())
        raise SomeError

    async def look_async() -> None:
        await to_thread.run_sync(look)

    def handle(task: Task, error: Exception) -> None:
        seen.append(current_task())

    async with open_runner() as runner:
        batch = TasksScheduler(runner).task(on_error=handle)
        task = batch.schedule(look) if sync else batch.schedule(look_async)
        await over(task)

        assert seen == [task, task]
        with pytest.raises(TasksError):
            current_task()


@pytest.mark.parametrize("sync", [False, True])
async def test_calling_a_task_runs_its_function_again(sync: bool) -> None:  # noqa: FBT001
    """The call is the same, and the task's own outcome does not change (contract 4.4)."""
    calls: list[str] = []

    def work(value: str, *, end: str) -> str:
        calls.append(value + end)
        return value

    async def work_async(value: str, *, end: str) -> str:
        return work(value, end=end)

    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        task = (
            tasks.schedule(work, "a", end="b") if sync else tasks.schedule(work_async, "a", end="b")
        )
        await task.wait()

        assert await task() == "a"
        assert calls == ["ab", "ab"]
        assert task.state is TaskState.SUCCEEDED


async def test_calling_a_failed_task_calls_no_handler() -> None:
    """What the function raises again is the caller's (contract 4.4)."""
    handled: list[Exception] = []

    def handle(task: Task, error: Exception) -> None:
        handled.append(error)

    async with open_runner() as runner:
        task = TasksScheduler(runner).task(on_error=handle).schedule(fail)
        await over(task)

        with pytest.raises(SomeError) as raised:
            await task()
        assert handled == [task.exception]
        assert raised.value is not task.exception
