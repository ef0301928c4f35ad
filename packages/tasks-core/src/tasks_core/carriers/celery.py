"""Hands tasks over to Celery."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, Final, cast

from tasks_core._carrier import Carrier, HandOver, TaskStatus
from tasks_core._checks import check_engine, check_seconds, check_text
from tasks_core._extras import extra
from tasks_core._function import check_call, check_kind, unfitting
from tasks_core._names import show, type_name
from tasks_core._record import cut, plain
from tasks_core._state import TaskState

with extra("celery", "celery", of=__name__):
    from celery import Celery, Signature, Task, states
    from celery.backends.base import DisabledBackend
    from celery.local import Proxy
    from kombu.serialization import dumps

_STATES: Final = {
    states.PENDING: TaskState.PENDING,
    states.RECEIVED: TaskState.PENDING,
    states.SUCCESS: TaskState.SUCCEEDED,
    states.FAILURE: TaskState.FAILED,
    states.REVOKED: TaskState.CANCELLED,
}
"""All others mean that it is being worked on, or will be again."""


class CeleryCarrier(Carrier):
    """Hands over what Celery's decorators, ``@shared_task`` for instance, have made a task.

    Args:
        app: The Celery application, whose result backend is asked for the status. Without a result
            backend there is none.
        name: See `Carrier`.
        timeout: See `Carrier`.

    Raises:
        TypeError: Something is of the wrong type.
        ValueError: The timeout is negative.
    """

    def __init__(self, app: Celery, *, name: str = "celery", timeout: float = 5.0) -> None:
        remedy = "CeleryCarrier(Celery('shop', broker=...))"
        check_engine("CeleryCarrier", app, Celery, what="the Celery application", remedy=remedy)
        self._app = app
        self.name: str = check_text("name", name)
        self.timeout: float = check_seconds("timeout", timeout)

    def carry(
        self, func: Callable[..., object], args: tuple[Any, ...], kwargs: Mapping[str, Any], /
    ) -> HandOver | None:
        """See `Carrier.carry`."""
        if not _is_task(func):
            _refuse_signature(func)
            return None
        task = cast("Any", func)
        if _is_shared(task):  # each application has it by its name
            task = cast("Any", self._app).tasks.get(task.name, task)
        _check(task, args, dict(kwargs))

        def send(task_id: str) -> object:
            return task.apply_async(args, dict(kwargs), task_id=task_id)

        return send

    def _owns(self, func: Callable[..., object], /) -> bool:
        return _is_task(func) and cast("Any", func).app == self._app  # may be proxies

    def status(self, task_id: str, /) -> TaskStatus | None:
        """Ask the result backend."""
        backend = cast("Any", self._app.backend)
        if isinstance(backend, DisabledBackend):
            return None
        meta = backend.get_task_meta(task_id)
        state = _STATES.get(meta["status"], TaskState.RUNNING)
        result, failed = meta["result"], state is TaskState.FAILED
        return TaskStatus(
            id=task_id,
            state=state,
            result=result if state is TaskState.SUCCEEDED else None,
            error_type=plain(type_name(result)) if failed else None,
            error=cut(plain(show(result))) if failed else None,
            carrier=self.name,
        )


def _is_task(func: object) -> bool:
    """Whether it is one of Celery's, or a proxy of one; a mock only says that it is."""
    return issubclass(type(func), Task | Proxy) and isinstance(func, Task)


def _is_shared(func: object) -> bool:
    """Whether it is what `@shared_task` makes: what the current application has of that name."""
    return type(func) is Proxy


def _refuse_signature(func: object) -> None:
    """Refuse a signature that would run its task here, where a carrier is to hand it over.

    Chains, groups and their like send their tasks when they are called.
    """
    called = cast("Any", func)
    call = cast("Any", type(func)).__call__
    if issubclass(type(func), Signature) and call is cast("Any", Signature).__call__:
        msg = (
            f"{called.task} is a signature, whose call would run the task in this process: "
            "schedule(task, ...) hands it over; with the options of a signature, "
            "schedule(signature.delay) sends it"
        )
        raise TypeError(msg)


def _check(task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ANN401 - Celery's
    """Refuse what a worker could not call, or that could not be sent: as sending it does."""
    dump_models = getattr(task, "_dump_pydantic_arguments", None)
    run = getattr(task, "_orig_run", task.run)  # what `autoretry_for` is around
    # Else a worker calls the task itself.
    is_run = task.__class__.__call__ is cast("Any", Task).__call__
    if is_run:
        check_kind(run)
    if task.typing:  # else the user's decorator says that it is not to be checked
        try:
            if fits := getattr(task, "__header__", None):  # what sending it asks
                fits(*args, **kwargs)
            if dump_models is not None:
                signature(run).bind(*args, **kwargs)
        except TypeError as error:
            raise unfitting(task.name, error) from None
        if is_run:
            check_call(run, args, kwargs)
    app = task.app
    options = {"serializer": task.serializer} if task.serializer else {}
    routed = app.amqp.router.route(options, task.name, args, kwargs, task)
    serializer = routed.get("serializer") or app.conf.task_serializer
    try:
        if dump_models is not None and serializer != "pickle":
            args, kwargs = dump_models(args, kwargs)
        dumps((args, kwargs), serializer=serializer)
    except Exception as error:
        msg = f"{task.name}: Celery cannot send these arguments as {serializer}: {error}"
        raise TypeError(msg) from error
