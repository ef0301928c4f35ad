"""Contract 9.5 to 9.7: functions that are called again, as a retry of the users' decides."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import traceback
import weakref
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import pytest
import stamina
import tenacity
from anyio import CancelScope, from_thread, get_cancelled_exc_class
from anyio.lowlevel import checkpoint
from tasks_core import (
    Phase,
    Retry,
    Task,
    TaskAborted,
    TaskCancelled,
    TaskConfig,
    TaskRecord,
    TaskRunner,
    TasksScheduler,
    TaskTimedOut,
    current_task,
)

from tests.tasks_core.clock import LONG, forward, with_clock
from tests.tasks_core.stage import (
    GUARD,
    Abrupt,
    SomeError,
    fail,
    fail_async,
    fail_in_asyncios_group,
    logged,
    open_runner,
    over,
    records,
    states,
    until_cancelled,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet_stamina")]
anyio_backend = with_clock

# A shutdown that would wait for ever ends as well.
open_guarded = partial(open_runner, shutdown_timeout=GUARD)

Attempt = Callable[[], Awaitable[Any]]


async def as_coroutine(attempt: Attempt) -> Any:
    """Await it: a group of asyncio's own takes coroutines."""
    return await attempt()


async def thrice(attempt: Attempt) -> Any:
    """Stand in for a retry of a user's own, which does not wait."""
    for _ in range(2):
        with suppress(SomeError):
            return await attempt()
    return await attempt()


@dataclass(frozen=True)
class Frozen(SomeError):  # noqa: N818 - what it is
    """An error that refuses whatever is set on it."""

    code: int = 503


async def test_an_attempt_whose_error_refuses_attributes_is_followed_by_another() -> None:
    """9.5 What an attempt raises may be a frozen dataclass; the last one is what failed (4.1)."""
    raised: list[Frozen] = []

    async def fail_frozen() -> None:
        raised.append(Frozen())
        raise raised[-1]

    async with open_runner() as runner:
        task = runner.task(retry=thrice).schedule(fail_frozen)
        with pytest.raises(Frozen):
            await task.wait()

    assert len(raised) == 3
    assert task.exception is raised[-1]


class Waiting:
    """A retry of a user's own: it waits for its event between two attempts.

    Args:
        catches: What it tries again after.
    """

    def __init__(self, *, catches: type[BaseException] = Exception) -> None:
        self.waits = anyio.Event()
        self.go = anyio.Event()
        self._catches = catches

    async def __call__(self, attempt: Attempt) -> Any:
        with suppress(self._catches):
            return await attempt()
        self.waits.set()
        await self.go.wait()
        return await attempt()


stamina_on = stamina.AsyncRetryingCaller(
    attempts=3, timeout=None, wait_initial=0, wait_jitter=0, wait_max=0
)
RETRIES: dict[str, Retry] = {
    "stamina": stamina_on.on(SomeError),
    "tenacity": tenacity.AsyncRetrying(
        stop=tenacity.stop_after_attempt(3),
        retry=tenacity.retry_if_exception_type(SomeError),
        reraise=True,
    ),
    "own": thrice,
}
each_retry = pytest.mark.parametrize("retry", RETRIES.values(), ids=RETRIES)
each_kind = pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])


class Flaky:
    """A function that fails some times before it succeeds.

    Args:
        failures: How often it fails.
        error: What it raises.
    """

    def __init__(self, failures: int, error: type[BaseException] = SomeError) -> None:
        self.calls = 0
        self.records: list[TaskRecord] = []
        self.attempts: list[int] = []
        self._failures = failures
        self._error = error

    def call(self, what: str) -> str:
        """Fail or succeed."""
        self.calls += 1
        task = current_task()
        self.attempts.append(task.attempt)
        self.records.append(task.record())
        if self.calls <= self._failures:
            raise self._error(f"call {self.calls}")
        return what

    async def call_async(self, what: str) -> str:
        """Fail or succeed, on the event loop."""
        await checkpoint()
        return self.call(what)

    def schedule(self, runner: TaskRunner, *, sync: bool, **settings: Any) -> Task[..., str]:
        """Schedule it."""
        batch = runner.task(**settings)
        return (
            batch.schedule(self.call, "done") if sync else batch.schedule(self.call_async, "done")
        )


class Handled(list[tuple[Task, Exception]]):
    """An error handler that notes its calls."""

    def __call__(self, task: Task, error: Exception) -> None:
        self.append((task, error))


@pytest.fixture
def quiet_stamina() -> Generator[None]:
    """Stamina's own hooks log what we log."""
    stamina.instrumentation.set_on_retry_hooks([])
    yield
    stamina.instrumentation.set_on_retry_hooks(None)


# Who retries (9.5)


@each_retry
@each_kind
async def test_a_function_is_called_again(
    retry: Retry,
    sync: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """9.5 Stamina's and tenacity's callers are retries as they are, and so is any such function."""
    flaky, handled = Flaky(2), Handled()
    async with open_guarded() as runner:
        task = flaky.schedule(runner, sync=sync, retry=retry, on_error=handled)
        assert await task.wait() == "done"

    assert flaky.calls == 3
    assert handled == []
    assert states(task) == ["succeeded"]
    assert [record.levelname for record in records(caplog)] == ["WARNING"] * 2


@each_retry
@each_kind
async def test_a_function_that_fails_to_the_last(
    retry: Retry,
    sync: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """9.6 Each failure before another attempt is a WARNING; only the last one is a failure."""
    flaky, handled = Flaky(9), Handled()
    async with open_guarded() as runner:
        task = flaky.schedule(
            runner,
            sync=sync,
            retry=retry,
            name="sync\n7",
            on_error=handled,
        )
        with pytest.raises(SomeError, match="call 3"):
            await task.wait()

    assert flaky.calls == 3
    assert handled == [(task, task.exception)]
    *warnings, error = records(caplog)
    assert [record.levelname for record in warnings] == ["WARNING"] * 2
    assert [record.getMessage() for record in warnings] == [
        f"Task sync\\n7 (id={task.id}, function={describe(sync=sync)}, phase=immediate): "
        f"attempt {number} failed, and another one begins: "
        f"SomeError: call {number}"
        for number in (1, 2)
    ]
    assert not any(record.exc_info for record in warnings)
    assert vars(warnings[0])["task_id"] == task.id
    assert error.levelname == "ERROR"
    assert error.exc_info
    assert error.exc_info[1] is task.exception


def describe(*, sync: bool) -> str:
    return f"Flaky.call{'' if sync else '_async'}"


@each_retry
async def test_a_function_that_succeeds_at_once(
    retry: Retry, caplog: pytest.LogCaptureFixture
) -> None:
    """9.5 It is called once, and nothing is logged."""
    flaky = Flaky(0)
    async with open_guarded() as runner:
        assert await flaky.schedule(runner, sync=False, retry=retry).wait() == "done"
    assert flaky.calls == 1
    assert not logged(caplog)


@each_retry
async def test_other_errors_are_not_tried_again(
    retry: Retry, caplog: pytest.LogCaptureFixture
) -> None:
    """9.5 Which errors are worth another attempt is the retry's to say."""
    flaky = Flaky(1, LookupError)
    async with open_guarded() as runner:
        with pytest.raises(LookupError, match="call 1"):
            await flaky.schedule(runner, sync=False, retry=retry).wait()
    assert flaky.calls == 1
    assert [record.levelname for record in records(caplog)] == ["ERROR"]


async def test_what_the_retry_returns_is_the_result(caplog: pytest.LogCaptureFixture) -> None:
    """9.5 Also where all attempts have failed, or none was made; then nothing has failed."""

    async def fall_back(attempt: Attempt) -> str:
        with suppress(SomeError):
            await attempt()
        return "fallen back"

    async def never(attempt: Attempt) -> str:
        return "not called"

    async with open_guarded() as runner:
        fell: Task[..., Any] = runner.task(retry=fall_back).schedule(fail_async)
        assert await fell.wait() == "fallen back"
        task: Task[..., Any] = runner.task(retry=never).schedule(fail_async)
        assert await task.wait() == "not called"

    assert states(task) == ["succeeded"]
    assert task.attempt == task.record().attempt == 0
    assert task.record().started_at is not None  # it has begun with its retry
    assert not logged(caplog)


async def until_three(attempt: Attempt) -> int:
    while (found := await attempt()) < 3:
        pass
    return int(found)


async def test_a_retry_may_call_again_after_a_success(caplog: pytest.LogCaptureFixture) -> None:
    """9.5 As often as it likes: until it is content with the result, for instance."""
    calls: list[int] = []

    async def poll() -> int:
        calls.append(current_task().attempt)
        return len(calls)

    async with open_guarded() as runner:
        assert await runner.task(retry=until_three).schedule(poll).wait() == 3
    assert calls == [1, 2, 3]
    assert not logged(caplog)


async def test_what_the_retry_raises_is_the_failure(caplog: pytest.LogCaptureFixture) -> None:
    """9.5 Tenacity's `RetryError` is one, where it was not told to raise the last error itself."""
    retry = tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(2))
    async with open_guarded() as runner:
        task: Task[..., Any] = runner.task(retry=retry).schedule(fail_async)
        with pytest.raises(tenacity.RetryError):
            await task.wait()
    assert isinstance(task.exception, tenacity.RetryError)
    assert isinstance(task.exception.__cause__, SomeError)
    assert [record.levelname for record in records(caplog)] == ["WARNING", "ERROR"]


async def wait_a_moment(state: tenacity.RetryCallState) -> bool:
    """Stand in for a hook that asks somebody: others go on meanwhile. It is for all that ask."""
    for _ in range(3):
        await checkpoint()
    return True


async def after_three(state: tenacity.RetryCallState) -> bool:
    await wait_a_moment(state)
    return state.attempt_number == 3


async def at_once(state: tenacity.RetryCallState) -> float:
    await wait_a_moment(state)
    return 0


@pytest.mark.parametrize(
    "hook",
    [
        {"before": wait_a_moment},
        {"after": wait_a_moment},
        {"before_sleep": wait_a_moment},
        {"retry": wait_a_moment},
        {"stop": after_three},
        {"wait": at_once},
    ],
    ids=lambda hook: next(iter(hook)),
)
async def test_one_retry_serves_many_tasks(hook: dict[str, Any]) -> None:
    """9.5 Tenacity's holds how far it has come: each task has its copy, whatever others do."""
    settings: dict[str, Any] = {"stop": tenacity.stop_after_attempt(3), **hook}
    retry = tenacity.AsyncRetrying(**settings, reraise=True)
    several = [Flaky(9) for _ in range(10)]
    async with open_guarded() as runner:
        tasks = [flaky.schedule(runner, sync=False, retry=retry) for flaky in several]
        await runner.join()
    assert states(*tasks) == ["failed"] * 10
    assert [flaky.attempts for flaky in several] == [[1, 2, 3]] * 10


class Twice:
    """A retry that knows of whom it is a copy, and how many attempts it has made."""

    made = 0
    of: Twice | None = None

    async def __call__(self, attempt: Attempt) -> Any:
        self.made += 1
        with suppress(SomeError):
            return await attempt()
        return self.of

    def make_copy(self) -> Twice:
        one = Twice()
        one.of = self
        return one

    copy: Any = make_copy


class TwiceListed(list[object], Twice):
    """One that is a list: this makes lists of itself."""

    copy: Any = list[object].copy


class TwiceOf(Twice):
    """One that makes others, of something."""

    def copy_of(self, of: Twice) -> Twice:
        return of

    copy: Any = copy_of


class TwiceNoCopy(Twice):
    copy: Any = None


@pytest.mark.parametrize(
    ("kind", "copied"),
    [(Twice, True), (TwiceListed, False), (TwiceOf, False), (TwiceNoCopy, False)],
)
async def test_a_retry_is_copied_where_it_copies_itself(
    kind: type[Twice],
    copied: bool,  # noqa: FBT001
) -> None:
    """9.5 By a `copy` that needs nothing else, and makes one of its kind; others are used."""
    retry = kind()
    async with open_guarded() as runner:
        task: Task[..., Any] = runner.task(retry=retry).schedule(fail_async)
        assert await task.wait() is (retry if copied else None)
    assert retry.made == (0 if copied else 1)


async def test_a_broken_retry_is_a_failure_like_any_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """9.5 It is logged once and handled, whether it breaks before or after an attempt."""

    async def break_before(attempt: Attempt) -> None:
        raise LookupError("broken")

    async def break_after(attempt: Attempt) -> None:
        await attempt()
        raise LookupError("broken")

    handled: list[Exception] = []
    async with open_guarded() as runner:
        for retry in (break_before, break_after):
            batch = runner.task(retry=retry, on_error=lambda _, error: handled.append(error))
            with pytest.raises(LookupError, match="broken"):
                await batch.schedule(checkpoint).wait()
        assert not runner._retrying

    assert len(handled) == 2
    assert [record.levelname for record in records(caplog)] == ["ERROR"] * 2


async def end_with(*_: Any) -> None:
    raise SystemExit


async def test_a_retry_that_ends_by_no_exception() -> None:
    """9.5 `SystemExit` out of a retry goes no further, as out of a function (4.1)."""
    async with open_guarded() as runner:
        with pytest.raises(TaskAborted, match="SystemExit"):
            await runner.task(retry=end_with).schedule(checkpoint).wait()
        assert await runner.schedule(len, "four").wait() == 4


def sync_retry(attempt: Attempt) -> Any:
    return 1


def hands_through(attempt: Attempt) -> Any:
    return attempt()


@pytest.mark.parametrize(
    "retry",
    [
        sync_retry,
        hands_through,
        stamina.RetryingCaller(attempts=2).on(SomeError),
        tenacity.Retrying(stop=tenacity.stop_after_attempt(2)),
    ],
    ids=["own", "hands through", "stamina", "tenacity"],
)
async def test_a_sync_retry_is_refused(retry: Any, caplog: pytest.LogCaptureFixture) -> None:
    """9.5 It would take the coroutine for the result: the task fails, and says what to pass."""
    async with open_guarded() as runner:
        with pytest.raises(TypeError, match=r"retry must be async, and .* is not: pass a caller"):
            await runner.task(retry=retry).schedule(fail_async).wait()
    assert len(logged(caplog, "ERROR")) == 1


@pytest.mark.parametrize(
    "retry",
    ["thrice", 3, lambda: None, stamina.AsyncRetryingCaller(attempts=2), anyio.sleep_forever],
)
def test_what_cannot_be_a_retry_is_refused_where_it_is_set(retry: Any) -> None:
    """9.5 With what to pass instead: stamina's caller, for instance, that has no `.on` yet."""
    with pytest.raises(TypeError, match=r"retry must .*stamina\.AsyncRetryingCaller\(.*\)\.on\("):
        TaskConfig(retry=retry)


async def test_attempts_may_be_made_elsewhere() -> None:
    """9.5 A retry may call from a task group, or with a limit of its own."""

    async def elsewhere(attempt: Attempt) -> Any:
        found: list[Any] = []

        async def note() -> None:
            found.append(await attempt())

        async with anyio.create_task_group() as group:
            group.start_soon(note)
        return found[0]

    async with open_guarded() as runner:
        task = Flaky(0).schedule(runner, sync=False, retry=elsewhere)
        assert await task.wait() == "done"


async def in_task_groups(attempt: Attempt) -> Any:
    """Stand in for a retry that makes each attempt in a task of its own."""
    found: list[Any] = []

    async def note() -> None:
        with suppress(SomeError):
            found.append(await attempt())

    while not found:
        async with anyio.create_task_group() as group:
            group.start_soon(note)
    return found[0]


async def through_a_thread(attempt: Attempt) -> Any:
    """Stand in for a retry that is a sync library's."""

    async def attempt_here() -> Any:
        return await attempt()

    def call() -> Any:
        for _ in range(2):
            with suppress(SomeError):
                return from_thread.run(attempt_here)
        return from_thread.run(attempt_here)

    return await anyio.to_thread.run_sync(call)


async def gathering(attempt: Attempt) -> Any:
    """Stand in for a retry that makes several attempts at a time."""
    found = await asyncio.gather(attempt(), attempt(), attempt(), return_exceptions=True)
    return next(one for one in found if not isinstance(one, BaseException))


async def in_tasks(attempt: Attempt) -> Any:
    """Stand in for a retry that makes each attempt in asyncio's own task, as `wait_for` does."""
    for _ in range(2):
        with suppress(SomeError):
            return await asyncio.ensure_future(attempt())
    return await asyncio.ensure_future(attempt())


ELSEWHERE = [
    pytest.param(retry, anyio_backend, id=f"{anyio_backend}-{retry.__name__}")
    for anyio_backend, retries in {
        "asyncio": (in_task_groups, through_a_thread, gathering, in_tasks),
        "trio": (in_task_groups, through_a_thread),
    }.items()
    for retry in retries
]
each_elsewhere = pytest.mark.parametrize(("retry", "anyio_backend"), ELSEWHERE)


@each_elsewhere
@each_kind
async def test_each_attempt_that_is_made_elsewhere_has_its_task(
    retry: Retry,
    sync: bool,  # noqa: FBT001
) -> None:
    """9.5 `current_task` is found in all of them, and in the error handler."""
    flaky, found = Flaky(2), list[Task]()
    async with open_guarded(thread_limit=1) as runner:
        task = flaky.schedule(runner, sync=sync, retry=retry)
        assert await task.wait() == "done"

        async def give_up(attempt: Attempt) -> Any:
            await retry(attempt)
            raise SomeError

        async def handle(*_: object) -> None:
            found.append(current_task())

        failing = Flaky(2).schedule(runner, sync=sync, retry=give_up, on_error=handle)
        await over(failing)
    assert (flaky.calls, task.attempt) == (3, 3)
    assert {record.id for record in flaky.records} == {task.id}
    assert found == [failing]


async def test_a_task_begins_with_its_retry() -> None:
    """9.5 It is *running* then, also where a sync function has no thread for its first attempt."""
    go, told = threading.Event(), list[tuple[str, int]]()

    def look(task: Task) -> None:
        if task.func == flaky.call:
            told.append((str(task.state), task.attempt))

    flaky = Flaky(0)
    async with open_guarded(thread_limit=1, observers=[look]) as runner:
        other = runner.schedule(go.wait, GUARD)
        await other.started.wait()
        task = flaky.schedule(runner, sync=True, retry=thrice)
        await task.started.wait()
        assert (states(task), task.attempt, flaky.calls) == (["running"], 0, 0)
        go.set()
        await task.wait()
    assert told == [("pending", 0), ("running", 0), ("succeeded", 1)]


async def test_a_task_of_which_no_attempt_has_begun_gets_no_grace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """5.4 It is cut short at once, as what waits for a thread; and can be cancelled (2.6)."""
    go, flaky = threading.Event(), Flaky(0)
    async with open_guarded(thread_limit=1, grace_period=LONG) as runner:
        other = runner.schedule(go.wait, GUARD)
        await other.started.wait()
        one, task = (
            flaky.schedule(runner, sync=True, retry=thrice, name=name) for name in ("one", "task")
        )
        await task.started.wait()
        assert one.cancel()
        await over(one)
        async with anyio.create_task_group() as group:
            group.start_soon(drain, runner)
            await over(task)
            assert states(other, one, task) == ["running", "cancelled", "cancelled"]
            go.set()
    assert flaky.calls == 0
    (warning,) = logged(caplog, "WARNING")
    assert warning.startswith("Shutdown left unfinished: task (")
    assert warning.endswith("waited for a thread)")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("seconds", [None, LONG])
@pytest.mark.parametrize("cancels", [False, True])
async def test_an_attempt_that_the_retry_leaves_behind(
    seconds: float | None,
    cancels: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """9.5 It ends as it does, with its own error or a timeout, and that is who made it its own."""
    left: list[asyncio.Future[Any]] = []

    async def leave(attempt: Attempt) -> str:
        left.append(asyncio.ensure_future(attempt()))
        await begun.wait()
        return "left"

    begun, go = anyio.Event(), anyio.Event()

    async def work() -> None:
        begun.set()
        await go.wait()
        raise SomeError

    async with open_guarded() as runner:
        task: Task[..., Any] = runner.task(retry=leave, timeout=seconds).schedule(work)
        assert await task.wait() == "left"
        kept = weakref.ref(task)
        del task
        if cancels:
            left[0].cancel()
        elif seconds is None:
            go.set()
        else:
            forward()
        await asyncio.wait(left)
    if cancels:
        assert left[0].cancelled()
    else:
        assert isinstance(left[0].exception(), SomeError if seconds is None else TaskTimedOut)
    assert not logged(caplog)
    left.clear()
    gc.collect()
    assert kept() is None


async def test_an_attempt_after_the_end_of_the_retry() -> None:
    """9.5 None is made: the task is over."""
    attempts: list[Attempt] = []

    async def keep(attempt: Attempt) -> Any:
        attempts.append(attempt)
        return await attempt()

    flaky = Flaky(0)
    async with open_guarded() as runner:
        await flaky.schedule(runner, sync=False, retry=keep).wait()
        with pytest.raises(RuntimeError, match=r"has ended, so no other attempt .*: await each"):
            await attempts[0]()
    assert flaky.calls == 1


class Slow:
    """A function that does not end the first time."""

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.calls == 1:
            await until_cancelled(self.begun)
        return "done"


async def test_a_limit_of_the_retrys_own(caplog: pytest.LogCaptureFixture) -> None:
    """9.5 What a retry cancels by a scope of its own, it may try again."""
    slow = Slow()

    async def hurry(attempt: Attempt) -> Any:
        with anyio.move_on_after(LONG):
            return await attempt()
        return await attempt()

    async with open_guarded() as runner:
        task: Task[..., str] = runner.task(retry=hurry).schedule(slow)
        await slow.begun.wait()
        await anyio.wait_all_tasks_blocked()
        forward()
        assert await task.wait() == "done"
    assert (slow.calls, task.attempt) == (2, 2)
    (warning,) = logged(caplog, "WARNING")
    cut = "TaskAborted: the attempt was cut short by its retry, by a time limit for instance"
    assert f"attempt 1 failed, and another one begins: {cut}, with C" in warning


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_limit_of_the_retrys_own_that_is_asyncios() -> None:
    """9.5 So with asyncio's own timeout, which is no scope of anyio's."""
    slow = Slow()

    async def hurry(attempt: Attempt) -> Any:
        with suppress(TimeoutError):
            async with asyncio.timeout(LONG):
                return await attempt()
        return await attempt()

    async with open_guarded() as runner:
        task: Task[..., str] = runner.task(retry=hurry).schedule(slow)
        await slow.begun.wait()
        await anyio.wait_all_tasks_blocked()
        forward()
        assert await task.wait() == "done"
    assert slow.calls == 2


async def test_a_shutdown_after_a_limit_of_the_retrys_own() -> None:
    """9.6 An attempt that it has cut short is followed by none, as one that has failed."""
    slow, waits = Slow(), anyio.Event()

    async def hurry(attempt: Attempt) -> Any:
        with anyio.move_on_after(LONG):
            return await attempt()
        waits.set()
        return await anyio.sleep_forever()

    async with open_guarded() as runner:
        task: Task[..., str] = runner.task(retry=hurry, shield=True).schedule(slow)
        await slow.begun.wait()
        await anyio.wait_all_tasks_blocked()
        forward()
        await waits.wait()
        await drain(runner)
    assert slow.calls == 1
    assert isinstance(task.exception, TaskAborted)
    assert "cut short by its retry, by a time limit" in str(task.exception)


async def test_a_retry_for_all_tasks_and_another_for_one() -> None:
    """9.5 It is a setting like any other: the application's holds where none is set."""

    async def once(attempt: Attempt) -> Any:
        return await attempt()

    many, one = Flaky(2), Flaky(2)
    async with open_guarded(config=TaskConfig(retry=thrice)) as runner:
        with TasksScheduler(runner) as tasks:
            task = tasks.after_response.schedule(many.call_async, "done")
        await task.wait()
        await over(one.schedule(runner, sync=False, retry=once))
        # By hand it is the function that is called, and not the retry.
        with pytest.raises(SomeError):
            await runner.schedule(fail_async)()
    assert (many.calls, one.calls) == (3, 1)


# Threads.


async def test_waiting_for_another_attempt_takes_no_thread() -> None:
    """9.5 A sync function has one only while it is attempted; others have the only one then."""
    retry, flaky = Waiting(), Flaky(1)
    async with open_guarded(thread_limit=1) as runner:
        task = flaky.schedule(runner, sync=True, retry=retry)
        await retry.waits.wait()
        assert await runner.schedule(len, "four").wait() == 4
        assert states(task) == ["running"]
        retry.go.set()
        assert await task.wait() == "done"


async def test_a_sync_function_has_its_context_at_each_attempt() -> None:
    """9.5 `current_task` is its own in every thread, and so is what the caller has set (2.4)."""
    flaky = Flaky(2)
    async with open_guarded() as runner:
        task = flaky.schedule(runner, sync=True, retry=thrice)
        await task.wait()
    assert {record.id for record in flaky.records} == {task.id}


# Cancelling.


async def test_cancelled_before_it_begins() -> None:
    """9.6 The retry is not even called."""
    calls: list[object] = []

    async def retry(attempt: Attempt) -> None:
        calls.append(attempt)

    async with open_guarded() as runner:
        task = runner.task(retry=retry).schedule(checkpoint)
        assert task.cancel()
        await over(task)
    assert calls == []
    assert states(task) == ["cancelled"]


@pytest.mark.parametrize("catches", [Exception, BaseException])
async def test_cancelled_during_an_attempt(
    catches: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """9.6 A cancellation is never retried, also where the retry catches all there is."""
    retry, calls = Waiting(catches=catches), list[int]()

    async def work() -> None:
        calls.append(current_task().attempt)
        await anyio.sleep_forever()

    retry.go.set()
    async with open_guarded() as runner:
        task = runner.task(retry=retry).schedule(work)
        await task.started.wait()
        await anyio.wait_all_tasks_blocked()
        assert task.cancel()
        with pytest.raises(TaskCancelled):
            await task.wait()
        assert not runner._retrying
    assert calls == [1]
    assert states(task) == ["cancelled"]
    assert not logged(caplog)


@pytest.mark.parametrize("catches", [Exception, BaseException])
async def test_cancelled_between_attempts(catches: type[BaseException]) -> None:
    """9.6 At once, whatever the retry waits for."""
    retry, flaky = Waiting(catches=catches), Flaky(1)
    async with open_guarded() as runner:
        task = flaky.schedule(runner, sync=False, retry=retry)
        await retry.waits.wait()
        assert task.cancel()
        with pytest.raises(TaskCancelled):
            await task.wait()
    assert flaky.calls == 1


async def test_a_sync_function_that_is_cancelled_is_not_called_again() -> None:
    """9.6 One that runs on when it is cancelled, and fails then, has no other attempt."""
    begun, go, calls = anyio.Event(), threading.Event(), list[int]()

    def work() -> None:
        calls.append(len(calls))
        from_thread.run_sync(begun.set)
        assert go.wait(GUARD)
        raise SomeError

    async with open_guarded() as runner:
        task: Task[..., None] = runner.task(retry=thrice).schedule(work)
        await begun.wait()
        task.cancel()
        await anyio.wait_all_tasks_blocked()
        go.set()
        await over(task)
    assert calls == [0]
    assert states(task) == ["cancelled"]


async def test_tenacity_that_is_to_retry_on_everything() -> None:
    """9.6 A predicate that a cancellation fits cannot keep a task from being cancelled."""
    retry = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(BaseException),
        stop=tenacity.stop_after_attempt(9),
        wait=tenacity.wait_none(),
        reraise=True,
    )
    calls: list[int] = []

    async def work() -> None:
        calls.append(len(calls))
        await anyio.sleep_forever()

    async with open_guarded() as runner:
        task = runner.task(retry=retry).schedule(work)
        await task.started.wait()
        await anyio.wait_all_tasks_blocked()
        task.cancel()
        await over(task)
    assert calls == [0]
    assert states(task) == ["cancelled"]


async def test_a_retry_that_never_gives_up_holds_up_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """9.6 One that catches all there is and awaits nothing else: the event loop goes on."""
    calls: list[int] = []
    tries: list[int] = []
    ends = False

    async def for_ever(attempt: Attempt) -> None:
        while not ends:
            tries.append(len(tries))
            with suppress(BaseException):
                await attempt()

    async def work() -> None:
        calls.append(len(calls))
        await anyio.sleep_forever()

    async with open_guarded() as runner:
        task = runner.task(retry=for_ever).schedule(work)
        await task.started.wait()
        await anyio.wait_all_tasks_blocked()
        task.cancel()
        for _ in range(50):
            assert await runner.schedule(len, "four").wait() == 4
        assert states(task) == ["running"]
        ends = True
        await over(task)
    assert calls == [0]
    assert len(tries) > 3


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
async def test_what_is_no_exception_is_not_tried_again(
    sync: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """9.6 `SystemExit` and the like end the task, whatever the retry catches (4.1)."""
    flaky = Flaky(1, Abrupt)
    retry = Waiting(catches=BaseException)
    retry.go.set()
    async with open_guarded() as runner:
        task = flaky.schedule(runner, sync=sync, retry=retry)
        with pytest.raises(TaskAborted, match="Abrupt"):
            await task.wait()
    assert flaky.calls == 1
    assert [record.levelname for record in records(caplog)] == ["ERROR"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@each_retry
async def test_a_stray_cancellation_is_a_failure(retry: Retry) -> None:
    """9.6 A cancelled error that a library lets escape is the task's failure, and not retried."""
    flaky = Flaky(1, asyncio.CancelledError)
    async with open_guarded() as runner:
        bystander = runner.schedule(until_cancelled)
        with pytest.raises(TaskAborted, match="CancelledError"):
            await flaky.schedule(runner, sync=False, retry=retry).wait()
        assert flaky.calls == 1
        assert states(bystander) == ["running"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("between", [False, True])
async def test_the_event_loops_own_cancellation_is_not_tried_again(
    between: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """9.6 Who cancels the asyncio task ends it, during an attempt and between two."""
    running: list[Any] = []
    calls: list[int] = []

    async def work() -> None:
        running.append(asyncio.current_task())
        calls.append(len(calls))
        if between:
            raise SomeError
        await anyio.sleep_forever()

    retry = Waiting(catches=BaseException)
    async with open_guarded() as runner:
        task = runner.task(retry=retry).schedule(work)
        await anyio.wait_all_tasks_blocked()
        running[0].cancel()
        retry.go.set()
        await over(task)
    assert calls == [0]
    assert states(task) == ["cancelled"]
    assert "was cancelled by the event loop" in logged(caplog, "WARNING")[0]


# Task groups of asyncio's own, which before Python 3.13 count one cancellation too many.

on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@on_asyncio
@each_retry
async def test_a_task_group_of_asyncios_that_fails_is_tried_again(
    retry: Retry, caplog: pytest.LogCaptureFixture
) -> None:
    """9.5 Its own cancellation of who waits for it is none of the task (9.6, 4.2, 4.3)."""
    calls, handled = list[int](), Handled()

    async def work() -> None:
        calls.append(current_task().attempt)
        try:
            await fail_in_asyncios_group()
        except ExceptionGroup as group:
            raise SomeError from group

    async with open_guarded() as runner:
        task = runner.task(retry=retry, on_error=handled).schedule(work)
        with pytest.raises(SomeError):
            await task.wait()
    assert calls == [1, 2, 3]
    assert handled == [(task, task.exception)]
    assert [record.levelname for record in records(caplog)] == ["WARNING", "WARNING", "ERROR"]


@on_asyncio
async def test_a_retry_by_the_result_after_a_task_group_of_asyncios_has_failed() -> None:
    """9.5 As often as it likes, where the function has handled what failed in its group."""

    async def poll() -> int:
        with suppress(ExceptionGroup):
            await fail_in_asyncios_group()
        return current_task().attempt

    async with open_guarded() as runner:
        assert await runner.task(retry=until_three).schedule(poll).wait() == 3


@on_asyncio
async def test_a_retry_in_a_task_group_of_asyncios_goes_on_outside_of_it() -> None:
    """9.5 Of two attempts at a time one fails and one is cut short; another one follows."""
    begun: list[int] = []

    async def work() -> str:
        begun.append(current_task().attempt)
        if len(begun) == 1:
            await anyio.sleep_forever()
        if len(begun) == 2:
            raise SomeError
        return "done"

    async def two_then_one(attempt: Attempt) -> Any:
        with suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                for _ in range(2):
                    group.create_task(as_coroutine(attempt))
        return await attempt()

    async with open_guarded() as runner:
        assert await runner.task(retry=two_then_one).schedule(work).wait() == "done"
    assert begun == [1, 2, 3]


@on_asyncio
@pytest.mark.parametrize("hedged", [False, True])
async def test_a_shutdown_after_a_task_group_of_asyncios_has_failed(
    hedged: bool,  # noqa: FBT001
) -> None:
    """9.6 The function's group or the retry's: a shielded task fails with its last error."""
    waits, handled = anyio.Event(), Handled()

    async def retry(attempt: Attempt) -> None:
        with suppress(Exception):
            if hedged:
                async with asyncio.TaskGroup() as group:
                    group.create_task(as_coroutine(attempt))
            else:
                await attempt()
        waits.set()
        await anyio.sleep_forever()

    async def work() -> None:
        with suppress(ExceptionGroup):
            await fail_in_asyncios_group()
        raise SomeError

    async with open_guarded() as runner:
        task = runner.task(retry=retry, shield=True, on_error=handled).schedule(work)
        await waits.wait()
        await drain(runner)
    assert states(task) == ["failed"]
    assert isinstance(task.exception, SomeError)
    assert handled == [(task, task.exception)]


@on_asyncio
async def test_a_scope_around_an_attempt_whose_task_group_of_asyncios_has_failed() -> None:
    """9.5 It ends as ever: a time limit that a retry has set for all attempts."""

    async def limited(attempt: Attempt) -> str:
        with CancelScope() as scope:
            with suppress(ExceptionGroup):
                await attempt()
            scope.cancel()
            await anyio.sleep_forever()
        return "limited"

    async with open_guarded() as runner:
        task: Task[..., Any] = runner.task(retry=limited).schedule(fail_in_asyncios_group)
        assert await task.wait() == "limited"


@on_asyncio
async def test_a_stray_cancellation_after_a_task_group_of_asyncios_has_failed() -> None:
    """9.6 It is the failure of its attempt, whatever the one before has left (4.1)."""

    async def work() -> None:
        if current_task().attempt == 2:
            raise asyncio.CancelledError
        with suppress(ExceptionGroup):
            await fail_in_asyncios_group()
        raise SomeError

    async with open_guarded() as runner:
        with pytest.raises(TaskAborted, match="CancelledError"):
            await runner.task(retry=thrice).schedule(work).wait()


@on_asyncio
@pytest.mark.parametrize("hedged", [False, True])
async def test_the_event_loops_own_cancellation_after_a_task_group_of_asyncios_has_failed(
    hedged: bool,  # noqa: FBT001
) -> None:
    """9.6 It is told from what the group has counted, and is not tried again."""
    calls: list[int] = []

    async def work() -> None:
        calls.append(current_task().attempt)
        if len(calls) == 1:
            await fail_in_asyncios_group()
        await anyio.sleep_forever()

    async def for_ever(attempt: Attempt) -> Any:
        running.append(asyncio.current_task())
        with suppress(Exception):
            await attempt()
        with suppress(BaseException):
            if hedged:
                async with asyncio.TaskGroup() as group:
                    group.create_task(as_coroutine(attempt))
            else:
                await attempt()
        return await attempt()

    running: list[Any] = []
    async with open_guarded() as runner:
        task = runner.task(retry=for_ever).schedule(work)
        await anyio.wait_all_tasks_blocked()
        running[0].cancel()
        await over(task)
    assert calls == [1, 2]
    assert states(task) == ["cancelled"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ctrl_c_is_not_tried_again(backend: str) -> None:
    """9.6 It goes on to the event loop, whatever the retry catches (4.1)."""
    retry: list[Waiting] = []
    flaky = Flaky(1, KeyboardInterrupt)

    async def main() -> None:
        retry.append(Waiting(catches=BaseException))
        retry[0].go.set()
        async with open_guarded() as runner:
            await over(flaky.schedule(runner, sync=False, retry=retry[0]))

    def interrupted(error: BaseException) -> bool:
        return "KeyboardInterrupt" in repr(error)  # by itself or, on trio, in groups

    with pytest.raises(BaseException, check=interrupted):  # noqa: B017 - it is checked
        anyio.run(main, backend=backend)
    gc.collect()  # asyncio says here that nobody has looked at the task that was interrupted
    assert flaky.calls == 1


# Shutdown.


async def drain(runner: TaskRunner) -> None:
    """Drain it, and see that nobody waits for anything by then."""
    await runner.drain()
    assert not runner._retrying
    assert not runner._lanes


@each_kind
async def test_a_shutdown_between_attempts(
    sync: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """9.6 A shielded task ends at once, failed with its last error, and that is handled."""
    retry, flaky, log = Waiting(), Flaky(9), list[str]()

    async def handle(task: Task, error: Exception) -> None:
        await checkpoint()  # under the shield
        log.append(f"{error}, attempt {task.attempt}")

    async with open_guarded() as runner:
        task = flaky.schedule(runner, sync=sync, retry=retry, shield=True, on_error=handle)
        await retry.waits.wait()
        await drain(runner)

    assert flaky.calls == 1
    assert states(task) == ["failed"]
    assert isinstance(task.exception, SomeError)
    assert log == ["call 1, attempt 1"]
    (record,) = records(caplog)  # no report of a shutdown: it has ended
    assert record.levelname == "ERROR"


class EmptyError(SomeError):
    """An error that is as long as what it holds."""

    def __len__(self) -> int:
        return 0


async def test_a_shutdown_after_an_error_that_is_false() -> None:
    """9.6 It is the last error all the same: where the retry waits, and where it asks again."""
    asked = anyio.Event()

    async def in_a_shield(attempt: Attempt) -> Any:
        with suppress(SomeError):
            await attempt()
        asked.set()
        with CancelScope(shield=True):
            while not runner._shutdown.cancels:
                await checkpoint()
            return await attempt()

    async with open_guarded() as runner:
        waiting = Waiting()
        tasks = [
            Flaky(9, EmptyError).schedule(runner, sync=False, retry=retry, shield=True)
            for retry in (waiting, in_a_shield)
        ]
        await waiting.waits.wait()
        await asked.wait()
        await drain(runner)
    assert states(*tasks) == ["failed"] * 2
    assert [type(task.exception) for task in tasks] == [EmptyError] * 2


@pytest.mark.parametrize(
    "retry",
    [
        stamina.AsyncRetryingCaller(attempts=3, timeout=None, wait_initial=60).on(SomeError),
        tenacity.AsyncRetrying(wait=tenacity.wait_fixed(60), stop=tenacity.stop_after_attempt(3)),
    ],
    ids=["stamina", "tenacity"],
)
async def test_a_shutdown_does_not_wait_for_the_wait_of_others(retry: Retry) -> None:
    """9.6 What stamina or tenacity sleeps between two attempts is cut short."""
    flaky = Flaky(9)
    async with open_guarded() as runner:
        task = flaky.schedule(runner, sync=False, retry=retry, shield=True)
        await task.started.wait()
        await anyio.wait_all_tasks_blocked()
        assert flaky.calls == 1
        await drain(runner)
    assert isinstance(task.exception, SomeError)


@each_kind
@pytest.mark.parametrize("succeeds", [False, True])
async def test_a_shutdown_during_an_attempt(
    sync: bool,  # noqa: FBT001
    succeeds: bool,  # noqa: FBT001
) -> None:
    """9.6 The attempt of a shielded task ends as it likes, and none follows nor is waited for."""
    begun, go, go_in_thread = anyio.Event(), anyio.Event(), threading.Event()
    retry, calls, log = Waiting(), list[int](), list[str]()

    def end() -> str:
        calls.append(len(calls))
        if not succeeds:
            raise SomeError
        return "done"

    def work() -> str:
        from_thread.run_sync(begun.set)
        assert go_in_thread.wait(GUARD)
        return end()

    async def work_async() -> str:
        begun.set()
        await go.wait()
        return end()

    async with open_guarded() as runner:
        batch = runner.task(
            retry=retry, shield=True, on_error=lambda _, error: log.append(type(error).__name__)
        )
        func: Callable[[], Any] = work if sync else work_async
        task: Task[..., str] = batch.schedule(func)
        await begun.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(drain, runner)
            await anyio.wait_all_tasks_blocked()
            assert states(task) == ["running"]
            go.set()
            go_in_thread.set()

    assert calls == [0]
    assert not retry.go.is_set()
    assert states(task) == ["succeeded" if succeeds else "failed"]
    assert log == ([] if succeeds else ["SomeError"])


@pytest.mark.parametrize("between", [False, True])
async def test_a_shutdown_cancels_what_is_not_shielded(
    between: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """9.6 During an attempt and between two, at once; it is in the report."""
    retry, calls = Waiting(), list[int]()

    async def work() -> None:
        calls.append(len(calls))
        if between:
            raise SomeError
        await anyio.sleep_forever()

    async with open_guarded() as runner:
        task = runner.task(retry=retry, name="import").schedule(work)
        await anyio.wait_all_tasks_blocked()
        await drain(runner)

    assert calls == [0]
    assert states(task) == ["cancelled"]
    (warning,) = logged(caplog)
    assert warning.startswith("Shutdown left unfinished: import (")


async def test_attempts_go_on_in_the_grace_period(caplog: pytest.LogCaptureFixture) -> None:
    """9.6 Until the shutdown cancels, another attempt may begin."""
    retry, flaky = Waiting(), Flaky(1)
    async with open_guarded(grace_period=LONG) as runner:
        task = flaky.schedule(runner, sync=False, retry=retry)
        await retry.waits.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(drain, runner)
            await anyio.wait_all_tasks_blocked()
            assert states(task) == ["running"]
            retry.go.set()
    assert await task.wait() == "done"
    assert flaky.calls == 2


@pytest.mark.parametrize("shield", [False, True])
async def test_the_grace_period_ends_between_attempts(shield: bool) -> None:  # noqa: FBT001
    """9.6 Then no other one begins: cancelled, or failed if it is shielded."""
    retry, flaky = Waiting(), Flaky(9)
    async with open_guarded(grace_period=LONG) as runner:
        task = flaky.schedule(runner, sync=False, retry=retry, shield=shield)
        await retry.waits.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(drain, runner)
            await anyio.wait_all_tasks_blocked()
            forward()
    assert flaky.calls == 1
    assert states(task) == ["failed" if shield else "cancelled"]


async def test_a_retry_that_catches_the_shutdown() -> None:
    """9.6 Whoever catches what ends its wait gets no attempt for it."""

    async def stubborn(attempt: Attempt) -> str:
        for _ in range(5):
            with suppress(BaseException):
                return str(await attempt())
            with suppress(BaseException):
                waits.set()
                await anyio.sleep_forever()
        return "given up"

    waits = anyio.Event()
    flaky = Flaky(9)
    async with open_guarded() as runner:
        task = flaky.schedule(runner, sync=False, retry=stubborn, shield=True)
        await waits.wait()
        await drain(runner)
    assert flaky.calls == 1
    assert task.result == "given up"  # what it returns is the result (9.5)


class Steps:
    """A function of which each call ends when it is told to: fails, or returns its number."""

    def __init__(self) -> None:
        self.calls = 0
        self._ends = [(anyio.Event(), list[bool]()) for _ in range(3)]

    async def __call__(self) -> int:
        self.calls += 1
        call = self.calls
        event, fails = self._ends[call - 1]
        await event.wait()
        if fails:
            raise SomeError(f"call {call}")
        return call

    async def end(self, call: int, *, fails: bool) -> None:
        """Let a call end."""
        event, told = self._ends[call - 1]
        told.extend([True] * fails)
        event.set()
        await anyio.wait_all_tasks_blocked()


class Hedging:
    """A retry that makes another attempt whenever it is told to, beside those at work.

    It takes the first result; and if all fail, it waits.
    """

    def __init__(self) -> None:
        self._asked, self._asks = anyio.create_memory_object_stream[None](3)
        self._ended = anyio.Event()
        self._found: list[Any] = []

    async def ask(self) -> None:
        """Let it make another attempt."""
        self._asked.send_nowait(None)
        await anyio.wait_all_tasks_blocked()

    async def __call__(self, attempt: Attempt) -> Any:
        async with self._asked, self._asks, anyio.create_task_group() as group:
            group.start_soon(self._attempt, attempt)
            group.start_soon(self._make_more, attempt)
            await self._ended.wait()
            group.cancel_scope.cancel()
        return self._found[0]

    async def _make_more(self, attempt: Attempt) -> None:
        async with anyio.create_task_group() as group:
            async for _ in self._asks:
                group.start_soon(self._attempt, attempt)

    async def _attempt(self, attempt: Attempt) -> None:
        with suppress(SomeError):
            self._found.append(await attempt())
            self._ended.set()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("first", [False, True], ids=["before", "after"])
async def test_a_shutdown_spares_an_attempt_beside_one_that_has_failed(
    fails: bool,  # noqa: FBT001
    first: bool,  # noqa: FBT001
) -> None:
    """9.6 What runs of a shielded task is spared; the last that fails is followed by none."""
    steps, retry = Steps(), Hedging()
    async with open_guarded() as runner:
        task = runner.task(retry=retry, shield=True).schedule(steps)
        await task.started.wait()
        await retry.ask()
        if not first:
            await steps.end(1, fails=True)
        async with anyio.create_task_group() as group:
            group.start_soon(drain, runner)
            await anyio.wait_all_tasks_blocked()
            await steps.end(1, fails=True)
            assert states(task) == ["running"]
            await steps.end(2, fails=fails)
    assert steps.calls == 2
    assert (task.result, str(task.exception)) == ((None, "call 2") if fails else (2, "None"))


@pytest.mark.parametrize("fails", [False, True])
async def test_an_attempt_that_is_asked_for_during_a_shutdown_beside_others(
    fails: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """9.6 After one that has ended none begins; who asks waits for the others."""
    steps, retry = Steps(), Hedging()
    async with open_guarded() as runner:
        task = runner.task(name="task", retry=retry, shield=True).schedule(steps)
        await task.started.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(drain, runner)
            await anyio.wait_all_tasks_blocked()
            await retry.ask()  # none has ended by now
            assert steps.calls == 2
            await steps.end(1, fails=True)
            await retry.ask()
            assert states(task) == ["running"]
            await steps.end(2, fails=fails)
    assert steps.calls == 2
    assert (task.result, str(task.exception)) == ((None, "call 2") if fails else (2, "None"))


@each_kind
@pytest.mark.parametrize("between", [False, True])
@pytest.mark.parametrize("shield", [False, True])
async def test_a_retry_by_result_during_a_shutdown(
    sync: bool,  # noqa: FBT001
    between: bool,  # noqa: FBT001
    shield: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """9.6 None follows an attempt that has returned: cancelled, as nothing failed, and reported."""
    retry = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_result(lambda found: found == "not yet"),
        sleep=lambda _: waits() if between else checkpoint(),
    )
    begun, go, waiting, go_on = anyio.Event(), threading.Event(), anyio.Event(), anyio.Event()
    flaky = Flaky(0)

    async def waits() -> None:
        waiting.set()
        await go_on.wait()

    def work() -> str:
        from_thread.run_sync(begun.set)
        assert between or go.wait(GUARD)
        return flaky.call("not yet")

    async def work_async() -> str:
        begun.set()
        if not between:
            with CancelScope(shield=True):
                await anyio.to_thread.run_sync(go.wait)
        return flaky.call("not yet")

    async with open_guarded() as runner:
        func: Callable[[], Any] = work if sync else work_async
        task: Task[..., Any] = runner.task(name="poll", retry=retry, shield=shield).schedule(func)
        await (waiting if between else begun).wait()
        async with anyio.create_task_group() as group:
            group.start_soon(drain, runner)
            await anyio.wait_all_tasks_blocked()
            go.set()
            go_on.set()
    assert flaky.calls == 1
    assert states(task) == ["cancelled"]
    (warning,) = logged(caplog)
    assert warning.startswith("Shutdown left unfinished: poll (")


async def test_a_retry_that_ends_slowly_is_not_cut_short() -> None:
    """9.6 After an attempt that has returned it may do what belongs to that, a commit perhaps."""
    waits, go, flaky = anyio.Event(), anyio.Event(), Flaky(0)

    async def commit(attempt: Attempt) -> Any:
        found = await attempt()
        waits.set()
        await go.wait()
        return found

    async with open_guarded() as runner:
        task = flaky.schedule(runner, sync=False, retry=commit, shield=True)
        await waits.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(drain, runner)
            await anyio.wait_all_tasks_blocked()
            go.set()
    assert task.result == "done"


async def test_a_retry_that_ends_slowly_with_one_of_several_attempts() -> None:
    """9.6 It is not cut short when it has cancelled the others, nor when one of them fails."""
    waits, go, steps = anyio.Event(), anyio.Event(), Steps()

    async def first(attempt: Attempt) -> Any:
        found: list[Any] = []

        async def note() -> None:
            with suppress(SomeError):
                found.append(await attempt())
                group.cancel_scope.cancel()

        async with anyio.create_task_group() as outer:
            outer.start_soon(ignore, attempt)
            await anyio.wait_all_tasks_blocked()  # that is the first one
            async with anyio.create_task_group() as group:
                group.start_soon(note)
                group.start_soon(note)
        waits.set()
        await go.wait()
        return found[0]

    async def ignore(attempt: Attempt) -> None:
        with suppress(SomeError):
            await attempt()

    async with open_guarded() as runner:
        task = runner.task(retry=first, shield=True).schedule(steps)
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as group:
            group.start_soon(drain, runner)
            await anyio.wait_all_tasks_blocked()
            await steps.end(2, fails=False)
            await steps.end(1, fails=True)
            await steps.end(3, fails=True)
            await waits.wait()
            go.set()
    assert steps.calls == 3
    assert task.result == 2


@pytest.mark.parametrize("fails", [False, True])
async def test_a_retry_within_a_shield_of_its_own(fails: bool) -> None:  # noqa: FBT001
    """9.6 No cancellation reaches it there: who asks for an attempt gets an error at once."""
    waits, go, flaky = anyio.Event(), anyio.Event(), Flaky(9 if fails else 0)

    async def shielding(attempt: Attempt) -> Any:
        with CancelScope(shield=True):
            with suppress(SomeError):
                await attempt()
            waits.set()
            await go.wait()
            return await attempt()

    async with open_guarded() as runner:
        task = flaky.schedule(runner, sync=False, retry=shielding, shield=True)
        await waits.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(drain, runner)
            await anyio.wait_all_tasks_blocked()
            go.set()
    assert flaky.calls == 1
    assert isinstance(task.exception, SomeError if fails else TaskAborted)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_attempt_that_waits_for_others_when_the_retry_ends() -> None:
    """9.6 It is not made: the task is over."""
    made: list[asyncio.Future[Any]] = []
    go, steps = anyio.Event(), Steps()

    async def leave(attempt: Attempt) -> str:
        made.extend(asyncio.ensure_future(attempt()) for _ in range(2))
        await go.wait()
        made.append(asyncio.ensure_future(attempt()))
        await checkpoint()
        return "left"

    async with open_guarded() as runner:
        task: Task[..., Any] = runner.task(retry=leave, shield=True).schedule(steps)
        await task.started.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(drain, runner)
            await anyio.wait_all_tasks_blocked()
            await steps.end(1, fails=True)
            go.set()
        assert task.result == "left"
        await steps.end(2, fails=False)
    assert steps.calls == 2
    found = await asyncio.gather(*made, return_exceptions=True)
    assert [type(one) for one in found] == [SomeError, int, RuntimeError]


async def test_a_shielded_task_that_begins_during_a_shutdown() -> None:
    """9.6 It has its one attempt."""
    retry, flaky = Waiting(), Flaky(9)

    async def schedule_more(runner: TaskRunner) -> Task[..., str]:
        with suppress(get_cancelled_exc_class()):
            await anyio.sleep_forever()
        return flaky.schedule(runner, sync=False, retry=retry, shield=True)

    async with open_guarded() as runner:
        first = runner.schedule(schedule_more, runner)
        await first.started.wait()
    assert first.result is not None
    assert flaky.calls == 1
    assert isinstance(first.result.exception, SomeError)


async def test_past_the_bound_an_attempt_is_cancelled_too() -> None:
    """5.2 `shutdown_timeout` ends a shielded task that retries, as any."""
    retry, begun = Waiting(), anyio.Event()
    async with open_runner(shutdown_timeout=LONG) as runner:
        task = runner.task(retry=retry, shield=True).schedule(until_cancelled, begun)
        await begun.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(drain, runner)
            await anyio.wait_all_tasks_blocked()
            forward()
    assert states(task) == ["cancelled"]


# Timeouts.


@each_retry
async def test_an_attempt_that_times_out_may_be_followed_by_another(
    retry: Retry, caplog: pytest.LogCaptureFixture
) -> None:
    """9.1 The retry sees a `TaskTimedOut`, and decides as of any error."""
    begun: list[anyio.Event] = [anyio.Event(), anyio.Event()]
    calls: list[int] = []

    async def work() -> str:
        calls.append(len(calls))
        if len(calls) < 3:
            begun[len(calls) - 1].set()
            await anyio.sleep_forever()
        return "done"

    on_timeout: dict[str, Retry] = {
        "stamina": stamina_on.on(TaskTimedOut),
        "tenacity": tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(3)),
        "own": Waiting(),
    }
    del on_timeout["own"]
    async with open_guarded() as runner:
        chosen = next((on_timeout[name] for name in on_timeout if RETRIES[name] is retry), timeouts)
        task: Task[..., str] = runner.task(retry=chosen, timeout=LONG).schedule(work)
        for event in begun:
            await event.wait()
            await anyio.wait_all_tasks_blocked()
            forward()
        assert await task.wait() == "done"
    assert len(logged(caplog, "WARNING")) == 2
    assert "TaskTimedOut: task " in logged(caplog, "WARNING")[0]


async def timeouts(attempt: Attempt) -> Any:
    while True:
        with suppress(TimeoutError):
            return await attempt()


# Numbers.


@each_kind
@each_retry
async def test_attempts_are_counted(retry: Retry, sync: bool) -> None:  # noqa: FBT001
    """9.7 From 1, in the task and its records; 0 before the first; remembered after the last."""
    flaky = Flaky(2)
    async with open_guarded() as runner:
        with TasksScheduler(runner) as tasks:
            batch = tasks.after_response.task(retry=retry)
            task = batch.schedule(flaky.call if sync else flaky.call_async, "done")
            assert task.attempt == task.record().attempt == 0
            assert task.id
        await task.wait()
        found = runner.get(task.id)

    assert flaky.attempts == [1, 2, 3]
    assert [record.attempt for record in flaky.records] == [1, 2, 3]
    assert task.attempt == task.record().attempt == 3
    assert found is not None
    assert found is not task
    assert found.attempt == found.record().attempt == 3


@each_kind
async def test_without_a_retry_there_is_one_attempt(sync: bool) -> None:  # noqa: FBT001
    """9.7 It has the number 1, from its beginning on."""
    flaky = Flaky(0)
    async with open_guarded() as runner:
        with TasksScheduler(runner) as tasks:
            task = tasks.after_route.schedule(flaky.call if sync else flaky.call_async, "")
            skipped = tasks.after_route.task(run_on="failure").schedule(flaky.call, "")
            assert task.attempt == 0
            tasks.reach(Phase.AFTER_ROUTE)
        assert task.id
        await task.wait()
        found = runner.get(task.id)

    assert found is not None
    assert flaky.attempts == [1]
    assert [one.attempt for one in (task, found, skipped)] == [1, 1, 0]


async def test_the_state_is_running_between_attempts() -> None:
    """9.7 It has begun once, with its first attempt, and that is what a record says."""
    retry, flaky = Waiting(), Flaky(1)
    async with open_guarded() as runner:
        task = flaky.schedule(runner, sync=False, retry=retry)
        await retry.waits.wait()
        assert states(task) == ["running"]
        between = task.record()
        retry.go.set()
        await task.wait()

    assert (between.attempt, between.error) == (1, None)
    started = {record.started_at for record in (*flaky.records, between, task.record())}
    assert len(started) == 1


# What is kept, and what is shown


def names_of(error: BaseException | None) -> list[str]:
    """Return the functions in the traceback of an error."""
    assert error is not None
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


@each_kind
@each_retry
async def test_a_traceback_shows_the_users_frames_only(
    retry: Retry,
    sync: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """4.2 Of the last attempt: neither ours, nor those of who has retried."""
    async with open_guarded() as runner:
        task: Task[..., Any] = runner.task(retry=retry).schedule(fail if sync else fail_async)
        await runner.join()

    assert names_of(task.exception) == ["fail" if sync else "fail_async"]
    for file in ("tasks_core/_", "stamina", "tenacity", "test_retries.py", "anyio"):
        assert file not in caplog.text.partition("Traceback")[2]


async def test_a_traceback_shows_a_broken_retry() -> None:
    """4.2 Where it is the retry that has raised, its own frames are there."""

    async def broken(attempt: Attempt) -> None:
        await attempt()
        raise LookupError

    async with open_guarded() as runner:
        task = runner.task(retry=broken).schedule(checkpoint)
        await runner.join()
    assert names_of(task.exception) == ["broken"]


class Payload:
    """What a task has in its hands."""


async def take(payload: Payload) -> None:
    await checkpoint()


async def take_and_fail(payload: Payload) -> None:
    await checkpoint()
    raise SomeError


async def take_for_ever(payload: Payload) -> None:
    await anyio.Event().wait()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("func", [take, take_and_fail, take_for_ever])
@pytest.mark.parametrize("retry", [None, RETRIES["tenacity"], thrice], ids=["none", "lib", "own"])
@pytest.mark.parametrize("seconds", [None, LONG])
@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_task_takes_what_it_had_with_it(
    func: Any,
    retry: Retry | None,
    seconds: float | None,
    cancelled: bool,  # noqa: FBT001
    anyio_backend_name: str,
) -> None:
    """4.2 However often it was attempted, its arguments go with it, without the collector.

    Stamina keeps a cycle of its own, with the last error in it.
    """
    if retry is RETRIES["tenacity"] and sys.version_info >= (3, 12):
        pytest.skip("there a frame has those around it, and tenacity's have the error")
    if func is take_for_ever and not cancelled:
        if seconds is None:
            pytest.skip("it would not end")
        if anyio_backend_name == "trio":
            pytest.skip("the traceback of a cancelled error has trio's task, and this the context")
    kept: list[weakref.ref[Payload]] = []

    async def schedule(runner: TaskRunner) -> None:
        for _ in range(3):
            payload = Payload()
            kept.append(weakref.ref(payload))
            task = runner.task(retry=retry, timeout=seconds).schedule(func, payload)
            if cancelled:
                await task.started.wait()
                task.cancel()

    async with open_guarded() as runner:
        await schedule(runner)
        await anyio.wait_all_tasks_blocked()
        forward()  # what has timed out ends; and event loops hold timers up to their time
        await runner.join()
        await anyio.wait_all_tasks_blocked()
        assert [one() for one in kept] == [None] * 3


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("retry", [RETRIES["stamina"], RETRIES["tenacity"], thrice])
async def test_a_handle_that_is_dropped_is_no_cycle(retry: Retry) -> None:
    """4.2 A failed task refers to its error, and neither the error nor the retry to the task."""
    async with open_guarded() as runner:
        task: Task[..., Any] = runner.task(retry=retry).schedule(take_and_fail, Payload())
        await runner.join()
        seen = weakref.ref(task)
        del task
        assert seen() is None


@pytest.mark.usefixtures("no_collector")
async def test_a_retry_that_keeps_the_attempt_keeps_no_task() -> None:
    """4.2 Who holds on to what it was given does not hold on to the task and its arguments."""
    attempts: list[Attempt] = []

    async def keep(attempt: Attempt) -> Any:
        attempts.append(attempt)
        return await attempt()

    async def schedule(runner: TaskRunner) -> weakref.ref[Payload]:
        payload = Payload()
        runner.task(retry=keep).schedule(take_and_fail, payload)
        await runner.join()
        return weakref.ref(payload)

    async with open_guarded() as runner:
        seen = await schedule(runner)
        assert seen() is None
    assert len(attempts) == 1


async def test_what_is_remembered_has_no_retry() -> None:
    """7.1 It may hold on to others, as an error handler may."""
    async with open_guarded() as runner:
        task = Flaky(0).schedule(runner, sync=False, retry=thrice, timeout=60, name="kept")
        assert task.id
        await task.wait()
        found = runner.get(task.id)
    assert found is not None
    assert found.config == TaskConfig(timeout=60, name="kept")


# Scopes that a retry leaves open


async def test_a_shielded_wait_of_the_retry_is_waited_for() -> None:
    """5.5 A shield inside of a retry holds too."""
    go, waits, flaky = anyio.Event(), anyio.Event(), Flaky(9)

    async def shielding(attempt: Attempt) -> Any:
        with suppress(SomeError):
            return await attempt()
        with CancelScope(shield=True):
            waits.set()
            await go.wait()
        return await attempt()

    async with open_guarded() as runner:
        task = flaky.schedule(runner, sync=False, retry=shielding, shield=True)
        await waits.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(drain, runner)
            await anyio.wait_all_tasks_blocked()
            assert states(task) == ["running"]
            go.set()
    assert flaky.calls == 1
    assert isinstance(task.exception, SomeError)


async def test_partials_and_methods_are_retries() -> None:
    """9.5 Whatever can be called with an attempt."""

    class Policy:
        async def twice(self, attempt: Attempt) -> Any:
            with suppress(SomeError):
                return await attempt()
            return await attempt()

    async def so_often(times: int, attempt: Attempt) -> Any:
        for _ in range(times - 1):
            with suppress(SomeError):
                return await attempt()
        return await attempt()

    async with open_guarded() as runner:
        for retry in (Policy().twice, partial(so_often, 2)):
            flaky = Flaky(1)
            await flaky.schedule(runner, sync=False, retry=retry).wait()
            assert flaky.calls == 2
