"""Other event loops than the one on which the runner was entered; other processes (2.7, 5.7)."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest
import trio
from anyio import from_thread
from tasks_core import (
    Every,
    Periodic,
    Phase,
    RunnerClosedError,
    Task,
    TaskConfig,
    TaskRunner,
    TasksScheduler,
    TaskState,
    TasksUninitializedError,
    current_tasks,
)
from tasks_core._exceptions import Closed, Missing
from tasks_core.asgi import ApplicationTasks

from tests.tasks_core.stage import GUARD, logged, over


@pytest.fixture
def session() -> Generator[asyncio.AbstractEventLoop]:
    """An event loop of the whole session, as pytest-asyncio has one."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def runner(session: asyncio.AbstractEventLoop) -> Generator[TaskRunner]:
    """A runner that was entered on the session's loop."""
    runner = TaskRunner()
    session.run_until_complete(runner.__aenter__())
    yield runner
    session.run_until_complete(runner.__aexit__(None, None, None))


def test_tasks_run_on_the_loop_that_serves_the_request(runner: TaskRunner) -> None:
    """2.7 Tasks of every phase, sync and async, with `wait`, `on_error` and their order."""
    log: list[str] = []

    async def note(what: str) -> asyncio.AbstractEventLoop:
        log.append(what)
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    async def fail() -> None:
        raise ValueError("it failed")

    def handle(task: Task, error: Exception) -> None:
        log.append("handled")

    async def test() -> None:
        here = asyncio.get_running_loop()
        with TasksScheduler(runner) as tasks:
            made = [tasks.schedule(note, f"immediate {number}") for number in range(3)]
            made += [tasks.after_route.schedule(note, f"route {number}") for number in range(3)]
            failing = tasks.after_response.task(on_error=handle)
            failed = failing.schedule(fail)
            made.append(tasks.after_response.schedule(note, "response"))
            sync = tasks.schedule(threading.get_ident)
            tasks.reach(Phase.AFTER_ROUTE)
            await tasks.begun()
            assert log == [f"{phase} {n}" for phase in ("immediate", "route") for n in range(3)]
        assert [await task.wait() for task in made] == [here] * 7
        assert await sync.wait() != threading.get_ident()
        with pytest.raises(ValueError, match="it failed"):
            await failed.wait()
        assert sorted(log[6:]) == ["handled", "response"]
        assert runner.get(made[0].id) is not None

    for _ in range(2):  # each test has a loop of its own
        log.clear()
        asyncio.run(test())


def test_current_tasks_of_the_lifespan_stay_with_its_loop(
    runner: TaskRunner, session: asyncio.AbstractEventLoop
) -> None:
    """2.7 A scheduler keeps its loop: its tasks wait until that runs again, and are not lost."""

    async def make() -> TasksScheduler:
        return TasksScheduler(runner)

    async def nothing() -> None: ...

    async def schedule() -> Task[[], None]:
        task = tasks.schedule(nothing)
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            await task.wait()
        return task

    tasks = session.run_until_complete(make())
    task = asyncio.run(schedule())
    states = [task.state]
    session.run_until_complete(over(task))
    states.append(task.state)
    assert states == [TaskState.PENDING, TaskState.SUCCEEDED]


def test_another_loop_ends_before_its_tasks(runner: TaskRunner) -> None:
    """5.7 What a loop that ends cuts short is cancelled, with its clean-up."""
    log: list[str] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append("cleaned up")

    async def test() -> Task[[], None]:
        task = TasksScheduler(runner).schedule(work)
        await task.started.wait()
        return task

    task = asyncio.run(test())
    assert task.state is TaskState.CANCELLED
    assert log == ["cleaned up"]
    assert len(runner.registry) == 0


def test_a_shutdown_does_not_wait_for_a_loop_that_stands(
    caplog: pytest.LogCaptureFixture, session: asyncio.AbstractEventLoop
) -> None:
    """5.4 Tasks of a loop that does not run are named, and are cancelled if it ever goes on."""
    function, forgotten = asyncio.new_event_loop(), asyncio.new_event_loop()
    runner = TaskRunner()
    session.run_until_complete(runner.__aenter__())

    async def schedule(name: str) -> Task[[], None]:
        task = TasksScheduler(runner).task(name=name, shield=True).schedule(anyio.sleep_forever)
        await task.started.wait()
        return task

    standing = function.run_until_complete(schedule("standing"))
    closed = forgotten.run_until_complete(schedule("closed"))
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        forgotten.close()

    session.run_until_complete(runner.__aexit__(None, None, None))

    (left,) = logged(caplog, "WARNING")
    assert "standing" in left
    assert "its event loop, which does not run" in left
    assert closed.state is TaskState.CANCELLED
    states = [standing.state]
    function.run_until_complete(over(standing))
    states.append(standing.state)
    assert states == [TaskState.RUNNING, TaskState.CANCELLED]
    function.close()
    closed._handle = None
    with warnings.catch_warnings(action="ignore"):
        gc.collect()


def test_a_shutdown_ends_the_tasks_of_a_loop_that_is_closed_once(
    caplog: pytest.LogCaptureFixture, session: asyncio.AbstractEventLoop
) -> None:
    """11.1 Also those of a key, of which the end of one would begin the next."""
    forgotten = asyncio.new_event_loop()
    told: list[str] = []
    runner = TaskRunner(observers=[lambda task: told.append(f"{task.name} {task.state}")])
    session.run_until_complete(runner.__aenter__())

    async def schedule() -> None:
        tasks = TasksScheduler(runner)
        for name in ("one", "two", "three"):
            made = tasks.task(name=name, key="key", limit=1, shield=True)
            made.schedule(anyio.sleep_forever)

    forgotten.run_until_complete(schedule())
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        forgotten.close()

    session.run_until_complete(runner.__aexit__(None, None, None))

    ended = [what for what in told if what.endswith("cancelled")]
    assert ended == ["one cancelled", "two cancelled", "three cancelled"]
    (left,) = logged(caplog, "WARNING")
    assert left.count("its event loop, which does not run") == 3
    with warnings.catch_warnings(action="ignore"):
        gc.collect()


@pytest.mark.parametrize(("phase_comes", "reported"), [(False, 3), (True, 2)])
def test_what_a_loop_that_has_ended_leaves_keeps_nobody_waiting(
    runner: TaskRunner, caplog: pytest.LogCaptureFixture, *, phase_comes: bool, reported: int
) -> None:
    """2.7 Of a key, or a function that is unique: it is cancelled, and reported once (5.3).

    The first that was started is cancelled as the loop ends, and starts the next one.
    """

    async def end() -> list[Task]:
        tasks = TasksScheduler(runner)
        waiting = tasks.after_response.task(key="key", limit=1)
        made = [waiting.schedule(anyio.sleep, 3600) for _ in range(3)]
        if phase_comes:
            tasks.reach(Phase.AFTER_RESPONSE)
        return made

    async def go_on() -> None:
        tasks = TasksScheduler(runner)
        one = tasks.task(key="key", limit=1, unique=True).schedule(anyio.sleep, 0)
        assert one not in left
        await one.wait()

    left = asyncio.run(end())
    asyncio.run(go_on())
    assert [task.state for task in left] == [TaskState.CANCELLED] * 3
    *others, report = logged(caplog, "WARNING")
    assert report.startswith("An event loop that has ended left unfinished: ")
    assert report.count("cancelled") == reported
    assert len(others) == 3 - reported
    assert len(runner.registry._living) <= 2


def test_loops_that_have_ended_are_forgotten(runner: TaskRunner) -> None:
    """5.7 A session of many tests keeps no loop alive."""

    async def test() -> weakref.ref[asyncio.AbstractEventLoop]:
        await TasksScheduler(runner).schedule(anyio.lowlevel.checkpoint).wait()
        return weakref.ref(asyncio.get_running_loop())

    loops = [asyncio.run(test()) for _ in range(5)]
    gc.collect()
    assert sum(loop() is not None for loop in loops) <= 1  # the last is forgotten by the next


def test_a_loop_of_another_thread_cannot_serve(runner: TaskRunner) -> None:
    """2.7 A request that is served there is refused its tasks, with the cause that is true."""

    async def serve() -> None:
        TasksScheduler(runner)

    with ThreadPoolExecutor(1) as pool:
        refused = pool.submit(asyncio.run, serve())
        with pytest.raises(TasksUninitializedError) as raised:
            refused.result(GUARD)
    assert raised.value.missing is Missing.OTHER_THREAD
    assert "an event loop in another thread" in str(raised.value)


def test_a_trio_loop_of_the_same_thread_cannot_serve(runner: TaskRunner) -> None:
    """2.7 Tasks of trio need a place in it, which a runner of another loop does not have."""

    async def serve() -> None:
        TasksScheduler(runner)

    with pytest.raises(TasksUninitializedError) as raised:
        anyio.run(serve, backend="trio")
    assert raised.value.missing is Missing.OTHER_LOOP


def test_a_thread_with_a_loop_schedules(runner: TaskRunner) -> None:
    """2.3 A thread that was given the tasks schedules, whatever else runs in it."""

    async def schedule() -> Task[[], int]:
        return current_tasks().schedule(threading.get_ident)

    async def test() -> None:
        with TasksScheduler(runner):
            context = contextvars.copy_context()
            task = await anyio.to_thread.run_sync(lambda: context.run(asyncio.run, schedule()))
            assert isinstance(await task.wait(), int)

    asyncio.run(test())


def test_a_plain_thread_uses_the_runners_own_loop() -> None:
    """2.3 Where no event loop runs a scheduler can be made, and its tasks run on the runner's."""

    async def work() -> int:
        return threading.get_ident()

    with (
        from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(TaskRunner()) as runner,
    ):
        task = TasksScheduler(runner).schedule(work)
        portal.call(over, task)
        assert task.result == portal.call(threading.get_ident)


@pytest.mark.parametrize("here", ["asyncio", "trio"])
@pytest.mark.parametrize("there", ["asyncio", "trio"])
def test_a_thread_with_a_loop_schedules_without_a_request(here: str, there: str) -> None:
    """2.3 By the runner, too: such tasks run on that one's loop, whatever loop the thread has."""
    nightly = Periodic(threading.get_ident, Every(hours=1), TaskConfig(name="nightly"))
    runner = TaskRunner(periodic=[nightly])
    early = runner.task(name="early")

    async def work() -> int:
        return threading.get_ident()

    async def schedule() -> tuple[list[Task[[], int]], Task[[], object]]:
        tasks = [runner.schedule(work), runner.task(name="again").schedule(work)]
        return [early.schedule(work), *tasks], runner.periodic["nightly"].run()

    with (
        from_thread.start_blocking_portal(there) as portal,
        portal.wrap_async_context_manager(runner),
    ):
        tasks, last = trio.run(schedule) if here == "trio" else asyncio.run(schedule())
        for task in (*tasks, last):
            portal.call(over, task)
        assert [task.result for task in tasks] == [portal.call(threading.get_ident)] * 3
    assert isinstance(last.result, int)


def test_a_loop_that_ended_without_the_runner() -> None:
    """5.4 A task that would never run is refused, and nothing of it stays."""
    loop = asyncio.new_event_loop()
    runner = loop.run_until_complete(TaskRunner().__aenter__())
    loop.close()
    with pytest.raises(RunnerClosedError) as raised:
        TasksScheduler(runner).task(name="late").schedule(len, "")
    assert raised.value.args == ("late", Closed.LOOP_ENDED)
    assert len(runner.registry) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_is_refused() -> None:
    """2.7 A forked process has neither the loop nor the lock of its parent: no task is lost."""

    async def main() -> int:
        async with TaskRunner() as runner:
            tasks = TasksScheduler(runner)
            holding, release = threading.Event(), threading.Event()

            def hold() -> None:  # the lock, as a thread that schedules may in that moment
                with runner._lock:
                    holding.set()
                    release.wait(GUARD)

            thread = threading.Thread(target=hold)
            thread.start()
            await anyio.to_thread.run_sync(holding.wait, GUARD)
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
                child = os.fork()
            if child == 0:
                try:
                    tasks.schedule(len, "")
                except RunnerClosedError as error:
                    os._exit(7 if error.args[1] is Closed.FORKED else 1)
                finally:
                    os._exit(2)
            release.set()
            thread.join(GUARD)
            status = (await anyio.to_thread.run_sync(os.waitpid, child, 0))[1]
            assert await tasks.schedule(len, "four").wait() == 4  # the parent's goes on
            return os.waitstatus_to_exitcode(status)

    assert asyncio.run(main()) == 7


@pytest.mark.parametrize("way", ["schedule", "configured", "of_the_lifespan", "cancel"])
def test_a_signal_handler_wakes_the_event_loop(way: str) -> None:
    """2.3 It is called within the loop's wait for events, which else goes on as long as before."""

    async def main() -> None:
        over, seen = asyncio.Event(), list[bool]()

        async def note() -> None:
            over.set()

        async def live() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                over.set()

        async with ApplicationTasks().run() as runner:
            living = runner.schedule(live)
            await living.started.wait()
            configured, tasks = runner.task(name="configured"), current_tasks()
            handle: Callable[[], object] = {
                "schedule": lambda: runner.schedule(note),
                "configured": lambda: configured.schedule(note),
                "of_the_lifespan": lambda: tasks.schedule(note),
                "cancel": living.cancel,
            }[way]
            selector = vars(asyncio.get_running_loop())["_selector"]
            select = selector.select

            def wait(timeout: float | None) -> object:
                if timeout == 0 or seen:
                    return select(timeout)
                handle()
                events = select(0)  # as if it were the time that is left
                seen.append(bool(events))
                return events

            selector.select = wait
            with anyio.fail_after(GUARD):
                await over.wait()
        assert seen == [True]

    asyncio.run(main())
