"""Contract 11.6 in traced applications: FastAPI's own telemetry, and its instrumentation."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any, TypeAlias

import anyio
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from fastapi_tasks import Tasks, add_tasks
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import SpanKind

from tests.conformance.driver import GUARD
from tests.tasks_core.telemetry import Telemetry, id_of, parent_of, telemetry, trace_of

__all__ = ["telemetry"]  # a fixture

Make: TypeAlias = Callable[[Telemetry], FastAPI]


def fastapis_own(telemetry: Telemetry) -> FastAPI:
    if "telemetry" not in signature(FastAPI).parameters:
        pytest.skip("this version of FastAPI has no telemetry of its own")
    make: Any = FastAPI
    app: FastAPI = make(
        telemetry={"tracer_provider": telemetry.tracers, "meter_provider": telemetry.meters}
    )
    add_tasks(app, observers=[telemetry.observer()])
    return app


def instrumented(telemetry: Telemetry) -> FastAPI:
    module: Any = pytest.importorskip("opentelemetry.instrumentation.fastapi")
    app = FastAPI()
    add_tasks(app, observers=[telemetry.observer()])
    module.FastAPIInstrumentor.instrument_app(app, tracer_provider=telemetry.tracers)
    return app


class RequestEnds(SpanProcessor):
    """Opens a gate when the request's span has ended."""

    def __init__(self) -> None:
        self.ended = anyio.Event()

    def on_end(self, span: ReadableSpan) -> None:
        if span.kind is SpanKind.SERVER:
            self.ended.set()


@pytest.mark.parametrize("make", [fastapis_own, instrumented])
def test_a_traced_request(telemetry: Telemetry, make: Make) -> None:
    """11.6 Its tasks are in its trace, in each phase, and do not make its span longer."""
    app = make(telemetry)
    request_ends = RequestEnds()
    telemetry.tracers.add_span_processor(request_ends)

    async def immediate() -> None:
        with anyio.fail_after(GUARD):  # were it within the request, this would wait for itself
            await request_ends.ended.wait()

    async def after_route() -> None:
        await immediate()

    def after_response() -> None:
        with telemetry.tracer.start_as_current_span("database"):
            pass

    @app.post("/orders")
    async def place_order(tasks: Tasks) -> None:
        tasks.schedule(immediate)
        tasks.after_route.schedule(after_route)
        tasks.after_response.schedule(after_response)
        with telemetry.tracer.start_as_current_span("route"):
            tasks.schedule(immediate_in_the_route)

    async def immediate_in_the_route() -> None: ...

    with TestClient(app) as client:
        assert client.post("/orders").status_code == 200
    spans = {name.rpartition(".")[2]: span for name, span in telemetry.spans().items()}
    (server,) = (span for span in spans.values() if span.kind is SpanKind.SERVER)
    by_id = {id_of(span): span for span in spans.values()}
    for task in (immediate, after_route, after_response, immediate_in_the_route):
        span = spans[task.__name__]
        assert dict(span.attributes or {})["task.state"] == "succeeded"
        assert trace_of(span) == trace_of(server)
        above = parent_of(span)
        while above is not None and above != id_of(server):
            above = parent_of(by_id[above])
        assert above == id_of(server)
    assert parent_of(spans["immediate_in_the_route"]) == id_of(spans["route"])
    assert parent_of(spans["database"]) == id_of(spans["after_response"])
    for name in ("immediate", "after_route"):
        assert (spans[name].end_time or 0) > (server.end_time or 0)
    assert telemetry.active() == {"pending": 0, "running": 0}
