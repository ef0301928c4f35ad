"""Contract 4: nothing that a task does reaches anything else, and nothing is lost silently."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, NoReturn, TypeAlias

import anyio
import pytest
from anyio.lowlevel import checkpoint
from tasks_core import Phase, Task, TaskConfig, TasksScheduler, TaskState

from tests.conformance.cases import (
    FunctionKind,
    async_function,
    at,
    each_function,
    each_phase,
    finish,
    sync_function,
)
from tests.conformance.driver import serve
from tests.conformance.harness import Harness, build

pytestmark = [pytest.mark.anyio, pytest.mark.alike]


class Unusual(BaseException):
    """Neither an `Exception` nor one of Python's own."""


class Hostile(Exception):  # noqa: N818 - it is no ordinary error
    """Fails whenever somebody looks at it."""

    def __repr__(self) -> str:
        raise SystemExit

    __str__ = __repr__


class HostileFunction:
    """A callable that cannot be shown."""

    def __call__(self) -> NoReturn:
        raise ValueError("from a hostile function")

    def __repr__(self) -> str:
        raise ValueError("from its repr")


def _raise(error: BaseException) -> NoReturn:
    raise error


async def _stray() -> BaseException:
    """Return the event loop's own cancelled error, which no scope asks for any more."""
    stray: BaseException | None = None
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await checkpoint()
        except anyio.get_cancelled_exc_class() as error:
            stray = error
    assert stray is not None
    return stray


Raiser: TypeAlias = Callable[[], BaseException]
HOSTILE: dict[str, Raiser] = {
    "exception": lambda: ValueError("hostile"),
    "system_exit": lambda: SystemExit(3),
    "base_exception": Unusual,
    "generator_exit": GeneratorExit,
    "stop_iteration": StopIteration,
    "stop_async_iteration": StopAsyncIteration,
    "group": lambda: ExceptionGroup("several", [ValueError(), TypeError()]),
    "base_group": lambda: BaseExceptionGroup("several", [SystemExit(), Unusual()]),
    "repr": lambda: Hostile("of no use"),
}
each_hostility = pytest.mark.parametrize("hostility", HOSTILE.values(), ids=HOSTILE)


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


def _nothing(ei: object) -> str:
    del ei
    return ""


@pytest.fixture(autouse=True)
def _no_formatting(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Let no hostile exception be formatted by pytest's own handlers."""
    formatter = logging.Formatter("%(levelname)s %(message)s")
    formatter.formatException = _nothing  # type: ignore[method-assign]
    before = caplog.handler.formatter
    caplog.handler.setFormatter(formatter)
    yield
    caplog.handler.setFormatter(before)


async def assert_contained(harness: Harness, schedule: Callable[[TasksScheduler], Task]) -> Task:
    """Assert that what ``schedule`` schedules disturbs neither requests nor other tasks."""
    release = anyio.Event()
    bad: list[Task] = []
    good: list[Task] = []

    async def wait() -> str:
        await release.wait()
        return "done"

    async def route(tasks: TasksScheduler) -> None:
        good.extend(at(tasks, phase).schedule(wait) for phase in Phase)
        if not bad:
            bad.append(schedule(tasks))
        good.extend(at(tasks, phase).schedule(wait) for phase in Phase)

    async with serve(build(harness, route)) as server:
        for _ in range(2):
            exchange = await server.request()
            assert (exchange.status, exchange.error) == (200, None)
            await finish(bad)
        release.set()
        assert [await task.wait() for task in good] == ["done"] * 12
    return bad[0]


@each_phase
@each_function
@each_hostility
async def test_what_a_task_raises_is_contained(
    harness: Harness,
    hostility: Raiser,
    function_kind: FunctionKind,
    phase: Phase,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """4.1 Whatever a task raises, responses and other tasks are as without it."""
    function = function_kind(lambda: _raise(hostility()))
    task = await assert_contained(harness, lambda tasks: at(tasks, phase).schedule(function))
    assert task.state is TaskState.FAILED
    assert isinstance(task.exception, Exception)
    assert len(errors(caplog)) == 1


@each_phase
async def test_a_stray_cancellation_is_contained(
    harness: Harness, phase: Phase, caplog: pytest.LogCaptureFixture
) -> None:
    """4.1 A cancelled error that no scope asks for is a failure of the task alone."""

    async def function() -> None:
        raise await _stray()

    task = await assert_contained(harness, lambda tasks: at(tasks, phase).schedule(function))
    assert task.state is TaskState.FAILED
    assert len(errors(caplog)) == 1


@each_phase
async def test_a_stray_cancellation_in_a_group_is_contained(
    harness: Harness, phase: Phase, caplog: pytest.LogCaptureFixture
) -> None:
    """4.1 A stray cancelled error in an exception group is contained as well."""

    async def function() -> None:
        raise BaseExceptionGroup("several", [await _stray(), ValueError()])

    task = await assert_contained(harness, lambda tasks: at(tasks, phase).schedule(function))
    assert task.state is TaskState.FAILED
    assert len(errors(caplog)) == 1


@each_phase
async def test_a_keyboard_interrupt_in_a_thread_is_contained(
    harness: Harness, phase: Phase, caplog: pytest.LogCaptureFixture
) -> None:
    """4.1 A `KeyboardInterrupt` that is raised in a worker thread is a failure like any other."""
    function = sync_function(lambda: _raise(KeyboardInterrupt()))
    task = await assert_contained(harness, lambda tasks: at(tasks, phase).schedule(function))
    assert task.state is TaskState.FAILED
    assert len(errors(caplog)) == 1


@each_phase
async def test_a_hostile_function_is_contained(
    harness: Harness, phase: Phase, caplog: pytest.LogCaptureFixture
) -> None:
    """4.1 A function whose ``repr`` fails is called, and logged, like any other."""
    task = await assert_contained(
        harness, lambda tasks: at(tasks, phase).schedule(HostileFunction())
    )
    assert str(task.exception) == "from a hostile function"
    assert len(errors(caplog)) == 1


@each_phase
@each_function
async def test_hostile_arguments_are_contained(
    harness: Harness,
    function_kind: FunctionKind,
    phase: Phase,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """4.1 Arguments that cannot be shown do no harm when their task fails."""

    def sync(_: object) -> None:
        raise ValueError

    async def on_loop(_: object) -> None:
        raise ValueError

    function = sync if function_kind is sync_function else on_loop
    task = await assert_contained(
        harness, lambda tasks: at(tasks, phase).schedule(function, Hostile("of no use"))
    )
    assert task.state is TaskState.FAILED
    assert repr(task)
    assert len(errors(caplog)) == 1


@each_function
@each_hostility
async def test_what_a_handler_raises_is_contained(
    harness: Harness,
    hostility: Raiser,
    function_kind: FunctionKind,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """4.1 Whatever an error handler raises, nothing else is disturbed."""

    def sync(_: Task, __: Exception) -> None:
        raise hostility()

    async def on_loop(_: Task, __: Exception) -> None:
        raise hostility()

    handler = sync if function_kind is sync_function else on_loop
    failing = async_function(lambda: _raise(ValueError("the task's")))
    task = await assert_contained(
        harness, lambda tasks: tasks.after_route.task(on_error=handler).schedule(failing)
    )
    assert task.state is TaskState.FAILED
    assert str(task.exception) == "the task's"
    assert len(errors(caplog)) == 2


async def test_a_stray_cancellation_in_a_handler_is_contained(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    """4.1 A stray cancelled error in an error handler is its failure, and of nothing else."""

    async def handler(_: Task, __: Exception) -> None:
        raise await _stray()

    failing = async_function(lambda: _raise(ValueError("the task's")))
    await assert_contained(
        harness, lambda tasks: tasks.after_route.task(on_error=handler).schedule(failing)
    )
    assert len(errors(caplog)) == 2


class BrokenLog(logging.Handler):
    """A logging handler that fails, and does not hide it."""

    def emit(self, record: logging.LogRecord) -> NoReturn:
        raise RuntimeError("the log is full")


@each_phase
@each_function
async def test_a_broken_log_is_contained(
    harness: Harness, function_kind: FunctionKind, phase: Phase
) -> None:
    """4.1 A logging handler that fails disturbs nothing; error handlers are called all the same."""
    handled: list[str] = []
    logger = logging.getLogger("tasks_core")
    broken = BrokenLog()
    logger.addHandler(broken)
    try:
        function = function_kind(lambda: _raise(ValueError("hostile")))
        await assert_contained(
            harness,
            lambda tasks: (
                at(tasks, phase)
                .task(on_error=lambda _, error: handled.append(str(error)))
                .schedule(function)
            ),
        )
    finally:
        logger.removeHandler(broken)
    assert handled == ["hostile"]


@each_phase
@each_function
async def test_a_failure_is_logged_once(
    harness: Harness,
    function_kind: FunctionKind,
    phase: Phase,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """4.2 A failure is logged once, at ERROR, with traceback and names, without arguments."""
    caplog.set_level(logging.DEBUG)
    made: list[Task] = []
    error = ValueError("as it is")

    def charge(_: str, *, token: str) -> None:
        del token
        raise error

    async def charge_on_loop(_: str, *, token: str) -> None:
        del token
        raise error

    function = charge if function_kind is sync_function else charge_on_loop

    async def route(tasks: TasksScheduler) -> None:
        batch = at(tasks, phase).task(name="payment 7")
        made.append(batch.schedule(function, "s3cret", token="t0ken"))  # noqa: S106 - a made-up one

    async with serve(build(harness, route)) as server:
        await server.request()
        await finish(made)
    records = [record for record in caplog.records if record.name == "tasks_core"]
    (record,) = records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    message = record.getMessage()
    for word in ("payment 7", made[0].id, function.__qualname__, str(phase)):
        assert word in message
    logged = repr(vars(record)) + caplog.text
    assert "s3cret" not in logged
    assert "t0ken" not in logged


@each_phase
async def test_a_success_is_not_logged(
    harness: Harness, phase: Phase, caplog: pytest.LogCaptureFixture
) -> None:
    """4.2 A task that succeeds is not logged as anything that needs attention."""
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.append(at(tasks, phase).schedule(async_function(int)))

    async with serve(build(harness, route)) as server:
        await server.request()
        await finish(made)
    assert not [record for record in caplog.records if record.name == "tasks_core"]


@each_phase
@each_function
@pytest.mark.parametrize("on_loop", [True, False], ids=["async_handler", "sync_handler"])
async def test_a_handler_gets_the_task_and_its_error(
    harness: Harness,
    function_kind: FunctionKind,
    phase: Phase,
    caplog: pytest.LogCaptureFixture,
    *,
    on_loop: bool,
) -> None:
    """4.3 After a failure was logged, the handler is called with the task and what it raised."""
    made: list[Task] = []
    handled: list[tuple[Task, Exception, int]] = []
    error = ValueError("as it is")

    def sync_handler(task: Task, error: Exception) -> None:
        handled.append((task, error, len(errors(caplog))))

    async def async_handler(task: Task, error: Exception) -> None:
        await checkpoint()
        sync_handler(task, error)

    handler = async_handler if on_loop else sync_handler

    async def route(tasks: TasksScheduler) -> None:
        failing = function_kind(partial(_raise, error))
        made.append(at(tasks, phase).task(on_error=handler).schedule(failing))

    async with serve(build(harness, route)) as server:
        await server.request()
        await finish(made)
        assert handled == [(made[0], error, 1)]  # whoever waits, waits for the handler too


async def test_the_applications_handler(harness: Harness) -> None:
    """4.3 The application's handler is called for all tasks that have none of their own."""
    handled: list[str] = []
    made: list[Task] = []

    def handler(whose: str) -> Callable[[Task, Exception], None]:
        return lambda task, _: handled.append(f"{whose} {task.phase}")

    async def route(tasks: TasksScheduler) -> None:
        for phase in Phase:
            failing = async_function(lambda: _raise(ValueError()))
            made.append(at(tasks, phase).schedule(failing))
            own = at(tasks, phase).task(on_error=handler("task's"))
            made.append(own.schedule(failing))

    config = TaskConfig(on_error=handler("application's"))
    async with serve(build(harness, route, config=config)) as server:
        await server.request()
        await finish(made)
    assert sorted(handled) == sorted(
        f"{whose} {phase}" for phase in Phase for whose in ("application's", "task's")
    )


@pytest.mark.parametrize("on_loop", [True, False], ids=["async_handler", "sync_handler"])
async def test_a_handler_that_fails_is_logged_once(
    harness: Harness, caplog: pytest.LogCaptureFixture, *, on_loop: bool
) -> None:
    """4.3 A handler that fails is logged once, with its own traceback and the task's."""
    made: list[Task] = []
    first, second = ValueError("the task's"), ValueError("the handler's")

    def sync_handler(_: Task, __: Exception) -> None:
        raise second

    async def async_handler(_: Task, __: Exception) -> None:
        raise second

    handler = async_handler if on_loop else sync_handler

    async def route(tasks: TasksScheduler) -> None:
        failing = async_function(partial(_raise, first))
        made.append(tasks.task(on_error=handler).schedule(failing))

    async with serve(build(harness, route)) as server:
        await server.request()
        await finish(made)
    _, record = errors(caplog)
    assert record.exc_info is not None
    assert record.exc_info[1] is second
    assert first in (second.__cause__, second.__context__)
    assert handler.__qualname__ in record.getMessage()


async def test_a_handler_is_not_called_for_a_cancelled_task(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    """4.3 Being cancelled is no failure: nothing is logged as one, and no handler is called."""
    handled: list[Task] = []
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        batch = tasks.task(on_error=lambda task, _: handled.append(task))
        made.append(batch.schedule(anyio.sleep_forever))

    async with serve(build(harness, route)) as server:
        await server.request()
        made[0].cancel()
        await finish(made)
    assert made[0].state is TaskState.CANCELLED
    assert not handled
    assert not errors(caplog)


@each_phase
async def test_a_handler_is_shielded_like_its_task(harness: Harness, phase: Phase) -> None:
    """4.3 The handler of a shielded task is as shielded at a shutdown as the task itself."""
    release = anyio.Event()
    entered = anyio.Event()
    log: list[str] = []

    async def handler(_: Task, __: Exception) -> None:
        entered.set()
        await release.wait()
        log.append("handled")

    async def route(tasks: TasksScheduler) -> None:
        failing = async_function(lambda: _raise(ValueError()))
        at(tasks, phase).task(shield=True, on_error=handler).schedule(failing)

    async with serve(build(harness, route)) as server:
        await server.request()
        await entered.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(server.stop)
            await anyio.wait_all_tasks_blocked()
            assert not log
            release.set()
    assert log == ["handled"]


class Flaky:
    """Fails so many times before it succeeds."""

    def __init__(self, failures: int) -> None:
        self.calls = 0
        self._failures = failures

    def step(self, value: int, *, plus: int) -> int:
        self.calls += 1
        if self.calls <= self._failures:
            raise ValueError(self.calls)
        return value + plus

    async def async_step(self, value: int, *, plus: int) -> int:
        return self.step(value, plus=plus)


async def retry_function(task: Task, _: Exception) -> Any:
    """Try again as the documentation shows it for async functions."""
    for _attempt in range(2):
        try:
            return await task.func(*task.args, **task.kwargs)
        except ValueError:
            await checkpoint()
    raise RuntimeError("all attempts failed")


async def retry_task(task: Task, _: Exception) -> Any:
    """Try again as the documentation shows it for any task."""
    for _attempt in range(2):
        try:
            return await task()
        except ValueError:
            await checkpoint()
    raise RuntimeError("all attempts failed")


RECIPES: dict[str, tuple[Callable[[Task, Exception], Awaitable[Any]], bool]] = {
    "func": (retry_function, True),
    "task": (retry_task, True),
    "task_sync": (retry_task, False),
}


@each_phase
@pytest.mark.parametrize(("recipe", "on_loop"), RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("failures", [1, 2, 9])
async def test_retry_recipes(  # noqa: PLR0913 - a case
    harness: Harness,
    recipe: Callable[[Task, Exception], Awaitable[Any]],
    phase: Phase,
    failures: int,
    caplog: pytest.LogCaptureFixture,
    *,
    on_loop: bool,
) -> None:
    """4.4 A handler can run the function again, as often as it likes, and give up by raising."""
    flaky = Flaky(failures)
    results: list[object] = []
    made: list[Task] = []

    async def handler(task: Task, error: Exception) -> None:
        results.append(await recipe(task, error))

    async def route(tasks: TasksScheduler) -> None:
        function = flaky.async_step if on_loop else flaky.step
        made.append(at(tasks, phase).task(on_error=handler).schedule(function, 1, plus=2))

    async with serve(build(harness, route)) as server:
        await server.request()
        await finish(made)
    gave_up = failures > 2
    assert flaky.calls == min(failures, 2) + 1
    assert results == ([] if gave_up else [3])
    assert len(errors(caplog)) == (2 if gave_up else 1)
    assert made[0].state is TaskState.FAILED
