"""Hands tasks over to Taskiq."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter, Signature, signature
from typing import Any, Final, cast

from tasks_core._carrier import Carrier, HandOver, TaskStatus
from tasks_core._checks import check_engine, check_seconds, check_text
from tasks_core._extras import extra
from tasks_core._function import check_kind, unfitting
from tasks_core._names import show, type_name
from tasks_core._record import cut, plain
from tasks_core._state import TaskState

with extra("taskiq", "taskiq", of=__name__):
    from taskiq import AsyncBroker, AsyncTaskiqDecoratedTask
    from taskiq.result_backends.dummy import DummyResultBackend
    from taskiq_dependencies import DependencyGraph


class TaskiqCarrier(Carrier):
    """Hands over what ``@broker.task`` has made a task.

    The application's lifespan starts and stops the broker, as Taskiq's documentation says.

    Args:
        broker: The broker, whose result backend is asked for the status. Without a result backend
            there is none.
        name: See `Carrier`.
        timeout: See `Carrier`.

    Raises:
        TypeError: Something is of the wrong type.
        ValueError: The timeout is negative.
    """

    needs_asyncio = True

    def __init__(self, broker: AsyncBroker, *, name: str = "taskiq", timeout: float = 5.0) -> None:
        remedy = "TaskiqCarrier(RedisStreamBroker(...))"
        check_engine("TaskiqCarrier", broker, AsyncBroker, what="a broker", remedy=remedy)
        self._broker = broker
        self.name: str = check_text("name", name)
        self.timeout: float = check_seconds("timeout", timeout)
        # Of each task the parameters that Taskiq fills in where it runs.
        self._filled_in: Final[dict[str, frozenset[str]]] = {}

    def carry(
        self, func: Callable[..., object], args: tuple[Any, ...], kwargs: Mapping[str, Any], /
    ) -> HandOver | None:
        """See `Carrier.carry`."""
        if not _is_task(func):
            return None
        task = cast("AsyncTaskiqDecoratedTask[..., Any]", func)
        self._check_call(task, args, kwargs)
        try:  # as sending it does; the serializer by itself takes less
            kicker = cast("Any", task.kicker())  # a shared task's has another broker than that
            kicker.broker.formatter.dumps(kicker._prepare_message(*args, **kwargs))
        except Exception as error:
            msg = f"{task.task_name}: Taskiq cannot send these arguments: {error}"
            raise TypeError(msg) from error

        async def send(task_id: str) -> None:
            await task.kicker().with_task_id(task_id).kiq(*args, **kwargs)

        return send

    def _owns(self, func: Callable[..., object], /) -> bool:
        # As a shared task has it.
        return _is_task(func) and cast("Any", func).kicker().broker is self._broker

    async def status(self, task_id: str, /) -> TaskStatus | None:
        """Ask the result backend."""
        backend = cast("Any", self._broker.result_backend)
        if isinstance(backend, DummyResultBackend):  # which says of everything that it is done
            return None
        if not await backend.is_result_ready(task_id):
            progress = await backend.get_progress(task_id)
            state = TaskState.PENDING if progress is None else TaskState.RUNNING
            return TaskStatus(id=task_id, state=state, carrier=self.name)
        result = await backend.get_result(task_id)
        failed = result.is_err
        return TaskStatus(
            id=task_id,
            state=TaskState.FAILED if failed else TaskState.SUCCEEDED,
            result=None if failed else result.return_value,
            error_type=plain(type_name(result.error)) if failed else None,
            error=cut(plain(show(result.error))) if failed else None,
            carrier=self.name,
        )

    def _check_call(
        self,
        task: AsyncTaskiqDecoratedTask[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> None:
        """Refuse what a worker could not call, but for arguments that Taskiq fills in."""
        check_kind(task.original_func)
        takes = signature(task.original_func)
        try:
            given = takes.bind_partial(*args, **kwargs).arguments
        except TypeError as error:
            raise unfitting(task.task_name, error) from None
        left = [name for name in _required(takes) if name not in given]
        if left and (missing := [name for name in left if name not in self._fill_in(task)]):
            raise unfitting(task.task_name, f"missing arguments: {', '.join(missing)}")

    def _fill_in(self, task: AsyncTaskiqDecoratedTask[..., Any]) -> frozenset[str]:
        known = self._filled_in.get(task.task_name)
        if known is None:
            graph = DependencyGraph(task.original_func).dependencies
            first = next(iter(graph.values()), list[Any]())  # the function's own
            known = self._filled_in[task.task_name] = frozenset(one.param_name for one in first)
        return known


def _is_task(func: object) -> bool:
    """Whether it is one of Taskiq's; a mock only says that it is."""
    return issubclass(type(func), AsyncTaskiqDecoratedTask)


def _required(takes: Signature) -> list[str]:
    anything = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return [
        one.name
        for one in takes.parameters.values()
        if one.default is Parameter.empty and one.kind not in anything
    ]
