"""What a test asks recorded tasks, and what it is told where the answer is no."""

from __future__ import annotations

import functools
import logging
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import ANY, AsyncMock, MagicMock, create_autospec

import pytest
from tasks_core import Phase, TaskConfig, TaskRunner, TaskSkipped, TasksScheduler
from tasks_core.testing import RecordedPhase, RecordedTasks, record

from tests.tasks_core.stage import SomeError, open_runner

pytestmark = pytest.mark.anyio


async def send_mail(to: str, subject: str = "Welcome!", *, urgent: bool = False) -> None: ...
def charge(order: int, *items: str, **options: object) -> None: ...
def pass_on(*args: Any, **kwargs: Any) -> None: ...
def report(*_: object) -> None: ...


class Mailer:
    def send(self, to: str) -> None: ...
    def __call__(self, to: str) -> None: ...


class Hostile:
    """Does not say what it is."""

    def __repr__(self) -> str:
        raise SomeError


class Vector:
    """Is compared by its elements, as arrays are: what comes of that is neither true nor false."""

    def __init__(self, *elements: int) -> None:
        self.elements = elements

    def __eq__(self, other: object) -> Any:
        return Vector()

    def __hash__(self) -> int:
        return hash(self.elements)

    def __bool__(self) -> bool:
        msg = "the truth value\nis ambiguous"
        raise ValueError(msg)

    def __repr__(self) -> str:
        return f"Vector{self.elements}"


@dataclass
class Lines:
    """Says in several lines what it is."""

    number: int

    def __repr__(self) -> str:
        return f"Lines(\n  {self.number},\n)"


mailer = Mailer()


@functools.wraps(Mailer.send)
def other_arguments(to: str) -> None:
    """Take other arguments than what it wraps, as some decorators do."""


@pytest.fixture
async def runner() -> AsyncGenerator[TaskRunner]:
    async with open_runner() as runner:
        yield runner


@pytest.fixture
def recorded() -> RecordedTasks:
    return record()


@pytest.fixture
async def tasks(runner: TaskRunner, recorded: RecordedTasks) -> TasksScheduler:
    with recorded:
        scheduler = TasksScheduler(runner)
    scheduler.reach(Phase.AFTER_RESPONSE)
    return scheduler


def what_is_told(
    recorded: RecordedTasks | RecordedPhase,
    func: Callable[..., Any],
    /,
    *args: Any,
    **kwargs: Any,
) -> list[str]:
    with pytest.raises(AssertionError) as raised:
        recorded.assert_scheduled(func, *args, **kwargs)
    return str(raised.value).splitlines()


SAME: dict[str, tuple[partial[Any], partial[Any]]] = {
    "positions": (partial(send_mail, "a", "b"), partial(send_mail, "a", "b")),
    "names": (partial(send_mail, "a", "b"), partial(send_mail, subject="b", to="a")),
    "defaults": (partial(send_mail, "a"), partial(send_mail, "a", "Welcome!", urgent=False)),
    "varying": (partial(charge, 1, "x", tip=2, to="y"), partial(charge, 1, "x", to="y", tip=2)),
    "a_method": (partial(mailer.send, "a"), partial(mailer.send, to="a")),
    "an_object": (partial(mailer, "a"), partial(mailer, to="a")),
    "a_wrapper": (partial(pass_on, 1, x=2), partial(pass_on, 1, x=2)),
    "another_signature": (partial(other_arguments, "x"), partial(other_arguments, "x")),
    "no_signature": (partial(dict, a=1), partial(dict, a=1)),
    "anything": (partial(send_mail, "a", urgent=True), partial(send_mail, ANY, urgent=ANY)),
}


@pytest.mark.parametrize(("scheduled", "asserted"), SAME.values(), ids=SAME)
async def test_how_arguments_are_passed_makes_no_difference(
    tasks: TasksScheduler,
    recorded: RecordedTasks,
    scheduled: partial[Any],
    asserted: partial[Any],
) -> None:
    """A call is found whichever way its arguments were passed."""
    func, args, kwargs = scheduled.func, scheduled.args, scheduled.keywords
    task = tasks.schedule(func, *args, **kwargs)
    found = recorded.assert_scheduled(asserted.func, *asserted.args, **asserted.keywords)
    assert found is task


async def test_partials_stay_partials(tasks: TasksScheduler, recorded: RecordedTasks) -> None:
    """What a partial holds counts as an argument, whatever it is asserted as."""
    task = tasks.schedule(partial(send_mail, "a"), "b")
    assert recorded.assert_scheduled(send_mail, "a", subject="b") is task
    assert recorded.assert_scheduled(partial(send_mail, subject="b"), to="a") is task
    assert recorded.assert_scheduled(partial(send_mail, "a"), "b") is task


async def test_the_first_is_found(tasks: TasksScheduler, recorded: RecordedTasks) -> None:
    """Of several tasks that are the same the first is returned."""
    first = tasks.schedule(send_mail, "a")
    tasks.schedule(send_mail, "a")
    assert recorded.assert_scheduled(send_mail, "a") is first


async def test_settings_are_those_in_force(runner: TaskRunner) -> None:
    """Settings count as they are in force: the application's and the defaults are applied."""
    with record() as recorded:
        tasks = TasksScheduler(runner, TaskConfig(shield=True, on_error=report))
        tasks.reach(Phase.AFTER_RESPONSE)
    task = tasks.after_response.schedule(send_mail, "a")
    batch = recorded.after_response
    assert batch.assert_scheduled(send_mail, "a") is task
    batch.task(shield=True).task(run_on="success").assert_scheduled(send_mail, "a")
    batch.task(name="send_mail", on_error=report).assert_scheduled(send_mail, "a")
    plain = tasks.task(shield=False, name="x").schedule(send_mail, "a")
    assert recorded.task(shield=False, name="x").assert_scheduled(send_mail, "a") is plain
    with pytest.raises(AssertionError) as raised:
        batch.task(shield=False, run_on="always").assert_scheduled(send_mail, "a")
    assert str(raised.value).splitlines() == [
        "no such task was recorded:",
        "    after_response.task(shield=False, run_on='always').schedule(send_mail, 'a')",
        "recorded:",
        "    after_response.task(shield=True, run_on='success').schedule(send_mail, 'a')",
        "    task(shield=False, run_on='success').schedule(send_mail, 'a')",
        "the nearest differs in its shield:",
        "    expected False",
        "    recorded True",
        "the nearest differs in its run_on:",
        "    expected 'always'",
        "    recorded 'success'",
    ]


async def test_nothing_was_recorded(tasks: TasksScheduler, recorded: RecordedTasks) -> None:
    """Where nothing was recorded, that is said."""
    assert what_is_told(recorded, send_mail, "a") == [
        "no such task was recorded:",
        "    schedule(send_mail, 'a')",
        "nothing was recorded",
    ]
    recorded.assert_nothing_scheduled()


async def test_another_argument(tasks: TasksScheduler, recorded: RecordedTasks) -> None:
    """The nearest of the same function is shown argument by argument, under their names."""
    tasks.schedule(send_mail, "x", "y", urgent=True)
    tasks.schedule(send_mail, "ada@example.com")
    assert what_is_told(recorded, send_mail, to="eve@example.com") == [
        "no such task was recorded:",
        "    schedule(send_mail, to='eve@example.com')",
        "recorded:",
        "    schedule(send_mail, 'x', 'y', urgent=True)",
        "    schedule(send_mail, 'ada@example.com')",
        "the nearest differs in its argument to:",
        "    expected 'eve@example.com'",
        "    recorded 'ada@example.com'",
    ]


async def test_another_phase(tasks: TasksScheduler, recorded: RecordedTasks) -> None:
    """A task of another phase is not it, and that is what is said."""
    tasks.after_route.schedule(send_mail, "a")
    assert what_is_told(recorded, send_mail, "a")[2:] == [
        "recorded:",
        "    after_route.schedule(send_mail, 'a')",
        "the nearest differs in its phase:",
        "    expected immediate",
        "    recorded after_route",
    ]


async def test_another_name(tasks: TasksScheduler, recorded: RecordedTasks) -> None:
    """A name that was not given is the function's."""
    tasks.schedule(send_mail, "a")
    with pytest.raises(AssertionError) as raised:
        recorded.task(name="mail").assert_scheduled(send_mail, "a")
    assert str(raised.value).splitlines()[-3:] == [
        "the nearest differs in its name:",
        "    expected 'mail'",
        "    recorded 'send_mail'",
    ]


async def test_another_number_of_arguments(tasks: TasksScheduler, recorded: RecordedTasks) -> None:
    """Arguments that only one of the two has are told by the name under which they came."""
    tasks.schedule(pass_on, 1, x=1)
    assert what_is_told(recorded, pass_on, 1, 2, y=1)[-9:] == [
        "the nearest differs in its argument args[1]:",
        "    expected 2",
        "    recorded nothing",
        "the nearest differs in its argument kwargs['y']:",
        "    expected 1",
        "    recorded nothing",
        "the nearest differs in its argument kwargs['x']:",
        "    expected nothing",
        "    recorded 1",
    ]


async def test_arguments_without_names(tasks: TasksScheduler, recorded: RecordedTasks) -> None:
    """Where a signature cannot be read, or is that of another function, positions count."""
    tasks.schedule(other_arguments, "x")
    assert what_is_told(recorded, other_arguments, "y")[-3:] == [
        "the nearest differs in its argument 1:",
        "    expected 'y'",
        "    recorded 'x'",
    ]


async def test_another_function(tasks: TasksScheduler, recorded: RecordedTasks) -> None:
    """Where no task calls the function, there is no nearest one."""
    tasks.schedule(charge, 1)
    assert what_is_told(recorded, send_mail, "a")[2:] == [
        "recorded:",
        "    schedule(charge, 1)",
        "none of them calls send_mail",
    ]


async def test_another_function_of_the_same_name(
    tasks: TasksScheduler, recorded: RecordedTasks
) -> None:
    """A function that only has the same name, a replaced one for instance, is told apart."""

    def make() -> Callable[[], None]:
        def same() -> None: ...

        return same

    tasks.schedule(make())
    assert what_is_told(recorded, make())[-1].endswith(
        "make.<locals>.same, but another one of that name"
    )


async def test_hostile_arguments(tasks: TasksScheduler, recorded: RecordedTasks) -> None:
    """Arguments are shown whatever they do when they are asked for it, in one line each."""
    hostile = Hostile()
    tasks.schedule(pass_on, hostile, Lines(1), report, key=Hostile())
    recorded.assert_scheduled(pass_on, hostile, Lines(1), report, key=ANY)
    assert what_is_told(recorded, pass_on, hostile, Lines(2), charge, key=ANY) == [
        "no such task was recorded:",
        "    schedule(pass_on, Hostile, Lines(   2, ), charge, key=<ANY>)",
        "recorded:",
        "    schedule(pass_on, Hostile, Lines(   1, ), report, key=Hostile)",
        "the nearest differs in its argument args[1]:",
        "    expected Lines(   2, )",
        "    recorded Lines(   1, )",
        "the nearest differs in its argument args[2]:",
        "    expected charge",
        "    recorded report",
    ]


async def test_values_that_look_the_same(tasks: TasksScheduler, recorded: RecordedTasks) -> None:
    """Values that are not equal and look the same are said to be so."""
    tasks.schedule(pass_on, Hostile())
    assert what_is_told(recorded, pass_on, Hostile())[-3:] == [
        "the nearest differs in its argument args[0]:",
        "    expected Hostile",
        "    recorded Hostile, which looks the same and is not equal",
    ]


async def test_values_that_cannot_be_compared(
    tasks: TasksScheduler, recorded: RecordedTasks
) -> None:
    """A value of which `==` does not tell whether it is equal is found by itself only (7.5)."""
    one, two = Vector(1, 2), Vector(3, 4)
    first, second = tasks.schedule(pass_on, one), tasks.schedule(pass_on, two, [two])
    assert recorded.assert_scheduled(pass_on, two, [two]) is second
    assert recorded.assert_scheduled(pass_on, one) is first
    assert recorded.assert_scheduled(pass_on, ANY, ANY) is second
    assert what_is_told(recorded, pass_on, Vector(1, 2), 0) == [
        "no such task was recorded:",
        "    schedule(pass_on, Vector(1, 2), 0)",
        "recorded:",
        "    schedule(pass_on, Vector(1, 2))",
        "    schedule(pass_on, Vector(3, 4), [Vector(3, 4)])",
        "the nearest differs in its argument args[0]:",
        "    expected Vector(1, 2)",
        "    recorded Vector(1, 2)",
        "    comparing them raises ValueError: the truth value is ambiguous",
        "    pass the same object; or unittest.mock.ANY, and compare what the task has got",
        "the nearest differs in its argument args[1]:",
        "    expected 0",
        "    recorded nothing",
    ]


async def test_long_values(tasks: TasksScheduler, recorded: RecordedTasks) -> None:
    """Of long values what surrounds the first difference is shown."""
    tasks.schedule(send_mail, "a" * 1_000_000 + "x" + "b" * 1000)
    *_, shown, _, expected, found = what_is_told(recorded, send_mail, "a" * 1_000_000 + "y")
    assert shown == f"    schedule(send_mail, '{'a' * 199}...)"
    assert expected == f"    expected ...{'a' * 50}y'"
    assert found == f"    recorded ...{'a' * 50}x{'b' * 149}..."


async def test_a_call_that_could_not_be_scheduled(
    tasks: TasksScheduler, recorded: RecordedTasks
) -> None:
    """A call that `schedule` would refuse is refused here too, and not looked for."""
    untyped: Any = recorded
    with pytest.raises(TypeError, match="missing a required argument: 'to'"):
        untyped.assert_scheduled(send_mail)
    with pytest.raises(TypeError, match="unexpected keyword argument 'sender'"):
        untyped.after_route.assert_scheduled(send_mail, "a", sender="b")
    with pytest.raises(TypeError, match="not the coroutine that send_mail"):
        untyped.assert_scheduled(send_mail("a"))


MOCKS: dict[str, Callable[[], Any]] = {
    "plain": MagicMock,
    "async": AsyncMock,
    "of_a_function": lambda: MagicMock(spec=report),
    "of_a_method": lambda: MagicMock(spec=mailer.send),
    "a_method": lambda: create_autospec(Mailer, instance=True).send,
    "an_object": lambda: create_autospec(Mailer, instance=True),
}


@pytest.mark.parametrize("make", MOCKS.values(), ids=MOCKS)
async def test_a_mock_is_asked_nothing_that_it_notes(
    tasks: TasksScheduler, recorded: RecordedTasks, make: Callable[[], Any]
) -> None:
    """Looking for a task, of a mock or of another function, is no call of a mock."""
    mocks, handlers = [make(), make(), make()], [MagicMock(), MagicMock()]
    tasks.schedule(report, 1)
    for mock, handler in zip(mocks, handlers, strict=False):
        tasks.task(on_error=handler).schedule(mock, "a")

    for mock, handler in reversed([*zip(mocks, handlers, strict=False)]):
        assert recorded.task(on_error=handler).assert_scheduled(mock, "a").func is mock
        assert what_is_told(recorded.task(on_error=handler), mock, "b")[-1] == "    recorded 'a'"
    what_is_told(recorded.task(on_error=handlers[0]), mocks[1], "a")
    what_is_told(recorded, mocks[2], "a")
    recorded.assert_scheduled(report, 1)
    recorded.assert_nothing_else_scheduled()
    assert [mock for mock in (*mocks, *handlers) if mock.mock_calls] == []


async def test_nothing_scheduled(tasks: TasksScheduler, recorded: RecordedTasks) -> None:
    """Tasks that should not be there are shown, with all that was set."""
    tasks.schedule(send_mail, "a")
    tasks.after_route.task(shield=True, name="x").schedule(charge, 1)
    with pytest.raises(AssertionError) as raised:
        recorded.assert_nothing_scheduled()
    assert str(raised.value).splitlines() == [
        "tasks were recorded:",
        "    schedule(send_mail, 'a')",
        "    after_route.task(name='x', shield=True).schedule(charge, 1)",
    ]


async def test_the_same_call_again_finds_the_next(
    tasks: TasksScheduler, recorded: RecordedTasks
) -> None:
    """Each assertion finds a task that none has found yet, as long as there is one."""
    first, second = tasks.schedule(send_mail, "a"), tasks.schedule(send_mail, "a")
    assert recorded.assert_scheduled(send_mail, "a") is first
    assert recorded.assert_scheduled(send_mail, "a") is second
    assert recorded.assert_scheduled(send_mail, "a") is first


async def test_nothing_else_scheduled(tasks: TasksScheduler, recorded: RecordedTasks) -> None:
    """What no assertion has found is shown; what one has found, of any phase, is not."""
    tasks.schedule(send_mail, "a")
    tasks.after_response.schedule(send_mail, "b")
    tasks.after_route.task(shield=True, name="x").schedule(charge, 1)
    recorded.assert_scheduled(send_mail, "a")
    recorded.after_response.assert_scheduled(send_mail, "b")

    with pytest.raises(AssertionError) as raised:
        recorded.assert_nothing_else_scheduled()
    assert str(raised.value).splitlines() == [
        "other tasks were recorded:",
        "    after_route.task(name='x', shield=True).schedule(charge, 1)",
    ]

    recorded.after_route.assert_scheduled(charge, 1)
    recorded.assert_nothing_else_scheduled()


async def test_two_of_a_kind_are_two(tasks: TasksScheduler, recorded: RecordedTasks) -> None:
    """One assertion does not stand for two tasks that look the same."""
    tasks.schedule(send_mail, "a")
    tasks.schedule(send_mail, "a")
    recorded.assert_scheduled(send_mail, "a")
    with pytest.raises(AssertionError, match="other tasks were recorded"):
        recorded.assert_nothing_else_scheduled()


def test_a_block_that_was_never_entered() -> None:
    """A block that recorded nothing because it was never entered does not answer."""
    recorded = record()
    with pytest.raises(RuntimeError, match="Nothing could be recorded"):
        recorded.assert_nothing_scheduled()
    with pytest.raises(RuntimeError, match="Nothing could be recorded"):
        recorded.assert_nothing_else_scheduled()
    with pytest.raises(RuntimeError, match="Nothing could be recorded"):
        recorded.after_route.assert_scheduled(report)


async def test_what_blocks_say_of_themselves(
    tasks: TasksScheduler, recorded: RecordedTasks
) -> None:
    """Blocks and batches show what they are."""
    tasks.schedule(report)
    assert repr(recorded) == "<RecordedTasks tasks=1>"
    batch = recorded.after_route.task(name="x")
    assert repr(batch).startswith("<RecordedPhase phase=after_route config=TaskConfig(name='x'")


async def test_who_waits_for_a_recorded_task_is_told_of_the_block(
    tasks: TasksScheduler, recorded: RecordedTasks
) -> None:
    """7.5: It was skipped for the block, whatever its request's outcome; by its id too."""
    tasks.fail()
    task = tasks.schedule(report)
    remembered = tasks.get(task.id)
    assert remembered is not None
    for handle in (task, remembered):
        with pytest.raises(TaskSkipped) as raised:
            await handle.wait()
        assert str(raised.value) == (
            "task report was skipped: it was scheduled in a block of `record`, which runs no "
            "tasks: to wait for one, write `drain()` in its place"
        )
        assert handle.result is None
    assert recorded.assert_scheduled(report) is task


async def test_no_records_of_what_is_recorded(
    tasks: TasksScheduler, recorded: RecordedTasks, caplog: pytest.LogCaptureFixture
) -> None:
    """7.5: That a task is recorded and does not run is no news, so no log of a test shows it."""
    caplog.set_level(logging.INFO)
    tasks.schedule(print)
    recorded.assert_scheduled(print)
    assert caplog.record_tuples == []


async def test_what_is_shown_of_a_partial() -> None:
    """7.5: Its own arguments too, those of a nested one included, as the code that makes it."""
    async with open_runner() as runner, record() as recorded:
        runner.schedule(partial(partial(send_mail, "ada"), "Hi"), urgent=True)
        with pytest.raises(AssertionError) as told:
            recorded.assert_nothing_scheduled()
    assert "schedule(partial(send_mail, 'ada', 'Hi'), urgent=True)" in str(told.value)
