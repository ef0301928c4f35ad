"""A Quart application inside of tasks-core's own middleware (contract 6.1, 6.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from quart import Blueprint, Quart, Response, abort, websocket
from quart.views import MethodView
from tasks_core import TasksScheduler, current_tasks
from tasks_core.asgi import ASGIApp, TasksMiddleware
from werkzeug.exceptions import HTTPException

from tests.asgi.watching import FAILURE, IN_ORDER, SUCCESS, Outcome, Watch
from tests.conformance.driver import serve

# Quart runs on asyncio only.
pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]


@pytest.fixture
def app() -> Quart:
    return Quart(__name__)


@pytest.fixture
def watch() -> Watch:
    return Watch()


def with_tasks(app: Quart) -> ASGIApp:
    """Put the middleware where Quart's documentation has it: around ``asgi_app``."""
    anyhow: Any = app
    anyhow.asgi_app = TasksMiddleware(anyhow.asgi_app)
    return cast("ASGIApp", app)


def deep_below(watch: Watch) -> str:
    """Stand in for code that knows neither the request nor the framework."""
    watch.schedule(current_tasks())
    return "ok"


async def test_views(app: Quart, watch: Watch) -> None:
    """1.1 to 1.3: Code below an async view finds the request's tasks; phases come as promised."""

    @app.get("/")
    async def view() -> str:
        return deep_below(watch)

    async with serve(with_tasks(app)) as server:
        assert await watch.request(server) == IN_ORDER


async def test_sync_views(app: Quart, watch: Watch) -> None:
    """1.1 to 1.3: So does code below a sync view, which Quart runs in a thread."""

    @app.get("/")
    def view() -> str:
        return deep_below(watch)

    async with serve(with_tasks(app)) as server:
        assert await watch.request(server) == IN_ORDER


async def test_blueprints_and_class_views(app: Quart, watch: Watch) -> None:
    """1.8 Views of blueprints and of classes are views like others."""

    class View(MethodView):
        async def get(self) -> str:
            return deep_below(watch)

    blueprint = Blueprint("inner", __name__, url_prefix="/inner")
    blueprint.add_url_rule("/", view_func=View.as_view("view"))
    app.register_blueprint(blueprint)
    async with serve(with_tasks(app)) as server:
        assert await watch.request(server, "/inner/") == IN_ORDER


async def test_streams(app: Quart, watch: Watch) -> None:
    """1.8 A stream comes between the start of the response and its end."""

    @app.get("/")
    async def view() -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"one"
            watch.log.append("streamed")

        deep_below(watch)
        return Response(chunks())

    async with serve(with_tasks(app)) as server:
        log = await watch.request(server)
    assert log == ["immediate", "after_route", "start", "streamed", "sent", "after_response"]


async def test_hooks(app: Quart) -> None:
    """1.8 Hooks around the view find the view's own scheduler."""
    got: list[TasksScheduler] = []

    @app.before_request
    async def before() -> None:
        got.append(current_tasks())

    @app.after_request
    async def after(response: Response) -> Response:
        got.append(current_tasks())
        return response

    @app.get("/")
    async def view() -> str:
        got.append(current_tasks())
        return "ok"

    async with serve(with_tasks(app)) as server:
        await server.request()
    assert len(got) == 3
    assert all(tasks is got[0] for tasks in got)


async def test_websockets(app: Quart, watch: Watch) -> None:
    """1.8 A WebSocket gets its tasks: the later phases begin when it has ended."""

    @app.websocket("/")
    async def converse() -> None:
        deep_below(watch)
        await websocket.send("word")

    async with serve(with_tasks(app)) as server:
        async with server.websocket() as client:
            assert (await client.receive())["type"] == "websocket.accept"
            assert (await client.receive())["text"] == "word"
            client.leave()
        assert await watch.ended() == ["immediate", "after_route", "after_response"]


async def test_lifespan(app: Quart) -> None:
    """5.1 Quart's start-up code may schedule, and its shutdown code comes after the tasks."""
    log: list[str] = []

    @app.before_serving
    async def start_up() -> None:
        await current_tasks().schedule(log.append, "start-up").wait()

    @app.after_serving
    async def shut_down() -> None:
        log.append("closed")

    @app.get("/")
    async def view() -> str:
        current_tasks().after_response.task(shield=True).schedule(log.append, "task")
        return "ok"

    served = with_tasks(app)
    for _ in range(2):
        async with serve(served) as server:
            await server.request()
        assert log == ["start-up", "task", "closed"]
        log.clear()


async def test_an_error_that_quart_answers(app: Quart, outcome: Outcome) -> None:
    """1.6 What Quart turned into a response before it answers is a returned response, to us."""

    @app.get("/")
    async def view() -> str:
        outcome.schedule(current_tasks())
        abort(418)

    async with serve(with_tasks(app)) as server:
        assert (await server.request()).status == 418
        assert await outcome.seen() == SUCCESS


@pytest.mark.parametrize("error", [418, ValueError()], ids=["abort", "unhandled"])
async def test_failure_where_quart_handles_it(
    app: Quart, outcome: Outcome, error: int | Exception
) -> None:
    """1.6 An error handler of the application tells the request's failure in one line."""

    @app.errorhandler(HTTPException)
    async def tell(error: HTTPException) -> HTTPException:
        current_tasks().fail()
        return error

    @app.get("/")
    async def view() -> str:
        outcome.schedule(current_tasks())
        if isinstance(error, Exception):
            raise error
        abort(error)

    async with serve(with_tasks(app)) as server:
        assert (await server.request()).status == (error if isinstance(error, int) else 500)
        assert await outcome.seen() == FAILURE
