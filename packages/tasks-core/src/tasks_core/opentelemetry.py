"""Spans and metrics of tasks, by OpenTelemetry; needs ``tasks-core[opentelemetry]`` (11.6)."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager

from ._extras import extra
from ._names import describe, full_name, show, type_name
from ._record import cut, plain
from ._state import FAILED, PENDING, RUNNING
from ._task import Task

with extra("opentelemetry", "opentelemetry", of=__name__):
    from opentelemetry import metrics, trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, SpanKind, StatusCode

__all__ = ["OpenTelemetryObserver"]


class OpenTelemetryObserver:
    """An observer that gives each task that begins a span, and counts and times tasks.

    The span begins with the function and ends when all is over, the error handler included: what
    these do is within it, and so is the failure's log record. It is a child of the span in which
    the task was scheduled, which may have ended by then. It has the names of the function and of
    the phase and the task's id; the metrics have no id. Arguments, results and names, which hold
    what users typed, are in neither.

    Metrics: ``tasks.active``, the tasks that live by their state; ``tasks.wait.duration`` and
    ``tasks.run.duration``, in seconds, from scheduling to the beginning, and from that to the end.

    Args:
        new_trace: Whether the span begins a trace of its own, with a link to the span in which the
            task was scheduled. Default: it is a child of that.
        tracer_provider: Default: the global one.
        meter_provider: Default: the global one.
    """

    def __init__(
        self,
        *,
        new_trace: bool = False,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        """Make the instruments."""
        self._new_trace = new_trace
        self._tracer = trace.get_tracer("tasks_core", tracer_provider=tracer_provider)
        meter = metrics.get_meter("tasks_core", meter_provider=meter_provider)
        self._active = meter.create_up_down_counter(
            "tasks.active", "{task}", "Tasks that live, by their state"
        )
        self._waited = meter.create_histogram(
            "tasks.wait.duration", "s", "From the scheduling of a task until it begins"
        )
        self._ran = meter.create_histogram(
            "tasks.run.duration", "s", "From the beginning of a task until all is over"
        )

    def __call__(self, task: Task, /) -> AbstractContextManager[object] | None:
        """Note a task's state."""
        what = {"code.function.name": full_name(task.func), "task.phase": str(task.phase)}
        if task.state is PENDING:
            self._active.add(1, {**what, "task.state": "pending"})
            return None
        if task.state is RUNNING:
            self._active.add(-1, {**what, "task.state": "pending"})
            self._active.add(1, {**what, "task.state": "running"})
            self._waited.record(task.waited, what)
            return self._span(task, what)
        # What is handed over to an engine is never *running*.
        ran = task.ran if task.carrier is None else None
        self._active.add(-1, {**what, "task.state": "pending" if ran is None else "running"})
        if ran is not None:
            outcome = {**what, "task.state": str(task.state)}
            if task.state is FAILED:
                outcome["error.type"] = type_name(task.exception)
            self._ran.record(ran, outcome)
        return None

    @contextmanager
    def _span(self, task: Task, what: dict[str, str]) -> Generator[None]:
        scheduled_in = trace.get_current_span().get_span_context()
        links = [Link(scheduled_in)] if self._new_trace and scheduled_in.is_valid else []
        with self._tracer.start_as_current_span(
            f"task {describe(task.func)}",
            context=Context() if self._new_trace else None,
            kind=SpanKind.INTERNAL,
            attributes={**what, "task.id": task._show_id()},
            links=links,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            finally:
                span.set_attribute("task.state", str(task.state))
                span.set_attribute("task.attempt", task.attempt)
                error = task.exception
                if error is not None:
                    span.record_exception(error)
                    span.set_attribute("error.type", type_name(error))
                    span.set_status(StatusCode.ERROR, cut(plain(show(error))))
