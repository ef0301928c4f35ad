"""Instrumentation beside the plugin, before or after it: it sees each request, so do tasks."""

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any, TypeAlias

import pytest
from litestar import Litestar, Router, get
from litestar.exceptions import HTTPException
from litestar.middleware import DefineMiddleware
from litestar_tasks import Task, Tasks, TasksPlugin

from tests.asgi.pairs import in_pairs
from tests.asgi.watching import FAILURE, IN_ORDER, Outcome, Watch
from tests.conformance.cases import finish
from tests.conformance.driver import serve

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of what Litestar offers itself
]

Counting: TypeAlias = Callable[[], int]
"""Says how many requests an instrument has seen."""

Instrument: TypeAlias = Callable[[], tuple[dict[str, Any], Counting, Any]]
"""Returns options of an application, how many requests were seen, and spans."""


class Spans:
    """A provider of tracers, and the spans that came of it."""

    def __init__(self) -> None:
        sdk = pytest.importorskip("opentelemetry.sdk.trace")
        export = pytest.importorskip("opentelemetry.sdk.trace.export")
        memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
        pytest.importorskip("opentelemetry.instrumentation.asgi")
        self._exporter: Any = memory.InMemorySpanExporter()
        self.provider: Any = sdk.TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(export.SimpleSpanProcessor(self._exporter))

    def of_requests(self) -> list[Any]:
        """Return those that are a server's, of requests that have ended."""
        spans = self._exporter.get_finished_spans()
        return [span for span in spans if span.kind.name == "SERVER"]

    def count(self) -> int:
        return len(self.of_requests())


def opentelemetry_plugin() -> Any:
    spans = Spans()
    module = pytest.importorskip("litestar.plugins.opentelemetry")
    config = module.OpenTelemetryConfig(tracer_provider=spans.provider)
    return {"plugins": [module.OpenTelemetryPlugin(config)]}, spans.count, spans


def opentelemetry_config() -> Any:
    spans = Spans()
    module = pytest.importorskip("litestar.plugins.opentelemetry")
    config = module.OpenTelemetryConfig(tracer_provider=spans.provider)
    return {"middleware": [config.middleware]}, spans.count, spans


def opentelemetry_middleware() -> Any:
    spans = Spans()
    module = pytest.importorskip("opentelemetry.instrumentation.asgi")
    middleware = DefineMiddleware(module.OpenTelemetryMiddleware, tracer_provider=spans.provider)
    return {"middleware": [middleware]}, spans.count, spans


def prometheus() -> Any:
    client = pytest.importorskip("prometheus_client")
    module = pytest.importorskip("litestar.plugins.prometheus")
    prefix = f"tasks_{id(object())}_{len(list(client.REGISTRY.collect()))}"
    config = module.PrometheusConfig(prefix=prefix)

    def count() -> int:
        found = (one for metric in client.REGISTRY.collect() for one in metric.samples)
        return int(sum(one.value for one in found if one.name == f"{prefix}_requests_total"))

    return {"middleware": [config.middleware]}, count, None


each_order = pytest.mark.parametrize("order", ["ours_first", "ours_last"])
each_instrument = pytest.mark.parametrize(
    "instrument",
    [opentelemetry_plugin, opentelemetry_config, opentelemetry_middleware, prometheus],
)


def build(handlers: list[Any], options: dict[str, Any], order: str) -> Any:
    """Make an application with an instrument, in an order of plugins."""
    ours: list[Any] = [TasksPlugin()]
    others = options.pop("plugins", [])
    plugins = [*ours, *others] if order == "ours_first" else [*others, *ours]
    return Litestar(handlers, plugins=plugins, logging_config=None, openapi_config=None, **options)


@in_pairs(
    each_instrument,
    each_order,
)
async def test_requests(instrument: Instrument, order: str) -> None:
    """1.6, 2.7 It sees each request, whose phases and whose outcome are as without it."""
    watch, outcome = Watch(), Outcome()

    @get("/")
    async def succeed(tasks: Tasks) -> str:
        watch.schedule(tasks)
        return "ok"

    @get("/refuse")
    async def refuse(tasks: Tasks) -> None:
        outcome.schedule(tasks)
        raise HTTPException(status_code=402)

    @get("/crash")
    async def crash(tasks: Tasks) -> None:
        outcome.schedule(tasks)
        raise ValueError

    options, count, _ = instrument()
    async with serve(build([succeed, refuse, crash], options, order)) as server:
        assert await watch.request(server) == IN_ORDER
        assert (await server.request("/refuse")).status == 402
        assert (await server.request("/crash")).status == 500
        assert await outcome.seen() == FAILURE * 2
        assert count() == 3


@in_pairs(
    pytest.mark.parametrize("instrument", [opentelemetry_plugin, opentelemetry_config]),
    each_order,
)
async def test_tasks_belong_to_their_requests_span(instrument: Instrument, order: str) -> None:
    """2.4 A task runs in the context in which it was scheduled: its trace is its request's."""
    trace = pytest.importorskip("opentelemetry.trace")
    traces: list[int] = []
    made: list[Task] = []

    async def note() -> None:
        traces.append(trace.get_current_span().get_span_context().trace_id)

    @get("/")
    async def handler(tasks: Tasks) -> None:
        batches = (tasks.task(), tasks.after_route, tasks.after_response)
        made.extend(batch.schedule(note) for batch in batches)

    options, _, spans = instrument()
    async with serve(build([handler], options, order)) as server:
        await server.request()
        await finish(made)
    (span,) = spans.of_requests()
    assert traces == [span.context.trace_id] * 3


def looks_like_asgi(app: Any) -> bool:
    """Say what asgiref, Sentry and servers do of an application: whether it is called once."""
    return iscoroutinefunction(app) or iscoroutinefunction(getattr(app, "__call__", None))  # noqa: B004


@pytest.mark.parametrize("layer", ["app", "router", "handler"])
async def test_what_is_wrapped_looks_like_an_application(layer: str) -> None:
    """2.7 What a middleware is given, and the application's handler, are what wrappers expect."""
    given: list[Any] = []

    def look(app: Any) -> Any:
        given.append(app)

        async def call(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)

        return call

    def of(name: str) -> Any:
        return {"middleware": [look]} if layer == name else {}

    @get("/", **of("handler"))
    async def handler() -> str:
        return "ok"

    router = Router("/", route_handlers=[handler], **of("router"))
    app = build([router], of("app"), "ours_first")
    async with serve(app) as server:
        assert (await server.request()).status == 200
        given.append(app.asgi_handler)
    assert [looks_like_asgi(one) for one in given] == [True] * len(given)
