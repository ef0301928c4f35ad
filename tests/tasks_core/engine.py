"""An engine without a server, for the tests of what is handed over: it notes what it is sent."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Literal, NamedTuple, ParamSpec, TypeAlias, TypeVar, cast

import anyio
from tasks_core import Carrier, HandOver, TaskStatus

from tests.tasks_core.stage import GUARD

P = ParamSpec("P")
R = TypeVar("R")

Kind: TypeAlias = Literal["async", "sync"]


class EngineTask:
    """What an engine's decorator has made of a function: calling it calls that, here."""

    def __init__(self, func: Callable[..., object], engine: Engine) -> None:
        self.func = func
        self.engine = engine
        self.__qualname__ = func.__qualname__

    def __call__(self, *args: Any, **kwargs: Any) -> object:
        return self.func(*args, **kwargs)

    def delay(self, *args: Any) -> None:
        """Hand a call over, as users do without a carrier."""
        self.engine.note(Sent("its own", args, {}, threading.get_ident(), ""))


class Sent(NamedTuple):
    """What the engine was sent, where, and what a context variable was there."""

    id: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    thread: int
    value: str


variable = ContextVar("variable", default="")


class Engine(Carrier):
    """An engine and its carrier.

    Args:
        kind: Whether it is sent to, and asked, by async functions or by sync ones.
        name: See `Carrier`.
        timeout: See `Carrier`.
    """

    def __init__(self, kind: Kind, name: str = "engine", timeout: float = GUARD) -> None:
        self.kind = kind
        self.name = name
        self.timeout = timeout
        self.sent: list[Sent] = []
        self.asked: list[str] = []
        # What it answers.
        self.statuses: dict[str, TaskStatus] = {}
        # What is raised in sending, and in asking; and whether either never ends.
        self.trouble: BaseException | None = None
        self.confused: Exception | None = None
        self._open = threading.Event()
        self._open.set()
        self._held = anyio.Event()
        # How many calls are, or were, held up at a time.
        self.holding = 0

    def task(self, func: Callable[P, R]) -> Callable[P, R]:
        """Make a function a task of this engine, as far as type checkers know still a function."""
        return cast("Callable[P, R]", EngineTask(func, self))

    def note(self, sent: Sent) -> None:
        self.sent.append(sent)

    @property
    def ids(self) -> list[str]:
        """The ids of all that it was sent, in order."""
        return [sent.id for sent in self.sent]

    @contextmanager
    def hangs(self) -> Generator[None]:
        """Answer nobody, until the block ends."""
        self._open.clear()
        self._held = anyio.Event()
        try:
            yield
        finally:
            self._open.set()
            self._held.set()

    def carry(
        self, func: Callable[..., object], args: tuple[Any, ...], kwargs: Mapping[str, Any], /
    ) -> HandOver | None:
        if not isinstance(func, EngineTask) or func.engine is not self:
            return None
        for value in (*args, *kwargs.values()):
            if not isinstance(value, int | str):
                raise TypeError(f"{self.name} cannot send {type(value).__name__}")
        call = args, dict(kwargs)
        return partial(self._send_async if self.kind == "async" else self._send, *call)

    def status(self, task_id: str, /) -> Awaitable[TaskStatus | None] | TaskStatus | None:
        return self._ask_async(task_id) if self.kind == "async" else self._ask(task_id)

    def _send(self, args: tuple[Any, ...], kwargs: dict[str, Any], task_id: str) -> None:
        self._wait()
        if self.trouble is not None:
            raise self.trouble
        self.note(Sent(task_id, args, kwargs, threading.get_ident(), variable.get()))

    async def _send_async(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], task_id: str
    ) -> None:
        await self._until_open()
        if self.trouble is not None:
            raise self.trouble
        self.note(Sent(task_id, args, kwargs, threading.get_ident(), variable.get()))

    def _ask(self, task_id: str) -> TaskStatus | None:
        self._wait()
        return self._answer(task_id)

    async def _ask_async(self, task_id: str) -> TaskStatus | None:
        await self._until_open()
        return self._answer(task_id)

    def _answer(self, task_id: str) -> TaskStatus | None:
        self.asked.append(task_id)
        if self.confused is not None:
            raise self.confused
        return self.statuses.get(task_id)

    def _wait(self) -> None:
        if not self._open.is_set():
            self.holding += 1
            self._open.wait()

    async def _until_open(self) -> None:
        if not self._open.is_set():
            self.holding += 1
            await self._held.wait()
