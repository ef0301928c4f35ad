"""Instrumentation beside tasks, set up before or after them: it sees each request, and so do tasks.

What patches whole modules runs in a process of its own, so that other tests do not see it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from inspect import iscoroutinefunction
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket
from starlette_tasks import Task, add_tasks, current_tasks, get_tasks

from tests import forked
from tests.asgi.pairs import in_pairs
from tests.asgi.watching import FAILURE, IN_ORDER, SUCCESS, Outcome, Watch
from tests.conformance.cases import finish
from tests.conformance.driver import serve
from tests.starlette_tasks.test_outcomes import Base, Plain

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]


class Seen:
    """What an instrument has seen."""

    def __init__(self, count_requests: Callable[[], int]) -> None:
        self.count = count_requests


Instrument: TypeAlias = Callable[[Any], Seen]
"""Instruments an application."""


# OpenTelemetry.


class Spans:
    """A provider of tracers, and the spans that came of it."""

    def __init__(self) -> None:
        sdk = pytest.importorskip("opentelemetry.sdk.trace")
        export = pytest.importorskip("opentelemetry.sdk.trace.export")
        memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
        self._exporter: Any = memory.InMemorySpanExporter()
        self.provider: Any = sdk.TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(export.SimpleSpanProcessor(self._exporter))

    def of_requests(self) -> list[Any]:
        """Return those that are a server's, of requests that have ended."""
        spans = self._exporter.get_finished_spans()
        return [span for span in spans if span.kind.name == "SERVER"]

    def seen(self) -> Seen:
        return Seen(lambda: len(self.of_requests()))


def opentelemetry_fastapi(app: Any) -> Seen:
    instrumentation = pytest.importorskip("opentelemetry.instrumentation.fastapi")
    spans = Spans()
    instrumentation.FastAPIInstrumentor.instrument_app(app, tracer_provider=spans.provider)
    return spans.seen()


def opentelemetry_starlette(app: Any) -> Seen:
    instrumentation = pytest.importorskip("opentelemetry.instrumentation.starlette")
    spans = Spans()
    instrumentation.StarletteInstrumentor.instrument_app(app, tracer_provider=spans.provider)
    return spans.seen()


def opentelemetry_asgi(app: Any) -> Seen:
    instrumentation = pytest.importorskip("opentelemetry.instrumentation.asgi")
    spans = Spans()
    app.add_middleware(instrumentation.OpenTelemetryMiddleware, tracer_provider=spans.provider)
    return spans.seen()


# Prometheus, twice.


def prometheus_fastapi_instrumentator(app: Any) -> Seen:
    instrumentator = pytest.importorskip("prometheus_fastapi_instrumentator")
    client = pytest.importorskip("prometheus_client")
    registry = client.CollectorRegistry()
    instrument = instrumentator.Instrumentator(registry=registry).instrument(app)
    instrument.expose(app, endpoint="/metrics")
    return Seen(partial(samples, registry, "http_requests_total"))


PREFIXES = count()


def starlette_exporter(app: Any) -> Seen:
    exporter = pytest.importorskip("starlette_exporter")
    client = pytest.importorskip("prometheus_client")
    prefix = f"tasks_{next(PREFIXES)}"
    app.add_middleware(exporter.PrometheusMiddleware, prefix=prefix, skip_paths=["/metrics"])
    app.add_route("/metrics", exporter.handle_metrics)
    return Seen(partial(samples, client.REGISTRY, f"{prefix}_requests_total"))


def samples(registry: Any, name: str) -> int:
    found = (one for metric in registry.collect() for one in metric.samples if one.name == name)
    return int(sum(one.value for one in found))


INSTRUMENTS: list[Instrument] = [
    opentelemetry_fastapi,
    opentelemetry_starlette,
    opentelemetry_asgi,
    prometheus_fastapi_instrumentator,
    starlette_exporter,
]
each_instrument = pytest.mark.parametrize("instrument", INSTRUMENTS)


@pytest.fixture(autouse=True)
def possible(request: pytest.FixtureRequest) -> None:
    """Skip what an instrument cannot."""
    callspec = getattr(request.node, "callspec", None)
    parameters: dict[str, Any] = {} if callspec is None else callspec.params
    ours = parameters.get("instrument") is prometheus_fastapi_instrumentator
    if ours and parameters.get("anyio_backend") == "trio":
        pytest.skip("asyncio's own")


each_order = pytest.mark.parametrize("order", ["tasks_first", "tasks_last", "tasks_twice"])


def starlette(**options: Any) -> Any:
    return Starlette(**options)


def fastapi(**options: Any) -> Any:
    return pytest.importorskip("fastapi").FastAPI(**options)


each_framework = pytest.mark.parametrize("framework", [starlette, fastapi])


def instrumented(app: Any, instrument: Instrument, order: str) -> Seen:
    """Instrument an application and add tasks to it, in an order."""
    if order != "tasks_last":
        add_tasks(app)
    seen = instrument(app)
    if order != "tasks_first":
        add_tasks(app)
    return seen


async def crash(request: Request) -> Response:
    raise ValueError


async def refuse(request: Request) -> Response:
    raise HTTPException(402)


async def miss(request: Request) -> Response:
    return PlainTextResponse("missed", 404)


async def answer(request: Request, error: Exception) -> Response:
    return PlainTextResponse("answered", 500)


def planned(outcome: Outcome, endpoint: Any) -> Any:
    async def plan(request: Request) -> Response:
        outcome.schedule(get_tasks(request))
        response: Response = await endpoint(request)
        return response

    return plan


@in_pairs(
    each_instrument,
    each_order,
    each_framework,
    of_asyncio=[prometheus_fastapi_instrumentator],
)
async def test_requests_that_succeed(instrument: Instrument, order: str, framework: Any) -> None:
    """2.7 It sees each request, whose phases come as promised; also with other middleware."""
    watch = Watch()

    async def endpoint(request: Request) -> Response:
        assert get_tasks(request) is current_tasks()
        watch.schedule(current_tasks())
        return PlainTextResponse("ok")

    app = framework(routes=[Route("/", endpoint)])
    app.add_middleware(Base)
    seen = instrumented(app, instrument, order)
    async with serve(app) as server:
        for number in (1, 2):
            watch.log.clear()
            # Some send more than the application does.
            log = [what for what in await watch.request(server) if what != "trailers"]
            assert log == IN_ORDER
            assert seen.count() == number


@in_pairs(
    each_instrument,
    each_order,
    each_framework,
    pytest.mark.parametrize(
        ("endpoint", "expected"), [(crash, FAILURE), (refuse, FAILURE), (miss, SUCCESS)]
    ),
    pytest.mark.parametrize("handled", [False, True]),
    of_asyncio=[prometheus_fastapi_instrumentator],
)
async def test_requests_that_fail(  # noqa: PLR0913 - a case
    instrument: Instrument,
    order: str,
    framework: Any,
    endpoint: Any,
    expected: list[str],
    *,
    handled: bool,
) -> None:
    """1.6 The outcome is the same with it, and it sees the request; handled by the user or not."""
    outcome = Outcome()
    handlers = {Exception: answer, 402: answer} if handled else {}
    app = framework(routes=[Route("/", planned(outcome, endpoint))], exception_handlers=handlers)
    seen = instrumented(app, instrument, order)
    async with serve(app) as server:
        exchange = await server.request()
        assert exchange.status == {crash: 500, refuse: 500 if handled else 402, miss: 404}[endpoint]
        assert await outcome.seen() == expected
        assert seen.count() == 1


@in_pairs(
    each_instrument,
    each_order,
    of_asyncio=[prometheus_fastapi_instrumentator],
)
async def test_mounted_applications(instrument: Instrument, order: str) -> None:
    """1.8 An application that is mounted in an instrumented one is served as ever."""
    outcome = Outcome()
    inner = Starlette(routes=[Route("/", planned(outcome, refuse))])
    app = fastapi(routes=[Mount("/in", app=inner)])
    seen = instrumented(app, instrument, order)
    async with serve(app) as server:
        assert (await server.request("/in/")).status == 402
        assert await outcome.seen() == FAILURE
        assert seen.count() == 1


@in_pairs(
    pytest.mark.parametrize(
        "instrument", [opentelemetry_fastapi, opentelemetry_starlette, opentelemetry_asgi]
    ),
    each_order,
)
async def test_websockets(instrument: Instrument, order: str) -> None:
    """1.8 So is a WebSocket, which has a span of its own."""
    outcome = Outcome()

    async def endpoint(websocket: WebSocket) -> None:
        outcome.schedule(get_tasks(websocket))
        await websocket.accept()
        await websocket.close()

    app = fastapi(routes=[WebSocketRoute("/", endpoint)])
    seen = instrumented(app, instrument, order)
    async with serve(app) as server:
        async with server.websocket() as client:
            await client.receive()
        assert await outcome.seen() == SUCCESS
        assert seen.count() == 1


@in_pairs(
    pytest.mark.parametrize("of", ["fastapi", "starlette", "asgi"]),
    each_order,
)
async def test_tasks_belong_to_their_requests_span(of: str, order: str) -> None:
    """2.4 A task runs in the context in which it was scheduled: its trace is its request's."""
    trace = pytest.importorskip("opentelemetry.trace")
    instrumentation = pytest.importorskip(f"opentelemetry.instrumentation.{of}")
    spans, traces, made = Spans(), list[int](), list[Task]()

    async def note() -> None:
        traces.append(trace.get_current_span().get_span_context().trace_id)

    async def endpoint(request: Request) -> Response:
        tasks = get_tasks(request)
        batches = (tasks.task(), tasks.after_route, tasks.after_response)
        made.extend(batch.schedule(note) for batch in batches)
        return PlainTextResponse("ok")

    def instrument(app: Any) -> Seen:
        if of == "asgi":
            middleware = instrumentation.OpenTelemetryMiddleware
            app.add_middleware(middleware, tracer_provider=spans.provider)
        else:
            kind = {"fastapi": "FastAPIInstrumentor", "starlette": "StarletteInstrumentor"}[of]
            getattr(instrumentation, kind).instrument_app(app, tracer_provider=spans.provider)
        return spans.seen()

    app = fastapi(routes=[Route("/", endpoint)])
    seen = instrumented(app, instrument, order)
    async with serve(app) as server:
        await server.request()
        await finish(made)
    assert seen.count() == 1
    (span,) = spans.of_requests()
    assert traces == [span.context.trace_id] * 3


@pytest.mark.parametrize("order", ["tasks_first", "tasks_last"])
async def test_opentelemetry_records_what_is_raised(order: str) -> None:
    """2.7 It still sees the exception, as it does without tasks."""
    instrumentation = pytest.importorskip("opentelemetry.instrumentation.fastapi")
    spans = Spans()

    def instrument(app: Any) -> Seen:
        instrumentation.FastAPIInstrumentor.instrument_app(app, tracer_provider=spans.provider)
        return spans.seen()

    app = fastapi(routes=[Route("/", crash)])
    instrumented(app, instrument, order)
    async with serve(app) as server:
        await server.request()
    (span,) = spans.of_requests()
    assert span.status.status_code.name == "ERROR"
    assert "ValueError" in {event.attributes["exception.type"] for event in span.events}


def watched(watch: Watch) -> Route:
    """Return a route with tasks of all phases."""

    async def endpoint(request: Request) -> Response:
        watch.schedule(get_tasks(request))
        return PlainTextResponse("ok")

    return Route("/", endpoint)


def taking_apart(app: Starlette) -> None:
    """Put something between what answers errors and the rest, as OpenTelemetry does."""
    inner = app.build_middleware_stack

    def build() -> ASGIApp:
        stack: Any = inner()
        return ServerErrorMiddleware(Plain(stack.app), stack.handler, stack.debug)

    app.build_middleware_stack = build  # type: ignore[method-assign]


def putting_around(app: Starlette) -> None:
    """Put something around what answers errors."""
    inner = app.build_middleware_stack

    def build() -> ASGIApp:
        return Plain(inner())

    app.build_middleware_stack = build  # type: ignore[method-assign]


@pytest.mark.parametrize("wrap", [taking_apart, putting_around])
@pytest.mark.parametrize("order", ["tasks_first", "tasks_last"])
@pytest.mark.parametrize("started", ["served", "forgotten", "by_hand"])
async def test_what_is_put_into_a_stack(wrap: Any, order: str, started: str) -> None:
    """2.7 Tasks are around all of it all the same, so a handler of all exceptions has them."""
    got: list[Any] = []

    @asynccontextmanager
    async def live(app: Starlette) -> AsyncGenerator[None]:
        if started == "forgotten":
            app.middleware_stack = None
        yield

    async def note(request: Request, error: Exception) -> Response:
        got.append(current_tasks() is get_tasks(request))
        return PlainTextResponse("answered", 500)

    app = Starlette(routes=[Route("/", crash)], exception_handlers={Exception: note}, lifespan=live)
    if order == "tasks_first":
        add_tasks(app)
    wrap(app)
    if order == "tasks_last":
        add_tasks(app)
    by_hand = started == "by_hand"
    lifespan = app.router.lifespan_context(app) if by_hand else nullcontext()
    async with lifespan, serve(app, lifespan=not by_hand) as server:
        # The first one finds the stack as it was built, if nothing was served before.
        await server.request("/elsewhere")
        assert (await server.request()).body == b"answered"
    assert got == [True]


@pytest.mark.parametrize("kind", [lambda: HTTPException(404), ValueError])
async def test_opentelemetry_that_ends_puts_back_what_it_has_found(
    outcome: Outcome, kind: Callable[[], Exception]
) -> None:
    """2.7 That was before tasks were added; they are put there again as the application starts."""
    instrumentation = pytest.importorskip("opentelemetry.instrumentation.fastapi")

    async def endpoint(request: Request) -> Response:
        outcome.schedule(get_tasks(request))
        raise kind()

    app = fastapi(routes=[Route("/", endpoint)], middleware=[Middleware(Plain)])
    instrumentation.FastAPIInstrumentor.instrument_app(app)
    add_tasks(app)
    instrumentation.FastAPIInstrumentor.uninstrument_app(app)
    for times in (1, 2):
        async with serve(app) as server:
            await server.request()
        assert await outcome.seen() == FAILURE * times


async def test_a_stack_that_is_called_by_itself() -> None:
    """2.7 One that was taken apart, and that is not the application's, has tasks, too."""
    watch = Watch()
    app = Starlette(routes=[watched(watch)])
    add_tasks(app)
    taking_apart(app)
    async with serve(app.build_middleware_stack()) as server:
        assert await watch.request(server) == IN_ORDER


class Endless:
    """Middleware within itself, by the looks of it."""

    def __init__(self) -> None:
        self.app = self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


async def test_a_stack_that_has_no_end() -> None:
    """2.7 Tasks are put there again, as they are not found in it."""
    watch = Watch()
    app = Starlette(routes=[watched(watch)])
    add_tasks(app)
    app.middleware_stack = Endless()
    async with app.router.lifespan_context(app), serve(app, lifespan=False) as server:
        assert await watch.request(server) == IN_ORDER


@each_instrument
async def test_instruments_of_an_application_that_has_started(instrument: Instrument) -> None:
    """5.6 One that is put in late, where the stack is built again, sees requests from then on."""
    watch = Watch()
    app = fastapi(routes=[watched(watch)])
    add_tasks(app)
    async with serve(app) as server:
        await server.request()
        await watch.ended()
        app.middleware_stack = None
        seen = instrument(app)
        watch.log.clear()
        assert await watch.request(server) == IN_ORDER
        assert seen.count() == 1


# What instruments look at before they wrap something.


def looks_like_asgi(app: Any) -> bool:
    """Say what asgiref, Sentry and servers do of an application: whether it is called once."""
    return iscoroutinefunction(app) or iscoroutinefunction(getattr(app, "__call__", None))  # noqa: B004


@in_pairs(
    pytest.mark.parametrize("order", ["tasks_first", "tasks_last"]),
    pytest.mark.parametrize("layers", [1, 2]),
)
async def test_what_is_wrapped_looks_like_an_application(order: str, layers: int) -> None:
    """2.7 What a middleware is given, and the stack itself, are what who wraps them expects."""
    given: list[Any] = []

    class Looks(Plain):
        def __init__(self, app: ASGIApp) -> None:
            super().__init__(app)
            given.append(app)

    app = Starlette()
    if order == "tasks_first":
        add_tasks(app)
    for _ in range(layers):
        app.add_middleware(Looks)
    if order == "tasks_last":
        add_tasks(app)
    async with serve(app):
        given.append(app.middleware_stack)
    assert [looks_like_asgi(one) for one in given] == [True] * (layers + 1)


# What patches whole modules: a process of its own, which tries all there is to try.

PROGRAM = """
import warnings

warnings.simplefilter("ignore")
{set_up}
import {module}
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette_tasks import add_tasks, get_tasks
from starlette_tasks.testing import drain

ran = []


def plan(request):
    tasks = get_tasks(request)
    for batch in (tasks.after_route, tasks.after_response):
        for run_on in ("success", "failure"):
            batch.task(run_on=run_on).schedule(ran.append, run_on)


async def succeed(request):
    plan(request)
    return PlainTextResponse("ok", 404)


async def refuse(request):
    plan(request)
    raise HTTPException(402)


async def crash(request):
    plan(request)
    raise ValueError("crashed")


def crash_in_thread(request):
    plan(request)
    raise ValueError("crashed")


async def answer(request, error):
    return PlainTextResponse("sorry", 500)


routes = [succeed, refuse, crash, crash_in_thread]
for backend in ("asyncio", "trio"):
    for handlers in ({{}}, {{Exception: answer}}):
        app = {module}.{name}(
            routes=[Route("/" + route.__name__, route) for route in routes],
            exception_handlers=handlers,
        )
        add_tasks(app)
        {late}
        with TestClient(app, raise_server_exceptions=False, backend=backend) as client:
            for route in routes:
                ran.clear()
                with drain():
                    status = client.get("/" + route.__name__).status_code
                print(route.__name__, status, *ran)
{report}
"""
EXPECTED = [
    "succeed 404 success success",
    "refuse 402 failure failure",
    "crash 500 failure failure",
    "crash_in_thread 500 failure failure",
] * 4
"""Of each event loop, with handlers and without."""

SENTRY = """
import sentry_sdk
from sentry_sdk.integrations.{integration} import {name}Integration
from sentry_sdk.integrations.starlette import StarletteIntegration
from sentry_sdk.transport import Transport


class Memory(Transport):
    kinds = []

    def capture_envelope(self, envelope):
        for item in envelope.items:
            self.kinds.append(item.type)


def set_up():
    sentry_sdk.init(
        dsn="http://key@localhost/1",
        transport=Memory,
        traces_sample_rate=1.0,
        auto_enabling_integrations=False,
        integrations=[StarletteIntegration(), {name}Integration()],
    )


"""
SENTRY_REPORT = """
sentry_sdk.flush()
print(*(Memory.kinds.count(kind) for kind in ("transaction", "event")))
"""
OPENTELEMETRY = """
from opentelemetry.instrumentation.{module} import {name}Instrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
{name}Instrumentor().instrument(tracer_provider=provider)
"""
OPENTELEMETRY_REPORT = """
print(sum(span.kind.name == "SERVER" for span in exporter.get_finished_spans()))
"""


def run(folder: Path, **parts: str) -> list[str]:
    """Run the program with its parts; return what it prints."""
    program = folder / "program.py"
    program.write_text(PROGRAM.format(**{"late": "", **parts}), encoding="utf-8")
    return forked.run([str(program)], ROOT, {**os.environ}).splitlines()


NAMES: Mapping[str, str] = {"fastapi": "FastAPI", "starlette.applications": "Starlette"}


@pytest.mark.parametrize(
    ("module", "when"), [("fastapi", "before"), ("starlette.applications", "after")]
)
def test_sentry(module: str, when: str, tmp_path: Path) -> None:
    """1.6, 2.7 Sentry's integrations have a transaction for each request, and an event a crash."""
    pytest.importorskip("sentry_sdk")
    pytest.importorskip(module)
    name = NAMES[module]
    integration = module.partition(".")[0]
    kind = {"FastAPI": "FastApi"}.get(name, name)
    said = run(
        tmp_path,
        set_up=SENTRY.format(integration=integration, name=kind)
        + ("set_up()" if when == "before" else ""),
        late="set_up()" if when == "after" else "",
        module=module,
        name=name,
        report=SENTRY_REPORT,
    )
    assert said == [*EXPECTED, "16 8"]


@pytest.mark.parametrize("module", NAMES)
def test_opentelemetry_for_all_applications(module: str, tmp_path: Path) -> None:
    """1.6, 2.7 OpenTelemetry puts an application class of its own in the place of others'."""
    name = NAMES[module]
    pytest.importorskip(f"opentelemetry.instrumentation.{name.lower()}")
    pytest.importorskip(module)
    said = run(
        tmp_path,
        set_up=OPENTELEMETRY.format(module=name.lower(), name=name),
        module=module,
        name=name,
        report=OPENTELEMETRY_REPORT,
    )
    assert said == [*EXPECTED, "16"]
