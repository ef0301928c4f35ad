"""Contract 9.8 to 9.11: tasks that are counted by a key."""

from __future__ import annotations

import asyncio
import gc
import pickle
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from types import FrameType, MethodType
from typing import Any, Final, Self
from unittest.mock import AsyncMock

import anyio
import pytest
from anyio import CancelScope, fail_after, from_thread, to_thread
from anyio.lowlevel import checkpoint
from tasks_core import (
    BacklogFullError,
    Phase,
    PhaseScheduler,
    RunnerClosedError,
    Task,
    TaskCancelled,
    TaskConfig,
    TaskRunner,
    TaskSettings,
    TaskSkipped,
    TasksScheduler,
)
from tasks_core.testing import drain, inline

from tests.tasks_core.clock import LONG, forward, with_clock
from tests.tasks_core.stage import (
    GUARD,
    SomeError,
    fail_async,
    logged,
    open_runner,
    over,
    records,
    states,
    until_cancelled,
)

pytestmark = pytest.mark.anyio
anyio_backend = with_clock

# A shutdown that would wait for ever ends as well.
open_guarded = partial(open_runner, shutdown_timeout=GUARD)


class Gate:
    """A function whose calls wait, each until it is let go; it knows how many run at a time."""

    def __init__(self) -> None:
        self.begun: list[object] = []
        self.most = 0
        self._running = 0
        self._gates: dict[object, anyio.Event] = {}

    async def __call__(self, name: object) -> object:
        self.begun.append(name)
        self._running += 1
        self.most = max(self.most, self._running)
        try:
            await self._gate(name).wait()
        finally:
            self._running -= 1
        return name

    def _gate(self, name: object) -> anyio.Event:
        return self._gates.setdefault(name, anyio.Event())

    def open(self, *names: object) -> None:
        """Let calls end, also before they have begun."""
        for name in names:
            self._gate(name).set()


class Closing:
    """The same for sync functions."""

    def __init__(self) -> None:
        self.begun: list[object] = []
        self.most = 0
        self._running = 0
        self._changing = threading.Lock()
        self._gates: dict[object, threading.Event] = {}

    def __call__(self, name: object) -> object:
        with self._changing:
            self.begun.append(name)
            self._running += 1
            self.most = max(self.most, self._running)
        assert self._gate(name).wait(GUARD)
        with self._changing:
            self._running -= 1
        return name

    def _gate(self, name: object) -> threading.Event:
        with self._changing:
            return self._gates.setdefault(name, threading.Event())

    def open(self, *names: object) -> None:
        for name in names:
            self._gate(name).set()


each_kind = pytest.mark.parametrize("kind", [Gate, Closing], ids=["async", "sync"])


async def other(name: object = None) -> None:
    await anyio.sleep_forever()


async def forever(name: object = None) -> None:
    await anyio.sleep_forever()


def forever_in_thread(event: threading.Event) -> None:
    assert event.wait(GUARD)


# Unique.


async def test_a_task_that_lives_is_returned(caplog: pytest.LogCaptureFixture) -> None:
    """9.8 `schedule` makes no other one, whatever the arguments; one INFO record says so."""
    caplog.set_level("INFO", "tasks_core")
    async with open_guarded() as runner:
        batch = runner.task(unique=True, name="import\n")
        first = batch.schedule(forever, 1)
        await first.started.wait()
        assert batch.schedule(forever, 2) is first
        assert len(runner.registry) == 1
        (told,) = records(caplog, "INFO")
        assert told.getMessage() == (
            f"Task import\\n (id={first.id}, function=forever, phase=immediate) lives, "
            "and was not scheduled again"
        )
        assert vars(told)["task_id"] == first.id
        assert first.args == (1,)


async def test_what_makes_a_task_another_one() -> None:
    """9.8 Another function, or another key."""
    async with open_guarded() as runner:
        batch = runner.task(unique=True)
        tasks = [
            batch.schedule(forever),
            batch.schedule(other),
            batch.task(key="1").schedule(forever),
            batch.task(key="2").schedule(forever),
            batch.task(key="2").schedule(other),
        ]
        assert len(set(tasks)) == 5
        again = [
            batch.schedule(forever),
            batch.schedule(other),
            batch.task(key="1").schedule(forever),
            batch.task(key="2").schedule(forever),
            batch.task(key="2").schedule(other),
        ]
        assert again == tasks
        assert len(runner._lanes) == 4
    assert not runner._lanes


class Service:
    async def work(self) -> None:
        await anyio.sleep_forever()

    async def rest(self) -> None:
        await anyio.sleep_forever()


class Actor:
    """A function as a task queue's library makes one: it is called, or sends itself."""

    def __call__(self) -> None: ...

    async def send(self) -> None:
        await anyio.sleep_forever()

    @classmethod
    async def send_all(cls) -> None:
        await anyio.sleep_forever()


class OtherActor(Actor):
    pass


class Wrapped:
    """A decorator that is a class, without `functools.wraps`."""

    def __init__(self, func: Callable[[], Any]) -> None:
        self._func = func
        self._calls = 0
        self._then = self.rest

    async def __call__(self) -> None:
        self._calls += 1
        await self._func()

    async def rest(self) -> None: ...


class Slotted:
    __slots__ = ("__func", "empty")

    def __init__(self, func: Callable[[], Any]) -> None:
        self.__func = func

    async def __call__(self) -> None:
        await self.__func()


async def send(self: Callable[[], Any]) -> None:
    await anyio.sleep_forever()


def make_function() -> Callable[[], Any]:
    async def function() -> None:
        await anyio.sleep_forever()

    return function


def decorate(func: Callable[[], Any]) -> Callable[[], Any]:
    """Decorate as many do: what this returns is called the same for all functions."""

    async def wrapper() -> None:
        await func()

    return wrapper


def make_closure(number: int) -> Callable[[], Any]:
    """Make a function that holds a value, one that is made anew, itself, and nothing yet."""

    async def inner() -> None:
        await forever(number)

    async def function(again: bool = False) -> None:  # noqa: FBT001, FBT002
        await inner()
        if again:
            await function()
            later()

    if number > 2:
        later = print
    return function


async def another() -> None:
    await anyio.sleep_forever()


def decorate_often(func: Callable[[], Any], times: int = 200) -> Callable[[], Any]:
    """Decorate so often that nobody wants to look through all of it."""
    for _ in range(times):
        func = decorate(func)
    return func


class Decorated:
    """A function behind a decorator that is a class, and is not called as it."""

    def __init__(self, func: Callable[[], Any], number: int = 0) -> None:
        self.func = func
        self.number = number

    async def __call__(self) -> None:
        await self.func()


class Strategy:
    """It cannot be called itself, and has a function."""

    def __init__(self, func: Callable[[], Any], number: int = 0) -> None:
        self.func = func
        self.number = number

    async def run(self) -> None:
        await self.func()


async def call(func: Callable[[], Any], number: int = 0) -> None:
    await func()


def keep_in_default(func: Callable[[], Any]) -> Callable[[], Any]:
    async def wrapper(within: Callable[[], Any] = func) -> None:
        await within()

    return wrapper


def keep_by_name(func: Callable[[], Any]) -> Callable[[], Any]:
    async def wrapper(*, within: Callable[[], Any] = func) -> None:
        await within()

    return wrapper


def keep_as_attribute(func: Callable[[], Any]) -> Callable[[], Any]:
    async def wrapper() -> None:
        await vars(wrapper)["within"]()

    vars(wrapper)["within"] = func
    return wrapper


def keep_in(container: Callable[[Callable[[], Any]], Any]) -> Callable[[Any], Callable[[], Any]]:
    """Decorate so that the function is in something."""

    def decorate_so(func: Callable[[], Any]) -> Callable[[], Any]:
        within = container(func)

        async def wrapper() -> None:
            await (within["func"] if isinstance(within, dict) else within[0])()

        return wrapper

    return decorate_so


keep_in_many = keep_in(lambda func: [func] * 99)


class Proxy:
    """What stands in for something else, which it has not always, as werkzeug's do."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("nothing is here")

    def __call__(self) -> None: ...


service = Service()
actor = Actor()
KEEPING: dict[str, Callable[[Callable[[], Any]], Callable[[], Any]]] = {
    "class": Decorated,
    "class with slots": Slotted,
    "class twice": lambda func: Decorated(Slotted(func)),
    "class in a function": lambda func: decorate(Decorated(func)),
    "method": lambda func: Strategy(func).run,
    "method of a class": lambda func: Strategy(Decorated(func)).run,
    "partial": lambda func: partial(call, func),
    "partial by name": lambda func: partial(call, func=func),
    "default": keep_in_default,
    "default by name": keep_by_name,
    "attribute": keep_as_attribute,
    "dictionary": keep_in(lambda func: {"func": func}),
    "list": keep_in(lambda func: [func]),
    "tuple": keep_in(lambda func: (func, 1)),
}
SAME: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "partial": (partial(forever, 1), partial(forever, 2)),
    "partial and function": (partial(forever, 1), forever),
    "method": (service.work, service.work),
    "method of others": (Service().work, Service().work),
    "local": (make_function(), make_function()),
    "closures": (make_closure(1), make_closure(2)),
    "decorated": (decorate(forever), decorate(forever)),
    "decorated local": (decorate(make_closure(1)), decorate(make_closure(2))),
    "decorated method": (decorate(service.work), decorate(Service().work)),
    "decorated partial": (decorate(partial(forever, 1)), decorate(forever)),
    "send": (actor.send, actor.send),
    "class method": (Actor.send_all, actor.send_all),
    "bound to a function": (MethodType(send, make_function()), MethodType(send, make_function())),
    "wrapped": (Wrapped(forever), Wrapped(forever)),
    "wrapped local": (Wrapped(make_closure(1)), Wrapped(make_closure(2))),
    "wrapped partial": (Wrapped(partial(forever, 1)), Wrapped(forever)),
    "in slots": (Slotted(forever), Slotted(forever)),
    "decorated object": (decorate(Wrapped(forever)), decorate(Wrapped(forever))),
    "decorated often": (decorate_often(forever), decorate_often(forever)),
    "object of a class": (Decorated(forever, 1), Decorated(forever, 2)),
    "method with data": (Strategy(forever, 1).run, Strategy(forever, 2).run),
    "many": (keep_in_many(forever), keep_in_many(forever)),
    "proxy": (decorate(Proxy()), decorate(Proxy())),
    **{f"keeping by {kind}": (keep(forever), keep(forever)) for kind, keep in KEEPING.items()},
    **{
        f"keeping local by {kind}": (keep(make_closure(1)), keep(make_closure(2)))
        for kind, keep in KEEPING.items()
    },
}


@pytest.mark.parametrize("unique", [True, None], ids=["unique", "plain"])
@pytest.mark.parametrize(("first", "second"), SAME.values(), ids=SAME)
async def test_the_same_function(
    first: Callable[[], Any],
    second: Callable[[], Any],
    unique: bool | None,  # noqa: FBT001
) -> None:
    """9.8 However often it is bound, wrapped in a partial, or made: what it is called is the same.

    Also where the one that lives was scheduled without ``unique``, so without being counted.
    """
    async with open_guarded() as runner:
        task = runner.task(unique=unique).schedule(first)
        assert runner.task(unique=True).schedule(second) is task


async def test_functions_of_one_name() -> None:
    """9.8 Lambdas of one function are called the same, and are not the same."""
    async with open_guarded() as runner:
        batch = runner.task(unique=True)
        one, two = (lambda: forever(1)), (lambda: forever(2))
        assert batch.schedule(one) is not batch.schedule(two)


OTHERS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "functions": (decorate(forever), decorate(another)),
    "twice": (decorate(decorate(forever)), decorate(decorate(another))),
    "once and twice": (decorate(forever), decorate(decorate(forever))),
    "methods": (decorate(service.work), decorate(service.rest)),
    "partials": (decorate(partial(forever, 1)), decorate(partial(another))),
    "send": (actor.send, Actor().send),
    "decorated send": (decorate(actor.send), decorate(Actor().send)),
    "class methods": (Actor.send_all, OtherActor.send_all),
    "bound to functions": (MethodType(send, forever), MethodType(send, another)),
    "wrapped": (Wrapped(forever), Wrapped(another)),
    "wrapped twice": (Wrapped(Wrapped(forever)), Wrapped(Wrapped(another))),
    "wrapped send": (Wrapped(actor.send), Wrapped(Actor().send)),
    "in slots": (Slotted(forever), Slotted(another)),
    "decorated object": (decorate(Wrapped(forever)), decorate(Wrapped(another))),
    "built-in": (decorate(dict), decorate(globals)),
    "classes": (decorate(Actor), decorate(OtherActor)),
    "mocks": (AsyncMock(), AsyncMock()),
    **{f"keeping by {kind}": (keep(forever), keep(another)) for kind, keep in KEEPING.items()},
}


@pytest.mark.parametrize("unique", [True, None], ids=["unique", "plain"])
@pytest.mark.parametrize(("first", "second"), OTHERS.values(), ids=OTHERS)
async def test_decorated_functions_of_one_name(
    first: Callable[[], Any],
    second: Callable[[], Any],
    unique: bool | None,  # noqa: FBT001
) -> None:
    """9.9 Whatever keeps two functions is two functions, however it is called."""
    async with open_guarded() as runner:
        task = runner.task(unique=unique).schedule(first)
        assert runner.task(unique=True).schedule(second) is not task
        assert runner.task(unique=True, key="key").schedule(first) is not task


async def test_a_mock_stays_the_same_when_it_is_called() -> None:
    """9.9 What it makes of itself then does not belong to it."""
    mock = AsyncMock(return_value=None)
    async with open_guarded() as runner:
        first = TasksScheduler(runner).after_response.task(unique=True).schedule(mock)
        await mock()
        mock.side_effect = forever
        assert runner.task(unique=True).schedule(mock) is first
        first.cancel()


async def test_one_that_was_scheduled_without_is_returned() -> None:
    """9.8 Who wants one only gets the one that lives, whatever that was asked for."""
    async with open_guarded() as runner:
        plain = runner.schedule(forever)
        assert runner.task(unique=True).schedule(forever) is plain
        keyed = runner.task(key="key").schedule(forever)
        assert runner.task(key="key", unique=True).schedule(forever) is keyed
        assert runner.task(key="key").schedule(forever) is not keyed  # which does not ask


async def test_those_that_come_later_without_are_found() -> None:
    """9.8 What is scheduled without any setting is found, before and after somebody has asked."""
    async with open_guarded() as runner:
        one, two = runner.task(unique=True), runner.schedule(forever)
        assert one.schedule(forever) is two
        three = runner.schedule(forever)
        two.cancel()
        assert one.schedule(forever) is three
        three.cancel()
        runner.schedule(other)
        four = one.schedule(forever)
        assert four not in {two, three}
        five = runner.task(key="key").schedule(forever)
        six = runner.task(key="key").schedule(other)
        assert runner.task(key="key", unique=True).schedule(other) is six
        six.cancel()
        assert runner.task(key="key", unique=True).schedule(other) is not six
        assert runner.task(key="key", unique=True).schedule(forever) is five
        assert one.schedule(forever) is four
    assert not runner._lanes


async def test_those_of_many_functions_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """9.8 However many functions somebody has asked for: those of no kind of their own as well."""
    monkeypatch.setattr("tasks_core._lanes._MOST_WATCHED", 2)
    async with open_guarded() as runner:
        one = runner.task(unique=True)
        for _ in range(3):
            for func in (forever, other, another, len):
                plain: Task = runner.task().schedule(func, *("text",) * (func is not another))
                assert one.schedule(func, *("text",) * (func is not another)) is plain


@pytest.mark.parametrize("key", [None, "key"])
async def test_one_is_found_among_many_at_once(key: str | None) -> None:
    """9.8 It takes no longer where many tasks live."""
    calls = 0

    def see(frame: FrameType, event: str, arg: object) -> None:
        nonlocal calls
        del frame, event, arg
        calls += 1

    async with open_guarded() as runner:
        for _ in range(3000):
            runner.task(key=key).schedule(other)
        one = runner.task(unique=True, key=key)
        first = one.schedule(forever)  # that has looked at all of them
        first.cancel()
        for _ in range(3000):
            runner.task(key=key).schedule(other)
        sys.setprofile(see)
        task = one.schedule(forever)
        again = one.schedule(forever)
        sys.setprofile(None)
        assert task is again is not first
        assert calls < 3000  # what is collected meanwhile may be called, too
        for living in runner.registry:
            living.cancel()


async def test_the_same_task_from_many_threads() -> None:
    """9.8 Of eight threads that schedule at the same time one makes the task."""
    begins = threading.Barrier(8)
    found: list[Task] = []

    def schedule(batch: PhaseScheduler) -> None:
        begins.wait(GUARD)
        found.extend(batch.schedule(forever) for _ in range(50))

    async with open_guarded() as runner:
        batch = runner.task(unique=True)
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(to_thread.run_sync, schedule, batch)
        assert len(found) == 400
        assert len(set(found)) == 1
        assert len(runner.registry) == 1


async def test_unique_for_a_phase_to_come() -> None:
    """9.8 A task that waits for its phase lives; the one that is returned keeps its own phase."""
    async with open_guarded() as runner:
        with TasksScheduler(runner) as tasks, TasksScheduler(runner) as others:
            batch = tasks.after_response.task(unique=True)
            task = batch.schedule(forever)
            assert others.task(unique=True).schedule(forever) is task
            assert others.after_route.task(unique=True).schedule(forever) is task
            assert tasks.after_response.scheduled == (task,)
            assert others.after_route.scheduled == ()
            assert states(task) == ["pending"]


async def test_a_task_that_is_skipped_makes_way() -> None:
    """9.8 What will never run is not returned."""
    async with open_guarded() as runner:
        tasks = TasksScheduler(runner)
        batch = runner.task(unique=True)
        skipped = tasks.after_response.task(unique=True).schedule(forever)
        tasks.reach(Phase.AFTER_RESPONSE, failed=True)
        assert states(skipped) == ["skipped"]
        assert batch.schedule(forever) is not skipped


async def test_a_task_stays_its_own_requests() -> None:
    """9.8 The outcome of who was given it meanwhile says nothing; `wait` tells that (1.6)."""
    async with open_guarded() as runner:
        first, second = TasksScheduler(runner), TasksScheduler(runner)
        task = first.after_response.task(unique=True).schedule(forever)
        assert second.after_response.task(unique=True).schedule(forever) is task
        second.reach(Phase.AFTER_RESPONSE)
        assert states(task) == ["pending"]
        first.reach(Phase.AFTER_RESPONSE, failed=True)
        with pytest.raises(TaskSkipped):
            await task.wait()


@pytest.mark.parametrize("key", [None, "key"])
@pytest.mark.parametrize("unique", [True, None], ids=["unique", "plain"])
@pytest.mark.parametrize("in_thread", [False, True])
@pytest.mark.parametrize("begins", [False, True])
async def test_a_task_that_is_cancelled_makes_way(
    begins: bool,  # noqa: FBT001
    in_thread: bool,  # noqa: FBT001
    unique: bool | None,  # noqa: FBT001
    key: str | None,
) -> None:
    """9.8 At once where `cancel` has said that it takes effect, so that a timer can be set anew."""
    async with open_guarded() as runner:
        batch = runner.task(key=key, unique=True)
        first = runner.task(key=key, unique=unique).schedule(forever)
        if begins:
            await first.started.wait()

        def again() -> Task:
            assert first.cancel()
            second = batch.schedule(forever)
            assert batch.schedule(forever) is second
            return second

        second = await to_thread.run_sync(again) if in_thread else again()
        assert second is not first
        await over(first)
        await second.started.wait()
        assert states(first, second) == ["cancelled", "running"]
    assert not runner._lanes


@pytest.mark.parametrize("limit", [None, 1])
async def test_a_task_that_cleans_up_makes_way(limit: int | None) -> None:
    """9.8 The next one runs beside that; with a limit it waits until that has ended (9.10)."""
    cleaning, go = anyio.Event(), anyio.Event()
    begun: list[int] = []

    async def work(number: int) -> None:
        begun.append(number)
        try:
            await anyio.sleep_forever()
        finally:
            cleaning.set()
            with CancelScope(shield=True):
                await go.wait()

    async with open_guarded() as runner:
        batch = runner.task(unique=True, limit=limit, shield=True)
        first = batch.schedule(work, 1)
        await first.started.wait()
        assert first.cancel()
        await cleaning.wait()
        second = batch.schedule(work, 2)
        await anyio.wait_all_tasks_blocked()
        before = list(begun)
        go.set()  # before anything may fail, as the runner waits for what is shielded
        assert before == ([1, 2] if limit is None else [1])
        await second.started.wait()
        assert batch.schedule(work, 3) is second
        second.cancel()
    assert begun == [1, 2]


async def test_a_sync_function_that_has_begun_does_not_make_way() -> None:
    """9.8 It runs on, as `cancel` has said (2.6): so it is returned."""
    begun, go = anyio.Event(), threading.Event()

    def work() -> None:
        from_thread.run_sync(begun.set)
        assert go.wait(GUARD)

    async with open_guarded() as runner:
        batch = runner.task(unique=True)
        task = batch.schedule(work)
        await begun.wait()
        assert not task.cancel()
        assert batch.schedule(work) is task
        go.set()
        await over(task)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_task_that_has_ended_makes_way(fails: bool) -> None:  # noqa: FBT001
    """9.8 Who has waited for its end gets a new one; remembered ones do not live."""
    async with open_guarded() as runner:
        batch = runner.task(unique=True)
        func: Callable[[], Any] = fail_async if fails else checkpoint
        first = batch.schedule(func)
        assert first.id
        await over(first)
        assert runner.get(first.id) is not None
        second = batch.schedule(func)
        assert second is not first
        await over(second)
    assert not runner._lanes


async def test_an_error_handler_at_work_holds_the_key() -> None:
    """9.8 A task lives until its error handler has ended."""
    handling, go = anyio.Event(), anyio.Event()

    async def handle(task: Task, error: Exception) -> None:
        handling.set()
        await go.wait()

    async with open_guarded() as runner:
        batch = runner.task(unique=True, on_error=handle)
        task: Task[..., Any] = batch.schedule(fail_async)
        await handling.wait()
        assert states(task) == ["failed"]
        again: Task[..., Any] = batch.schedule(fail_async)
        assert again is task
        go.set()
        await over(task)
        anew: Task[..., Any] = batch.schedule(fail_async)
        assert anew is not task


async def test_a_task_may_schedule_its_like() -> None:
    """9.8 It lives while it runs, so it gets itself."""
    found: list[Task] = []

    async def work() -> None:
        found.append(batch.schedule(work))

    async with open_guarded() as runner:
        batch = runner.task(unique=True)
        task = batch.schedule(work)
        await task.wait()
    assert found == [task]


async def test_unique_once_the_runner_is_closed() -> None:
    """5.4 Then it is refused as ever."""
    async with open_guarded() as runner:
        batch = runner.task(unique=True)
        batch.schedule(forever)
    with pytest.raises(RunnerClosedError):
        batch.schedule(forever)
    assert not runner._lanes


async def test_blocks_of_the_testing_kit_see_it_once() -> None:
    """7.5 In `drain` and `inline` a task that was not made is not noted."""
    async with open_guarded() as runner:
        for block in (drain, inline):
            async with block() as noted:
                with TasksScheduler(runner) as tasks:
                    batch = tasks.after_response.task(unique=True)
                    task = batch.schedule(checkpoint)
                    assert batch.schedule(checkpoint) is task
                await tasks.settle()
            assert list(noted.tasks) == [task]
            assert states(task) == ["succeeded"]
    assert not runner._lanes


# Limit.


@each_kind
@pytest.mark.parametrize("limit", [1, 3])
async def test_no_more_run_than_the_limit(kind: type[Gate | Closing], limit: int) -> None:
    """9.10 The others are pending, not started, and begin in order as those before them end."""
    work = kind()
    async with open_guarded() as runner:
        batch = runner.task(limit=limit)
        tasks = [batch.schedule(work, number) for number in range(limit + 3)]
        for number, task in enumerate(tasks):
            await anyio.wait_all_tasks_blocked()
            left = len(tasks) - number
            running = min(limit, left)
            assert states(*tasks[number:]) == ["running"] * running + ["pending"] * (left - running)
            work.open(number)
            await task.wait()
    assert work.most <= limit
    assert sorted(map(str, work.begun)) == [str(number) for number in range(limit + 3)]
    assert not runner._lanes


async def test_a_limit_is_of_sync_and_async_tasks_alike() -> None:
    """9.10 By a key of their own both are counted together."""
    work, work_in_thread = Gate(), Closing()
    async with open_guarded() as runner:
        batch = runner.task(key="mail", limit=1)
        tasks: list[Task] = [
            batch.schedule(work, 0),
            batch.schedule(work_in_thread, 1),
            batch.schedule(work, 2),
        ]
        for number, task in enumerate(tasks):
            await task.started.wait()
            await anyio.wait_all_tasks_blocked()
            assert states(*tasks[number:]) == ["running", *["pending"] * (2 - number)]
            work.open(number)
            work_in_thread.open(number)
            await task.wait()


async def test_who_waits_takes_no_thread() -> None:
    """9.10 Sync functions wait for their turn without one: the others have them."""
    go = threading.Event()
    async with open_guarded(thread_limit=2) as runner:
        batch = runner.task(limit=1)
        tasks = [batch.schedule(forever_in_thread, go) for _ in range(5)]
        await tasks[0].started.wait()
        assert await runner.schedule(len, "four").wait() == 4
        go.set()
        await over(*tasks)


@each_kind
async def test_keys_are_apart(kind: type[Gate | Closing]) -> None:
    """9.9 Each customer's tasks one by one, and those of several at the same time."""
    work = kind()
    async with open_guarded() as runner:
        tasks = [
            runner.task(key=f"sync:{customer}", limit=1).schedule(work, (customer, number))
            for number in range(2)
            for customer in "ab"
        ]
        await anyio.wait_all_tasks_blocked()
        assert states(*tasks) == ["running", "running", "pending", "pending"]
        work.open(*[(customer, number) for customer in "ab" for number in range(2)])
        await over(*tasks)
    assert work.most <= 2


async def test_the_key_is_the_function_if_none_is_set() -> None:
    """9.9 Not the name, which may hold ids."""
    async with open_guarded() as runner:
        first = runner.task(limit=1, name="1").schedule(forever)
        second = runner.task(limit=1, name="2").schedule(forever)
        apart = runner.task(limit=1).schedule(other)
        await anyio.wait_all_tasks_blocked()
        assert states(first, second, apart) == ["running", "pending", "running"]


async def test_runners_have_keys_of_their_own() -> None:
    """9.9 Nothing is shared."""
    async with open_guarded() as runner, open_guarded() as another:
        tasks = [one.task(key="key", limit=1).schedule(forever) for one in (runner, another)]
        await anyio.wait_all_tasks_blocked()
        assert states(*tasks) == ["running"] * 2


async def test_an_application_wide_key_bounds_all_tasks() -> None:
    """9.10 `TaskConfig(key=..., limit=...)` holds for functions of all kinds."""
    work, work_in_thread = Gate(), Closing()
    async with open_guarded(config=TaskConfig(key="all", limit=2)) as runner:
        with TasksScheduler(runner) as tasks:
            made: list[Task] = [
                tasks.schedule(work, 0),
                runner.schedule(work_in_thread, 1),
                tasks.after_response.schedule(work, 2),
                tasks.after_route.schedule(forever),
            ]
            apart = runner.task(key="mine").schedule(forever)
        await anyio.wait_all_tasks_blocked()
        assert states(*made, apart) == ["running", "running", "pending", "pending", "running"]
        work.open(0)
        await made[0].wait()
        await anyio.wait_all_tasks_blocked()
        assert states(*made[2:]) == ["pending", "running"]  # its phase has come first
        work_in_thread.open(1)
        await made[1].wait()
        work.open(2)
        assert await made[2].wait() == 2


async def test_different_limits_under_one_key() -> None:
    """9.10 Each task has its own, beside all that run; nobody overtakes who came before."""
    work = Gate()
    async with open_guarded() as runner:
        batch = runner.task(key="key")
        tasks = [
            batch.task(limit=limit).schedule(work, number)
            for number, limit in enumerate([3, 3, 1, 3, 3])
        ]
        await anyio.wait_all_tasks_blocked()
        assert work.begun == [0, 1]  # the third waits to be alone, and those after it for that
        work.open(0)
        await tasks[0].wait()
        await anyio.wait_all_tasks_blocked()
        assert work.begun == [0, 1]
        work.open(1)
        await tasks[1].wait()
        await anyio.wait_all_tasks_blocked()
        assert work.begun == [0, 1, 2, 3, 4]  # they may run beside it
        work.open(2, 3, 4)
        await over(*tasks)
    assert not runner._lanes


async def test_who_blocks_others_is_cancelled() -> None:
    """9.10 Those that only waited for one that waits begin when that is cancelled."""
    work = Gate()
    async with open_guarded() as runner:
        batch = runner.task(key="key")
        made = [
            batch.task(limit=limit).schedule(work, number)
            for number, limit in enumerate([3, 1, 3, 3])
        ]
        await anyio.wait_all_tasks_blocked()
        assert states(*made) == ["running", *["pending"] * 3]
        made[1].cancel()
        await anyio.wait_all_tasks_blocked()
        assert states(*made) == ["running", "cancelled", "running", "running"]


@pytest.mark.parametrize("sync", [False, True])
async def test_who_waits_for_one_of_its_own_key_is_told(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    sync: bool,  # noqa: FBT001
) -> None:
    """9.10 With `limit=1` neither ends; the log says why."""
    monkeypatch.setattr("tasks_core._runner.WARN_EVERY", 0)

    async def waits() -> None:
        await serially.task(name="second").schedule(checkpoint).wait()

    def waits_in_a_thread() -> None:
        from_thread.run(waits)

    async with open_guarded() as runner:
        serially = runner.task(key="invoices", limit=1)
        task = serially.schedule(waits_in_a_thread if sync else waits)
        with anyio.fail_after(GUARD):
            while not caplog.records:
                await anyio.wait_all_tasks_blocked()
        (second,) = (one for one in runner.registry.living() if one is not task)
        second.cancel()
        await over(task, second)
    said = caplog.records[0].getMessage()
    assert said.startswith("Task second (id=")
    assert "within a task of its key, and has no turn until one of these ends: with limit=1" in said


async def test_who_waits_for_one_of_another_key_is_not_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """9.10 That one has its turn in time, whoever waits for it."""
    monkeypatch.setattr("tasks_core._runner.WARN_EVERY", 0)
    gate = Gate()

    async def waits(task: Task) -> None:
        await task.wait()

    async with open_guarded() as runner:
        serially = runner.task(key="invoices", limit=1)
        serially.schedule(gate, 1)
        second = serially.schedule(checkpoint)
        waiting = runner.task(key="others", limit=1).schedule(waits, second)
        await anyio.wait_all_tasks_blocked()
        gate.open(1)
        await over(second, waiting)
    assert not caplog.records


async def test_a_task_without_a_limit_counts_and_does_not_wait() -> None:
    """9.10 Who sets none is not bounded, but is one of those that run."""
    work = Gate()
    async with open_guarded() as runner:
        unbounded = [runner.task(key="key").schedule(work, number) for number in range(2)]
        bounded = runner.task(key="key", limit=2).schedule(work, 2)
        await anyio.wait_all_tasks_blocked()
        assert states(*unbounded, bounded) == ["running", "running", "pending"]
        work.open(0)
        await unbounded[0].wait()
        await bounded.started.wait()
        work.open(1, 2)
        await over(*unbounded, bounded)


@each_kind
async def test_cancelled_while_it_waits(kind: type[Gate | Closing]) -> None:
    """9.10 It never begins, and holds up nobody: neither those after it nor the key."""
    work = kind()
    async with open_guarded() as runner:
        batch = runner.task(limit=1)
        tasks = [batch.schedule(work, number) for number in range(5)]
        await tasks[0].started.wait()
        assert tasks[1].cancel()
        assert await to_thread.run_sync(tasks[3].cancel)
        for task in (tasks[1], tasks[3]):
            with pytest.raises(TaskCancelled):
                await task.wait()
        work.open(*range(5))
        await over(*tasks)
    assert work.begun == [0, 2, 4]
    assert states(*tasks)[::2] == ["succeeded"] * 3


async def test_who_was_cancelled_while_it_waits_is_let_go() -> None:
    """9.10 Not only when its turn would have come; those that are left keep their order."""
    work, count = Gate(), 60
    async with open_guarded() as runner:
        batch = runner.task(limit=1)
        first = batch.schedule(work, "first")
        waiting = [batch.schedule(work, number) for number in range(count)]
        await first.started.wait()
        left = waiting[0], waiting[count // 2], waiting[-1]
        for cancelled in set(waiting).difference(left):
            cancelled.cancel()
            await over(cancelled)
            del cancelled
        kept = weakref.WeakSet(waiting)
        del waiting
        gc.collect()
        assert len(kept) < count // 2
        work.open("first", 0, count // 2, count - 1)
        await over(first, *left)
    assert work.begun == ["first", 0, count // 2, count - 1]


async def test_all_that_wait_are_cancelled() -> None:
    """9.10 The next one that is scheduled has the slot as if they had not been."""
    work = Gate()
    async with open_guarded() as runner:
        batch = runner.task(limit=1)
        first, *waiting = [batch.schedule(work, number) for number in range(4)]
        await first.started.wait()
        for task in waiting:
            task.cancel()
        work.open(0, 4)
        await first.wait()
        assert not runner._lanes
        assert await batch.schedule(work, 4).wait() == 4


async def test_what_ends_badly_gives_its_slot_back() -> None:
    """9.10 Whatever becomes of it: failed, cancelled, or cut short by the event loop."""
    async with open_guarded() as runner:
        batch = runner.task(key="key", limit=1)
        failing: Task[..., Any] = batch.schedule(fail_async)
        cancelled = batch.schedule(forever)
        last = batch.schedule(checkpoint)
        await over(failing)
        await cancelled.started.wait()
        cancelled.cancel()
        await over(last)
    assert states(failing, cancelled, last) == ["failed", "cancelled", "succeeded"]


async def test_an_error_handler_holds_the_slot() -> None:
    """9.10 A task that fails runs until its error handler has ended."""
    handling, go = anyio.Event(), anyio.Event()

    async def handle(task: Task, error: Exception) -> None:
        handling.set()
        await go.wait()

    async with open_guarded() as runner:
        batch = runner.task(key="key", limit=1)
        failing: Task[..., Any] = batch.task(on_error=handle).schedule(fail_async)
        task = batch.schedule(checkpoint)
        await handling.wait()
        await anyio.wait_all_tasks_blocked()
        assert states(failing, task) == ["failed", "pending"]
        go.set()
        await task.wait()


@each_kind
async def test_the_response_does_not_wait_for_a_slot(kind: type[Gate | Closing]) -> None:
    """9.10 The fence before the first byte (1.1, 1.2) is for what may run."""
    work = kind()
    async with open_guarded() as runner:
        with TasksScheduler(runner) as tasks:
            batches = (tasks.task(limit=1), tasks.after_route.task(limit=1))
            made = [batch.schedule(work, number) for number, batch in enumerate(batches * 2)]
            tasks.reach(Phase.AFTER_ROUTE)
            await tasks.begun()
            assert states(*made) == ["running", "pending", "pending", "pending"]
        work.open(*range(4))
        await over(*made)
    assert work.begun == [0, 2, 1, 3]  # in the order in which their time came


async def test_the_order_is_that_of_their_times() -> None:
    """9.10 Who is scheduled first for a later phase comes after whom is due before."""
    work = Gate()
    async with open_guarded() as runner:
        tasks, others = TasksScheduler(runner), TasksScheduler(runner)
        late = tasks.after_response.task(limit=1).schedule(work, "late")
        made = [
            late,
            others.task(limit=1).schedule(work, "first"),
            others.task(limit=1).schedule(work, "second"),
        ]
        tasks.reach(Phase.AFTER_RESPONSE)
        made.append(others.task(limit=1).schedule(work, "last"))
        work.open("late", "first", "second", "last")
        await over(*made)
    assert work.begun == ["first", "second", "late", "last"]


async def test_tasks_to_come_hold_no_slot() -> None:
    """9.10 One that waits for its phase does not keep others from running."""
    async with open_guarded() as runner:
        with TasksScheduler(runner) as tasks:
            after = tasks.after_response.task(limit=1).schedule(checkpoint)
            await tasks.task(limit=1).schedule(checkpoint).wait()
        await after.wait()


async def test_a_skipped_task_holds_no_slot() -> None:
    """9.10 What is skipped makes way for those that wait."""
    async with open_guarded() as runner:
        with TasksScheduler(runner) as tasks:
            batch = tasks.after_response.task(key="key", limit=1)
            skipped = batch.schedule(checkpoint)
            task = batch.task(run_on="always").schedule(checkpoint)
            tasks.fail()
        await task.wait()
        with pytest.raises(TaskSkipped):
            await skipped.wait()
    assert not runner._lanes


async def test_it_says_what_it_waits_for() -> None:
    """5.3 A task that waits for its turn is told from one that waits for anything else."""
    async with open_guarded() as runner:
        batch = runner.task(limit=1)
        batch.schedule(forever)
        task = batch.schedule(forever)
        await anyio.wait_all_tasks_blocked()
        assert task._waits_for == "others of its key"
        assert task.record().state == "pending"


# Shutdown.


async def test_a_shutdown_cuts_what_waits_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """9.10 What is not shielded and waits for its turn gets no grace (5.4), and is reported."""
    work = Gate()
    async with open_guarded(grace_period=LONG) as runner:
        batch = runner.task(limit=1)
        first, waiting, last = [batch.schedule(work, number) for number in range(3)]
        await first.started.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(runner.drain)
            await anyio.wait_all_tasks_blocked()
            assert states(first, waiting, last) == ["running", "cancelled", "cancelled"]
            late = batch.schedule(work, 3)
            await anyio.wait_all_tasks_blocked()
            assert states(late) == ["cancelled"]
            work.open(0)
    assert states(first) == ["succeeded"]
    assert work.begun == [0]
    (report,) = logged(caplog, "WARNING")
    assert report.count("cancelled, waited for others of its key") == 2
    assert not runner._lanes


async def test_a_shutdown_lets_what_is_shielded_run() -> None:
    """9.10 One after the other, within the limit, and those that are scheduled meanwhile too."""
    work = Gate()
    async with open_guarded() as runner:
        batch = runner.task(limit=1, shield=True)
        tasks = [batch.schedule(work, number) for number in range(3)]
        cut = batch.task(shield=False).schedule(work, 3)
        await tasks[0].started.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(runner.drain)
            await anyio.wait_all_tasks_blocked()
            assert work.begun == [0]
            tasks.append(batch.schedule(work, 4))
            work.open(*range(5))
    assert states(*tasks, cut) == ["succeeded"] * 4 + ["cancelled"]
    assert work.begun == [0, 1, 2, 4]
    assert work.most == 1
    assert not runner._lanes


async def test_past_the_bound_what_is_shielded_is_cut_too() -> None:
    """5.2 `shutdown_timeout` ends those that wait with those that run."""
    async with open_runner(shutdown_timeout=LONG) as runner:
        batch = runner.task(limit=1, shield=True)
        tasks = [batch.schedule(forever) for _ in range(3)]
        await tasks[0].started.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(runner.drain)
            await anyio.wait_all_tasks_blocked()
            forward()
    assert states(*tasks) == ["cancelled"] * 3
    assert not runner._lanes


async def test_a_task_that_waits_for_its_like(caplog: pytest.LogCaptureFixture) -> None:
    """9.10 It would wait for ever, and a shutdown ends it as any."""

    async def work(depth: int) -> None:
        await batch.schedule(work, depth + 1).wait()

    async with open_guarded() as runner:
        batch = runner.task(limit=1)
        task = batch.schedule(work, 0)
        await task.started.wait()
        await anyio.wait_all_tasks_blocked()
        assert len(runner.registry) == 2
    assert len(runner.registry) == 0
    # Its own failure, by the way: who waits for it was cut short before it could be cancelled.
    assert states(task)[0] in {"failed", "cancelled"}


# Event loops (asyncio only: trio has one a thread).


def test_a_key_is_counted_over_all_event_loops() -> None:
    """9.9 Of one runner, also where requests have loops of their own; each task runs on its own."""
    session = asyncio.new_event_loop()
    runner = TaskRunner(shutdown_timeout=GUARD)
    session.run_until_complete(runner.__aenter__())
    go: asyncio.Event | None = None
    loops: list[asyncio.AbstractEventLoop] = []

    async def work() -> None:
        loops.append(asyncio.get_running_loop())
        if go is not None:
            await go.wait()

    def schedule() -> Task:
        return TasksScheduler(runner).task(limit=1).schedule(work)

    async def begin() -> Task:
        nonlocal go
        go = asyncio.Event()
        task = schedule()
        await task.started.wait()
        return task

    async def schedule_there() -> tuple[Task, Task]:
        waiting, cancelled = schedule(), schedule()
        await asyncio.sleep(0)
        assert states(waiting, cancelled) == ["pending"] * 2
        return waiting, cancelled

    async def end(first: Task, last: Task) -> None:
        assert go is not None
        go.set()
        await over(first, last)

    first = session.run_until_complete(begin())
    waiting = asyncio.run(schedule_there())  # whose loop has ended when their turn comes
    last = session.run_until_complete(_made(schedule))
    session.run_until_complete(end(first, last))
    assert states(first, *waiting, last) == ["succeeded", "cancelled", "cancelled", "succeeded"]
    assert loops == [session] * 2
    assert not runner._lanes

    async def on_another() -> asyncio.AbstractEventLoop:
        await over(schedule())
        return asyncio.get_running_loop()

    another = asyncio.run(on_another())
    assert loops[-1] is another
    session.run_until_complete(runner.__aexit__(None, None, None))
    session.close()


async def _made(make: Callable[[], Task]) -> Task:
    return make()


def test_a_slot_of_an_event_loop_that_stands() -> None:
    """5.4 A shutdown does not wait for it: a shielded task of the same key runs."""
    session, standing = asyncio.new_event_loop(), asyncio.new_event_loop()
    runner = TaskRunner(shutdown_timeout=GUARD)
    session.run_until_complete(runner.__aenter__())

    async def begin() -> Task:
        batch = TasksScheduler(runner).task(key="key", limit=1, shield=True)
        task = batch.schedule(forever)
        batch.schedule(forever)
        await task.started.wait()
        return task

    held = standing.run_until_complete(begin())
    batch = runner.task(key="key", limit=1, shield=True)
    waiting = session.run_until_complete(_made(lambda: batch.schedule(checkpoint)))
    session.run_until_complete(runner.__aexit__(None, None, None))
    assert states(held, waiting) == ["running", "succeeded"]
    assert not runner._lanes
    standing.run_until_complete(over(held))
    assert states(held) == ["cancelled"]
    assert not runner._lanes
    for loop in (session, standing):
        loop.close()


async def test_scheduled_from_threads() -> None:
    """9.10 From eight threads at a time, and never more than the limit run."""
    begins = threading.Barrier(8)
    work = Gate()
    work.open(*range(160))
    made: list[Task] = []

    def schedule(thread: int, batch: PhaseScheduler) -> None:
        begins.wait(GUARD)
        made.extend(batch.schedule(work, 20 * thread + number) for number in range(20))

    async with open_guarded() as runner:
        batch = runner.task(limit=3)
        async with anyio.create_task_group() as group:
            for thread in range(8):
                group.start_soon(to_thread.run_sync, schedule, thread, batch)
        await runner.join()
    assert states(*made) == ["succeeded"] * 160
    assert work.most <= 3
    for thread in range(8):  # each thread's own are in order
        its_own = range(20 * thread, 20 * thread + 20)
        assert [number for number in work.begun if number in its_own] == list(its_own)
    assert not runner._lanes


# Backlog.


def schedule_until_full(batches: Sequence[PhaseScheduler]) -> list[Task]:
    """Schedule by each in turn, until one is refused."""
    made: list[Task] = []
    with suppress(BacklogFullError):
        for batch in batches:
            made.append(batch.schedule(forever))  # noqa: PERF401 - up to the one that is refused
    return made


@pytest.mark.parametrize("limit", [1, 2, 5])
@pytest.mark.parametrize("backlog", [0, 1, 3])
@pytest.mark.parametrize("at_once", [False, True], ids=["in turns", "at once"])
async def test_so_many_may_wait(
    limit: int,
    backlog: int,
    at_once: bool,  # noqa: FBT001
) -> None:
    """9.11 As many run as the limit says and as many wait as the backlog says; one more raises."""
    async with open_guarded() as runner:
        batch = runner.task(limit=limit, backlog=backlog)
        tasks: list[Task] = []
        for _ in range(limit + backlog):
            tasks.append(batch.schedule(forever))
            if not at_once:
                await anyio.wait_all_tasks_blocked()
        for _ in range(2):
            with pytest.raises(BacklogFullError):
                batch.schedule(forever)
        await anyio.wait_all_tasks_blocked()
        assert states(*tasks) == ["running"] * limit + ["pending"] * backlog
        with pytest.raises(BacklogFullError):
            await to_thread.run_sync(batch.schedule, forever)
        tasks[0].cancel()  # one that runs makes room for one that waits, and so for another
        await over(tasks[0])
        assert schedule_until_full([batch] * 5)[1:] == []
        if backlog:
            await anyio.wait_all_tasks_blocked()
            waiting = [task for task in runner.registry if states(task) == ["pending"]]
            assert len(waiting) == backlog
            waiting[0].cancel()
            assert len(schedule_until_full([batch] * 5)) == 1


async def test_those_of_phases_to_come_count() -> None:
    """9.11 Three tasks after the response of one request, where none may wait: one is accepted."""
    async with open_guarded() as runner:
        with TasksScheduler(runner) as tasks:
            batch = tasks.after_response.task(limit=1, backlog=0)
            (task,) = schedule_until_full([batch] * 3)
            assert tasks.after_response.scheduled == (task,)
            with pytest.raises(BacklogFullError):
                tasks.task(limit=1, backlog=0).schedule(forever)  # nor beside it, at once
        await task.started.wait()
        assert len(runner.registry) == 1


@pytest.mark.parametrize(
    ("limit", "backlog", "accepted"), [(1, 0, 1), (1, 1, 2), (2, 0, 2), (2, 3, 5)]
)
async def test_all_of_one_request(limit: int, backlog: int, accepted: int) -> None:
    """9.11 Whatever their phases, and whether those that could run have begun yet."""
    async with open_guarded() as runner:
        with TasksScheduler(runner) as tasks:
            batches = [tasks.after_response, tasks.task(), tasks.after_route] * 3
            made = schedule_until_full(
                [batch.task(limit=limit, backlog=backlog) for batch in batches]
            )
        await anyio.wait_all_tasks_blocked()
        assert len(made) == accepted
        assert states(*made).count("running") == limit


async def test_a_backlog_where_more_run_than_the_limit() -> None:
    """9.11 Tasks of the key that have no limit run beside it: as many may wait all the same."""
    async with open_guarded() as runner:
        batch = runner.task(key="key")
        for _ in range(3):
            batch.schedule(forever)
        await anyio.wait_all_tasks_blocked()
        assert len(schedule_until_full([batch.task(limit=1, backlog=2)] * 5)) == 2


async def test_a_backlog_without_a_limit_is_none() -> None:
    """9.11 Where any number may run, none waits."""
    async with open_guarded() as runner:
        tasks = schedule_until_full([runner.task(backlog=0)] * 3)
        assert len(tasks) == 3


async def test_the_error_says_what_is_full() -> None:
    """9.11 With the key, which may hold what users typed, and how many wait."""
    async with open_guarded() as runner:
        batch = runner.task(key="sync:eve\n", limit=1, backlog=1, name="sync")
        schedule_until_full([batch] * 2)
        with pytest.raises(BacklogFullError) as raised:
            batch.schedule(forever)
        default = runner.task(limit=1, backlog=0)
        default.schedule(other)
        with pytest.raises(BacklogFullError) as by_function:
            default.schedule(other)
    assert raised.value.key == "sync:eve\n"
    assert str(raised.value).startswith(
        "Task sync was refused: the limit of the key sync:eve\\n is reached, and 1 of its tasks "
        "wait already."
    )
    assert by_function.value.key == "other"
    again = pickle.loads(pickle.dumps(raised.value))  # noqa: S301 - our own
    assert (str(again), again.key) == (str(raised.value), raised.value.key)


async def test_nothing_of_a_refused_task_stays() -> None:
    """9.11 It is not known, not counted, and its arguments go."""

    class Payload:
        pass

    async with open_guarded() as runner:
        tasks = TasksScheduler(runner)
        batch = tasks.after_response.task(limit=1, backlog=0)
        task = batch.schedule(forever)

        def refuse() -> weakref.ref[Payload]:
            payload = Payload()
            with pytest.raises(BacklogFullError):
                batch.schedule(forever, payload)
            return weakref.ref(payload)

        seen = refuse()
        gc.collect()  # what pytest keeps of the error
        assert seen() is None
        assert list(runner.registry) == [task]
        assert tasks.after_response.scheduled == (task,)
        task.cancel()
        assert not runner._lanes
        assert len(runner.registry) == 0
        batch.schedule(forever)


async def test_unique_comes_before_the_backlog() -> None:
    """9.8 Where one lives it is returned, and nothing is refused for it."""
    async with open_guarded() as runner:
        batch = runner.task(unique=True, limit=1, backlog=0)
        assert batch.schedule(forever) is batch.schedule(forever)


# Many.


def bytes_of(make: Callable[[], object]) -> tuple[int, object]:
    """Return how much memory is taken by what a function makes, and that."""
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    made = make()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return after - before, made


async def test_a_task_that_waits_is_small(caplog: pytest.LogCaptureFixture) -> None:
    """9.10 It is not started, and costs less than half a KiB."""
    caplog.set_level("CRITICAL", "tasks_core")  # the report of the shutdown names them all
    count = 20_000
    async with open_guarded() as runner:
        batch = runner.task(key="key", limit=1)
        first = batch.schedule(forever)
        await first.started.wait()
        size, made = bytes_of(lambda: [batch.schedule(checkpoint) for _ in range(count)])
        assert size / count < 512
        del made
    assert not runner._lanes


MANY = 3000  # more than Python's stack is deep


async def test_many_that_wait_run_one_after_the_other() -> None:
    """9.10 Each that ends starts the next: not within its own end."""
    log: list[int] = []

    async def note(number: int) -> None:
        log.append(number)

    async with open_guarded() as runner:
        batch = runner.task(limit=1)
        for number in range(MANY):
            batch.schedule(note, number)
        await runner.join()
    assert log == list(range(MANY))


async def test_many_that_wait_are_cut() -> None:
    """9.10 By a shutdown, all at once."""
    async with open_guarded() as runner:
        batch = runner.task(limit=1)
        tasks = [batch.schedule(forever) for _ in range(MANY)]
        await tasks[0].started.wait()
    assert states(*tasks) == ["cancelled"] * MANY
    assert not runner._lanes


async def test_many_that_are_cut_when_their_turn_comes() -> None:
    """9.10 The end of one that is cut lets the next one be looked at, which is cut as well."""
    async with open_guarded() as runner:
        batch = runner.task(limit=1)
        first = batch.schedule(forever)
        tasks = [batch.schedule(forever) for _ in range(MANY)]
        await first.started.wait()
        runner._shutdown.drains = True  # as it is while a shutdown cuts one after the other
        first.cancel()
        await over(first)
        await runner.join()
    assert states(*tasks) == ["cancelled"] * MANY


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="Python 3.12 has it")
async def test_many_that_wait_where_tasks_start_eagerly() -> None:
    """9.10 On a loop that runs the first step at once, where that is all there is to run."""
    log: list[int] = []

    async def note(number: int) -> None:
        log.append(number)

    loop = asyncio.get_running_loop()
    factory: Any = vars(asyncio)["eager_task_factory"]
    async with open_guarded() as runner:
        batch = runner.task(key="key", limit=1)
        go = anyio.Event()
        first = batch.schedule(go.wait)
        await first.started.wait()
        for number in range(MANY):
            batch.schedule(note, number)
        loop.set_task_factory(factory)
        try:
            go.set()
            await runner.join()
        finally:
            loop.set_task_factory(None)
    assert log == list(range(MANY))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_cannot_be_started_gives_its_slot_back() -> None:
    """9.10 Where the event loop's task factory raises, the task has failed, and the next runs."""
    loop = asyncio.get_running_loop()

    def refuse(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        raise SomeError

    async with open_guarded() as runner:
        batch = runner.task(key="key", limit=1)
        go = anyio.Event()
        first, refused, last = (
            batch.schedule(go.wait),
            batch.schedule(checkpoint),
            batch.schedule(checkpoint),
        )
        await first.started.wait()
        loop.set_task_factory(refuse)
        try:
            go.set()
            await over(refused, last)
        finally:
            loop.set_task_factory(None)
    assert states(first, refused, last) == ["succeeded", "failed", "failed"]
    assert not runner._lanes


async def test_in_a_sync_route_and_in_tasks() -> None:
    """9.8 Wherever `schedule` is called: in a thread of the event loop's, and in tasks."""

    def route(batch: PhaseScheduler) -> Task:
        task: Task = from_thread.run_sync(batch.schedule, forever)
        assert batch.schedule(forever) is task
        return task

    async with open_guarded() as runner:
        batch = runner.task(unique=True)
        task = await runner.schedule(route, batch).wait()
        assert batch.schedule(forever) is task
        await task.started.wait()


async def test_a_daemon_of_a_key_waits_its_turn() -> None:
    """5.8 It has the limit of its key as any; a shutdown cuts it while it waits."""
    begun = anyio.Event()
    async with open_guarded() as runner:
        batch = runner.task(key="key", limit=1)
        first = batch.schedule(until_cancelled, begun)
        daemon = batch.task(daemon=True).schedule(forever)
        await begun.wait()
        await anyio.wait_all_tasks_blocked()
        assert states(daemon) == ["pending"]
    assert states(first, daemon) == ["cancelled"] * 2


# Who comes in between: a finaliser, or a signal handler, in the thread that holds the lock.


class Between:
    """Does something once, after so many calls within the counting of tasks.

    There a finaliser or a signal handler may come in between, so that nothing else is needed.
    """

    def __init__(self, action: Callable[[], object], after: int) -> None:
        self.done = False
        self._action = action
        self._left = after

    def __enter__(self) -> Self:
        sys.setprofile(self._see)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _see(self, frame: FrameType, event: str, arg: object) -> None:
        del arg
        if event == "c_call" or frame.f_globals["__name__"] != "tasks_core._lanes":
            return
        self._left -= 1
        if self._left < 0:
            sys.setprofile(None)
            self.done = True
            self._action()


STEPS: Final = 500

BETWEEN: dict[str, TaskSettings] = {
    "limit": {"key": "key", "limit": 1},
    "unique": {"unique": True},
    "unique key": {"key": "key", "unique": True},
}


@pytest.mark.parametrize("cancels", [False, True])
@pytest.mark.parametrize("settings", BETWEEN.values(), ids=BETWEEN)
async def test_who_comes_in_between_is_counted(
    settings: TaskSettings,
    cancels: bool,  # noqa: FBT001
) -> None:
    """9.8, 9.10 A finaliser may schedule and cancel while a task is counted, wherever it comes."""
    step = 0
    for step in range(STEPS):
        gate = Gate()
        gate.open("here")
        async with open_guarded() as runner:
            batch = runner.task(**settings)
            runner.task(key="key").schedule(checkpoint)  # from before anybody asked for one

            made: list[Task] = []

            def act(
                batch: PhaseScheduler = batch, gate: Gate = gate, made: list[Task] = made
            ) -> None:
                made.append(batch.schedule(gate, "here"))
                if cancels:
                    made[0].cancel()

            with Between(act, step) as between:
                task = batch.schedule(gate, "here")
            if not between.done:
                break
            with fail_after(GUARD):
                await runner.join()
            assert gate.most <= 1
            assert not runner._lanes
            if not cancels:
                assert (made[0] is task) is ("unique" in settings)
                assert len(gate.begun) == 1 + ("unique" not in settings)
    assert 3 < step < STEPS - 1


async def test_who_comes_in_between_a_search_is_counted() -> None:
    """9.8 A finaliser may schedule what is not counted while one of its function is looked for."""
    step = 0
    for step in range(STEPS):
        gate = Gate()
        gate.open("here")
        async with open_guarded() as runner:
            batch = runner.task(unique=True)
            first = batch.schedule(gate, "here")
            runner.schedule(gate, "here")
            first.cancel()

            def act(runner: TaskRunner = runner, gate: Gate = gate) -> None:
                runner.schedule(gate, "here")

            with Between(act, step) as between:
                batch.schedule(gate, "here")
            if not between.done:
                break
            with fail_after(GUARD):
                await runner.join()
            assert len(gate.begun) == 2
            assert not runner._lanes
    assert 3 < step < STEPS - 1


@pytest.mark.parametrize("ends", [False, True])
async def test_who_comes_in_between_a_first_search_leaves_nothing(
    ends: bool,  # noqa: FBT001
) -> None:
    """9.8 What is not counted may end while somebody asks for one of its function the first time.

    So it may in a thread, while its event loop goes on.
    """
    step = 0
    for step in range(STEPS):
        gate = Gate()
        gate.open("here")
        async with open_guarded() as runner:
            plain = runner.schedule(gate, "here")
            keyed = runner.task(key="key")
            act = plain.cancel if ends else partial(keyed.schedule, checkpoint)
            with Between(act, step) as between:
                task = runner.task(unique=True).schedule(gate, "here")
            if not between.done:
                break
            with fail_after(GUARD):
                await runner.join()
            assert len(gate.begun) == (task is not plain or not ends)
            assert not runner._lanes
    assert 3 < step < STEPS - 1


class Changing(dict[Task, object]):
    """A dictionary that has changed while it is iterated over, the first time."""

    changed = False

    def __reversed__(self) -> Any:
        if not self.changed:
            self.changed = True
            raise RuntimeError
        return super().__reversed__()


async def test_who_is_about_to_leave_is_not_returned() -> None:
    """9.8 A task that is over has not left yet where somebody comes in between, or in a thread."""
    async with open_guarded() as runner:
        task, ended = runner.schedule(forever), runner.schedule(forever)
        ended.cancel()
        await over(ended)
        assert runner._lanes._newest(Changing({task: None, ended: None})) is task
        task.cancel()


async def test_who_comes_in_between_a_clearance_keeps_its_place() -> None:
    """9.10 Where many that wait are cancelled, what is scheduled meanwhile has its turn."""
    step = 0
    for step in range(STEPS):
        gate = Gate()
        gate.open("late")
        async with open_guarded() as runner:
            batch = runner.task(key="key", limit=1)
            tasks = [batch.schedule(gate, name) for name in range(21)]

            def act(batch: PhaseScheduler = batch, gate: Gate = gate) -> None:
                batch.schedule(gate, "late")

            with Between(act, step) as between:
                for task in reversed(tasks[1:]):
                    task.cancel()
            if not between.done:
                break
            gate.open(0)
            with fail_after(GUARD):
                await runner.join()
            assert gate.begun == [0, "late"]
            assert not runner._lanes
    assert 3 < step < STEPS - 1


@pytest.mark.parametrize("way", ["schedules", "cancels", "ends others"])
async def test_who_comes_in_between_an_end_is_counted(way: str) -> None:
    """9.10 Who comes while a task leaves takes no turn twice, and none is lost."""
    step = 0
    for step in range(STEPS):
        gate = Gate()
        async with open_guarded() as runner:
            batch = runner.task(key="key", limit=1)
            tasks = [batch.schedule(gate, name) for name in range(4)]
            await tasks[0].started.wait()

            def act(
                batch: PhaseScheduler = batch, gate: Gate = gate, tasks: list[Task] = tasks
            ) -> None:
                if way == "schedules":
                    tasks.append(batch.schedule(gate, 4))
                elif way == "cancels":
                    tasks[1].cancel()
                else:
                    tasks[2].cancel()
                    tasks[1].cancel()

            gate.open(*range(5))
            with Between(act, step) as between, fail_after(GUARD):
                await runner.join()
            if not between.done:
                break
            assert gate.most == 1
            assert all(task._is_over for task in tasks)
            assert not runner._lanes
    assert 3 < step < STEPS - 1
