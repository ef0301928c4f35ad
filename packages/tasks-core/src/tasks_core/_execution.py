"""One task from its first step to its last: nothing it does gets out of here (contract 4.1)."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, cast

from anyio import CancelScope, get_cancelled_exc_class

from . import _report
from ._attempts import Attempts
from ._backend import runs_here
from ._exceptions import HandOverError
from ._raised import aborted_by, get_context, is_interrupt, set_context, set_traceback
from ._record import escape
from ._state import PENDING, SUCCEEDED
from ._task import Task, forget_here
from ._threads import call, call_in_thread
from ._traceback import cut_traceback


async def execute(task: Task, refusal: Exception | None = None) -> None:
    """Run a task, its error handler included, within a scope that cancels it.

    Args:
        task: The task.
        refusal: Why it cannot be run: it then fails with this.
    """
    if task._state is not PENDING:
        return  # cancelled before its first step
    func, config, backend = task.func, task.config, task._backend
    make_scope = backend.make_scope  # in one line Python would look for a method first
    scope = make_scope()
    backend.living.scopes[task] = scope
    try:
        with scope:
            try:
                if refusal is not None:
                    raise refusal  # noqa: TRY301 - it is as if the function had raised it
                if (
                    config.timeout is not None
                    or config.retry is not None
                    or task._runner._observers.active
                    or task._carried is not None
                ):
                    result = await Attempts(task).run()
                elif task._is_async:  # as `call` does it, without one more coroutine a task
                    task._begin()
                    result = await (
                        func(*task.args, **task._kwargs) if task._kwargs else func(*task.args)
                    )
                else:
                    result = await call_in_thread(
                        func, task.args, task.kwargs, backend.threads, task._begin
                    )
            except BaseException as raised:
                error = _failure(raised, scope, task)
                if error is None:
                    raise
                try:
                    await _fail(task, error, scope)
                finally:
                    del error  # its traceback has this frame
            else:
                task._succeed(result)
    except BaseException as raised:  # noqa: BLE001 - here it ends (contract 4.1)
        _swallow(raised, task, scope)
    finally:
        backend.living.end(task)
        if task._state is not SUCCEEDED or task._result is not None:
            _leave(task)
        del task, scope  # what the function has raised may keep this frame, and the task has that


def _leave(task: Task) -> None:
    """Let the task go that has raised or returned something."""
    forget_here(task)  # that may hold this context, or a copy; else nothing does
    returned: object = task._result
    unrun = _UNRUN.get(type(returned))
    if unrun is not None:
        _report.unrun_returned(task, *unrun)


def _not_confirmed(task: Task, error: Exception) -> HandOverError:
    """Return what any failure of a hand-over is to others (contract 8.7)."""
    failure = HandOverError(escape(task.name), str(task.carrier))
    failure.__cause__ = error
    return failure


async def _fail(task: Task, error: Exception, scope: CancelScope) -> None:
    """Let a task fail: the failure is logged, then handled (contract 4.2, 4.3)."""
    if task._carried is not None and not isinstance(error, HandOverError):
        error = _not_confirmed(task, error)
    task._fail(error)
    _report.failed(task, error)
    handler, failure = task.config.on_error, None
    if handler is None:
        return
    context = get_context(error)
    task._backend.uncancel()
    try:
        await call(handler, (task, error), {}, task._backend.threads)
    except BaseException as raised:
        failure = _failure(raised, scope, task)
        if failure is None:
            _report.handler_cancelled(task)
            raise
        _report.handler_failed(task, error, failure)
    finally:
        # Without the handler's own frames, which hold it, where that has raised it again.
        set_traceback(error, task._traceback)
        set_context(error, context)
        del task, error, scope, failure, context  # as in `execute`


def _swallow(raised: BaseException, task: Task, scope: CancelScope) -> None:
    """Let nothing out of a task that its own scope has not taken, but for Ctrl-C."""
    if is_interrupt(raised):
        _report.interrupted(task)
        raise KeyboardInterrupt from raised
    if isinstance(raised, Exception) and runs_here():
        _report.left_scope_open(task, raised)
    elif not scope.cancel_called and task._lives:
        # The event loop's own cancellation; or this coroutine is being closed.
        _report.cancelled_from_outside(task)


def _failure(raised: BaseException, scope: CancelScope, task: Task) -> Exception | None:
    """Return the failure that ``raised`` means, or ``None`` if it ends the task in another way.

    What an exception of users' own raises when it is looked at is the failure then.
    """
    try:
        return _judge(raised, scope, task)
    except Exception as surprise:  # noqa: BLE001 - whatever it is
        cut_traceback(surprise)
        return surprise


def _judge(raised: BaseException, scope: CancelScope, task: Task) -> Exception | None:
    """Return what `_failure` does.

    A cancellation is known by what was cancelled, not by its type: libraries let cancelled errors
    escape that nobody meant for the task, and these are failures.
    """
    if is_interrupt(raised) or (isinstance(raised, GeneratorExit) and not runs_here()):
        return None
    cancelled, outside = get_cancelled_exc_class(), task._backend.cancelled_from_outside
    if isinstance(raised, cancelled) and (scope.cancel_called or outside()):
        return None
    error = _without(raised, cancelled) if scope.cancel_called else raised
    if error is None:
        return None
    cut_traceback(error)
    if isinstance(error, Exception):
        return error
    return aborted_by(error)


def _without(raised: BaseException, kind: type[BaseException]) -> BaseException | None:
    """Return what is left of an exception group without exceptions of a kind."""
    if isinstance(raised, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", raised).split(kind)[1]
    return raised


_iterate: Any = iter
_LOOP = ("generator", "schedule a function that loops over it")
_ENTER = ("context manager", "schedule a function that enters it")

_UNRUN: dict[type, tuple[str, str]] = {
    GeneratorType: _LOOP,
    AsyncGeneratorType: _LOOP,
    type(contextmanager(_iterate)(())): _ENTER,
    type(asynccontextmanager(_iterate)(())): _ENTER,
    CoroutineType: ("coroutine", "await it in the function"),
}
"""What has run nothing yet when a function returns it, and what to do with it (contract 2.2)."""
