"""OpenTelemetry's SDK, which keeps in memory what it is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext
from tasks_core.opentelemetry import OpenTelemetryObserver


class Telemetry:
    """Providers of a test's own, and what they have been told."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers: Final = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters: Final = MeterProvider([self._reader], shutdown_on_exit=False)
        self.tracer: Final = self.tracers.get_tracer("tests")

    def observer(self, *, new_trace: bool = False) -> OpenTelemetryObserver:
        return OpenTelemetryObserver(
            new_trace=new_trace, tracer_provider=self.tracers, meter_provider=self.meters
        )

    def ended(self) -> tuple[ReadableSpan, ...]:
        """Return the spans that have ended."""
        return self._exporter.get_finished_spans()

    def spans(self) -> dict[str, ReadableSpan]:
        """Return them by their names."""
        return {span.name: span for span in self.ended()}

    def points(self, metric: str) -> list[tuple[dict[str, Any], Any]]:
        """Return what a metric has come to: the attributes of each, and its point."""
        data = self._reader.get_metrics_data()
        return [
            (dict(point.attributes or {}), point)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for found in scope.metrics
            if found.name == metric
            for point in found.data.data_points
        ]

    def active(self) -> dict[str, int]:
        """Return how many tasks live, by their state."""
        found: dict[str, int] = {}
        for attributes, point in self.points("tasks.active"):
            state = attributes["task.state"]
            found[state] = found.get(state, 0) + point.value
        return found

    def close(self) -> None:
        self.tracers.shutdown()
        self.meters.shutdown()


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    telemetry = Telemetry()
    yield telemetry
    telemetry.close()


def parent_of(span: ReadableSpan) -> int | None:
    """Return the id of a span's parent."""
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    """Return the id of a span."""
    context: SpanContext | None = span.context
    assert context is not None
    return context.span_id


def trace_of(span: ReadableSpan) -> int:
    """Return the id of a span's trace."""
    context: SpanContext | None = span.context
    assert context is not None
    return context.trace_id
