"""Whether a request of FastAPI has failed (1.6), by what is around its routes, or goes away."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, cast

import anyio
import pytest
import starlette_tasks
from fastapi import (
    APIRouter,
    Depends,
    FastAPI,
    HTTPException,
    Request,
    WebSocket,
    WebSocketDisconnect,
    WebSocketException,
)
from fastapi.requests import HTTPConnection
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from fastapi_tasks import Tasks, TasksScheduler, add_tasks, current_tasks
from fastapi_tasks.testing import drain
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import Host, Mount, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.asgi.around import LIMITS, OF_ASYNCIO, Around, Limits, breaking_off, losing
from tests.asgi.endings import (
    closes,
    crashes,
    crashes_beside,
    crashes_in_a_group,
    hears,
    hears_in_a_group,
    hears_in_groups,
    returns_at_once,
    says,
    says_in_a_group,
)
from tests.asgi.pairs import in_pairs
from tests.asgi.watching import FAILURE, IN_ORDER, SUCCESS, Outcome, Watch
from tests.conformance.driver import GUARD, serve
from tests.fastapi_tasks.faults import (
    REFUSALS,
    Add,
    CallNext,
    CatchesAll,
    DependencyScope,
    Kind,
    OwnError,
    Place,
    Plan,
    SwallowsInDispatch,
    a_route,
    add_route,
    adding,
    answer,
    ask,
    ask_by_websocket,
    by_annotation,
    by_connection,
    by_current_tasks,
    each_exit,
    each_kind,
    each_order,
    in_async_dependency,
    in_async_exit,
    in_async_route,
    in_sync_dependency,
    in_sync_route,
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
    Base,
    Catches,
    CatchesGroups,
    CatchesInDispatch,
    CommitError,
    CommitsAtTheEnd,
    CommitsInDispatch,
    CommitsInSend,
    CopiesTheScope,
    Plain,
)

# Trio says so of each body, Starlette's own too, that a client or a timeout has cut off.
CUT_OFF = "ignore:Async generator .* was garbage collected:ResourceWarning"
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings(CUT_OFF)]


# Middleware that answers what was raised.


def add_decorated(app: FastAPI) -> None:
    @app.middleware("http")
    async def catch(request: Request, call_next: CallNext) -> Response:
        try:
            return await call_next(request)
        except Exception:  # noqa: BLE001 - the commonest error middleware there is
            return PlainTextResponse("sorry", 500)


class RunsInTaskAndCatches(Plain):
    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        failed: list[Exception] = []

        async def run() -> None:
            try:
                await self.app(dict(scope), receive, send)
            except ValueError as error:
                failed.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(run)
        if failed:
            await PlainTextResponse("sorry", 500)(scope, receive, send)


CATCHERS: Mapping[str, Add] = {
    "decorator": add_decorated,
    "base": adding(CatchesAll),
    "base_of_one_kind": adding(CatchesInDispatch),
    "base_that_swallows": adding(SwallowsInDispatch),
    "asgi": adding(Catches),
    "asgi_group": adding(CatchesGroups),
    "asgi_copies_the_scope": adding(CopiesTheScope),
    "asgi_in_a_task": adding(RunsInTaskAndCatches),
    "between_others": adding(Base, Catches, Base),
    "below_one_of_its_kind": adding(CatchesAll, CatchesAll),
}


each_catcher = pytest.mark.parametrize("catcher", CATCHERS)


@in_pairs(
    each_catcher,
    each_order,
    pytest.mark.parametrize("place", [in_sync_route, in_async_dependency, in_async_exit]),
)
async def test_middleware_that_catches(
    outcome: Outcome, catcher: str, order: str, place: Place
) -> None:
    """1.6 A failure stays one where a middleware answers it, added before the tasks or after."""
    app = put_in(CATCHERS[catcher], order)
    add_route(app, place, by_annotation(outcome), raising(ValueError), scope="function")
    async with serve(app) as server:
        assert (await server.request()).body == b"sorry"
        assert await outcome.seen() == FAILURE


@in_pairs(
    each_catcher,
    each_order,
)
async def test_middleware_that_has_nothing_to_catch(
    outcome: Outcome, catcher: str, order: str
) -> None:
    """1.6 With the same middleware a returned response is a success, whatever its status."""
    app = put_in(CATCHERS[catcher], order)
    add_route(app, in_async_route, by_annotation(outcome), lambda: JSONResponse({}, 500))
    assert await ask(app, outcome) == SUCCESS


@in_pairs(
    each_catcher,
    pytest.mark.parametrize("inside", ["bare", "with_tasks"]),
)
async def test_middleware_of_a_mounted_application_that_catches(
    outcome: Outcome, catcher: str, inside: str
) -> None:
    """1.6, 1.8 The same where it is a mounted application's own, with tasks added to it or not."""
    inner, app = FastAPI(), with_tasks()
    CATCHERS[catcher](inner)
    if inside == "with_tasks":
        add_tasks(inner)
    add_route(inner, in_async_route, by_annotation(outcome), raising(ValueError))
    app.mount("/in", inner)
    async with serve(app) as server:
        assert (await server.request("/in/")).body == b"sorry"
        assert await outcome.seen() == FAILURE


@pytest.mark.parametrize("kind", [Catches, CatchesGroups, CatchesAll, CopiesTheScope])
@pytest.mark.parametrize("of", ["mount", "route"])
async def test_middleware_of_a_part_that_catches(outcome: Outcome, kind: Any, of: str) -> None:
    """1.6 So where it is of a mount, or of one of Starlette's own routes."""

    async def endpoint(request: Request) -> Response:
        outcome.schedule(starlette_tasks.get_tasks(request))
        raise ValueError

    middleware = [Middleware(kind)]
    if of == "mount":
        route: Any = Mount("/", routes=[Route("/", endpoint)], middleware=middleware)
    else:
        route = Route("/", endpoint, middleware=middleware)
    async with serve(with_tasks(routes=[route])) as server:
        assert (await server.request()).body == b"sorry"
        assert await outcome.seen() == FAILURE


@pytest.mark.parametrize("catcher", ["decorator", "base", "asgi", "asgi_group"])
@each_exit
async def test_middleware_that_catches_once_the_answer_has_begun(
    outcome: Outcome, catcher: str, place: Place
) -> None:
    """1.6 A commit at the exit of a request-scoped dependency fails after the response."""
    app = put_in(CATCHERS[catcher], "tasks_last")
    add_route(app, place, by_annotation(outcome), raising(ValueError), scope="request")
    assert await ask(app, outcome) == ANSWERED_AND_FAILED


def add_decorated_commit(app: FastAPI) -> None:
    @app.middleware("http")
    async def commit(request: Request, call_next: CallNext) -> Response:
        await call_next(request)
        raise CommitError


COMMITS: Mapping[str, Add] = {
    "decorator": add_decorated_commit,
    "dispatch": adding(CommitsInDispatch),
    "send": adding(CommitsInSend),
    "end": adding(CommitsAtTheEnd),
    "between": adding(Base, CommitsInSend, Base),
}


@in_pairs(
    pytest.mark.parametrize("commit", COMMITS),
    each_order,
    pytest.mark.parametrize("handled", [False, True]),
    pytest.mark.parametrize("place", [in_sync_route, in_async_exit]),
)
async def test_a_commit_that_fails_in_a_middleware(
    outcome: Outcome, commit: str, order: str, place: Place, *, handled: bool
) -> None:
    """1.6 The route has returned, the request fails: only the last phase is of a failure."""
    handlers: Any = {Exception: answer} if handled else {}
    app = put_in(COMMITS[commit], order, exception_handlers=handlers)
    add_route(app, place, by_annotation(outcome), returns)
    assert await ask(app, outcome) == ANSWERED_AND_FAILED


# Mounted applications.


def in_mount(inner: ASGIApp) -> FastAPI:
    app = FastAPI()
    app.mount("/in", inner)
    return app


def in_host(inner: ASGIApp) -> FastAPI:
    return FastAPI(routes=[Host("testserver", app=inner)])


def in_mount_of_routes(inner: ASGIApp) -> FastAPI:
    return FastAPI(routes=[Mount("/in", routes=[Mount("/deep", app=inner)])])


def in_router(inner: ASGIApp) -> FastAPI:
    app = FastAPI()
    app.mount("/in", Router([Mount("/deep", app=inner)]))
    return app


def in_api_router(inner: ASGIApp) -> FastAPI:
    app = FastAPI()
    app.router.mount("/in", inner)
    return app


def in_application_in_application(inner: ASGIApp) -> FastAPI:
    app, between = FastAPI(), FastAPI()
    between.mount("/deep", inner)
    app.mount("/in", between)
    return app


def by_hand(inner: ASGIApp) -> FastAPI:
    app = FastAPI()
    app.mount("/in", Plain(Plain(inner)))
    return app


class Copies(Plain):
    """A middleware that passes a scope of its own on, as those that change it do."""

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app({**scope, "extensions": {}}, receive, send)


def by_hand_with_a_copy(inner: ASGIApp) -> FastAPI:
    app = FastAPI()
    app.mount("/in", Copies(inner))
    return app


def with_middleware_of_its_own(inner: ASGIApp) -> FastAPI:
    return FastAPI(routes=[Mount("/in", app=inner, middleware=[Middleware(Base)])])


def in_default(inner: ASGIApp) -> FastAPI:
    app = FastAPI()
    app.router.default = inner
    return app


WAYS: Mapping[Any, str] = {
    in_mount: "/in/",
    in_host: "/in/",
    in_mount_of_routes: "/in/deep/",
    in_router: "/in/deep/",
    in_api_router: "/in/",
    in_application_in_application: "/in/deep/",
    by_hand: "/in/",
    by_hand_with_a_copy: "/in/",
    with_middleware_of_its_own: "/in/",
    in_default: "/in/",
}


@in_pairs(
    pytest.mark.parametrize("way", WAYS),
    each_kind,
    pytest.mark.parametrize("handled", [False, True]),
    pytest.mark.parametrize("place", [in_async_route, in_sync_dependency]),
)
async def test_mounted_applications_that_fail(
    outcome: Outcome, way: Any, kind: Kind, place: Place, *, handled: bool
) -> None:
    """1.6, 1.8 By its own handlers, or by none, whichever way the application got there."""
    inner = FastAPI(exception_handlers=dict.fromkeys(keys(), answer) if handled else {})
    path = "/in/" if way in {in_host, in_default} else "/"
    add_route(inner, place, by_annotation(outcome), raising(kind), path=path)
    app = way(inner)
    add_tasks(app)
    assert await ask(app, outcome, WAYS[way]) == FAILURE


@in_pairs(
    pytest.mark.parametrize("way", WAYS),
    pytest.mark.parametrize("status", [200, 404, 500]),
)
async def test_mounted_applications_that_succeed(outcome: Outcome, way: Any, status: int) -> None:
    """1.6, 1.8 What a mounted application's route returns is a success."""
    inner = FastAPI()
    path = "/in/" if way in {in_host, in_default} else "/"
    act = partial(JSONResponse, {}, status)
    add_route(inner, in_async_route, by_annotation(outcome), act, path=path)
    app = way(inner)
    add_tasks(app)
    assert await ask(app, outcome, WAYS[way]) == SUCCESS


@in_pairs(
    pytest.mark.parametrize("asks", ["get_tasks", "current_tasks"]),
    pytest.mark.parametrize("inside", ["bare", "with_tasks"]),
    each_kind,
)
async def test_a_mounted_middleware_that_asks_first(
    outcome: Outcome, log: list[str], asks: str, inside: str, kind: Kind
) -> None:
    """1.6 Who asks for the tasks first, and where, makes no difference."""
    inner, app = FastAPI(), with_tasks()
    if inside == "with_tasks":
        add_tasks(inner)

    @inner.middleware("http")
    async def audit(request: Request, call_next: CallNext) -> Response:
        by_request = asks == "get_tasks"
        tasks = starlette_tasks.get_tasks(request) if by_request else current_tasks()
        tasks.after_response.task(run_on="always").schedule(noting(log, "audit"))
        tasks.after_response.schedule(noting(log, "welcome"))
        return await call_next(request)

    add_route(inner, in_async_route, by_annotation(outcome), raising(kind))
    app.mount("/in", inner)
    assert await ask(app, outcome, "/in/") == FAILURE
    assert log == ["audit"]


@pytest.mark.parametrize("inside", ["bare", "with_tasks"])
async def test_a_mounted_application_that_is_hidden(outcome: Outcome, inside: str) -> None:
    """1.6 Behind a function that copies the scope it is not seen, unless it has tasks itself."""
    inner, app = FastAPI(), with_tasks()
    if inside == "with_tasks":
        add_tasks(inner)

    async def hide(scope: Scope, receive: Receive, send: Send) -> None:
        await inner({**scope}, receive, send)

    add_route(inner, in_async_route, by_annotation(outcome), raising(OwnError))
    inner.add_middleware(Catches)
    inner.add_exception_handler(OwnError, answer)
    app.mount("/in", hide)
    assert await ask(app, outcome, "/in/") == (FAILURE if inside == "with_tasks" else SUCCESS)


# Middleware that schedules: a log, an answer of its own.


def logs(log: list[str], get: Callable[[Any], TasksScheduler]) -> Add:
    def schedule(connection: Any, when: str) -> None:
        tasks = get(connection).after_response
        tasks.schedule(noting(log, when))
        tasks.task(run_on="success").schedule(noting(log, f"{when}, success"))
        tasks.task(run_on="failure").schedule(noting(log, f"{when}, failure"))

    def add(app: FastAPI) -> None:
        @app.middleware("http")
        async def write(request: Request, call_next: CallNext) -> Response:
            schedule(request, "before")
            try:
                return await call_next(request)
            finally:
                schedule(request, "after")

    return add


def logs_by_class(log: list[str], get: Callable[[Any], TasksScheduler]) -> Add:
    class Logs(Plain):
        async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
            tasks = get(HTTPConnection(scope)).after_response
            for when in ("before", "after"):
                tasks.schedule(noting(log, when))
                for run_on in ("success", "failure"):
                    work = noting(log, f"{when}, {run_on}")
                    tasks.task(run_on=cast("Any", run_on)).schedule(work)
                if when == "before":
                    try:
                        await super().serve(scope, receive, send)
                    except Exception:  # noqa: BLE001
                        await PlainTextResponse("sorry", 500)(scope, receive, send)

    return adding(Logs)


def by_context(connection: Any) -> TasksScheduler:
    return current_tasks()


@in_pairs(
    pytest.mark.parametrize("kind", [logs, logs_by_class]),
    pytest.mark.parametrize("get", [by_context, starlette_tasks.get_tasks]),
    each_order,
    pytest.mark.parametrize("refusal", [None, *REFUSALS]),
)
async def test_middleware_that_logs(
    log: list[str], kind: Any, get: Any, order: str, refusal: str | None
) -> None:
    """1.6, 2.7 Before the route it does not know; after a failure what it schedules runs."""
    _, method, fault = REFUSALS[refusal] if refusal else (None, "GET", a_route)
    app = put_in(kind(log, get), order)
    fault(app)
    async with serve(app) as server, drain():
        await server.request(method=method)
    if refusal:
        assert log == ["before, failure", "after", "after, failure"]
    else:
        assert log == ["before", "before, success", "after", "after, success"]


@in_pairs(
    each_order,
    pytest.mark.parametrize("status", [200, 304, 503]),
    pytest.mark.parametrize("inside", ["own", "mounted"]),
    pytest.mark.parametrize("get", [by_context, starlette_tasks.get_tasks]),
)
async def test_middleware_that_answers_by_itself(
    order: str, status: int, inside: str, get: Any
) -> None:
    """2.7 Of a request that no route sees the phases come as of any other."""
    watch, outcome = Watch(), Outcome()

    def add(app: FastAPI) -> None:
        @app.middleware("http")
        async def refuse(request: Request, _: CallNext) -> Response:
            watch.schedule(get(request))
            outcome.schedule(get(request))
            return Response(status_code=status)

    if inside == "mounted":
        app, inner = with_tasks(), FastAPI()
        add(inner)
        app.mount("/in", inner)
    else:
        app = put_in(add, order)
    async with serve(app) as server:
        assert await watch.request(server, "/in/") == IN_ORDER
        assert await outcome.seen() == SUCCESS


# Timeouts around the application. The route itself says when its time is over.


def under(around: Around) -> Any:
    class Under(Plain):
        async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
            await around(cast("Any", self.app), scope, receive, send)

    return Under


each_limit = pytest.mark.parametrize("limit", LIMITS)


@pytest.fixture
def limited(limit: Any, anyio_backend_name: str) -> Limits:
    if anyio_backend_name == "trio" and limit in OF_ASYNCIO:
        pytest.skip("asyncio's own")
    return Limits()


@in_pairs(
    each_limit,
    each_order,
    of_asyncio=OF_ASYNCIO,
)
@pytest.mark.parametrize("where", ["route", "dependency"])  # FastAPI shields exits
async def test_a_timeout_around_the_application(
    outcome: Outcome, limited: Limits, limit: Any, order: str, where: str
) -> None:
    """1.6 A route, or its dependency, that is cut off has not returned."""

    async def dependency(_: Annotated[None, Depends(by_annotation(outcome))]) -> Any:
        if where == "dependency":
            await limited.pass_by()
        yield

    app = put_in(adding(under(limit(limited))), order)

    @app.get("/", dependencies=[Depends(dependency, scope="function")])
    async def route() -> None:
        if where == "route":
            await limited.pass_by()

    async with serve(app) as server:
        assert (await server.request()).status == 504
        assert await outcome.seen() == FAILURE


@each_limit
@pytest.mark.parametrize("inside", ["bare", "with_tasks"])
async def test_a_timeout_of_a_mounted_application(
    outcome: Outcome, limited: Limits, limit: Any, inside: str
) -> None:
    """1.6, 1.8 So has one that a mounted application's own middleware cuts off."""
    app, inner = with_tasks(), FastAPI()
    if inside == "with_tasks":
        add_tasks(inner)
    inner.add_middleware(under(limit(limited)))
    inner.get("/", dependencies=[Depends(by_annotation(outcome))])(limited.pass_by)
    app.mount("/in", inner)
    async with serve(app) as server:
        assert (await server.request("/in/")).status == 504
        assert await outcome.seen() == FAILURE


@pytest.mark.parametrize("fails", [False, True])
async def test_a_timeout_that_lets_the_route_go_on(
    outcome: Outcome, log: list[str], *, fails: bool
) -> None:
    """1.3, 1.6 Starlette's `call_next` is not cut off by who waits for it: the route counts."""
    app, answered = with_tasks(), anyio.Event()

    @app.middleware("http")
    async def give_up(request: Request, call_next: CallNext) -> Response:
        with anyio.move_on_after(GUARD) as limit:
            limits.end = limit.cancel
            await call_next(request)
        return PlainTextResponse("late", 504)

    @app.get("/", dependencies=[Depends(by_annotation(outcome))])
    async def route(tasks: Tasks) -> None:
        tasks.after_response.task(run_on="always").schedule(noting(log, "after response"))
        limits.end()
        await answered.wait()
        log.append("route ends")
        if fails:
            raise ValueError

    def look(message: Message) -> None:
        if message["type"] == "http.response.body":
            answered.set()

    limits = Limits()
    async with serve(app) as server:
        assert (await server.request(on_message=look)).status == 504
        seen = await outcome.seen()
    assert log == ["route ends", "after response"]
    assert seen[1:] == (["failure"] if fails else ["success"])


@each_limit
async def test_a_timeout_that_cuts_a_stream(outcome: Outcome, limited: Limits, limit: Any) -> None:
    """1.6 A body that is cut off fails the request once its route has returned."""
    app = with_tasks()
    app.add_middleware(under(limit(limited)))

    async def body() -> AsyncIterator[bytes]:
        yield b"x"
        await limited.pass_by()

    @app.get("/", dependencies=[Depends(by_annotation(outcome))])
    async def route() -> Response:
        return StreamingResponse(body())

    assert await ask(app, outcome) == ANSWERED_AND_FAILED


# The client has gone.


async def passing_on() -> AsyncGenerator[None]:
    """A session: it rolls back and raises again."""
    try:
        yield
    except Exception:
        await anyio.lowlevel.checkpoint()
        raise


async def failing_to_commit() -> AsyncGenerator[None]:
    try:
        yield
    finally:
        raise CommitError


@in_pairs(
    pytest.mark.parametrize("response", [plain, streamed]),
    pytest.mark.parametrize("layers", [0, 1, 3]),
    pytest.mark.parametrize("first", range(4)),
    pytest.mark.parametrize("scope", ["function", "request"]),
)
async def test_a_client_that_goes_away(
    outcome: Outcome,
    response: Callable[[], Response],
    layers: int,
    first: int,
    scope: DependencyScope,
) -> None:
    """1.7 What `send` raises is no failure, also where it passes through dependencies."""
    app = put_in(adding(*[Base] * layers), "tasks_last")

    @app.get("/", dependencies=[Depends(passing_on, scope=scope), Depends(by_annotation(outcome))])
    async def route() -> Response:
        return response()

    assert await ask(app, outcome, fails_from=first) == SUCCESS


@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("first", [0, 1, 2])
async def test_a_commit_that_fails_when_the_client_has_gone(
    outcome: Outcome, layers: int, first: int
) -> None:
    """1.6 One error of `send` excuses no other error."""
    app = put_in(adding(*[Base] * layers), "tasks_first")
    depends = [Depends(failing_to_commit, scope="request"), Depends(by_annotation(outcome))]

    @app.get("/", dependencies=depends)
    async def route() -> Response:
        return streamed()

    assert await ask(app, outcome, fails_from=first) == ANSWERED_AND_FAILED


@pytest.mark.parametrize("reads", ["body", "json", "stream"])
@pytest.mark.parametrize("handled", [False, True])
async def test_an_upload_that_is_broken_off(outcome: Outcome, reads: str, *, handled: bool) -> None:
    """1.6 A route that has not returned because its client left has failed."""
    app = with_tasks(exception_handlers={ClientDisconnect: answer} if handled else {})

    @app.get("/", dependencies=[Depends(by_annotation(outcome))])
    async def route(request: Request) -> None:
        if reads == "stream":
            async for _ in request.stream():
                pass
        else:
            await getattr(request, reads)()

    assert await ask(breaking_off(cast("Any", app)), outcome) == FAILURE


async def test_an_upload_that_fastapi_reads(outcome: Outcome) -> None:
    """1.6 So has one whose body FastAPI itself did not get."""
    app = with_tasks()

    async def body(body: dict[str, int]) -> None: ...

    app.get("/", dependencies=[Depends(by_annotation(outcome)), Depends(body)])(returns)
    async with serve(breaking_off(cast("Any", app))) as server:
        await server.request()
        # FastAPI reads the body before it calls any dependency, so nobody has asked.
        assert outcome.made == []


async def test_a_body_that_reads_until_the_client_leaves(outcome: Outcome) -> None:
    """1.7 Once the route has returned, the framework's word for that is no failure."""

    async def until_gone() -> AsyncIterator[bytes]:
        yield b"x"
        raise ClientDisconnect

    app = with_tasks()

    @app.get("/", dependencies=[Depends(by_annotation(outcome))])
    async def route() -> Response:
        return StreamingResponse(until_gone())

    assert await ask(app, outcome) == SUCCESS


# WebSockets.


async def hears_and_catches(websocket: WebSocket) -> None:
    with suppress(WebSocketDisconnect):
        await websocket.receive_text()


async def disconnects_itself(websocket: WebSocket) -> None:
    raise WebSocketDisconnect(1000)


async def refuses(websocket: WebSocket) -> None:
    raise WebSocketException(1008)


async def refuses_by_http(websocket: WebSocket) -> None:
    raise HTTPException(403)


async def is_handled(websocket: WebSocket) -> None:
    raise OwnError


async def says_after_the_end(websocket: WebSocket) -> None:
    await websocket.close()
    await websocket.send_text("too late")


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
    refuses: FAILURE,
    refuses_by_http: FAILURE,
    crashes: FAILURE,
    crashes_in_a_group: FAILURE,
    crashes_beside: FAILURE,
    is_handled: FAILURE,
    says_after_the_end: FAILURE,
}


@in_pairs(
    pytest.mark.parametrize("ending", ENDINGS),
    pytest.mark.parametrize(
        ("inside", "plan"),
        [("own", by_annotation), ("mounted", by_connection), ("included", by_current_tasks)],
    ),
    pytest.mark.parametrize("session", [None, passing_on]),
)
async def test_how_websockets_end(
    outcome: Outcome, ending: Any, plan: Plan, inside: str, session: Any
) -> None:
    """1.6, 1.7, 1.8 By what it raises, alone or in groups, unless that says only "gone"."""

    async def close(websocket: WebSocket, error: Exception) -> None:
        await websocket.close(4001)

    handlers: Any = {OwnError: close}
    app = with_tasks(exception_handlers=handlers)
    router = APIRouter()
    depends = [Depends(session)] if session else []

    @router.websocket("/in/", dependencies=[*depends, Depends(plan(outcome))])
    async def route(websocket: WebSocket) -> None:
        await websocket.accept()
        await ending(websocket)

    if inside == "mounted":
        inner = FastAPI(exception_handlers=handlers)
        inner.include_router(router)
        app.mount("/sub", inner)
    else:
        app.include_router(router, prefix="/sub")
    assert (
        await ask_by_websocket(losing(cast("Any", app)), outcome, path="/sub/in/")
        == ENDINGS[ending]
    )
