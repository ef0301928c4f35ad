"""Ways for a request of FastAPI to fail, and to ask for its tasks: see test_outcomes.py."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias

import pytest
import starlette_tasks
from fastapi import (
    APIRouter,
    Depends,
    FastAPI,
    HTTPException,
    Request,
    WebSocket,
)
from fastapi.exceptions import RequestValidationError
from fastapi.requests import HTTPConnection
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from fastapi_tasks import Tasks, TasksScheduler, add_tasks, current_tasks, get_tasks
from starlette.middleware.base import BaseHTTPMiddleware

from tests.asgi.watching import Outcome
from tests.conformance.cases import async_function
from tests.conformance.driver import serve

DependencyScope: TypeAlias = Literal["function", "request"] | None
CallNext: TypeAlias = Callable[[Request], Awaitable[Response]]


Step: TypeAlias = Callable[[], object]
Add: TypeAlias = Callable[[FastAPI], object]


def with_tasks(**options: Any) -> FastAPI:
    app = FastAPI(**options)
    add_tasks(app)
    return app


async def ask(app: Any, outcome: Outcome, path: str = "/", **request: Any) -> list[str]:
    """Send a request; return the outcome as its tasks have seen it."""
    async with serve(app) as server:
        await server.request(path, **request)
        return await outcome.seen()


async def ask_by_websocket(app: Any, outcome: Outcome, *words: str, path: str = "/") -> list[str]:
    """Open a WebSocket, say something and leave; return the outcome as its tasks have seen it."""
    async with serve(app) as server:
        async with server.websocket(path) as client:
            await client.receive()
            for word in words:
                client.send(word)
            client.leave()
        return await outcome.seen()


def noting(log: list[str], what: str) -> Callable[[], Awaitable[None]]:
    return async_function(partial(log.append, what))


class OwnError(Exception):
    pass


# Ways to ask for tasks: dependencies which schedule those that tell the outcome.

Plan: TypeAlias = Callable[[Outcome], Any]


def by_annotation(outcome: Outcome) -> Any:
    async def plan(tasks: Tasks) -> None:
        outcome.schedule(tasks)

    return plan


def by_annotation_in_thread(outcome: Outcome) -> Any:
    def plan(tasks: Tasks) -> None:
        outcome.schedule(tasks)

    return plan


def by_depends(outcome: Outcome) -> Any:
    async def plan(tasks: TasksScheduler = Depends(get_tasks)) -> None:  # noqa: B008
        outcome.schedule(tasks)

    return plan


def by_depends_of_starlette(outcome: Outcome) -> Any:
    async def plan(
        tasks: Annotated[TasksScheduler, Depends(starlette_tasks.get_tasks)],
    ) -> None:
        outcome.schedule(tasks)

    return plan


def by_depends_on_current(outcome: Outcome) -> Any:
    async def plan(tasks: Annotated[TasksScheduler, Depends(current_tasks)]) -> None:
        outcome.schedule(tasks)

    return plan


def by_connection(outcome: Outcome) -> Any:
    async def plan(connection: HTTPConnection) -> None:
        outcome.schedule(starlette_tasks.get_tasks(connection))

    return plan


def by_current_tasks(outcome: Outcome) -> Any:
    async def plan() -> None:
        outcome.schedule(current_tasks())

    return plan


def by_current_tasks_in_thread(outcome: Outcome) -> Any:
    def plan() -> None:
        outcome.schedule(current_tasks())

    return plan


PLANS: list[Plan] = [
    by_annotation,
    by_annotation_in_thread,
    by_depends,
    by_depends_of_starlette,
    by_depends_on_current,
    by_connection,
    by_current_tasks,
    by_current_tasks_in_thread,
]


each_plan = pytest.mark.parametrize("plan", PLANS)


# Where a request fails: dependencies of a route, and whether the route itself does.

Place: TypeAlias = Callable[[Any, Step], Any]


def in_async_dependency(plan: Any, fail: Step) -> Any:
    async def dependency(_: Annotated[None, Depends(plan)]) -> None:
        fail()

    return dependency


def in_sync_dependency(plan: Any, fail: Step) -> Any:
    def dependency(_: Annotated[None, Depends(plan)]) -> None:
        fail()

    return dependency


def in_sub_dependency(plan: Any, fail: Step) -> Any:
    async def dependency(_: Annotated[None, Depends(in_sync_dependency(plan, fail))]) -> None: ...

    return dependency


def in_class(plan: Any, fail: Step) -> Any:
    class Dependency:
        def __init__(self, _: Annotated[None, Depends(plan)]) -> None:
            fail()

    return Dependency


def in_async_generator(plan: Any, fail: Step) -> Any:
    async def dependency(_: Annotated[None, Depends(plan)]) -> AsyncGenerator[None]:
        fail()
        yield

    return dependency


def in_sync_generator(plan: Any, fail: Step) -> Any:
    def dependency(_: Annotated[None, Depends(plan)]) -> Generator[None]:
        fail()
        yield

    return dependency


def in_async_exit(plan: Any, fail: Step) -> Any:
    async def dependency(_: Annotated[None, Depends(plan)]) -> AsyncGenerator[None]:
        yield
        fail()

    return dependency


def in_sync_exit(plan: Any, fail: Step) -> Any:
    def dependency(_: Annotated[None, Depends(plan)]) -> Generator[None]:
        yield
        fail()

    return dependency


def in_async_route(plan: Any, fail: Step) -> Any:
    return plan


def in_sync_route(plan: Any, fail: Step) -> Any:
    return plan


def returns() -> None:
    return None


IN_ROUTES: list[Place] = [in_async_route, in_sync_route]


IN_DEPENDENCIES: list[Place] = [
    in_async_dependency,
    in_sync_dependency,
    in_sub_dependency,
    in_class,
    in_async_generator,
    in_sync_generator,
]


AT_EXITS: list[Place] = [in_async_exit, in_sync_exit]


each_place = pytest.mark.parametrize("place", IN_ROUTES + IN_DEPENDENCIES)


each_exit = pytest.mark.parametrize("place", AT_EXITS)


def add_route(  # noqa: PLR0913 - a route and how it fails
    app: FastAPI | APIRouter,
    place: Place,
    plan: Any,
    fail: Step,
    *,
    scope: DependencyScope = None,
    path: str = "/",
) -> None:
    """Add a route that fails in a place; its dependency schedules what tells the outcome."""
    depends = [Depends(place(plan, fail), scope=scope)]
    act = fail if place in IN_ROUTES else returns

    async def route() -> Any:
        return act()

    def route_in_thread() -> Any:
        return act()

    handler = route_in_thread if place is in_sync_route else route
    app.get(path, dependencies=depends)(handler)


def add_websocket(
    app: FastAPI, place: Place, plan: Any, fail: Step, *, scope: DependencyScope = None
) -> None:
    """Add a WebSocket route that fails in a place."""

    @app.websocket("/", dependencies=[Depends(place(plan, fail), scope=scope)])
    async def route(websocket: WebSocket) -> None:
        await websocket.accept()
        if place in IN_ROUTES:
            fail()


# What is raised.

Kind: TypeAlias = Callable[[], Exception]


def http_exception() -> Exception:
    return HTTPException(404)


def invalid() -> Exception:
    return RequestValidationError([])


KINDS: list[Kind] = [http_exception, OwnError, invalid, ValueError]


each_kind = pytest.mark.parametrize("kind", KINDS)


def raising(kind: Kind) -> Step:
    def fail() -> None:
        raise kind()

    return fail


async def answer(connection: Any, error: Exception) -> Response:
    return PlainTextResponse("answered", 200)


def keys() -> list[Any]:
    return [404, OwnError, RequestValidationError, Exception]


def by_query(number: int) -> None: ...


class CatchesAll(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Response:
        try:
            response: Response = await call_next(request)
        except Exception:  # noqa: BLE001
            return PlainTextResponse("sorry", 500)
        return response


class SwallowsInDispatch(BaseHTTPMiddleware):
    """Answers in `finally`, so what was raised goes no further."""

    async def dispatch(self, request: Request, call_next: Any) -> Response:
        response: Response = PlainTextResponse("sorry", 500)
        with suppress(ValueError):
            response = await call_next(request)
        return response


def adding(*kinds: Any) -> Add:
    def add(app: FastAPI) -> None:
        for kind in kinds:
            app.add_middleware(kind)

    return add


each_order = pytest.mark.parametrize("order", ["tasks_first", "tasks_last"])


def put_in(add: Add, order: str, **options: Any) -> FastAPI:
    """Return an application with middleware, and tasks added before or after that."""
    app = FastAPI(**options)
    if order == "tasks_first":
        add_tasks(app)
    add(app)
    if order == "tasks_last":
        add_tasks(app)
    return app


# What is refused: by which handler's key, by which method, and how.


def no_route(app: FastAPI | APIRouter) -> None: ...


def a_route(app: FastAPI | APIRouter) -> None:
    app.get("/")(returns)


def failing_by(kind: Kind) -> Callable[[FastAPI | APIRouter], None]:
    def fault(app: FastAPI | APIRouter) -> None:
        async def nothing() -> None: ...

        add_route(app, in_sync_route, nothing, raising(kind))

    return fault


def a_validated_route(app: FastAPI | APIRouter) -> None:
    app.get("/", dependencies=[Depends(by_query)])(returns)


REFUSALS: Mapping[str, tuple[Any, str, Callable[[FastAPI | APIRouter], None]]] = {
    "no_route": (404, "GET", no_route),
    "wrong_method": (405, "POST", a_route),
    "http_exception": (HTTPException, "GET", failing_by(http_exception)),
    "status": (404, "GET", failing_by(http_exception)),
    "own": (OwnError, "GET", failing_by(OwnError)),
    "validation": (RequestValidationError, "GET", a_validated_route),
    "any": (Exception, "GET", failing_by(ValueError)),
    "500": (500, "GET", failing_by(ValueError)),
}


# Answers.


def plain() -> Response:
    return PlainTextResponse("ok")


def streamed() -> Response:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x"

    return StreamingResponse(body())
