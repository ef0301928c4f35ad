"""Fixtures for pytest, which finds them by the package's entry point: see `tasks_core.testing`."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, TypeVar, cast

import pytest

from .testing import RecordedTasks, TasksBlock, drain, inline, record
from .testing._block import Block

AnyBlock = TypeVar("AnyBlock", bound=Block)

# The blocks of a test in the order of its fixtures; and whether its function has been called.
_blocks = pytest.StashKey[list[Block]]()
_called = pytest.StashKey[bool]()


@pytest.fixture
def drained_tasks(request: pytest.FixtureRequest) -> Generator[TasksBlock]:
    """Tasks run; the test ends when all have ended, and fails if one has: see `drain`."""
    yield from _put_around(request, drain())


@pytest.fixture
def inline_tasks(request: pytest.FixtureRequest) -> Generator[TasksBlock]:
    """Each request waits for its tasks; the test fails if one has: see `inline`."""
    yield from _put_around(request, inline())


@pytest.fixture
def recorded_tasks(request: pytest.FixtureRequest) -> Generator[RecordedTasks]:
    """No task runs; ask this what was scheduled: see `record`."""
    yield from _put_around(request, record())


def _put_around(request: pytest.FixtureRequest, block: AnyBlock) -> Generator[AnyBlock]:
    item = cast("pytest.Item", request.node)
    if item.stash.get(_called, False):
        msg = "Too late: name the fixture as an argument of the test, or of one of its fixtures."
        raise RuntimeError(msg)
    blocks = item.stash.setdefault(_blocks, [])
    blocks.append(block)
    yield block
    blocks.remove(block)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Put the blocks of the fixtures around the test function itself, the last one innermost.

    A fixture cannot: an async test runs in a context, and often on an event loop, of its own.
    """
    __tracebackhide__ = True
    if not isinstance(item, pytest.Function):
        return (yield)
    test = item.obj
    blocks = item.stash.setdefault(_blocks, [])
    for block in reversed(blocks):
        item.obj = _within(block, item.obj)
    item.stash[_called] = True
    try:
        return (yield)
    finally:
        item.stash[_called] = False  # it may be run again
        item.obj = test


def _within(block: Block, test: Callable[..., Any]) -> Callable[..., Any]:
    if iscoroutinefunction(test):

        @wraps(test)
        async def run_async(**fixtures: object) -> None:
            __tracebackhide__ = True
            async with block:
                await test(**fixtures)

        return run_async

    @wraps(test)
    def run(**fixtures: object) -> None:
        __tracebackhide__ = True
        with block:
            test(**fixtures)

    return run
