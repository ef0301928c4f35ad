"""The blocks of `tasks_core.testing` around schedulers without a framework, or a middleware."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import anyio
import pytest
from anyio import from_thread, to_thread
from anyio.from_thread import BlockingPortal
from tasks_core import (
    Every,
    Periodic,
    Phase,
    PhaseScheduler,
    RunnerClosedError,
    Task,
    TaskConfig,
    TaskRunner,
    TasksScheduler,
    TaskState,
)
from tasks_core.testing import RecordedTasks, TasksBlock, drain, inline, record

from tests.tasks_core.stage import GUARD, Frozen, SomeError, fail, open_runner, over

pytestmark = pytest.mark.anyio


def at(tasks: TasksScheduler, phase: Phase) -> PhaseScheduler:
    batches = {Phase.AFTER_ROUTE: tasks.after_route, Phase.AFTER_RESPONSE: tasks.after_response}
    return batches.get(phase, tasks.task())


class Started(threading.Event):
    """Set by a task; a test in another thread waits for it."""

    def wait_for_it(self) -> None:
        assert self.wait(GUARD)


class Client:
    """A client with an event loop in a thread of its own, and an application there."""

    def __init__(self, portal: BlockingPortal, runner: TaskRunner) -> None:
        self.portal = portal
        self.runner = runner

    def request(self, func: Callable[[], object], name: str | None = None) -> Task:
        async def serve() -> Task:
            with TasksScheduler(self.runner) as tasks:
                return tasks.task(name=name).schedule(func)

        return self.portal.call(serve)


@contextmanager
def open_client(backend: str = "asyncio") -> Generator[Client]:
    with (
        from_thread.start_blocking_portal(backend) as portal,
        portal.wrap_async_context_manager(TaskRunner()) as runner,
    ):
        yield Client(portal, runner)


# Draining.


@pytest.mark.parametrize("phase", list(Phase), ids=str)
@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_drain_waits_for_all_tasks(phase: Phase, kind: str) -> None:
    """Leaving the block waits for tasks of each phase and kind, and for what these schedule."""
    log: list[str] = []

    async def act() -> None:
        await anyio.lowlevel.checkpoint()
        log.append("async")

    def act_in_thread() -> None:
        log.append("sync")

    async with open_runner() as runner, drain() as block:
        with TasksScheduler(runner) as tasks:

            async def first() -> None:
                await anyio.lowlevel.checkpoint()
                at(tasks, phase).schedule(act if kind == "async" else act_in_thread)

            at(tasks, phase).schedule(first)
        await tasks.begun()
        assert log == []  # the request waits for none, only the block does
    assert log == [kind]
    assert [task.state for task in block.tasks] == [TaskState.SUCCEEDED] * 2


@pytest.mark.parametrize("by", ["runner", "periodic"])
@pytest.mark.parametrize("make", [drain, inline])
async def test_drain_waits_for_what_tasks_schedule_by_new_schedulers(
    make: Callable[[], TasksBlock], by: str
) -> None:
    """What a task schedules without a request, while the block is left, is waited for (7.5)."""
    ended: list[str] = []

    async def child() -> None:
        await anyio.wait_all_tasks_blocked()
        ended.append("child")

    async def parent() -> None:
        await anyio.wait_all_tasks_blocked()
        if by == "runner":
            runner.task(name="child").schedule(child)
        else:
            runner.periodic["child"].run()

    periodic = Periodic(child, Every(days=1), TaskConfig(name="child"))
    async with open_runner(periodic=[periodic]) as runner:
        async with make() as block:
            runner.schedule(parent)
        assert ended == ["child"]
    assert [task.name for task in block.tasks][1:] == ["child"]


async def test_drain_waits_for_what_tasks_without_its_context_schedule() -> None:
    """So it is where the request came from a thread of a pool, whose context names no block."""
    ended: list[str] = []

    async def parent() -> None:
        await anyio.wait_all_tasks_blocked()
        runner.schedule(ended.append, "child")

    async with open_runner() as runner:
        async with drain():
            contextvars.Context().run(runner.schedule, parent)
        assert ended == ["child"]


async def test_drain_waits_for_error_handlers() -> None:
    """A task is over when its error handler is; what it raised is raised all the same."""
    handled: list[str] = []

    async def handle(task: Task, error: Exception) -> None:
        await anyio.lowlevel.checkpoint()
        handled.append(f"{task.name} {error}")

    async def test(runner: TaskRunner) -> None:
        async with drain():
            TasksScheduler(runner).task(on_error=handle, name="x").schedule(fail)

    async with open_runner() as runner:
        with pytest.raises(SomeError, match="it failed"):
            await test(runner)
    assert handled == ["x it failed"]


@pytest.mark.parametrize("make", [drain, inline])
async def test_several_failures_come_as_a_group(make: Callable[[], TasksBlock]) -> None:
    """Of several tasks that fail, the exceptions come in a group, in the order of scheduling."""
    errors = [SomeError(1), SomeError(2)]

    async def raise_it(error: Exception) -> None:
        raise error

    async def test(runner: TaskRunner) -> None:
        async with make():
            tasks = TasksScheduler(runner)
            for error in errors:
                tasks.schedule(raise_it, error)

    async with open_runner() as runner:
        with pytest.raises(ExceptionGroup, match=r"2 tasks failed") as raised:
            await test(runner)
    assert list(raised.value.exceptions) == errors


@pytest.mark.parametrize("make", [drain, inline])
async def test_failures_may_be_left_alone(make: Callable[..., TasksBlock]) -> None:
    """With raise_errors=False the test asks the tasks themselves."""
    async with open_runner() as runner:
        async with make(raise_errors=False) as block:
            TasksScheduler(runner).schedule(fail)
        assert isinstance(block.tasks[0].exception, SomeError)


@pytest.mark.parametrize("make", [drain, inline])
async def test_the_guard_names_what_lives(make: Callable[..., TasksBlock]) -> None:
    """The guard's error names each task that lives, with its state, its phase and its age."""

    async def test(runner: TaskRunner) -> None:
        async with make(timeout=0):
            tasks = TasksScheduler(runner)
            await tasks.schedule(int).wait()
            tasks.after_route.task(name="mail").schedule(int)
            await tasks.schedule(anyio.sleep_forever).started.wait()

    async with open_runner() as runner:
        with pytest.raises(TimeoutError) as raised:
            await test(runner)
    message = str(raised.value)
    assert message.startswith("Tasks have not ended within 0 s: mail (pending, phase=after_route,")
    assert "sleep_forever (running, phase=immediate, age=" in message
    assert message.count("age=") == 2


async def test_the_guard_tells_of_failures_too() -> None:
    """What has failed may be why the others wait: it is a note of the guard's error."""

    async def test(runner: TaskRunner) -> None:
        async with drain(timeout=0):
            tasks = TasksScheduler(runner)
            await over(tasks.task(name="breaks").schedule(fail))
            tasks.after_route.schedule(int)

    async with open_runner() as runner:
        with pytest.raises(TimeoutError) as raised:
            await test(runner)
    (note,) = raised.value.__notes__
    assert note.startswith("Task breaks failed: Traceback")
    assert note.endswith("SomeError: it failed\n")


@pytest.mark.parametrize("make", [drain, inline])
@pytest.mark.parametrize("kind", [ValueError, Frozen])
async def test_the_tests_own_error_passes(
    make: Callable[..., TasksBlock], kind: type[Exception]
) -> None:
    """What the body raises passes unchanged; what its tasks did, or still do, is told in notes.

    Also of an error that refuses whatever is set on it.
    """
    own = kind("the test's own")

    async def test(runner: TaskRunner) -> None:
        async with make(timeout=0):
            tasks = TasksScheduler(runner)
            await over(tasks.task(name="breaks").schedule(fail))
            tasks.after_route.task(name="waits").schedule(int)
            raise own

    async with open_runner() as runner:
        with pytest.raises(kind, match="the test's own") as raised:
            await test(runner)
    assert raised.value is own
    failure, late = own.__notes__
    assert failure.startswith("Task breaks failed: Traceback")
    assert late.startswith("Tasks have not ended within 0 s: waits (pending")


async def test_a_failure_that_the_test_met_itself() -> None:
    """An error that a task raised and the test let through has no note that repeats it."""

    async def test(runner: TaskRunner) -> None:
        async with drain():
            await TasksScheduler(runner).schedule(fail).wait()

    async with open_runner() as runner:
        with pytest.raises(SomeError) as raised:
            await test(runner)
    assert not hasattr(raised.value, "__notes__")


@pytest.mark.parametrize("make", [drain, inline])
async def test_what_a_shutdown_has_cut_short_is_told(make: Callable[..., TasksBlock]) -> None:
    """A block around the application's own life does not pass over tasks that this has ended."""

    async def test(block: TasksBlock) -> None:
        async with block, open_runner() as runner:
            tasks = TasksScheduler(runner)
            assert await tasks.schedule(int).wait() == 0
            tasks.task(shield=True).schedule(anyio.wait_all_tasks_blocked)
            tasks.task(daemon=True).schedule(anyio.sleep_forever)
            tasks.schedule(anyio.sleep_forever).cancel()
            tasks.task(name="mail").schedule(anyio.sleep_forever)
            tasks.after_route.task(name="a\nb").schedule(int)

    with pytest.raises(RuntimeError) as raised:
        await test(make())
    assert str(raised.value) == (
        "The application's shutdown has cut tasks short: mail (phase=immediate), a\\nb "
        "(phase=after_route). Leave the block before that: `with TestClient(app) as client, "
        "drain():`; around `drained_tasks` the client is a fixture, too. A task that is to run "
        "until the shutdown has daemon=True."
    )
    await test(make(raise_errors=False))


async def test_what_a_shutdown_has_cut_short_is_told_in_notes() -> None:
    """So it is a note of the test's own error; and what has failed is one of it."""

    async def test(*, raises: bool) -> None:
        async with drain(raise_errors=not raises), open_runner() as runner:
            tasks = TasksScheduler(runner)
            await over(tasks.task(name="breaks").schedule(fail))
            tasks.after_route.task(name="waits").schedule(int)
            if raises:
                raise SomeError

    with pytest.raises(SomeError) as own:
        await test(raises=True)
    failure, cut = own.value.__notes__
    assert failure.startswith("Task breaks failed: Traceback")
    assert "has cut tasks short: waits (phase=after_route)" in cut
    with pytest.raises(RuntimeError, match="has cut tasks short: waits") as raised:
        await test(raises=False)
    (failure,) = raised.value.__notes__
    assert failure.startswith("Task breaks failed: Traceback")


@pytest.mark.parametrize("make", [drain, inline])
async def test_with_is_refused_on_the_own_loop(make: Callable[..., TasksBlock]) -> None:
    """`with` around tasks of the test's own loop is refused, even if they are over already."""

    async def test(runner: TaskRunner) -> None:
        with make():
            await TasksScheduler(runner).schedule(int).wait()

    async with open_runner() as runner:
        with pytest.raises(RuntimeError, match=r"write `async with`, not `with`"):
            await test(runner)


@pytest.mark.parametrize("make", [drain, inline])
async def test_with_is_refused_in_notes(make: Callable[..., TasksBlock]) -> None:
    """The refusal does not replace the test's own error."""

    def test(runner: TaskRunner) -> None:
        with make():
            TasksScheduler(runner).schedule(int)
            fail()

    async with open_runner() as runner:
        with pytest.raises(SomeError) as raised:
            test(runner)
    assert raised.value.__notes__ == [
        "The tasks run on this thread's event loop: write `async with`, not `with`."
    ]


def test_with_around_an_event_loop(anyio_backend: str) -> None:
    """`with` may surround all that an event loop does."""

    async def serve() -> None:
        async with open_runner() as runner:
            await TasksScheduler(runner).schedule(int).wait()

    with drain() as block:
        anyio.run(serve, backend=anyio_backend)
    assert [task.state for task in block.tasks] == [TaskState.SUCCEEDED]


def test_a_loop_that_does_not_run() -> None:
    """Nothing waits for tasks of a loop that this thread has left: the error comes at once."""

    async def schedule(runner: TaskRunner) -> None:
        TasksScheduler(runner).schedule(anyio.sleep_forever)

    def test(loop: asyncio.Runner, runner: TaskRunner) -> None:
        with drain(timeout=math.inf):
            loop.run(schedule(runner), context=contextvars.copy_context())

    with asyncio.Runner() as loop:
        runner = TaskRunner()
        loop.run(runner.__aenter__())
        with pytest.raises(RuntimeError, match=r"sleep_forever .* another event loop"):
            test(loop, runner)
        loop.run(runner.__aexit__(None, None, None))


# A client's thread.

each_backend = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@each_backend
@pytest.mark.parametrize("make", [drain, inline])
def test_tasks_on_the_loop_of_another_thread(make: Callable[..., TasksBlock], backend: str) -> None:
    """Leaving `with` waits for tasks that live on the event loop of a client's thread."""
    go = Started()
    with open_client(backend) as client:
        with make() as block:
            task = client.request(go.wait_for_it)
            threading.Timer(0, go.set).start()
        assert block.tasks == [task]
        assert task.state is TaskState.SUCCEEDED


async def test_a_client_with_a_thread_in_an_async_test() -> None:
    """Leaving `async with` waits for tasks of the test's loop and of a client's thread."""
    go, log = Started(), list[str]()

    async def there() -> None:
        await to_thread.run_sync(go.wait_for_it)
        log.append("there")

    async def here() -> None:
        await anyio.lowlevel.checkpoint()
        log.append("here")
        go.set()

    with open_client() as client:
        async with open_runner() as runner, drain():
            client.request(there)
            TasksScheduler(runner).schedule(here)
        assert log == ["here", "there"]


def test_tasks_that_schedule_on_another_loop() -> None:
    """What a task on one event loop schedules on another is waited for there."""
    ended: list[str] = []
    with open_client() as one, open_client() as other:
        with drain():
            far = TasksScheduler(other.runner)

            def go_on() -> None:
                far.schedule(ended.append, "far")

            one.request(go_on)
        assert ended == ["far"]


def test_two_applications_on_one_loop() -> None:
    """Of two runners on one loop, the one that has ended is not asked to wait."""
    go = Started()
    with open_client("trio") as client:
        with drain():
            task = client.request(go.wait_for_it)
            with client.portal.wrap_async_context_manager(TaskRunner()) as runner:
                client.portal.call(Client(client.portal, runner).request(int).wait)
            threading.Timer(0, go.set).start()
        assert task.state is TaskState.SUCCEEDED


def wait_for(client: Client, func: Callable[[], object]) -> None:
    with drain(timeout=0):
        client.request(func)


@each_backend
def test_the_guard_of_another_thread(backend: str) -> None:
    """The guard holds, and names what lives, where tasks live on the loop of a client's thread."""
    message = r"within 0 s: sleep_forever \("
    with open_client(backend) as client, pytest.raises(TimeoutError, match=message):
        wait_for(client, anyio.sleep_forever)


def test_a_loop_that_hangs() -> None:
    """The guard holds where a task holds up its whole event loop, in a client's thread."""
    go = Started()

    async def hold_up() -> None:
        go.wait_for_it()

    with open_client() as client:
        with pytest.raises(TimeoutError, match="hold_up"):
            wait_for(client, hold_up)
        go.set()


async def test_a_wait_for_another_thread_can_be_cancelled() -> None:
    """A test that is cancelled does not wait for the client's thread."""
    go = Started()

    async def test(client: Client) -> None:
        async with drain(timeout=math.inf):
            client.request(go.wait_for_it)

    with open_client() as client:
        async with anyio.create_task_group() as group:
            group.start_soon(test, client)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        go.set()


# Inline.


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_inline_waits_before_the_response(kind: str) -> None:
    """Who serves by hand waits for the request's tasks where it awaits `begun`, and `settle`."""
    log: list[str] = []

    async def note(what: str) -> None:
        await anyio.lowlevel.checkpoint()
        log.append(what)

    function: Callable[[str], Any] = note if kind == "async" else log.append
    async with open_runner() as runner, inline():
        with TasksScheduler(runner) as tasks:
            tasks.schedule(function, "immediate")
            tasks.after_route.schedule(function, "after route")
            tasks.after_response.schedule(function, "after response")
            tasks.reach(Phase.AFTER_ROUTE)
            await tasks.begun()
            assert sorted(log) == ["after route", "immediate"]
        await tasks.settle()
        assert log[2:] == ["after response"]


async def test_inline_waits_for_this_request_only() -> None:
    """A request does not wait for the tasks of another one."""
    async with open_runner() as runner, inline():
        other = TasksScheduler(runner).schedule(anyio.sleep_forever)
        with TasksScheduler(runner) as tasks:
            mine = tasks.schedule(int)
            await tasks.begun()
        assert mine.state is TaskState.SUCCEEDED
        assert other.state is TaskState.RUNNING
        other.cancel()


# Where a block is in force.


each_block = pytest.mark.parametrize("make", [drain, inline, record])


@each_block
async def test_a_block_is_entered_once(make: Callable[[], TasksBlock | RecordedTasks]) -> None:
    """A block that was entered is refused, within itself and afterwards."""
    block = make()
    async with block:
        with pytest.raises(RuntimeError, match="entered once"):
            async with block:
                raise AssertionError
    with pytest.raises(RuntimeError, match="entered once"), block:
        raise AssertionError


async def test_what_was_made_before_is_not_part() -> None:
    """A scheduler that was made before the block, or after it, is none of the block's."""
    async with open_runner() as runner:
        before = TasksScheduler(runner)
        async with drain() as block:
            assert await before.schedule(int).wait() == 0
        assert await TasksScheduler(runner).schedule(int).wait() == 0
    assert block.tasks == []


async def test_a_request_stays_with_its_block() -> None:
    """A request that outlives its block stays with it."""
    async with open_runner() as runner:
        async with record() as recorded:
            tasks = TasksScheduler(runner)
        assert tasks.schedule(int).state is TaskState.SKIPPED
    recorded.assert_scheduled(int)


@each_block
async def test_of_nested_blocks_the_innermost_counts(
    make: Callable[[], TasksBlock | RecordedTasks],
) -> None:
    """Tasks of an inner block are not those of the outer one, which goes on afterwards."""
    async with open_runner() as runner:
        async with make() as outer:
            one = TasksScheduler(runner).schedule(int)
            async with drain(raise_errors=False) as inner:
                two = TasksScheduler(runner).schedule(fail)
            three = TasksScheduler(runner).schedule(int)
        assert outer.tasks == [one, three]
        assert inner.tasks == [two]


async def test_contexts_that_outlive_a_block() -> None:
    """In a context that was copied within a block it is over when the block is; others go on."""
    async with open_runner() as runner, record() as outer:
        async with record() as inner:
            context = contextvars.copy_context()
        context.run(TasksScheduler, runner).schedule(int)
        assert len(outer.tasks) == 1
        assert inner.tasks == []


async def test_nothing_is_recorded_once_a_block_has_ended() -> None:
    """In a context that was copied within a block tasks run as ever when it has ended."""
    async with open_runner() as runner:
        with record() as recorded:
            context = contextvars.copy_context()
        assert await context.run(TasksScheduler, runner).schedule(int).wait() == 0
    recorded.assert_nothing_scheduled()


async def test_a_block_ends_where_its_test_is_cancelled() -> None:
    """A block that is no longer waited for, whatever ended that, is over."""

    def leave(runner: TaskRunner) -> Coroutine[Any, Any, None]:
        block = record(timeout=math.inf)
        block.__enter__()
        TasksScheduler(runner).after_route.schedule(int)
        return block.__aexit__(None, None, None)

    context = contextvars.Context()
    async with open_runner() as runner:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await context.run(leave, runner)
        assert scope.cancelled_caught
        assert await context.run(TasksScheduler, runner).schedule(int).wait() == 0


@each_block
def test_a_block_may_be_left_in_another_context(
    make: Callable[[], AbstractContextManager[object]],
) -> None:
    """A fixture whose end has another context than its beginning is no reason to fail."""
    block = make()
    contextvars.copy_context().run(block.__enter__)
    block.__exit__(None, None, None)


def test_threads_do_not_see_each_others_blocks() -> None:
    """Tests that run at the same time, in threads, have their own tasks only."""
    both = threading.Barrier(2, timeout=GUARD)
    found: dict[str, list[str]] = {}

    def test(name: str, block: RecordedTasks | TasksBlock, client: Client) -> None:
        with block:
            both.wait()
            client.request(int, name)
            both.wait()
        found[name] = [f"{task.name} {task.state}" for task in block.tasks]

    with open_client() as client:
        blocks = {"drains": drain(), "records": record()}
        threads = [
            threading.Thread(target=test, args=(name, block, client))
            for name, block in blocks.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(GUARD)
    assert found == {"drains": ["drains succeeded"], "records": ["records skipped"]}


def test_a_pool_of_threads_sees_the_block() -> None:
    """Threads that have no context of the test see the one block that is open (kit)."""

    def test(block: RecordedTasks | TasksBlock, client: Client) -> list[str]:
        with block, ThreadPoolExecutor(2) as pool:
            for number in range(4):
                pool.submit(client.request, int, str(number)).result(GUARD)
        return sorted(f"{task.name} {task.state}" for task in block.tasks)

    with open_client() as client:
        assert test(record(), client) == [f"{number} skipped" for number in range(4)]
        assert test(drain(), client) == [f"{number} succeeded" for number in range(4)]
        assert test(inline(), client) == [f"{number} succeeded" for number in range(4)]


def test_a_pool_of_threads_sees_the_innermost_block() -> None:
    """Of nested blocks the innermost counts there too."""
    with open_client() as client, ThreadPoolExecutor(1) as pool, drain() as outer:
        with record() as inner:
            pool.submit(client.request, int).result(GUARD)
        pool.submit(client.request, int).result(GUARD)
    assert [task.state for task in inner.tasks] == ["skipped"]
    assert [task.state for task in outer.tasks] == ["succeeded"]


def test_of_several_blocks_none_is_guessed() -> None:
    """Where two tests have a block at a time, a thread of neither's context is refused."""
    with open_client() as client, ThreadPoolExecutor(1) as pool, drain() as mine:
        theirs = record()
        contextvars.Context().run(theirs.__enter__)
        refused = pool.submit(client.request, int)
        with pytest.raises(RuntimeError, match=r"2 blocks .* the context of none of them"):
            refused.result(GUARD)
        client.request(int)
        theirs.__exit__(None, None, None)
        pool.submit(client.request, int).result(GUARD)
    assert len(mine.tasks) == 2
    assert theirs.tasks == []


def test_a_context_of_a_block_that_has_ended_sees_the_one_that_is_open() -> None:
    """A client that was made in an earlier block is seen by the present one."""
    with open_client() as client:
        with drain():
            earlier = contextvars.copy_context()
        with record() as recorded:
            earlier.run(client.request, int)
        earlier.run(client.request, int)
    assert [task.state for task in recorded.tasks] == ["skipped"]


def test_drain_says_that_the_tasks_have_another_loop() -> None:
    """On another event loop of the same thread theirs stands still: an error, no wait."""
    session, function = asyncio.new_event_loop(), asyncio.new_event_loop()
    runner = TaskRunner()

    async def schedule(tasks: TasksScheduler) -> None:
        tasks.schedule(anyio.sleep_forever)

    async def leave(block: TasksBlock) -> None:
        await block.__aexit__(None, None, None)

    session.run_until_complete(runner.__aenter__())
    block = drain(timeout=math.inf)
    block.__enter__()
    session.run_until_complete(schedule(TasksScheduler(runner)))
    with pytest.raises(RuntimeError, match=r"sleep_forever .* another event loop of this thread"):
        function.run_until_complete(leave(block))
    session.run_until_complete(runner.__aexit__(None, None, None))
    session.close()
    function.close()


@each_block
async def test_a_runner_that_was_not_entered(
    make: Callable[[], TasksBlock | RecordedTasks],
) -> None:
    """A runner that was not entered refuses tasks as it does elsewhere."""
    async with make() as block:
        with pytest.raises(RunnerClosedError):
            TasksScheduler(TaskRunner()).schedule(int)
    assert block.tasks == []


@each_block
def test_nonsense_is_refused_at_once(make: Callable[..., object]) -> None:
    """A timeout that is no number of seconds is refused when the block is made."""
    with pytest.raises(TypeError, match="timeout is a number of seconds"):
        make(timeout="5")
    with pytest.raises(ValueError, match="timeout is a number of seconds from 0"):
        make(timeout=-1)


# Recording: see also test_recorded.py.


async def test_record_runs_nothing() -> None:
    """No task runs; those that would are noted when their phase begins, in that order."""
    ran: list[int] = []
    async with open_runner() as runner:
        with record() as recorded, TasksScheduler(runner) as tasks:
            last = tasks.after_response.schedule(ran.append, 1)
            second = tasks.after_route.schedule(ran.append, 2)
            first = tasks.schedule(ran.append, 3)
            assert recorded.tasks == [first]
            tasks.reach(Phase.AFTER_ROUTE)
            assert recorded.tasks == [first, second]
    assert recorded.tasks == [first, second, last]
    assert [task.state for task in recorded.tasks] == [TaskState.SKIPPED] * 3
    assert ran == []


async def test_what_would_not_run_is_not_recorded() -> None:
    """What the outcome skips, or was cancelled before its phase, is not recorded."""
    async with open_runner() as runner, record() as recorded:
        tasks = TasksScheduler(runner)
        tasks.after_response.schedule(int)
        always = tasks.after_response.task(run_on="always").schedule(int)
        tasks.after_route.task(run_on="always").schedule(int).cancel()
        tasks.reach(Phase.AFTER_RESPONSE, failed=True)
    assert recorded.tasks == [always]


@pytest.mark.parametrize("phase", list(Phase), ids=str)
async def test_keys_keep_nothing_from_being_recorded(phase: Phase) -> None:
    """A recorded task takes no place of its key, in no phase, and finds none taken (7.5)."""
    async with open_runner() as runner:
        lives = runner.task(key="mail", unique=True).schedule(anyio.sleep_forever)
        await lives.started.wait()
        with record() as recorded, TasksScheduler(runner) as tasks:
            batch = at(tasks, phase).task(key="mail", limit=1, backlog=0)
            made: list[Task] = [batch.schedule(int) for _ in range(2)]
            made.extend(batch.task(unique=True).schedule(anyio.sleep_forever) for _ in range(2))
        assert recorded.tasks == made
        assert lives.state is TaskState.RUNNING
        lives.cancel()


def test_record_waits_for_requests() -> None:
    """Leaving `with` waits for requests whose client has gone, so that it has all they schedule."""
    scheduled, go = Started(), Started()

    async def serve(runner: TaskRunner) -> None:
        with TasksScheduler(runner) as tasks:
            tasks.after_response.schedule(int)
            scheduled.set()
            await to_thread.run_sync(go.wait_for_it)

    with open_client() as client:
        with record() as recorded:
            client.portal.start_task_soon(serve, client.runner)
            scheduled.wait_for_it()
            threading.Timer(0, go.set).start()
        recorded.after_response.assert_scheduled(int)


async def test_record_waits_for_requests_on_the_own_loop() -> None:
    """So does leaving `async with`, for requests that the test's own event loop serves."""
    async with open_runner() as runner, anyio.create_task_group() as group:

        async def serve(tasks: TasksScheduler) -> None:
            with tasks:
                tasks.after_response.schedule(int)
                await anyio.wait_all_tasks_blocked()

        async with record() as recorded:
            tasks = TasksScheduler(runner)
            group.start_soon(serve, tasks)
            while not tasks.after_response.scheduled:
                await anyio.lowlevel.checkpoint()
        recorded.after_response.assert_scheduled(int)


async def test_record_records_what_such_requests_schedule_without_a_request() -> None:
    """While the block is left, what a request schedules by the runner does not run either."""
    ran: list[int] = []

    async def serve(tasks: TasksScheduler) -> None:
        with tasks:
            tasks.after_response.schedule(int)
            await anyio.wait_all_tasks_blocked()
            runner.schedule(ran.append, 1)

    async with open_runner() as runner, anyio.create_task_group() as group:
        async with record() as recorded:
            tasks = TasksScheduler(runner)
            group.start_soon(serve, tasks)
            while not tasks.after_response.scheduled:
                await anyio.lowlevel.checkpoint()
        await runner.join()
        recorded.assert_scheduled(ran.append, 1)
    assert ran == []


async def test_record_names_what_waits() -> None:
    """Tasks whose phase does not come are named by the guard; `with` cannot wait for them."""

    async def test(tasks: TasksScheduler) -> None:
        tasks.after_route.task(name="mail").schedule(int)

    async def test_async(runner: TaskRunner) -> None:
        async with record(timeout=0):
            await test(TasksScheduler(runner))

    async def test_sync(runner: TaskRunner) -> None:
        with record():
            await test(TasksScheduler(runner))

    async def test_that_fails(runner: TaskRunner) -> None:
        async with record(timeout=0):
            await test(TasksScheduler(runner))
            fail()

    async def test_with_that_fails(runner: TaskRunner) -> None:
        with record(timeout=0):
            await test(TasksScheduler(runner))
            fail()

    async with open_runner() as runner:
        late = r"within 0 s: mail \(pending, phase=after_route"
        with pytest.raises(TimeoutError, match=late):
            await test_async(runner)
        wrong = "write `async with`, not `with`"
        with pytest.raises(RuntimeError, match=wrong):
            await test_sync(runner)
        with pytest.raises(SomeError) as raised:
            await test_that_fails(runner)
        assert "mail (pending" in raised.value.__notes__[0]
        with pytest.raises(SomeError) as raised:
            await test_with_that_fails(runner)
        assert wrong in raised.value.__notes__[0]
