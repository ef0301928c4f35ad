"""How the plugin attaches to a Litestar application, and what its layers configure."""

import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated, Any, NewType, Protocol, TypeVar, cast, runtime_checkable

import httpx
import litestar_tasks
import pytest
from anyio import Event
from litestar import Controller, Litestar, Response, Router, asgi, get
from litestar.config.app import AppConfig
from litestar.di import NamedDependency
from litestar.exceptions import ImproperlyConfiguredException
from litestar.params import FromQuery, SkipValidation
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
    TasksScheduler,
    TasksUninitializedError,
    current_tasks,
)
from tasks_core import MountedSettingsError

from tests.conformance.driver import serve

if sys.version_info >= (3, 12):  # what a `type` statement makes
    from typing import TypeAliasType
else:
    from typing_extensions import TypeAliasType

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


class Setting(InitPlugin):
    """A plugin that gives the application's layer settings, in a mapping of its own or not."""

    def __init__(self, given: object, *, anew: bool = False) -> None:
        self._given, self._anew = given, anew

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        if self._anew:
            app_config.opt = {}
        app_config.opt["tasks"] = self._given
        return app_config


@pytest.mark.parametrize("anew", [False, True])
async def test_settings_that_a_later_plugin_gives(
    anew: bool,  # noqa: FBT001
) -> None:
    """3.3 They are the application's, whatever the order of plugins, also without a handler."""
    found: list[TaskConfig] = []

    def note(*_: object) -> None:
        found.append(current_tasks().schedule(len, "four").config)

    config = TaskConfig(name="plugin", shield=True)
    later = Setting(TaskConfig(name="later"), anew=anew)
    app = application(
        storing,
        plugins=[TasksPlugin(config=config, periodic=[Periodic(note, Every(hours=1))]), later],
        on_startup=[note],
        after_exception=[note],
    )

    @get("/periodic")
    async def by_hand(tasks: Tasks) -> None:
        (periodic,) = tasks.periodic.values()
        await periodic.run().wait()

    app.register(by_hand)
    async with serve(app) as server:
        assert (await server.request("/missing")).status == 404
        assert (await server.request("/periodic")).error is None
        assert (await server.request()).status == 200
    assert [*found, STORED.pop()] == [TaskConfig(name="later", shield=True)] * 4


async def test_settings_of_the_wrong_type_that_a_later_plugin_gives() -> None:
    """3.3 They are refused when the application is made, or without a route when it starts."""
    plugins = [TasksPlugin(), Setting({"shield": True})]
    said = r'The application has dict in opt\["tasks"\], which is for a TaskConfig'
    with pytest.raises(ImproperlyConfiguredException, match=said):
        application(storing, plugins=plugins)
    app = application(plugins=plugins, openapi_config=None)
    with pytest.RaisesGroup(pytest.RaisesExc(ImproperlyConfiguredException, match=said)):
        async with serve(app):
            raise AssertionError


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


class Schedules(Protocol):
    def schedule(self, func: Any, *args: Any) -> Any: ...


@runtime_checkable
class HasPhases(Schedules, Protocol):
    after_response: Any


Own = NewType("Own", TasksScheduler)
T = TypeVar("T", bound=TasksScheduler)
Unbound = TypeVar("Unbound")
Alias = TypeAliasType("Alias", Tasks)
MAY_BE = [Any, object, Schedules, HasPhases, HasPhases | None, Own, T, Unbound, Tasks | None, Alias]


@pytest.mark.parametrize("kind", MAY_BE)
async def test_a_parameter_that_may_be_for_tasks(kind: Any) -> None:
    """3.3 What does not say that it is for something else gets the tasks: a protocol, `Any`."""

    async def handler(tasks: Any) -> None:
        tasks.schedule(len, "four")

    dependency: Any = NamedDependency
    unchecked: Any = SkipValidation
    handler.__annotations__["tasks"] = dependency[unchecked[kind]]
    async with serve(application(get("/")(handler))) as server:
        assert (await server.request()).status == 200


Other = NewType("Other", int)
N = TypeVar("N", bound=int)
OtherAlias = TypeAliasType("OtherAlias", Annotated[int, "x"])


@pytest.mark.parametrize("kind", [int, Annotated[int, "x"], Other, N, OtherAlias])
@pytest.mark.parametrize("optional", [False, True])
def test_a_parameter_that_cannot_be_for_tasks(
    kind: Any,
    optional: bool,  # noqa: FBT001
) -> None:
    """3.3 It is refused by whatever name its type has, on each version of Python."""

    async def handler(tasks: Any) -> None: ...

    dependency: Any = NamedDependency
    handler.__annotations__["tasks"] = dependency[kind | None if optional else kind]
    with pytest.raises(ImproperlyConfiguredException, match='"tasks" is the parameter of'):
        application(get("/")(handler))


@pytest.mark.filterwarnings("ignore:.*Inferred dependency field:DeprecationWarning")
async def test_a_parameter_that_may_be_left_out() -> None:
    """3.3 It gets the tasks wherever there are some, by either name of theirs."""
    got: list[TasksScheduler | None] = []

    @get("/tasks")
    async def by_tasks(tasks: Tasks | None = None) -> None:
        got.append(tasks)

    @get("/scheduler")
    async def by_scheduler(tasks: NamedDependency[TasksScheduler | None] = None) -> None:
        got.append(tasks)

    async with serve(application(by_tasks, by_scheduler)) as server:
        for path in ("/tasks", "/scheduler"):
            assert (await server.request(path)).status == 200
    assert [isinstance(tasks, TasksScheduler) for tasks in got] == [True, True]


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


def mounting(inner: Any, *middleware: Any) -> Any:
    """Make an application with tasks in which another one is mounted."""

    @asgi("/inner", is_mount=True, copy_scope=True)
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)

    plugin = TasksPlugin(config=TaskConfig(name="outer", shield=True))
    return application(mounted, plugins=[plugin], middleware=middleware)


async def test_a_mounted_applications_settings_are_a_layer() -> None:
    """3.3 They count over those of the application around it, and its own layers over these."""
    config = TaskConfig(name="inner", run_on="always")
    handler = get("/", opt={"tasks": TaskConfig(run_on="failure")})(storing.fn)
    inner = application(handler, plugins=[TasksPlugin(config=config)])
    async with serve(mounting(inner)) as server:
        assert (await server.request("/inner")).status == 200
    assert STORED.pop() == TaskConfig(name="inner", shield=True, run_on="failure")


@pytest.mark.parametrize("path", ["one", "several", "dependency"])
async def test_what_is_current_around_and_within_a_mounted_application(path: str) -> None:
    """2.7, 3.3 Its settings come with the parameter alone; `current_tasks` has the outer ones."""
    got: list[TasksScheduler] = []
    names: list[str | None] = []

    def note() -> None:
        names.append(current_tasks().schedule(len, "four").name)

    async def number() -> int:
        return 1

    async def depending(tasks: Tasks) -> int:
        got.append(tasks)
        note()
        return 1

    @get("/one")
    async def one(tasks: Tasks) -> None:
        got.append(tasks)
        note()

    @get("/several", dependencies={"number": number})
    async def several(tasks: Tasks, number: NamedDependency[int]) -> None:
        got.append(tasks)
        note()

    @get("/dependency", dependencies={"depending": depending, "number": number})
    async def dependency(
        depending: NamedDependency[int], number: NamedDependency[int], tasks: Tasks
    ) -> None:
        got.append(tasks)
        note()

    def around(app: Any) -> Any:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)
            note()

        return call

    plugin = TasksPlugin(config=TaskConfig(name="inner", run_on="failure"))
    inner = application(one, several, dependency, plugins=[plugin], middleware=[around])
    async with serve(mounting(inner, around)) as server:
        assert (await server.request(f"/inner/{path}")).status == 200
    times = 2 if path == "dependency" else 1
    assert names == ["outer"] * (times + 2)
    assert [tasks.config.name for tasks in got] == ["inner"] * times
    assert all(tasks is got[0] for tasks in got)


async def test_a_request_within_a_request_to_an_application_that_has_not_started() -> None:
    """1.6, 5.6 It is a request of its own: it has no tasks, not those of the outer one."""
    errors: list[Exception] = []
    names: list[str | None] = []

    def note(error: Exception, _: object) -> None:
        errors.append(error)

    other = application(storing, after_exception=[note])

    @get("/")
    async def batch(tasks: Tasks) -> None:
        transport = httpx.ASGITransport(other)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.get("/")).status_code == 500
        names.extend([tasks.config.name, current_tasks().config.name])

    plugin = TasksPlugin(config=TaskConfig(name="outer"))
    async with serve(application(batch, plugins=[plugin])) as server:
        assert (await server.request()).error is None
    (error,) = errors
    assert isinstance(error, TasksUninitializedError)
    assert "its lifespan has not run" in str(error)
    assert names == ["outer", "outer"]
    assert not STORED


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
