"""How tasks attach to a Starlette application."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from threading import Event
from typing import Any, Literal, TypeAlias, TypedDict, cast

import pytest
import starlette_tasks
from starlette.applications import Starlette
from starlette.datastructures import State
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette_tasks import (
    TaskConfig,
    TasksAlreadyAddedError,
    TasksError,
    TasksScheduler,
    TasksUninitializedError,
    add_tasks,
    current_tasks,
    get_tasks,
)
from starlette_tasks.testing import drain

from tests.asgi.watching import FAILURE, IN_ORDER, SUCCESS, Outcome, Watch
from tests.conformance.driver import GUARD, serve

Attached: TypeAlias = Callable[..., Starlette]


def added_last(*routes: Route, **options: Any) -> Starlette:
    app = Starlette(routes=list(routes), **options)
    add_tasks(app)
    return app


def added_first(*routes: Route, **options: Any) -> Starlette:
    app = Starlette(**options)
    add_tasks(app)
    app.router.routes.extend(routes)
    return app


each_way = pytest.mark.parametrize("attached", [added_last, added_first])


def answering(what: Callable[[Request], object]) -> Route:
    async def endpoint(request: Request) -> Response:
        return PlainTextResponse(str(what(request)))

    return Route("/", endpoint)


@pytest.mark.anyio
@each_way
async def test_ways_to_attach(attached: Attached) -> None:
    """1.1 to 1.3: However tasks were added, they begin when promised."""
    watch = Watch()
    app = attached(answering(lambda request: watch.schedule(get_tasks(request))))
    async with serve(app) as server:
        assert await watch.request(server) == IN_ORDER


class Noting:
    """A middleware that notes the tasks that it sees, before the route and after it."""

    def __init__(self, app: ASGIApp, got: list[TasksScheduler]) -> None:
        self.app = app
        self._got = got

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        for _ in range(2):
            self._got += [get_tasks(HTTPConnection(scope)), current_tasks()]
            if len(self._got) <= 4:
                await self.app(scope, receive, send)


@pytest.mark.anyio
@each_way
@pytest.mark.parametrize("fails", [False, True])
async def test_tasks_are_outermost(attached: Attached, *, fails: bool) -> None:
    """1.6, 2.7 Middleware has tasks, added before or after them, and they see what is raised."""
    outcome = Outcome()
    got: list[TasksScheduler] = []

    async def dispatch(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        got.append(get_tasks(request))
        response = await call_next(request)
        got.append(current_tasks())
        return response

    def answer(request: Request) -> str:
        got.append(get_tasks(request))
        outcome.schedule(get_tasks(request))
        if fails:
            raise HTTPException(418)
        return "ok"

    before = [Middleware(BaseHTTPMiddleware, dispatch=dispatch), Middleware(Noting, got=got)]
    app = attached(answering(answer), middleware=before)
    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    async with serve(app) as server:
        assert (await server.request()).status == (418 if fails else 200)
        assert await outcome.seen() == (FAILURE if fails else SUCCESS)
    assert len(got) == 9
    assert all(tasks is got[0] for tasks in got)


@pytest.mark.anyio
async def test_tasks_of_a_middleware_that_answers_by_itself() -> None:
    """2.7 Of a request that no route sees the phases come as of any other."""
    watch = Watch()

    async def dispatch(request: Request, _: object) -> Response:
        watch.schedule(get_tasks(request))
        return PlainTextResponse("maintenance", 503)

    app = added_last(answering(str))
    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    async with serve(app) as server:
        assert await watch.request(server) == IN_ORDER


@pytest.mark.anyio
@pytest.mark.parametrize("key", [404, 500, ValueError, Exception])
@pytest.mark.parametrize("sync", [False, True])
async def test_tasks_in_exception_handlers(key: Any, *, sync: bool) -> None:
    """2.7 Every handler has the request's tasks, that for all exceptions included."""
    log: list[str] = []

    def handle(request: Request, error: Exception) -> Response:
        tasks = get_tasks(request)
        assert tasks is current_tasks()
        tasks.after_response.schedule(log.append, "ran")
        tasks.after_response.task(run_on="success").schedule(log.append, "skipped")
        return PlainTextResponse("sorry")

    async def handle_async(request: Request, error: Exception) -> Response:
        return handle(request, error)

    def fail(_: Request) -> None:
        raise ValueError

    app = added_last(answering(fail), exception_handlers={key: handle if sync else handle_async})
    async with drain(), serve(app) as server:
        exchange = await server.request("/nowhere" if key == 404 else "/")
        assert exchange.body == b"sorry"
    assert log == ["ran"]


@pytest.mark.parametrize("started", [False, True])
def test_adding_a_second_time(started: bool) -> None:  # noqa: FBT001
    """5.7 To add tasks again changes nothing; settings, which would be lost, are refused."""
    app = Starlette()
    add_tasks(app)
    if started:
        with TestClient(app):
            pass
    before = vars(app).copy()

    add_tasks(app)
    add_tasks(app, config=None)
    with pytest.raises(TasksAlreadyAddedError, match="pass all settings to the first call"):
        add_tasks(app, config=TaskConfig(shield=True))
    with pytest.raises(TasksAlreadyAddedError):
        add_tasks(app, grace_period=0)

    assert vars(app) == before
    assert app.user_middleware == []


def test_adding_too_late() -> None:
    """An application that has started refuses tasks, and says so."""
    app = Starlette()
    with TestClient(app), pytest.raises(RuntimeError, match="comes too late"):
        add_tasks(app)


@pytest.mark.parametrize(
    ("app", "says"),
    [
        (Router(), "not Router: a router has the tasks of its application: add_tasks(app) for"),
        (Starlette().router, "not Router: a router has the tasks of its application"),
        (CORSMiddleware(Starlette()), "not CORSMiddleware: pass the Starlette or FastAPI that it"),
        (
            Starlette,
            "not the class Starlette: pass the Starlette or FastAPI that it is",
        ),
        ("app", "not str: pass the Starlette or FastAPI"),
        (None, "not NoneType: pass the Starlette or FastAPI"),
    ],
)
def test_what_is_no_application(app: Any, says: str) -> None:
    """The error says what it is, and where tasks are added (2.7)."""
    with pytest.raises(TypeError) as raised:
        add_tasks(app)
    assert says in str(raised.value)


def test_settings_are_checked() -> None:
    """Settings that make no sense are refused where they are written."""
    with pytest.raises(TypeError, match="grace_period is a number of seconds"):
        add_tasks(Starlette(), grace_period=cast("float", "1"))
    with pytest.raises(ValueError, match="thread_limit"):
        add_tasks(Starlette(), thread_limit=0)
    wrong: dict[str, Any] = {"shield": True}
    with pytest.raises(
        TypeError, match=r"a task's setting, .*: config=TaskConfig\(shield=\.\.\.\)"
    ):
        add_tasks(Starlette(), **wrong)


def test_adding_returns_nothing() -> None:
    """`add_tasks` changes the application that it is given."""
    result: object = add_tasks(Starlette())  # type: ignore[func-returns-value]
    assert result is None


@each_way
def test_client_that_runs_no_lifespan(attached: Attached) -> None:
    """5.6 A test client without `with` gets an error that says so, and what to do."""
    client = TestClient(attached(answering(lambda request: get_tasks(request).schedule(len, ""))))
    with pytest.raises(TasksUninitializedError, match="with TestClient"):
        client.get("/")


def test_application_without_tasks() -> None:
    """5.6 Where tasks were not added, the error says how to add them."""
    app = Starlette(routes=[answering(get_tasks)])
    with TestClient(app) as client, pytest.raises(TasksError, match="add_tasks"):
        client.get("/")


@each_way
def test_client_on_each_event_loop(
    attached: Attached, anyio_backend: Literal["asyncio", "trio"]
) -> None:
    """5.7 Starlette's test client works on both event loops, and again after it was left."""
    done = Event()
    app = attached(
        answering(lambda request: get_tasks(request).after_response.schedule(done.set).phase)
    )
    for _ in range(2):
        with TestClient(app, backend=anyio_backend) as client:
            assert client.get("/").text == "after_response"
            assert done.wait(GUARD)
        done.clear()


class Typed(TypedDict):
    pool: list[str]


@pytest.mark.skipif(
    not hasattr(State, "__getitem__"), reason="this version of Starlette types no state"
)
@pytest.mark.anyio
@each_way
async def test_lifespan_with_typed_state(attached: Attached) -> None:
    """5.1 The lifespan's own state stays as it is, and its resources outlive the tasks."""
    log: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[Typed]:
        await current_tasks().schedule(log.append, "start-up").wait()
        yield {"pool": log}
        log.append("closed")

    async def endpoint(request: Request[Typed]) -> Response:
        pool = request.state["pool"]
        get_tasks(request).after_response.task(shield=True).schedule(pool.append, "task")
        return PlainTextResponse("ok")

    app = attached(Route("/", endpoint), lifespan=lifespan)
    async with serve(app) as server:
        assert (await server.request()).body == b"ok"
    assert log == ["start-up", "task", "closed"]


@pytest.mark.anyio
@each_way
async def test_lifespan_that_is_run_by_hand(attached: Attached) -> None:
    """5.6 Run past the application, as some test set-ups do, it has its tasks all the same."""
    log: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[dict[str, object]]:
        current_tasks().after_response.task(shield=True).schedule(log.append, "start-up")
        yield {"kept": True}
        log.append("closed")

    async def endpoint(request: Request) -> Response:
        get_tasks(request).after_response.task(shield=True).schedule(log.append, "task")
        return PlainTextResponse("ok")

    app = attached(Route("/", endpoint), lifespan=lifespan)
    async with app.router.lifespan_context(app) as state:
        assert state == {"kept": True}
        async with serve(app, lifespan=False) as server:
            assert (await server.request()).body == b"ok"
    assert sorted(log[:2]) == ["start-up", "task"]
    assert log[2:] == ["closed"]


def test_names() -> None:
    """All that the package exports is there, and nothing of it is private."""
    names = starlette_tasks.__all__
    assert all(hasattr(starlette_tasks, name) for name in names)
    assert not [name for name in names if name.startswith("_")]
