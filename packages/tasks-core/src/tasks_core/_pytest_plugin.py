"""Fixtures for pytest, which finds them by the package's entry point: see `tasks_core.testing`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
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
    block._take_place()  # it is entered later, and what other fixtures enter until then is inner
    yield block
    blocks.remove(block)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Put the blocks of the fixtures around the test function itself, the last one innermost.

    A fixture cannot: leaving a block waits for tasks, on the event loop on which the test runs.
    """
    __tracebackhide__ = True
    blocks = item.stash.setdefault(_blocks, [])
    item.stash[_called] = True
    try:
        if not isinstance(item, pytest.Function) or not blocks:
            return (yield)
        with _surrounded(item, blocks):
            return (yield)
    finally:
        item.stash[_called] = False  # it may be run again


@contextmanager
def _surrounded(item: pytest.Function, blocks: list[Block]) -> Generator[None]:
    """Put blocks around a test function, wherever that is what will be called."""
    places: list[tuple[Any, str]] = [(item, "obj")]
    hypothesis = getattr(item.obj, "hypothesis", None)
    if hypothesis is not None:  # each example is a call, of a function further in
        places = [(hypothesis, "inner_test")]
    elif _is_async_test_case(item):  # it looks its method up by itself
        places.append((item.instance, item.name))
    test = getattr(*places[0])
    for block in reversed(blocks):
        test = _within(block, test)
    with pytest.MonkeyPatch.context() as patch:
        for place, name in places:
            patch.setattr(place, name, test)
        yield


def _is_async_test_case(item: pytest.Function) -> bool:
    unittest = sys.modules.get("unittest")  # the plugin does not import it for nothing
    return (
        unittest is not None
        and isinstance(item.instance, unittest.TestCase)
        and iscoroutinefunction(item.obj)
    )


def _within(block: Block, test: Callable[..., Any]) -> Callable[..., Any]:
    if iscoroutinefunction(test):

        @wraps(test)
        async def run_async(*args: object, **fixtures: object) -> None:
            __tracebackhide__ = True
            block._renew()
            async with block:
                await test(*args, **fixtures)

        return run_async

    @wraps(test)
    def run(*args: object, **fixtures: object) -> None:
        __tracebackhide__ = True
        block._renew()
        with block:
            test(*args, **fixtures)

    return run
