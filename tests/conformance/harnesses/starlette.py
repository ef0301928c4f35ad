"""Starlette, with starlette-tasks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from inspect import iscoroutinefunction
from typing import cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket
from starlette_tasks import add_tasks, get_tasks
from tasks_core.asgi import ASGIApp

from tests.conformance import harness
from tests.conformance.harness import Answer, Application, AsyncEndpoint, Capability, SyncEndpoint


class StarletteHarness:
    """Starlette."""

    name = "starlette"
    lacks: Mapping[Capability, str] = {
        "dependencies": "Starlette has no dependencies",
        "function dependencies": "Starlette has no dependencies",
        "request dependencies": "Starlette has no dependencies",
        "validation": "Starlette validates nothing",
    }
    deviations: Mapping[str, str] = {}

    def build(self, application: Application) -> ASGIApp:
        routes = [_route(path, route) for path, route in application.routes.items()]
        mounted = [_route(path, route) for path, route in application.mounted.items()]
        app = Starlette(
            routes=[*routes, Mount("/mounted", app=Starlette(routes=mounted))],
            lifespan=lifespan(application),
            exception_handlers=handlers(application),
        )
        if application.wrapped:  # one middleware before the tasks are added, one after
            app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
        for settings in application.added:
            add_tasks(app, **settings)
        if application.wrapped:
            app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
        return cast("ASGIApp", app)

    def http_error(self, status: int) -> Exception:
        return HTTPException(status)


def _route(path: str, route: harness.Route | harness.SocketRoute) -> BaseRoute:
    endpoint = route.endpoint
    if isinstance(route, harness.SocketRoute):

        async def converse(websocket: WebSocket) -> None:
            await route.endpoint(get_tasks(websocket), websocket)

        return WebSocketRoute(path, converse)
    if iscoroutinefunction(endpoint):

        async def answer(request: Request) -> Response:
            return render(await cast("AsyncEndpoint", endpoint)(get_tasks(request)))

        return Route(path, answer, methods=[route.method])

    def answer_in_thread(request: Request) -> Response:
        return render(cast("SyncEndpoint", endpoint)(get_tasks(request)))

    return Route(path, answer_in_thread, methods=[route.method])


# What follows is Starlette's, and so FastAPI's too.


def render(answer: Answer | None) -> Response:
    match answer:
        case None:
            return PlainTextResponse("ok")
        case harness.Text(body, status):
            return PlainTextResponse(body, status)
        case harness.Empty(status):
            return Response(status_code=status)
        case harness.Stream(chunks):
            return StreamingResponse(chunks)
        case harness.File(path):
            return FileResponse(path)


def lifespan(
    application: Application,
) -> Callable[[Starlette], AbstractAsyncContextManager[None]] | None:
    own = application.lifespan
    if own is None:
        return None

    @asynccontextmanager
    async def live(app: Starlette) -> AsyncGenerator[None, None]:
        del app
        async with own():
            yield

    return live


def handlers(
    application: Application,
) -> dict[type[Exception], Callable[[Request, Exception], Response]]:
    def handler(answer: harness.ErrorAnswer) -> Callable[[Request, Exception], Response]:
        return lambda _, error: render(answer(error))

    return {kind: handler(answer) for kind, answer in application.answers.items()}


async def pass_on(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    return await call_next(request)
