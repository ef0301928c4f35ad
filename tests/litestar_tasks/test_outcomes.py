"""Whether a request of Litestar has failed (1.6), and where its tasks can be had (2.7)."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import anyio
import pytest
from litestar import Controller, Litestar, Request, Response, Router, asgi, get, websocket
from litestar import WebSocket as LitestarWebSocket
from litestar.background_tasks import BackgroundTask, BackgroundTasks
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency, Provide
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotAuthorizedException,
    NotFoundException,
    PermissionDeniedException,
    ValidationException,
    WebSocketDisconnect,
    WebSocketException,
)
from litestar.handlers.base import BaseRouteHandler
from litestar.middleware import (
    AbstractAuthenticationMiddleware,
    AbstractMiddleware,
    ASGIMiddleware,
    AuthenticationResult,
    DefineMiddleware,
)
from litestar.params import FromQuery
from litestar.response import File, Redirect, Stream
from litestar.testing import TestClient
from litestar_tasks import (
    Task,
    TaskConfig,
    Tasks,
    TasksPlugin,
    TasksScheduler,
    TaskState,
    current_tasks,
)
from litestar_tasks.testing import drain
from tasks_core.asgi import TasksMiddleware, get_scheduler

from tests.asgi.around import (
    CATCH,
    LIMITS,
    OF_ASYNCIO,
    Around,
    CommitError,
    Limits,
    breaking_off,
    catches,
    commits_at_the_end,
    commits_in_send,
    commits_whatever_happened,
    losing,
    passes,
    say,
    swallows,
    tries_again,
)
from tests.asgi.endings import (
    closes,
    crashes,
    crashes_beside,
    crashes_in_a_group,
    crashes_when_left,
    hears,
    hears_in_a_group,
    hears_in_groups,
    returns_at_once,
    says,
    says_in_a_group,
)
from tests.asgi.pairs import in_pairs
from tests.asgi.watching import FAILURE, IN_ORDER, SUCCESS, Outcome, Watch
from tests.conformance.cases import async_function, finish
from tests.conformance.driver import serve

# Trio says so of each body that a client or a timeout has cut off.
CUT_OFF = "ignore:Async generator .* was garbage collected:ResourceWarning"
DEPRECATED = "ignore:Use of deprecated class 'AbstractMiddleware'"
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings(CUT_OFF, DEPRECATED)]

AnyRequest = Request[Any, Any, Any]
WebSocket = LitestarWebSocket[Any, Any, Any]
Step: TypeAlias = Callable[[], object]
Kind: TypeAlias = Callable[[], Exception]

ANSWERED_AND_FAILED = ["success", "failure"]
"""After the route a success, after the response a failure."""

LAYERS = ["app", "router", "controller", "handler"]
each_layer = pytest.mark.parametrize("layer", LAYERS)


class OwnError(Exception):
    pass


def with_tasks(*handlers: Any, **options: Any) -> Any:
    """Make an application; `Any` because Litestar types each ASGI message by itself."""
    return Litestar(
        handlers, plugins=[TasksPlugin()], logging_config=None, openapi_config=None, **options
    )


def layered(make: Callable[..., Any], layer: str, **options: Any) -> Any:
    """Make an application with a handler in a controller in a router, and options of one layer.

    Args:
        make: Makes the handler, with options.
        layer: The layer.
        options: Its options.
    """

    def of(name: str) -> dict[str, Any]:
        return options if layer == name else {}

    controller: Any = type("Own", (Controller,), {"path": "/", **of("controller")})
    controller.handler = make(**of("handler"))
    return with_tasks(Router("/", route_handlers=[controller], **of("router")), **of("app"))


async def ask(app: Any, outcome: Outcome, path: str = "/", **request: Any) -> list[str]:
    """Send a request; return the outcome as its tasks have seen it."""
    async with serve(app) as server:
        await server.request(path, **request)
        return await outcome.seen()


async def ask_by_websocket(app: Any, outcome: Outcome) -> list[str]:
    """Open a WebSocket and leave it; return the outcome as its tasks have seen it."""
    async with serve(app) as server:
        async with server.websocket() as client:
            await client.receive()
            client.leave()
        return await outcome.seen()


def noting(log: list[str], what: str) -> Callable[[], Awaitable[None]]:
    return async_function(partial(log.append, what))


def returns() -> None:
    return None


def http_exception() -> Exception:
    return HTTPException(status_code=404)


def invalid() -> Exception:
    return ValidationException("no")


KINDS: list[Kind] = [http_exception, OwnError, invalid, ValueError]
each_kind = pytest.mark.parametrize("kind", KINDS)


def raising(kind: Kind) -> Step:
    def fail() -> None:
        raise kind()

    return fail


# Middleware, in every form and layer.


def as_function(around: Around) -> Any:
    def factory(app: Any) -> Any:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            await around(app, scope, receive, send)

        return call

    return factory


def as_asgi_middleware(around: Around) -> Any:
    class Own(ASGIMiddleware):
        async def handle(self, scope: Any, receive: Any, send: Any, next_app: Any) -> None:
            await around(next_app, scope, receive, send)

    return Own()


def as_abstract_middleware(around: Around) -> Any:
    class Own(AbstractMiddleware):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await around(cast("Any", self.app), scope, receive, send)

    return Own


def as_defined_middleware(around: Around) -> Any:
    class Own:
        def __init__(self, app: Any, *, mark: str) -> None:
            self._app = app
            assert mark == "mark"

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await around(self._app, scope, receive, send)

    return DefineMiddleware(Own, mark="mark")


FORMS = [as_function, as_asgi_middleware, as_abstract_middleware, as_defined_middleware]
each_form = pytest.mark.parametrize("form", FORMS)
each_form_somewhere = pytest.mark.parametrize(
    ("form", "layer"),
    [
        (as_function, "app"),
        (as_asgi_middleware, "app"),
        (as_asgi_middleware, "router"),
        (as_abstract_middleware, "controller"),
        (as_defined_middleware, "handler"),
        (as_function, "handler"),
    ],
)
each_layer_somehow = pytest.mark.parametrize(
    ("layer", "middleware"),
    [
        ("app", []),
        ("app", [as_function(passes)]),
        ("router", [as_function(passes)]),
        ("controller", []),
        ("handler", [as_function(passes)]),
        ("handler", []),
    ],
)


# Where a request fails, and who asks for the tasks: handlers, with what they depend on.

Place: TypeAlias = Callable[..., Any]


def in_async_handler(outcome: Outcome, act: Step, **options: Any) -> Any:
    @get("/", **options)
    async def handler(self: Any, tasks: Tasks) -> Any:
        outcome.schedule(tasks)
        return act()

    return handler


def in_sync_handler(outcome: Outcome, act: Step, **options: Any) -> Any:
    @get("/", sync_to_thread=False, **options)
    def handler(self: Any, tasks: Tasks) -> Any:
        outcome.schedule(tasks)
        return act()

    return handler


def in_handler_in_thread(outcome: Outcome, act: Step, **options: Any) -> Any:
    @get("/", sync_to_thread=True, **options)
    def handler(self: Any) -> Any:
        outcome.schedule(current_tasks())
        return act()

    return handler


def depending(dependency: Provide, options: dict[str, Any]) -> Any:
    options["dependencies"] = {"needed": dependency, **options.get("dependencies", {})}

    @get("/", **options)
    async def handler(self: Any, needed: NamedDependency[Any]) -> Any:
        return needed

    return handler


def in_async_dependency(outcome: Outcome, act: Step, **options: Any) -> Any:
    async def dependency(tasks: Tasks) -> Any:
        outcome.schedule(tasks)
        return act()

    return depending(Provide(dependency), options)


def in_sync_dependency(outcome: Outcome, act: Step, **options: Any) -> Any:
    def dependency(tasks: Tasks) -> Any:
        outcome.schedule(tasks)
        return act()

    return depending(Provide(dependency, sync_to_thread=True), options)


def in_sub_dependency(outcome: Outcome, act: Step, **options: Any) -> Any:
    async def inner() -> Any:
        outcome.schedule(current_tasks())
        return act()

    async def dependency(inner: NamedDependency[Any]) -> Any:
        return inner

    options["dependencies"] = {"inner": Provide(inner)}
    return depending(Provide(dependency), options)


def in_async_generator(outcome: Outcome, act: Step, **options: Any) -> Any:
    async def dependency(tasks: Tasks) -> AsyncGenerator[Any, None]:
        outcome.schedule(tasks)
        yield act()

    return depending(Provide(dependency), options)


def in_sync_generator(outcome: Outcome, act: Step, **options: Any) -> Any:
    def dependency(tasks: Tasks) -> Generator[Any, None, None]:
        outcome.schedule(tasks)
        yield act()

    return depending(Provide(dependency), options)


def in_async_exit(outcome: Outcome, act: Step, **options: Any) -> Any:
    async def dependency(tasks: Tasks) -> AsyncGenerator[Any, None]:
        outcome.schedule(tasks)
        yield None
        act()

    return depending(Provide(dependency), options)


def in_sync_exit(outcome: Outcome, act: Step, **options: Any) -> Any:
    def dependency(tasks: Tasks) -> Generator[Any, None, None]:
        outcome.schedule(tasks)
        yield None
        act()

    return depending(Provide(dependency), options)


PLACES: list[Place] = [
    in_async_handler,
    in_sync_handler,
    in_handler_in_thread,
    in_async_dependency,
    in_sync_dependency,
    in_sub_dependency,
    in_async_generator,
    in_sync_generator,
    in_async_exit,
    in_sync_exit,
]
each_place = pytest.mark.parametrize("place", PLACES)


def answer(_: AnyRequest, error: Exception) -> Response[str]:
    return Response("answered", status_code=200)


KEYS: list[Any] = [404, OwnError, ValidationException, Exception]


@in_pairs(
    each_place,
    each_kind,
    pytest.mark.parametrize("handled", [False, True]),
)
async def test_what_a_handler_or_a_dependency_raises(
    outcome: Outcome, place: Place, kind: Kind, *, handled: bool
) -> None:
    """1.6 Whatever raises, before or after a dependency's yield, the request fails."""
    handlers = dict.fromkeys(KEYS, answer) if handled else {}
    app = layered(partial(place, outcome, raising(kind)), "router", exception_handlers=handlers)
    assert await ask(app, outcome) == FAILURE


@each_place
async def test_a_request_that_succeeds(outcome: Outcome, place: Place) -> None:
    """1.6 Where nothing raises, in the same places, it is a success."""
    assert await ask(layered(partial(place, outcome, returns), "app"), outcome) == SUCCESS


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("fails", [False, True])
async def test_the_exit_of_a_dependency_knows_the_outcome(*, sync: bool, fails: bool) -> None:
    """1.5, 1.6 What it schedules runs, whether the handler has raised or not."""
    made: list[Task] = []

    def schedule(name: str) -> None:
        made.append(current_tasks().after_response.task(name=name).schedule(len, ""))

    @contextmanager
    def scheduling() -> Generator[None]:
        try:
            yield
        except LookupError:
            schedule("except")
            raise
        finally:
            schedule("finally")

    async def exits() -> AsyncGenerator[int, None]:
        with scheduling():
            yield 1

    def exits_in_a_thread() -> Generator[int, None, None]:
        with scheduling():
            yield 1

    @get("/", dependencies={"needed": Provide(exits_in_a_thread if sync else exits)})
    async def handler(needed: NamedDependency[int]) -> int:
        if fails:
            raise LookupError
        return needed

    app: Any = Litestar([handler], plugins=[TasksPlugin()], logging_config=None)
    async with serve(app) as server:
        await server.request()
        await finish(made)
    assert [task.name for task in made] == (["except", "finally"] if fails else ["finally"])
    assert {task.state for task in made} == {TaskState.SUCCEEDED}


@in_pairs(
    pytest.mark.parametrize("status", [200, 404, 500]),
    pytest.mark.parametrize("place", [in_async_handler, in_sync_handler, in_handler_in_thread]),
    pytest.mark.parametrize("handled", [False, True]),
)
async def test_an_error_that_is_returned(
    outcome: Outcome, status: int, place: Place, *, handled: bool
) -> None:
    """1.6 A response that the route returned is a success, whatever its status."""
    handlers = dict.fromkeys([*KEYS, 500], answer) if handled else {}
    make = partial(place, outcome, partial(Response, "said", status_code=status))
    app = layered(make, "app", exception_handlers=handlers)
    async with serve(app) as server:
        assert (await server.request()).body == b"said"
        assert await outcome.seen() == SUCCESS


async def by_group(run: Callable[[], Awaitable[Any]]) -> Any:
    got: list[Any] = []

    async def note() -> None:
        got.append(await run())

    async with anyio.create_task_group() as group:
        group.start_soon(note)
    return got[0]


async def by_gather(run: Callable[[], Awaitable[Any]]) -> Any:
    got, _ = await asyncio.gather(run(), asyncio.sleep(0))
    return got


async def by_wait_for(run: Callable[[], Awaitable[Any]]) -> Any:
    return await asyncio.wait_for(asyncio.ensure_future(run()), 5)


@pytest.mark.parametrize("how", [by_group, by_gather, by_wait_for])
@pytest.mark.parametrize("fails", [False, True])
async def test_a_route_in_a_task_of_its_own(
    outcome: Outcome, how: Any, anyio_backend_name: str, *, fails: bool
) -> None:
    """1.6 In whatever task the route runs, and asks."""
    if anyio_backend_name == "trio" and how is not by_group:
        pytest.skip("asyncio's own")

    async def run() -> Response[str]:
        outcome.schedule(current_tasks())
        if fails:
            raise NotFoundException
        return Response("missed", status_code=404)

    @get("/")
    async def handler() -> Response[str]:
        response: Response[str] = await how(run)
        return response

    assert await ask(with_tasks(handler), outcome) == (FAILURE if fails else SUCCESS)


@in_pairs(
    pytest.mark.parametrize("by", ["query", "dependency"]),
    pytest.mark.parametrize("handled", [False, True]),
    each_layer,
)
async def test_what_validation_refuses(
    outcome: Outcome, by: str, layer: str, *, handled: bool
) -> None:
    """1.6 A validation error fails the request, for tasks of who had asked before."""

    async def early(_: AnyRequest) -> None:
        outcome.schedule(current_tasks())

    async def needed(number: FromQuery[int]) -> int:
        return number

    def make(**options: Any) -> Any:
        if by == "query":

            @get("/", **options)
            async def handler(self: Any, number: FromQuery[int]) -> None: ...

            return handler

        @get("/", dependencies={"needed": Provide(needed)}, **options)
        async def depending(self: Any, needed: NamedDependency[int]) -> None: ...

        return depending

    handlers = {ValidationException: answer} if handled else {}
    app = layered(make, layer, before_request=early, exception_handlers=handlers)
    async with serve(app) as server:
        assert (await server.request("/?number=x")).status == (200 if handled else 400)
        assert await outcome.seen() == FAILURE


# Guards and hooks, of every layer.


@in_pairs(
    each_layer,
    pytest.mark.parametrize("kind", [http_exception, ValueError]),
    pytest.mark.parametrize("sync", [False, True]),
)
async def test_guards(outcome: Outcome, layer: str, kind: Kind, *, sync: bool) -> None:
    """1.6, 2.7 A guard has the tasks; one that refuses fails the request."""

    def guard(_: ASGIConnection[Any, Any, Any, Any], __: BaseRouteHandler) -> None:
        outcome.schedule(current_tasks())
        raise kind()

    async def async_guard(
        connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
    ) -> None:
        guard(connection, handler)

    make = partial(in_async_handler, Outcome(), raising(AssertionError))
    app = layered(make, layer, guards=[guard if sync else async_guard])
    assert await ask(app, outcome) == FAILURE


@in_pairs(
    each_layer_somehow,
    pytest.mark.parametrize("status", [200, 503]),
)
async def test_before_request_that_answers_by_itself(
    layer: str, status: int, middleware: list[Any]
) -> None:
    """1.6, 2.7 What it returns is a response like any other, and the phases come."""
    watch, outcome = Watch(), Outcome()

    async def respond(_: AnyRequest) -> Response[str]:
        watch.schedule(current_tasks())
        outcome.schedule(current_tasks())
        return Response("early", status_code=status)

    make = partial(in_async_handler, Outcome(), raising(AssertionError))
    app = layered(make, layer, before_request=respond, middleware=middleware)
    async with serve(app) as server:
        assert await watch.request(server) == IN_ORDER
        assert await outcome.seen() == SUCCESS


@in_pairs(
    each_layer,
    pytest.mark.parametrize("hook", ["before_request", "after_request"]),
    pytest.mark.parametrize("kind", [http_exception, ValueError]),
    pytest.mark.parametrize("handled", [False, True]),
)
async def test_hooks_that_fail_before_the_response(
    outcome: Outcome, layer: str, hook: str, kind: Kind, *, handled: bool
) -> None:
    """1.6 They are part of the route: what they raise fails both phases."""

    async def fail(_: Any) -> None:
        outcome.schedule(current_tasks())
        raise kind()

    make = partial(in_async_handler, Outcome(), returns)
    handlers = dict.fromkeys(KEYS, answer) if handled else {}
    app = layered(make, layer, exception_handlers=handlers, **{hook: fail})
    assert await ask(app, outcome) == FAILURE


@in_pairs(
    each_layer,
    pytest.mark.parametrize("kind", [http_exception, ValueError]),
    pytest.mark.parametrize("middleware", [[], [passes], [swallows]]),
)
async def test_after_response_hooks_that_fail(
    outcome: Outcome, layer: str, kind: Kind, middleware: list[Around]
) -> None:
    """1.6 The client has been answered: the last phase fails, whatever catches that."""

    async def fail(_: AnyRequest) -> None:
        raise kind()

    make = partial(in_async_handler, outcome, returns)
    around = [as_function(one) for one in middleware]
    app = layered(make, layer, after_response=fail, middleware=around)
    assert await ask(app, outcome) == ANSWERED_AND_FAILED


@pytest.mark.parametrize("message", ["http.response.start", "http.response.body"])
@pytest.mark.parametrize("kind", [ValueError, OSError])
async def test_before_send_hooks_that_fail(outcome: Outcome, message: str, kind: Kind) -> None:
    """1.6 What a hook of the application's own raises while messages pass is a failure."""

    async def fail(sent: Any, scope: Any) -> None:
        if sent["type"] == message:
            raise kind()

    make = partial(in_async_handler, outcome, returns)
    app = layered(make, "app", before_send=[fail])
    assert await ask(app, outcome) == ANSWERED_AND_FAILED


@in_pairs(
    pytest.mark.parametrize("place", [in_async_handler, in_sync_dependency, in_async_exit]),
    pytest.mark.parametrize("hook", ["passes", "asks", "raises"]),
    pytest.mark.parametrize("handled", [False, True]),
)
async def test_after_exception_hooks_of_the_users(
    outcome: Outcome, log: list[str], place: Place, hook: str, *, handled: bool
) -> None:
    """1.6, 2.7 They have the tasks, and neither they nor their errors replace what tells."""

    async def after(error: Exception, scope: Any) -> None:
        log.append(type(error).__name__)
        if hook == "asks":
            current_tasks().after_response.schedule(noting(log, "hook's"))
        if hook == "raises":
            raise LookupError

    handlers: Any = {OwnError: answer} if handled else {}
    make = partial(place, outcome, raising(OwnError))
    app = layered(make, "app", after_exception=[after], exception_handlers=handlers)
    async with serve(app) as server, drain():
        await server.request()
        assert await outcome.seen() == FAILURE
    assert log == ["OwnError", *(["hook's"] if hook == "asks" else [])]


# Whatever an exception handler answers with, of every layer.


async def chunks() -> AsyncIterator[bytes]:
    yield b"go"
    yield b"ne"


ANSWERS: Mapping[str, Callable[[Path], Response[Any]]] = {
    "text": lambda _: Response("gone", status_code=200),
    "file": lambda path: File(path, status_code=404),
    "stream": lambda _: Stream(chunks(), status_code=404),
    "redirect": lambda _: Redirect("/elsewhere"),
    "background": lambda _: Response(b"", background=BackgroundTask(len, "")),
}
FAULTS: Mapping[Any, Kind] = {
    404: http_exception,
    HTTPException: http_exception,
    OwnError: OwnError,
    ValidationException: invalid,
    Exception: ValueError,
    500: ValueError,
}


@in_pairs(
    each_layer_somehow,
    pytest.mark.parametrize("answered_by", ANSWERS),
    pytest.mark.parametrize("key", [404, OwnError, Exception]),
)
async def test_what_an_exception_handler_answers_with(  # noqa: PLR0913, PLR0917 - a case
    outcome: Outcome,
    page: Path,
    layer: str,
    middleware: list[Any],
    answered_by: str,
    key: Any,
) -> None:
    """1.6 Text, file, stream or redirect, of whatever layer, with middleware or without."""

    def handle(_: AnyRequest, error: Exception) -> Response[Any]:
        return ANSWERS[answered_by](page)

    make = partial(in_async_handler, outcome, raising(FAULTS[key]))
    app = layered(make, layer, exception_handlers={key: handle}, middleware=middleware)
    async with serve(app) as server:
        assert (await server.request()).status in {200, 302, 404}
        assert await outcome.seen() == FAILURE


@in_pairs(
    each_place,
    pytest.mark.parametrize("debug", [False, True]),
)
async def test_what_nobody_handles(outcome: Outcome, place: Place, *, debug: bool) -> None:
    """1.6 Litestar's own answer to an error is an answer to a failure, in debug mode too."""
    make = partial(place, outcome, raising(ValueError))
    assert await ask(layered(make, "app", debug=debug), outcome) == FAILURE


@pytest.mark.parametrize("middleware", [[], [passes]])
async def test_an_exception_handler_that_raises(outcome: Outcome, middleware: list[Around]) -> None:
    """1.6 What a handler raises itself changes nothing."""

    def handle(_: AnyRequest, error: Exception) -> Response[Any]:
        raise LookupError

    make = partial(in_async_handler, outcome, raising(OwnError))
    around = [as_function(one) for one in middleware]
    app = layered(make, "app", exception_handlers={OwnError: handle}, middleware=around)
    assert await ask(app, outcome) == FAILURE


# Exception handlers that schedule: it runs.


def scheduling(log: list[str]) -> Callable[[AnyRequest, Exception], Response[str]]:
    def handle(request: AnyRequest, error: Exception) -> Response[str]:
        tasks = current_tasks()
        assert tasks is get_scheduler(cast("Any", request.scope))
        tasks.after_response.schedule(noting(log, "after response"))
        tasks.after_route.schedule(noting(log, "after route"))
        tasks.schedule(noting(log, "immediate"))
        for batch in (tasks.after_route, tasks.after_response):
            batch.task(run_on="success").schedule(noting(log, "success"))
        return Response("sorry", status_code=500)

    return handle


async def assert_scheduled(app: Any, log: list[str], path: str = "/", method: str = "GET") -> None:
    async with serve(app) as server, drain():
        assert (await server.request(path, method=method)).body == b"sorry"
    assert sorted(log) == ["after response", "after route", "immediate"]
    assert log[-1] == "after response"


@in_pairs(
    each_layer_somehow,
    pytest.mark.parametrize("key", FAULTS),
)
async def test_what_an_exception_handler_schedules(
    log: list[str], layer: str, middleware: list[Any], key: Any
) -> None:
    """1.6, 2.7 In every layer's handler there are tasks, which run, unless they say "success"."""
    make = partial(in_async_handler, Outcome(), raising(FAULTS[key]))
    app = layered(make, layer, exception_handlers={key: scheduling(log)}, middleware=middleware)
    await assert_scheduled(app, log)


@pytest.mark.parametrize("key", [NotFoundException, 404, HTTPException, Exception])
@pytest.mark.parametrize("middleware", [[], [passes]])
async def test_a_handler_for_what_has_no_route(
    log: list[str], key: Any, middleware: list[Around]
) -> None:
    """1.6, 2.7 So in one of the application for paths that there are not."""
    around = [as_function(one) for one in middleware]
    make = partial(in_async_handler, Outcome(), returns)
    app = layered(make, "app", exception_handlers={key: scheduling(log)}, middleware=around)
    await assert_scheduled(app, log, "/nowhere")


@pytest.mark.parametrize("key", [MethodNotAllowedException, 405, HTTPException, Exception])
async def test_a_handler_for_what_has_no_such_method(log: list[str], key: Any) -> None:
    """1.6, 2.7 So in one of the application for methods that a path does not have."""
    make = partial(in_async_handler, Outcome(), returns)
    app = layered(make, "app", exception_handlers={key: scheduling(log)})
    await assert_scheduled(app, log, method="DELETE")


# What middleware does.


def refuses(outcome: Outcome, kind: Kind) -> Around:
    """A middleware that raises before the route."""

    async def refuse(app: Any, scope: Any, receive: Any, send: Any) -> None:
        outcome.schedule(current_tasks())
        raise kind()

    return refuse


def fails_afterwards(outcome: Outcome, kind: Kind) -> Around:
    """A middleware that raises after the route."""

    async def fail(app: Any, scope: Any, receive: Any, send: Any) -> None:
        outcome.schedule(current_tasks())
        await app(scope, receive, send)
        raise kind()

    return fail


@in_pairs(
    each_form_somewhere,
    pytest.mark.parametrize("around", [passes, *CATCH, swallows]),
    pytest.mark.parametrize("place", [in_async_handler, in_async_exit]),
)
async def test_failures_within_middleware(
    outcome: Outcome, form: Any, layer: str, around: Around, place: Place
) -> None:
    """1.6 A failure stays one, whatever middleware is around it."""
    make = partial(place, outcome, raising(OwnError))
    assert await ask(layered(make, layer, middleware=[form(around)]), outcome) == FAILURE


@in_pairs(
    each_form_somewhere,
    pytest.mark.parametrize("around", [passes, *CATCH, swallows]),
)
async def test_successes_within_middleware(
    outcome: Outcome, form: Any, layer: str, around: Around
) -> None:
    """1.6 A response that the route has returned is a success within the same middleware."""
    make = partial(in_async_handler, outcome, partial(Response, "", status_code=500))
    assert await ask(layered(make, layer, middleware=[form(around)]), outcome) == SUCCESS


@in_pairs(
    each_form_somewhere,
    pytest.mark.parametrize("kind", [NotAuthorizedException, ValueError]),
    pytest.mark.parametrize("handled", [False, True]),
)
async def test_middleware_that_refuses(
    outcome: Outcome, form: Any, layer: str, kind: Kind, *, handled: bool
) -> None:
    """1.6 What a middleware raises before the route fails the request, whoever answers that."""
    make = partial(in_async_handler, Outcome(), raising(AssertionError))
    handlers = dict.fromkeys(KEYS, answer) if handled else {}
    options: Any = {"exception_handlers": handlers, "middleware": [form(refuses(outcome, kind))]}
    app = layered(make, layer, **options)
    assert await ask(app, outcome) == FAILURE


async def test_authentication(outcome: Outcome) -> None:
    """1.6, 2.7 Litestar's own class for authentication has the tasks, and fails by raising."""

    class Refuses(AbstractAuthenticationMiddleware):
        async def authenticate_request(
            self, connection: ASGIConnection[Any, Any, Any, Any]
        ) -> AuthenticationResult:
            outcome.schedule(current_tasks())
            raise NotAuthorizedException

    make = partial(in_async_handler, Outcome(), raising(AssertionError))
    async with serve(layered(make, "app", middleware=[Refuses])) as server:
        assert (await server.request()).status == 401
        assert await outcome.seen() == FAILURE


@in_pairs(
    each_form_somewhere,
    pytest.mark.parametrize("commit", [commits_in_send, commits_at_the_end]),
)
async def test_a_commit_that_fails_in_a_middleware(
    outcome: Outcome, form: Any, layer: str, commit: Around
) -> None:
    """1.6 The route has returned, the request fails: only the last phase is of a failure."""
    make = partial(in_async_handler, outcome, returns)
    app = layered(make, layer, middleware=[form(commit)])
    assert await ask(app, outcome) == ANSWERED_AND_FAILED


@in_pairs(
    each_form_somewhere,
    pytest.mark.parametrize("status", [200, 503]),
)
async def test_middleware_that_answers_by_itself(form: Any, layer: str, status: int) -> None:
    """2.7 Of a request that no route sees the phases come as of any other."""
    watch, outcome = Watch(), Outcome()

    async def respond(app: Any, scope: Any, receive: Any, send: Any) -> None:
        assert current_tasks() is get_scheduler(scope)
        watch.schedule(current_tasks())
        outcome.schedule(current_tasks())
        await say(send, b"mine", status)

    make = partial(in_async_handler, Outcome(), raising(AssertionError))
    async with serve(layered(make, layer, middleware=[form(respond)])) as server:
        assert await watch.request(server) == IN_ORDER
        assert await outcome.seen() == SUCCESS


def logs(log: list[str]) -> Around:
    """A middleware that schedules before the route and after it."""

    async def write(app: Any, scope: Any, receive: Any, send: Any) -> None:
        schedule(log, "before")
        await app(scope, receive, send)
        schedule(log, "after")

    return write


def schedule(log: list[str], when: str) -> None:
    tasks = current_tasks().after_response
    tasks.schedule(noting(log, when))
    tasks.task(run_on="success").schedule(noting(log, f"{when}, success"))
    tasks.task(run_on="failure").schedule(noting(log, f"{when}, failure"))


@in_pairs(
    each_form_somewhere,
    pytest.mark.parametrize("kind", [None, *KINDS]),
)
async def test_middleware_that_logs(
    log: list[str], form: Any, layer: str, kind: Kind | None
) -> None:
    """1.6, 2.7 Before the route it does not know; after a failure what it schedules runs."""
    make = partial(in_async_handler, Outcome(), raising(kind) if kind else returns)
    async with serve(layered(make, layer, middleware=[form(logs(log))])) as server, drain():
        await server.request()
    if kind:
        assert log == ["before, failure", "after", "after, failure"]
    else:
        assert log == ["before", "before, success", "after", "after, success"]


@each_form
async def test_middleware_that_tries_again(log: list[str], form: Any) -> None:
    """1.6 Each attempt counts for its own tasks, and its phases begin when its route has ended."""
    attempts = iter([1, 2])

    async def attempt(tasks: TasksScheduler) -> str:
        number = next(attempts)
        for name, batch in (("route", tasks.after_route), ("response", tasks.after_response)):
            batch.schedule(noting(log, f"{number} {name}"))
            batch.task(run_on="failure").schedule(noting(log, f"{number} {name} failed"))
        await anyio.lowlevel.checkpoint()
        log.append(f"{number} ends")
        if number == 1:
            raise OwnError
        return "ok"

    @get("/", middleware=[form(tries_again)])
    async def handler(tasks: Tasks) -> str:
        return await attempt(tasks)

    async with serve(with_tasks(handler)) as server, drain():
        assert (await server.request()).body == b"ok"
    assert log.index("2 ends") < log.index("2 route")
    assert sorted(log) == [
        "1 ends",
        "1 response failed",
        "1 route failed",
        "2 ends",
        "2 response",
        "2 route",
    ]


# Timeouts.

each_limit = pytest.mark.parametrize("limit", LIMITS)


@pytest.fixture
def limited(limit: Any, anyio_backend_name: str) -> Limits:
    if anyio_backend_name == "trio" and limit in OF_ASYNCIO:
        pytest.skip("asyncio's own")
    return Limits()


def passing_by(outcome: Outcome, limits: Limits, where: str, **options: Any) -> Any:
    """Make a handler that is cut off in that place."""

    async def dependency() -> AsyncGenerator[None, None]:
        if where == "dependency":
            await limits.pass_by()
        yield
        if where == "exit":
            await limits.pass_by()

    async def body() -> AsyncIterator[bytes]:
        yield b"x"
        await limits.pass_by()

    @get(
        "/", dependencies={"needed": Provide(dependency)}, before_request=early(outcome), **options
    )
    async def handler(self: Any, needed: NamedDependency[None]) -> Any:
        if where == "handler":
            await limits.pass_by()
        return Stream(body()) if where == "body" else None

    return handler


def early(outcome: Outcome) -> Any:
    async def schedule(_: AnyRequest) -> None:
        outcome.schedule(current_tasks())

    return schedule


@in_pairs(
    each_limit,
    pytest.mark.parametrize(
        ("form", "layer"),
        [(as_function, "app"), (as_asgi_middleware, "router"), (as_function, "handler")],
    ),
    pytest.mark.parametrize("where", ["handler", "dependency", "exit", "body"]),
    of_asyncio=OF_ASYNCIO,
)
async def test_a_timeout_in_a_middleware(  # noqa: PLR0913, PLR0917 - a case
    outcome: Outcome, limited: Limits, limit: Any, layer: str, form: Any, where: str
) -> None:
    """1.6 A route, a dependency, a body that is cut off has not ended."""
    make = partial(passing_by, outcome, limited, where)
    app = layered(make, layer, middleware=[form(limit(limited))])
    expected = ANSWERED_AND_FAILED if where == "body" else FAILURE
    assert await ask(app, outcome) == expected


@each_limit
async def test_a_timeout_around_all_of_the_application(
    outcome: Outcome, limited: Limits, limit: Any
) -> None:
    """1.6 So by what is around the application, which is no middleware of Litestar's."""
    app = layered(partial(passing_by, outcome, limited, "handler"), "app")
    around = limit(limited)

    async def limiting(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
        else:
            await around(app, scope, receive, send)

    async with serve(limiting) as server:
        assert (await server.request()).status == 504
        assert await outcome.seen() == FAILURE


# Bodies, and Litestar's own background tasks.


@in_pairs(
    pytest.mark.parametrize("middleware", [[], [passes], [swallows]]),
    pytest.mark.parametrize("by", ["one", "several", "sync"]),
)
async def test_background_tasks_that_fail(
    outcome: Outcome, middleware: list[Around], by: str
) -> None:
    """1.6 When Litestar's own background task fails, so does the request, after its response."""

    async def fail() -> None:
        raise ValueError

    def fail_in_thread() -> None:
        raise ValueError

    task = BackgroundTask(fail_in_thread if by == "sync" else fail)
    background = BackgroundTasks([BackgroundTask(len, ""), task]) if by == "several" else task
    make = partial(in_async_handler, outcome, partial(Response, "ok", background=background))
    around = [as_function(one) for one in middleware]
    assert await ask(layered(make, "app", middleware=around), outcome) == ANSWERED_AND_FAILED


@in_pairs(
    pytest.mark.parametrize("middleware", [[], [passes], [swallows]]),
    pytest.mark.parametrize("kind", [http_exception, ValueError]),
)
async def test_a_stream_that_breaks(outcome: Outcome, middleware: list[Around], kind: Kind) -> None:
    """1.6 What is raised while a body streams comes after the route, before the end."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise kind()

    make = partial(in_async_handler, outcome, lambda: Stream(broken()))
    around = [as_function(one) for one in middleware]
    assert await ask(layered(make, "app", middleware=around), outcome) == ANSWERED_AND_FAILED


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("place", [in_async_handler, in_sync_handler])
async def test_a_dependency_that_swallows(outcome: Outcome, place: Place, *, sync: bool) -> None:
    """1.6 A dependency that lets nothing out makes no success of what was raised."""

    async def swallow() -> AsyncGenerator[None, None]:
        with suppress(Exception):
            yield

    def swallow_in_thread() -> Generator[None, None, None]:
        with suppress(Exception):
            yield

    @get("/", dependencies={"session": Provide(swallow_in_thread if sync else swallow)})
    async def handler(tasks: Tasks, session: NamedDependency[None]) -> None:
        outcome.schedule(tasks)
        raise OwnError

    assert await ask(with_tasks(handler), outcome) == FAILURE


# The client has gone.


def streamed() -> Any:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x"

    return Stream(body())


@in_pairs(
    pytest.mark.parametrize("response", [returns, streamed]),
    pytest.mark.parametrize("first", range(4)),
    pytest.mark.parametrize("layers", [0, 1, 3]),
)
async def test_a_client_that_goes_away(
    outcome: Outcome, response: Step, first: int, layers: int
) -> None:
    """1.7 What `send` raises is no failure, however much is between."""
    make = partial(in_async_handler, outcome, response)
    app = layered(make, "app", middleware=[as_asgi_middleware(passes)] * layers)
    assert await ask(app, outcome, fails_from=first) == SUCCESS


@each_form
@pytest.mark.parametrize("first", [0, 1, 2])
async def test_a_commit_that_fails_when_the_client_has_gone(
    outcome: Outcome, form: Any, first: int
) -> None:
    """1.6 One error of `send` excuses no other error."""
    make = partial(in_async_handler, outcome, streamed)
    app = layered(make, "app", middleware=[form(commits_whatever_happened)])
    assert await ask(app, outcome, fails_from=first) == ANSWERED_AND_FAILED


@pytest.mark.parametrize("reads", ["body", "json", "stream"])
async def test_an_upload_that_is_broken_off(outcome: Outcome, reads: str) -> None:
    """1.6 A route that has not returned because its client left has failed."""

    @get("/")
    async def handler(tasks: Tasks, request: AnyRequest) -> None:
        outcome.schedule(tasks)
        if reads == "stream":
            async for _ in request.stream():
                pass
        else:
            await getattr(request, reads)()

    assert await ask(breaking_off(with_tasks(handler)), outcome) == FAILURE


# WebSockets.


async def hears_and_catches(socket: WebSocket) -> None:
    with suppress(WebSocketDisconnect):
        await socket.receive_text()


async def disconnects_itself(socket: WebSocket) -> None:
    raise WebSocketDisconnect(detail="gone")


async def refuses_it(socket: WebSocket) -> None:
    raise WebSocketException(detail="no", code=4008)


async def refuses_by_http(socket: WebSocket) -> None:
    raise PermissionDeniedException


ENDINGS: Mapping[Any, list[str]] = {
    returns_at_once: SUCCESS,
    closes: SUCCESS,
    hears: SUCCESS,
    hears_and_catches: SUCCESS,
    says: SUCCESS,
    disconnects_itself: SUCCESS,
    hears_in_a_group: SUCCESS,
    says_in_a_group: SUCCESS,
    hears_in_groups: SUCCESS,
    refuses_it: FAILURE,
    refuses_by_http: FAILURE,
    crashes: FAILURE,
    crashes_in_a_group: FAILURE,
    crashes_when_left: FAILURE,
    crashes_beside: FAILURE,
}


@in_pairs(
    pytest.mark.parametrize("ending", ENDINGS),
    pytest.mark.parametrize(
        ("asks", "middleware"),
        [("tasks", []), ("current_tasks", [as_function(passes)]), ("tasks", [as_function(passes)])],
    ),
)
async def test_how_websockets_end(
    outcome: Outcome, ending: Any, asks: str, middleware: list[Any]
) -> None:
    """1.6, 1.7, 1.8 By what it raises, alone or in groups, unless that says only "gone"."""

    def make(**options: Any) -> Any:
        if asks == "tasks":

            @websocket("/", **options)
            async def handler(self: Any, socket: WebSocket, tasks: Tasks) -> None:
                outcome.schedule(tasks)
                await socket.accept()
                await ending(socket)

            return handler

        @websocket("/", **options)
        async def asking(self: Any, socket: WebSocket) -> None:
            outcome.schedule(current_tasks())
            await socket.accept()
            await ending(socket)

        return asking

    app = layered(make, "router", middleware=middleware)
    assert await ask_by_websocket(losing(app), outcome) == ENDINGS[ending]


@pytest.mark.parametrize("where", ["guard", "dependency", "exit", "validation"])
async def test_a_websocket_that_fails_before_or_after_its_handler(
    outcome: Outcome, where: str
) -> None:
    """1.6, 1.8 Guards, dependencies, their exits, and validation fail it as they do a request."""

    async def guard(_: ASGIConnection[Any, Any, Any, Any], __: BaseRouteHandler) -> None:
        outcome.schedule(current_tasks())
        if where == "guard":
            raise PermissionDeniedException

    async def dependency() -> AsyncGenerator[None, None]:
        if where == "dependency":
            raise ValueError
        yield
        raise CommitError

    async def number() -> int:
        return cast("int", "four") if where == "validation" else 4

    provided = {"needed": Provide(dependency), "number": Provide(number)}

    @websocket("/", guards=[guard], dependencies=provided)
    async def handler(
        socket: WebSocket, needed: NamedDependency[None], number: NamedDependency[int]
    ) -> None:
        await socket.accept()

    assert await ask_by_websocket(with_tasks(handler), outcome) == FAILURE


# Mounted applications.


def mounting(inner: Any) -> Any:
    @asgi("/in", is_mount=True, copy_scope=True)
    async def mount(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)

    return mount


@in_pairs(
    each_kind,
    pytest.mark.parametrize("handled", [False, True]),
    pytest.mark.parametrize("place", [in_async_handler, in_handler_in_thread, in_async_exit]),
)
async def test_mounted_applications_of_litestar(
    outcome: Outcome, kind: Kind, place: Place, *, handled: bool
) -> None:
    """1.6, 1.8 One with the plugin, too, tells what its own exception handlers answer."""
    handlers = dict.fromkeys(KEYS, answer) if handled else {}
    make = partial(place, outcome, raising(kind))
    inner = layered(make, "app", exception_handlers=handlers)
    assert await ask(with_tasks(mounting(inner)), outcome, "/in/") == FAILURE


@pytest.mark.parametrize("status", [200, 404, 500])
async def test_mounted_applications_that_succeed(outcome: Outcome, status: int) -> None:
    """1.6, 1.8 What a mounted application's route returns is a success."""
    make = partial(in_async_handler, outcome, partial(Response, "", status_code=status))
    assert await ask(with_tasks(mounting(layered(make, "app"))), outcome, "/in/") == SUCCESS


@each_limit
async def test_a_timeout_of_a_mounted_application(
    outcome: Outcome, limited: Limits, limit: Any
) -> None:
    """1.6, 1.8 One with the plugin, too, tells what its own middleware cuts off."""
    make = partial(passing_by, outcome, limited, "handler")
    inner = layered(make, "app", middleware=[as_function(limit(limited))])
    assert await ask(with_tasks(mounting(inner)), outcome, "/in/") == FAILURE


@in_pairs(
    pytest.mark.parametrize("has_tasks", [False, True]),
    pytest.mark.parametrize("fails", [False, True]),
    pytest.mark.parametrize("middleware", [[], [passes], [catches]]),
)
async def test_mounted_applications_of_bare_asgi(
    outcome: Outcome, middleware: list[Around], *, has_tasks: bool, fails: bool
) -> None:
    """1.6, 1.8 What leaves a bare application is a failure, whoever answers it."""

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        outcome.schedule(current_tasks())
        assert current_tasks() is get_scheduler(scope)
        if fails:
            raise ValueError
        await say(send, b"ok")

    inner: Any = TasksMiddleware(bare, config=TaskConfig(shield=True)) if has_tasks else bare
    around = [as_function(one) for one in middleware]
    app = with_tasks(mounting(inner), middleware=around)
    assert await ask(app, outcome, "/in/") == (FAILURE if fails else SUCCESS)
    assert {task.config.shield for task in outcome.made} == {True if has_tasks else None}


async def test_a_mounted_application_that_answers_what_it_raises(outcome: Outcome) -> None:
    """1.6 Out of Litestar's sight somebody has to say it, by `fail`."""

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        outcome.schedule(current_tasks())
        try:
            raising(ValueError)()
        except ValueError:
            current_tasks().fail()
            await say(send, b"sorry", 500)

    assert await ask(with_tasks(mounting(bare)), outcome, "/in/") == FAILURE


@each_form
async def test_a_mounted_middleware_that_asks_first(
    outcome: Outcome, log: list[str], form: Any
) -> None:
    """1.6 Who asks for the tasks first, and where, makes no difference."""

    async def audit(app: Any, scope: Any, receive: Any, send: Any) -> None:
        current_tasks().after_response.task(run_on="always").schedule(noting(log, "audit"))
        current_tasks().after_response.schedule(noting(log, "welcome"))
        await app(scope, receive, send)

    make = partial(in_async_handler, outcome, raising(http_exception))
    inner = layered(make, "app", middleware=[form(audit)])
    assert await ask(with_tasks(mounting(inner)), outcome, "/in/") == FAILURE
    assert log == ["audit"]


# The test client.


@in_pairs(
    pytest.mark.parametrize("raises", [True, False]),
    pytest.mark.parametrize("debug", [True, False]),
    pytest.mark.parametrize("handled", [False, True]),
    pytest.mark.parametrize("kind", [*KINDS, None]),
    loops=False,
)
def test_test_clients(  # noqa: PLR0913, PLR0917 - a case
    outcome: Outcome,
    raises: bool,  # noqa: FBT001
    debug: bool,  # noqa: FBT001
    handled: bool,  # noqa: FBT001
    kind: Kind | None,
    anyio_backend_name: Literal["asyncio", "trio"],
) -> None:
    """1.6 Whether a test client raises what a server would log changes nothing."""
    act = raising(kind) if kind else partial(Response, "", status_code=500)
    make = partial(in_async_handler, outcome, act)
    handlers = dict.fromkeys(KEYS, answer) if handled else {}
    app = layered(make, "app", debug=debug, exception_handlers=handlers)
    client = TestClient(app, raise_server_exceptions=raises, backend=anyio_backend_name)
    with client, drain():
        client.get("/")
    ran = [task.name for task in outcome.made if str(task.state) == "succeeded"]
    assert ran == (FAILURE if kind else SUCCESS)
