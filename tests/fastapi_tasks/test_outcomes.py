"""Whether a request of FastAPI has failed (1.6): however it fails, whatever answers, whoever asks.

What Starlette does by itself is tested in tests/starlette_tasks/test_outcomes.py; here it meets
FastAPI's dependencies, its validation, its handlers and its ways to put middleware in.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import pytest
import starlette_tasks
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Depends,
    FastAPI,
    HTTPException,
    Request,
    WebSocket,
)
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from fastapi_tasks import Tasks, TasksScheduler, current_tasks, get_tasks
from fastapi_tasks.testing import drain
from starlette.background import BackgroundTask
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import Receive, Scope, Send

from tests.asgi.pairs import in_pairs
from tests.asgi.watching import FAILURE, SUCCESS, Outcome
from tests.conformance.driver import serve
from tests.fastapi_tasks.faults import (
    AT_EXITS,
    IN_DEPENDENCIES,
    IN_ROUTES,
    KINDS,
    REFUSALS,
    Add,
    DependencyScope,
    Kind,
    OwnError,
    Place,
    Plan,
    Step,
    SwallowsInDispatch,
    add_route,
    add_websocket,
    adding,
    answer,
    ask,
    ask_by_websocket,
    by_annotation,
    by_connection,
    by_current_tasks_in_thread,
    by_depends,
    by_query,
    each_exit,
    each_kind,
    each_order,
    each_place,
    each_plan,
    http_exception,
    in_async_dependency,
    in_async_route,
    invalid,
    keys,
    noting,
    plain,
    put_in,
    raising,
    returns,
    streamed,
    with_tasks,
)
from tests.starlette_tasks.test_outcomes import (
    ANSWERED_AND_FAILED,
    ANSWERS,
    Base,
    CommitError,
    Plain,
    by_gather,
    by_task_group,
    by_wait_for,
    directly,
)

pytestmark = pytest.mark.anyio


@in_pairs(
    each_plan,
    each_place,
)
async def test_what_a_route_or_a_dependency_raises(
    outcome: Outcome, place: Place, plan: Plan
) -> None:
    """1.6 Whatever raises, and however the tasks were asked for, the request fails."""
    app = with_tasks()
    add_route(app, place, plan(outcome), raising(http_exception))
    assert await ask(app, outcome) == FAILURE


@in_pairs(
    each_kind,
    each_place,
    pytest.mark.parametrize("handled", [False, True]),
)
async def test_what_is_raised_of_any_kind(
    outcome: Outcome, place: Place, kind: Kind, *, handled: bool
) -> None:
    """1.6 Handled by the application or by nobody, it is a failure."""
    app = with_tasks(exception_handlers=dict.fromkeys(keys(), answer) if handled else {})
    add_route(app, place, by_annotation(outcome), raising(kind))
    assert await ask(app, outcome) == FAILURE


@in_pairs(
    each_plan,
    pytest.mark.parametrize("place", [*IN_ROUTES, *IN_DEPENDENCIES, *AT_EXITS]),
)
async def test_a_request_that_succeeds(outcome: Outcome, place: Place, plan: Plan) -> None:
    """1.6 Where nothing raises, in the same places, it is a success."""
    app = with_tasks(exception_handlers=dict.fromkeys(keys(), answer))
    add_route(app, place, plan(outcome), returns)
    assert await ask(app, outcome) == SUCCESS


# Validation.


def by_path(item: int) -> None: ...


async def by_body(body: dict[str, int]) -> None: ...


async def by_sub_dependency(_: Annotated[None, Depends(by_query)]) -> None: ...


VALIDATED = [by_query, by_path, by_body, by_sub_dependency]


@in_pairs(
    pytest.mark.parametrize("plan", [by_annotation, by_depends, by_current_tasks_in_thread]),
    pytest.mark.parametrize("parameters", VALIDATED),
    pytest.mark.parametrize("handled", [False, True]),
)
async def test_what_validation_refuses(
    outcome: Outcome, plan: Plan, parameters: Any, *, handled: bool
) -> None:
    """1.6 A validation error fails the request, also for tasks of a dependency that had run."""
    app = with_tasks()
    if handled:
        app.add_exception_handler(RequestValidationError, answer)

    @app.get("/{item}", dependencies=[Depends(plan(outcome)), Depends(parameters)])
    async def route() -> None:
        raise AssertionError

    async with serve(app) as server:
        exchange = await server.request("/x")
        assert exchange.status == (200 if handled else 422)
        assert len(outcome.made) == 4
        assert await outcome.seen() == FAILURE


@pytest.mark.parametrize("handled", [False, True])
@pytest.mark.parametrize("plan", [by_annotation, by_depends, by_current_tasks_in_thread])
async def test_what_validation_refuses_of_a_websocket(
    outcome: Outcome, plan: Plan, *, handled: bool
) -> None:
    """1.6, 1.8 So does one of a WebSocket."""

    async def close(websocket: WebSocket, error: Exception) -> None:
        await websocket.close(4000)

    app = with_tasks()
    if handled:
        app.add_exception_handler(WebSocketRequestValidationError, cast("Any", close))

    @app.websocket("/", dependencies=[Depends(plan(outcome)), Depends(by_query)])
    async def route() -> None:
        raise AssertionError

    async with serve(app) as server:
        async with server.websocket() as client:
            assert (await client.receive())["code"] == (4000 if handled else 1008)
        assert len(outcome.made) == 4
        assert await outcome.seen() == FAILURE


# A route class of the user's own, which runs its route in whatever task.


async def by_create_task(handler: Any, request: Request) -> Response:
    response: Response = await asyncio.create_task(handler(request))
    return response


async def by_group_of_asyncio(handler: Any, request: Request) -> Response:
    async with asyncio.TaskGroup() as group:
        task: asyncio.Task[Response] = group.create_task(handler(request))
    return task.result()


ASYNCIOS = [by_gather, by_wait_for, by_create_task, by_group_of_asyncio]


each_way_to_run = pytest.mark.parametrize("how", [directly, by_task_group, *ASYNCIOS])


@pytest.fixture
def possible(how: Any, anyio_backend_name: str) -> None:
    if anyio_backend_name == "trio" and how in ASYNCIOS:
        pytest.skip("asyncio's own")


def running_by(how: Any) -> type[APIRoute]:
    class Runs(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Any]:
            return partial(how, super().get_route_handler())

    return Runs


def routed(outcome: Outcome, how: Any, plan: Plan, place: Place, act: Step) -> FastAPI:
    """Return an application with a route that is run by that, in a router of its own."""
    app, router = with_tasks(), APIRouter(route_class=running_by(how))
    add_route(router, place, plan(outcome), act)
    app.include_router(router)
    return app


@pytest.mark.usefixtures("possible")
@in_pairs(
    each_way_to_run,
    pytest.mark.parametrize("plan", [by_annotation, by_connection, by_current_tasks_in_thread]),
    pytest.mark.parametrize("status", [200, 404, 500]),
    pytest.mark.parametrize("place", IN_ROUTES),
    of_asyncio=ASYNCIOS,
)
async def test_a_route_class_whose_route_returns(
    outcome: Outcome, how: Any, plan: Plan, status: int, place: Place
) -> None:
    """1.6 A returned response is success, whatever its status, in whatever task the route runs."""
    app = routed(outcome, how, plan, place, lambda: JSONResponse({}, status))
    assert await ask(app, outcome) == SUCCESS


@pytest.mark.usefixtures("possible")
@in_pairs(
    each_way_to_run,
    each_place,
    pytest.mark.parametrize("kind", [http_exception, ValueError]),
    of_asyncio=ASYNCIOS,
)
async def test_a_route_class_whose_route_raises(
    outcome: Outcome, how: Any, place: Place, kind: Kind
) -> None:
    """1.6 What is raised is a failure, in whatever task the route runs."""
    app = routed(outcome, how, by_annotation, place, raising(kind))
    assert await ask(app, outcome) == FAILURE


@pytest.mark.usefixtures("possible")
@each_way_to_run
@pytest.mark.parametrize("asks", ["tasks", "current_tasks"])
async def test_a_route_that_asks_in_a_task_of_its_own(
    outcome: Outcome, how: Any, asks: str
) -> None:
    """1.6 So where the route itself makes the task, and only that one asks."""
    app = with_tasks()

    @app.get("/")
    async def route(request: Request) -> Response:
        async def look_up(request: Request) -> Response:
            tasks = starlette_tasks.get_tasks(request) if asks == "tasks" else current_tasks()
            outcome.schedule(tasks)
            return JSONResponse({}, 404)

        response: Response = await how(look_up, request)
        return response

    assert await ask(app, outcome) == SUCCESS


async def test_a_route_class_that_translates(outcome: Outcome) -> None:
    """1.6 A route class that raises another exception, as FastAPI's documentation has it."""

    class Translates(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Any]:
            handler = super().get_route_handler()

            async def translate(request: Request) -> Response:
                try:
                    return await handler(request)
                except RequestValidationError as error:
                    raise HTTPException(422, "no") from error

            return translate

    app = with_tasks()
    app.router.route_class = Translates
    app.get("/", dependencies=[Depends(by_annotation(outcome)), Depends(by_query)])(returns)
    assert await ask(app, outcome) == FAILURE


# Whatever an exception handler answers with.


def build_own(fault: Callable[[FastAPI | APIRouter], None], handlers: Any) -> tuple[FastAPI, str]:
    app = with_tasks(exception_handlers=handlers)
    fault(app)
    return app, "/"


def build_included(
    fault: Callable[[FastAPI | APIRouter], None], handlers: Any
) -> tuple[FastAPI, str]:
    app, router = with_tasks(), APIRouter()
    fault(router)
    outer = APIRouter()
    outer.include_router(router, prefix="/inner")
    app.include_router(outer, prefix="/outer")
    for key, handler in handlers.items():
        app.exception_handler(key)(handler)
    return app, "/outer/inner/"


def build_mounted(
    fault: Callable[[FastAPI | APIRouter], None], handlers: Any
) -> tuple[FastAPI, str]:
    app, inner = with_tasks(), FastAPI(exception_handlers=handlers)
    fault(inner)
    app.mount("/in", inner)
    return app, "/in/"


def build_mounted_with_tasks(
    fault: Callable[[FastAPI | APIRouter], None], handlers: Any
) -> tuple[FastAPI, str]:
    app, inner = with_tasks(), with_tasks(exception_handlers=handlers)
    fault(inner)
    app.mount("/in", inner)
    return app, "/in/"


def build_with_middleware(
    fault: Callable[[FastAPI | APIRouter], None], handlers: Any
) -> tuple[FastAPI, str]:
    app, path = build_own(fault, handlers)
    app.add_middleware(Base)
    app.add_middleware(GZipMiddleware)
    return app, path


BUILDS = [
    build_own,
    build_included,
    build_mounted,
    build_mounted_with_tasks,
    build_with_middleware,
]


FAULTS: Mapping[Any, Kind] = {
    404: http_exception,
    OwnError: OwnError,
    RequestValidationError: invalid,
    Exception: ValueError,
}


@in_pairs(
    pytest.mark.parametrize("build", BUILDS),
    pytest.mark.parametrize("answered_by", ANSWERS),
    pytest.mark.parametrize("key", FAULTS),
    pytest.mark.parametrize("handler", ["async", "sync"]),
)
async def test_what_a_handler_answers_with(  # noqa: PLR0913, PLR0917 - a case
    outcome: Outcome, page: Path, build: Any, answered_by: str, key: Any, handler: str
) -> None:
    """1.6 Text, file, stream or redirect, by a handler of whatever application, async or sync."""

    async def handle(request: Request, error: Exception) -> Response:
        return ANSWERS[answered_by](page)

    def handle_in_thread(request: Request, error: Exception) -> Response:
        return ANSWERS[answered_by](page)

    def fault(app: FastAPI | APIRouter) -> None:
        add_route(app, in_async_route, by_annotation(outcome), raising(FAULTS[key]))

    app, path = build(fault, {key: handle if handler == "async" else handle_in_thread})
    async with serve(app) as server:
        assert (await server.request(path)).status in {200, 307, 404}
        assert await outcome.seen() == FAILURE


@each_order
@pytest.mark.parametrize("by", ["decorator", "method", "argument"])
async def test_how_a_handler_was_added(outcome: Outcome, order: str, by: str) -> None:
    """1.6 Before the tasks or after, in each of FastAPI's ways."""

    def add(app: FastAPI) -> None:
        if by == "decorator":
            app.exception_handler(OwnError)(answer)
        if by == "method":
            app.add_exception_handler(OwnError, answer)

    app = put_in(add, order, exception_handlers={OwnError: answer} if by == "argument" else {})
    add_route(app, in_async_route, by_annotation(outcome), raising(OwnError))
    async with serve(app) as server:
        assert (await server.request()).body == b"answered"
        assert await outcome.seen() == FAILURE


class Handler:
    """A handler that is an object, or has a method for one."""

    async def __call__(self, request: Request, error: Exception) -> Response:
        return PlainTextResponse("answered")

    def handle(self, request: Request, error: Exception) -> Response:
        return PlainTextResponse("answered")

    async def handle_async(self, mark: str, request: Request, error: Exception) -> Response:
        return PlainTextResponse("answered")


@pytest.mark.parametrize(
    "handler", [Handler(), Handler().handle, partial(Handler().handle_async, "mark")]
)
@pytest.mark.parametrize("key", [OwnError, Exception])
async def test_handlers_that_are_no_plain_functions(
    outcome: Outcome, handler: Any, key: Any
) -> None:
    """1.6 Objects, methods and partials answer as they would without tasks."""
    app = with_tasks(exception_handlers={key: handler})
    add_route(app, in_async_route, by_annotation(outcome), raising(OwnError))
    async with serve(app) as server:
        assert (await server.request()).body == b"answered"
        assert await outcome.seen() == FAILURE


# Handlers that schedule: it runs.


@in_pairs(
    pytest.mark.parametrize("build", BUILDS),
    pytest.mark.parametrize("refusal", REFUSALS),
    pytest.mark.parametrize("handler", ["async", "sync"]),
)
async def test_what_a_handler_schedules(
    log: list[str], build: Any, refusal: str, handler: str
) -> None:
    """1.6, 2.7 Every handler has the tasks, and its own run, unless they say "success"."""

    def handle_in_thread(request: Request, error: Exception) -> Response:
        tasks = current_tasks()
        seen.append(tasks is starlette_tasks.get_tasks(request))
        tasks.after_response.schedule(noting(log, "after response"))
        tasks.after_route.schedule(noting(log, "after route"))
        tasks.schedule(noting(log, "immediate"))
        for batch in (tasks.after_route, tasks.after_response):
            batch.task(run_on="success").schedule(noting(log, "success"))
        return PlainTextResponse("sorry", 500)

    async def handle(request: Request, error: Exception) -> Response:
        return handle_in_thread(request, error)

    key, method, fault = REFUSALS[refusal]
    seen: list[bool] = []
    app, path = build(fault, {key: handle if handler == "async" else handle_in_thread})
    async with serve(app) as server, drain():
        assert (await server.request(path, method=method)).body == b"sorry"
    assert seen == [True]
    assert sorted(log) == ["after response", "after route", "immediate"]
    assert log[-1] == "after response"


async def test_a_handler_of_a_websocket_schedules(log: list[str]) -> None:
    """1.6, 1.8 So has a handler that closes a WebSocket."""

    async def handle(websocket: WebSocket, error: Exception) -> None:
        tasks = current_tasks()
        tasks.after_route.schedule(noting(log, "after route"))
        tasks.after_response.schedule(noting(log, "after response"))
        tasks.after_response.task(run_on="success").schedule(noting(log, "success"))
        await websocket.close(4000)

    app = with_tasks(exception_handlers={OwnError: handle})
    add_websocket(app, in_async_route, returns, raising(OwnError))
    async with serve(app) as server, drain(), server.websocket() as client:
        await client.receive()
        assert (await client.receive())["code"] == 4000
    assert log == ["after route", "after response"]


# Commits that fail.


@in_pairs(
    pytest.mark.parametrize("scope", ["function", "request"]),
    each_exit,
    each_kind,
    pytest.mark.parametrize("response", [plain, streamed]),
    pytest.mark.parametrize("handled", [False, True]),
)
async def test_a_commit_that_fails_at_a_dependencys_exit(  # noqa: PLR0913 - a case
    outcome: Outcome,
    scope: DependencyScope,
    place: Place,
    kind: Kind,
    response: Callable[[], Response],
    *,
    handled: bool,
) -> None:
    """1.6 Before the response it fails both phases, after it the last; whatever it raises."""
    app = with_tasks(exception_handlers=dict.fromkeys(keys(), answer) if handled else {})

    @app.get("/", dependencies=[Depends(place(by_annotation(outcome), raising(kind)), scope=scope)])
    async def route() -> Response:
        return response()

    expected = FAILURE if scope == "function" else ANSWERED_AND_FAILED
    assert await ask(app, outcome) == expected


@pytest.mark.parametrize("scope", ["function", "request"])
@each_exit
async def test_a_commit_that_fails_for_a_websocket(
    outcome: Outcome, scope: DependencyScope, place: Place
) -> None:
    """1.6, 1.8 A WebSocket's route has ended once its dependencies are closed, of either scope."""
    app = with_tasks()
    add_websocket(app, place, by_annotation(outcome), raising(CommitError), scope=scope)
    assert await ask_by_websocket(app, outcome) == FAILURE


@in_pairs(
    pytest.mark.parametrize("scope", ["function", "request"]),
    pytest.mark.parametrize("sync", [False, True]),
    pytest.mark.parametrize("place", [*IN_ROUTES, in_async_dependency]),
)
async def test_a_dependency_that_swallows(
    outcome: Outcome, scope: DependencyScope, place: Place, *, sync: bool
) -> None:
    """1.6 A dependency that lets nothing out makes no success of what was raised."""

    async def swallow() -> AsyncGenerator[None]:
        with suppress(Exception):
            yield

    def swallow_in_thread() -> Generator[None]:
        with suppress(Exception):
            yield

    plan = by_annotation(outcome)

    async def planned(
        _: Annotated[None, Depends(swallow_in_thread if sync else swallow, scope=scope)],
        __: Annotated[None, Depends(plan)],
    ) -> None: ...

    app = with_tasks()
    add_route(app, place, planned, raising(OwnError), scope="function")
    assert await ask(app, outcome) == FAILURE


@pytest.mark.parametrize("scope", ["function", "request"])
async def test_a_dependency_that_passes_on(outcome: Outcome, scope: DependencyScope) -> None:
    """1.6 One that rolls back and raises again passes the failure on; the handler answers it."""

    async def session() -> AsyncGenerator[None]:
        try:
            yield
        except OwnError:
            rolled_back.append(1)
            raise

    rolled_back: list[int] = []
    app = with_tasks(exception_handlers={OwnError: answer})

    @app.get("/", dependencies=[Depends(session, scope=scope), Depends(by_annotation(outcome))])
    async def route() -> None:
        raise OwnError

    assert await ask(app, outcome) == FAILURE
    assert rolled_back == [1]


# The framework's own background tasks, and streams.


class Swallows(Plain):
    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(Exception):
            await self.app(scope, receive, send)


AROUND: Mapping[str, Add] = {
    "nothing": adding(),
    "base": adding(Base, Base, Base),
    "gzip": adding(GZipMiddleware),
    "swallows": adding(Swallows),
    "swallows_in_dispatch": adding(SwallowsInDispatch),
}


each_surrounding = pytest.mark.parametrize("around", AROUND)


@in_pairs(
    each_surrounding,
    pytest.mark.parametrize("by", ["parameter", "response", "dependency"]),
    pytest.mark.parametrize("sync", [False, True]),
)
async def test_background_tasks_that_fail(
    outcome: Outcome, around: str, by: str, *, sync: bool
) -> None:
    """1.6 When FastAPI's own background tasks fail, so does the request, after its response."""

    async def fail() -> None:
        raise ValueError

    def fail_in_thread() -> None:
        raise ValueError

    work = fail_in_thread if sync else fail

    def background(tasks: BackgroundTasks) -> None:
        if by == "dependency":
            tasks.add_task(work)

    app = put_in(AROUND[around], "tasks_first")

    @app.get("/", dependencies=[Depends(background), Depends(by_annotation(outcome))])
    async def route(tasks: BackgroundTasks) -> Any:
        if by == "parameter":
            tasks.add_task(len, "first")
            tasks.add_task(work)
        if by == "response":
            return PlainTextResponse("ok", background=BackgroundTask(work))
        return None

    async with serve(app) as server:
        assert (await server.request()).status == 200
        assert await outcome.seen() == ANSWERED_AND_FAILED


@in_pairs(
    each_surrounding,
    pytest.mark.parametrize("kind", [http_exception, ValueError]),
    pytest.mark.parametrize("sync", [False, True]),
)
async def test_a_stream_that_breaks(
    outcome: Outcome, around: str, kind: Kind, *, sync: bool
) -> None:
    """1.6 What is raised while a body streams comes after the route, before the end."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise kind()

    def broken_in_thread() -> Generator[bytes]:
        yield b"x"
        raise kind()

    app = put_in(AROUND[around], "tasks_last")

    @app.get("/", dependencies=[Depends(by_annotation(outcome))])
    async def route() -> Response:
        return StreamingResponse(broken_in_thread() if sync else broken())

    assert await ask(app, outcome) == ANSWERED_AND_FAILED


# Class-based views, sub-dependencies, dependencies of routers.


def of_a_view(outcome: Outcome) -> Any:
    class View:
        tasks: TasksScheduler = Depends(get_tasks)

        def __init__(self, tasks: TasksScheduler = Depends(get_tasks)) -> None:  # noqa: B008
            outcome.schedule(tasks)

    return View


def of_a_view_with_starlettes(outcome: Outcome) -> Any:
    class View:
        def __init__(
            self,
            tasks: TasksScheduler = Depends(starlette_tasks.get_tasks),  # noqa: B008
        ) -> None:
            outcome.schedule(tasks)

    return View


def of_an_object(outcome: Outcome) -> Any:
    class Dependency:
        async def __call__(self, tasks: Annotated[TasksScheduler, Depends(get_tasks)]) -> None:
            outcome.schedule(tasks)

    return Dependency()


def nested(outcome: Outcome) -> Any:
    async def inner(tasks: Annotated[TasksScheduler, Depends(get_tasks)]) -> TasksScheduler:
        return tasks

    def outer(
        tasks: Annotated[TasksScheduler, Depends(inner)],
        other: Annotated[TasksScheduler, Depends(starlette_tasks.get_tasks)],
        own: Tasks,
    ) -> None:
        assert tasks is other is own
        outcome.schedule(tasks)

    return outer


def generating(outcome: Outcome) -> Any:
    async def dependency(
        tasks: Annotated[TasksScheduler, Depends(get_tasks)],
    ) -> AsyncGenerator[None]:
        outcome.schedule(tasks)
        yield

    return dependency


VIEWS = [of_a_view, of_a_view_with_starlettes, of_an_object, nested, generating]


@in_pairs(
    pytest.mark.parametrize("view", VIEWS),
    pytest.mark.parametrize("brought_by", ["route", "router", "inclusion", "application"]),
    pytest.mark.parametrize("scope", ["function", "request"]),
    pytest.mark.parametrize("fails", [False, True]),
)
async def test_get_tasks_as_a_dependency(
    outcome: Outcome, view: Any, brought_by: str, scope: DependencyScope, *, fails: bool
) -> None:
    """2.7 As a default, in views, nested, of routers, in each scope; it knows the outcome."""
    depends = [Depends(view(outcome), scope=scope)]

    def of(layer: str) -> list[Any]:
        return depends if layer == brought_by else []

    app = with_tasks(dependencies=of("application"))
    router = APIRouter(dependencies=of("router"))

    @router.get("/", dependencies=of("route"))
    async def route() -> None:
        if fails:
            raise HTTPException(402)

    app.include_router(router, dependencies=of("inclusion"))
    assert await ask(app, outcome) == (FAILURE if fails else SUCCESS)


@pytest.mark.parametrize("get", [get_tasks, starlette_tasks.get_tasks, current_tasks])
def test_nothing_of_it_is_in_the_schema(get: Any) -> None:
    """2.7 A dependency on the tasks is no parameter of the API."""
    app, without = with_tasks(), FastAPI()

    @app.get("/")
    async def route(tasks: TasksScheduler = Depends(get)) -> None: ...  # noqa: B008

    @without.get("/")
    @without.get("/", name="route")
    async def plain_route() -> None: ...

    assert "parameters" not in app.openapi()["paths"]["/"]["get"]
    assert app.openapi()["paths"]["/"]["get"]["responses"].keys() == {"200"}


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
    handlers = dict.fromkeys(keys(), answer) if handled else {}
    app = with_tasks(debug=debug, exception_handlers=handlers)
    act = raising(kind) if kind else lambda: JSONResponse({}, 500)
    add_route(app, in_async_route, by_annotation(outcome), act)
    client = TestClient(app, raise_server_exceptions=raises, backend=anyio_backend_name)
    with client, drain(), suppress(OwnError, ValueError):
        client.get("/")
    ran = [task.name for task in outcome.made if str(task.state) == "succeeded"]
    assert ran == (FAILURE if kind else SUCCESS)
