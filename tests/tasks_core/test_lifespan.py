"""`tasks_core.testing.lifespan`: an application's start and end around a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import anyio
import pytest
from tasks_core import TaskState, current_tasks
from tasks_core.asgi import ASGIApp, Message, Receive, Scope, Send, TasksMiddleware
from tasks_core.testing import drain, lifespan, record

from tests.tasks_core.stage import GUARD, Frozen, SomeError, fail, until_cancelled

pytestmark = pytest.mark.anyio


class App:
    """An application that notes what it is told, and does at each moment what a test wants."""

    def __init__(
        self,
        *,
        on_startup: Callable[[Send], Any] | None = None,
        on_shutdown: Callable[[Send], Any] | None = None,
    ) -> None:
        self.log: list[str] = []
        self.scopes: list[Scope] = []
        self._moments = {"lifespan.startup": on_startup, "lifespan.shutdown": on_shutdown}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        if scope["type"] != "lifespan":
            return
        try:
            scope["state"]["database"] = "open"
            for _ in range(2):
                kind = (await receive())["type"]
                self.log.append(kind.removeprefix("lifespan."))
                act = self._moments[kind]
                if act is not None:
                    await act(send)
                await send({"type": f"{kind}.complete"})
        except anyio.get_cancelled_exc_class():
            self.log.append("cancelled")
            raise


async def raise_error(_: Send) -> None:
    fail()


async def say_that_it_failed(send: Send) -> None:
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def request(app: Callable[..., Any], **scope: Any) -> None:
    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError

    await app({"type": "http", **scope}, receive, send)


@pytest.fixture(autouse=True)
async def guard() -> AsyncGenerator[None]:
    with anyio.fail_after(GUARD):
        yield


async def test_the_application_is_started_and_shut_down() -> None:
    """In the block the application has started; leaving it, it has shut down."""
    app = App()
    async with lifespan(app):
        assert app.log == ["startup"]
    assert app.log == ["startup", "shutdown"]
    async with lifespan(app):  # and again
        assert app.log == ["startup", "shutdown", "startup"]


async def test_the_lifespans_state_reaches_requests() -> None:
    """Each request has a copy of its own of the lifespan's state."""
    app = App()
    async with lifespan(app) as started:
        await request(started, path="/one")
        app.scopes[-1]["state"]["database"] = "changed"
        await request(started, path="/two")
    assert [scope["path"] for scope in app.scopes[1:]] == ["/one", "/two"]
    assert app.scopes[-1]["state"] == {"database": "open"}


async def test_a_startup_error_comes_as_it_is() -> None:
    """What the application raises at its start-up comes out, and the block is not entered."""
    app = App(on_startup=raise_error)
    with pytest.raises(SomeError, match="it failed"):
        async with lifespan(app):
            raise AssertionError
    assert app.log == ["startup"]


async def test_a_startup_that_is_said_to_have_failed() -> None:
    """What is said to have failed is an error, also where the application goes on receiving."""
    app = App(on_startup=say_that_it_failed)
    with pytest.raises(RuntimeError, match=r"^lifespan.startup.failed: no database$"):
        async with lifespan(app):
            raise AssertionError
    assert app.log == ["startup", "shutdown"]


async def test_what_is_raised_says_more() -> None:
    """An application that says that it failed and then raises, as frameworks do: this comes out."""

    async def say_and_raise(send: Send) -> None:
        await say_that_it_failed(send)
        fail()

    with pytest.raises(SomeError):
        async with lifespan(App(on_startup=say_and_raise)):
            raise AssertionError


async def test_a_shutdown_error_comes_as_it_is() -> None:
    """What the application raises at its shutdown comes out of the block."""
    reached: list[bool] = []
    with pytest.raises(SomeError, match="it failed"):
        async with lifespan(App(on_shutdown=raise_error)):
            reached.append(True)
    assert reached


async def test_a_shutdown_that_is_said_to_have_failed() -> None:
    """A shutdown that is said to have failed is an error, without a message too."""

    async def say(send: Send) -> None:
        await send({"type": "lifespan.shutdown.failed"})

    with pytest.raises(RuntimeError, match=r"^lifespan.shutdown.failed: $"):
        async with lifespan(App(on_shutdown=say)):
            pass


async def test_the_bodys_error_passes() -> None:
    """What the test raises passes unchanged, after an orderly shutdown."""
    app, own = App(), ValueError("the test's own")
    with pytest.raises(ValueError, match="the test's own") as raised:
        async with lifespan(app):
            raise own
    assert raised.value is own
    assert not hasattr(own, "__notes__")
    assert app.log == ["startup", "shutdown"]


async def test_the_bodys_error_and_one_at_the_shutdown() -> None:
    """Where the shutdown fails too, that is a note of the test's own error."""
    own = ValueError("the test's own")
    with pytest.raises(ValueError, match="the test's own") as raised:
        async with lifespan(App(on_shutdown=raise_error)):
            raise own
    assert raised.value is own
    (note,) = own.__notes__
    assert note.startswith("The shutdown failed: Traceback")
    assert note.endswith("SomeError: it failed\n")


async def test_the_bodys_error_refuses_what_is_set() -> None:
    """As a frozen dataclass does: it passes unchanged all the same, and has its note."""
    for app, notes in ((App(), 0), (App(on_shutdown=raise_error), 1)):
        own = Frozen()
        with pytest.raises(Frozen) as raised:
            async with lifespan(app):
                raise own
        assert raised.value is own
        assert len(getattr(own, "__notes__", ())) == notes


async def test_a_body_that_is_cancelled() -> None:
    """A test that is cancelled shuts the application down in order, awaiting included."""
    closed: list[str] = []

    async def close(_: Send) -> None:
        await anyio.lowlevel.checkpoint()
        closed.append("database")

    app = App(on_shutdown=close)
    with anyio.CancelScope() as scope:
        async with lifespan(app):
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert app.log == ["startup", "shutdown"]
    assert closed == ["database"]


async def test_an_error_in_a_cancelled_body() -> None:
    """What a test raises within a cancelled scope is not lost to the cancellation."""
    own = ValueError("the test's own")

    async def test(scope: anyio.CancelScope) -> None:
        async with lifespan(App()):
            scope.cancel()
            raise own

    caught: list[Exception] = []
    with anyio.CancelScope() as scope:
        try:
            await test(scope)
        except ValueError as error:
            caught.append(error)
    assert caught == [own]


async def test_a_startup_that_is_cancelled() -> None:
    """Who waits for the start-up can be cancelled; the application is, too."""
    began = anyio.Event()

    async def start(_: Send) -> None:
        await until_cancelled(began)

    async def test(app: ASGIApp) -> None:
        async with lifespan(app):
            raise AssertionError

    app = App(on_startup=start)
    async with anyio.create_task_group() as group:
        group.start_soon(test, app)
        await began.wait()
        group.cancel_scope.cancel()
    assert app.log == ["startup", "cancelled"]


async def test_an_application_without_a_lifespan() -> None:
    """An application that refuses the scope has no need of this: its refusal comes out."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"

    with pytest.raises(AssertionError, match="http"):
        async with lifespan(app):
            pytest.fail("it was not refused")


async def test_an_application_that_ignores_its_lifespan() -> None:
    """An application that returns for the scope has started, and has nothing to shut down."""
    served: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        served.append(scope["type"])

    async with lifespan(app) as started:
        await request(started)
    assert served == ["lifespan", "http"]


async def test_an_application_that_ends_before_its_time() -> None:
    """An application that breaks while it lives says so when the block is left."""
    broken = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.complete"})
        await broken.wait()
        fail()

    async def test() -> None:
        async with lifespan(app):
            broken.set()
            await anyio.wait_all_tasks_blocked()

    with pytest.raises(SomeError):
        await test()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_fixture_that_ends_in_another_task() -> None:
    """On asyncio, where fixtures may end in another task than they began in, that is enough."""
    app = App()
    block = lifespan(app)
    await asyncio.create_task(block.__aenter__())
    await asyncio.create_task(block.__aexit__(None, None, None))
    assert app.log == ["startup", "shutdown"]


async def test_tasks_of_the_lifespan() -> None:
    """What the lifespan schedules belongs to the block around it, if there is one."""
    ran: list[str] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        current_tasks().task(name="start").schedule(ran.append, "start")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    app = TasksMiddleware(inner, grace_period=GUARD)
    async with drain() as block, lifespan(app), drain() as inside:
        pass
    assert [task.state for task in block.tasks] == [TaskState.SUCCEEDED]
    assert inside.tasks == []
    recorded = record()
    async with recorded, lifespan(app):
        pass
    recorded.task(name="start").assert_scheduled(ran.append, "start")
    assert ran == ["start"]
