"""Hands tasks over to Docket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from inspect import unwrap
from types import MethodType
from typing import Any, Final, cast, get_origin, get_type_hints

from tasks_core._carrier import Carrier, HandOver, TaskStatus
from tasks_core._checks import check_engine, check_seconds, check_text
from tasks_core._extras import extra
from tasks_core._function import check_call, is_async
from tasks_core._names import describe
from tasks_core._record import cut, plain
from tasks_core._state import TaskState

with extra("docket", "docket", of=__name__):
    from docket import Disposition, Docket, Execution
    from docket.execution import ExecutionState

_STATES: Final = {
    ExecutionState.SCHEDULED: TaskState.PENDING,
    ExecutionState.QUEUED: TaskState.PENDING,
    ExecutionState.RUNNING: TaskState.RUNNING,
    ExecutionState.COMPLETED: TaskState.SUCCEEDED,
    ExecutionState.FAILED: TaskState.FAILED,
    ExecutionState.CANCELLED: TaskState.CANCELLED,
}


class DocketCarrier(Carrier):
    """Hands over the functions that are registered with a docket.

    The application's lifespan enters and leaves the docket, as Docket's documentation says.

    Args:
        docket: The docket.
        name: See `Carrier`.
        timeout: See `Carrier`.

    Raises:
        TypeError: Something is of the wrong type.
        ValueError: The timeout is negative.
    """

    needs_asyncio = True

    def __init__(self, docket: Docket, *, name: str = "docket", timeout: float = 5.0) -> None:
        remedy = "DocketCarrier(Docket('shop', url=...))"
        check_engine("DocketCarrier", docket, Docket, what="a docket", remedy=remedy)
        self._docket = docket
        self.name: str = check_text("name", name)
        self.timeout: float = check_seconds("timeout", timeout)

    def carry(
        self, func: Callable[..., object], args: tuple[Any, ...], kwargs: Mapping[str, Any], /
    ) -> HandOver | None:
        """See `Carrier.carry`."""
        method = type(func) is MethodType  # each look at a bound method makes it anew
        if not any(one is func or (method and one == func) for one in self._docket.tasks.values()):
            return None
        if not check_call(func, args, kwargs) and not _may_be_awaited(func):
            msg = (
                f"{describe(func)} is not async, and a worker of Docket awaits what it returns: "
                "declare it by `async def`"
            )
            raise TypeError(msg)
        task = cast("Any", func)
        now = datetime.now(UTC)
        try:  # as sending it does
            Execution(self._docket, task, args, dict(kwargs), "", now, 1).as_message()
        except Exception as error:
            msg = f"{describe(func)}: Docket cannot send these arguments: {error}"
            raise TypeError(msg) from error

        async def send(task_id: str) -> None:
            execution = await self._docket.add(task, key=task_id)(*args, **kwargs)
            if execution.disposition is Disposition.STRUCK:
                msg = f"{describe(func)} is struck from the docket: restore it there"
                raise RuntimeError(msg)

        return send

    async def status(self, task_id: str, /) -> TaskStatus | None:
        """Ask Redis."""
        execution = await self._docket.get_execution(task_id)
        if execution is None:
            return None
        state = _STATES[execution.state]
        kind, _, text = (execution.error or "").partition(": ")
        failed = state is TaskState.FAILED
        return TaskStatus(
            id=task_id,
            state=state,
            result=await execution.get_result() if state is TaskState.SUCCEEDED else None,
            error_type=plain(kind) if failed else None,
            error=cut(plain(text)) if failed else None,
            carrier=self.name,
        )


def _may_be_awaited(func: Callable[..., object]) -> bool:
    """Whether a sync function may return an awaitable: it wraps such a one, or its types say so."""
    if is_async(unwrap(func)):
        return True
    try:
        returned = get_type_hints(func).get("return")
    except Exception:  # noqa: BLE001 - names that are there for type checkers only
        return True
    kind = get_origin(returned) or returned
    return isinstance(kind, type) and issubclass(kind, Awaitable)
