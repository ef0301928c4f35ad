"""How the documents' programs are watched while they run: their calls, their prints, the log."""

from __future__ import annotations

import builtins
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import wraps
from inspect import iscoroutinefunction
from threading import Condition
from types import SimpleNamespace
from typing import TypeVar, cast

import pytest
from anyio import Event, fail_after, get_current_task, move_on_after, sleep_forever
from anyio.lowlevel import checkpoint
from fastapi_tasks import FastAPITasksError, Task, current_task, current_tasks
from starlette.types import ASGIApp, Message, Receive, Scope, Send

T = TypeVar("T")

GUARD = 60.0
"""Seconds after which a test gives up waiting for what should have happened."""


@dataclass(eq=False)
class Call:
    """One call of a watched function."""

    name: str
    args: tuple[object, ...]
    kwargs: dict[str, object]
    task: Task | None
    """The task that made it; `None` outside of tasks."""
    running_as: str | None
    """The name of the event loop's task; `None` in a worker thread."""
    ended: bool = False
    error: BaseException | None = None

    @property
    def completed(self) -> bool:
        return self.ended and self.error is None

    @property
    def of(self) -> Task:
        """The task that made it."""
        assert self.task is not None, f"{self.name} was called outside of tasks"
        return self.task


class Watch(logging.Handler):
    """Replaces functions of a program by ones that note their calls, then do what they did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self._monkeypatch = monkeypatch
        # Guards and announces changes of the two lists: programs run in other threads.
        self._changed = Condition()
        self.calls: list[Call] = []
        self.log: list[logging.LogRecord] = []

    def __call__(self, program: object, *names: str, until_shutdown: bool = False) -> None:
        """Watch functions of a program, `print` included.

        Args:
            program: The module; or any object with functions.
            names: Where the program looks the functions up.
            until_shutdown: Whether the functions (async ones, called as tasks) go on only when a
                shutdown has begun to cancel tasks.
        """
        for name in names:
            func = cast("Callable[..., object]", getattr(program, name, None) or builtins.print)
            watched = self._watched(name, func, until_shutdown=until_shutdown)
            self._monkeypatch.setattr(program, name, watched, raising=name != "print")

    def sleep(self, program: object) -> None:
        """Let a program's `asyncio.sleep` and `time.sleep` take no time, and note their calls."""
        for module, func in (("asyncio", _pause_async), ("time", _pause)):
            if hasattr(program, module):
                stand_in = SimpleNamespace(sleep=self._watched("sleep", func))
                self._monkeypatch.setattr(program, module, stand_in)

    def sending(self, app: ASGIApp) -> ASGIApp:
        """Return the application, with what it sends among the calls: its start, and its end."""

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            async def watched_send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    self._ends(self._begins("response starts", (), {}))
                await send(message)
                if message["type"] == "http.response.body" and not message.get("more_body"):
                    self._ends(self._begins("response ends", (), {}))

            await app(scope, receive, watched_send)

        return watched

    def begun(self, name: str, times: int = 1) -> list[Call]:
        """Wait until a function has been called so often; return its calls."""
        return self._wait(f"{name} begins", lambda: self.of(name), times)

    def ended(self, name: str, times: int = 1) -> list[Call]:
        """Wait until so many calls of a function have ended; return them."""
        return self._wait(
            f"{name} ends", lambda: [call for call in self.of(name) if call.ended], times
        )

    def logged(self, text: str, times: int = 1) -> list[logging.LogRecord]:
        """Wait until so many records that contain a text have been logged; return them."""
        return self._wait(
            f"the log has {text!r}",
            lambda: [record for record in self.log if text in record.getMessage()],
            times,
        )

    def order(self) -> list[str]:
        """Return the names of what was called so far, in order."""
        return [call.name for call in self.calls]

    def printed(self, *texts: str) -> None:
        """Wait until this has been printed, then make sure that nothing else was."""
        self._wait("printed", lambda: self.of("print"), len(texts))
        assert [call.args for call in self.of("print")] == [(text,) for text in texts]

    def of(self, name: str) -> list[Call]:
        """Return the calls of a function so far."""
        return [call for call in self.calls if call.name == name]

    def emit(self, record: logging.LogRecord) -> None:
        """Note a log record, as logging's handlers do."""
        with self._changed:
            self.log.append(record)
            self._changed.notify_all()

    def _wait(self, what: str, found: Callable[[], list[T]], times: int) -> list[T]:
        with self._changed:
            enough = self._changed.wait_for(lambda: len(found()) >= times, GUARD)
            assert enough, f"not within {GUARD} s: {what}, {times} times"
            return found()

    def _watched(
        self, name: str, func: Callable[..., object], *, until_shutdown: bool = False
    ) -> Callable[..., object]:
        if iscoroutinefunction(func):
            coroutine_function = cast("Callable[..., Coroutine[object, object, object]]", func)

            @wraps(func)
            async def watched_async(*args: object, **kwargs: object) -> object:
                shutdown = await _shutdown() if until_shutdown else None
                call = self._begins(name, args, kwargs)
                try:
                    if shutdown is not None:
                        with fail_after(GUARD):
                            await shutdown.wait()
                    return await coroutine_function(*args, **kwargs)
                except BaseException as error:
                    call.error = error
                    raise
                finally:
                    self._ends(call)

            return watched_async

        @wraps(func)
        def watched(*args: object, **kwargs: object) -> object:
            call = self._begins(name, args, kwargs)
            try:
                return func(*args, **kwargs)
            except BaseException as error:
                call.error = error
                raise
            finally:
                self._ends(call)

        return watched

    def _begins(self, name: str, args: tuple[object, ...], kwargs: dict[str, object]) -> Call:
        try:
            task = current_task()
        except FastAPITasksError:
            task = None
        try:
            running_as = get_current_task().name
        except RuntimeError:
            running_as = None
        call = Call(name, args, kwargs, task, running_as)
        with self._changed:
            self.calls.append(call)
            self._changed.notify_all()
        return call

    def _ends(self, call: Call) -> None:
        with self._changed:
            call.ended = True
            self._changed.notify_all()


def _pause(delay: float) -> None:
    del delay


async def _pause_async(delay: float) -> None:
    del delay
    await checkpoint()


async def _shutdown() -> Event:
    """Return an event that a shutdown sets when it cancels tasks that are not shielded."""
    cancelled = Event()

    async def witness() -> None:
        try:
            # The bound lets the shutdown end even where nothing is ever cancelled.
            with move_on_after(2 * GUARD):
                await sleep_forever()
        finally:
            cancelled.set()

    task = current_tasks().task(shield=False).schedule(witness)
    await task.started.wait()
    return cancelled
