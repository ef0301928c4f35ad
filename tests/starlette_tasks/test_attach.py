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
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette_tasks import (
    TaskConfig,
    TasksAlreadyAddedError,
    TasksError,
    TasksUninitializedError,
    add_tasks,
    current_tasks,
    get_tasks,
    tasks_middleware,
)

from tests.asgi.watching import FAILURE, IN_ORDER, Outcome, Watch
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


def as_middleware(*routes: Route, **options: Any) -> Starlette:
    return Starlette(routes=list(routes), middleware=[tasks_middleware()], **options)


each_way = pytest.mark.parametrize("attached", [added_last, added_first, as_middleware])


def answering(what: Callable[[Request], object]) -> Route:
    async def endpoint(request: Request) -> Response:
        return PlainTextResponse(str(what(request)))

    return Route("/", endpoint)


async def pass_on(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    return await call_next(request)


@pytest.mark.anyio
@each_way
async def test_ways_to_attach(attached: Attached) -> None:
    """1.1 to 1.3: However tasks were added, they begin when promised."""
    watch = Watch()
    app = attached(answering(lambda request: watch.schedule(get_tasks(request))))
    async with serve(app) as server:
        assert await watch.request(server) == IN_ORDER


@pytest.mark.anyio
@each_way
async def test_tasks_are_innermost(attached: Attached) -> None:
    """1.6 Whatever middleware is added later, tasks see what the route raises."""
    outcome = Outcome()

    def refuse(request: Request) -> None:
        outcome.schedule(get_tasks(request))
        raise HTTPException(418)

    app = attached(answering(refuse))
    app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    async with serve(app) as server:
        assert (await server.request()).status == 418
        assert await outcome.seen() == FAILURE


@pytest.mark.parametrize("attached", [added_last, as_middleware])
def test_adding_a_second_time(attached: Attached) -> None:
    """5.7 To add tasks again changes nothing; settings, which would be lost, are refused."""
    app = attached()
    before = list(app.user_middleware)

    add_tasks(app)
    add_tasks(app, config=None)
    with pytest.raises(TasksAlreadyAddedError, match="pass all settings to the first call"):
        add_tasks(app, config=TaskConfig(shield=True))
    with pytest.raises(TasksAlreadyAddedError):
        add_tasks(app, grace_period=0)

    assert app.user_middleware == before


def test_adding_too_late() -> None:
    """An application that has started refuses tasks, and says so."""
    app = Starlette()
    with TestClient(app), pytest.raises(RuntimeError, match="comes too late"):
        add_tasks(app)


def test_settings_are_checked() -> None:
    """Settings that make no sense are refused where they are written."""
    with pytest.raises(TypeError, match="grace_period is a number of seconds"):
        tasks_middleware(grace_period=cast("float", "1"))
    with pytest.raises(ValueError, match="thread_limit"):
        add_tasks(Starlette(), thread_limit=0)


def test_adding_returns_nothing() -> None:
    """`add_tasks` changes the application that it is given."""
    result: object = add_tasks(Starlette())  # type: ignore[func-returns-value]
    assert result is None


@each_way
def test_client_that_runs_no_lifespan(attached: Attached) -> None:
    """5.6 A test client without `with` gets an error that names the cause and the remedy."""
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


def test_names() -> None:
    """All that the package exports is there, and nothing of it is private."""
    names = starlette_tasks.__all__
    assert all(hasattr(starlette_tasks, name) for name in names)
    assert not [name for name in names if name.startswith("_")]
