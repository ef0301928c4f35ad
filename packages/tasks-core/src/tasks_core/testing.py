"""What a test needs: run tasks and wait for them, or record them; and an application's lifespan.

Each is a block around what the test does. Within `drain` tasks run as ever, and leaving the block
waits for them; within `inline` each request waits for its own; within `record` none runs, and the
test asks what was scheduled::

    def test_signup(client: TestClient) -> None:
        with record() as recorded:
            client.post("/signup")
        recorded.after_response.assert_scheduled(send_mail, "ada@example.com")

In an async test, where the application runs on the test's own event loop, write ``async with``.

A block is seen by the requests that are made in it, by its thread or task or by what these start
(it is a context variable): nothing is global, and tests may run at the same time. For pytest there
are the fixtures ``drained_tasks``, ``inline_tasks`` and ``recorded_tasks``, each a block around
the test function.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import asynccontextmanager
from contextvars import copy_context
from dataclasses import fields
from difflib import SequenceMatcher, ndiff
from functools import partial
from inspect import isroutine, signature
from threading import get_ident
from traceback import format_exception
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, cast

from anyio import CancelScope, Event, fail_after, to_thread

from ._backend import Backend, current_backend, runs_here
from ._calling import describe, show
from ._config import RunOn, TaskConfig, TaskErrorHandler
from ._life import age, home, is_over
from ._phase import AFTER_RESPONSE, AFTER_ROUTE, IMMEDIATE, Phase
from ._scheduler import SchedulerHost, observing
from ._task import Task, until_over
from .asgi import ASGIApp, Message, Receive, Scope, Send

__all__ = [
    "RecordedBatch",
    "RecordedTasks",
    "TasksBlock",
    "drain",
    "inline",
    "lifespan",
    "record",
]

P = ParamSpec("P")

_GUARD: Final = 5.0  # seconds, if nothing else is said


class TasksBlock:
    """The block of a test, ``with`` or ``async with``; made by `drain`, `inline` and `record`.

    It can be entered once. When the block has raised, tasks that failed are notes of that error.

    Attributes:
        tasks: The block's tasks, in the order in which they were scheduled.

    Since 0.1.0.
    """

    def __init__(self, timeout: float, *, raise_errors: bool, waits_in_requests: bool) -> None:
        """Made by `drain`, `inline` and `record`."""
        self.tasks: list[Task] = []
        self._hosts: dict[int, SchedulerHost] = {}  # of each event loop's thread, one of it
        self._waiting: dict[int, object] = {}  # what waits there; the event loop does not hold it
        self._timeout = timeout
        self._raise_errors = raise_errors
        self._waits_in_requests = waits_in_requests

    def __enter__(self) -> Self:
        """Watch the tasks of requests that are made from here."""
        self._outer = observing.set(self.observe)
        return self

    async def __aenter__(self) -> Self:
        """Watch the tasks of requests that are made from here."""
        return self.__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for the block's tasks, and raise what went wrong.

        Raises:
            Exception: What a task has raised; of several tasks, as an `ExceptionGroup`.
            TimeoutError: Tasks have not ended in time; it names them.
            RuntimeError: They run on this thread's own event loop, which could not go on.
        """
        observing.reset(self._outer)
        late = None
        try:
            self._wait_in_thread()
        except (RuntimeError, TimeoutError) as error:
            late = error
        self._raise(exc_value, late)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for the block's tasks, and raise what went wrong, as leaving ``with`` does."""
        observing.reset(self._outer)
        late = None
        try:
            await self._wait()
            await to_thread.run_sync(self._wait_in_thread)  # where a client has a thread of its own
        except TimeoutError as error:
            late = error
        self._raise(exc_value, late)

    def observe(self, host: SchedulerHost) -> SchedulerHost:
        """Return what stands between a new scheduler and its runner."""
        self._hosts[host.thread] = host
        return _Observer(host, self, waits=self._waits_in_requests)

    def accept(self, task: Task) -> None:
        """Note a task that was scheduled."""
        self.tasks.append(task)

    def start(self, host: SchedulerHost, tasks: Sequence[Task]) -> None:
        """Start tasks whose phase has begun."""
        host.start(tasks)

    async def wait_for(self, tasks: Iterable[Task]) -> None:
        """Wait until tasks of this event loop are over.

        Raises:
            TimeoutError: They are not, in time.
        """
        here = get_ident()
        try:
            with fail_after(self._timeout):
                for task in tasks:  # a list that grows meanwhile is gone through to its end
                    if home(task) == here:
                        await until_over(task)
        except TimeoutError:
            raise TimeoutError(self._tell_living()) from None

    async def _wait(self) -> None:
        """Wait for the block's tasks that live on this event loop."""
        await self.wait_for(self.tasks)

    def _wait_in_thread(self) -> None:
        """Wait for the block's tasks that live on the event loops of other threads."""
        for thread in {home(task) for task in self.tasks if not is_over(task)}:
            if thread == get_ident() and runs_here():
                msg = "The tasks run on this thread's event loop: write `async with`, not `with`."
                raise RuntimeError(msg)
            host, ended = self._hosts[thread], Future[None]()
            host.on_loop(partial(self._wait_on_loop, host, ended))
            try:
                ended.result(self._timeout + 1.0)  # the loop's own guard is to come first
            except FutureTimeoutError:
                raise TimeoutError(self._tell_living()) from None

    def _wait_on_loop(self, host: SchedulerHost, ended: Future[None]) -> None:
        async def wait() -> None:
            try:
                await self._wait()
            except TimeoutError as error:
                ended.set_exception(error)
            else:
                ended.set_result(None)

        self._waiting[host.thread] = host.backend.spawn(
            wait(), name="tasks_core.testing", context=copy_context()
        )

    def _tell_living(self) -> str:
        living = [task for task in self.tasks if not is_over(task)]
        named = ", ".join(
            f"{task.name} ({task.state}, phase={task.phase}, age={age(task):.1f} s)"
            for task in living
        )
        return f"Tasks have not ended within {self._timeout:g} s: {named}"

    def _raise(self, raised: BaseException | None, late: Exception | None) -> None:
        failures = [task for task in self.tasks if task.exception is not None]
        if raised is not None:  # the test's own error, which what follows may explain
            for task in failures:
                raised.add_note(f"Task {task.name} failed: {_trace(task)}")
            if late is not None:
                raised.add_note(str(late))
            return
        if late is not None:
            raise late
        errors = [task.exception for task in failures if task.exception is not None]
        if not errors or not self._raise_errors:
            return
        if len(errors) > 1:
            msg = f"{len(errors)} tasks failed"
            raise ExceptionGroup(msg, errors)
        raise errors[0]


def _trace(task: Task) -> str:
    return "" if task.exception is None else "".join(format_exception(task.exception))


class _Observer:
    """Stands between a request's scheduler and the runner, for a block."""

    def __init__(self, host: SchedulerHost, block: TasksBlock, *, waits: bool) -> None:
        self._host = host
        self._block = block
        self._started: list[Task] = []
        self.settle: Callable[[], Awaitable[None]] | None = self.begun if waits else None
        self.config = host.config
        self.lock = host.lock
        self.registry = host.registry
        self.backend = host.backend
        self.threads = host.threads
        self.thread = host.thread

    def accept(self, task: Task) -> None:
        self._host.accept(task)
        self._block.accept(task)

    def start(self, tasks: Sequence[Task]) -> None:
        self._started += tasks
        self._block.start(self._host, tasks)

    async def begun(self) -> None:
        await self._host.begun()
        if self.settle is not None:
            await self._block.wait_for(self._started)

    def skip(self, task: Task, why: str) -> None:
        self._host.skip(task, why)

    def cancel(self, task: Task) -> bool:
        return self._host.cancel(task)

    def identify(self, task: Task) -> str:
        return self._host.identify(task)

    def on_loop(self, act: Callable[[], object]) -> None:
        self._host.on_loop(act)


def drain(*, timeout: float = _GUARD, raise_errors: bool = True) -> TasksBlock:
    """Return a block whose tasks run as ever; leaving it waits until all of them have ended.

    Also for what these tasks have scheduled themselves. What was scheduled before the block, by the
    application's lifespan for instance, is not waited for.

    Args:
        timeout: Seconds that leaving the block waits at most.
        raise_errors: Whether leaving the block raises what a task has raised.

    Since 0.1.0.
    """
    return TasksBlock(timeout, raise_errors=raise_errors, waits_in_requests=False)


def inline(*, timeout: float = _GUARD, raise_errors: bool = True) -> TasksBlock:
    """Return a block in which each request waits for its tasks, so that they end where they begin.

    Immediate tasks, and those of *after route*, have ended before the response begins; those of
    *after response* before the request returns to the client of the test. A task that waits for
    something that its own request does later cannot end there: use `drain` for such.

    Args:
        timeout: Seconds that a request waits at most at a time.
        raise_errors: Whether leaving the block raises what a task has raised.

    Since 0.1.0.
    """
    return TasksBlock(timeout, raise_errors=raise_errors, waits_in_requests=True)


class RecordedBatch:
    """Tasks of a phase, and with settings, among those that were recorded.

    It takes the form of what schedules such a task, ``tasks.after_route.task(name="mail")``.

    Since 0.1.0.
    """

    def __init__(self, recorded: RecordedTasks, phase: Phase, config: TaskConfig) -> None:
        """Made by `RecordedTasks`, not by users."""
        self._recorded = recorded
        self._phase = phase
        self._config = config

    def task(
        self,
        *,
        name: str | None = None,
        shield: bool | None = None,
        on_error: TaskErrorHandler | None = None,
        run_on: RunOn | None = None,
    ) -> RecordedBatch:
        """Return those that have these settings too; what is left out may be anything."""
        layer = TaskConfig(name=name, shield=shield, on_error=on_error, run_on=run_on)
        return RecordedBatch(self._recorded, self._phase, self._config.merge(layer))

    def assert_scheduled(
        self, func: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[P, Any]:
        """Fail unless ``func(*args, **kwargs)`` was scheduled so and would have run.

        How the arguments were passed, by position or by name, makes no difference.

        Returns:
            The first such task.

        Raises:
            AssertionError: There is none. It shows what there is, and how the nearest differs.
        """
        call = _bind(func, args, kwargs)
        for task in self._recorded.tasks:
            if (
                task.phase is self._phase
                and task.func == func
                and _has(task, self._config)
                and _bind(task.func, task.args, task.kwargs) == call
            ):
                return cast("Task[P, Any]", task)
        expected = _render(self._phase, self._config, func, args, kwargs)
        raise AssertionError(_explain(expected, self._recorded.tasks, self._config))


class RecordedTasks(TasksBlock):
    """The block of `record`: its `tasks` are those that would have run, in that order.

    Since 0.1.0.
    """

    def __init__(self) -> None:
        """Made by `record`."""
        super().__init__(_GUARD, raise_errors=False, waits_in_requests=False)

    @property
    def after_route(self) -> RecordedBatch:
        """The recorded tasks of *after route*."""
        return RecordedBatch(self, AFTER_ROUTE, TaskConfig())

    @property
    def after_response(self) -> RecordedBatch:
        """The recorded tasks of *after response*."""
        return RecordedBatch(self, AFTER_RESPONSE, TaskConfig())

    def task(
        self,
        *,
        name: str | None = None,
        shield: bool | None = None,
        on_error: TaskErrorHandler | None = None,
        run_on: RunOn | None = None,
    ) -> RecordedBatch:
        """Return the immediate tasks that have these settings; see `RecordedBatch.task`."""
        batch = RecordedBatch(self, IMMEDIATE, TaskConfig())
        return batch.task(name=name, shield=shield, on_error=on_error, run_on=run_on)

    def assert_scheduled(
        self, func: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[P, Any]:
        """Fail unless an immediate task was recorded: see `RecordedBatch.assert_scheduled`."""
        batch = RecordedBatch(self, IMMEDIATE, TaskConfig())
        return batch.assert_scheduled(func, *args, **kwargs)

    def assert_nothing_scheduled(self) -> None:
        """Fail if a task was recorded, of whatever phase.

        Raises:
            AssertionError: There are some; it shows them.
        """
        if self.tasks:
            raise AssertionError("\n    ".join(["tasks were recorded:", *map(_show, self.tasks)]))

    def accept(self, task: Task) -> None:
        """Leave out what may never come to run."""

    def start(self, host: SchedulerHost, tasks: Sequence[Task]) -> None:
        """Note tasks whose phase has begun, and run none."""
        self.tasks += tasks
        for task in tasks:
            host.skip(task, "tasks are recorded here, for a test")


def record() -> RecordedTasks:
    """Return a block in which no task runs; it notes those that would, when their phase begins.

    So what the outcome of a request keeps from running (contract 1.6) is not among them. For the
    application each recorded task is skipped: `Task.wait` raises `TaskSkipped`.

    Since 0.1.0.
    """
    return RecordedTasks()


def _bind(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    """Return the arguments by the names of the function's parameters, where these can be read."""
    try:
        bound = signature(func).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return args, kwargs
    bound.apply_defaults()
    return bound.arguments


def _has(task: Task, wanted: TaskConfig) -> bool:
    settings = {field.name: getattr(wanted, field.name) for field in fields(wanted)}
    has = {**{name: getattr(task.config, name) for name in settings}, "name": task.name}
    return all(value is None or has[name] == value for name, value in settings.items())


def _render(
    phase: Phase,
    config: TaskConfig,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> str:
    """Write a task as the code that schedules it."""
    given = {field.name: getattr(config, field.name) for field in fields(config)}
    settings = ", ".join(f"{name}={_repr(v)}" for name, v in given.items() if v is not None)
    passed = [describe(func), *map(_repr, args), *(f"{n}={_repr(v)}" for n, v in kwargs.items())]
    steps = [
        *([] if phase is IMMEDIATE else [str(phase)]),
        *([f"task({settings})"] if settings else []),
        f"schedule({', '.join(passed)})",
    ]
    return ".".join(steps)


def _repr(value: object) -> str:
    return describe(value) if isroutine(value) else show(value, repr)


def _show(task: Task, wanted: TaskConfig | None = None) -> str:
    """Write a task as the code that schedules it, with the settings that are wanted."""
    config = TaskConfig() if wanted is None else wanted
    given = {
        field.name: getattr(task.config, field.name)
        for field in fields(config)
        if getattr(config, field.name) is not None
    }
    if "name" in given:
        given["name"] = task.name
    return _render(task.phase, TaskConfig(**given), task.func, task.args, task.kwargs)


def _explain(expected: str, tasks: Sequence[Task], wanted: TaskConfig) -> str:
    lines = ["no such task was recorded:", f"    {expected}"]
    if not tasks:
        return "\n".join([*lines, "nothing was recorded"])
    shown = [_show(task, wanted) for task in tasks]
    nearest = max(shown, key=lambda one: SequenceMatcher(None, one, expected).ratio())
    lines += ["recorded:", *(f"    {one}" for one in shown), "the nearest differs so:"]
    lines += [f"    {line}".rstrip() for line in ndiff([expected], [nearest])]
    return "\n".join(lines)


@asynccontextmanager
async def lifespan(app: Callable[[Any, Any, Any], Awaitable[None]]) -> AsyncGenerator[ASGIApp]:
    """Run an application's lifespan around a block, for clients that do not.

    httpx's `ASGITransport` is such a client; `TestClient` is none, if it is used as ``with
    TestClient(app) as client``. In the block the application has started, and leaving it shuts it
    down. What comes as is the application with the lifespan's state, to give to the client::

        async with lifespan(app) as started:
            transport = ASGITransport(started)

    Args:
        app: Any ASGI application.

    Raises:
        Exception: What the application has raised at its start-up or shutdown.
        RuntimeError: It has said that its start-up or shutdown failed.

    Since 0.1.0.
    """
    backend = current_backend()
    await backend.open()
    try:
        served = _Served(app, backend)
        await served.until_started()
        try:
            yield served
        finally:
            with CancelScope(shield=True):
                await served.stop()
    finally:
        await backend.close()


class _Served:
    """An application within its lifespan, in the place of a server."""

    def __init__(self, app: Callable[[Any, Any, Any], Awaitable[None]], backend: Backend) -> None:
        self._app = app
        self._state: dict[str, Any] = {}
        self._started = Event()
        self._stopping = Event()
        self._ended = Event()
        self._asked = False
        self._error: Exception | None = None
        # Held, as the event loop does not. No task group around the block: a fixture of pytest's
        # may be left in another task than it was entered in, where asyncio runs it.
        self._running = backend.spawn(self._run(), name="lifespan", context=copy_context())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection with the lifespan's state, as servers do."""
        await self._app({**scope, "state": self._state.copy()}, receive, send)

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": self._state}
        try:
            await self._app(scope, self._receive, self._send)
        except Exception as error:  # noqa: BLE001 - raised in the test
            self._error = error
        finally:
            self._started.set()
            self._ended.set()

    async def _receive(self) -> Message:
        if self._asked:
            await self._stopping.wait()
            return {"type": "lifespan.shutdown"}
        self._asked = True
        return {"type": "lifespan.startup"}

    async def _send(self, message: Message) -> None:
        if message["type"].endswith(".failed"):
            self._error = RuntimeError(f"{message['type']}: {message.get('message', '')}")
        self._started.set()

    async def until_started(self) -> None:
        await self._started.wait()
        if self._error is not None:
            await self._ended.wait()  # what it has raised says more than that it has failed
            raise self._error

    async def stop(self) -> None:
        self._stopping.set()
        await self._ended.wait()
        if self._error is not None:
            raise self._error
