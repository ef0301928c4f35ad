"""Contract 11.6 and 11.4: what OpenTelemetry's own SDK is told of tasks."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from tasks_core import Retry, Task, TasksScheduler, TaskState

from tests.tasks_core.engine import Engine, Kind, Sent
from tests.tasks_core.stage import SomeError, open_runner, over, until_cancelled
from tests.tasks_core.telemetry import Telemetry, id_of, parent_of, telemetry, trace_of

__all__ = ["telemetry"]  # a fixture

pytestmark = pytest.mark.anyio

CARD = "4111-1111"


async def work(*_: object) -> str:
    return CARD


def work_in_a_thread() -> None:
    trace.get_current_span().set_attribute("seen", value=True)


async def fail_for(reason: str) -> None:
    raise SomeError(reason)


async def test_a_span_is_a_child_of_where_it_was_scheduled(telemetry: Telemetry) -> None:
    """11.6 Also where that has ended, and for sync functions, in whose thread it is current."""
    async with open_runner(observers=[telemetry.observer()]) as runner:
        request_span = telemetry.tracer.start_as_current_span("request")
        with TasksScheduler(runner) as tasks, request_span:  # which ends first
            task = tasks.after_response.schedule(work)
            threaded = tasks.after_response.schedule(work_in_a_thread)
        await over(task, threaded)
        await runner.join()
    spans = telemetry.spans()
    request, span = spans["request"], spans["task work"]
    assert parent_of(span) == parent_of(spans["task work_in_a_thread"]) == id_of(request)
    assert trace_of(span) == trace_of(request)
    assert (span.kind, span.links, span.status.status_code) == (
        SpanKind.INTERNAL,
        (),
        StatusCode.UNSET,
    )
    assert (span.start_time or 0) >= (request.end_time or 0) > 0
    assert span.attributes == {
        "code.function.name": f"{__name__}.work",
        "task.phase": "after_response",
        "task.id": task.id,
        "task.state": "succeeded",
        "task.attempt": 1,
    }
    assert (spans["task work_in_a_thread"].attributes or {})["seen"] is True


async def test_a_trace_of_its_own(telemetry: Telemetry) -> None:
    """11.6 With a link to where it was scheduled, or none where there was nothing."""
    async with open_runner(observers=[telemetry.observer(new_trace=True)]) as runner:
        await over(runner.schedule(work))
        (alone,) = telemetry.spans().values()
        with telemetry.tracer.start_as_current_span("request"):
            task = runner.schedule(work_in_a_thread)
        await over(task)
    spans = telemetry.spans()
    request, span = spans["request"], spans["task work_in_a_thread"]
    assert (alone.parent, alone.links) == (None, ())
    assert span.parent is None
    assert trace_of(span) != trace_of(request)
    assert [link.context for link in span.links] == [request.context]
    assert (span.attributes or {})["seen"] is True


async def test_what_is_not_told(telemetry: Telemetry) -> None:
    """11.4 No arguments, no results, no names, which hold what users typed; a partial's neither."""
    async with open_runner(observers=[telemetry.observer()]) as runner:
        named = runner.task(name=f"card {CARD}", key=CARD)
        await over(named.schedule(work, CARD), named.schedule(partial(work, CARD)))
    spans = telemetry.ended()
    assert [span.name for span in spans] == ["task work"] * 2
    told = "".join(span.to_json() for span in spans)
    metrics = [
        telemetry.points(f"tasks.{name}") for name in ("active", "wait.duration", "run.duration")
    ]
    assert all(metrics)
    assert CARD not in told + repr(metrics)
    functions = [dict(span.attributes or {})["code.function.name"] for span in spans]
    assert functions == [f"{__name__}.work"] * 2


class Noting(logging.Handler):
    """Notes in which span something was logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.spans: list[int] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.spans.append(trace.get_current_span().get_span_context().span_id)


async def test_a_failure(telemetry: Telemetry) -> None:
    """11.6 Its record and its error handler are within the span, which has the error, once."""

    def refund(task: Task, error: Exception) -> None:
        with telemetry.tracer.start_as_current_span("refund"):
            pass

    noting = Noting()
    logger = logging.getLogger("tasks_core")
    logger.addHandler(noting)
    try:
        async with open_runner(observers=[telemetry.observer()]) as runner:
            await over(runner.task(on_error=refund).schedule(fail_for, "no money\n"))
    finally:
        logger.removeHandler(noting)
    span, refunding = telemetry.spans()["task fail_for"], telemetry.spans()["refund"]
    assert noting.spans == [id_of(span)]
    assert parent_of(refunding) == id_of(span)
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "no money\n"
    (event,) = span.events
    assert (event.attributes or {})["exception.message"] == "no money\n"
    attributes = dict(span.attributes or {})
    assert (attributes["task.state"], attributes["error.type"]) == ("failed", "SomeError")
    ((ran, _),) = telemetry.points("tasks.run.duration")
    assert (ran["task.state"], ran["error.type"]) == ("failed", "SomeError")


async def test_attempts_are_in_one_span(telemetry: Telemetry) -> None:
    """11.6 It says how many there were."""

    class Twice(Retry):
        async def __call__(self, attempt: Callable[[], Any], /) -> Any:
            try:
                return await attempt()
            except SomeError:
                return await attempt()

    failing = [SomeError("once")]

    async def work_at_last() -> None:
        with telemetry.tracer.start_as_current_span(f"{len(failing)} left"):
            if failing:
                raise failing.pop()

    async with open_runner(observers=[telemetry.observer()]) as runner:
        await over(runner.task(retry=Twice()).schedule(work_at_last))
    spans = telemetry.spans()
    span = spans.pop(f"task {work_at_last.__qualname__}")
    assert dict(span.attributes or {})["task.attempt"] == 2
    assert {parent_of(one) for one in spans.values()} == {id_of(span)}
    assert len(spans) == 2


async def test_metrics(telemetry: Telemetry) -> None:
    """11.6 How many live, by their states; how long they waited and ran. At the end none live."""
    begun = anyio.Event()
    async with open_runner(observers=[telemetry.observer()]) as runner:
        with TasksScheduler(runner) as tasks:
            running = tasks.schedule(until_cancelled, begun)
            waiting = tasks.after_response.schedule(work)
            skipped = tasks.after_response.task(run_on="failure").schedule(work)
            cancelled = tasks.after_response.schedule(work)
            await begun.wait()
            assert telemetry.active() == {"pending": 3, "running": 1}
            cancelled.cancel()
        running.cancel()
        await over(running, waiting, skipped, cancelled)
    assert telemetry.active() == {"pending": 0, "running": 0}
    counts = {
        (attributes["code.function.name"].rpartition(".")[2], attributes["task.phase"]): point.count
        for attributes, point in telemetry.points("tasks.wait.duration")
    }
    assert counts == {("until_cancelled", "immediate"): 1, ("work", "after_response"): 1}
    states = {attributes["task.state"] for attributes, _ in telemetry.points("tasks.run.duration")}
    assert states == {"cancelled", "succeeded"}
    for name in ("active", "wait.duration", "run.duration"):
        for attributes, _ in telemetry.points(f"tasks.{name}"):
            assert attributes.keys() <= {"code.function.name", "task.phase", "task.state"}
    assert telemetry.spans().keys() == {"task until_cancelled", "task work"}


class Traced(Engine):
    """An engine whose client is instrumented: it looks in which span it sends."""

    def note(self, sent: Sent) -> None:
        super().note(sent)
        self.span = trace.get_current_span().get_span_context().span_id


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_what_is_handed_over(telemetry: Telemetry, kind: Kind) -> None:
    """11.6 It has no span here; the engine's client finds that in which it was scheduled."""
    engine = Traced(kind)
    async with open_runner(observers=[telemetry.observer()], carriers=[engine]) as runner:
        with telemetry.tracer.start_as_current_span("request"):
            task = runner.schedule(engine.task(work))
        await over(task)
    assert task.state is TaskState.HANDED_OVER
    assert telemetry.spans().keys() == {"request"}
    assert engine.span == id_of(telemetry.spans()["request"])
    assert telemetry.active() == {"pending": 0}


async def test_the_global_providers_are_the_default() -> None:
    """11.6 Where none is set up, nothing is told to anybody, and tasks run."""
    from tasks_core.opentelemetry import OpenTelemetryObserver  # noqa: PLC0415

    async with open_runner(observers=[OpenTelemetryObserver()]) as runner:
        assert await runner.schedule(work).wait() == CARD


def test_nothing_imports_it() -> None:
    """11.7 Who does not ask for it does not load it; and it needs the API alone."""
    code = (
        "import sys, tasks_core\n"
        "assert not any(name.startswith('opentelemetry') for name in sys.modules)\n"
        "import tasks_core.opentelemetry\n"
        "assert not any(name.startswith('opentelemetry.sdk') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
