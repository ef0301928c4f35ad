"""Lifespans as applications have them, odd ones too; and errors that say why there are no tasks."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import anyio
import pytest
from anyio import Event, to_thread
from tasks_core import (
    MountedSettingsError,
    Phase,
    RunnerClosedError,
    TaskConfig,
    TaskRunner,
    TasksError,
    TasksScheduler,
    TasksUninitializedError,
    current_tasks,
)
from tasks_core._exceptions import Closed, Missing
from tasks_core.asgi import (
    ApplicationTasks,
    ASGIApp,
    Message,
    Receive,
    Scope,
    Send,
    TasksMiddleware,
    get_scheduler,
    serve_route,
)
from tasks_core.testing import drain

from tests.conformance.driver import serve
from tests.tasks_core.stage import GUARD, SomeError, logged, over

pytestmark = pytest.mark.anyio


async def nothing() -> None: ...


async def answer(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def application(live: Callable[[Receive, Send], Awaitable[None]]) -> tuple[ASGIApp, list[Any]]:
    """An application with this lifespan, and what its route has got when it asked for tasks."""
    got: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send)
            return
        try:
            got.append(current_tasks().after_response.schedule(nothing))
            assert get_scheduler(scope) is current_tasks()
        except TasksError as error:
            got.append(error)
        await answer(send)

    return app, got


# Odd lifespans.


async def test_a_lifespan_that_returns_once_it_has_started() -> None:
    """5.6 The runner stays open until the server says shutdown, and answers in its place."""

    async def live(receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})

    app, got = application(live)
    async with serve(TasksMiddleware(app)) as server:
        await server.request()
        await over(*got)
    assert [str(task.state) for task in got] == ["succeeded"]


@pytest.mark.parametrize("refusal", [AssertionError, KeyError, NotImplementedError, ValueError])
async def test_an_application_without_a_lifespan(
    refusal: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    """5.7 It refuses the scope, and is served one; what may be an error is not dropped."""

    async def live(receive: Receive, send: Send) -> None:
        raise refusal("path")

    app, got = application(live)
    async with serve(TasksMiddleware(app)) as server:
        await server.request()
        await over(*got)
    assert [str(task.state) for task in got] == ["succeeded"]
    plain = refusal in {AssertionError, NotImplementedError}
    assert [refusal.__name__ in line for line in logged(caplog)] == ([] if plain else [True])


@pytest.mark.parametrize("error", [OSError, RuntimeError, SomeError])
async def test_an_error_before_the_first_message(error: type[Exception]) -> None:
    """5.7 It is the application's start-up that fails: the server hears of it, and why."""

    async def live(receive: Receive, send: Send) -> None:
        raise error("the database is down")

    app, _ = application(live)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(error, match="the database is down"):
        await TasksMiddleware(app)({"type": "lifespan"}, receive, send)
    (failed,) = sent
    assert failed["type"] == "lifespan.startup.failed"
    assert "the database is down" in failed["message"]


async def test_a_lifespan_that_answers_nothing() -> None:
    """5.7 An application that reads a message and returns has said nothing, and so do we."""

    async def live(receive: Receive, send: Send) -> None:
        await receive()

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    app, _ = application(live)
    await TasksMiddleware(app)({"type": "lifespan"}, receive, send)


def resource(log: list[str]) -> Callable[[Receive, Send], Awaitable[None]]:
    """A lifespan with a resource, which schedules tasks that use it."""
    stopping = Event()

    async def work(name: str) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append(f"{name} ends")
            stopping.set()

    async def shielded() -> None:
        await stopping.wait()
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        log.append("shielded ends")

    @asynccontextmanager
    async def opened() -> AsyncGenerator[None]:
        current_tasks().schedule(work, "task")
        current_tasks().task(shield=True).schedule(shielded)
        await anyio.wait_all_tasks_blocked()
        try:
            yield
        finally:
            log.append("closed")

    async def live(receive: Receive, send: Send) -> None:
        await receive()
        async with opened():
            await send({"type": "lifespan.startup.complete"})
            await receive()

    return live


async def test_a_lifespan_that_is_cancelled() -> None:
    """5.1 Tasks end before what they use, also where nobody says shutdown."""
    log: list[str] = []
    started = Event()
    app, _ = application(resource(log))

    async def receive() -> Message:
        if started.is_set():
            await anyio.sleep_forever()
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        started.set()

    async def run() -> None:
        await TasksMiddleware(app)({"type": "lifespan", "state": {}}, receive, send)

    with anyio.fail_after(GUARD):
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await started.wait()
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
    assert log == ["task ends", "shielded ends", "closed"]


@pytest.mark.parametrize("how", ["cancelled", "raises"])
async def test_a_lifespan_that_ends_as_it_says_that_it_has_started(how: str) -> None:
    """5.1 Tasks end before what they use, also where that message is the last."""
    log: list[str] = []
    app, _ = application(resource(log))

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        if how == "raises":
            raise SomeError
        scope.cancel()
        await anyio.lowlevel.checkpoint()

    with anyio.fail_after(GUARD), anyio.CancelScope() as scope, suppress(SomeError):
        await TasksMiddleware(app)({"type": "lifespan", "state": {}}, receive, send)
    assert log == ["task ends", "shielded ends", "closed"]


async def test_applications_that_share_a_lifespan_state() -> None:  # noqa: C901 - a small server
    """5.7 Each has its own runner, as one server gives them the same state."""
    ran: list[str] = []
    apps: dict[str, ASGIApp] = {}

    def make(name: str) -> ASGIApp:
        async def note(task: object, error: Exception) -> None:
            ran.append(name)

        async def fail() -> None:
            raise SomeError

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                raise NotImplementedError
            await over(current_tasks().schedule(fail))
            await answer(send)

        return TasksMiddleware(app, config=TaskConfig(on_error=note))

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await apps[scope["path"]](scope, receive, send)
            return
        stop = Event()

        async def start(app: ASGIApp, started: Event) -> None:
            messages = [{"type": "lifespan.startup"}]

            async def its_receive() -> Message:
                if messages:
                    return messages.pop()
                await stop.wait()
                return {"type": "lifespan.shutdown"}

            async def its_send(message: Message) -> None:
                started.set()

            await app(scope, its_receive, its_send)

        async with anyio.create_task_group() as group:
            for app in apps.values():
                started = Event()
                group.start_soon(start, app, started)
                await started.wait()
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            stop.set()
        await send({"type": "lifespan.shutdown.complete"})

    apps |= {f"/{name}": make(name) for name in ("shop", "blog")}
    async with serve(both) as server:
        for path in ("/shop", "/blog", "/shop"):
            await server.request(path)
    assert ran == ["shop", "blog", "shop"]


async def test_several_lifespans_of_one_application_at_a_time() -> None:
    """5.7 Requests have the runner of their own lifespan, by its state or by its event loop."""

    async def live(receive: Receive, send: Send) -> None:
        raise NotImplementedError

    app, got = application(live)
    served = TasksMiddleware(app)

    def in_thread() -> None:
        anyio.run(run)

    async def run() -> None:
        async with serve(served, state=False) as server:
            await server.request()
            await over(got[-1])
            elsewhere.set()
            await to_thread.run_sync(go_on.wait, GUARD)

    elsewhere, go_on = threading.Event(), threading.Event()
    async with serve(served) as ended, serve(served) as outer, serve(served) as inner:
        await ended.stop()
        await outer.request()
        await inner.request()
        async with anyio.create_task_group() as group:
            group.start_soon(to_thread.run_sync, in_thread)
            await to_thread.run_sync(elsewhere.wait, GUARD)
            await ended.request()  # its state is of a lifespan that has ended
            go_on.set()
        await outer.request()
        await over(*got)
    assert [str(task.state) for task in got] == ["succeeded"] * 5
    first, second, third, fourth, fifth = (task._runner for task in got)
    assert len({first, second, third}) == 3
    assert fourth in {first, second}
    assert fifth is first


def test_lifespans_in_many_threads() -> None:
    """5.7 None loses its runner, or keeps one that has ended, when others begin or end with it."""
    tasks = ApplicationTasks()
    known: list[bool] = []
    all_begin = threading.Barrier(8, timeout=GUARD)

    async def live() -> None:
        for _ in range(100):
            async with tasks.run() as runner:
                known.append(runner in tasks._runners)
                await anyio.lowlevel.checkpoint()
                known.append(runner in tasks._runners)

    def run() -> None:
        all_begin.wait()
        anyio.run(live)

    threads = [threading.Thread(target=run) for _ in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(GUARD)
    finally:
        sys.setswitchinterval(interval)
    assert known == [True] * 1600
    assert tasks._runners == ()


async def test_a_lifespan_run_by_an_adapter() -> None:
    """5.1 `run` gives the application's own code its tasks, and says who runs it."""
    tasks = ApplicationTasks(thread_limit=3)
    assert tasks.running_here() is None
    async with tasks.run() as runner:
        assert tasks.running_here() is runner
        assert await current_tasks().schedule(len, "four").wait() == 4
        with TasksScheduler(runner):
            assert tasks.running_here() is runner
    assert tasks.running_here() is None


# Why there are no tasks: for each cause something that brings it about.


async def refused(app: ASGIApp, got: list[Any], **serving: Any) -> Missing:
    async with serve(app, **serving) as server:
        await server.request()
    (error,) = got
    assert isinstance(error, TasksUninitializedError)
    return error.missing


async def stays(receive: Receive, send: Send) -> None:
    raise NotImplementedError


async def test_tasks_were_not_added() -> None:
    """5.6 Nothing is around the application."""
    errors: list[Exception] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            get_scheduler(scope)
        except TasksError as error:
            errors.append(error)
        await answer(send)

    assert await refused(app, errors, lifespan=False) is Missing.ADDED
    assert "add_tasks(app)" in str(errors[0])


async def test_outside_of_everything() -> None:
    """2.7 No request, no lifespan: the context says nothing more."""
    with pytest.raises(TasksUninitializedError) as raised:
        current_tasks()
    assert raised.value.missing is Missing.CONTEXT
    assert "copy_context" in str(raised.value)


async def test_the_lifespan_never_ran() -> None:
    """5.6 A client without one, or a server that was told not to."""
    app, got = application(stays)
    assert await refused(TasksMiddleware(app), got, lifespan=False) is Missing.STARTED
    assert "TestClient" in str(got[0])


async def test_the_lifespan_failed() -> None:
    """5.6 A server that goes on all the same."""

    async def live(receive: Receive, send: Send) -> None:
        await receive()
        raise SomeError

    app, got = application(live)
    served = TasksMiddleware(app)
    with pytest.raises(SomeError):
        async with serve(served):
            pass
    assert await refused(served, got, lifespan=False) is Missing.FAILED


async def test_the_lifespan_has_ended() -> None:
    """5.6 The application has shut down; it may start again."""
    app, got = application(stays)
    served = TasksMiddleware(app)
    for _ in range(2):
        async with serve(served):
            pass
        assert await refused(served, got, lifespan=False) is Missing.ENDED
        got.clear()


async def test_the_lifespan_has_crashed() -> None:
    """5.6 It had started, and raises while the server goes on: the error says that too."""
    crash, crashed = Event(), Event()
    errors: list[Exception] = []

    async def live(receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await crash.wait()
        raise SomeError

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await served(scope, receive, send)
            return
        try:
            await served(scope, receive, send)
        except SomeError as error:
            errors.append(error)
            crashed.set()
            await receive()
            await send({"type": "lifespan.shutdown.complete"})

    app, got = application(live)
    served = TasksMiddleware(app)
    async with serve(run) as server:
        crash.set()
        await crashed.wait()
        await server.request()
    (error,) = got
    assert len(errors) == 1
    assert error.missing is Missing.ENDED
    assert "or its lifespan has raised" in str(error)


async def test_the_runner_has_drained() -> None:
    """5.4 A request that comes while the application tears down is refused its task."""
    errors: list[RunnerClosedError] = []

    @asynccontextmanager
    async def opened() -> AsyncGenerator[None]:
        yield
        with pytest.raises(RunnerClosedError) as raised:
            current_tasks().task(name="late").schedule(nothing)
        errors.append(raised.value)

    async def live(receive: Receive, send: Send) -> None:
        await receive()
        async with opened():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    app, _ = application(live)
    async with serve(TasksMiddleware(app)):
        pass
    (error,) = errors
    assert error.args == ("late", Closed.SHUT_DOWN)


async def test_only_the_inner_application_has_tasks() -> None:
    """5.6 Its lifespan is never run, as it is mounted."""
    app, got = application(stays)
    inner = TasksMiddleware(app, mount_key="routed")

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        await inner({**scope, "routed": True}, receive, send)

    assert await refused(outer, got, lifespan=False) is Missing.MOUNTED
    assert "outermost application" in str(got[0])


async def test_the_outer_application_says_why() -> None:
    """2.7 Where both have tasks and the outer one's lifespan did not run, that is the cause."""
    app, got = application(stays)
    served = TasksMiddleware(TasksMiddleware(app))
    assert await refused(served, got, lifespan=False) is Missing.STARTED


async def test_the_application_started_in_another_thread() -> None:
    """2.7 Its runner is for the event loop there."""
    app, got = application(stays)
    served = TasksMiddleware(app)

    async def request() -> None:
        async with serve(served, lifespan=False) as server:
            await server.request()

    async with serve(served, state=False):
        await to_thread.run_sync(anyio.run, request)
    (error,) = got
    assert error.missing is Missing.OTHER_THREAD
    assert threading.active_count() > 0


async def test_a_runner_that_was_never_entered() -> None:
    """2.7 It has no event loop yet; once it has, an earlier scheduler works."""
    runner = TaskRunner()
    tasks = TasksScheduler(runner)
    with pytest.raises(RunnerClosedError) as raised:
        tasks.task(name="early").schedule(nothing)
    assert raised.value.args == ("early", Closed.NOT_ENTERED)
    with pytest.raises(RuntimeError, match="has not been entered yet"):
        await runner.drain()
    with pytest.raises(RuntimeError, match="has not been entered yet"):
        await runner.join()
    await tasks.begun()
    async with runner:
        assert await tasks.schedule(len, "four").wait() == 4


# Mounted applications with tasks of their own.


async def test_a_mounted_application_is_a_layer() -> None:
    """3.3 Its `config` is over the outer one's, for what is scheduled in it, now and later."""
    configs: dict[str, TaskConfig] = {}
    kept: list[TasksScheduler] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        tasks = get_scheduler(scope)
        assert tasks is current_tasks()
        kept.append(tasks)
        configs["inner"] = tasks.after_response.task(name="x").schedule(nothing).config
        assert len(tasks.after_response.scheduled) == 1
        await tasks.begun()
        await answer(send)

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        tasks = get_scheduler(scope)
        await mounted(scope, receive, send)
        assert get_scheduler(scope) is current_tasks() is tasks
        configs["outer"] = tasks.schedule(nothing).config
        configs["later"] = kept[0].schedule(nothing).config
        assert "phase=after_route" in repr(kept[0])

    mounted = TasksMiddleware(inner, config=TaskConfig(run_on="always"))
    async with serve(TasksMiddleware(outer, config=TaskConfig(shield=True))) as server:
        await server.request()
    assert configs == {
        "inner": TaskConfig(name="x", shield=True, run_on="always"),
        "outer": TaskConfig(shield=True),
        "later": TaskConfig(shield=True, run_on="always"),
    }


async def test_a_request_within_a_mounted_application() -> None:
    """3.3 It is one of its own, and the mounted application has its settings as before."""
    names: list[str | None] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        tasks = get_scheduler(scope)
        scope["path"] = "/within"
        await whole(scope, receive, send)
        assert get_scheduler(scope) is tasks is current_tasks()
        names.append(tasks.config.name)

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        if scope["path"] == "/":
            await mounted(scope, receive, send)
            return
        names.append(get_scheduler(scope).config.name)
        await answer(send)

    mounted = TasksMiddleware(inner, config=TaskConfig(name="inner"))
    whole = TasksMiddleware(outer, config=TaskConfig(name="outer"))
    async with serve(whole) as server:
        await server.request("/")
    assert names == ["outer", "inner"]


async def test_layers_of_layers() -> None:
    """3.3 An application in one that is mounted has the settings of all three."""
    configs: list[TaskConfig] = []
    log: list[str] = []

    async def innermost(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        tasks = current_tasks()
        configs.append(tasks.schedule(nothing).config)
        tasks.after_response.task(run_on="failure").schedule(log.append, "failed")
        tasks.fail()
        await answer(send)

    app: ASGIApp = innermost
    for config in (TaskConfig(name="third"), TaskConfig(name="second", run_on="always")):
        app = TasksMiddleware(app, config=config)

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await app(scope, receive, send)

    async with serve(TasksMiddleware(route, config=TaskConfig(shield=True))) as server:
        await server.request()
    assert configs == [TaskConfig(name="third", shield=True, run_on="always")]
    assert log == ["failed"]


async def test_settings_that_a_mounted_application_cannot_have() -> None:
    """3.3 What is a runner's is refused, by name; not lost."""
    inner = TasksMiddleware(answer_all, grace_period=1.0, history=0)

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await inner(scope, receive, send)

    async with serve(TasksMiddleware(outer)) as server:
        exchange = await server.request()
    assert isinstance(exchange.error, MountedSettingsError)
    assert str(exchange.error).startswith("grace_period, history cannot apply")


def same(path: str) -> str:
    return path


def beginning_taken_away(path: str) -> str:
    return path.removeprefix("/shop")


def as_litestar_has_it(path: str) -> str:
    return re.sub("/+", "/", path).removeprefix("/shop").rstrip("/") + "/"


each_mount = pytest.mark.parametrize("left", [same, beginning_taken_away, as_litestar_has_it])
each_path = pytest.mark.parametrize(
    "path", ["", "/", "/shop", "/shop/", "/shop/cart", "/shop/a//cart", "//shop//a//cart//"]
)


@each_path
@each_mount
async def test_a_mounted_application_whose_lifespan_runs_too(
    left: Callable[[str], str], path: str
) -> None:
    """2.7, 3.3 Whoever runs its lifespan: a request has one scheduler, and its config is a layer.

    The outer application fails after the route, and tasks of the mounted one see that (1.3, 1.6).
    """
    log: list[str] = []
    configs: list[TaskConfig] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        tasks = get_scheduler(scope)
        assert tasks is current_tasks()
        configs.append(tasks.config)
        tasks.after_response.schedule(log.append, "succeeded")
        tasks.after_response.task(run_on="failure").schedule(log.append, "failed")
        await answer(send)

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        tasks = get_scheduler(scope)
        within = {**scope, "path": left(scope["path"])}
        for _ in range(2):  # a middleware may try again
            await mounted(within, receive, send)
        assert tasks is current_tasks()
        assert len(tasks.after_response.scheduled) == 4
        log.append("the commit fails")
        raise SomeError

    mounted = TasksMiddleware(inner, config=TaskConfig(name="inner"))
    app = TasksMiddleware(outer, config=TaskConfig(name="outer", shield=True))
    async with serve(mounted, state=False), serve(app) as server:
        await server.request(path)
    assert configs == [TaskConfig(name="inner", shield=True)] * 2
    assert log == ["the commit fails", "failed", "failed"]


def rewriting(prefix: str, app: ASGIApp) -> ASGIApp:
    """Middleware that puts something before the path, a version for instance."""

    async def rewrite(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            scope = {**scope, "path": prefix + scope["path"]}
        await app(scope, receive, send)

    return rewrite


@each_mount
@pytest.mark.parametrize("kind", ["request", "websocket"])
async def test_a_mounted_application_whose_path_a_middleware_has_rewritten(
    left: Callable[[str], str], kind: str
) -> None:
    """2.7 What is mounted is told by the path that was routed; so it is in what is mounted."""
    log: list[str] = []

    async def innermost(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        log.append(scope["path"])
        tasks = current_tasks()
        tasks.after_response.schedule(log.append, "succeeded")
        tasks.after_response.task(run_on="failure").schedule(log.append, str(tasks.config.name))

    def routing_to(app: ASGIApp, left: Callable[[str], str]) -> ASGIApp:
        async def route(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                raise NotImplementedError
            await app({**scope, "path": left(scope["path"])}, receive, send)

        return partial(serve_route, route)

    async def commit(scope: Scope, receive: Receive, send: Send) -> None:
        await rewritten(scope, receive, send)
        raise SomeError

    last = TasksMiddleware(innermost, config=TaskConfig(name="last"))
    inner = TasksMiddleware(rewriting("/v2", routing_to(last, same)))
    rewritten = rewriting("/shop/v1", routing_to(inner, left))
    app = TasksMiddleware(commit)
    async with serve(last, state=False), serve(inner, state=False), serve(app) as server:
        if kind == "request":
            await server.request("/cart")
        else:
            async with server.websocket("/cart"):
                pass
    assert log == [f"/v2{left('/shop/v1/cart')}", "last"]


async def test_settings_that_it_cannot_have_with_a_lifespan_that_runs_too() -> None:
    """3.3 They are refused all the same: requests have the outer one's runner."""
    app, got = application(stays)
    inner = TasksMiddleware(app, shutdown_timeout=1.0)

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await inner(scope, receive, send)

    async with serve(inner), serve(TasksMiddleware(outer)) as server:
        exchange = await server.request()
    assert isinstance(exchange.error, MountedSettingsError)
    assert not got


def copied(scope: Scope, path: str) -> Scope:
    return {**scope, "path": path}


def fresh(scope: Scope, path: str) -> Scope:
    return {"type": "http", "path": path}


@pytest.mark.parametrize("path", ["/part", "/batches", "/a/batch", "/batch/a"])
@pytest.mark.parametrize("made", [copied, fresh])
async def test_a_request_to_another_application_within_one(
    made: Callable[[Scope, str], Scope], path: str
) -> None:
    """1.6 What a route calls with another path is no mounted application: it has its own tasks."""
    log: list[str] = []

    async def part(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        current_tasks().after_response.schedule(log.append, "part succeeded")
        current_tasks().after_response.task(run_on="failure").schedule(log.append, "part failed")
        raise SomeError

    async def batch(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        current_tasks().after_response.schedule(log.append, "batch succeeded")
        with pytest.raises(SomeError):
            await other(made(scope, path), receive, send)
        log.append("batch goes on")
        assert current_tasks() is get_scheduler(scope)
        await answer(send)

    other = TasksMiddleware(part)
    async with serve(other, state=False), serve(TasksMiddleware(batch)) as server:
        await server.request("/batch")
    assert sorted(log) == ["batch goes on", "batch succeeded", "part failed"]


async def test_a_mounted_application_that_calls_itself() -> None:
    """1.6 That is a request of its own, also with the same path, where its lifespan runs too."""
    names: list[str] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        tasks = current_tasks()
        if scope["method"] == "GET":
            await mounted({**scope, "method": "HEAD"}, receive, send)
            assert tasks is current_tasks() is get_scheduler(scope)
        names.append(repr(tasks.config.shield))
        tasks.fail()

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await mounted(scope, receive, send)
        assert "failed=True" in repr(current_tasks())
        await answer(send)

    mounted = TasksMiddleware(inner)
    app = TasksMiddleware(outer, config=TaskConfig(shield=True))
    async with serve(mounted, state=False), serve(app) as server:
        await server.request()
    assert names == ["None", "True"]


async def test_an_application_that_calls_itself_with_the_same_path() -> None:
    """1.6 That is a request of its own, whatever else of the scope has changed."""
    log: list[str] = []

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        tasks = get_scheduler(scope)
        tasks.after_response.schedule(log.append, scope["method"])
        if scope["method"] == "GET":
            await app({**scope, "method": "HEAD"}, receive, send)
            assert tasks is current_tasks() is get_scheduler(scope)
            await answer(send)
        else:
            tasks.fail()

    app = TasksMiddleware(route)
    async with serve(app) as server:
        await server.request()
    assert log == ["GET"]


async def test_a_lifespan_within_another_ones() -> None:
    """2.7 Code of an application's lifespan has its own tasks, whatever lifespans it runs."""
    tasks, mounted = ApplicationTasks(), ApplicationTasks()
    async with tasks.run() as runner:
        async with mounted.run() as inner:
            assert current_tasks()._runner is inner
            assert mounted.running_here() is inner
            assert tasks.running_here() is runner
            mounted.started()
            assert current_tasks()._runner is runner
            assert mounted.running_here() is inner
        with TasksScheduler(inner):
            assert tasks.running_here() is runner
        assert mounted.running_here() is None
        assert current_tasks()._runner is runner
        tasks.started()
        assert current_tasks()._runner is runner


async def test_a_lifespan_by_messages_within_another_ones() -> None:
    """2.7 Its own code has its own tasks to its end, in whatever context it was begun."""
    runners: list[TaskRunner] = []

    async def live(receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        runners.append(current_tasks()._runner)
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    app, _ = application(live)
    tasks = ApplicationTasks()
    async with tasks.run() as runner, serve(TasksMiddleware(app)):
        assert current_tasks()._runner is runner
    assert runner not in runners


@pytest.mark.parametrize("mounted", [False, True])
async def test_the_layers_within_an_application(
    mounted: bool,  # noqa: FBT001
) -> None:
    """3.3 Their settings are over its own from the moment its request is routed; asked for once."""
    tasks, names, asked = ApplicationTasks(config=TaskConfig(name="application")), [""], [0]

    def layers(scope: Scope, config: TaskConfig) -> TaskConfig | None:
        asked[0] += 1
        name: str | None = scope.get("route")
        return None if name is None else config.merge(TaskConfig(name=f"{config.name}'s {name}"))

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        names[:] = [current_tasks().schedule(nothing).name]
        scope["route"] = "route"
        names.extend(current_tasks().schedule(nothing).name for _ in range(2))
        await answer(send)

    async def refuse(receive: Receive, send: Send) -> None:
        raise NotImplementedError

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await tasks.serve(route, scope, receive, send, layers=layers)
        elif mounted:
            raise NotImplementedError
        else:
            await tasks.live(application(refuse)[0], scope, receive, send)

    async with drain(), serve(TasksMiddleware(app) if mounted else app) as server:
        assert (await server.request()).error is None
    assert (names, asked) == (["application", *["application's route"] * 2], [2])


async def test_the_tasks_of_a_request_that_nothing_of_ours_is_around() -> None:
    """2.7, 3.3, 5.6 They are those of its scope, with the settings over them, current or not."""
    outer, tasks = ApplicationTasks(), ApplicationTasks(config=TaskConfig(name="mounted"))

    def layers(scope: Scope, config: TaskConfig) -> TaskConfig | None:
        return config.merge(TaskConfig(shield=True))

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        assert tasks.get_here(scope, layers) is current_tasks() is get_scheduler(scope)

    async def within(scope: Scope, receive: Receive, send: Send) -> None:
        request = current_tasks()
        assert outer.get_here(scope, layers) is request
        layer = tasks.get_here(scope, layers)
        assert layer.schedule(nothing).config == TaskConfig(name="mounted", shield=True)
        assert current_tasks() is get_scheduler(scope) is request
        with pytest.raises(TasksUninitializedError) as raised:  # a request within this one
            tasks.get_here({"type": "http"}, layers)
        assert raised.value.missing is Missing.STARTED
        await tasks.serve(served, scope, receive, send, mounted=True, layers=layers)
        async with tasks.run():
            await tasks.serve(served, {"type": "http", "path": "/other"}, receive, send)
        ended.append(True)

    async def receive() -> Message:
        raise NotImplementedError

    async def send(message: Message) -> None:
        raise NotImplementedError

    ended: list[bool] = []
    async with outer.run():
        await outer.serve(within, {"type": "http", "path": "/"}, receive, send)
    assert ended


# Each of a scheduler's public names, with what it is called with.
PUBLIC: dict[str, tuple[Any, ...] | None] = {
    "after_response": None,
    "after_route": None,
    "begun": (),
    "cancel": ("nobody's",),
    "config": None,
    "fail": (),
    "follow": ("nobody's",),
    "get": ("nobody's",),
    "periodic": None,
    "reach": (Phase.AFTER_ROUTE,),
    "registry": None,
    "schedule": (len, "four"),
    "settle": (),
    "status": ("nobody's",),
    "task": (),
}


async def test_all_of_a_scheduler_works_in_a_mounted_application() -> None:
    """2.7 What it has there is a view of the request's scheduler, with all that this has."""
    used: set[str] = set()

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        tasks = get_scheduler(scope)
        for name in (one for one in dir(TasksScheduler) if not one.startswith("_")):
            attribute, args = getattr(tasks, name), PUBLIC[name]
            result = attribute if args is None else attribute(*args)
            if isinstance(result, Awaitable):
                await result
            used.add(name)
        with tasks as entered:
            assert entered is tasks
        await answer(send)

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await mounted(scope, receive, send)

    mounted = TasksMiddleware(inner, config=TaskConfig(name="inner"))
    async with drain(), serve(TasksMiddleware(outer)) as server:
        assert (await server.request()).error is None
    assert used == set(PUBLIC)


async def answer_all(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send)
