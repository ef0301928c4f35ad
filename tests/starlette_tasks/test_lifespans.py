"""How a Starlette application lives with tasks: its lifespan, its middleware, what is mounted."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import pairwise
from typing import Any, ClassVar, Literal, cast

import anyio
import pytest
from anyio import to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Host, Mount, Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette_tasks import (
    RunnerClosedError,
    Task,
    TaskConfig,
    TasksError,
    TasksScheduler,
    TasksUninitializedError,
    add_tasks,
    current_tasks,
    get_tasks,
)
from starlette_tasks.testing import drain, lifespan
from tasks_core import MountedSettingsError

from tests.asgi.around import dispatching
from tests.asgi.pairs import in_pairs
from tests.asgi.watching import FAILURE, IN_ORDER, SUCCESS, Outcome, Watch
from tests.conformance.driver import GUARD, Server, serve
from tests.starlette_tasks.test_outcomes import Plain

pytestmark = pytest.mark.anyio

each_order = pytest.mark.parametrize("order", ["tasks_first", "tasks_last"])


async def nothing() -> None: ...


async def fail() -> None:
    raise ValueError("it failed")


class Resource:
    """Something that a lifespan opens, and that tasks use until it closes."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.ready = anyio.Event()
        self._stopping = anyio.Event()

    @asynccontextmanager
    async def opened(self, app: object = None) -> AsyncGenerator[dict[str, Any]]:
        self.log.append("opened")
        try:
            yield {"resource": self}
        finally:
            self.log.append("closed")

    @asynccontextmanager
    async def used(self, app: object = None) -> AsyncGenerator[dict[str, Any]]:
        """The same, with tasks that are scheduled at start-up."""
        async with self.opened() as state:
            self.use()
            await anyio.wait_all_tasks_blocked()
            self.ready.set()
            yield state

    def use(self) -> None:
        """Schedule a task that a shutdown waits for, and one that it cancels."""
        current_tasks().task(shield=True).schedule(self._shielded)
        current_tasks().schedule(self._unshielded)

    async def _shielded(self) -> None:
        await self._stopping.wait()
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        self.log.append("used")

    async def _unshielded(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self.log.append("cancelled")
            self._stopping.set()

    def assert_closed_last(self) -> None:
        assert self.log == ["opened", "cancelled", "used", "closed"]


@pytest.fixture
def resource() -> Resource:
    return Resource()


async def use(request: Request) -> Response:
    """A route that uses the resource of its application's lifespan."""
    resource: Resource = request.app.state.resource
    resource.use()
    return PlainTextResponse("ok")


def using(resource: Resource, **options: Any) -> Starlette:
    app = Starlette(routes=[Route("/", use)], **options)
    app.state.resource = resource
    add_tasks(app)
    return app


def watching(watch: Watch, **options: Any) -> Starlette:
    async def endpoint(request: Request) -> Response:
        watch.schedule(get_tasks(request))
        return PlainTextResponse("ok")

    return Starlette(routes=[Route("/", endpoint)], **options)


def asking(got: list[Exception], **options: Any) -> Starlette:
    """An application that notes why it has no tasks."""

    async def endpoint(request: Request) -> Response:
        ways: list[Callable[[], TasksScheduler]] = [lambda: get_tasks(request), current_tasks]
        for get in ways:
            try:
                get().schedule(nothing)
            except TasksError as error:
                got.append(error)
        return PlainTextResponse("ok")

    return Starlette(routes=[Route("/", endpoint)], **options)


# A lifespan that is run by hand.


async def test_a_lifespan_by_hand(resource: Resource) -> None:
    """5.6 Run past the middleware, as serverless adapters do, it has its tasks all the same."""
    app = using(resource, lifespan=resource.opened)
    async with app.router.lifespan_context(app) as state:
        assert state == {"resource": resource}
        async with serve(app, lifespan=False) as server:
            assert (await server.request()).error is None
    resource.assert_closed_last()


async def test_a_lifespan_by_hand_that_schedules(resource: Resource) -> None:
    """5.1 Its start-up code may schedule, and what it uses closes after that."""
    app = using(resource, lifespan=resource.used)
    async with app.router.lifespan_context(app):
        pass
    resource.assert_closed_last()


async def test_an_application_without_a_lifespan_by_hand() -> None:
    """5.6 So has one that has no lifespan of its own."""
    watch = Watch()
    app = watching(watch)
    add_tasks(app)
    for _ in range(2):
        async with app.router.lifespan_context(app), serve(app, lifespan=False) as server:
            watch.log.clear()
            assert await watch.request(server) == IN_ORDER


def surrounding(app: Starlette, resource: Resource) -> None:
    """Put something around an application's lifespan, as many packages do."""
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def around(app: Any) -> AsyncGenerator[Any]:
        async with resource.opened(), inner(app) as state:
            yield state

    app.router.lifespan_context = around


@each_order
@pytest.mark.parametrize("how", ["served", "by_hand"])
async def test_something_around_the_lifespan(resource: Resource, order: str, how: str) -> None:
    """5.1 Whatever was put around it, before or after, tasks end before that closes."""
    app = Starlette(routes=[Route("/", use)])
    app.state.resource = resource
    if order == "tasks_first":
        add_tasks(app)
    surrounding(app, resource)
    if order == "tasks_last":
        add_tasks(app)
    if how == "served":
        async with serve(app) as server:
            await server.request()
    else:
        async with app.router.lifespan_context(app), serve(app, lifespan=False) as server:
            await server.request()
    resource.assert_closed_last()


async def test_a_lifespan_by_hand_within_a_served_one() -> None:
    """5.7 Both at a time keep apart: to leave the inner one ends only its own tasks."""
    made: list[Task] = []

    async def endpoint(request: Request) -> Response:
        made.append(get_tasks(request).schedule(anyio.sleep_forever))
        await made[-1].started.wait()
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/", endpoint)])
    add_tasks(app)
    async with serve(app) as server:
        await server.request()
        async with app.router.lifespan_context(app):
            await server.request()
        await server.request()
        assert [str(task.state) for task in made] == ["running"] * 3
    assert [str(task.state) for task in made] == ["cancelled"] * 3


@pytest.mark.parametrize("how", ["served", "by_hand"])
@pytest.mark.parametrize("moment", ["start", "end"])
async def test_a_lifespan_that_raises(resource: Resource, how: str, moment: str) -> None:
    """5.7 What it raises comes out as it is, once its tasks have ended."""

    @asynccontextmanager
    async def live(app: Starlette) -> AsyncGenerator[None]:
        async with resource.used():
            if moment == "start":
                raise LookupError("the database is down")
            yield
        raise LookupError("the database is down")

    app = using(Resource(), lifespan=live)
    with pytest.raises(LookupError, match="the database is down"):
        async with app.router.lifespan_context(app) if how == "by_hand" else serve(app):
            pass
    if moment == "end":
        resource.assert_closed_last()
    else:
        assert sorted(resource.log) == ["cancelled", "closed", "opened", "used"]


# A lifespan that is cancelled.


async def by_hand(app: Starlette) -> None:
    async with app.router.lifespan_context(app):
        await anyio.sleep_forever()


async def by_messages(app: Starlette) -> None:
    asked: list[int] = []

    async def receive() -> Message:
        if asked:
            await anyio.sleep_forever()
        asked.append(1)
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None: ...

    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)


async def by_the_kit(app: Starlette) -> None:
    async with lifespan(app):
        await anyio.sleep_forever()


LIVES = [by_hand, by_messages, by_the_kit]


@pytest.mark.parametrize("live", LIVES)
@pytest.mark.parametrize("where", ["inside", "outside"])
async def test_a_lifespan_that_is_cancelled_in_a_scope(
    resource: Resource, live: Callable[[Starlette], Awaitable[None]], where: str
) -> None:
    """5.1 Tasks end before what they use, whichever scope is cancelled."""
    app = using(resource, lifespan=resource.used)

    async def run() -> None:
        with anyio.CancelScope() as inside:
            scopes["inside"] = inside
            await live(app)

    scopes: dict[str, anyio.CancelScope] = {}
    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as group:
            scopes["outside"] = group.cancel_scope
            group.start_soon(run)
            await resource.ready.wait()
            scopes[where].cancel()
    resource.assert_closed_last()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("live", LIVES)
async def test_a_lifespan_that_is_cancelled_by_asyncio(resource: Resource, live: Any) -> None:
    """5.1 So it is for asyncio's own cancellation."""
    lives = asyncio.ensure_future(live(using(resource, lifespan=resource.used)))
    async with asyncio.timeout(GUARD):
        await resource.ready.wait()
        lives.cancel()
        with pytest.raises(asyncio.CancelledError):
            await lives
    resource.assert_closed_last()


@pytest.mark.parametrize("live", [by_hand, by_messages])
async def test_a_lifespan_that_is_cancelled_while_it_starts(resource: Resource, live: Any) -> None:
    """5.1 Also where it has not got as far as to wait."""

    @asynccontextmanager
    async def starting(app: Starlette) -> AsyncGenerator[None]:
        async with resource.used():
            await anyio.sleep_forever()
            yield

    app = using(Resource(), lifespan=starting)
    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as group:
            group.start_soon(live, app)
            await resource.ready.wait()
            group.cancel_scope.cancel()
    assert sorted(resource.log) == ["cancelled", "closed", "opened", "used"]


# Middleware that meets the lifespan.


class Raises:
    """A middleware that takes the lifespan for something else."""

    error: Exception

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise self.error
        await self.app(scope, receive, send)


class RaisesLater(Raises):
    """The same, once it has read a message."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
        await super().__call__(scope, receive, send)


def with_middleware(kind: Any, *args: Any, **options: Any) -> Starlette:
    app = watching(Watch(), **options)
    add_tasks(app)
    app.add_middleware(kind, *args)
    return app


async def started_in_vain(app: Starlette) -> tuple[list[Message], BaseException | None]:
    """Run a lifespan as a server does; return what it has answered, and raised."""
    sent: list[Message] = []
    raised: BaseException | None = None

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        sent.append(message)

    try:
        await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    except Exception as error:  # noqa: BLE001 - the test asks for it
        raised = error
    return sent, raised


@pytest.mark.parametrize("kind", [ConnectionRefusedError, RuntimeError, TypeError, LookupError])
async def test_a_middleware_that_raises_before_the_first_message(kind: type[Exception]) -> None:
    """5.7 That is an error of start-up: the server is told, and gets the error as it is."""

    class Own(Raises):
        error = kind("the database is down")

    sent, raised = await started_in_vain(with_middleware(Own))
    assert raised is Own.error
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    assert "the database is down" in sent[0]["message"]


@pytest.mark.parametrize("kind", [NotImplementedError, KeyError, ValueError, RuntimeError])
async def test_a_middleware_that_raises_after_the_first_message(kind: type[Exception]) -> None:
    """5.6, 5.7 Whatever it raises then; a server that goes on all the same is told why not."""
    got: list[Exception] = []

    class Own(RaisesLater):
        error = kind("the database is down")

    app = asking(got, middleware=[Middleware(Own)])
    add_tasks(app)
    sent, raised = await started_in_vain(app)
    assert raised is Own.error
    assert not sent
    async with serve(app, lifespan=False) as server:
        await server.request()
    assert causes(got) == ["FAILED", "FAILED"]


@pytest.mark.parametrize("kind", [NotImplementedError, AssertionError, KeyError, ValueError])
async def test_a_middleware_that_knows_no_lifespan(
    kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    """5.7 What takes it for a request may refuse it: tasks work; and it is not dropped unseen."""
    caplog.set_level(logging.DEBUG, "tasks_core")
    watch = Watch()

    class Own(Raises):
        error = kind("path")

    app = watching(watch, middleware=[Middleware(Own)])
    add_tasks(app)
    async with serve(app) as server:
        assert await watch.request(server) == IN_ORDER
    plain = kind in {NotImplementedError, AssertionError}
    (record,) = [one for one in caplog.records if one.name == "tasks_core"]
    assert kind.__name__ in record.getMessage()
    assert record.levelname == ("DEBUG" if plain else "WARNING")


class AnswersTheLifespan:
    """A middleware that answers the lifespan itself, and is done with it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
        else:
            await self.app(scope, receive, send)


@pytest.mark.parametrize("state", [True, False])
async def test_a_lifespan_that_ends_early(*, state: bool) -> None:
    """5.6 The runner stays open until the server says shutdown, and ends its tasks then."""
    resource = Resource()
    app = using(resource, middleware=[Middleware(AnswersTheLifespan)])
    async with serve(app, state=state) as server:
        for _ in range(2):
            await anyio.wait_all_tasks_blocked()
            assert (await server.request()).error is None
        await anyio.wait_all_tasks_blocked()
        assert resource.log == []  # a shutdown would cancel them
    assert sorted(resource.log) == ["cancelled", "cancelled", "used", "used"]


# A lifespan that is run by another application.


class Pool(Plain):
    """A middleware that opens something in the lifespan."""

    made: ClassVar[list[Pool]] = []

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app)
        self.made.append(self)
        self.is_open = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.is_open = self.is_open or scope["type"] == "lifespan"
        await super().__call__(scope, receive, send)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.is_open
        await self.app(scope, receive, send)


def by_parameter(inner: Starlette, **options: Any) -> Starlette:
    routes = [Mount("/in", app=inner)]
    return Starlette(routes=routes, lifespan=inner.router.lifespan_context, **options)


def by_a_lifespan_around(inner: Starlette, **options: Any) -> Starlette:
    @asynccontextmanager
    async def live(app: Starlette) -> AsyncGenerator[None]:
        async with inner.router.lifespan_context(app):
            yield

    return Starlette(routes=[Mount("/in", app=inner)], lifespan=live, **options)


@pytest.mark.parametrize("outer", [by_parameter, by_a_lifespan_around])
@pytest.mark.parametrize("with_tasks", [False, True])
async def test_a_lifespan_that_another_application_runs(outer: Any, *, with_tasks: bool) -> None:
    """5.6 That one's middleware stays as it is, and the requests of the first have its tasks."""
    Pool.made.clear()
    watch = Watch()
    inner = watching(watch)
    add_tasks(inner)
    app = outer(inner, middleware=[Middleware(Pool)])
    if with_tasks:
        add_tasks(app)
    for _ in range(2):
        watch.log.clear()
        async with serve(app) as server:
            assert await watch.request(server, "/in/") == IN_ORDER
    assert len(Pool.made) == 1


@pytest.mark.parametrize("argument", [None, object(), Starlette()])
async def test_a_lifespan_by_hand_of_whatever_application(argument: Any) -> None:
    """5.6 It may be run for something else, which its own code gets, and has its tasks."""
    got: list[object] = []
    watch = Watch()

    @asynccontextmanager
    async def live(app: object) -> AsyncGenerator[None]:
        got.append(app)
        yield

    app = watching(watch, lifespan=live)
    add_tasks(app)
    async with app.router.lifespan_context(argument), serve(app, lifespan=False) as server:
        assert await watch.request(server) == IN_ORDER
    assert got == [argument]


async def test_tasks_that_were_taken_away_from_an_application_whose_lifespan_another_runs() -> None:
    """5.6 They are put around the one that they were added to."""
    watch = Watch()
    inner = watching(watch)
    before = inner.build_middleware_stack
    add_tasks(inner)
    app = by_parameter(inner)
    inner.build_middleware_stack = before  # type: ignore[method-assign]
    build(inner)
    async with serve(app) as server:
        assert await watch.request(server, "/in/") == IN_ORDER


async def test_a_lifespan_keeps_no_application_alive() -> None:
    """5.7 Who has an application's lifespan may outlive it, and run that all the same."""
    resource = Resource()
    inner = using(resource, lifespan=resource.used)
    app, alive = Starlette(lifespan=inner.router.lifespan_context), weakref.ref(inner)
    del inner
    gc.collect()
    assert alive() is None
    async with serve(app):
        await resource.ready.wait()
    resource.assert_closed_last()


# A middleware stack that is built again.


def forget(app: Starlette) -> None:
    app.middleware_stack = None


def build(app: Starlette) -> None:
    app.middleware_stack = app.build_middleware_stack()


def add_late(app: Starlette) -> None:
    """Add middleware as instrumentation does, to an application that has started."""
    forget(app)
    app.add_middleware(Plain)


def insert(app: Starlette) -> None:
    app.user_middleware.insert(0, Middleware(BaseHTTPMiddleware, dispatch=pass_on))
    build(app)


def wrap_build(app: Starlette) -> None:
    """Put something around how it is built, as OpenTelemetry does."""
    inner = app.build_middleware_stack

    def build_it() -> ASGIApp:
        return Plain(inner())

    app.build_middleware_stack = build_it  # type: ignore[method-assign]
    forget(app)


async def pass_on(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    return response


REBUILDS = [forget, build, add_late, insert, wrap_build]


@in_pairs(
    each_order,
    pytest.mark.parametrize("rebuild", REBUILDS),
    pytest.mark.parametrize("state", [True, False]),
    pytest.mark.parametrize("moment", ["before", "start_up", "between"]),
)
async def test_a_stack_that_is_built_again(
    order: str, rebuild: Callable[[Starlette], None], moment: str, *, state: bool
) -> None:
    """5.6 Tasks are the application's: those of a stack that is built again work as before."""
    watch, outcome = Watch(), Outcome()

    @asynccontextmanager
    async def live(app: Starlette) -> AsyncGenerator[None]:
        if moment == "start_up":
            rebuild(app)
        yield

    async def refuse(request: Request) -> Response:
        outcome.schedule(get_tasks(request))
        raise HTTPException(409)

    app = watching(watch, lifespan=live)
    app.add_route("/fails", refuse)
    if order == "tasks_first":
        add_tasks(app)
    if moment == "before":
        rebuild(app)
    if order == "tasks_last":
        app.middleware_stack = None
        add_tasks(app)
    async with serve(app, state=state) as server:
        for _ in range(2):
            watch.log.clear()
            assert await watch.request(server) == IN_ORDER
            outcome.made.clear()
            await server.request("/fails")
            assert await outcome.seen() == FAILURE
            if moment == "between":
                rebuild(app)


async def test_handlers_of_a_stack_that_is_built_again() -> None:
    """1.6 A handler that was added meanwhile tells failures, too."""
    outcome = Outcome()

    async def answer(request: Request, error: Exception) -> Response:
        return PlainTextResponse("answered")

    async def crash(request: Request) -> Response:
        outcome.schedule(get_tasks(request))
        raise ValueError

    app = Starlette(routes=[Route("/", crash)])
    add_tasks(app)
    async with serve(app) as server:
        await server.request()
        app.add_exception_handler(ValueError, answer)
        forget(app)
        assert (await server.request()).body == b"answered"
        assert await outcome.seen() == FAILURE * 2
    assert app.user_middleware == []
    assert app.exception_handlers == {ValueError: answer}


async def test_a_request_of_the_old_stack() -> None:
    """5.6 A request that is being served when the stack is built again ends as it began."""
    outcome, begun, go = Outcome(), anyio.Event(), anyio.Event()

    async def endpoint(request: Request) -> Response:
        outcome.schedule(get_tasks(request))
        begun.set()
        await go.wait()
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/", endpoint)])
    add_tasks(app)
    async with serve(app) as server, anyio.create_task_group() as group:
        group.start_soon(server.request)
        await begun.wait()
        forget(app)
        await server.request("/nowhere")
        go.set()
        await anyio.wait_all_tasks_blocked()
        assert await outcome.seen() == SUCCESS


# Mounted applications with settings.


def configured(configs: dict[str, TaskConfig], name: str) -> Starlette:
    """An application that notes the settings of its tasks, asked for in each way."""

    async def endpoint(request: Request) -> Response:
        tasks = get_tasks(request)
        assert tasks is current_tasks()
        configs[name] = tasks.schedule(nothing).config
        for batch in (tasks.after_route, tasks.after_response):
            assert batch.schedule(nothing).config == configs[name]
        configs[f"{name}, own"] = tasks.after_route.task(run_on="always").schedule(nothing).config
        return PlainTextResponse("ok")

    return Starlette(routes=[Route("/", endpoint)])


OUTER = TaskConfig(name="outer", shield=True, run_on="success")
INNER = TaskConfig(name="inner", run_on="failure")


def mount(app: Starlette, path: str, inner: ASGIApp) -> None:
    app.router.routes.insert(0, Mount(path, app=inner))


def mount_deep(app: Starlette, path: str, inner: ASGIApp) -> None:
    app.router.routes.insert(0, Mount(path, routes=[Mount("/", app=inner)]))


def mount_by_hand(app: Starlette, path: str, inner: ASGIApp) -> None:
    app.router.routes.insert(0, Mount(path, app=Plain(inner)))


def as_host(app: Starlette, path: str, inner: ASGIApp) -> None:
    app.router.routes.append(Host("testserver", app=Starlette(routes=[Mount(path, app=inner)])))


def with_its_own_middleware(app: Starlette, path: str, inner: ASGIApp) -> None:
    route = Mount(path, app=inner, middleware=[Middleware(BaseHTTPMiddleware, dispatch=pass_on)])
    app.router.routes.insert(0, route)


MOUNTS = [mount, mount_deep, mount_by_hand, as_host, with_its_own_middleware]
each_mount = pytest.mark.parametrize("put", MOUNTS)


@in_pairs(
    each_mount,
    pytest.mark.parametrize("when", ["before", "after", "started"]),
)
async def test_settings_of_a_mounted_application(put: Any, when: str) -> None:
    """3.3 Its `config` is a layer over the outer one's, for its own requests and no others."""
    configs: dict[str, TaskConfig] = {}
    inner, app = configured(configs, "inner"), configured(configs, "outer")
    add_tasks(inner, config=INNER)
    if when == "before":
        put(app, "/in", inner)
    add_tasks(app, config=OUTER)
    if when == "after":
        put(app, "/in", inner)
    async with serve(app) as server:
        await server.request("/")
        if when == "started":
            put(app, "/in", inner)
        for path in ("/in/", "/"):
            assert (await server.request(path)).status == 200
    assert configs == {
        "inner": TaskConfig(name="inner", shield=True, run_on="failure"),
        "inner, own": TaskConfig(name="inner", shield=True, run_on="always"),
        "outer": OUTER,
        "outer, own": TaskConfig(name="outer", shield=True, run_on="always"),
    }


async def test_settings_of_applications_in_applications() -> None:
    """3.3 Each one's are over those further out; one without settings changes nothing."""
    configs: dict[str, TaskConfig] = {}
    third, second, app = (configured(configs, name) for name in ("third", "second", "first"))
    add_tasks(third, config=TaskConfig(name="third"))
    add_tasks(second)
    add_tasks(app, config=OUTER)
    mount(second, "/third", third)
    mount(app, "/second", second)
    async with serve(app) as server:
        await server.request("/second/third/")
        await server.request("/second/")
    assert configs["third"] == TaskConfig(name="third", shield=True, run_on="success")
    assert configs["second"] == OUTER


@pytest.mark.parametrize("fails", [False, True])
async def test_tasks_with_the_settings_of_a_mounted_application(*, fails: bool) -> None:
    """3.3 Its error handler is called, and its `run_on` decides, by the request's outcome."""
    log: list[str] = []

    def report(task: Task, error: Exception) -> None:
        log.append(str(error))

    async def endpoint(request: Request) -> Response:
        get_tasks(request).after_response.schedule(fail)
        if fails:
            raise HTTPException(402)
        return PlainTextResponse("ok")

    inner, app = Starlette(routes=[Route("/", endpoint)]), Starlette()
    add_tasks(inner, config=TaskConfig(on_error=report, run_on="failure"))
    add_tasks(app)
    app.mount("/in", inner)
    async with serve(app) as server, drain(raise_errors=False):
        await server.request("/in/")
    assert log == (["it failed"] if fails else [])


SETTINGS: Mapping[str, Any] = {
    "grace_period": 1.0,
    "shutdown_timeout": 0.0,
    "thread_limit": 1,
    "history": 0,
}


@in_pairs(
    pytest.mark.parametrize("setting", SETTINGS),
    pytest.mark.parametrize("put", [mount, mount_deep, mount_by_hand]),
    pytest.mark.parametrize("when", ["before", "after"]),
)
async def test_settings_that_a_mounted_application_cannot_have(
    setting: str, put: Any, when: str
) -> None:
    """3.3 What is a runner's is refused, by name, when the outer application starts."""
    inner, app = Starlette(), Starlette()
    if when == "before":
        put(app, "/in", inner)
    add_tasks(app)
    add_tasks(inner, config=INNER, **{setting: SETTINGS[setting]})
    if when == "after":
        put(app, "/in", inner)
    with pytest.raises(MountedSettingsError, match=f"^{setting} cannot apply"):
        async with serve(app):
            raise AssertionError


class Admin:
    """What is mounted in an application, and knows one by the name ``app``, though not to call it.

    Args:
        app: The application that it knows.
    """

    def __init__(self, app: Starlette) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        current_tasks().schedule(nothing)
        await PlainTextResponse(str(len(self.app.routes)))(scope, receive, send)


@pytest.mark.parametrize("depth", [0, 1, 2])
async def test_settings_of_an_application_that_is_known_further_in(depth: int) -> None:
    """3.3 It is no mounted one, and keeps its settings, however deep in it is what knows it."""
    innermost = Starlette()
    app, *between = apps = [innermost, Starlette(), Starlette()][depth::-1]
    for outer, inner in pairwise(apps):
        mount(outer, "/in", inner)
    mount(innermost, "/admin", Admin(app))
    add_tasks(app, history=7)
    for one in between:
        add_tasks(one)
    # What is mounted may be served by itself, too, where nobody runs what it knows.
    for one, path in ((innermost, "/admin/"), (app, "/in" * depth + "/admin/")):
        async with serve(one) as server:
            assert (await server.request(path)).body == b"1"


async def test_such_settings_of_one_of_two_that_are_mounted_in_each_other() -> None:
    """3.3 Which one is outer is known in a request: there they are refused."""
    configs: dict[str, TaskConfig] = {}
    one, other = configured(configs, "one"), configured(configs, "other")
    for app, inner in ((one, other), (other, one)):
        mount(app, "/in", inner)
        add_tasks(app, history=7)
    async with serve(one) as server:
        assert (await server.request("/")).status == 200
        assert isinstance((await server.request("/in/")).error, MountedSettingsError)
    async with serve(other) as server:
        assert (await server.request("/")).status == 200
    assert set(configs) == {"one", "one, own", "other", "other, own"}


@pytest.mark.parametrize("put", MOUNTS)
async def test_such_settings_of_one_that_is_mounted_later(put: Any) -> None:
    """3.3 One that could not be seen at the start is refused in its requests; others go on."""
    configs: dict[str, TaskConfig] = {}
    inner, app = configured(configs, "inner"), configured(configs, "outer")
    add_tasks(app)
    add_tasks(inner, thread_limit=1, history=1)
    async with serve(app) as server:
        await server.request()
        put(app, "/in", inner)
        exchange = await server.request("/in/")
        assert isinstance(exchange.error, MountedSettingsError)
        assert str(exchange.error).startswith("thread_limit, history cannot apply")
        assert (await server.request("/")).status == 200
    assert "inner" not in configs


async def test_settings_that_are_not_set() -> None:
    """3.3 Nothing is refused where nothing is set."""
    configs: dict[str, TaskConfig] = {}
    inner, app = configured(configs, "inner"), Starlette()
    add_tasks(app, history=7)
    add_tasks(inner, config=None, shutdown_timeout=None)
    app.mount("/in", inner)
    async with serve(app) as server:
        assert (await server.request("/in/")).status == 200


@each_mount
async def test_a_mounted_application_whose_lifespan_runs_too(put: Any) -> None:
    """2.7, 3.3 Its requests are the outer one's all the same: one scheduler, one outcome (1.6).

    A lifespan that runs that of another application has its own tasks before and after it.
    """
    outcome, config = Outcome(), TaskConfig(name="inner")
    named: list[str] = []

    async def endpoint(request: Request) -> Response:
        outcome.schedule(get_tasks(request))
        assert get_tasks(request).config.name == "inner"
        return PlainTextResponse("ok")

    @asynccontextmanager
    async def live(app: Starlette) -> AsyncGenerator[None]:
        async with inner.router.lifespan_context(inner):
            named.append(current_tasks().schedule(nothing).name)
            yield

    async def commit(request: Request, call_next: Any) -> Response:
        await call_next(request)
        await outcome.made[0].wait()
        raise ConnectionResetError

    inner = Starlette(routes=[Route("/", endpoint)])
    app = Starlette(lifespan=live, middleware=[Middleware(BaseHTTPMiddleware, dispatch=commit)])
    add_tasks(inner, config=config)
    add_tasks(app, config=TaskConfig(name="outer"))
    put(app, "/in", inner)
    async with serve(app) as server:
        await server.request("/in/")
        assert await outcome.seen() == ["success", "failure"]
    assert named == ["outer"]


@each_mount
async def test_a_mounted_application_whose_path_a_middleware_has_rewritten(put: Any) -> None:
    """2.7, 3.3 It is mounted all the same, where a version is chosen by a header for instance."""
    outcome = Outcome()
    names: list[str | None] = []

    async def endpoint(request: Request) -> Response:
        outcome.schedule(get_tasks(request))
        names.append(get_tasks(request).config.name)
        return PlainTextResponse("ok")

    @asynccontextmanager
    async def live(app: Starlette) -> AsyncGenerator[None]:
        async with inner.router.lifespan_context(inner):
            yield

    class Versions(Plain):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
                return
            await self.app({**scope, "path": "/v1" + scope["path"]}, receive, send)
            raise ConnectionResetError

    inner = Starlette(routes=[Route("/cart", endpoint)])
    app = Starlette(lifespan=live, middleware=[Middleware(Versions)])
    add_tasks(inner)
    add_tasks(app, config=TaskConfig(name="outer"))
    put(app, "/v1", inner)
    async with serve(app) as server:
        await server.request("/cart")
        assert await outcome.seen() == ["success", "failure"]
    assert names == ["outer"]


# Several applications of one lifespan.


def sharing(name: str, resource: Resource, heard: list[str]) -> Starlette:
    async def report(task: Task, error: Exception) -> None:
        heard.append(f"{task.name} to {name}")

    async def endpoint(request: Request) -> Response:
        get_tasks(request).task(name=name).schedule(fail)
        resource.use()
        return PlainTextResponse("ok")

    async def deeper(request: Request) -> Response:
        return await endpoint(request)

    @asynccontextmanager
    async def live(app: Starlette) -> AsyncGenerator[None]:
        async with resource.opened():
            yield

    app = Starlette(routes=[Route("/", endpoint), Route("/{path:path}", deeper)], lifespan=live)
    add_tasks(app, config=TaskConfig(on_error=report))
    return app


def by_hypercorn(apps: Mapping[str, Any]) -> ASGIApp:
    middleware = pytest.importorskip("hypercorn.middleware.dispatcher")
    return cast("ASGIApp", middleware.AsyncioDispatcherMiddleware(dict(apps)))


def by_hypercorn_on_trio(apps: Mapping[str, Any]) -> ASGIApp:
    middleware = pytest.importorskip("hypercorn.middleware.dispatcher")
    return cast("ASGIApp", middleware.TrioDispatcherMiddleware(dict(apps)))


@pytest.mark.parametrize("dispatch", [dispatching, by_hypercorn, by_hypercorn_on_trio])
@pytest.mark.parametrize("state", [True, False])
async def test_applications_of_one_lifespan_state(
    dispatch: Any, anyio_backend_name: str, *, state: bool
) -> None:
    """5.7 Each has its own runner, settings and resource, though they share the state."""
    if dispatch in {by_hypercorn, by_hypercorn_on_trio}:
        of_trio = dispatch is by_hypercorn_on_trio
        if of_trio is not (anyio_backend_name == "trio"):
            pytest.skip("of the other event loop")
    heard: list[str] = []
    resources = {"/shop": Resource(), "/blog": Resource(), "/wiki": Resource()}
    app = dispatch({path: sharing(path, one, heard) for path, one in resources.items()})
    async with serve(app, state=state) as server:
        for path in resources:
            assert (await server.request(path + "/")).status == 200
        await anyio.wait_all_tasks_blocked()
    assert heard == ["/shop to /shop", "/blog to /blog", "/wiki to /wiki"]
    for resource in resources.values():
        resource.assert_closed_last()


# Why there are no tasks.


def causes(errors: list[Exception]) -> list[str]:
    """Return the causes that errors name, each by itself."""
    named: list[str] = []
    for error in errors:
        assert isinstance(error, TasksUninitializedError)
        assert str(error) == error.missing.value
        named.append(error.missing.name)
    return named


SAID = {
    "ADDED": "No tasks were added",
    "STARTED": "has not been started",
    "FAILED": "failed when it started",
    "ENDED": "has shut down",
    "MOUNTED": "mounted in another one",
    "OTHER_THREAD": "in another thread",
}
"""What the text of each cause says, and that of no other."""


def assert_says(errors: list[Exception], *expected: str) -> None:
    assert causes(errors) == list(expected)
    for error, cause in zip(errors, expected, strict=True):
        said = [name for name, words in SAID.items() if words in str(error)]
        assert said == [cause]
    errors.clear()


@each_order
@pytest.mark.parametrize("state", [True, False])
async def test_requests_before_and_after(order: str, *, state: bool) -> None:
    """5.6 Before start-up, while it lives, after shutdown, and when it lives again."""
    got: list[Exception] = []
    app = asking(got)
    if order == "tasks_first":
        add_tasks(app)
        app.add_middleware(Plain)
    else:
        app.add_middleware(Plain)
        add_tasks(app)

    async def request(server: Server | None = None) -> None:
        if server is not None:
            await server.request()
            return
        async with serve(app, lifespan=False, state=state) as alone:
            await alone.request()

    await request()
    assert_says(got, "STARTED", "STARTED")
    for _ in range(2):
        async with serve(app, state=state) as server:
            await request(server)
            assert got == []
            await server.stop()
            await request(server)
            assert_says(got, "ENDED", "ENDED")
        await request()
        assert_says(got, "ENDED", "ENDED")


@pytest.mark.parametrize("how", ["served", "by_hand"])
async def test_requests_after_a_start_that_failed(how: str) -> None:
    """5.6 The error says that the lifespan failed, until it has started once."""
    got: list[Exception] = []
    fails = [True]

    @asynccontextmanager
    async def live(app: Starlette) -> AsyncGenerator[None]:
        if fails:
            raise LookupError
        yield

    def run() -> AbstractAsyncContextManager[Any]:
        return app.router.lifespan_context(app) if how == "by_hand" else serve(app)

    async def request() -> None:
        async with serve(app, lifespan=False) as server:
            await server.request()

    app = asking(got, lifespan=live)
    add_tasks(app)
    with pytest.raises(LookupError):
        async with run():
            raise AssertionError
    await request()
    assert_says(got, "FAILED", "FAILED")
    fails.clear()
    async with run():
        await request()
        assert got == []
    await request()
    assert_says(got, "ENDED", "ENDED")


async def test_requests_of_an_application_that_failed_at_its_end() -> None:
    """5.6 One that had started has ended, also where its shutdown raised."""
    got: list[Exception] = []

    @asynccontextmanager
    async def live(app: Starlette) -> AsyncGenerator[None]:
        yield
        raise LookupError

    app = asking(got, lifespan=live)
    add_tasks(app)
    with pytest.raises(LookupError):
        async with serve(app):
            pass
    async with serve(app, lifespan=False) as server:
        await server.request()
    assert_says(got, "ENDED", "ENDED")


async def test_requests_while_the_application_shuts_down() -> None:
    """5.4 Once the runner is closed, but the lifespan has not ended, a task is refused by name."""
    got: list[Exception] = []
    closing, go = anyio.Event(), anyio.Event()

    @asynccontextmanager
    async def live(app: Starlette) -> AsyncGenerator[None]:
        yield
        closing.set()
        await go.wait()

    app = asking(got, lifespan=live)
    add_tasks(app)
    async with serve(app) as server, anyio.create_task_group() as group:
        group.start_soon(server.stop)
        await closing.wait()
        await server.request()
        go.set()
    assert [type(error) for error in got] == [RunnerClosedError] * 2
    assert all("nothing was refused" in str(error) for error in got)
    assert all("has shut down" in str(error) for error in got)


async def test_requests_of_an_application_without_tasks() -> None:
    """5.6 Tasks were not added: `get_tasks` says so; `current_tasks` knows only its context."""
    got: list[Exception] = []
    async with serve(asking(got)) as server:
        await server.request()
    assert causes(got) == ["ADDED", "CONTEXT"]
    assert "add_tasks(app)" in str(got[1])


@pytest.mark.parametrize("put", MOUNTS)
async def test_requests_of_a_mounted_application_whose_outer_one_has_no_tasks(put: Any) -> None:
    """5.6 Its lifespan is never run: the error says so, and where tasks are to be added."""
    got: list[Exception] = []
    inner, app = asking(got), Starlette()
    add_tasks(inner)
    put(app, "/in", inner)
    async with serve(app) as server:
        await server.request("/in/")
    assert_says(got, "MOUNTED", "MOUNTED")


@pytest.mark.parametrize("put", MOUNTS)
async def test_requests_of_a_mounted_application_before_the_start(put: Any) -> None:
    """5.6 Where both have tasks the cause is the outer one's."""
    got: list[Exception] = []
    inner, app = asking(got), Starlette()
    add_tasks(inner)
    add_tasks(app)
    put(app, "/in", inner)
    async with serve(app, lifespan=False) as server:
        await server.request("/in/")
    assert_says(got, "STARTED", "STARTED")


async def test_requests_of_another_thread() -> None:
    """2.7 An event loop of another thread than the lifespan's is told so."""
    got: list[Exception] = []
    app = asking(got)
    add_tasks(app)

    async def request() -> None:
        async with serve(app, lifespan=False) as server:
            await server.request()

    async with serve(app):
        await to_thread.run_sync(anyio.run, request)
    assert_says(got, "OTHER_THREAD", "OTHER_THREAD")


async def test_middleware_and_handlers_before_the_start() -> None:
    """2.7, 5.6 They are told the same as routes, and the request goes on as they like."""
    got: list[Exception] = []

    def ask() -> None:
        with pytest.raises(TasksUninitializedError) as raised:
            current_tasks()
        got.append(raised.value)

    class Asks(Plain):
        async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
            ask()
            await super().serve(scope, receive, send)

    async def handle(request: Request, error: Exception) -> Response:
        ask()
        return PlainTextResponse("sorry", 404)

    app = Starlette(middleware=[Middleware(Asks)], exception_handlers={404: handle})
    add_tasks(app)
    async with serve(app, lifespan=False) as server:
        assert (await server.request()).body == b"sorry"
    assert_says(got, "STARTED", "STARTED")


@pytest.mark.parametrize("debug", [False, True])
def test_test_clients_without_a_lifespan(
    anyio_backend_name: Literal["asyncio", "trio"], *, debug: bool
) -> None:
    """5.6 A client without `with` is told of `with`."""
    got: list[Exception] = []
    app = asking(got, debug=debug)
    add_tasks(app)
    TestClient(app, backend=anyio_backend_name).get("/")
    assert "with TestClient(app) as client" in str(got[0]).replace("\n", " ")
    assert_says(got, "STARTED", "STARTED")
