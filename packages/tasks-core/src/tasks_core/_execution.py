"""One task from its first step to its last: nothing it does gets out of here (contract 4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from anyio import CancelScope, get_cancelled_exc_class

from . import _report
from ._backend import Backend, runs_here
from ._config import TaskErrorHandler
from ._exceptions import TaskAborted
from ._function import is_async
from ._state import PENDING
from ._task import Task
from ._threads import call, call_in_thread

if TYPE_CHECKING:
    from ._runner import TaskRunner


async def execute(task: Task, runner: TaskRunner) -> None:
    """Run a task, its error handler included, within a scope that cancels it."""
    if task._state is not PENDING:
        return  # cancelled before its first step
    func = task.func
    scope = runner._backend.scope_type(shield=True)
    runner._living.enter(task, scope)
    try:
        with scope:
            try:
                if is_async(func):  # as `call` does it, without one more coroutine a task
                    task._begin()
                    result = await func(*task.args, **task.kwargs)
                else:
                    result = await call_in_thread(
                        func, task.args, task.kwargs, runner._threads, task._begin
                    )
            except BaseException as raised:
                error = _failure(raised, scope, runner._backend)
                if error is None:
                    raise
                task._fail(error)
                _report.failed(task, error)
                if task.config.on_error is not None:
                    await _handle(task, error, task.config.on_error, scope, runner)
            else:
                task._succeed(result)
    except BaseException as raised:  # noqa: BLE001 - here it ends (contract 4.1)
        _swallow(raised, task, scope)
    finally:
        runner._living.end(task)


def _swallow(raised: BaseException, task: Task, scope: CancelScope) -> None:
    """Let nothing out of a task that its own scope has not taken, but for Ctrl-C."""
    if _is_interrupt(raised):
        _report.interrupted(task)
        raise KeyboardInterrupt from raised
    if isinstance(raised, Exception) and runs_here():
        _report.left_scope_open(task, raised)
    elif not scope.cancel_called and task._lives:
        # The event loop's own cancellation; or this coroutine is being closed.
        _report.cancelled_from_outside(task)


async def _handle(
    task: Task,
    error: Exception,
    handler: TaskErrorHandler,
    scope: CancelScope,
    runner: TaskRunner,
) -> None:
    try:
        await call(handler, (task, error), {}, runner._threads)
    except BaseException as raised:
        failure = _failure(raised, scope, runner._backend)
        if failure is None:
            _report.handler_cancelled(task)
            raise
        _report.handler_failed(task, error, failure)


def _failure(raised: BaseException, scope: CancelScope, backend: Backend) -> Exception | None:
    """Return the failure that ``raised`` means, or ``None`` if it ends the task in another way.

    A cancellation is known by what was cancelled, not by its type: libraries let cancelled errors
    escape that nobody meant for the task, and these are failures.
    """
    if _is_interrupt(raised) or (isinstance(raised, GeneratorExit) and not runs_here()):
        return None
    cancelled = get_cancelled_exc_class()
    if isinstance(raised, cancelled) and (scope.cancel_called or backend.cancelled_from_outside()):
        return None
    error = _without(raised, cancelled) if scope.cancel_called else raised
    if error is None or isinstance(error, Exception):
        return error
    aborted = TaskAborted(type(error).__name__)
    aborted.__cause__ = error
    return aborted


def _is_interrupt(raised: BaseException) -> bool:
    """Whether it is Ctrl-C, by itself or as task groups pass it on."""
    if isinstance(raised, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", raised)
        return group.subgroup(KeyboardInterrupt) is not None
    return isinstance(raised, KeyboardInterrupt)


def _without(raised: BaseException, kind: type[BaseException]) -> BaseException | None:
    """Return what is left of an exception group without exceptions of a kind."""
    if isinstance(raised, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", raised).split(kind)[1]
    return raised
