"""A Django ASGI application inside of tasks-core's own middleware (contract 6.1, 6.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import django
import pytest
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.db.utils import ConnectionHandler
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from django.views import View
from tasks_core import Task, TaskRunner, TasksScheduler, TaskState, current_tasks
from tasks_core.asgi import ASGIApp, TasksMiddleware

from tests.asgi.watching import FAILURE, IN_ORDER, SUCCESS, Outcome, Watch
from tests.conformance.driver import serve

# Django runs on asyncio only.
pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        LOGGING_CONFIG=None,
        ROOT_URLCONF=__name__,
        SECRET_KEY="-",  # noqa: S106
    )
django.setup()

SQLITE = "django.db.backends.sqlite3"
GetResponse = Callable[[HttpRequest], HttpResponse]


class URLs:
    """What `ROOT_URLCONF` may also be: an object; each application has its own."""

    def __init__(self, view: Any) -> None:
        self.urlpatterns: list[Any] = [path("", view)]


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def with_tasks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ASGIApp]:
    """Return what makes an application of one view, and of Django's own middleware."""

    def make(view: Any, *middleware: str) -> ASGIApp:
        monkeypatch.setattr(settings, "MIDDLEWARE", list(middleware))

        monkeypatch.setattr(settings, "ROOT_URLCONF", URLs(view))
        return TasksMiddleware(cast("ASGIApp", get_asgi_application()))

    return make


def deep_below(watch: Watch) -> None:
    """Stand in for code that knows neither the request nor the framework."""
    watch.schedule(current_tasks())


async def test_async_views(watch: Watch, with_tasks: Callable[..., ASGIApp]) -> None:
    """1.1 to 1.3: Code below an async view finds the request's tasks; phases come as promised."""

    async def view(_: HttpRequest) -> HttpResponse:
        deep_below(watch)
        return HttpResponse("ok")

    async with serve(with_tasks(view)) as server:
        assert await watch.request(server) == IN_ORDER


async def test_sync_views(watch: Watch, with_tasks: Callable[..., ASGIApp]) -> None:
    """1.1 to 1.3: So does code below a sync view, which Django runs in a thread."""

    def view(_: HttpRequest) -> HttpResponse:
        deep_below(watch)
        return HttpResponse("ok")

    async with serve(with_tasks(view)) as server:
        assert await watch.request(server) == IN_ORDER


async def test_class_views(watch: Watch, with_tasks: Callable[..., ASGIApp]) -> None:
    """1.8 A view that is a class is a view like others."""

    class Own(View):
        async def get(self, _: HttpRequest) -> HttpResponse:
            deep_below(watch)
            return HttpResponse("ok")

    async with serve(with_tasks(Own.as_view())) as server:
        assert await watch.request(server) == IN_ORDER


async def test_streams(watch: Watch, with_tasks: Callable[..., ASGIApp]) -> None:
    """1.8 A stream comes between the start of the response and its end."""

    async def view(_: HttpRequest) -> StreamingHttpResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"one"
            watch.log.append("streamed")

        deep_below(watch)
        return StreamingHttpResponse(chunks())

    async with serve(with_tasks(view)) as server:
        log = await watch.request(server)
    assert log == ["immediate", "after_route", "start", "streamed", "sent", "after_response"]


GOT: list[TasksScheduler] = []


def noting_sync(get_response: GetResponse) -> GetResponse:
    """Be a middleware of Django's, of the sync kind."""

    def middleware(request: HttpRequest) -> HttpResponse:
        GOT.append(current_tasks())
        return get_response(request)

    return middleware


async def test_middleware_of_django(watch: Watch, with_tasks: Callable[..., ASGIApp]) -> None:
    """2.4 Below sync middleware around an async view, all find the same scheduler."""

    async def view(_: HttpRequest) -> HttpResponse:
        GOT.append(current_tasks())
        deep_below(watch)
        return HttpResponse("ok")

    GOT.clear()
    app = with_tasks(view, f"{__name__}.noting_sync", "django.middleware.common.CommonMiddleware")
    async with serve(app) as server:
        assert await watch.request(server) == IN_ORDER
    assert len(GOT) == 2
    assert GOT[0] is GOT[1]


async def test_lifespan(with_tasks: Callable[..., ASGIApp]) -> None:
    """5.7 Django refuses the lifespan; it is served one, and shielded tasks end within it."""
    made: list[Task] = []

    async def view(_: HttpRequest) -> HttpResponse:
        tasks = current_tasks().after_response
        made.append(tasks.task(shield=True).schedule(len, "four"))
        return HttpResponse("ok")

    app = with_tasks(view)
    for _ in range(2):
        async with serve(app) as server:
            await server.request()
        assert made.pop().state is TaskState.SUCCEEDED


async def test_an_error_that_django_answers(
    outcome: Outcome, with_tasks: Callable[..., ASGIApp]
) -> None:
    """1.6 What Django turned into a response before it answers is a returned response, to us."""

    async def view(_: HttpRequest) -> HttpResponse:
        outcome.schedule(current_tasks())
        raise Http404

    async with serve(with_tasks(view)) as server:
        assert (await server.request()).status == 404
        assert await outcome.seen() == SUCCESS


def tell_failures(get_response: GetResponse) -> GetResponse:
    """Be a middleware of Django's that tells the request's tasks what a view has raised."""

    def middleware(request: HttpRequest) -> HttpResponse:
        return get_response(request)

    def process_exception(request: HttpRequest, exception: Exception) -> None:
        current_tasks().fail()

    cast("Any", middleware).process_exception = process_exception
    return middleware


@pytest.mark.parametrize(("error", "status"), [(Http404(), 404), (ValueError(), 500)])
@pytest.mark.parametrize("sync", [False, True], ids=["async_view", "sync_view"])
async def test_failure_with_a_middleware(
    outcome: Outcome,
    with_tasks: Callable[..., ASGIApp],
    error: Exception,
    status: int,
    *,
    sync: bool,
) -> None:
    """1.6 A middleware's `process_exception` tells the request's failure in one line."""

    def view(_: HttpRequest) -> HttpResponse:
        outcome.schedule(current_tasks())
        raise error

    async def async_view(request: HttpRequest) -> HttpResponse:
        return view(request)

    app = with_tasks(view if sync else async_view, f"{__name__}.tell_failures")
    async with serve(app) as server:
        assert (await server.request()).status == status
        assert await outcome.seen() == FAILURE


async def test_connections_of_threads(tmp_path: Path) -> None:
    """2.5: Django leaves a task's connection open, as it is its thread's; the task closes it."""
    name = str(tmp_path / "database")
    connections = ConnectionHandler({"default": {"ENGINE": SQLITE, "NAME": name}})
    used: list[Any] = []

    def reads() -> None:
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT 1")
        used.append(connections["default"])

    def reads_and_closes() -> None:
        try:
            reads()
        finally:
            connections.close_all()

    async with TaskRunner() as runner:
        await runner.schedule(reads).wait()
        assert used.pop().connection is not None
        await runner.schedule(reads_and_closes).wait()
        assert used.pop().connection is None
