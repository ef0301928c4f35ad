"""Where people ask for tasks: for each framework and place an application that asks there, only.

What asks is given: it is called in that place, while ``/`` is served, or the lifespan runs.
"""

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Annotated, Any, Final, TypeAlias, cast

from anyio import to_thread
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi_tasks import Tasks, get_tasks
from fastapi_tasks import add_tasks as add_to_fastapi
from litestar import Litestar, asgi, get, websocket
from litestar import WebSocket as LitestarWebSocket
from litestar.background_tasks import BackgroundTask as LitestarBackgroundTask
from litestar.di import NamedDependency, Provide
from litestar.exceptions import HTTPException as LitestarHTTPException
from litestar.exceptions import ValidationException
from litestar.middleware import ASGIMiddleware
from litestar.params import FromQuery
from litestar.response import Response as LitestarResponse
from litestar.response import Stream
from litestar_tasks import Tasks as LitestarTasks
from litestar_tasks import TasksPlugin
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket
from starlette_tasks import add_tasks as add_to_starlette
from starlette_tasks import current_tasks
from starlette_tasks import get_tasks as get_of_request
from tasks_core import TasksScheduler
from tasks_core.asgi import ASGIApp, Receive, Scope, Send

Ask: TypeAlias = Callable[[Callable[[], TasksScheduler]], None]
"""Called with how tasks are got in that place."""

Build: TypeAlias = Callable[[Ask], Any]

PLACES: Final[dict[tuple[str, str], Build]] = {}
"""How to build an application, by framework and place."""


def place(framework: str, name: str) -> Callable[[Build], Build]:
    """Note what builds the application for a place."""

    def note(build: Build) -> Build:
        PLACES[framework, name] = build
        return build

    return note


def always(tasks: TasksScheduler) -> Callable[[], TasksScheduler]:
    return lambda: tasks


async def until_run(act: Callable[[], object]) -> None:
    """Call something in a thread that has no context of its caller, and wait for it."""
    done = threading.Event()

    def run() -> None:
        try:
            act()
        finally:
            done.set()

    threading.Thread(target=run).start()
    await to_thread.run_sync(done.wait, 60)


# Starlette, and FastAPI with what is Starlette's.


class Wraps:
    """A middleware that asks before and after what is within, or answers itself."""

    def __init__(self, app: ASGIApp, before: Ask | None, after: Ask | None, **how: bool) -> None:
        self.app = app
        self._before, self._after = before, after
        self._answers = how.get("answers", False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if self._before is not None:
            self._before(current_tasks)
        if self._answers:
            await PlainTextResponse("mine")(scope, receive, send)
            return
        with suppress(ZeroDivisionError):
            await self.app(scope, receive, send)
        if self._after is not None:
            self._after(current_tasks)


async def plain(request: Request) -> Response:
    return PlainTextResponse("ok")


async def crash(request: Request) -> Response:
    raise ZeroDivisionError


def _title(method: str) -> str:
    return method.replace("_", " ").replace("start up", "start-up")


class OfStarlette:
    """The places that Starlette has, on an application of it or of FastAPI."""

    def __init__(self, name: str, make: Any, add: Callable[[Any], None]) -> None:
        self.name = name
        self._make = make
        self._add = add
        for method in vars(type(self)):
            if not method.startswith("_"):
                PLACES[name, _title(method)] = getattr(self, method)

    def _with_tasks(self, *routes: BaseRoute, **options: Any) -> Any:
        app = self._make(routes=list(routes) or [Route("/", plain)], **options)
        self._add(app)
        return app

    def async_route(self, ask: Ask) -> Any:
        async def endpoint(request: Request) -> Response:
            assert get_of_request(request) is current_tasks()
            ask(lambda: get_of_request(request))
            return PlainTextResponse("ok")

        return self._with_tasks(Route("/", endpoint))

    def sync_route(self, ask: Ask) -> Any:
        def endpoint(request: Request) -> Response:
            assert get_of_request(request) is current_tasks()
            ask(current_tasks)
            return PlainTextResponse("ok")

        return self._with_tasks(Route("/", endpoint))

    def WebSocket_route(self, ask: Ask) -> Any:  # noqa: N802 - it is a title
        async def endpoint(websocket: WebSocket) -> None:
            ask(lambda: get_of_request(websocket))
            await websocket.close()

        return self._with_tasks(WebSocketRoute("/", endpoint))

    def streamed_body(self, ask: Ask) -> Any:
        async def body() -> AsyncIterator[bytes]:
            yield b"x"
            ask(current_tasks)

        async def endpoint(request: Request) -> Response:
            return StreamingResponse(body())

        return self._with_tasks(Route("/", endpoint))

    def framework_background_task(self, ask: Ask) -> Any:
        async def work() -> None:
            ask(current_tasks)

        async def endpoint(request: Request) -> Response:
            return PlainTextResponse("ok", background=BackgroundTask(work))

        return self._with_tasks(Route("/", endpoint))

    def mounted_application(self, ask: Ask) -> Any:
        async def endpoint(request: Request) -> Response:
            assert get_of_request(request) is current_tasks()
            ask(lambda: get_of_request(request))
            return PlainTextResponse("ok")

        inner = Starlette(routes=[Route("/", endpoint)])
        return self._with_tasks(Mount("/", app=inner))

    def middleware_before_the_route(self, ask: Ask) -> Any:
        return self._with_tasks(middleware=[Middleware(cast("Any", Wraps), ask, None)])

    def middleware_after_the_route(self, ask: Ask) -> Any:
        return self._with_tasks(middleware=[Middleware(cast("Any", Wraps), None, ask)])

    def middleware_after_a_route_that_failed(self, ask: Ask) -> Any:
        return self._with_tasks(
            Route("/", crash), middleware=[Middleware(cast("Any", Wraps), None, ask)]
        )

    def middleware_that_answers_itself(self, ask: Ask) -> Any:
        return self._with_tasks(
            middleware=[Middleware(cast("Any", Wraps), ask, None, answers=True)]
        )

    def middleware_added_after_the_tasks(self, ask: Ask) -> Any:
        app = self._with_tasks()

        async def dispatch(request: Request, call_next: Any) -> Response:
            response: Response = await call_next(request)
            ask(current_tasks)
            return response

        app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
        return app

    def handler_of_HTTPException(self, ask: Ask) -> Any:  # noqa: N802 - it is a title
        async def refuse(request: Request) -> Response:
            raise HTTPException(403)

        return self._with_tasks(Route("/", refuse), exception_handlers={403: self._handler(ask)})

    def handler_of_404(self, ask: Ask) -> Any:
        return self._with_tasks(
            Route("/elsewhere", plain), exception_handlers={404: self._handler(ask)}
        )

    def handler_of_Exception(self, ask: Ask) -> Any:  # noqa: N802 - it is a title
        return self._with_tasks(
            Route("/", crash), exception_handlers={Exception: self._handler(ask)}
        )

    def _handler(self, ask: Ask) -> Any:
        async def handle(request: Request, error: Exception) -> Response:
            assert get_of_request(request) is current_tasks()
            ask(current_tasks)
            return PlainTextResponse("sorry", 500)

        return handle

    def lifespan_start_up(self, ask: Ask) -> Any:
        @asynccontextmanager
        async def lifespan(app: Any) -> AsyncGenerator[None, None]:
            ask(current_tasks)
            yield

        return self._with_tasks(lifespan=lifespan)

    def lifespan_shutdown(self, ask: Ask) -> Any:
        @asynccontextmanager
        async def lifespan(app: Any) -> AsyncGenerator[None, None]:
            yield
            ask(current_tasks)

        return self._with_tasks(lifespan=lifespan)

    def another_task(self, ask: Ask) -> Any:
        async def work() -> None:
            ask(current_tasks)

        async def endpoint(request: Request) -> Response:
            await current_tasks().schedule(work).wait()
            return PlainTextResponse("ok")

        return self._with_tasks(Route("/", endpoint))

    def thread_with_the_context(self, ask: Ask) -> Any:
        async def endpoint(request: Request) -> Response:
            context = contextvars.copy_context()
            await until_run(lambda: context.run(partial(ask, current_tasks)))
            return PlainTextResponse("ok")

        return self._with_tasks(Route("/", endpoint))

    def thread_that_was_given_the_tasks(self, ask: Ask) -> Any:
        async def endpoint(request: Request) -> Response:
            await until_run(partial(ask, always(get_of_request(request))))
            return PlainTextResponse("ok")

        return self._with_tasks(Route("/", endpoint))

    def thread_without_the_context(self, ask: Ask) -> Any:
        async def endpoint(request: Request) -> Response:
            await until_run(partial(ask, current_tasks))
            return PlainTextResponse("ok")

        return self._with_tasks(Route("/", endpoint))

    def event_loop_of_another_thread(self, ask: Ask) -> Any:
        async def elsewhere() -> None:
            ask(current_tasks)

        async def endpoint(request: Request) -> Response:
            context = contextvars.copy_context()
            await until_run(lambda: context.run(asyncio.run, elsewhere()))
            return PlainTextResponse("ok")

        return self._with_tasks(Route("/", endpoint))


OfStarlette("Starlette", Starlette, add_to_starlette)
OfStarlette("FastAPI", FastAPI, add_to_fastapi)


# What FastAPI has besides, or in place of it.


def fastapi() -> FastAPI:
    app = FastAPI()
    add_to_fastapi(app)
    return app


@place("FastAPI", "async route")
def fastapi_async_route(ask: Ask) -> Any:
    app = fastapi()

    @app.get("/")
    async def endpoint(tasks: Tasks) -> None:
        assert tasks is current_tasks()
        ask(lambda: tasks)

    return app


@place("FastAPI", "sync route")
def fastapi_sync_route(ask: Ask) -> Any:
    app = fastapi()

    @app.get("/")
    def endpoint(tasks: Tasks) -> None:
        assert tasks is current_tasks()
        ask(lambda: tasks)

    return app


@place("FastAPI", "WebSocket route")
def fastapi_websocket_route(ask: Ask) -> Any:
    app = fastapi()

    @app.websocket("/")
    async def endpoint(websocket: WebSocket, tasks: Tasks) -> None:
        ask(lambda: tasks)
        await websocket.close()

    return app


@place("FastAPI", "dependency")
def fastapi_dependency(ask: Ask) -> Any:
    app = fastapi()

    async def dependency(tasks: Tasks) -> None:
        ask(lambda: tasks)

    @app.get("/", dependencies=[Depends(dependency)])
    async def endpoint() -> None: ...

    return app


@place("FastAPI", "dependency at its exit")
def fastapi_dependency_exit(ask: Ask) -> Any:
    app = fastapi()

    async def dependency(tasks: Tasks) -> AsyncGenerator[None, None]:
        yield
        ask(lambda: tasks)

    @app.get("/", dependencies=[Depends(dependency)])
    async def endpoint() -> None: ...

    return app


@place("FastAPI", "class-based view")
def fastapi_class(ask: Ask) -> Any:
    app, router = fastapi(), APIRouter()

    class View:
        def __init__(self, tasks: TasksScheduler = Depends(get_tasks)) -> None:  # noqa: B008
            self.tasks = tasks

        async def answer(self) -> None:
            ask(lambda: self.tasks)

    @router.get("/")
    async def endpoint(view: Annotated[View, Depends()]) -> None:
        await view.answer()

    app.include_router(router)
    return app


@place("FastAPI", "framework background task")
def fastapi_background_task(ask: Ask) -> Any:
    app = fastapi()

    @app.get("/")
    async def endpoint(background: BackgroundTasks) -> None:
        background.add_task(partial(ask, current_tasks))

    return app


@place("FastAPI", "handler of a validation error")
def fastapi_validation(ask: Ask) -> Any:
    app = fastapi()

    @app.get("/")
    async def endpoint(number: int) -> None: ...

    @app.exception_handler(RequestValidationError)
    async def handle(request: Request, error: Exception) -> Response:
        ask(current_tasks)
        return PlainTextResponse("sorry", 422)

    return app


@place("FastAPI", "start-up hook")
def fastapi_start_up(ask: Ask) -> Any:
    app = fastapi()
    app.router.on_startup.append(partial(ask, current_tasks))
    return app


@place("FastAPI", "shutdown hook")
def fastapi_shutdown(ask: Ask) -> Any:
    app = fastapi()
    app.router.on_shutdown.append(partial(ask, current_tasks))
    return app


# Litestar.


def litestar(*handlers: Any, **options: Any) -> Litestar:
    return Litestar(handlers, plugins=[TasksPlugin()], logging_config=None, **options)


@get("/")
async def litestar_plain() -> str:
    return "ok"


@get("/")
async def litestar_crash() -> str:
    raise ZeroDivisionError


@place("Litestar", "async route")
def litestar_async_route(ask: Ask) -> Any:
    @get("/")
    async def handler(tasks: LitestarTasks) -> str:
        assert tasks is current_tasks()
        ask(lambda: tasks)
        return "ok"

    return litestar(handler)


@place("Litestar", "sync route")
def litestar_sync_route(ask: Ask) -> Any:
    @get("/", sync_to_thread=True)
    def handler(tasks: LitestarTasks) -> str:
        assert tasks is current_tasks()
        ask(lambda: tasks)
        return "ok"

    return litestar(handler)


@place("Litestar", "WebSocket route")
def litestar_websocket(ask: Ask) -> Any:
    @websocket("/")
    async def handler(socket: LitestarWebSocket[Any, Any, Any], tasks: LitestarTasks) -> None:
        ask(lambda: tasks)
        await socket.accept()
        await socket.close()

    return litestar(handler)


@place("Litestar", "dependency")
def litestar_dependency(ask: Ask) -> Any:
    async def dependency(tasks: LitestarTasks) -> str:
        ask(lambda: tasks)
        return "ok"

    @get("/", dependencies={"needed": Provide(dependency)})
    async def handler(needed: NamedDependency[str]) -> str:
        return needed

    return litestar(handler)


@place("Litestar", "dependency at its exit")
def litestar_dependency_exit(ask: Ask) -> Any:
    async def dependency(tasks: LitestarTasks) -> AsyncGenerator[str, None]:
        yield "ok"
        ask(lambda: tasks)

    @get("/", dependencies={"needed": Provide(dependency)})
    async def handler(needed: NamedDependency[str]) -> str:
        return needed

    return litestar(handler)


@place("Litestar", "streamed body")
def litestar_stream(ask: Ask) -> Any:
    async def body() -> AsyncIterator[bytes]:
        yield b"x"
        ask(current_tasks)

    @get("/")
    async def handler() -> Stream:
        return Stream(body())

    return litestar(handler)


@place("Litestar", "framework background task")
def litestar_background_task(ask: Ask) -> Any:
    async def work() -> None:
        ask(current_tasks)

    @get("/")
    async def handler() -> LitestarResponse[str]:
        return LitestarResponse("ok", background=LitestarBackgroundTask(work))

    return litestar(handler)


@place("Litestar", "mounted application")
def litestar_mounted(ask: Ask) -> Any:
    @asgi("/", is_mount=True, copy_scope=True)
    async def inner(scope: Any, receive: Any, send: Any) -> None:
        ask(current_tasks)
        await PlainTextResponse("ok")(scope, receive, send)

    return litestar(inner)


class OfLitestar(ASGIMiddleware):
    """As `Wraps`."""

    def __init__(self, before: Ask | None, after: Ask | None, **how: bool) -> None:
        self._before, self._after = before, after
        self._answers = how.get("answers", False)

    async def handle(self, scope: Any, receive: Any, send: Any, next_app: Any) -> None:
        if self._before is not None:
            self._before(current_tasks)
        if self._answers:
            await PlainTextResponse("mine")(scope, receive, send)
            return
        await next_app(scope, receive, send)
        if self._after is not None:
            self._after(current_tasks)


@place("Litestar", "middleware before the route")
def litestar_middleware_before(ask: Ask) -> Any:
    return litestar(litestar_plain, middleware=[OfLitestar(ask, None)])


@place("Litestar", "middleware after the route")
def litestar_middleware_after(ask: Ask) -> Any:
    return litestar(litestar_plain, middleware=[OfLitestar(None, ask)])


@place("Litestar", "middleware after a route that failed")
def litestar_middleware_failed(ask: Ask) -> Any:
    return litestar(litestar_crash, middleware=[OfLitestar(None, ask)])


@place("Litestar", "middleware that answers itself")
def litestar_middleware_answers(ask: Ask) -> Any:
    return litestar(litestar_plain, middleware=[OfLitestar(ask, None, answers=True)])


def litestar_handler(ask: Ask) -> Any:
    def handle(request: Any, error: Exception) -> LitestarResponse[str]:
        ask(current_tasks)
        return LitestarResponse("sorry", status_code=500)

    return handle


@place("Litestar", "handler of HTTPException")
def litestar_http_exception(ask: Ask) -> Any:
    @get("/")
    async def refuse() -> str:
        raise LitestarHTTPException(status_code=403)

    return litestar(refuse, exception_handlers={LitestarHTTPException: litestar_handler(ask)})


@place("Litestar", "handler of 404")
def litestar_404(ask: Ask) -> Any:
    return litestar(exception_handlers={404: litestar_handler(ask)})


@place("Litestar", "handler of Exception")
def litestar_exception(ask: Ask) -> Any:
    return litestar(litestar_crash, exception_handlers={Exception: litestar_handler(ask)})


@place("Litestar", "handler of a validation error")
def litestar_validation(ask: Ask) -> Any:
    @get("/")
    async def handler(number: FromQuery[int]) -> str:
        return str(number)

    return litestar(handler, exception_handlers={ValidationException: litestar_handler(ask)})


@place("Litestar", "lifespan start-up")
def litestar_lifespan(ask: Ask) -> Any:
    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncGenerator[None, None]:
        ask(current_tasks)
        yield

    return litestar(litestar_plain, lifespan=[lifespan])


@place("Litestar", "lifespan shutdown")
def litestar_lifespan_shutdown(ask: Ask) -> Any:
    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncGenerator[None, None]:
        yield
        ask(current_tasks)

    return litestar(litestar_plain, lifespan=[lifespan])


@place("Litestar", "start-up hook")
def litestar_start_up(ask: Ask) -> Any:
    return litestar(litestar_plain, on_startup=[partial(ask, current_tasks)])


@place("Litestar", "shutdown hook")
def litestar_shutdown(ask: Ask) -> Any:
    return litestar(litestar_plain, on_shutdown=[partial(ask, current_tasks)])


def litestar_acting(act: Callable[[], Awaitable[object]]) -> Any:
    @get("/")
    async def handler() -> str:
        await act()
        return "ok"

    return litestar(handler)


@place("Litestar", "another task")
def litestar_task(ask: Ask) -> Any:
    async def work() -> None:
        ask(current_tasks)

    return litestar_acting(lambda: current_tasks().schedule(work).wait())


@place("Litestar", "thread with the context")
def litestar_thread(ask: Ask) -> Any:
    async def act() -> None:
        context = contextvars.copy_context()
        await until_run(lambda: context.run(partial(ask, current_tasks)))

    return litestar_acting(act)


@place("Litestar", "thread that was given the tasks")
def litestar_given(ask: Ask) -> Any:
    return litestar_acting(lambda: until_run(partial(ask, always(current_tasks()))))


@place("Litestar", "thread without the context")
def litestar_bare_thread(ask: Ask) -> Any:
    return litestar_acting(lambda: until_run(partial(ask, current_tasks)))


@place("Litestar", "event loop of another thread")
def litestar_loop(ask: Ask) -> Any:
    async def elsewhere() -> None:
        ask(current_tasks)

    async def act() -> None:
        context = contextvars.copy_context()
        await until_run(lambda: context.run(asyncio.run, elsewhere()))

    return litestar_acting(act)
