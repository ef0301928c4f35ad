"""Litestar, with litestar-tasks."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from inspect import Parameter, Signature, iscoroutinefunction
from typing import Any, TypeAlias, cast

from litestar import HttpMethod, Litestar, Request, Response, WebSocket, asgi, websocket
from litestar.di import NamedDependency, Provide
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.params import FromQuery
from litestar.response import File, Stream
from litestar.types import ASGIApp as LitestarApp
from litestar.types import Receive, Scope, Send
from litestar_tasks import Tasks, TasksPlugin, TasksScheduler
from tasks_core.asgi import ASGIApp

from tests.conformance import harness
from tests.conformance.harness import (
    Answer,
    Application,
    AsyncEndpoint,
    Capability,
    Dependency,
    Route,
    SocketRoute,
    SyncEndpoint,
)
from tests.conformance.relay import relay

_Nothing: TypeAlias = NamedDependency[None]
_SURROUNDING: Any = _Nothing


class LitestarHarness:
    """Litestar."""

    name = "litestar"
    lacks: Mapping[Capability, str] = {
        "request dependencies": "Litestar closes generator dependencies before the response starts",
        "anyio's threads": "Litestar runs sync handlers in threads of the event loop's own",
        "without tasks": "Litestar refuses a dependency that nothing provides when it starts",
    }
    deviations: Mapping[str, str] = {
        "test_an_error_of_the_lifespan": "Litestar's own task group wraps it, without tasks too",
        "test_errors_of_the_lifespan": "Litestar's own task group wraps it, without tasks too",
    }

    def build(self, application: Application) -> ASGIApp:
        own = application.lifespan
        app = Litestar(
            [
                *(_handler(path, route) for path, route in application.routes.items()),
                _mount(application.mounted),
            ],
            plugins=[TasksPlugin(**settings) for settings in application.added],
            lifespan=[] if own is None else [_lifespan(own)],
            middleware=[_relay] if application.wrapped else [],
            exception_handlers={
                kind: _exception_handler(answer) for kind, answer in application.answers.items()
            },
            logging_config=None,
            openapi_config=None,
        )
        return cast("ASGIApp", app)

    def http_error(self, status: int) -> Exception:
        return HTTPException(status_code=status)


def _lifespan(
    own: Callable[[], AbstractAsyncContextManager[None]],
) -> Callable[[Litestar], AbstractAsyncContextManager[None]]:
    return lambda _: own()


def _relay(app: LitestarApp) -> LitestarApp:
    return cast("LitestarApp", relay(cast("ASGIApp", app)))


def _exception_handler(
    answer: harness.ErrorAnswer,
) -> Callable[[Request[Any, Any, Any], Exception], Response[Any]]:
    return lambda _, error: _render(answer(error))


def _mount(routes: Mapping[str, Route]) -> BaseRouteHandler:
    """Mount an application of its own; its plugin tells what its exception handlers answer."""
    inner = Litestar(
        [_handler(path, route) for path, route in routes.items()],
        plugins=[TasksPlugin()],
        logging_config=None,
        openapi_config=None,
    )

    @asgi("/mounted", is_mount=True, copy_scope=True)
    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        await inner(scope, receive, send)

    return mounted


def _handler(path: str, route: Route | SocketRoute) -> BaseRouteHandler:
    if isinstance(route, SocketRoute):

        @websocket(path)
        async def converse(socket: WebSocket[Any, Any, Any], tasks: Tasks) -> None:
            await route.endpoint(tasks, socket)

        return converse
    dependencies: dict[str, Provide] = {}
    if route.dependency is not None:
        dependencies["inner"] = _inner(route.dependency)
        dependencies["surrounding"] = _around(route.dependency)
    return HTTPRouteHandler(
        path,
        http_method=HttpMethod(route.method),
        status_code=200,
        sync_to_thread=None if iscoroutinefunction(route.endpoint) else True,
        dependencies=dependencies,
    )(_function(route))


def _function(route: Route) -> Callable[..., Any]:
    """Make the function that Litestar calls; its parameters differ, so they are put together."""
    endpoint = route.endpoint
    if iscoroutinefunction(endpoint):

        async def answer(tasks: TasksScheduler, **_: object) -> Response[Any]:
            return _render(await cast("AsyncEndpoint", endpoint)(tasks))

        function: Any = answer
    else:

        def answer_in_thread(tasks: TasksScheduler, **_: object) -> Response[Any]:
            return _render(cast("SyncEndpoint", endpoint)(tasks))

        function = answer_in_thread
    parameters: dict[str, Any] = {"tasks": Tasks}
    if route.dependency is not None:
        surrounding = {"surrounding": _SURROUNDING}
        first = route.dependency.first
        parameters = surrounding | parameters if first else parameters | surrounding
    if route.number:
        parameters["number"] = FromQuery[int]
    function.__signature__ = Signature(
        [
            Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation)
            for name, annotation in parameters.items()
        ],
        return_annotation=Response[Any],
    )
    function.__annotations__ = parameters | {"return": Response[Any]}
    return cast("Callable[..., Any]", function)


def _inner(dependency: Dependency) -> Provide:
    async def inner(tasks: Tasks) -> None:
        dependency.inner(tasks)

    return Provide(inner)


def _around(dependency: Dependency) -> Provide:
    surround = asynccontextmanager(dependency.around)

    async def around(tasks: Tasks, inner: _Nothing) -> AsyncGenerator[None, None]:
        del inner
        async with surround(tasks):
            yield

    return Provide(around)


def _render(answer: Answer | None) -> Response[Any]:
    match answer:
        case None:
            return Response("ok", media_type="text/plain")
        case harness.Text(body, status):
            return Response(body, status_code=status, media_type="text/plain")
        case harness.Empty(status):
            return Response(None, status_code=status)
        case harness.Stream(chunks):
            return Stream(chunks)
        case harness.File(path):
            return File(path)
