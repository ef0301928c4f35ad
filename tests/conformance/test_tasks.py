"""Contract 2: what can be scheduled, from where, and what is known of it."""

from __future__ import annotations

import functools
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any

import anyio
import pytest
from anyio import from_thread, to_thread
from tasks_core import (
    Phase,
    Task,
    TaskCancelled,
    TasksScheduler,
    TaskState,
    current_task,
    current_tasks,
)

from tests.conformance.cases import (
    FunctionKind,
    RouteKind,
    async_function,
    at,
    each_function,
    each_phase,
    each_route,
    finish,
    sync_function,
)
from tests.conformance.driver import GUARD, serve
from tests.conformance.harness import Harness, Text, build

pytestmark = [pytest.mark.anyio, pytest.mark.alike]


class Later:
    """Can be awaited, and is no coroutine."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, None, object]:
        return self._wait().__await__()

    async def _wait(self) -> object:
        await anyio.lowlevel.checkpoint()
        return self.value


class Sums:
    """Callables of every kind; each returns the sum and the thread in which it was computed."""

    async def method(self, a: int, *, b: int) -> tuple[int, int]:
        return a + b, threading.get_ident()

    def sync_method(self, a: int, *, b: int) -> tuple[int, int]:
        return a + b, threading.get_ident()

    @classmethod
    async def class_method(cls, a: int, *, b: int) -> tuple[int, int]:
        return a + b, threading.get_ident()

    @staticmethod
    async def static_method(a: int, *, b: int) -> tuple[int, int]:
        return a + b, threading.get_ident()

    async def __call__(self, a: int, *, b: int) -> tuple[int, int]:
        return a + b, threading.get_ident()


class SyncSums:
    def __call__(self, a: int, *, b: int) -> tuple[int, int]:
        return a + b, threading.get_ident()


sums = Sums()
sync_sums = SyncSums()


@functools.wraps(sums.method)
async def wrapped(*args: Any, **kwargs: Any) -> object:
    return await sums.method(*args, **kwargs)


@functools.wraps(sums.method)
def sync_wrapper_of_async(*args: Any, **kwargs: Any) -> object:
    return sums.method(*args, **kwargs)


ON_LOOP: dict[str, Callable[..., Any]] = {
    "method": sums.method,
    "class_method": sums.class_method,
    "static_method": sums.static_method,
    "callable_object": sums,
    "partial": partial(sums.method),
    "partial_of_partial": partial(partial(sums)),
    "wrapped": wrapped,
    "lambda": lambda *args, **kwargs: sums.method(*args, **kwargs),  # noqa: PLW0108 - a lambda
    "sync_wrapper": sync_wrapper_of_async,
}
IN_THREAD: dict[str, Callable[..., Any]] = {
    "method": sums.sync_method,
    "callable_object": sync_sums,
    "partial": partial(sums.sync_method),
    "partial_of_partial": partial(partial(sync_sums)),
    "lambda": lambda *args, **kwargs: sums.sync_method(*args, **kwargs),  # noqa: PLW0108 - a lambda
    "returns_awaitable": lambda *args, **kwargs: Later(sums.sync_method(*args, **kwargs)),
}


@each_phase
@pytest.mark.parametrize("function", ON_LOOP.values(), ids=ON_LOOP)
async def test_async_callables_run_on_the_event_loop(
    harness: Harness, phase: Phase, function: Callable[..., Any]
) -> None:
    """2.1 What an async callable of any kind does, it does on the event loop."""
    assert await _call(harness, phase, function) == (3, threading.get_ident())


@each_phase
@pytest.mark.parametrize("function", IN_THREAD.values(), ids=IN_THREAD)
async def test_sync_callables_run_in_a_thread(
    harness: Harness, phase: Phase, function: Callable[..., Any]
) -> None:
    """2.1 A sync callable of any kind runs in a worker thread; an awaitable result is awaited."""
    total, thread = await _call(harness, phase, function)
    assert total == 3
    assert thread != threading.get_ident()


async def _call(harness: Harness, phase: Phase, function: Callable[..., Any]) -> Any:
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.append(at(tasks, phase).schedule(function, 1, b=2))

    async with serve(build(harness, route)) as server:
        await server.request()
        return await made[0].wait()


@each_function
async def test_arguments_called_like_our_own(harness: Harness, function_kind: FunctionKind) -> None:
    """2.1 A function may have parameters called ``func``, ``name`` or ``self``."""
    made: list[Task] = []

    def sync(func: int, *, name: int, self: int) -> int:
        return func + name + self

    async def on_loop(func: int, *, name: int, self: int) -> int:
        return func + name + self

    function = sync if function_kind is sync_function else on_loop

    async def route(tasks: TasksScheduler) -> None:
        made.extend(at(tasks, phase).schedule(function, func=1, name=2, self=3) for phase in Phase)

    async with serve(build(harness, route)) as server:
        await server.request()
        assert [await task.wait() for task in made] == [6, 6, 6]


def needs_two(first: int, second: int) -> None: ...


async def a_coroutine(_: int) -> None: ...


def a_generator() -> Iterator[int]:
    yield 1


async def an_async_generator() -> AsyncIterator[int]:
    yield 1


MISTAKES: dict[str, tuple[Callable[[Any], object], str]] = {
    "nothing": (lambda batch: batch.schedule(None), "NoneType"),
    "number": (lambda batch: batch.schedule(42), "int"),
    "coroutine": (lambda batch: batch.schedule(a_coroutine(1)), r"schedule\(a_coroutine"),
    "too_few": (lambda batch: batch.schedule(needs_two, 1), "needs_two.*second"),
    "too_many": (lambda batch: batch.schedule(needs_two, 1, 2, 3), "needs_two"),
    "unknown": (lambda batch: batch.schedule(needs_two, 1, 2, third=3), "needs_two.*third"),
    "partial": (lambda batch: batch.schedule(partial(needs_two, 1), 2, 3), "needs_two"),
    "method": (lambda batch: batch.schedule(sums.method, 1, 2, 3), "method"),
    "generator": (lambda batch: batch.schedule(a_generator), "a_generator"),
    "async_generator": (lambda batch: batch.schedule(an_async_generator), "an_async_generator"),
    "on_error": (lambda batch: batch.task(on_error=42).schedule(a_coroutine, 1), "on_error"),
}


@each_phase
@each_route
@pytest.mark.parametrize(("mistake", "named"), MISTAKES.values(), ids=MISTAKES)
async def test_mistakes_are_refused_at_once(
    harness: Harness,
    route_kind: RouteKind,
    phase: Phase,
    mistake: Callable[[Any], object],
    named: str,
) -> None:
    """2.2 What could never run is refused by name, with a `TypeError` at the caller."""
    refused: list[TypeError] = []

    def route(tasks: TasksScheduler) -> None:
        batch = at(tasks, phase)
        with pytest.raises(TypeError, match=f"(?s){named}") as caught:
            mistake(batch)
        refused.append(caught.value)

    async with serve(build(harness, route_kind(route))) as server:
        exchange = await server.request()
        assert exchange.status == 200
    frames = [frame.name for frame in traceback.extract_tb(refused[0].__traceback__)]
    assert frames[0] == "route"


@each_phase
@each_function
@each_route
async def test_schedule_works_in_routes(
    harness: Harness, route_kind: RouteKind, function_kind: FunctionKind, phase: Phase
) -> None:
    """2.3 `schedule` works in async and sync routes."""
    made: list[Task] = []

    def route(tasks: TasksScheduler) -> None:
        made.append(at(tasks, phase).schedule(function_kind(lambda: "done")))

    async with serve(build(harness, route_kind(route))) as server:
        await server.request()
        assert await made[0].wait() == "done"


@each_phase
@each_function
@pytest.mark.parametrize("by", [async_function, sync_function], ids=["async_task", "sync_task"])
async def test_schedule_works_in_tasks(
    harness: Harness, function_kind: FunctionKind, by: FunctionKind, phase: Phase
) -> None:
    """2.3 `schedule` works in async and sync tasks."""
    made: list[Task] = []
    inner: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        def schedule() -> None:
            inner.append(at(tasks, phase).schedule(function_kind(lambda: "done")))

        made.append(tasks.schedule(by(schedule)))

    async with serve(build(harness, route)) as server:
        await server.request()
        await made[0].wait()
        assert await inner[0].wait() == "done"


@each_phase
@each_function
async def test_schedule_works_in_any_thread(
    harness: Harness, function_kind: FunctionKind, phase: Phase
) -> None:
    """2.3 `schedule` works in a thread that neither the framework nor anyio has started."""
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        def schedule() -> None:
            made.append(at(tasks, phase).schedule(function_kind(lambda: "done")))

        thread = threading.Thread(target=schedule)
        thread.start()
        thread.join(GUARD)

    async with serve(build(harness, route)) as server:
        await server.request()
        assert await made[0].wait() == "done"


@each_phase
@each_route
async def test_schedule_never_waits_for_a_slot(
    harness: Harness, route_kind: RouteKind, phase: Phase
) -> None:
    """2.3 `schedule` never blocks, however many tasks wait for a thread; all of them run."""
    release = threading.Event()
    ran: list[int] = []
    made: list[Task] = []

    def block(number: int) -> None:
        release.wait(GUARD)
        ran.append(number)

    def route(tasks: TasksScheduler) -> None:
        made.extend(at(tasks, phase).schedule(block, number) for number in range(100))
        assert not ran

    async with serve(build(harness, route_kind(route), thread_limit=2)) as server:
        exchange = await server.request()
        assert exchange.status == 200
        release.set()
        await finish(made)
    assert sorted(ran) == list(range(100))


@each_route
async def test_the_scheduler_is_found_below_the_route(
    harness: Harness, route_kind: RouteKind
) -> None:
    """2.3 `current_tasks` finds the request's scheduler deep below a route, and in its tasks."""
    made: list[Task] = []
    same: list[bool] = []

    def route(tasks: TasksScheduler) -> None:
        def look() -> bool:
            return current_tasks() is tasks

        same.append(look())
        for kind in (async_function, sync_function):
            made.extend(at(tasks, phase).schedule(kind(look)) for phase in Phase)

    async with serve(build(harness, route_kind(route))) as server:
        await server.request()
        assert [await task.wait() for task in made] == [True] * 6
    assert same == [True]


variable: ContextVar[str] = ContextVar("variable", default="unset")


@each_phase
@each_function
@each_route
async def test_context_of_a_task(
    harness: Harness, route_kind: RouteKind, function_kind: FunctionKind, phase: Phase
) -> None:
    """2.4 A task sees the context variables as they were when it was scheduled."""
    made: list[Task] = []

    def route(tasks: TasksScheduler) -> None:
        for value in ("one", "two"):
            variable.set(value)
            made.append(at(tasks, phase).schedule(function_kind(variable.get)))
        variable.set("three")

    async with serve(build(harness, route_kind(route))) as server:
        await server.request()
        assert [await task.wait() for task in made] == ["one", "two"]


@each_phase
@each_function
@each_route
async def test_context_of_a_task_is_its_own(
    harness: Harness, route_kind: RouteKind, function_kind: FunctionKind, phase: Phase
) -> None:
    """2.4 What a task changes in its context, no other task sees, nor who has scheduled it."""
    made: list[Task] = []
    kept: list[TasksScheduler] = []

    def change() -> str:
        seen = variable.get()
        variable.set("changed")
        return seen

    def route(tasks: TasksScheduler) -> None:
        kept.append(tasks)
        variable.set("route's")
        made.extend(at(tasks, phase).schedule(function_kind(change)) for _ in range(2))

    async with serve(build(harness, route_kind(route))) as server:
        await server.request()
        assert [await task.wait() for task in made] == ["route's"] * 2
        task = at(kept[0], phase).schedule(function_kind(change))
        assert await task.wait() == "unset"
    assert variable.get() == "unset"


async def test_context_of_what_a_task_schedules(harness: Harness) -> None:
    """2.4 What a task schedules sees the variables as that task has set them."""
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        async def task() -> str:
            variable.set("task's")
            return await tasks.schedule(sync_function(variable.get)).wait()

        made.append(tasks.after_response.schedule(task))

    async with serve(build(harness, route)) as server:
        await server.request()
        assert await made[0].wait() == "task's"


async def test_sync_tasks_run_while_the_default_threads_are_taken(harness: Harness) -> None:
    """2.5 Sync tasks run while every thread that sync routes share is taken."""
    limiter = to_thread.current_default_thread_limiter()
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.extend(at(tasks, phase).schedule(threading.get_ident) for phase in Phase)

    async with serve(build(harness, route)) as server:
        borrowers = [object() for _ in range(int(limiter.available_tokens))]
        for borrower in borrowers:
            limiter.acquire_on_behalf_of_nowait(borrower)
        try:
            await server.request()
            for task in made:
                assert await task.wait() != threading.get_ident()
        finally:
            for borrower in borrowers:
                limiter.release_on_behalf_of(borrower)


async def test_sync_routes_run_while_the_threads_of_tasks_are_taken(harness: Harness) -> None:
    """2.5 Sync routes run while sync tasks take more threads than the routes' own limit has."""
    limiter = to_thread.current_default_thread_limiter()
    number = int(limiter.total_tokens) + 1
    release = threading.Event()
    began = [threading.Event() for _ in range(number)]
    made: list[Task] = []

    def block(event: threading.Event) -> None:
        event.set()
        release.wait(GUARD)

    def route(tasks: TasksScheduler) -> Text:
        if not made:
            made.extend(tasks.schedule(block, event) for event in began)
        return Text(str(all(event.wait(GUARD) for event in began)))

    async with serve(build(harness, route, thread_limit=number)) as server:
        try:
            for _ in range(2):
                assert (await server.request()).body == b"True"
        finally:
            release.set()
        await finish(made)


async def test_thread_limit_holds(harness: Harness) -> None:
    """2.5 No more sync tasks run at the same time than `thread_limit` says."""
    lock = threading.Lock()
    running: list[int] = []
    most: list[int] = []
    made: list[Task] = []
    all_in = threading.Barrier(3)

    def task() -> None:
        with lock:
            running.append(1)
            most.append(len(running))
        all_in.wait(GUARD)
        with lock:
            running.pop()

    async def route(tasks: TasksScheduler) -> None:
        made.extend(tasks.schedule(task) for _ in range(9))

    async with serve(build(harness, route, thread_limit=3)) as server:
        await server.request()
        await finish(made)
    assert all(task.state is TaskState.SUCCEEDED for task in made)
    assert max(most) == 3


@each_phase
async def test_handle_of_a_task_that_succeeds(harness: Harness, phase: Phase) -> None:
    """2.6 `schedule` returns the task: what is called, and what becomes of it."""
    release = anyio.Event()
    made: list[Task] = []
    states: list[TaskState] = []

    async def function(a: int, *, b: int) -> int:
        states.append(made[0].state)
        await release.wait()
        return a + b

    async def route(tasks: TasksScheduler) -> None:
        task = at(tasks, phase).task(name="sum").schedule(function, 1, b=2)
        states.append(task.state)
        made.append(task)

    async with serve(build(harness, route)) as server:
        await server.request()
        task = made[0]
        await task.started.wait()
        assert (task.func, task.args, task.kwargs) == (function, (1,), {"b": 2})
        assert task.config.name == task.name == "sum"
        assert (task.phase, task.result, task.exception) == (phase, None, None)
        release.set()
        assert await task.wait() == 3
        assert await task.wait() == 3
        states.append(task.state)
        assert (task.result, task.exception) == (3, None)
    assert states == [TaskState.PENDING, TaskState.RUNNING, TaskState.SUCCEEDED]


@each_function
async def test_handle_of_a_task_that_fails(harness: Harness, function_kind: FunctionKind) -> None:
    """2.6 `wait` raises what the task raised."""
    made: list[Task] = []
    error = ValueError("as it is")

    def fail() -> None:
        raise error

    async def route(tasks: TasksScheduler) -> None:
        made.append(tasks.schedule(function_kind(fail)))

    async with serve(build(harness, route)) as server:
        await server.request()
        with pytest.raises(ValueError, match="as it is") as caught:
            await made[0].wait()
        assert caught.value is error
    assert (made[0].state, made[0].exception, made[0].result) == (TaskState.FAILED, error, None)


async def test_ids_are_unique(harness: Harness) -> None:
    """2.6 Every task has an id of its own."""
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.extend(tasks.after_response.schedule(async_function(int)) for _ in range(100))

    async with serve(build(harness, route)) as server:
        await server.request()
        await server.request()
    assert len({task.id for task in made}) == 200


@pytest.mark.parametrize("phase", [Phase.AFTER_ROUTE, Phase.AFTER_RESPONSE], ids=str)
@each_function
@each_route
async def test_cancelling_a_task_that_has_not_begun(
    harness: Harness, route_kind: RouteKind, function_kind: FunctionKind, phase: Phase
) -> None:
    """2.6 A task that is cancelled before it begins never runs."""
    ran: list[str] = []
    made: list[Task] = []

    def route(tasks: TasksScheduler) -> None:
        task = at(tasks, phase).task(name="report").schedule(function_kind(partial(ran.append, "")))
        made.append(task)
        assert task.cancel()

    async with serve(build(harness, route_kind(route))) as server:
        assert (await server.request()).status == 200
        with pytest.raises(TaskCancelled, match="report"):
            await made[0].wait()
    assert made[0].state is TaskState.CANCELLED
    assert not ran


@each_phase
@pytest.mark.parametrize("shield", [False, True], ids=["unshielded", "shielded"])
async def test_cancelling_a_task_that_runs(harness: Harness, phase: Phase, *, shield: bool) -> None:
    """2.6 A running task can be cancelled, shielded or not; its `finally` blocks run."""
    log: list[str] = []
    made: list[Task] = []

    async def function() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append("finally")

    async def route(tasks: TasksScheduler) -> None:
        made.append(at(tasks, phase).task(shield=shield).schedule(function))

    async with serve(build(harness, route)) as server:
        await server.request()
        task = made[0]
        await task.started.wait()
        assert task.cancel()
        with pytest.raises(TaskCancelled):
            await task.wait()
    assert task.state is TaskState.CANCELLED
    assert log == ["finally"]


async def test_cancelling_from_another_thread(harness: Harness) -> None:
    """2.6 A task can be cancelled from any thread."""
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.append(tasks.schedule(anyio.sleep_forever))

    async with serve(build(harness, route)) as server:
        await server.request()
        await to_thread.run_sync(made[0].cancel)
        with pytest.raises(TaskCancelled):
            await made[0].wait()


async def test_cancelling_a_waiter(harness: Harness) -> None:
    """2.6 Cancelling who waits for a task does not cancel the task."""
    release = anyio.Event()
    made: list[Task] = []

    async def function() -> str:
        await release.wait()
        return "done"

    async def route(tasks: TasksScheduler) -> None:
        made.append(tasks.schedule(function))

    async with serve(build(harness, route)) as server:
        await server.request()
        with anyio.move_on_after(0) as scope:
            await made[0].wait()
        assert scope.cancelled_caught
        assert made[0].state is TaskState.RUNNING
        release.set()
        assert await made[0].wait() == "done"


async def test_waiting_in_a_sync_function(harness: Harness) -> None:
    """2.6 A sync task can wait for another task through anyio's `from_thread`."""
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        def wait() -> object:
            return from_thread.run(tasks.schedule(async_function(lambda: "done")).wait)

        made.append(tasks.schedule(wait))

    async with serve(build(harness, route)) as server:
        await server.request()
        assert await made[0].wait() == "done"


@each_function
@pytest.mark.parametrize("fails", [False, True], ids=["succeeds", "fails"])
async def test_a_final_state_never_changes(
    harness: Harness, function_kind: FunctionKind, *, fails: bool
) -> None:
    """2.6 A task that has ended cannot be cancelled: its state stays."""
    made: list[Task] = []

    def step() -> None:
        if fails:
            raise ValueError

    async def route(tasks: TasksScheduler) -> None:
        made.append(tasks.schedule(function_kind(step)))

    async with serve(build(harness, route)) as server:
        await server.request()
        await finish(made)
        state = made[0].state
        assert state is (TaskState.FAILED if fails else TaskState.SUCCEEDED)
        assert not made[0].cancel()
        await anyio.wait_all_tasks_blocked()
        assert made[0].state is state


@each_function
async def test_the_running_task_is_found(harness: Harness, function_kind: FunctionKind) -> None:
    """2.6 `current_task` is the task that `schedule` returned."""
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.append(tasks.after_response.schedule(function_kind(current_task)))

    async with serve(build(harness, route)) as server:
        await server.request()
        assert await made[0].wait() is made[0]
