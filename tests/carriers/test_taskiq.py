"""The carrier for Taskiq, without a broker: what it takes, what it sends, what it tells."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from functools import partial
from types import FunctionType
from typing import Annotated, Any
from unittest.mock import MagicMock, create_autospec

import pytest

pytest.importorskip("taskiq")

from taskiq import (
    AsyncBroker,
    BrokerMessage,
    Context,
    InMemoryBroker,
    TaskiqDepends,
    TaskiqResult,
)
from taskiq.brokers.shared_broker import AsyncSharedBroker
from taskiq.depends.progress_tracker import (  # pyright: ignore[reportMissingTypeStubs]
    TaskProgress,
)
from taskiq.depends.progress_tracker import (  # pyright: ignore[reportMissingTypeStubs]
    TaskState as Progressing,
)
from taskiq.result_backends.dummy import DummyResultBackend
from taskiq.serializers import PickleSerializer
from tasks_core import (
    Every,
    HandOverError,
    Periodic,
    TaskHandedOver,
    TaskRunner,
    TaskState,
    TaskStatus,
)
from tasks_core.carriers.taskiq import TaskiqCarrier

from tests.carriers.values import NONSENSE, VALUES
from tests.tasks_core.stage import open_runner, over

pytestmark = pytest.mark.anyio
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])
on_trio = pytest.mark.parametrize("anyio_backend", ["trio"])


class Noting(AsyncBroker):
    """A broker that notes what it is sent, after it was serialized."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[BrokerMessage] = []
        self.trouble: Exception | None = None

    async def kick(self, message: BrokerMessage) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.sent.append(message)

    async def listen(self) -> AsyncGenerator[bytes, None]:
        yield b""

    def messages(self) -> list[tuple[str, list[Any], dict[str, Any]]]:
        """Return the ids and arguments."""
        found = [self.formatter.loads(one.message) for one in self.sent]
        return [(one.task_id, one.args, one.kwargs) for one in found]


@pytest.fixture
def broker() -> Noting:
    return Noting()


async def pay(order: int, *, twice: bool = False) -> str:
    return f"{order} {twice}"


def take(value: object) -> None: ...


def declare(broker: AsyncBroker, func: Callable[..., Any], **options: Any) -> Any:
    """Make a task of a function; of a copy of it, since Taskiq renames what it is given."""
    it: Any = func
    copied = FunctionType(it.__code__, it.__globals__, it.__name__, it.__defaults__, it.__closure__)
    copied.__kwdefaults__ = it.__kwdefaults__
    copied.__annotations__ = it.__annotations__
    copied.__module__ = __name__
    made: Any = broker.task(task_name=it.__name__, **options)
    return made(copied)


async def refusal(action: Callable[[], Any]) -> BaseException | None:
    try:
        found = action()
        if hasattr(found, "__await__"):
            await found
    except Exception as error:  # noqa: BLE001 - the test compares
        return error
    return None


@on_asyncio
@pytest.mark.parametrize("serializer", ["json", "pickle"])
@pytest.mark.parametrize("value", VALUES)
async def test_8_3_carry_takes_what_taskiq_sends(
    broker: Noting, value: str, serializer: str
) -> None:
    """8.3: For an argument of every type, `carry` accepts exactly what publishing accepts."""
    if serializer == "pickle":
        broker = broker.with_serializer(PickleSerializer())
    task = declare(broker, take)
    make = VALUES[value]
    published = await refusal(lambda: task.kiq(make()))
    carried = await refusal(lambda: TaskiqCarrier(broker).carry(task, (make(),), {}))
    by_name = await refusal(lambda: TaskiqCarrier(broker).carry(task, (), {"value": make()}))
    assert (published is None, type(by_name)) == (carried is None, type(carried))
    if carried is not None:
        assert isinstance(carried, TypeError)
        assert str(carried).startswith("take: Taskiq cannot send these arguments: ")


def given(order: int, context: Annotated[Context, TaskiqDepends()]) -> None: ...


def given_by_default(order: int, context: Context = TaskiqDepends()) -> None: ...  # noqa: B008


def needed() -> int:
    return 1


def nested(order: int, other: Annotated[int, TaskiqDepends(needed)], last: int) -> None: ...


def anything(order: int, *args: int, **kwargs: int) -> None: ...


FITS: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], bool]] = [
    (pay, (1,), {}, True),
    (pay, (1,), {"twice": True}, True),
    (pay, (), {"order": 1}, True),
    (pay, (), {}, False),
    (pay, (1, 2), {}, False),
    (pay, (1,), {"thrice": True}, False),
    (pay, (1,), {"order": 1}, False),
    (given, (1,), {}, True),
    (given, (), {"order": 1}, True),
    (given, (), {}, False),
    (given_by_default, (1,), {}, True),
    (given_by_default, (), {}, False),
    (nested, (1,), {"last": 2}, True),
    (nested, (1,), {}, False),
    (anything, (1, 2, 3), {"a": 4}, True),
    (anything, (), {"a": 4}, False),
]


@pytest.mark.parametrize(("func", "args", "kwargs", "fits"), FITS)
def test_8_3_arguments_that_do_not_fit(
    broker: Noting, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, fits: bool
) -> None:
    """8.3: Missing ones are forgiven where Taskiq fills them in, and only there."""
    task = declare(broker, func)
    carrier = TaskiqCarrier(broker)
    for _ in range(2):  # what was found of the function is kept
        if fits:
            assert carrier.carry(task, args, kwargs) is not None
        else:
            with pytest.raises(
                TypeError, match=rf"schedule\({func.__name__}, .*: .* go to \.task\("
            ) as raised:
                carrier.carry(task, args, kwargs)
            assert "context" not in str(raised.value)  # nobody is to give that


def export(order: int) -> Iterator[int]:
    yield order


async def stream(order: int) -> AsyncIterator[int]:
    yield order


@pytest.mark.parametrize("func", [export, stream])
def test_8_3_a_generator_function(broker: Noting, func: Any) -> None:
    """8.3, 2.2: Refused, as nothing of it would run in a worker."""
    task = declare(broker, func)
    with pytest.raises(TypeError, match=rf"{func.__name__} is a generator function, and nothing"):
        TaskiqCarrier(broker).carry(task, (1,), {})


def test_8_1_what_taskiq_did_not_make_is_not_carried(broker: Noting) -> None:
    """8.1: Functions, methods of tasks, and mocks, are not Taskiq's own task objects."""
    task = declare(broker, pay)
    mocks: list[Any] = [MagicMock(spec=task), create_autospec(task)]
    for func in (pay, task.kiq, task.kicker, partial(task), *mocks):
        assert TaskiqCarrier(broker).carry(func, (1,), {}) is None
    assert [mock.mock_calls for mock in mocks] == [[], []]


def test_10_8_a_periodic_task_that_needs_arguments(broker: Noting) -> None:
    """10.8: It is refused as the runner is made, without an event loop, and nothing is sent."""
    task = declare(broker, pay)
    with pytest.raises(TypeError, match=r"Periodic\(pay, .*missing arguments: order.*partial"):
        TaskRunner(periodic=[Periodic(task, Every(days=1))], carriers=[TaskiqCarrier(broker)])
    given = [Periodic(partial(task, 5), Every(days=1))]
    assert set(TaskRunner(periodic=given, carriers=[TaskiqCarrier(broker)]).periodic) == {"pay"}
    assert not broker.sent


@on_asyncio
async def test_8_2_what_is_sent_is_what_was_scheduled(broker: Noting) -> None:
    """8.2, 8.4: By the task's id, with the arguments, those of a partial included."""
    task = declare(broker, pay)
    async with open_runner(carriers=[TaskiqCarrier(broker)]) as runner:
        first = runner.schedule(task, 1, twice=True)
        second = runner.schedule(partial(task, twice=False), 2)
        await over(first, second)
        assert {first.state, second.state} == {TaskState.HANDED_OVER}
        assert first.carrier == "taskiq"
    assert sorted(broker.messages(), key=lambda sent: sent[1]) == [
        (first.id, [1], {"twice": True}),
        (second.id, [2], {"twice": False}),
    ]


@on_asyncio
async def test_8_2_shared_tasks_go_to_the_broker_that_they_are_given() -> None:
    """8.2, 8.3: Arguments are checked by that broker's serializer."""
    shared, broker = AsyncSharedBroker(), Noting()
    task = declare(shared, take)
    shared.default_broker(broker.with_serializer(PickleSerializer()))
    async with open_runner(carriers=[TaskiqCarrier(broker)]) as runner:
        handed = runner.schedule(task, 1)
        await over(handed)
        assert broker.messages() == [(handed.id, [1], {})]
        for make in (VALUES["nan"], VALUES["complex"], VALUES["bytes"], VALUES["lock"]):
            published = await refusal(lambda make=make: task.kiq(make()))  # type: ignore[misc]
            carried = await refusal(lambda make=make: runner.schedule(task, make()))  # type: ignore[misc]
            assert (published is None) == (carried is None)


@on_asyncio
async def test_8_1_each_broker_has_its_own_tasks(broker: Noting) -> None:
    """8.1, 8.9: A task goes to its broker's carrier, a shared one to that of the broker it has."""
    others, shared = [InMemoryBroker(), Noting()], AsyncSharedBroker()
    carriers = [
        *(TaskiqCarrier(one, name=f"other-{number}") for number, one in enumerate(others)),
        TaskiqCarrier(broker, name="own"),
    ]
    shared.default_broker(broker)
    async with open_runner(carriers=carriers) as runner:
        task = runner.schedule(partial(declare(broker, pay), twice=True), 1)
        of_shared = runner.schedule(declare(shared, pay), 2)
        assert await runner.schedule(pay, 3).wait() == "3 False"
        of_none = runner.schedule(declare(Noting(), pay), 3)
        await over(task, of_shared, of_none)
    assert {one.name for one in (task, of_shared, of_none)} == {"pay"}  # Taskiq renames functions
    assert (task.carrier, of_shared.carrier, of_none.carrier) == ("own", "own", "other-0")
    assert sorted(broker.messages(), key=lambda sent: sent[1]) == [
        (task.id, [1], {"twice": True}),
        (of_shared.id, [2], {}),
    ]


async def test_8_1_without_a_carrier_it_runs_here(broker: Noting) -> None:
    """8.1: Async and sync functions; one whose parameters Taskiq fills in lacks them here."""
    async with open_runner() as runner:
        task = runner.schedule(declare(broker, pay), 1)
        assert await task.wait() == "1 False"
        assert await runner.schedule(declare(broker, take), 1).wait() is None
        lacking = runner.schedule(declare(broker, given), 1)
        with pytest.raises(TypeError, match="context"):
            await lacking.wait()


@on_trio
async def test_8_3_taskiq_needs_asyncio(broker: Noting) -> None:
    """8.3: On trio its tasks are refused when they are scheduled."""
    async with open_runner(carriers=[TaskiqCarrier(broker)]) as runner:
        with pytest.raises(RuntimeError, match="Carrier taskiq works on asyncio only"):
            runner.schedule(declare(broker, pay), 1)


@on_asyncio
async def test_8_7_what_sending_raises_is_not_confirmed(broker: Noting) -> None:
    """8.7: The cause is Taskiq's own error, whose cause is the broker's."""
    broker.trouble = ConnectionError("away")
    async with open_runner(carriers=[TaskiqCarrier(broker)]) as runner:
        task = runner.schedule(declare(broker, pay), 1)
        await over(task)
    assert isinstance(task.exception, HandOverError)
    assert type(task.exception.__cause__).__name__ == "SendTaskError"
    assert task.exception.__cause__ is not None
    assert task.exception.__cause__.__cause__ is broker.trouble


# The result backend


def result(value: object, error: BaseException | None = None) -> TaskiqResult[Any]:
    return TaskiqResult(
        is_err=error is not None, return_value=value, execution_time=0, error=error, log=None
    )


@on_asyncio
async def test_8_9_states() -> None:
    """8.9: *running* only where the task has set its progress: Taskiq says no more."""
    broker = InMemoryBroker()
    carrier, backend = TaskiqCarrier(broker), broker.result_backend

    async def asked(task_id: str) -> TaskStatus:
        status = await carrier.status(task_id)
        assert status is not None
        assert (status.id, status.carrier) == (task_id, "taskiq")
        return status

    await backend.set_progress("a", TaskProgress(state=Progressing.STARTED, meta={}))
    await backend.set_result("b", result({"paid": 1}))
    await backend.set_result("c", result(None, ValueError("no money")))

    assert (await asked("nobody's")).state is TaskState.PENDING
    assert (await asked("a")).state is TaskState.RUNNING
    assert await asked("b") == TaskStatus(
        id="b", state=TaskState.SUCCEEDED, result={"paid": 1}, carrier="taskiq"
    )
    assert await asked("c") == TaskStatus(
        id="c",
        state=TaskState.FAILED,
        error_type="ValueError",
        error="no money",
        carrier="taskiq",
    )


@on_asyncio
async def test_8_9_without_a_result_backend_nobody_knows(broker: Noting) -> None:
    """8.9: The one that Taskiq puts there says of every id that it has succeeded (see below)."""
    assert await TaskiqCarrier(broker).status("taskiq-1") is None


@on_asyncio
async def test_a_dummy_result_backend_says_that_all_is_done() -> None:
    """Which is why the carrier does not ask it (fails when Taskiq has mended that)."""
    assert await DummyResultBackend[Any]().is_result_ready("of nobody")


@on_asyncio
async def test_8_9_the_runner_asks_the_carrier_of_the_id() -> None:
    """8.9: By the name that the carrier was given."""
    broker = InMemoryBroker(await_inplace=True)
    carrier = TaskiqCarrier(broker, name="queue", timeout=61)
    assert carrier.timeout == 61
    async with TaskRunner(carriers=[carrier]) as runner:
        task = runner.schedule(declare(broker, pay), 1)
        task_id = task.id
        await over(task)
        status = await runner.status(task_id)
    assert task_id.startswith("queue-")
    assert status == TaskStatus(
        id=task_id, state=TaskState.SUCCEEDED, result="1 False", carrier="queue"
    )


# Taskiq's own test mode


@on_asyncio
async def test_8_5_tasks_in_place_have_run_when_they_are_handed_over() -> None:
    """8.5: With `InMemoryBroker(await_inplace=True)`, and with what Taskiq fills in."""
    broker = InMemoryBroker(await_inplace=True)
    seen: list[object] = []

    async def see(value: object, context: Annotated[Context, TaskiqDepends()]) -> None:
        seen.append((value, context.message.task_id))

    see.__annotations__["context"] = Annotated[Context, TaskiqDepends()]
    async with open_runner(carriers=[TaskiqCarrier(broker)]) as runner:
        task = runner.schedule(declare(broker, see), (1, {2: 3}))
        with pytest.raises(TaskHandedOver):
            await task.wait()
    assert seen == [([1, {"2": 3}], task.id)]  # what JSON makes of it


@pytest.mark.parametrize(("settings", "error", "said"), NONSENSE)
def test_8_3_settings_that_make_no_sense(
    broker: Noting, settings: Any, error: type[Exception], said: str
) -> None:
    """8.3: They are refused where the carrier is made."""
    with pytest.raises(error, match=re.escape(said)):
        TaskiqCarrier(broker, **settings)


@pytest.mark.parametrize("engine", ["redis://localhost", None, InMemoryBroker])
def test_8_3_what_is_no_broker_is_refused(engine: Any) -> None:
    """8.3: When the carrier is made, with what to pass instead."""
    said = r"^TaskiqCarrier takes .*, not (str|NoneType|the class ).*: .*RedisStreamBroker\("
    with pytest.raises(TypeError, match=said):
        TaskiqCarrier(engine)
