"""The block in which no task runs, and what a test asks it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, Unpack, cast

from tasks_core._config import TaskConfig, TaskSettings
from tasks_core._exceptions import Skipped
from tasks_core._function import check_call
from tasks_core._phase import AFTER_RESPONSE, AFTER_ROUTE, IMMEDIATE, Phase
from tasks_core._runner import TaskRunner
from tasks_core._scheduling import Executor
from tasks_core._task import Task

from ._block import Block, Watch, WatchedRunner
from ._compare import Call, find_differences, recorded_call, tell_nearest
from ._wait import GUARD, Waiting

P = ParamSpec("P")


class RecordedTasks(Block):
    """The block of `record`, ``with`` or ``async with``, and what was recorded in it.

    It can be entered once. Leaving it waits until the phase of each task has come.

    Attributes:
        tasks: The tasks that would have run, in that order.
    """

    def __init__(self, timeout: float) -> None:
        """Made by `record`."""
        super().__init__(timeout)
        # Not those that are waited for, which are also those whose phase has not come.
        self.tasks: list[Task] = []
        self._found: set[Task] = set()  # those that an assertion has found

    def _see(self, runner: TaskRunner) -> Executor:
        return _Recorder(runner, self._watch, self._waiting, self.tasks)

    @property
    def after_route(self) -> RecordedPhase:
        """The recorded tasks of *after route*."""
        return RecordedPhase(self, AFTER_ROUTE, TaskConfig())

    @property
    def after_response(self) -> RecordedPhase:
        """The recorded tasks of *after response*."""
        return RecordedPhase(self, AFTER_RESPONSE, TaskConfig())

    def task(self, **settings: Unpack[TaskSettings]) -> RecordedPhase:
        """Return the immediate tasks that have these settings; see `RecordedPhase.task`."""
        return RecordedPhase(self, IMMEDIATE, TaskConfig()).task(**settings)

    def assert_scheduled(
        self, func: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[P, Any]:
        """Fail unless an immediate task was recorded: see `RecordedPhase.assert_scheduled`."""
        __tracebackhide__ = True
        immediate = RecordedPhase(self, IMMEDIATE, TaskConfig())
        return immediate.assert_scheduled(func, *args, **kwargs)

    def assert_nothing_scheduled(self) -> None:
        """Fail if a task was recorded, of whatever phase.

        Raises:
            AssertionError: There are some; it shows them.
            RuntimeError: The block was never entered.
        """
        __tracebackhide__ = True
        self._refuse_unused()
        if self.tasks:
            calls = [recorded_call(task, task.config).render() for task in self.tasks]
            raise AssertionError("\n    ".join(["tasks were recorded:", *calls]))

    def assert_nothing_else_scheduled(self) -> None:
        """Fail if a task was recorded, of whatever phase, that no assertion has found so far.

        Raises:
            AssertionError: There are some; it shows them.
            RuntimeError: The block was never entered.
        """
        __tracebackhide__ = True
        self._refuse_unused()
        rest = [task for task in self.tasks if task not in self._found]
        if rest:
            calls = [recorded_call(task, task.config).render() for task in rest]
            raise AssertionError("\n    ".join(["other tasks were recorded:", *calls]))

    def _find(self, fits: Callable[[Task], bool]) -> Task | None:
        """Return the first task that fits, of those that were not found yet if one of them does."""
        fitting = [task for task in self.tasks if fits(task)]
        found = next((task for task in fitting if task not in self._found), None)
        if found is None:
            return fitting[0] if fitting else None
        self._found.add(found)
        return found

    def _renew(self) -> None:
        """Let it be entered again, as new."""
        super()._renew()
        self.tasks.clear()
        self._found.clear()

    def _refuse_unused(self) -> None:
        """Refuse to answer for a block that could not record anything."""
        if not self._watch.begun:
            msg = "Nothing could be recorded: write `with record() as recorded:` around requests."
            raise RuntimeError(msg)

    def __repr__(self) -> str:
        """Show how many tasks were recorded."""
        return f"<RecordedTasks tasks={len(self.tasks)}>"


class RecordedPhase:
    """Tasks of a phase, and with settings, among those that were recorded.

    It takes the form of what schedules such a task, ``tasks.after_route.task(name="mail")``.
    """

    def __init__(self, recorded: RecordedTasks, phase: Phase, config: TaskConfig) -> None:
        """Made by `RecordedTasks`, not by users."""
        self._recorded = recorded
        self._phase = phase
        self._config = config

    def task(self, **settings: Unpack[TaskSettings]) -> RecordedPhase:
        """Return those that have these settings too; what is left out may be anything.

        What counts is what is in force for a task, defaults and the application's settings applied.
        """
        config = self._config._override(settings)
        return RecordedPhase(self._recorded, self._phase, config)

    # Without the overloads of `Scheduler.schedule`: a recorded task has no result that could have a
    # type, and of overloads mypy does not say which argument is wrong.
    def assert_scheduled(
        self, func: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[P, Any]:
        """Fail unless ``func(*args, **kwargs)`` was scheduled so and would have run.

        How the arguments were passed makes no difference: by position or by name, by a partial, or
        as the function's own defaults.

        Returns:
            The first such task; where several were scheduled, each call finds the next one.

        Raises:
            AssertionError: There is none. It shows what there is, and how the nearest differs.
            TypeError: It could never have been scheduled (contract 2.2).
            RuntimeError: The block was never entered.
        """
        __tracebackhide__ = True
        self._recorded._refuse_unused()
        check_call(func, args, kwargs)
        expected = Call(self._phase, self._config, func, args, kwargs)
        found = self._recorded._find(
            lambda task: not find_differences(expected, recorded_call(task, self._config))
        )
        if found is not None:
            return cast("Task[P, Any]", found)
        calls = [recorded_call(task, self._config) for task in self._recorded.tasks]
        differences = [find_differences(expected, call) for call in calls]
        raise AssertionError("\n".join(tell_nearest(expected, calls, differences)))

    def __repr__(self) -> str:
        """Show the phase and the settings."""
        return f"<RecordedPhase phase={self._phase} config={self._config}>"


class _Recorder(WatchedRunner):
    """A runner that runs nothing."""

    _counts = False

    def __init__(
        self, runner: TaskRunner, watch: Watch, waiting: Waiting, tasks: list[Task]
    ) -> None:
        super().__init__(runner, watch, waiting)
        self._tasks = tasks

    def _start(self, tasks: Sequence[Task]) -> None:
        """Note tasks whose phase has begun, but for those that were cancelled before."""
        for task in tasks:
            if task._lives:
                self._tasks.append(task)
                self._skip(task, Skipped.RECORDED, logging.DEBUG)


def record(*, timeout: float = GUARD) -> RecordedTasks:
    """Return a block in which no task runs; it notes those that would, when their phase begins.

    So what the outcome of a request keeps from running (contract 1.6) is not among them. Leaving
    the block waits for requests that have scheduled tasks and are not over, as those may be whose
    client has gone. For the application each recorded task is skipped: `Task.wait` raises
    `TaskSkipped`.

    Args:
        timeout: Seconds that leaving the block waits at most.

    Raises:
        TypeError: ``timeout`` is no number.
        ValueError: It is negative.
    """
    return RecordedTasks(timeout)
