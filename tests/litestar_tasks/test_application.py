"""What an application of Litestar may do beside the plugin: names, settings, plugins, lifespans."""

import asyncio
import gc
import inspect
import threading
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Literal, Protocol, cast

import anyio
import pytest
from litestar import Controller, Litestar, Response, Router, asgi, get, websocket
from litestar import WebSocket as LitestarWebSocket
from litestar.config.app import AppConfig
from litestar.di import NamedDependency, Provide
from litestar.events import BaseEventEmitterBackend
from litestar.exceptions import HTTPException, ImproperlyConfiguredException
from litestar.handlers import websocket_listener
from litestar.params import FromPath, FromQuery
from litestar.plugins import InitPlugin
from litestar.testing import TestClient
from litestar_tasks import (
    Task,
    TaskConfig,
    Tasks,
    TasksPlugin,
    TasksScheduler,
    TasksUninitializedError,
    current_tasks,
)
from litestar_tasks.testing import drain
from tasks_core import TaskRunner

from tests.asgi.around import dispatching, say
from tests.asgi.pairs import in_pairs
from tests.asgi.watching import FAILURE, IN_ORDER, Outcome, Watch
from tests.conformance.driver import GUARD, serve

pytestmark = pytest.mark.anyio

WebSocket = LitestarWebSocket[Any, Any, Any]
LAYERS = ["app", "router", "controller", "handler"]
each_layer = pytest.mark.parametrize("layer", LAYERS)


def application(*handlers: Any, plugins: Any = None, **options: Any) -> Any:
    """Make an application; `Any` because Litestar types each ASGI message by itself."""
    options.setdefault("logging_config", None)
    options.setdefault("openapi_config", None)
    return Litestar(handlers, plugins=plugins or [TasksPlugin()], **options)


async def nothing() -> None: ...


# The name "tasks", where it is the user's.


async def own_tasks() -> list[str]:
    return ["own"]


def own_tasks_in_thread() -> list[str]:
    return ["own"]


PROVIDERS: list[Any] = [
    own_tasks,
    Provide(own_tasks),
    Provide(own_tasks_in_thread, sync_to_thread=True),
    Provide(own_tasks_in_thread, sync_to_thread=False),
]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_dependency_of_the_application(provider: Any) -> None:
    """3.3 One of our name is refused when the application is made, with what to do."""

    @get("/")
    async def handler(tasks: NamedDependency[list[str]]) -> list[str]:
        return tasks

    said = 'has a dependency "tasks" of its own.*give yours another one'
    with pytest.raises(ImproperlyConfiguredException, match=said):
        application(handler, dependencies={"tasks": provider})


@in_pairs(
    pytest.mark.parametrize("provider", PROVIDERS),
    pytest.mark.parametrize("layer", ["router", "controller", "handler"]),
)
async def test_a_dependency_of_an_inner_layer(provider: Any, layer: str) -> None:
    """3.3 Further in the user's own wins, for that layer, as any dependency does in Litestar."""

    def of(name: str) -> dict[str, Any]:
        return {"dependencies": {"tasks": provider}} if layer == name else {}

    class Own(Controller):
        path = "/own"
        dependencies = of("controller").get("dependencies")

        @get("/", **of("handler"))
        async def handler(self, tasks: NamedDependency[list[str]]) -> list[str]:
            assert isinstance(current_tasks(), TasksScheduler)
            return tasks

    @get("/ours")
    async def ours(tasks: Tasks) -> str:
        return await tasks.schedule(str, "ours").wait()

    app = application(Router("/", route_handlers=[Own], **of("router")), ours)
    async with serve(app) as server:
        assert (await server.request("/own")).body == b'["own"]'
        assert (await server.request("/ours")).body == b"ours"


class Shop:
    """A class of the user's."""


def query_parameter() -> Any:
    @get("/")
    async def handler(tasks: FromQuery[int]) -> None: ...

    return handler


def implicit_query_parameter() -> Any:
    @get("/")
    async def handler(tasks: int) -> None: ...

    return handler


def list_parameter() -> Any:
    @get("/")
    async def handler(tasks: FromQuery[list[int]]) -> None: ...

    return handler


def optional_parameter() -> Any:
    @get("/")
    async def handler(tasks: FromQuery[int | None]) -> None: ...

    return handler


def optional_parameter_with_default() -> Any:
    @get("/")
    async def handler(tasks: FromQuery[str | None] = None) -> None: ...

    return handler


def literal_parameter() -> Any:
    @get("/")
    async def handler(tasks: FromQuery[Literal["all", "own"]]) -> None: ...

    return handler


def dependency_of_a_class() -> Any:
    @get("/")
    async def handler(tasks: NamedDependency[Shop]) -> None: ...

    return handler


def mapping_parameter() -> Any:
    @get("/")
    async def handler(tasks: NamedDependency[dict[str, int]]) -> None: ...

    return handler


def path_parameter() -> Any:
    @get("/{tasks:int}")
    async def handler(tasks: FromPath[int]) -> None: ...

    return handler


def of_a_controller() -> Any:
    class Own(Controller):
        @get("/")
        async def handler(self, tasks: FromQuery[int]) -> None: ...

    return Own


def of_a_websocket() -> Any:
    @websocket("/")
    async def handler(socket: WebSocket, tasks: FromQuery[int]) -> None: ...

    return handler


def of_a_listener() -> Any:
    @websocket_listener("/")
    async def listener(data: str, tasks: FromQuery[int]) -> None: ...

    return listener


def of_a_dependency() -> Any:
    async def provide(tasks: FromQuery[int]) -> int:
        return tasks

    @get("/", dependencies={"number": Provide(provide)})
    async def handler(number: NamedDependency[int]) -> None: ...

    return handler


def of_a_dependency_of_a_dependency() -> Any:
    async def inner(tasks: FromQuery[list[int]]) -> list[int]:
        return tasks

    async def provide(inner: NamedDependency[list[int]]) -> int:
        return len(inner)

    @get("/", dependencies={"number": Provide(provide), "inner": Provide(inner)})
    async def handler(number: NamedDependency[int]) -> None: ...

    return handler


TAKERS = [
    query_parameter,
    implicit_query_parameter,
    list_parameter,
    optional_parameter,
    optional_parameter_with_default,
    literal_parameter,
    dependency_of_a_class,
    mapping_parameter,
    path_parameter,
    of_a_controller,
    of_a_websocket,
    of_a_listener,
    of_a_dependency,
    of_a_dependency_of_a_dependency,
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of parameters without a marker
@in_pairs(
    pytest.mark.parametrize("taker", TAKERS),
    pytest.mark.parametrize("when", ["made", "registered"]),
    loops=False,
)
def test_a_parameter_of_the_users(taker: Callable[[], Any], when: str) -> None:
    """3.3 A parameter called "tasks" that is for something else is refused, of whatever type."""
    handler, app = taker(), application()
    register = application if when == "made" else app.register
    with pytest.raises(ImproperlyConfiguredException, match="tasks"):
        register(handler)


async def test_a_parameter_for_tasks() -> None:
    """2.7 Each annotation that fits a scheduler gets it."""
    got: list[TasksScheduler] = []

    @get("/ours")
    async def ours(tasks: Tasks) -> None:
        got.append(tasks)

    @get("/own")
    async def own(tasks: NamedDependency[TasksScheduler]) -> None:
        got.append(tasks)

    @get("/optional")
    async def optional(tasks: NamedDependency[TasksScheduler | None]) -> None:
        assert tasks is not None
        got.append(tasks)

    async with serve(application(ours, own, optional)) as server:
        for path in ("/ours", "/own", "/optional"):
            assert (await server.request(path)).status == 200
    assert len(got) == 3


# Settings of layers.


class Reporter:
    """What errors are told to, with something that can be neither copied nor pickled."""

    def __init__(self, holds: object = None) -> None:
        self.heard: list[str] = []
        self.holds = holds

    def handle(self, task: Task, error: Exception) -> None:
        self.heard.append(str(error))

    async def handle_async(self, task: Task, error: Exception) -> None:
        self.heard.append(str(error))

    def __call__(self, task: Task, error: Exception) -> None:
        self.heard.append(str(error))


def running() -> Iterator[int]:
    yield 1


HOLDS: Mapping[str, Callable[[], object]] = {
    "nothing": lambda: None,
    "lock": threading.Lock,
    "generator": running,
    "module": lambda: asyncio,
    "itself": dict,
}


def closure(reporter: Reporter) -> Any:
    def handle(task: Task, error: Exception) -> None:
        reporter.handle(task, error)

    return handle


HANDLERS: Mapping[str, Callable[[Reporter], Any]] = {
    "method": lambda reporter: reporter.handle,
    "async_method": lambda reporter: reporter.handle_async,
    "object": lambda reporter: reporter,
    "partial": lambda reporter: partial(reporter.handle),
    "closure": closure,
}


def with_opt(layer: str, value: Any, *, as_keyword: bool = False) -> Any:
    """Make an application with settings in the ``opt`` of one layer, whose tasks fail."""

    def of(name: str) -> dict[str, Any]:
        return {"tasks": value} if layer == name else {}

    options: Any = of("handler") if as_keyword else {"opt": of("handler")}

    class Own(Controller):
        path = "/"
        opt = of("controller")

        @get("/", **options)
        async def handler(self, tasks: Tasks) -> None:
            made = tasks.schedule(fail)
            with suppress(ValueError):
                await made.wait()

    return application(Router("/", route_handlers=[Own], opt=of("router")), opt=of("app"))


async def fail() -> None:
    raise ValueError("it failed")


@in_pairs(
    each_layer,
    pytest.mark.parametrize("holds", HOLDS),
    pytest.mark.parametrize("handler", HANDLERS),
)
async def test_settings_are_not_copied(layer: str, holds: str, handler: str) -> None:
    """3.3 An error handler in ``opt`` is the one that is called, whatever it refers to."""
    reporter = Reporter(HOLDS[holds]())
    if holds == "itself":
        cast("Any", reporter.holds)["reporter"] = reporter
    app = with_opt(layer, TaskConfig(on_error=HANDLERS[handler](reporter)))
    async with serve(app) as server, drain(raise_errors=False):
        await server.request()
    assert reporter.heard == ["it failed"]


async def test_settings_as_an_argument_of_the_handler() -> None:
    """3.3 Litestar puts what it does not know into a handler's ``opt``."""
    reporter = Reporter(threading.Lock())
    app = with_opt("handler", TaskConfig(on_error=reporter.handle), as_keyword=True)
    async with serve(app) as server, drain(raise_errors=False):
        await server.request()
    assert reporter.heard == ["it failed"]


@pytest.mark.parametrize("layer", ["router", "handler"])
async def test_settings_of_a_websocket_and_of_a_mount(layer: str) -> None:
    """3.3 Layers count for every kind of handler."""
    configs: list[TaskConfig] = []

    def of(name: str) -> dict[str, Any]:
        return {"tasks": TaskConfig(name=layer)} if layer == name else {}

    @websocket("/socket", opt=of("handler"))
    async def socket_handler(socket: WebSocket, tasks: Tasks) -> None:
        configs.append(tasks.schedule(nothing).config)
        await socket.accept()

    @asgi("/mount", is_mount=True, copy_scope=True, opt=of("handler"))
    async def mount(scope: Any, receive: Any, send: Any) -> None:
        configs.append(current_tasks().after_response.schedule(nothing).config)
        await say(send, b"ok")

    router = Router("/", route_handlers=[socket_handler, mount], opt=of("router"))
    async with serve(application(router)) as server, drain():
        async with server.websocket("/socket"):
            pass
        await server.request("/mount")
    assert configs == [TaskConfig(name=layer)] * 2


WRONG: list[Any] = [True, False, 0, "", "shield", {}, {"shield": True}, TaskConfig, [TaskConfig()]]


@in_pairs(
    each_layer,
    pytest.mark.parametrize("value", WRONG, ids=repr),
    loops=False,
)
def test_settings_that_are_none(layer: str, value: Any) -> None:
    """3.3 Whatever is no `TaskConfig` is refused when the application is made, also if false."""
    with pytest.raises(ImproperlyConfiguredException, match=r'opt\["tasks"\], which is for'):
        with_opt(layer, value)


@pytest.mark.parametrize("kind", ["websocket", "listener", "mount", "registered"])
def test_settings_that_are_none_of_other_handlers(kind: str) -> None:
    """3.3 So they are of WebSockets, of what is mounted, and of what is registered later."""
    opt = {"tasks": "shield"}

    @websocket("/", opt=opt)
    async def socket_handler(socket: WebSocket) -> None: ...

    @websocket_listener("/", opt=opt)
    async def listener(data: str) -> None: ...

    @asgi("/", is_mount=True, copy_scope=True, opt=opt)
    async def mount(scope: Any, receive: Any, send: Any) -> None: ...

    @get("/", opt=opt)
    async def handler() -> None: ...

    handlers: dict[str, Any] = {"websocket": socket_handler, "listener": listener, "mount": mount}
    handlers["registered"] = handler
    register = application().register if kind == "registered" else application
    with pytest.raises(ImproperlyConfiguredException, match=r'opt\["tasks"\], which is for'):
        register(handlers[kind])


# Other plugins, which change what ours relies on.


class Resource:
    """Something that a plugin opens in the lifespan, and tasks use."""

    def __init__(self) -> None:
        self.log: list[str] = []

    @asynccontextmanager
    async def opened(self, _: Litestar) -> AsyncGenerator[None, None]:
        self.log.append("opened")
        try:
            yield
        finally:
            self.log.append("closed")


class Plugin(InitPlugin):
    """A plugin of somebody else."""

    def __init__(self, act: Callable[[Any], AppConfig | None]) -> None:
        self._act = act

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        return self._act(app_config) or app_config


def appends(resource: Resource) -> Any:
    def act(config: Any) -> None:
        config.lifespan.append(resource.opened)

    return act


def inserts(resource: Resource) -> Any:
    def act(config: Any) -> None:
        config.lifespan.insert(0, resource.opened)

    return act


def replaces_after(resource: Resource) -> Any:
    def act(config: Any) -> None:
        config.lifespan = [*config.lifespan, resource.opened]

    return act


def replaces_before(resource: Resource) -> Any:
    def act(config: Any) -> None:
        config.lifespan = [resource.opened, *config.lifespan]

    return act


def instance(resource: Resource) -> Any:
    def act(config: Any) -> None:
        config.lifespan = [*config.lifespan, resource.opened(cast("Any", None))]

    return act


def extends_twice(resource: Resource) -> Any:
    def act(config: Any) -> None:
        config.lifespan = list(config.lifespan)
        config.lifespan += [resource.opened]
        config.lifespan = config.lifespan.copy()

    return act


LIFESPANS = [appends, inserts, replaces_after, replaces_before, instance, extends_twice]


def of_order(order: str, other: InitPlugin) -> list[InitPlugin]:
    ours: InitPlugin = TasksPlugin()
    return [other, ours] if order == "ours_last" else [ours, other]


class Until:
    """Tasks that use a resource: one that a shutdown waits for, and one that it cancels first."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._stopping = anyio.Event()

    async def shielded(self) -> None:
        await self._stopping.wait()
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        self._resource.log.append("used")

    async def unshielded(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self._resource.log.append("cancelled")
            self._stopping.set()


@in_pairs(
    pytest.mark.parametrize("kind", LIFESPANS),
    pytest.mark.parametrize("order", ["ours_first", "ours_last"]),
)
async def test_plugins_with_a_lifespan(kind: Any, order: str) -> None:
    """5.1 However another plugin puts a manager there, tasks end before it closes."""
    resource = Resource()
    until = Until(resource)

    @get("/")
    async def handler(tasks: Tasks) -> None:
        tasks.schedule(until.unshielded)
        tasks.task(shield=True).schedule(until.shielded)

    app = application(handler, plugins=of_order(order, Plugin(kind(resource))))
    async with serve(app) as server:
        await server.request()
    assert resource.log == ["opened", "cancelled", "used", "closed"]


@pytest.mark.parametrize("order", ["ours_first", "ours_last"])
async def test_a_manager_that_fails_after_another_one(order: str) -> None:
    """5.1 Of a start-up that fails, too, tasks end before what was opened is closed."""
    log: list[str] = []

    async def use() -> None:
        await anyio.wait_all_tasks_blocked()
        log.append("used")

    @asynccontextmanager
    async def database(app: Litestar) -> AsyncGenerator[None, None]:
        current_tasks().task(shield=True).schedule(use)
        try:
            yield
        finally:
            log.append("closed")

    @asynccontextmanager
    async def cache(app: Litestar) -> AsyncGenerator[None, None]:
        await anyio.to_thread.run_sync(refuse)
        yield

    def refuse() -> None:
        raise ConnectionRefusedError

    def add(config: Any) -> None:
        config.lifespan += [database, cache]

    refused = pytest.RaisesExc(ConnectionRefusedError)
    app = application(plugins=of_order(order, Plugin(add)))
    for _ in range(2):
        with pytest.RaisesGroup(refused, flatten_subgroups=True, allow_unwrapped=True):
            async with serve(app):
                raise AssertionError
        assert log == ["used", "closed"]
        log.clear()


def replaces_config(config: AppConfig) -> AppConfig:
    return replace(config, lifespan=[*cast("Any", config).lifespan])


def drops_lifespan(config: Any) -> None:
    config.lifespan = []


def replaces_and_drops(config: AppConfig) -> AppConfig:
    return replace(config, lifespan=[])


@pytest.mark.parametrize("act", [replaces_config, drops_lifespan, replaces_and_drops])
async def test_plugins_that_take_the_lifespan_away(act: Any) -> None:
    """5.1, 5.6 After ours that is refused when the application starts; before ours it is none."""

    @get("/")
    async def handler(tasks: Tasks) -> int:
        return await tasks.schedule(len, "four").wait()

    async with serve(application(handler, plugins=of_order("ours_last", Plugin(act)))) as server:
        assert (await server.request()).body == b"4"

    refused = pytest.RaisesExc(ImproperlyConfiguredException, match="put TasksPlugin after that")
    with pytest.RaisesGroup(refused, flatten_subgroups=True, allow_unwrapped=True):
        async with serve(application(handler, plugins=of_order("ours_first", Plugin(act)))):
            raise AssertionError


def replaces_start_up(config: Any) -> None:
    config.on_startup = [*config.on_startup]


def replaces_after_exception(config: Any) -> None:
    config.after_exception = [*config.after_exception]


def replaces_dependencies(config: Any) -> None:
    config.dependencies = {**config.dependencies, "other": Provide(nothing)}


def replaces_middleware(config: Any) -> None:
    config.middleware = [*config.middleware]


REPLACES = [replaces_start_up, replaces_after_exception, replaces_dependencies, replaces_middleware]


@in_pairs(
    pytest.mark.parametrize("act", REPLACES),
    pytest.mark.parametrize("order", ["ours_first", "ours_last"]),
)
async def test_plugins_that_replace_other_lists(act: Any, order: str) -> None:
    """1.6, 2.7 A list with the same in it is as good as the old one."""
    watch, outcome = Watch(), Outcome()

    @get("/")
    async def handler(tasks: Tasks) -> None:
        watch.schedule(tasks)

    @get("/fails")
    async def failing(tasks: Tasks) -> None:
        outcome.schedule(tasks)
        raise HTTPException(status_code=409)

    app = application(handler, failing, plugins=of_order(order, Plugin(act)))
    async with serve(app) as server:
        assert await watch.request(server) == IN_ORDER
        await server.request("/fails")
        assert await outcome.seen() == FAILURE


def drops_after_exception(config: Any) -> None:
    config.after_exception = []


async def test_a_plugin_that_drops_the_hooks_for_exceptions() -> None:
    """1.6 No failure is lost: it puts its own hook there when the application starts."""
    outcome = Outcome()

    @get("/")
    async def handler(tasks: Tasks) -> None:
        outcome.schedule(tasks)
        raise HTTPException(status_code=409)

    plugins = of_order("ours_first", Plugin(drops_after_exception))
    async with serve(application(handler, plugins=plugins)) as server:
        await server.request()
        assert await outcome.seen() == FAILURE


def takes_the_name(config: Any) -> None:
    config.dependencies["tasks"] = Provide(own_tasks)


@pytest.mark.parametrize("order", ["ours_first", "ours_last"])
async def test_a_plugin_that_takes_the_name(order: str) -> None:
    """3.3 A clash is an error when the application is made, whichever plugin was first."""

    @get("/")
    async def handler(tasks: Tasks) -> str:
        return type(tasks).__name__

    with pytest.raises(ImproperlyConfiguredException, match="tasks"):
        application(handler, plugins=of_order(order, Plugin(takes_the_name)))


async def test_something_around_the_handler_of_the_application() -> None:
    """2.7 What another plugin puts around all of the application has its tasks, or is around."""
    watch = Watch()

    def wrap(app: Any) -> None:
        inner = app.asgi_handler

        async def around(scope: Any, receive: Any, send: Any) -> None:
            await inner(scope, receive, send)

        app.asgi_handler = around

    @get("/")
    async def handler(tasks: Tasks) -> None:
        watch.schedule(tasks)

    app = application(handler, on_startup=[wrap])
    for _ in range(2):
        async with serve(app) as server:
            watch.log.clear()
            assert await watch.request(server) == IN_ORDER


async def forward(app: Any, scope: Any, receive: Any, send: Any) -> None:
    await app(scope, receive, send)


class Around:
    """An ASGI application around another one."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


@pytest.mark.parametrize("around", [Around, partial(partial, forward)])
async def test_something_around_an_application_that_has_not_started(around: Any) -> None:
    """2.7 Whatever it is: tasks are around it."""
    watch = Watch()

    @get("/")
    async def handler(tasks: Tasks) -> None:
        watch.schedule(tasks)

    app = application(handler)
    app.asgi_handler = around(app.asgi_handler)
    for _ in range(2):
        async with serve(app) as server:
            watch.log.clear()
            assert await watch.request(server) == IN_ORDER


async def test_something_around_an_application_that_starts_again() -> None:
    """5.7 Nothing of ours is added with each start, whatever was put around it since."""
    depths: list[int] = []
    made: list[TasksScheduler] = []

    async def hear(*_: Any) -> None:
        depths.append(len(inspect.stack(0)))

    def wrap(app: Any) -> None:
        if not isinstance(app.asgi_handler, Around):
            app.asgi_handler = Around(app.asgi_handler)

    @get("/")
    async def handler(tasks: Tasks) -> None:
        depths.append(len(inspect.stack(0)))
        made.append(tasks)

    app = application(handler, on_startup=[wrap], before_send=[hear], after_exception=[hear])
    for _ in range(3):
        async with serve(app) as server:
            await server.request()
        depths += [len(app.before_send), len(app.after_exception), len(app.on_startup)]
    each = len(depths) // 3
    assert depths[:each] == depths[each : 2 * each] == depths[2 * each :]
    assert depths[each - 3 : each] == [1, 2, 2]
    assert len({id(tasks.registry) for tasks in made}) == 3


async def test_what_is_around_an_application_is_taken_away() -> None:
    """2.7 With the next start tasks are around it again."""

    @get("/")
    async def handler() -> int:
        return await current_tasks().schedule(len, "four").wait()

    app = application(handler)
    original = app.asgi_handler
    for _ in range(2):
        async with serve(app) as server:
            assert (await server.request()).body == b"4"
        app.asgi_handler = original


# An application whose lifespan runs that of another one.


@pytest.mark.parametrize("how", ["manager", "hook", "own"])
async def test_a_lifespan_within_another_ones(how: str) -> None:
    """2.7, 5.1 The outer one's code has its own tasks after that, and they end before it closes."""
    resource = Resource()
    until = Until(resource)
    inner = application()
    runner = TaskRunner()

    @asynccontextmanager
    async def manager(app: Any) -> AsyncGenerator[None, None]:
        async with inner.lifespan():
            yield

    @asynccontextmanager
    async def own(app: Any) -> AsyncGenerator[None, None]:
        async with runner:
            with TasksScheduler(runner):
                yield

    async def hook() -> None:
        async with inner.lifespan():
            pass

    @asynccontextmanager
    async def last(app: Any) -> AsyncGenerator[None, None]:
        async with resource.opened(app):
            yield

    @get("/")
    async def handler(tasks: Tasks) -> None:
        tasks.schedule(until.unshielded)
        tasks.task(shield=True).schedule(until.shielded)
        names.append(tasks.config.name)

    def named() -> None:
        names.append(current_tasks().config.name)

    names: list[str | None] = []
    managers: dict[str, list[Any]] = {"manager": [manager, last], "own": [own, last]}
    app = application(
        handler,
        plugins=[TasksPlugin(config=TaskConfig(name="outer"))],
        lifespan=managers.get(how, [last]),
        on_startup=[hook, named] if how == "hook" else [named],
    )
    async with serve(app) as server:
        await server.request()
    assert names == [None if how == "own" else "outer", "outer"]
    assert resource.log == ["opened", "cancelled", "used", "closed"]


async def test_a_mounted_application_whose_lifespan_runs_too() -> None:
    """1.6, 2.7, 3.3 Its requests are the outer one's: one scheduler, one outcome, its settings."""
    outer, own = Outcome(), Outcome()
    configs: list[TaskConfig] = []

    @get("/", opt={"tasks": TaskConfig(shield=True)})
    async def handler(tasks: Tasks) -> None:
        own.schedule(tasks)
        configs.append(tasks.task(run_on="always").schedule(nothing).config)
        raise HTTPException(status_code=409)

    @get("/current", opt={"tasks": TaskConfig(shield=True)})
    async def asking() -> None:
        configs.append(current_tasks().schedule(nothing).config)

    def within(app: Any) -> Any:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            names.append(current_tasks().config.name)
            await app(scope, receive, send)

        return call

    names: list[str | None] = []
    plugin = TasksPlugin(config=TaskConfig(name="inner"))
    inner = application(handler, asking, plugins=[plugin], middleware=[within])
    inner.asgi_handler = within(inner.asgi_handler)  # before it has routed the request

    @asgi("/inner", is_mount=True, copy_scope=True)
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)

    def around(app: Any) -> Any:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            outer.schedule(current_tasks())
            await app(scope, receive, send)

        return call

    @asynccontextmanager
    async def live(app: Any) -> AsyncGenerator[None, None]:
        async with inner.lifespan():
            yield

    opt = {"tasks": TaskConfig(name="of a layer of the outer one", daemon=False)}
    app = application(mounted, middleware=[around], lifespan=[live], opt=opt)
    async with serve(app) as server:
        assert (await server.request("/inner")).status == 409
        assert await outer.seen() == await own.seen() == FAILURE
        assert (await server.request("/inner/current")).status == 200
    expected = TaskConfig(name="inner", shield=True, daemon=False)
    assert configs == [replace(expected, run_on="always"), expected]
    assert names == ["inner"] * 4


@pytest.mark.parametrize("path", ["/inner/a/b", "/inner/a//b", "//inner//a//b//"])
async def test_slashes_in_the_path_of_what_is_mounted(path: str) -> None:
    """1.6, 2.7 Litestar takes several for one, so a client may write what it likes."""
    outcome = Outcome()
    names: list[str | None] = []

    @get("/a/b")
    async def handler(tasks: Tasks) -> None:
        outcome.schedule(tasks)
        names.append(tasks.config.name)

    inner = application(handler)

    @asgi("/inner", is_mount=True, copy_scope=True)
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)
        raise ConnectionResetError

    @asynccontextmanager
    async def live(app: Any) -> AsyncGenerator[None, None]:
        async with inner.lifespan():
            yield

    plugin = TasksPlugin(config=TaskConfig(name="outer"))
    async with serve(application(mounted, plugins=[plugin], lifespan=[live])) as server:
        await server.request(path)
        assert (await outcome.seen())[1] == "failure"
    assert names == ["outer"]


# What is kept.


class Kept(Protocol):
    """A way to use an application."""

    async def __call__(self, app: Any) -> None: ...


async def unused(app: Any) -> None: ...


async def started(app: Any) -> None:
    async with serve(app):
        pass


async def requested(app: Any) -> None:
    async with serve(app) as server:
        await server.request("/")


async def failed(app: Any) -> None:
    async with serve(app) as server:
        await server.request("/fails")
        await server.request("/nowhere")


async def connected(app: Any) -> None:
    async with serve(app) as server, server.websocket("/socket") as client:
        client.leave()


async def several_times(app: Any) -> None:
    for _ in range(3):
        await requested(app)


async def started_in_vain(app: Any) -> None:
    async def refuse() -> None:
        raise LookupError

    app.on_startup.append(refuse)
    with pytest.RaisesGroup(LookupError, flatten_subgroups=True, allow_unwrapped=True):
        async with serve(app):
            raise AssertionError


async def without_a_lifespan(app: Any) -> None:
    async with serve(app, lifespan=False) as server:
        await server.request("/")


USES: list[Kept] = [
    unused,
    started,
    requested,
    failed,
    connected,
    several_times,
    started_in_vain,
    without_a_lifespan,
]


class Pool:
    """What an application's state holds."""


def keeping(*, tasks: bool) -> tuple[Any, weakref.ref[Pool]]:
    """Make an application with something in its state, and with tasks or without."""

    def schedule() -> None:
        if tasks:
            current_tasks().schedule(nothing)
            current_tasks().after_response.schedule(nothing)

    @get("/", opt={"tasks": TaskConfig(shield=True)} if tasks else {})
    async def handler() -> None:
        with suppress(TasksUninitializedError):
            schedule()

    @get("/fails")
    async def failing() -> None:
        schedule()
        raise HTTPException(status_code=409)

    @websocket("/socket")
    async def socket_handler(socket: WebSocket) -> None:
        schedule()
        await socket.accept()

    plugins = [TasksPlugin()] if tasks else []
    app = Litestar(
        [handler, failing, socket_handler],
        plugins=plugins,
        logging_config=None,
        openapi_config=None,
    )
    pool = Pool()
    app.state.pool = pool
    return app, weakref.ref(pool)


async def use_and_drop(use: Kept, *, tasks: bool) -> weakref.ref[Pool]:
    app, pool = keeping(tasks=tasks)
    await use(app)
    return pool


@pytest.mark.parametrize("use", USES)
async def test_applications_are_collected(use: Kept) -> None:
    """5.7 Nothing of ours keeps an application alive that nobody holds any more."""
    with_tasks = [await use_and_drop(use, tasks=True) for _ in range(3)]
    without = [await use_and_drop(use, tasks=False) for _ in range(3)]
    await anyio.wait_all_tasks_blocked()
    gc.collect()
    kept, expected = ([one() is not None for one in refs] for refs in (with_tasks, without))
    assert sum(kept) <= sum(expected)


def test_applications_of_test_clients_are_collected(
    anyio_backend_name: Literal["asyncio", "trio"],
) -> None:
    """5.7 So it is with test clients, of which a suite has hundreds."""

    def use(*, tasks: bool) -> weakref.ref[Pool]:
        app, pool = keeping(tasks=tasks)
        with TestClient(app, backend=anyio_backend_name) as client:
            client.get("/")
        return pool

    refs = [use(tasks=True) for _ in range(3)], [use(tasks=False) for _ in range(3)]
    gc.collect()
    kept, expected = (sum(one() is not None for one in some) for some in refs)
    assert kept <= expected


# A lifespan that is cancelled.


def with_resource() -> tuple[Any, Resource, anyio.Event]:
    """An application whose lifespan opens something, and schedules what uses it."""
    resource, ready = Resource(), anyio.Event()
    until = Until(resource)

    @asynccontextmanager
    async def manager(app: Litestar) -> AsyncGenerator[None, None]:
        async with resource.opened(app):
            current_tasks().schedule(until.unshielded)
            current_tasks().task(shield=True).schedule(until.shielded)
            await anyio.wait_all_tasks_blocked()
            ready.set()
            yield

    return application(lifespan=[manager]), resource, ready


def assert_in_order(resource: Resource) -> None:
    assert resource.log == ["opened", "cancelled", "used", "closed"]


async def by_hand(app: Any) -> None:
    async with app.lifespan():
        await anyio.sleep_forever()


async def by_messages(app: Any) -> None:
    asked: list[int] = []

    async def receive() -> Any:
        if asked:
            await anyio.sleep_forever()
        asked.append(1)
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None: ...

    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    await app(scope, receive, send)


async def in_a_group(app: Any) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(by_hand, app)
        await anyio.sleep_forever()


LIVES: list[Callable[[Any], Awaitable[None]]] = [by_hand, by_messages, in_a_group]


@pytest.mark.parametrize("live", LIVES)
async def test_a_lifespan_that_is_cancelled_in_a_scope(live: Any) -> None:
    """5.1 Tasks end before what they use, and the event loop ends, too."""
    app, resource, ready = with_resource()
    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as group:
            group.start_soon(live, app)
            await ready.wait()
            group.cancel_scope.cancel()
    assert_in_order(resource)


@pytest.mark.parametrize("live", LIVES)
async def test_a_lifespan_whose_limit_has_passed(live: Any) -> None:
    """5.1 So it is where the scope is around the lifespan itself."""
    app, resource, ready = with_resource()
    with anyio.fail_after(GUARD), anyio.CancelScope() as scope:

        async def cancel() -> None:
            await ready.wait()
            scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(cancel)
            await live(app)
    assert_in_order(resource)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("live", LIVES)
async def test_a_lifespan_that_is_cancelled_by_asyncio(live: Any) -> None:
    """5.1 So it is for asyncio's own cancellation."""
    app, resource, ready = with_resource()
    lives = asyncio.ensure_future(live(app))
    async with asyncio.timeout(GUARD):
        await ready.wait()
        lives.cancel()
        with pytest.raises(asyncio.CancelledError):
            await lives
    assert_in_order(resource)


@pytest.mark.parametrize("moment", ["start_up", "shutdown"])
async def test_a_lifespan_that_is_cancelled_while_it_changes(moment: str) -> None:
    """5.1 Also while it starts, or shuts down."""
    resource, reached = Resource(), anyio.Event()
    until = Until(resource)

    async def wait() -> None:
        reached.set()
        await anyio.sleep_forever()

    async def start() -> None:
        current_tasks().schedule(until.unshielded)
        current_tasks().task(shield=True).schedule(until.shielded)
        await anyio.wait_all_tasks_blocked()
        if moment == "start_up":
            await wait()

    hooks: Any = {"on_startup": [start], "on_shutdown": [wait] if moment == "shutdown" else []}
    app = application(lifespan=[resource.opened], **hooks)

    async def live() -> None:
        async with app.lifespan():
            pass

    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as group:
            group.start_soon(live)
            await reached.wait()
            group.cancel_scope.cancel()
    assert_in_order(resource)


# Several lifespans of one application, and several applications of one lifespan.


class Emitter(BaseEventEmitterBackend):
    """One without state: Litestar's own emitter is one object, which cannot be entered twice."""

    def emit(self, event_id: str, *args: Any, **kwargs: Any) -> None: ...

    async def __aexit__(self, *error: object) -> None: ...


def counting(*plugins: Any) -> tuple[Any, list[Task]]:
    """An application each of whose requests starts a task that runs on."""
    made: list[Task] = []

    @get("/")
    async def handler(tasks: Tasks) -> None:
        made.append(tasks.schedule(anyio.sleep_forever))
        await made[-1].started.wait()

    return application(handler, plugins=plugins, event_emitter_backend=Emitter), made


def states(tasks: list[Task]) -> list[str]:
    return [str(task.state) for task in tasks]


@pytest.mark.parametrize("times", [2, 3])
async def test_lifespans_one_after_the_other(times: int) -> None:
    """5.7 An application starts again, with a new runner each time, and nothing is added to it."""

    class Kept(InitPlugin):
        def on_app_init(self, app_config: AppConfig) -> AppConfig:
            kept.append(app_config)
            return app_config

    kept: list[Any] = []  # Litestar types what is in it by halves
    app, made = counting(TasksPlugin(), Kept())
    managers: list[int] = []
    for number in range(times):
        async with serve(app) as server:
            await server.request()
            assert states(made) == ["cancelled"] * number + ["running"]
            managers.append(len(kept[0].lifespan))
    assert states(made) == ["cancelled"] * times
    assert len(set(managers)) == 1


@pytest.mark.parametrize("first_out", ["outer", "inner"])
async def test_lifespans_that_overlap(first_out: str) -> None:
    """5.7 On one event loop, too: while one is left, requests are served, until that ends as well.

    Which of both serves a request is not told: Litestar keeps no state of a lifespan for it.
    """
    app, made = counting()
    async with serve(app) as outer:
        await outer.request()
        async with serve(app) as inner:
            await inner.request()
            await (outer if first_out == "outer" else inner).stop()
            left = inner if first_out == "outer" else outer
            await left.request()
            await anyio.wait_all_tasks_blocked()
            assert states(made)[2] == "running"
    assert states(made) == ["cancelled"] * 3


def test_lifespans_of_several_threads() -> None:
    """5.7 One application on several event loops at a time: each has its own tasks."""
    app, made = counting()
    with TestClient(app) as outer:
        outer.get("/")
        with TestClient(app) as inner:
            inner.get("/")
            outer.get("/")
        assert states(made) == ["running", "cancelled", "running"]
        outer.get("/")
        assert states(made)[3] == "running"
    assert states(made) == ["cancelled"] * 4


@pytest.mark.parametrize("plugin", ["one_each", "the_same"])
async def test_applications_of_one_lifespan_state(plugin: str) -> None:
    """5.7 Each has its own runner, settings and resource."""
    heard: list[str] = []

    async def note(task: Task, error: Exception) -> None:
        heard.append(task.name)

    shared = TasksPlugin(config=TaskConfig(on_error=note))
    resources = {"/shop": Resource(), "/blog": Resource()}

    def make(path: str) -> Any:
        resource = resources[path]
        until = Until(resource)

        async def report(task: Task, error: Exception) -> None:
            heard.append(path)

        @get("/")
        async def handler(tasks: Tasks) -> None:
            tasks.task(name=path).schedule(fail)
            tasks.task(shield=True).schedule(until.shielded)
            tasks.schedule(until.unshielded)

        own = TasksPlugin(config=TaskConfig(on_error=report))
        plugins = [own if plugin == "one_each" else shared]
        return application(handler, plugins=plugins, lifespan=[resource.opened])

    app = dispatching({path: make(path) for path in resources})
    async with serve(app) as server:
        for path in ("/shop", "/blog"):
            await server.request(path + "/")
        await anyio.wait_all_tasks_blocked()
        assert heard == ["/shop", "/blog"]
    for resource in resources.values():
        assert resource.log[0] == "opened"
        assert sorted(resource.log[1:3]) == ["cancelled", "used"]
        assert resource.log[3:] == ["closed"]


# Why there are no tasks.


async def test_requests_before_and_after() -> None:
    """5.6 Before start-up, after one that failed, after shutdown: each error says what is so."""
    got: list[str] = []
    fails: list[bool] = [True]

    async def start() -> None:
        if fails:
            raise LookupError

    @get("/")
    async def handler() -> Response[str]:
        try:
            current_tasks()
        except TasksUninitializedError as error:
            got.append(error.missing.name)
        return Response("ok")

    app = application(handler, on_startup=[start])

    async def request() -> str:
        async with serve(app, lifespan=False) as server:
            await server.request()
        return got.pop()

    assert await request() == "CONTEXT"
    with pytest.RaisesGroup(LookupError, flatten_subgroups=True, allow_unwrapped=True):
        async with serve(app):
            raise AssertionError
    assert await request() == "FAILED"
    fails.clear()
    for _ in range(2):
        async with serve(app) as server:
            await server.request()
            assert got == []
        assert await request() == "ENDED"
