"""One application, whose middleware depends on the first part of the path."""

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request as StarletteRequest
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette_tasks import get_tasks

from tests.servers.apps.package import (
    PACKAGE,
    SETTINGS,
    Tasks,
    add_tasks,
    current_tasks,
    tell_records,
)
from tests.servers.apps.wire import say

tell_records()
app = FastAPI()
add_tasks(app, **SETTINGS)


class Teapot(Exception):  # noqa: N818 - it is short and stout
    pass


@app.exception_handler(Teapot)
async def answer_teapot(_request: Request, _error: Exception) -> Response:
    return PlainTextResponse("teapot", 418)


@app.exception_handler(404)
async def answer_missing(_request: Request, _error: Exception) -> Response:
    return PlainTextResponse("not here", 404)


@app.exception_handler(Exception)
async def answer_anything(_request: Request, _error: Exception) -> Response:
    return PlainTextResponse("oops", 500)


async def pass_on(request: StarletteRequest, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


async def swallow_error(request: StarletteRequest, call_next: RequestResponseEndpoint) -> Response:
    try:
        return await call_next(request)
    except Exception:  # noqa: BLE001 - as its name says
        return PlainTextResponse("swallowed")


async def swallow_response(
    request: StarletteRequest, call_next: RequestResponseEndpoint
) -> Response:
    await call_next(request)
    return PlainTextResponse("another")


async def answer_itself(_request: StarletteRequest, _next: RequestResponseEndpoint) -> Response:
    return PlainTextResponse("itself")


async def answer_with_tasks(_request: StarletteRequest, _next: RequestResponseEndpoint) -> Response:
    schedule_in(current_tasks())
    say("route returns")
    return PlainTextResponse("itself")


class SwallowError:
    """The same as a pure ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except Exception:  # noqa: BLE001 - as its name says
            await PlainTextResponse("swallowed")(scope, receive, send)


class SwallowResponse:
    """Says of a response that has been sent nothing at all, and sends another one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def drop(_message: Any) -> None:
            pass

        await self.app(scope, receive, drop)
        await PlainTextResponse("another")(scope, receive, send)


class Over:
    """Tells when a call has ended: nothing more will come of the request itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        finally:
            if scope["type"] == "http":
                say("over")


def dispatch(function: Any) -> Callable[[ASGIApp], ASGIApp]:
    return lambda app: BaseHTTPMiddleware(app, dispatch=function)


STACKS: dict[str, list[Callable[[ASGIApp], ASGIApp]]] = {
    "base": [dispatch(pass_on)],
    "base-deep": [dispatch(pass_on)] * 4,
    "gzip": [lambda app: GZipMiddleware(app, minimum_size=10)],
    "gzip-base": [dispatch(pass_on), lambda app: GZipMiddleware(app, minimum_size=10)],
    "base-gzip": [lambda app: GZipMiddleware(app, minimum_size=10), dispatch(pass_on)],
    "cors": [lambda app: CORSMiddleware(app, allow_origins=["*"])],
    "session": [lambda app: SessionMiddleware(app, secret_key="not so secret")],  # noqa: S106
    "hosts": [lambda app: TrustedHostMiddleware(app, allowed_hosts=["127.0.0.1"])],
    "all": [
        lambda app: GZipMiddleware(app, minimum_size=10),
        lambda app: CORSMiddleware(app, allow_origins=["*"]),
        lambda app: SessionMiddleware(app, secret_key="not so secret"),  # noqa: S106
        lambda app: TrustedHostMiddleware(app, allowed_hosts=["127.0.0.1"]),
        dispatch(pass_on),
    ],
    "swallows-error-base": [dispatch(swallow_error)],
    "swallows-error": [SwallowError],
    "swallows-response-base": [dispatch(swallow_response)],
    "swallows-response": [SwallowResponse],
    "answers-itself": [dispatch(answer_itself)],
    "answers-with-tasks": [dispatch(answer_with_tasks)],
    "wrong-host": [lambda app: TrustedHostMiddleware(app, allowed_hosts=["elsewhere.test"])],
}


class Chosen:
    """One of several stacks of middleware, outermost last, by the path's first part."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.stacks: dict[str, ASGIApp] = {}
        for name, stack in STACKS.items():
            self.stacks[name] = app
            for middleware in stack:
                self.stacks[name] = middleware(self.stacks[name])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope.get("path", "").split("/")[1:2]
        await self.stacks.get("".join(name), self.app)(scope, receive, send)


app.add_middleware(Chosen)
app.add_middleware(Over)


async def schedule(tasks: Tasks) -> None:
    schedule_in(tasks)


async def tell(what: str) -> None:
    say(what)


def schedule_in(tasks: Tasks) -> None:
    tasks.task(name="immediate").schedule(tell, "immediate")
    tasks.after_route.task(name="after_route").schedule(tell, "after_route")
    tasks.after_response.task(name="after_response").schedule(tell, "after_response")


Scheduled = Annotated[None, Depends(schedule)]


@app.get("/{stack}/ok")
async def succeed(stack: str, request: Request, _: Scheduled) -> str:
    if "session" in request.scope:
        request.session["known"] = True
    say("route returns")
    return "x" * 10_000


@app.get("/{stack}/sync")
def succeed_in_thread(stack: str, _: Scheduled) -> str:
    say("route returns")
    return "x" * 10_000


@app.get("/{stack}/stream")
async def stream(stack: str, _: Scheduled) -> StreamingResponse:
    async def body() -> AsyncIterator[bytes]:
        for _number in range(10):
            yield b"x" * 1_000
        say("body ends")

    say("route returns")
    return StreamingResponse(body())


@app.get("/{stack}/returned")
async def return_failure(stack: str, _: Scheduled) -> JSONResponse:
    say("route returns")
    return JSONResponse({}, 503)


@app.get("/{stack}/http")
async def raise_http(stack: str, _: Scheduled) -> None:
    raise HTTPException(409)


@app.get("/{stack}/handled")
async def raise_handled(stack: str, _: Scheduled) -> None:
    raise Teapot


@app.get("/{stack}/status-handled")
async def raise_status(stack: str, _: Scheduled) -> None:
    raise HTTPException(404)


@app.get("/{stack}/invalid")
async def need_parameter(stack: str, number: int, _: Scheduled) -> None:
    pass


@app.get("/{stack}/crash")
async def crash(stack: str, _: Scheduled) -> None:
    raise ZeroDivisionError


async def inner_ok(request: StarletteRequest) -> Response:
    schedule_in(get_tasks(request))
    say("route returns")
    return PlainTextResponse("ok")


async def inner_http(request: StarletteRequest) -> Response:
    schedule_in(get_tasks(request))
    raise HTTPException(409)


async def inner_current(_request: StarletteRequest) -> Response:
    schedule_in(current_tasks())
    raise HTTPException(409)


async def inner_crash(request: StarletteRequest) -> Response:
    schedule_in(get_tasks(request))
    raise ZeroDivisionError


if PACKAGE == "fastapi_tasks":  # the naive double has no tasks outside of FastAPI's routes
    inner = [
        Route("/ok", inner_ok),
        Route("/http", inner_http),
        Route("/http-current", inner_current),
        Route("/crash", inner_crash),
    ]
    middleware = [Middleware(BaseHTTPMiddleware, dispatch=pass_on)]
    app.router.routes.insert(0, Mount("/inside", routes=inner, middleware=middleware))
