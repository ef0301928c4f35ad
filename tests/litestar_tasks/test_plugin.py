"""How the plugin attaches to a Litestar application, and what its layers configure."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import litestar_tasks
import pytest
from anyio import Event
from litestar import Controller, Litestar, Response, Router, asgi, get
from litestar.config.app import AppConfig
from litestar.di import NamedDependency
from litestar.exceptions import ImproperlyConfiguredException
from litestar.params import FromQuery
from litestar.plugins import InitPlugin
from litestar.testing import TestClient
from litestar.types import Scope
from litestar_tasks import (
    Every,
    Periodic,
    Task,
    TaskConfig,
    Tasks,
    TasksAlreadyAddedError,
    TasksPlugin,
    TasksUninitializedError,
    current_tasks,
)
from tasks_core import MountedSettingsError

from tests.conformance.driver import serve

pytestmark = pytest.mark.anyio


def application(*handlers: Any, plugins: Any = None, **options: Any) -> Any:
    """Make an application; `Any` because Litestar types each ASGI message by itself."""
    options.setdefault("logging_config", None)
    return Litestar(handlers, plugins=plugins or [TasksPlugin()], **options)


async def on_error(task: Task, error: Exception) -> None: ...


async def config_of(app: Any) -> TaskConfig:
    """Return the settings that the application's handler has stored."""
    async with serve(app) as server:
        exchange = await server.request()
        assert (exchange.status, exchange.body, exchange.error) == (200, b"ok", None)
    return STORED.pop()


STORED: list[TaskConfig] = []


@get("/")
async def storing(tasks: Tasks) -> str:
    STORED.append(tasks.schedule(len, "four").config)
    return "ok"


async def test_layers_merge_in_order() -> None:
    """3.3 Settings of application, router, controller and handler merge, the inner one wins."""
    layers = {
        "plugin": TaskConfig(name="plugin", shield=False, run_on="failure", on_error=on_error),
        "app": TaskConfig(name="app", run_on="always"),
        "router": TaskConfig(name="router", shield=True),
        "controller": TaskConfig(name="controller"),
        "handler": TaskConfig(name="handler"),
    }
    expected = TaskConfig()
    for count in range(len(layers) + 1):
        given = dict(list(layers.items())[:count])
        expected = TaskConfig()
        for config in given.values():
            expected = expected.merge(config)
        assert await config_of(layered(given)) == expected
    assert expected == TaskConfig(name="handler", shield=True, on_error=on_error, run_on="always")


def layered(given: Mapping[str, TaskConfig]) -> Any:
    """Make an application with settings in some of its layers."""

    def opt_of(layer: str) -> dict[str, Any]:
        return {"tasks": given[layer]} if layer in given else {}

    class Own(Controller):
        path = "/"
        opt = opt_of("controller")

        @get("/", opt=opt_of("handler"))
        async def handler(self, tasks: Tasks) -> str:
            STORED.append(tasks.schedule(len, "four").config)
            return "ok"

    return application(
        Router("/", route_handlers=[Own], opt=opt_of("router")),
        plugins=[TasksPlugin(config=given.get("plugin"))],
        opt=opt_of("app"),
    )


async def test_the_applications_layer_holds_where_there_is_no_handler() -> None:
    """3.3, 10.1 In its hooks, for what runs by the clock, and for a request that has no route."""
    found: dict[str, TaskConfig] = {}

    async def start() -> None:
        found["on_startup"] = current_tasks().schedule(len, "four").config
        (periodic,) = current_tasks().periodic.values()
        await (task := periodic.run()).wait()
        found["periodic"] = replace(task.config, key=None)

    def note_missing(error: Exception, scope: Scope) -> None:
        found["after_exception"] = current_tasks().schedule(len, "four").config

    def nightly() -> None:
        found["within periodic"] = current_tasks().config

    plugin = TasksPlugin(
        config=TaskConfig(name="plugin", shield=True), periodic=[Periodic(nightly, Every(hours=1))]
    )
    app = application(
        plugins=[plugin],
        opt={"tasks": TaskConfig(name="app")},
        on_startup=[start],
        after_exception=[note_missing],
    )
    async with serve(app) as server:
        assert (await server.request("/missing")).status == 404
    places = ["on_startup", "within periodic", "periodic", "after_exception"]
    assert found == dict.fromkeys(places, TaskConfig(name="app", shield=True))


async def test_the_tasks_own_settings_win() -> None:
    """3.3 What a task sets is stronger than every layer, `False` included."""

    @get("/", opt={"tasks": TaskConfig(shield=True, name="handler")})
    async def handler(tasks: Tasks) -> str:
        STORED.append(tasks.after_route.task(shield=False).schedule(len, "four").config)
        return "ok"

    assert await config_of(application(handler)) == TaskConfig(name="handler", shield=False)


async def test_layers_without_settings() -> None:
    """3.3 Where no layer has settings, the application's are in force."""
    config = TaskConfig(name="plugin")
    app = application(storing, plugins=[TasksPlugin(config=config)], opt={"else": 1})
    assert await config_of(app) == config


@pytest.mark.parametrize("layer", ["app", "router", "controller", "handler"])
def test_settings_of_the_wrong_type(layer: str) -> None:
    """3.3 An `opt` that is no `TaskConfig` is refused when the application is made."""
    given: dict[str, Any] = {layer: {"shield": True}}
    said = r'has dict in opt\["tasks"\], which is for a TaskConfig'
    with pytest.raises(ImproperlyConfiguredException, match=said):
        layered(given)
    given = {layer: TaskConfig}
    said = r'has the class TaskConfig in opt\["tasks"\]'
    with pytest.raises(ImproperlyConfiguredException, match=said):
        layered(given)


def test_a_parameter_of_our_name_for_something_else() -> None:
    """2.2 It is refused by the name of its function: it would get the request's tasks."""

    @get("/")
    async def handler(tasks: FromQuery[str]) -> None: ...

    async def provide(tasks: FromQuery[int]) -> int:
        return tasks

    @get("/", dependencies={"number": provide})
    async def depending(number: NamedDependency[int]) -> None: ...

    for refused, name in ((handler, "handler"), (depending, "number")):
        said = rf'"tasks" is the parameter of \S*{name} for the request\'s tasks'
        with pytest.raises(ImproperlyConfiguredException, match=said):
            application(refused)


def test_an_application_with_a_dependency_of_our_name() -> None:
    """2.2 The plugin does not put its own in the place of it."""

    async def own() -> str:
        return "own"

    with pytest.raises(ImproperlyConfiguredException, match='has a dependency "tasks" of its own'):
        application(dependencies={"tasks": own})


async def test_a_second_plugin_changes_nothing() -> None:
    """5.7 A second plugin without settings is no second runner: settings of the first hold."""
    config = TaskConfig(name="first")
    plugins = [TasksPlugin(config=config), TasksPlugin()]
    assert await config_of(application(storing, plugins=plugins)) == config


@pytest.mark.parametrize("config", [TaskConfig(), TaskConfig(shield=True)])
def test_a_second_plugin_with_settings(config: TaskConfig) -> None:
    """5.7 A second plugin whose settings would be lost is refused."""
    with pytest.raises(TasksAlreadyAddedError, match="pass all settings to the first call"):
        application(plugins=[TasksPlugin(), TasksPlugin(config=config)])


def test_settings_are_checked() -> None:
    """Settings that make no sense are refused where they are written."""
    with pytest.raises(TypeError, match="grace_period is a number of seconds"):
        TasksPlugin(grace_period=cast("float", "1"))
    with pytest.raises(ValueError, match="thread_limit"):
        TasksPlugin(thread_limit=0)


async def test_a_dependency_called_tasks() -> None:
    """A dependency of the user's own with our name wins in its layer, as in Litestar any does."""

    async def own() -> str:
        return "own"

    @get("/", dependencies={"tasks": own})
    async def handler(tasks: NamedDependency[str]) -> str:
        return tasks

    async with serve(application(handler)) as server:
        assert (await server.request()).body == b"own"


class Managing(InitPlugin):
    """A plugin that adds a lifespan manager, as those of databases and brokers do."""

    def __init__(self, log: list[str]) -> None:
        self._log = log

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        @asynccontextmanager
        async def manager(_: Litestar) -> AsyncGenerator[None, None]:
            await current_tasks().schedule(self._log.append, "opened").wait()
            yield
            self._log.append("closed")

        cast("Any", app_config).lifespan.append(manager)
        return app_config


def before(log: list[str]) -> list[InitPlugin]:
    return [Managing(log), TasksPlugin()]


def after(log: list[str]) -> list[InitPlugin]:
    return [TasksPlugin(), Managing(log)]


def around(log: list[str]) -> list[InitPlugin]:
    return [Managing(log), TasksPlugin(), Managing(log)]


@pytest.mark.parametrize("plugins", [before, after, around])
@pytest.mark.parametrize("times", [1, 2])
async def test_tasks_end_before_anything_closes(
    plugins: Callable[[list[str]], list[InitPlugin]], times: int
) -> None:
    """5.1 Whatever the order of plugins, tasks end before lifespans and hooks close anything."""
    log: list[str] = []
    begun = Event()

    async def task() -> None:
        begun.set()
        await release.wait()
        log.append("task")

    @asynccontextmanager
    async def own(_: Litestar) -> AsyncGenerator[None, None]:
        await current_tasks().schedule(log.append, "opened").wait()
        yield
        log.append("closed")

    async def shut_down() -> None:
        log.append("closed")

    @get("/")
    async def handler(tasks: Tasks) -> None:
        tasks.after_response.task(shield=True).schedule(task)
        tasks.after_response.task(shield=True).schedule(release_later)

    async def release_later() -> None:
        await begun.wait()
        release.set()

    app = application(
        handler, plugins=plugins(log), lifespan=[own], on_shutdown=[shut_down, shut_down]
    )
    for _ in range(times):
        release = Event()
        async with serve(app) as server:
            await server.request()
        closing = log.index("task")
        assert set(log[:closing]) == {"opened"}
        assert set(log[closing + 1 :]) == {"closed"}
        log.clear()


class Replacing(InitPlugin):
    """A plugin that makes a configuration of its own."""

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        return replace(app_config, lifespan=list(cast("Any", app_config).lifespan))


async def test_a_plugin_that_replaces_the_configuration() -> None:
    """5.1 Where tasks would not end before what they use, the application does not start."""
    config = TaskConfig(name="plugin")
    ours = TasksPlugin(config=config)
    assert await config_of(application(storing, plugins=[Replacing(), ours])) == config
    refused = pytest.RaisesExc(
        ImproperlyConfiguredException, match="put TasksPlugin after that plugin"
    )
    with pytest.RaisesGroup(refused):  # Litestar's own task group wraps it
        async with serve(application(plugins=[ours, Replacing()])):
            raise AssertionError


async def test_hooks_at_start_up_schedule() -> None:
    """5.1 What runs at start-up may schedule: the runner is there before."""
    made: list[Task] = []

    async def start_up() -> None:
        made.append(current_tasks().after_response.schedule(len, "four"))

    app = application(on_startup=[start_up])
    for _ in range(2):
        async with serve(app):
            assert await made.pop().wait() == 4


def test_client_that_runs_no_lifespan() -> None:
    """5.6 A test client without `with` gets an error that says so, and what to do."""
    client = TestClient(application(storing, debug=True))
    response = client.get("/")
    assert response.status_code == 500
    assert TasksUninitializedError.__name__ in response.text
    assert "with TestClient" in response.text


def test_client_that_runs_no_lifespan_and_current_tasks() -> None:
    """2.7, 5.6 A handler that asks `current_tasks` is told of that as well."""

    @get("/")
    async def handler() -> str:
        with pytest.raises(TasksUninitializedError) as raised:
            current_tasks()
        return str(raised.value)

    text = TestClient(application(handler)).get("/").text
    assert "its lifespan has not run" in text
    assert "with TestClient(app)" in text


async def test_after_the_lifespan() -> None:
    """5.6 A request after the lifespan finds no runner."""
    states: list[type[Exception] | None] = []

    @get("/")
    async def handler() -> None:
        try:
            current_tasks()
            states.append(None)
        except TasksUninitializedError as error:
            states.append(type(error))

    async with serve(application(handler)) as server:
        await server.request()
        await server.stop()
        await server.request()
    assert states == [None, TasksUninitializedError]


async def test_one_plugin_for_several_applications() -> None:
    """5.1 A plugin that was given to several applications drains each before it closes."""
    log: list[str] = []

    @asynccontextmanager
    async def own(_: Litestar) -> AsyncGenerator[None, None]:
        current_tasks().task(shield=True).schedule(log.append, "task")
        yield
        log.append("closed")

    plugin = TasksPlugin()
    first, _ = (application(plugins=[plugin], lifespan=[own]) for _ in range(2))
    async with serve(first):
        pass
    assert log == ["task", "closed"]


def mounting(inner: Any) -> Any:
    """Make an application with tasks in which another one is mounted."""

    @asgi("/inner", is_mount=True, copy_scope=True)
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)

    return application(mounted, plugins=[TasksPlugin(config=TaskConfig(name="outer", shield=True))])


async def test_a_mounted_applications_settings_are_a_layer() -> None:
    """3.3 They count over those of the application around it, and its own layers over these."""
    config = TaskConfig(name="inner", run_on="always")
    handler = get("/", opt={"tasks": TaskConfig(run_on="failure")})(storing.fn)
    inner = application(handler, plugins=[TasksPlugin(config=config)])
    async with serve(mounting(inner)) as server:
        assert (await server.request("/inner")).status == 200
    assert STORED.pop() == TaskConfig(name="inner", shield=True, run_on="failure")


async def test_a_mounted_application_has_no_runner_of_its_own() -> None:
    """3.3 What is a runner's, and so cannot apply to it, is refused."""
    errors: list[Exception] = []

    def answer(_: Any, error: Exception) -> Response[str]:
        errors.append(error)
        return Response("", status_code=500)

    inner = application(
        storing,
        plugins=[TasksPlugin(thread_limit=3)],
        exception_handlers={Exception: answer},
    )
    async with serve(mounting(inner)) as server:
        assert (await server.request("/inner")).status == 500
    (error,) = errors
    assert isinstance(error, MountedSettingsError)
    assert "thread_limit" in str(error)
    assert not STORED


def test_names() -> None:
    """All that the package exports is there."""
    names = litestar_tasks.__all__
    assert all(hasattr(litestar_tasks, name) for name in names)
    assert not [name for name in names if name.startswith("_")]
