"""What the tests of this folder share: a guarded runner, what was logged, how tasks end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from logging import LogRecord
from operator import itemgetter
from types import CodeType, FrameType
from typing import Any, Final, Unpack

import pytest
from anyio import Event, fail_after, sleep_forever
from tasks_core import Phase, RunnerSettings, Task, TaskConfig, TaskRunner
from tasks_core._backend import AsyncioBackend, Backend
from tasks_core._task import make_task

GUARD: Final = 60.0
"""Seconds after which a test that waits in vain fails; nothing in a test takes as long."""


@asynccontextmanager
async def open_runner(**settings: Unpack[RunnerSettings]) -> AsyncGenerator[TaskRunner]:
    """Run a runner as long as the block, with a guard."""
    with fail_after(GUARD):
        async with TaskRunner(**settings) as runner:
            yield runner


async def over(*tasks: Task) -> None:
    """Wait until tasks have ended, however they do."""
    for task in tasks:
        with suppress(Exception):
            await task.wait()


def in_order_of_beginning(tasks: Iterable[Task]) -> list[Task]:
    """Return the tasks that have begun, in that order; sync ones are then given to their threads.

    From there on the operating system decides which function comes first to its first line.
    """
    begun = [(task._began_at, task) for task in tasks if task._began_at is not None]
    return [task for _, task in sorted(begun, key=itemgetter(0))]


async def until_cancelled(begun: Event | None = None) -> None:
    """Stand in for a task that runs until it is cancelled."""
    if begun is not None:
        begun.set()
    await sleep_forever()


def states(*tasks: Task) -> list[str]:
    """Return what has become of tasks so far."""
    return [str(task.state) for task in tasks]


def records(caplog: pytest.LogCaptureFixture, level: str = "") -> list[LogRecord]:
    """Return the records of the logger ``tasks_core``, those of a level or all."""
    ours = [record for record in caplog.records if record.name == "tasks_core"]
    return [record for record in ours if level in {"", record.levelname}]


def logged(caplog: pytest.LogCaptureFixture, level: str = "") -> list[str]:
    """Return the messages of those records."""
    return [record.getMessage() for record in records(caplog, level)]


class StillBackend(AsyncioBackend):
    """Stands in for the event loop where a test decides by itself what happens when."""

    def __init__(self) -> None:
        Backend.__init__(self, 1)

    def is_current(self) -> bool:
        return True


def still_task(
    func: Callable[..., Any], *args: Any, runner: TaskRunner | None = None, **kwargs: Any
) -> Task:
    """Make a task of which nothing becomes by itself."""
    runner, backend = runner or TaskRunner(), StillBackend()
    return make_task(
        runner, backend, Phase.IMMEDIATE, TaskConfig(), func, args, kwargs, is_async=True
    )


class SomeError(Exception):
    """What tasks fail with."""


@dataclass(frozen=True)
class Frozen(Exception):  # noqa: N818 - what it is
    """An error that refuses whatever is set on it."""

    text: str = "it failed"


class Abrupt(BaseException):
    """What is no `Exception`."""


def fail(*_: Any) -> None:
    raise SomeError("it failed")


async def fail_async(*_: Any) -> None:
    raise SomeError("it failed")


async def fail_in_asyncios_group(*_: Any) -> None:
    """Fail in a child; before Python 3.13 a cancellation of its own stays counted after that."""
    async with asyncio.TaskGroup() as group:
        group.create_task(fail_async())


@contextmanager
def interrupting(code: CodeType, step: int, act: Callable[[], object]) -> Generator[list[int]]:
    """Do something between two lines of a function, as another thread may.

    Within the block, ``act`` is called once in this thread: before the line of the function that is
    the ``step``-th to be run, from 0. The list that is given has that number from then on.
    """
    steps, met = count(), list[int]()

    def look(frame: FrameType, event: str, _: object) -> Any:
        if event == "line" and not met and next(steps) == step:
            met.append(step)
            act()
        return look

    def enter(frame: FrameType, event: str, _: object) -> Any:
        return look if frame.f_code is code else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield met
    finally:
        sys.settrace(before)
