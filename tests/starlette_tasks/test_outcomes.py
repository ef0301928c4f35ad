"""Whether a request has failed (contract 1.6): whatever answers it, wherever its route runs."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import count, product
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import BaseRoute, Host, Mount, Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from starlette_tasks import TasksUninitializedError, add_tasks, current_tasks, get_tasks
from starlette_tasks._handlers import HANDLERS  # noqa: PLC2701
from starlette_tasks.testing import drain

from tests.asgi.watching import FAILURE, SUCCESS, Outcome
from tests.conformance.driver import serve

pytestmark = pytest.mark.anyio

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]
Kind: TypeAlias = Callable[[], Exception]

ANSWERED_AND_FAILED = ["success", "failure"]
"""After the route a success, after the response a failure."""


def with_tasks(*routes: BaseRoute, **options: Any) -> Starlette:
    app = Starlette(routes=routes, **options)
    add_tasks(app)
    return app


def noting(log: list[str]) -> Callable[[str], Awaitable[None]]:
    async def note(what: str) -> None:
        log.append(what)

    return note


def raising(outcome: Outcome, kind: Kind) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        outcome.schedule(get_tasks(request))
        raise kind()

    return endpoint


def returning(outcome: Outcome, response: Callable[[], Response]) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        outcome.schedule(get_tasks(request))
        return response()

    return endpoint


async def ask(app: ASGIApp, outcome: Outcome, path: str = "/", **request: Any) -> list[str]:
    """Send a request; return the outcome as its tasks have seen it."""
    async with serve(app) as server:
        await server.request(path, **request)
        return await outcome.seen()


# In whatever task the route runs, what it returns is a success.


async def by_gather(endpoint: Endpoint, request: Request) -> Response:
    response, _ = await asyncio.gather(endpoint(request), asyncio.sleep(0))
    return response


async def by_wait_for(endpoint: Endpoint, request: Request) -> Response:
    return await asyncio.wait_for(asyncio.ensure_future(endpoint(request)), 5)


async def by_task_group(endpoint: Endpoint, request: Request) -> Response:
    responses: list[Response] = []

    async def run() -> None:
        responses.append(await endpoint(request))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
    return responses[0]


async def directly(endpoint: Endpoint, request: Request) -> Response:
    return await endpoint(request)


@pytest.mark.parametrize("how", [directly, by_task_group, by_gather, by_wait_for])
@pytest.mark.parametrize("ask_by", ["get_tasks", "current_tasks"])
@pytest.mark.parametrize("status", [200, 404, 500])
async def test_a_route_in_a_task_of_its_own(
    outcome: Outcome, how: Any, ask_by: str, status: int, anyio_backend_name: str
) -> None:
    """1.6 A response that was returned is success, whatever its status and whoever asked."""
    if anyio_backend_name == "trio" and how in {by_gather, by_wait_for}:
        pytest.skip("asyncio's own")

    async def endpoint(request: Request) -> Response:
        outcome.schedule(get_tasks(request) if ask_by == "get_tasks" else current_tasks())
        return JSONResponse({}, status)

    async def route(request: Request) -> Response:
        response: Response = await how(endpoint, request)
        return response

    assert await ask(with_tasks(Route("/", route)), outcome) == SUCCESS


async def test_an_exception_that_the_route_handles(outcome: Outcome) -> None:
    """1.6 What the route catches itself is its own affair, also while it answers."""

    async def endpoint(request: Request) -> Response:
        outcome.schedule(get_tasks(request))
        try:
            return PlainTextResponse(str(1 / len(request.path_params)))
        except ZeroDivisionError:
            return PlainTextResponse("sorry", 500)

    assert await ask(with_tasks(Route("/", endpoint)), outcome) == SUCCESS


# Whatever an exception handler answers with.


async def chunks() -> AsyncIterator[bytes]:
    yield b"go"
    yield b"ne"


ANSWERS: Mapping[str, Callable[[Path], Response]] = {
    "text": lambda _: PlainTextResponse("gone", 200),
    "file": lambda path: FileResponse(path, 404),
    "stream": lambda _: StreamingResponse(chunks(), 404),
    "redirect": lambda _: RedirectResponse("/elsewhere"),
}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("of", list(product(["async", "sync"], ["own", "mounted"])), ids="-".join)
@pytest.mark.parametrize("key", [404, HTTPException, ValueError, 500])
async def test_what_a_handler_answers_with(
    outcome: Outcome, page: Path, answer: str, of: tuple[str, str], key: Any
) -> None:
    """1.6 Text, file, stream or redirect; of the application, or of one that is mounted in it."""

    async def handle(request: Request, error: Exception) -> Response:
        return ANSWERS[answer](page)

    def handle_in_thread(request: Request, error: Exception) -> Response:
        return ANSWERS[answer](page)

    kind: Kind = ValueError if key in {ValueError, 500} else lambda: HTTPException(404)
    route = Route("/", raising(outcome, kind))
    handlers: dict[Any, Any] = {key: handle_in_thread if "sync" in of else handle}
    if "mounted" in of:
        inner = Starlette(routes=[route], exception_handlers=handlers)
        app = with_tasks(Mount("/in", app=inner))
    else:
        app = with_tasks(route, exception_handlers=handlers)
    async with serve(app) as server:
        # Servers of older specifications, as the driver and uvicorn are, have some responses sent
        # from a task of their own.
        exchange = await server.request("/in/" if "mounted" in of else "/")
        assert exchange.status in {200, 307, 404}
        assert await outcome.seen() == FAILURE


async def test_a_handler_that_raises(outcome: Outcome) -> None:
    """1.6 What a handler raises itself changes nothing."""

    async def handle(request: Request, error: Exception) -> Response:
        raise LookupError

    app = with_tasks(Route("/", raising(outcome, KeyError)), exception_handlers={KeyError: handle})
    assert await ask(app, outcome) == FAILURE


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("kind", [ValueError, lambda: HTTPException(404)])
async def test_what_nobody_handles(outcome: Outcome, kind: Kind, debug: bool) -> None:  # noqa: FBT001
    """1.6 Starlette's own answers to an error are answers to a failure, in debug mode too."""
    app = with_tasks(Route("/", raising(outcome, kind)), debug=debug)
    assert await ask(app, outcome) == FAILURE


# Mounted applications, each way of putting them there.


class Plain:
    """A middleware that does nothing; others are made of it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        else:
            await self.serve(scope, receive, send)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class Base(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        return response


def in_a_function(inner: ASGIApp) -> ASGIApp:
    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        await inner(scope, receive, send)

    return call


def returning_it(inner: ASGIApp) -> Callable[[Request], Awaitable[Any]]:
    async def endpoint(_: Request) -> Any:
        return inner

    return endpoint


def in_router_default(inner: ASGIApp) -> Starlette:
    app = Starlette()
    app.router.default = inner
    return app


MOUNTS: Mapping[str, Callable[[ASGIApp], Starlette]] = {
    "mount": lambda inner: Starlette(routes=[Mount("/in", app=inner)]),
    "mount_with_middleware": lambda inner: Starlette(
        routes=[Mount("/in", app=inner, middleware=[Middleware(Plain)])]
    ),
    "mount_with_base_middleware": lambda inner: Starlette(
        routes=[Mount("/in", app=inner, middleware=[Middleware(Base)])]
    ),
    "host": lambda inner: Starlette(routes=[Host("testserver", app=inner)]),
    "mount_in_mount": lambda inner: Starlette(
        routes=[Mount("/in", routes=[Mount("/deep", app=inner)])]
    ),
    "mount_in_router": lambda inner: Starlette(
        routes=[Mount("/in", app=Router([Mount("/deep", app=inner)]))]
    ),
    "mount_in_application": lambda inner: Starlette(
        routes=[Mount("/in", app=Starlette(routes=[Mount("/deep", app=inner)]))]
    ),
    "wrapped_by_hand": lambda inner: Starlette(routes=[Mount("/in", app=Plain(inner))]),
    "in_a_function": lambda inner: Starlette(routes=[Mount("/in", app=in_a_function(inner))]),
    "as_a_route": lambda inner: Starlette(routes=[Route("/in/", inner)]),
    "as_a_response": lambda inner: Starlette(routes=[Route("/in/", returning_it(inner))]),
    "router_default": in_router_default,
}
PATHS = {"mount_in_mount": "/in/deep/", "mount_in_router": "/in/deep/"} | {
    "mount_in_application": "/in/deep/"
}
KINDS: Mapping[str, Kind] = {
    "http": lambda: HTTPException(418),
    "handled": lambda: KeyError("k"),
    "unhandled": lambda: ValueError("v"),
}


def inner_app(outcome: Outcome, kind: str, **options: Any) -> Starlette:
    async def handle(request: Request, error: Exception) -> Response:
        return PlainTextResponse("handled", 400)

    endpoint = raising(outcome, KINDS[kind])
    routes = [Route("/{path:path}", endpoint)]
    return Starlette(routes=routes, exception_handlers={KeyError: handle}, **options)


@pytest.mark.parametrize("way", MOUNTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inside", ["plain", "debug", "used_before", "base", "with_tasks"])
async def test_mounted_applications(outcome: Outcome, way: str, kind: str, inside: str) -> None:
    """1.6, 1.8 What is raised further in is a failure, whichever way its application got there."""
    inner = inner_app(
        outcome,
        kind,
        debug=inside == "debug",
        middleware=[Middleware(Base)] if inside == "base" else [],
    )
    if inside == "used_before":
        inner.middleware_stack = inner.build_middleware_stack()
    if inside == "with_tasks":
        add_tasks(inner)
    app = MOUNTS[way](inner)
    add_tasks(app)
    assert await ask(app, outcome, PATHS.get(way, "/in/")) == FAILURE


def mount_later(app: Starlette, inner: ASGIApp) -> None:
    app.mount("/in", inner)


def mount_further_in_later(app: Starlette, inner: ASGIApp) -> None:
    mount, *_ = app.routes
    assert isinstance(mount, Mount)
    mount.routes.append(Mount("/in", app=inner))


def host_later(app: Starlette, inner: ASGIApp) -> None:
    app.host("testserver", inner)


def route_later(app: Starlette, inner: ASGIApp) -> None:
    app.routes.append(Route("/in/", inner))


def put_in_place_later(app: Starlette, inner: ASGIApp) -> None:
    app.routes[0] = Mount("/in", app=inner)


@pytest.mark.parametrize(
    "later", [mount_later, mount_further_in_later, host_later, route_later, put_in_place_later]
)
@pytest.mark.parametrize("kind", KINDS)
async def test_an_application_that_is_mounted_later(
    outcome: Outcome, kind: str, later: Callable[[Starlette, ASGIApp], None]
) -> None:
    """1.8 Also one that is mounted when requests have been served, in whatever way."""
    app = with_tasks(Mount("/deep", app=Router()))
    async with serve(app) as server:
        path = "/deep/in/" if later is mount_further_in_later else "/in/"
        await server.request(path)
        later(app, inner_app(outcome, kind))
        await server.request(path)
        assert await outcome.seen() == FAILURE


async def test_a_handler_by_status_of_one_that_was_used_before(outcome: Outcome) -> None:
    """1.6 Its handlers are looked for, and one for a status tells as those of a type do."""

    async def handle(request: Request, error: Exception) -> Response:
        return PlainTextResponse("teapot", 200)

    route = Route("/", raising(outcome, lambda: HTTPException(418)))
    inner = Starlette(routes=[route], exception_handlers={418: handle})
    inner.middleware_stack = inner.build_middleware_stack()
    app = with_tasks(Mount("/in", app=inner))
    async with serve(app) as server:
        assert (await server.request("/in/")).body == b"teapot"
        assert await outcome.seen() == FAILURE


async def test_a_mounted_middleware_asks_first(outcome: Outcome, log: list[str]) -> None:
    """1.6 Who asks for the tasks first, and where, makes no difference."""
    note = noting(log)

    async def audit(request: Request, call_next: Any) -> Response:
        tasks = get_tasks(request).after_response.task(run_on="always")
        outcome.made.append(tasks.schedule(note, "audit"))
        response: Response = await call_next(request)
        return response

    inner = inner_app(outcome, "http", middleware=[Middleware(Base, dispatch=audit)])
    assert (await ask(with_tasks(Mount("/in", app=inner)), outcome, "/in/"))[1:] == FAILURE
    assert log == ["audit"]


async def test_what_handlers_are_in_the_scope() -> None:
    """1.6 What routes raise is looked up by a key of the scope; it is still there.

    It is not documented. When this fails, look at `starlette_tasks._handlers`.
    """
    seen: list[Any] = []

    async def endpoint(request: Request) -> Response:
        seen.append(request.scope[HANDLERS])
        return PlainTextResponse("ok")

    inner = Starlette(routes=[Route("/", endpoint)])
    async with serve(with_tasks(Mount("/in", app=inner))) as server:
        await server.request("/in/")
    ((exceptions, statuses),) = seen
    assert HTTPException in list(exceptions)
    assert len(statuses) == 0


async def test_other_things_under_that_key(outcome: Outcome) -> None:
    """1.6 To look up a handler is no failure, nor is something else in its place."""

    async def endpoint(request: Request) -> Response:
        outcome.schedule(get_tasks(request))
        exceptions, _ = request.scope[HANDLERS]
        assert exceptions[HTTPException]
        request.scope[HANDLERS] = None
        return PlainTextResponse("ok")

    assert await ask(with_tasks(Route("/", endpoint)), outcome) == SUCCESS


async def test_without_that_key(outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    """1.6 Without it the application's own handlers still tell what they answer."""
    monkeypatch.setattr("starlette_tasks._outcome.HANDLERS", "none")
    app = with_tasks(Route("/", raising(outcome, lambda: HTTPException(404))))
    assert await ask(app, outcome) == FAILURE


async def test_what_is_written_into_the_scope() -> None:
    """1.6 Middleware sees what its route has put there, has changed, and has taken out."""
    seen = dict[str, Any]()

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope.pop("popped") == 1
        assert scope.pop("popped", 2) == 2
        del scope["deleted"]
        scope["set"] = 3
        scope.update({"updated": 4}, more=5)
        assert scope.setdefault("set", 6) == 3
        assert scope.setdefault("default", 7) == 7
        await PlainTextResponse("ok")(scope, receive, send)

    class Middle(Plain):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            scope.update(popped=1, deleted=2, updated=0)
            await self.app(scope, receive, send)
            seen.update(scope if scope["type"] == "http" else {})

    app = Starlette(routes=[Mount("/", app=route)], middleware=[Middleware(Middle)])
    add_tasks(app)
    async with serve(app) as server:
        await server.request()
    names = ("popped", "deleted", "set", "updated", "more", "default")
    assert [seen.get(name) for name in names] == [None, None, 3, 4, 5, 7]


async def test_what_mounted_applications_put_into_the_scope() -> None:
    """1.6 Each is there before its middleware is built: `request.app`, by which it is watched."""
    seen: list[Any] = []

    class Inner(Starlette):
        def build_middleware_stack(self) -> ASGIApp:
            seen.append("built")
            return super().build_middleware_stack()

    class Scopes(dict[str, Any]):
        def __setitem__(self, key: str, value: Any) -> None:
            super().__setitem__(key, value)
            if key == "app":
                seen.append(value)

    async def nothing(*_: Any) -> Any:
        return {"type": "http.request"}

    inner = Inner(routes=[])
    await inner(Scopes(type="http", method="GET", path="/", headers=[]), nothing, nothing)
    assert seen == [inner, "built"]


@pytest.mark.parametrize("without", ["tasks_before", "tasks_after"])
async def test_a_mounted_application_that_is_served_alone(outcome: Outcome, without: str) -> None:
    """1.6 One that is watched where it is mounted is served by itself as ever."""

    async def endpoint(request: Request) -> Response:
        with contextlib.suppress(TasksUninitializedError):
            outcome.schedule(get_tasks(request))
        raise HTTPException(418)

    inner = Starlette(routes=[Route("/", endpoint)])
    app = with_tasks(Mount("/in", app=inner))
    if without == "tasks_before":
        assert await ask(app, outcome, "/in/") == FAILURE
    async with serve(inner) as server:
        assert (await server.request("/")).status == 418
    if without == "tasks_after":
        assert await ask(app, outcome, "/in/") == FAILURE


async def test_something_mounted_without_an_end(outcome: Outcome) -> None:
    """1.8 What is mounted may refer to itself as its own application."""

    class Endless:
        def __init__(self, app: ASGIApp) -> None:
            self._app = app
            self.app = self

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await self._app(scope, receive, send)

    inner = inner_app(outcome, "http")
    assert await ask(with_tasks(Mount("/in", app=Endless(inner))), outcome, "/in/") == FAILURE


async def test_the_scope_is_the_same_for_middleware() -> None:
    """What the routing writes into the scope is there for middleware, as without tasks."""
    seen: list[Any] = []

    async def look(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        scope = request.scope
        seen.append((scope["endpoint"], request.path_params, scope["mark"]))
        seen.append({key: scope.get(key) for key in ("a", "b", "c", "d", "gone", "popped")})
        return response

    async def endpoint(request: Request) -> Response:
        request.scope["gone"] = request.scope["popped"] = 1
        del request.scope["gone"]
        assert request.scope.pop("popped") == 1
        assert request.scope.pop("popped", 2) == 2
        assert request.scope.setdefault("mark", 3) == request.scope.setdefault("mark", 4) == 3
        request.scope.update({"a": 1}, b=2)
        request.scope.update(iter([("c", 3)]))
        request.scope.update(d=4)
        scope: Any = request.scope
        scope |= {"a": 0}
        scope |= iter([("a", 1)])
        scope["gone"] = 1
        assert scope.popitem() == ("gone", 1)
        assert [request.scope[key] for key in "abcd"] == [1, 2, 3, 4]
        return PlainTextResponse("ok")

    app = with_tasks(
        Route("/{name}", endpoint), middleware=[Middleware(BaseHTTPMiddleware, dispatch=look)]
    )
    async with serve(app) as server:
        await server.request("/ada")
    written = {"a": 1, "b": 2, "c": 3, "d": 4, "gone": None, "popped": None}
    assert seen == [(endpoint, {"name": "ada"}, 3), written]


COPIES: Mapping[str, Callable[[Any], Any]] = {
    "dict": dict,
    "method": lambda scope: scope.copy(),
    "unpacked": lambda scope: {**scope},
    "union": lambda scope: scope | {},
    "union_within": lambda scope: {} | scope,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda scope: pickle.loads(pickle.dumps(scope)),  # noqa: S301 - its own
}


@pytest.mark.parametrize("how", COPIES)
async def test_a_copy_of_the_scope(how: str) -> None:
    """1.8 It is a dict of its own, however it is made: what is written to it stays there."""
    seen: list[Any] = []

    async def look(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        seen.append({key: request.scope.get(key) for key in ("path", "cleared", "more")})
        return response

    async def route(scope: Any, receive: Receive, send: Send) -> None:
        kept = dict(scope)
        scope["cleared"] = 1
        scope.clear()  # what is there cannot be copied deeply
        scope |= {"type": "http", "path": "/"}
        copied: dict[str, Any] = COPIES[how](scope)
        assert type(copied) is dict
        copied.update({"path": "/in"}, more=1)
        assert scope == {"type": "http", "path": "/"}
        scope.update(kept)
        await PlainTextResponse("ok")(scope, receive, send)

    middleware = [Middleware(BaseHTTPMiddleware, dispatch=look)]
    async with serve(with_tasks(Mount("/", app=route), middleware=middleware)) as server:
        assert (await server.request("/")).body == b"ok"
    assert seen == [{"path": "/", "cleared": None, "more": None}]


async def test_a_handler_that_a_route_adds(outcome: Outcome) -> None:
    """1.6 Where Starlette looks for handlers they may be set; those that are tell as others do."""

    def answer(_: Request, error: Exception) -> Response:
        return PlainTextResponse(str(error))

    async def endpoint(request: Request) -> Response:
        outcome.schedule(get_tasks(request))
        handlers, _ = request.scope[HANDLERS]
        handlers[ValueError] = handlers[KeyError] = answer
        del handlers[KeyError]
        assert KeyError not in handlers
        raise ValueError("answered")

    async with serve(with_tasks(Route("/", endpoint))) as server:
        assert (await server.request("/")).body == b"answered"
        assert await outcome.seen() == FAILURE


# Middleware, around the application or within its routing, that answers what the route raises.

PLACES: Mapping[str, Callable[[Any, Endpoint], Starlette]] = {
    "application": lambda kind, endpoint: Starlette(
        routes=[Route("/", endpoint)], middleware=[Middleware(kind)]
    ),
    "route": lambda kind, endpoint: Starlette(
        routes=[Route("/", endpoint, middleware=[Middleware(kind)])]
    ),
    "mount": lambda kind, endpoint: Starlette(
        routes=[Mount("", routes=[Route("/", endpoint)], middleware=[Middleware(kind)])]
    ),
    "router": lambda kind, endpoint: Starlette(
        routes=[Mount("", app=Router([Route("/", endpoint)], middleware=[Middleware(kind)]))]
    ),
    "by_hand": lambda kind, endpoint: Starlette(
        routes=[Mount("", app=kind(Plain(Router([Route("/", endpoint)]))))]
    ),
}
in_each_place = pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)


def placed(place: Callable[[Any, Endpoint], Starlette], kind: Any, endpoint: Endpoint) -> Starlette:
    app = place(kind, endpoint)
    add_tasks(app)
    return app


class Catches(Plain):
    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except Exception:  # noqa: BLE001 - as the commonest error middleware does
            await PlainTextResponse("sorry", 500)(scope, receive, send)


class CatchesGroups(Plain):
    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        caught = False
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(super().serve, scope, receive, send)
        except* ValueError:
            caught = True
        if caught:
            await PlainTextResponse("sorry", 500)(scope, receive, send)


class CatchesInDispatch(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Response:
        try:
            response: Response = await call_next(request)
        except ValueError:
            return PlainTextResponse("sorry", 500)
        return response


class CopiesTheScope(Plain):
    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(dict(scope), receive, send)
        except ValueError:
            await PlainTextResponse("sorry", 500)(scope, receive, send)


@in_each_place
@pytest.mark.parametrize("kind", [Catches, CatchesGroups, CatchesInDispatch, CopiesTheScope])
async def test_middleware_that_catches(outcome: Outcome, kind: Any, place: Any) -> None:
    """1.6 A failure stays one when a middleware answers it."""
    app = placed(place, kind, raising(outcome, ValueError))
    async with serve(app) as server:
        assert (await server.request()).body == b"sorry"
        assert await outcome.seen() == FAILURE


class MovesOn(Plain):
    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        with anyio.move_on_after(0.01) as limit:
            await self.app(scope, receive, send)
        if limit.cancelled_caught:
            await PlainTextResponse("late", 504)(scope, receive, send)


class TimesOut(Plain):
    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(0.01):
                await self.app(scope, receive, send)
        except TimeoutError:
            await PlainTextResponse("late", 504)(scope, receive, send)


class WaitsFor(Plain):
    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.wait_for(self.app(scope, receive, send), 0.01)
        except TimeoutError:
            await PlainTextResponse("late", 504)(scope, receive, send)


@in_each_place
@pytest.mark.parametrize("kind", [MovesOn, TimesOut, WaitsFor])
async def test_a_timeout_around_the_application(
    outcome: Outcome, kind: Any, place: Any, anyio_backend_name: str
) -> None:
    """1.6 A route that is cut off has not returned."""
    if anyio_backend_name == "trio" and kind is not MovesOn:
        pytest.skip("asyncio's own")

    async def endpoint(request: Request) -> Response:
        outcome.schedule(get_tasks(request))
        await anyio.sleep_forever()
        raise AssertionError

    app = placed(place, kind, endpoint)
    async with serve(app) as server:
        assert (await server.request()).status == 504
        assert await outcome.seen() == FAILURE


class Schedules(Plain):
    def __init__(self, app: ASGIApp, outcome: Outcome) -> None:
        super().__init__(app)
        self.outcome = outcome

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.outcome.schedule(current_tasks())
        await self.app(scope, receive, send)


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    raise HTTPException(502)


@pytest.mark.parametrize(
    "route",
    [
        Mount("/", routes=[Route("/there", refuse)], middleware=[Middleware(Catches)]),
        Mount("/", app=Router(middleware=[Middleware(Catches)])),
        Mount("/", app=refuse, middleware=[Middleware(Catches)]),
        Mount("/", app=Catches(Plain(refuse))),
    ],
    ids=["in_mount", "in_router", "application", "by_hand"],
)
async def test_middleware_that_answers_what_no_route_has_raised(
    outcome: Outcome, route: BaseRoute
) -> None:
    """1.6 A router that finds nothing has failed, and an ASGI application that raises."""
    app = with_tasks(route, middleware=[Middleware(Schedules, outcome)])
    async with serve(app) as server:
        assert (await server.request()).body == b"sorry"
        assert await outcome.seen() == FAILURE


@dataclass(frozen=True)
class Frozen:
    """A middleware whose application cannot be set."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class Lazy:
    """A middleware that has its application from elsewhere, each time."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    @property
    def app(self) -> ASGIApp:
        return self._app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class Refuses(Plain):
    """A middleware that lets nothing be set once it is made, and says so in its own way."""

    def __init__(self, app: ASGIApp) -> None:
        vars(self)["app"] = app

    def __setattr__(self, name: str, value: object) -> None:
        raise ValueError(name)


@pytest.mark.parametrize("kind", [Frozen, Lazy, Refuses])
async def test_middleware_whose_application_cannot_be_set(outcome: Outcome, kind: Any) -> None:
    """1.6 It is left as it is; what Starlette answers within is seen all the same."""
    app = placed(PLACES["route"], kind, raising(outcome, lambda: HTTPException(404)))
    assert await ask(app, outcome) == FAILURE


class Counts:
    """An application that a middleware around it looks into."""

    def __init__(self, app: object = None) -> None:
        self.app = app
        self.called = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.called += 1
        raise ValueError


class LooksWithin(Plain):
    """A middleware that reads and writes what it is around, as one around static files may."""

    app: Any

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.app.called += 1
        assert copy.copy(self.app).called == 1
        try:
            await self.app(scope, receive, send)
        except ValueError:
            answer = f"{self.app.called} {self.app.app} {hasattr(self.app, 'other')}"
            await PlainTextResponse(answer)(scope, receive, send)


async def test_middleware_that_looks_into_what_it_is_around(outcome: Outcome) -> None:
    """1.6, 1.8 All that it knows there is there, and what is raised within is a failure."""
    counts = Counts("kept")
    app = with_tasks(
        Mount("/in", app=LooksWithin(counts)), middleware=[Middleware(Schedules, outcome)]
    )
    async with serve(app) as server:
        assert (await server.request("/in/")).body == b"2 kept False"
        assert await outcome.seen() == FAILURE
    assert counts.called == 2


async def takes_more(scope: Scope, receive: Receive, send: Send, more: object) -> None: ...


class Unreadable:
    """It can be called, and does not say how."""

    __signature__ = "none"

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any: ...


NOT_ASGI: list[Any] = [
    "billing",
    lambda environ, start_response: [b"wsgi"],  # pyright: ignore[reportUnknownLambdaType]
    lambda *args: None,  # pyright: ignore[reportUnknownLambdaType]
    takes_more,
    Unreadable(),
]


@pytest.mark.parametrize("kept", NOT_ASGI)
async def test_what_is_no_application_is_left_alone(kept: Any) -> None:
    """1.8 What is mounted, or is a route, may have something else under the name ``app``."""
    seen: list[object] = []
    outcomes: list[Outcome] = []

    class Endpoint:
        def __init__(self) -> None:
            self.app = kept

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            outcomes[-1].schedule(current_tasks())
            seen.append(self.app)
            raise ValueError

    app = with_tasks(
        Mount("/in", app=Endpoint()),
        Route("/route", Endpoint(), middleware=[Middleware(Plain)]),
        Mount("/around", app=Catches(Endpoint())),
    )
    for path in ("/in/", "/route", "/around/"):
        outcomes.append(Outcome())
        assert await ask(app, outcomes[-1], path) == FAILURE
    assert seen == [kept] * 3


class Made(PlainTextResponse):
    @property
    def app(self) -> ASGIApp:
        raise RuntimeError


class MadeOnce(PlainTextResponse):
    @cached_property
    def app(self) -> ASGIApp:
        raise RuntimeError


class Slotted(PlainTextResponse):
    """Its slot is empty, as that of a route of Litestar is."""

    __slots__ = ("app",)


class Elsewhere:
    def __get__(self, holder: object, kind: type) -> ASGIApp:
        raise LookupError


class FromElsewhere(PlainTextResponse):
    app = Elsewhere()


@pytest.mark.parametrize("kind", [Made, MadeOnce, Slotted, FromElsewhere])
async def test_what_is_made_when_it_is_asked_for(kind: type[PlainTextResponse]) -> None:
    """1.8 Nobody asks for it, as that may be early; where somebody has to, it may fail."""
    app = with_tasks(Mount("/in", app=kind("here")), Mount("/around", app=Plain(kind("here"))))
    async with serve(app) as server:
        for path in ("/in/", "/around/"):
            assert (await server.request(path)).body == b"here"


async def test_an_application_of_litestar() -> None:
    """1.8 It may be mounted, with middleware between or none, and its requests have their tasks."""
    litestar: Any = pytest.importorskip("litestar")
    ran = anyio.Event()

    async def answer() -> str:
        current_tasks().after_response.schedule(ran.set)
        return "here"

    def inner() -> ASGIApp:
        made: ASGIApp = litestar.Litestar([litestar.get("/")(answer)])
        return made

    app = with_tasks(Mount("/in", app=inner()), Mount("/around", app=Plain(inner())))
    async with drain(), serve(app) as server:
        for path in ("/in/", "/around/"):
            assert (await server.request(path)).body == b"here"
    assert ran.is_set()


class Routed(PlainTextResponse):
    """Of another framework, which has something else under the name ``routes``."""

    def __init__(self, routes: Any) -> None:
        super().__init__("here")
        self.routes = routes


class RoutesMade(Routed):
    @property
    def routes(self) -> Any:
        raise RuntimeError

    @routes.setter
    def routes(self, routes: Any) -> None: ...


class RoutesAskedFor(RoutesMade):
    def __getattr__(self, name: str) -> Any:
        raise LookupError(name)


class RoutesUnread(list[Any]):
    def __iter__(self) -> Any:
        raise NotImplementedError


class RoutesMadeAnew(Routed):
    """Each time it is asked there are other routes within."""

    @property
    def routes(self) -> Any:
        return [RoutesMadeAnew(None), RoutesMadeAnew(None)]

    @routes.setter
    def routes(self, routes: Any) -> None: ...


ROUTES: Mapping[str, Callable[[], Routed]] = {
    "number": lambda: Routed(5),
    "method": lambda: Routed("here".split),
    "without_an_end": lambda: Routed(count()),
    "of_strings": lambda: Routed({"/": "/in"}),
    "unread": lambda: Routed(RoutesUnread()),
    "made": lambda: RoutesMade(None),
    "asked_for": lambda: RoutesAskedFor(None),
    "made_anew": lambda: RoutesMadeAnew(None),
}


@pytest.mark.parametrize("kind", ROUTES)
async def test_what_are_no_routes(
    outcome: Outcome, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1.8 They are left alone, and what is mounted beside them is found."""
    monkeypatch.setattr("starlette_tasks._layers._ROUTES", 100)
    inner = inner_app(outcome, "http")
    app = with_tasks(Mount("/in", app=ROUTES[kind]()), Mount("/beside", app=CopiesTheScope(inner)))
    async with serve(app) as server:
        assert (await server.request("/in/")).body == b"here"
        assert (await server.request("/beside/")).status == 418
        assert await outcome.seen() == FAILURE


def in_itself(outcome: Outcome) -> Starlette:
    app = inner_app(outcome, "http")
    app.router.routes.insert(0, Mount("/in", app=app))
    return app


def in_one_another(outcome: Outcome) -> Starlette:
    inner = inner_app(outcome, "http")
    app = Starlette(routes=[Mount("/in", app=inner)])
    inner.router.routes.insert(0, Mount("/back", app=app))
    return app


def in_a_router_in_itself(outcome: Outcome) -> Starlette:
    router = Router(inner_app(outcome, "http").routes)
    router.routes.insert(0, Mount("/in", app=router))
    return Starlette(routes=[Mount("/in", app=router)])


@pytest.mark.parametrize("made", [in_itself, in_one_another, in_a_router_in_itself])
@pytest.mark.parametrize("path", ["/in/", "/in/in/", "/in/back/in/"])
async def test_an_application_that_is_mounted_in_itself(
    outcome: Outcome, made: Callable[[Outcome], Starlette], path: str
) -> None:
    """1.6, 1.8 Also by way of another one, or where a router is; each route is its own."""
    app = made(outcome)
    add_tasks(app)
    assert await ask(app, outcome, path) == FAILURE


# Middleware that calls the application again, or another one.


class Retries(Plain):
    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        held: list[Message] = []

        async def hold(message: Message) -> None:
            held.append(message)

        for _ in range(3):
            held.clear()
            with contextlib.suppress(ValueError):
                await self.app(dict(scope), receive, hold)
                if held[0]["status"] < 500:
                    break
        for message in held:
            await send(message)


@in_each_place
@pytest.mark.parametrize("kind", [ValueError, lambda: HTTPException(503)])
async def test_middleware_that_tries_again(log: list[str], kind: Kind, place: Any) -> None:
    """1.6 Each attempt counts for its own tasks, and its phases begin when its route has ended."""
    note, attempts = noting(log), iter([1, 2])

    async def endpoint(request: Request) -> Response:
        tasks, number = get_tasks(request), next(attempts)
        for name, batch in (("route", tasks.after_route), ("response", tasks.after_response)):
            batch.schedule(note, f"{number} {name}")
            batch.task(run_on="failure").schedule(note, f"{number} {name} failed")
            batch.task(run_on="success").schedule(note, f"{number} {name} succeeded")
        await anyio.lowlevel.checkpoint()
        log.append(f"{number} ends")
        if number == 1:
            raise kind()
        return PlainTextResponse("ok")

    app = placed(place, Retries, endpoint)
    async with serve(app) as server, drain():
        assert (await server.request()).body == b"ok"
    assert log[0] == "1 ends"
    assert log.index("2 ends") < log.index("2 route")
    assert sorted(log) == [
        "1 ends",
        "1 response failed",
        "1 route failed",
        "2 ends",
        "2 response",
        "2 response succeeded",
        "2 route",
        "2 route succeeded",
    ]


class ServesAgain(Plain):
    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def drop(message: Message) -> None:
            pass

        await self.app(dict(scope), receive, drop)
        await self.app(dict(scope), receive, send)


@in_each_place
async def test_an_attempt_that_had_succeeded(log: list[str], place: Any) -> None:
    """1.6 Where a route runs twice and the second fails, the first one's tasks have succeeded."""
    note, attempts = noting(log), iter([1, 2])

    async def endpoint(request: Request) -> Response:
        tasks, number = get_tasks(request), next(attempts)
        tasks.after_response.schedule(note, f"{number} succeeded")
        tasks.after_response.task(run_on="failure").schedule(note, f"{number} failed")
        if number == 2:
            raise HTTPException(503)
        return PlainTextResponse("ok")

    app = placed(place, ServesAgain, endpoint)
    async with serve(app) as server, drain():
        await server.request()
    assert log == ["1 succeeded", "2 failed"]


async def test_middleware_that_serves_another_application_instead(log: list[str]) -> None:
    """1.6 What is scheduled once the request has failed runs, in a page that is served instead."""
    note = noting(log)

    async def page(request: Request) -> Response:
        get_tasks(request).after_route.schedule(note, "after route")
        get_tasks(request).after_response.schedule(note, "after response")
        get_tasks(request).after_response.task(run_on="success").schedule(note, "success")
        return PlainTextResponse("page")

    class Falls(Plain):
        async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
            held: list[Message] = []

            async def hold(message: Message) -> None:
                held.append(message)

            await self.app(dict(scope), receive, hold)
            assert held[0]["status"] == 404
            await pages(dict(scope), receive, send)

    pages = Starlette(routes=[Route("/{path:path}", page)])
    app = with_tasks(middleware=[Middleware(Falls)])
    async with serve(app) as server, drain():
        assert (await server.request("/any")).body == b"page"
    assert log == ["after route", "after response"]


async def test_a_route_that_calls_its_own_application(outcome: Outcome, log: list[str]) -> None:
    """1.2, 1.6 A part of a batch is a request of its own: its outcome is not the batch's."""
    parts, note = Outcome(), noting(log)

    async def part(request: Request) -> Response:
        parts.schedule(get_tasks(request))
        raise HTTPException(404)

    async def batch(request: Request) -> Response:
        tasks = get_tasks(request)
        outcome.schedule(tasks)
        outcome.made.append(tasks.after_route.schedule(note, "after route"))
        statuses: list[int] = []

        async def grab(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        for path in ("/part", "/nowhere"):
            await request.app(dict(request.scope, path=path), request.receive, grab)
        await request.app({**request.scope, "path": "/part"}, request.receive, grab)
        assert get_tasks(request) is current_tasks() is tasks
        log.append("route ends")
        return JSONResponse(statuses)

    app = with_tasks(Route("/", batch), Route("/part", part))
    async with serve(app) as server:
        assert (await server.request()).body == b"[404,404,404]"
        assert (await outcome.seen())[:2] == SUCCESS
        assert await parts.seen() == FAILURE * 2
    assert log == ["route ends", "after route"]


async def test_a_route_that_calls_its_own_application_with_its_own_scope() -> None:
    """1.6 Where the scope is not copied, the route has its own tasks again afterwards."""
    seen: list[bool] = []

    async def part(request: Request) -> Response:
        return PlainTextResponse("part")

    async def whole(request: Request) -> Response:
        async def drop(message: Message) -> None:
            pass

        tasks = get_tasks(request)
        request.scope["path"] = "/part"
        await request.app(request.scope, request.receive, drop)
        seen.append(get_tasks(request) is current_tasks() is tasks)
        return PlainTextResponse("ok")

    async with serve(with_tasks(Route("/", whole), Route("/part", part))) as server:
        await server.request()
    assert seen == [True]


# Middleware that answers before the route does, or lets it go on.


class AnswersFirst(Plain):
    """Begins the response, as one that keeps a connection alive does."""

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b" ", "more_body": True})

        async def rest(message: Message) -> None:
            if message["type"] != "http.response.start":
                await send(message)

        await self.app(scope, receive, rest)


async def test_a_response_that_a_middleware_has_begun(log: list[str]) -> None:
    """1.2 "After route" comes when the route has returned, not when a response begins."""
    note = noting(log)

    async def endpoint(request: Request) -> Response:
        get_tasks(request).after_route.schedule(note, "after route")
        await anyio.wait_all_tasks_blocked()
        log.append("route ends")
        return PlainTextResponse("ok")

    app = with_tasks(Route("/", endpoint), middleware=[Middleware(AnswersFirst)])
    async with serve(app) as server, drain():
        await server.request()
    assert log == ["route ends", "after route"]


async def test_a_failure_within_a_response_that_a_middleware_has_begun(outcome: Outcome) -> None:
    """1.6 What the route raises then is a failure in both phases."""
    app = with_tasks(
        Route("/", raising(outcome, lambda: HTTPException(409))),
        middleware=[Middleware(AnswersFirst)],
    )
    assert await ask(app, outcome) == FAILURE


async def test_a_middleware_that_lets_the_route_go_on(outcome: Outcome) -> None:
    """1.3, 1.6 The request ends with the later of both, and its outcome is the route's."""
    go = anyio.Event()

    async def endpoint(request: Request) -> Response:
        outcome.schedule(get_tasks(request))
        await go.wait()
        raise ValueError

    class Accepts(Plain):
        async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
            group.start_soon(self._run, scope, receive)
            await PlainTextResponse("accepted", 202)(scope, receive, send)

        async def _run(self, scope: Scope, receive: Receive) -> None:
            async def drop(message: Message) -> None:
                pass

            with contextlib.suppress(ValueError):
                await self.app(scope, receive, drop)

    app = with_tasks(Route("/", endpoint), middleware=[Middleware(Accepts)])
    async with serve(app) as server, anyio.create_task_group() as group:
        assert (await server.request()).status == 202
        await anyio.wait_all_tasks_blocked()
        assert [task.state for task in outcome.made] == ["pending"] * 4
        go.set()
        assert await outcome.seen() == FAILURE


class RunsInTask(Plain):
    """Runs the application in a task of its own, and answers what that raises."""

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        errors: list[Exception] = []

        async def run() -> None:
            try:
                await self.app(dict(scope), receive, send)
            except ValueError as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(run)
        if errors:
            await PlainTextResponse("sorry", 503)(scope, receive, send)


@pytest.mark.parametrize("fails", [False, True])
async def test_an_application_in_another_task(outcome: Outcome, fails: bool) -> None:  # noqa: FBT001
    """1.6 In whatever task a middleware runs the application."""
    endpoint = (
        raising(outcome, ValueError)
        if fails
        else returning(outcome, lambda: PlainTextResponse("ok", 400))
    )
    app = with_tasks(Route("/", endpoint), middleware=[Middleware(RunsInTask)])
    assert await ask(app, outcome) == (FAILURE if fails else SUCCESS)


# What leaves the application, also after the response has begun.


class CommitError(Exception):
    pass


class CommitsInDispatch(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Response:
        await call_next(request)
        raise CommitError


class CommitsInSend(Plain):
    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def commit(message: Message) -> None:
            raise CommitError

        await self.app(scope, receive, commit)


class CommitsAtTheEnd(Plain):
    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)
        raise CommitError


@pytest.mark.parametrize("kind", [CommitsInDispatch, CommitsInSend, CommitsAtTheEnd])
@pytest.mark.parametrize("debug", [False, True])
async def test_a_commit_that_fails_in_a_middleware(
    outcome: Outcome,
    kind: Any,
    debug: bool,  # noqa: FBT001
) -> None:
    """1.6 The route has returned, the request fails: after the response it has."""
    endpoint = returning(outcome, lambda: PlainTextResponse("ok"))
    app = with_tasks(Route("/", endpoint), middleware=[Middleware(kind)], debug=debug)
    assert await ask(app, outcome) == ANSWERED_AND_FAILED


async def test_a_middleware_that_raises_before_the_route() -> None:
    """1.6 Nothing was answered but by an error: what it has scheduled is skipped in both phases."""
    outcome = Outcome()

    class Raises(Plain):
        async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
            outcome.schedule(current_tasks())
            raise ValueError

    assert await ask(with_tasks(middleware=[Middleware(Raises)]), outcome) == FAILURE


async def test_a_stream_that_breaks(outcome: Outcome) -> None:
    """1.6 An exception within the body comes after the route, before the end."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise HTTPException(500)

    app = with_tasks(
        Route("/", returning(outcome, lambda: StreamingResponse(broken()))),
        middleware=[Middleware(Base), Middleware(Base)],
    )
    assert await ask(app, outcome) == ANSWERED_AND_FAILED


# The client has gone.


def long() -> Response:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x"

    return StreamingResponse(body())


@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("first", range(4))
async def test_a_client_that_goes_away(outcome: Outcome, layers: int, first: int) -> None:
    """1.7 What `send` raises is no failure, however many tasks a middleware puts between."""
    app = with_tasks(Route("/", returning(outcome, long)), middleware=[Middleware(Base)] * layers)
    assert await ask(app, outcome, fails_from=first) == SUCCESS


async def test_a_commit_that_fails_when_the_client_has_gone(outcome: Outcome) -> None:
    """1.6 One error of `send` excuses no other error."""

    async def endpoint(request: Request) -> Response:
        outcome.schedule(get_tasks(request))
        return long()

    class Commits(Plain):
        async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await self.app(scope, receive, send)
            finally:
                raise CommitError

    app = with_tasks(Route("/", endpoint), middleware=[Middleware(Commits)])
    assert await ask(app, outcome, fails_from=1) == ANSWERED_AND_FAILED


async def test_an_upload_that_is_broken_off(outcome: Outcome) -> None:
    """1.6 A route that has not returned because its client left has failed."""

    async def endpoint(request: Request) -> Response:
        outcome.schedule(get_tasks(request))
        raise ClientDisconnect

    assert await ask(with_tasks(Route("/", endpoint)), outcome) == FAILURE


async def test_a_body_that_reads_until_the_client_leaves(outcome: Outcome) -> None:
    """1.7 Once the route has returned, the framework's word for that is no failure."""

    async def until_gone() -> AsyncIterator[bytes]:
        yield b"x"
        raise ClientDisconnect

    endpoint = returning(outcome, lambda: StreamingResponse(until_gone()))
    assert await ask(with_tasks(Route("/", endpoint)), outcome) == SUCCESS


@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
@pytest.mark.parametrize("error", [TimeoutError, ConnectionResetError])
async def test_a_body_that_breaks_by_an_error_of_the_system(
    outcome: Outcome, error: type[OSError], spec_version: str
) -> None:
    """1.6 Starlette takes any `OSError` of a stream for the client's leaving, from ASGI 2.4 on."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise error

    app = with_tasks(Route("/", returning(outcome, lambda: StreamingResponse(broken()))))
    assert await ask(newer(app, spec_version), outcome) == ANSWERED_AND_FAILED


async def test_a_client_that_leaves_a_stream(outcome: Outcome) -> None:
    """1.7 What Starlette makes of the error of `send` is no failure."""
    app = with_tasks(Route("/", returning(outcome, long)))
    assert await ask(newer(app, "2.4"), outcome, fails_from=1) == SUCCESS


def newer(app: ASGIApp, spec_version: str) -> ASGIApp:
    """Serve it as a server of another version of ASGI."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        asgi = {"version": "3.0", "spec_version": spec_version}
        await app({**scope, "asgi": asgi}, receive, send)

    return serve


async def test_a_cancelled_request(outcome: Outcome) -> None:
    """1.6 A server that cancels a request, at its shutdown for instance, makes it fail."""

    async def endpoint(request: Request) -> Response:
        outcome.schedule(get_tasks(request))
        started.set()
        await anyio.sleep_forever()
        raise AssertionError

    async def cancelled(scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(app, scope, receive, send)
            if scope["type"] == "http":
                await started.wait()
                group.cancel_scope.cancel()

    started, app = anyio.Event(), with_tasks(Route("/", endpoint))
    async with serve(cancelled) as server:
        await server.request()
        assert await outcome.seen() == FAILURE


async def read_and_write(websocket: WebSocket) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep_forever)
        while True:
            await websocket.receive_text()


async def read_and_fail(websocket: WebSocket) -> None:
    async def fail() -> None:
        raise ValueError

    async with anyio.create_task_group() as group:
        group.start_soon(fail)
        await websocket.receive_text()


@pytest.mark.parametrize(
    ("converse", "expected"), [(read_and_write, SUCCESS), (read_and_fail, FAILURE)]
)
async def test_a_websocket_with_a_task_group(
    outcome: Outcome, converse: Any, expected: list[str]
) -> None:
    """1.6, 1.7 A group that says only that the client has gone is no failure; another is."""

    async def endpoint(websocket: WebSocket) -> None:
        outcome.schedule(get_tasks(websocket))
        await websocket.accept()
        await converse(websocket)

    async with serve(with_tasks(WebSocketRoute("/", endpoint))) as server:
        async with server.websocket() as client:
            await client.receive()
            client.leave()
        assert await outcome.seen() == expected


async def test_a_handler_for_websockets_that_were_left(outcome: Outcome) -> None:
    """1.7 An exception handler that is told of it makes it no failure."""

    async def handle(websocket: WebSocket, error: Exception) -> None:
        pass

    async def endpoint(websocket: WebSocket) -> None:
        outcome.schedule(get_tasks(websocket))
        await websocket.accept()
        await websocket.receive_text()

    app = with_tasks(
        WebSocketRoute("/", endpoint), exception_handlers={WebSocketDisconnect: handle}
    )
    async with serve(app) as server:
        async with server.websocket() as client:
            await client.receive()
            client.leave()
        assert await outcome.seen() == SUCCESS


# What is scheduled once the request has failed, and what the log says.


async def test_handlers_schedule_for_the_failure(log: list[str]) -> None:
    """1.6 What an exception handler schedules runs, in each phase, unless it says "success"."""
    note = noting(log)

    async def handle(request: Request, error: Exception) -> Response:
        tasks = current_tasks()
        assert tasks is get_tasks(request)
        tasks.schedule(note, "immediate")
        tasks.after_route.schedule(note, "after route")
        tasks.after_response.schedule(note, "after response")
        tasks.after_response.task(run_on="success").schedule(note, "success")
        return PlainTextResponse("sorry", 500)

    async def forbid(request: Request) -> Response:
        raise HTTPException(403)

    async def crash(request: Request) -> Response:
        raise ValueError

    app = with_tasks(
        Route("/403", forbid),
        Route("/500", crash),
        exception_handlers={403: handle, 404: handle, Exception: handle},
    )
    for path in ("/403", "/404", "/500"):
        log.clear()
        async with serve(app) as server, drain():
            await server.request(path)
        assert log == ["immediate", "after route", "after response"], path


def levels(caplog: pytest.LogCaptureFixture) -> Iterator[tuple[str, str]]:
    for record in caplog.records:
        if record.name == "tasks_core":
            yield record.levelname, vars(record)["task_name"]


async def test_how_loud_a_skipped_task_is(caplog: pytest.LogCaptureFixture) -> None:
    """1.6 A warning where the client had been answered, else as much as is of interest."""
    caplog.set_level(logging.DEBUG)

    async def forbid(request: Request) -> Response:
        get_tasks(request).after_response.task(name="refused").schedule(len, "")
        raise HTTPException(403)

    async def breaks(request: Request) -> Response:
        async def broken() -> AsyncIterator[bytes]:
            yield b"x"
            raise ValueError

        get_tasks(request).after_response.task(name="answered").schedule(len, "")
        return StreamingResponse(broken())

    async def succeed(request: Request) -> Response:
        tasks = get_tasks(request).after_response.task(name="not needed", run_on="failure")
        tasks.schedule(len, "")
        return PlainTextResponse("ok")

    app = with_tasks(Route("/forbid", forbid), Route("/breaks", breaks), Route("/ok", succeed))
    async with serve(app) as server:
        for path in ("/forbid", "/breaks", "/ok"):
            await server.request(path)
    assert list(levels(caplog)) == [
        ("INFO", "refused"),
        ("WARNING", "answered"),
        ("DEBUG", "not needed"),
    ]


@pytest.mark.parametrize("attempts", [1, 2])
async def test_what_a_middleware_schedules_before_all_attempts(
    log: list[str], attempts: int
) -> None:
    """1.6 For a task that was scheduled before the route ran, the last attempt counts."""
    left = [attempts]

    async def endpoint(_: Request) -> Response:
        left[0] -= 1
        if left[0] > 0:
            msg = "not yet"
            raise ValueError(msg)
        return PlainTextResponse("done")

    class Retry:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await self.app(scope, receive, send)
                return
            for run_on in ("success", "failure", "always", None):
                task = current_tasks().after_response.task(run_on=run_on)
                task.schedule(noting(log), f"outside on {run_on}")
            for _ in range(2):
                with contextlib.suppress(ValueError):
                    await self.app(scope, receive, send)
                    return
            await PlainTextResponse("never", 500)(scope, receive, send)

    app = with_tasks(Route("/", endpoint), middleware=[Middleware(Retry)])
    async with serve(app) as server, drain():
        await server.request("/")
    assert log == [f"outside on {run_on}" for run_on in ("success", "always", None)]
    log.clear()
    left[0] = 3
    async with serve(app) as server, drain():
        await server.request("/")
    assert log == ["outside on failure", "outside on always"]
