"""Fixtures for pytest, which finds them by the package's entry point: see `tasks_core.testing`."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

import pytest

from .testing import RecordedTasks, TasksBlock, drain, inline, record


@pytest.fixture
def drained_tasks() -> TasksBlock:
    """Tasks run; the test ends when all have ended, and fails if one has: see `drain`."""
    return drain()


@pytest.fixture
def inline_tasks() -> TasksBlock:
    """Each request waits for its tasks; the test fails if one has: see `inline`."""
    return inline()


@pytest.fixture
def recorded_tasks() -> RecordedTasks:
    """No task runs; ask this what was scheduled: see `record`."""
    return record()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Put the blocks of the fixtures around the test function itself.

    A fixture cannot: an async test runs in a context, and often on an event loop, of its own.
    """
    if not isinstance(item, pytest.Function):
        return (yield)
    test = item.obj
    for value in item.funcargs.values():
        if isinstance(value, TasksBlock):
            item.obj = _within(value, item.obj)
    try:
        return (yield)
    finally:
        item.obj = test


def _within(block: TasksBlock, test: Callable[..., Any]) -> Callable[..., Any]:
    if iscoroutinefunction(test):

        @wraps(test)
        async def run_async(**fixtures: object) -> None:
            async with block:
                await test(**fixtures)

        return run_async

    @wraps(test)
    def run(**fixtures: object) -> None:
        with block:
            test(**fixtures)

    return run
