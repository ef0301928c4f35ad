"""FastAPI, with fastapi-tasks."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from inspect import Parameter, Signature, iscoroutinefunction
from typing import Annotated, Any, cast

from fastapi import Depends, FastAPI, HTTPException, WebSocket
from fastapi_tasks import Tasks, add_tasks
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import Response
from tasks_core.asgi import ASGIApp

from tests.conformance.harness import (
    Application,
    AsyncEndpoint,
    Capability,
    Dependency,
    Route,
    SocketRoute,
    SyncEndpoint,
)
from tests.conformance.harnesses.starlette import handlers, lifespan, pass_on, render


class FastAPIHarness:
    """FastAPI."""

    name = "fastapi"
    lacks: Mapping[Capability, str] = {}
    deviations: Mapping[str, str] = {}

    def build(self, application: Application) -> ASGIApp:
        app = FastAPI(
            lifespan=cast("Any", lifespan(application)),
            exception_handlers=cast("Any", handlers(application)),
        )
        if application.wrapped:  # one middleware before the tasks are added, one after
            app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
        for settings in application.added:
            add_tasks(app, **settings)
        if application.wrapped:
            app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
        for path, route in application.routes.items():
            _add(app, path, route)
        inner = FastAPI()
        for path, route in application.mounted.items():
            _add(inner, path, route)
        app.mount("/mounted", inner)
        return cast("ASGIApp", app)

    def http_error(self, status: int) -> Exception:
        return HTTPException(status)


def _add(app: FastAPI, path: str, route: Route | SocketRoute) -> None:
    if isinstance(route, SocketRoute):

        async def converse(websocket: WebSocket, tasks: Tasks) -> None:
            await route.endpoint(tasks, websocket)

        app.add_api_websocket_route(path, converse)
    else:
        app.add_api_route(path, _endpoint(route), methods=[route.method])


def _endpoint(route: Route) -> Callable[..., Any]:
    """Make the function that FastAPI calls; its parameters differ, so they are put together."""
    endpoint = route.endpoint
    if iscoroutinefunction(endpoint):

        async def answer(tasks: Tasks, **_: object) -> Response:
            return render(await cast("AsyncEndpoint", endpoint)(tasks))

        function: Any = answer
    else:

        def answer_in_thread(tasks: Tasks, **_: object) -> Response:
            return render(cast("SyncEndpoint", endpoint)(tasks))

        function = answer_in_thread
    parameters: dict[str, Any] = {"tasks": Tasks}
    if route.dependency is not None:
        surrounding = {"surrounding": Annotated[None, _depends(route.dependency)]}
        first = route.dependency.first
        parameters = surrounding | parameters if first else parameters | surrounding
    if route.number:
        parameters["number"] = int
    function.__signature__ = Signature(
        [
            Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation)
            for name, annotation in parameters.items()
        ],
        return_annotation=Response,
    )
    return cast("Callable[..., Any]", function)


def _depends(dependency: Dependency) -> Any:
    async def inner(tasks: Tasks) -> None:
        dependency.inner(tasks)

    surround = asynccontextmanager(dependency.around)

    async def around(
        tasks: Tasks, _: Annotated[None, Depends(inner)]
    ) -> AsyncGenerator[None, None]:
        async with surround(tasks):
            yield

    if dependency.scope is None:
        return Depends(around)
    return Depends(around, scope=dependency.scope)
