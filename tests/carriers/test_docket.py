"""The carrier for Docket, in memory: what it takes, what it sends, what it tells."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial, wraps
from secrets import token_hex
from typing import Any
from unittest.mock import MagicMock

import anyio
import pytest

pytest.importorskip("docket")

from docket import CurrentDocket, Docket, Worker
from docket.execution import ExecutionState
from docket.strikelist import Operator
from tasks_core import HandOverError, TaskRunner, TaskState, TaskStatus
from tasks_core.carriers.docket import DocketCarrier

from tests.carriers.values import NONSENSE, VALUES
from tests.tasks_core.stage import GUARD, open_runner, over

pytestmark = pytest.mark.anyio
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])
on_trio = pytest.mark.parametrize("anyio_backend", ["trio"])


@asynccontextmanager
async def open_docket(*functions: Callable[..., Any], **options: Any) -> AsyncGenerator[Docket]:
    with anyio.fail_after(GUARD):
        async with Docket(token_hex(4), url=f"memory://{token_hex(4)}", **options) as docket:
            for function in functions:
                docket.register(function)
            yield docket


async def work_off(docket: Docket) -> None:
    async with Worker(docket, minimum_check_interval=timedelta(milliseconds=5)) as worker:
        await worker.run_until_finished()


async def pay(order: int, *, twice: bool = False) -> str:
    return f"{order} {twice}"


async def fails() -> None:
    raise ValueError("no money")


async def take(value: object) -> None: ...


async def given(order: int, docket: Docket = CurrentDocket()) -> str:  # noqa: B008
    return f"{order} {docket.name}"


async def refusal(action: Callable[[], Any]) -> BaseException | None:
    try:
        found = action()
        if hasattr(found, "__await__"):
            await found
    except Exception as error:  # noqa: BLE001 - the test compares
        return error
    return None


@on_asyncio
@pytest.mark.parametrize("value", VALUES)
async def test_8_3_carry_takes_what_docket_sends(value: str) -> None:
    """8.3: For an argument of every type, `carry` accepts exactly what adding accepts."""
    async with open_docket(take) as docket:
        make, carrier = VALUES[value], DocketCarrier(docket)
        published = await refusal(lambda: docket.add(take)(make()))
        carried = await refusal(lambda: carrier.carry(take, (make(),), {}))
        by_name = await refusal(lambda: carrier.carry(take, (), {"value": make()}))
        assert (published is None, type(by_name)) == (carried is None, type(carried))
        if carried is not None:
            assert isinstance(carried, TypeError)
            assert str(carried).startswith("take: Docket cannot send these arguments: ")


@on_asyncio
@pytest.mark.parametrize(
    ("func", "args", "kwargs", "fits"),
    [
        (pay, (1,), {"twice": True}, True),
        (pay, (), {}, False),
        (pay, (1, 2), {}, False),
        (pay, (1,), {"thrice": True}, False),
        (given, (1,), {}, True),
        (given, (), {}, False),
    ],
)
async def test_8_3_arguments_that_do_not_fit(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, fits: bool
) -> None:
    """8.3: What Docket fills in are defaults, as far as others see."""
    async with open_docket(func) as docket:
        carrier = DocketCarrier(docket)
        if fits:
            assert carrier.carry(func, args, kwargs) is not None
        else:
            with pytest.raises(TypeError, match=rf"schedule\({func.__name__}, \.\.\.\): "):
                carrier.carry(func, args, kwargs)


def sync(order: int) -> None: ...


@wraps(pay)
def decorated(order: int) -> Awaitable[str]:
    return pay(order)


def typed(order: int) -> Awaitable[str]:
    return pay(order)


def secret(order: int) -> Any:
    return pay(order)


secret.__annotations__["return"] = "Hidden"  # as of an import for type checkers only


@on_asyncio
@pytest.mark.parametrize(
    ("func", "runs"), [(sync, False), (decorated, True), (typed, True), (secret, True)]
)
async def test_8_3_a_function_that_docket_could_not_await(func: Any, *, runs: bool) -> None:
    """8.3: Refused, as a worker awaits what it returns; unless that may be an awaitable."""
    async with open_docket(func) as docket:
        async with TaskRunner(carriers=[DocketCarrier(docket)]) as runner:
            if not runs:
                with pytest.raises(TypeError, match=r"sync is not async, .* `async def`"):
                    runner.schedule(func, 1)
                return
            task = runner.schedule(func, 1)
            await over(task)
        await work_off(docket)
        found = await docket.get_execution(task.id)
        assert found is not None
        assert found.state is ExecutionState.COMPLETED


@on_asyncio
async def test_8_1_what_is_not_registered_is_not_carried() -> None:
    """8.1: Docket's functions are plain ones: those that were registered with it are its own."""
    async with open_docket(pay) as docket:
        carrier = DocketCarrier(docket)
        mock = MagicMock(spec=docket.add)
        for func in (take, docket.add, partial(pay), mock):
            assert carrier.carry(func, (1,), {}) is None
        assert mock.mock_calls == []
        assert carrier.carry(pay, (1,), {}) is not None


class Mailer:
    def __init__(self) -> None:
        self.sent: list[int] = []

    async def send(self, order: int) -> None:
        self.sent.append(order)


@on_asyncio
async def test_8_1_a_bound_method_that_is_registered_is_handed_over() -> None:
    """8.1: Each look at it makes it anew; that of another object is none of its own."""
    mailer, other = Mailer(), Mailer()
    async with open_docket(mailer.send) as docket:
        async with TaskRunner(carriers=[DocketCarrier(docket)]) as runner:
            tasks = runner.schedule(mailer.send, 1), runner.schedule(other.send, 2)
            await over(*tasks)
        assert [task.state for task in tasks] == [TaskState.HANDED_OVER, TaskState.SUCCEEDED]
        assert (mailer.sent, other.sent) == ([], [2])
        await work_off(docket)
    assert mailer.sent == [1]


@on_asyncio
async def test_8_9_a_life() -> None:
    """8.4, 8.9: By the task's id: pending, and what became of it; an unknown id is None."""
    async with open_docket(pay, fails, given) as docket:
        carrier = DocketCarrier(docket, name="queue", timeout=61)
        assert carrier.timeout == 61
        async with TaskRunner(carriers=[carrier]) as runner:
            tasks = [
                runner.schedule(pay, 1, twice=True),
                runner.schedule(partial(pay, twice=False), 2),
                runner.schedule(given, 3),
                runner.schedule(fails),
            ]
            ids = [task.id for task in tasks]
            await over(*tasks)
            assert {task.state for task in tasks} == {TaskState.HANDED_OVER}
            for task_id in ids:
                assert await runner.status(task_id) == TaskStatus(
                    id=task_id, state=TaskState.PENDING, carrier="queue"
                )
            await work_off(docket)
            found = [await runner.status(task_id) for task_id in ids]
            assert await runner.status(f"queue-{'0' * 32}") is None
    results = ["1 True", "2 False", f"3 {docket.name}"]
    assert found[:3] == [
        TaskStatus(id=task_id, state=TaskState.SUCCEEDED, result=result, carrier="queue")
        for task_id, result in zip(ids, results, strict=False)
    ]
    assert found[3] == TaskStatus(
        id=ids[3],
        state=TaskState.FAILED,
        error_type="ValueError",
        error="no money",
        carrier="queue",
    )


@on_asyncio
async def test_8_9_a_task_that_runs_and_one_that_is_cancelled() -> None:
    """8.9: Docket says so of both."""
    begun, go = anyio.Event(), anyio.Event()

    async def hold() -> None:
        begun.set()
        await go.wait()

    async with open_docket(hold, pay) as docket:
        carrier = DocketCarrier(docket)
        await docket.add(hold, key="docket-1")()
        await docket.add(pay, key="docket-2")(1)
        await docket.cancel("docket-2")
        async with anyio.create_task_group() as group:
            group.start_soon(work_off, docket)
            await begun.wait()
            status = await carrier.status("docket-1")
            assert status is not None
            assert status.state is TaskState.RUNNING
            go.set()
        cancelled = await carrier.status("docket-2")
    assert cancelled is not None
    assert cancelled.state is TaskState.CANCELLED


@on_asyncio
async def test_8_7_a_function_that_is_struck_is_not_confirmed() -> None:
    """8.7: Docket drops calls of it without an error; so that is one of ours."""
    async with open_docket(pay) as docket:
        await docket.strike(pay, "order", Operator.EQUAL, 1)
        async with open_runner(carriers=[DocketCarrier(docket)]) as runner:
            task = runner.schedule(pay, 1)
            await over(task)
            other = runner.schedule(pay, 2)
            await over(other)
    assert isinstance(task.exception, HandOverError)
    assert str(task.exception.__cause__) == "pay is struck from the docket: restore it there"
    assert other.state is TaskState.HANDED_OVER


@on_asyncio
async def test_8_4_one_that_is_handed_over_twice_is_there_once() -> None:
    """8.4: The id is Docket's key, and a key is taken once while its task lives."""
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    async with open_docket(note) as docket:
        async with open_runner(carriers=[DocketCarrier(docket)]) as runner:
            task = runner.schedule(note, 1)
            await over(task)
            await task()
        await work_off(docket)
    assert ran == [1]


@on_trio
async def test_8_3_docket_needs_asyncio() -> None:
    """8.3: On trio its tasks are refused when they are scheduled."""
    docket = Docket(token_hex(4), url="memory://")
    docket.register(pay)
    async with open_runner(carriers=[DocketCarrier(docket)]) as runner:
        with pytest.raises(RuntimeError, match="Carrier docket works on asyncio only"):
            runner.schedule(pay, 1)


async def test_8_1_without_a_carrier_it_runs_here() -> None:
    """8.1: It is a plain function."""
    async with open_runner() as runner:
        assert await runner.schedule(pay, 1).wait() == "1 False"


@on_asyncio
@pytest.mark.parametrize(("settings", "error", "said"), NONSENSE)
async def test_8_3_settings_that_make_no_sense(
    settings: Any, error: type[Exception], said: str
) -> None:
    """8.3: They are refused where the carrier is made."""
    async with open_docket() as docket:
        with pytest.raises(error, match=re.escape(said)):
            DocketCarrier(docket, **settings)


@pytest.mark.parametrize("engine", ["redis://localhost", None, Docket])
def test_8_3_what_is_no_docket_is_refused(engine: Any) -> None:
    """8.3: When the carrier is made, with what to pass instead."""
    said = r"^DocketCarrier takes .*, not (str|NoneType|the class ).*: .*Docket\("
    with pytest.raises(TypeError, match=said):
        DocketCarrier(engine)
