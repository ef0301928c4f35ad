"""The page of tasks as an ASGI application: who may see it, its buttons, its stream (11.5)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Unpack
from urllib.parse import quote

import anyio
import pytest
import tasks_core
from tasks_core import (
    Every,
    Periodic,
    RunnerSettings,
    Task,
    TaskConfig,
    TasksScheduler,
    TaskState,
    current_task,
    current_tasks,
    page,
)
from tasks_core.asgi import Message, Receive, Scope, Send, TasksMiddleware
from tasks_core.page import Allow, TasksPage

from tests.conformance.driver import Exchange, Server, serve
from tests.tasks_core.stage import SomeError, fail_async, over, until_cancelled
from tests.tasks_core.store import Store

pytestmark = pytest.mark.anyio

BUTTON = (b"x-tasks-page", b"1")
HOSTILE = "<script>alert('</script>')\n\ndata: x\r\u2028\ud800\x00🦊"


def allow_all(scope: Scope) -> bool:
    return True


class Served:
    """The page, served with the tasks of an application around it."""

    def __init__(self, server: Server, tasks: TasksScheduler) -> None:
        self.tasks = tasks
        self._server = server

    async def get(self, path: str = "/tasks/", method: str = "GET", *headers: Any) -> Exchange:
        return await self._server.request(path, method=method, headers=headers)

    async def press(self, what: str, of: str = "") -> tuple[int, Any]:
        path = f"/tasks/{what}?id={quote(of, safe='')}"
        answer = await self.get(path, "POST", BUTTON, (b"sec-fetch-site", b"same-origin"))
        return answer.status, json.loads(answer.body) if answer.status < 300 else answer.body

    async def listen(self, on_event: Callable[[str, Any], object]) -> Exchange:
        """Open the stream, until the page ends it, or `on_event` returns true for an event."""
        exchange = Exchange()

        def on_message(message: Message) -> None:
            for event in message.get("body", b"").decode().split("\n\n")[:-1]:
                kind, data = event.split("\n")
                value = json.loads(data.removeprefix("data: "))
                if on_event(kind.removeprefix("event: "), value):
                    exchange.leave()

        return await self._server.request(
            "/tasks/events", exchange=exchange, on_message=on_message, headers=[]
        )


@asynccontextmanager
async def served(
    allow: Allow = allow_all, **settings: Unpack[RunnerSettings]
) -> AsyncGenerator[Served]:
    found: list[TasksScheduler] = []
    shown = TasksPage(allow=allow)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            found.append(current_tasks())
            for what in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{what}.complete"})
            return
        await shown(scope, receive, send)

    async with serve(TasksMiddleware(app, **settings)) as server:
        yield Served(server, found[0])


def header(exchange: Exchange, name: bytes) -> bytes | None:
    found: bytes | None = dict(exchange.messages[0]["headers"]).get(name)
    return found


# The page itself.


async def test_the_page() -> None:
    """One document, which is not kept, loads nothing from elsewhere and is in no other's frame."""
    async with served() as app:
        answer = await app.get()
    assert answer.status == 200
    assert header(answer, b"content-type") == b"text/html; charset=utf-8"
    assert header(answer, b"cache-control") == b"no-store"
    policy = header(answer, b"content-security-policy") or b""
    assert b"default-src 'none'" in policy
    assert b"frame-ancestors 'self'" in policy
    assert b"://" not in answer.body
    assert answer.body == Path(page.__file__).with_name("page.html").read_bytes()


async def test_methods() -> None:
    """HEAD has no body, also where a stream would be; others are answered with what there is."""
    async with served() as app:
        for path in ("/tasks", "/tasks/", "/tasks/events"):
            head = await app.get(path, "HEAD")
            assert (head.status, head.body) == (200, b"")
            assert header(head, b"content-type") == b"text/html; charset=utf-8"
        for method in ("PUT", "DELETE", "OPTIONS"):
            refused = await app.get("/tasks/", method)
            assert (refused.status, header(refused, b"allow")) == (405, b"GET, HEAD, POST")


@pytest.mark.parametrize("what", ["events", "run", "cancel"])
@pytest.mark.parametrize("root", ["", "/api"])
async def test_where_it_is_mounted(what: str, root: str) -> None:
    """It may be mounted by a name that something of its own has, whatever is left in the path."""
    shown = TasksPage(allow=allow_all)
    mount = f"{root}/{what}"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await shown({**scope, "root_path": mount}, receive, send)

    async with serve(TasksMiddleware(app)) as server:
        for path in (f"{mount}/", mount, f"/{what}/"):
            answer = await server.request(path)
            assert header(answer, b"content-type") == b"text/html; charset=utf-8"
        exchange = Exchange()
        exchange.leave()
        stream = await server.request(f"{mount}/events", exchange=exchange)
    assert header(stream, b"content-type") == b"text/event-stream"


async def test_a_websocket_is_refused() -> None:
    """As the protocol says it, whoever asks: that is no error of the application's."""
    asked: list[Scope] = []
    shown = TasksPage(allow=asked.append)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async with serve(TasksMiddleware(shown)) as server:
        async with server.websocket("/tasks/") as socket:
            pass
        assert (socket.error, asked) == (None, [])
        assert await socket.receive() == {"type": "websocket.close", "code": 1000}


async def test_what_is_no_request() -> None:
    """It is mounted in an application, and so is no application by itself."""
    with pytest.raises(ValueError, match="TasksPage serves HTTP, not lifespan: mount it in an"):
        await TasksPage(allow=allow_all)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_it_is_small() -> None:
    """Page and program have less than 260 lines in all."""
    module = Path(page.__file__)
    lines = [path.read_text("utf-8").count("\n") for path in (module, module.with_suffix(".html"))]
    assert sum(lines) < 260


def test_nothing_imports_it() -> None:
    """Who does not mount it does not load it."""
    assert not hasattr(tasks_core, "TasksPage")


# Who may see it.


async def allow_operators(scope: Scope) -> bool:
    await anyio.lowlevel.checkpoint()
    return (b"x-role", b"operator") in scope["headers"]


def allow_operators_too(scope: Scope) -> bool:
    return (b"x-role", b"operator") in scope["headers"]


async def refuse(scope: Scope) -> bool:
    return False


@pytest.mark.parametrize("allow", [allow_operators, allow_operators_too, refuse])
async def test_who_may_see_it(allow: Allow) -> None:
    """Each request is asked about: the page, its stream and its buttons; nothing is done before."""
    async with served(allow) as app:
        task = app.tasks.schedule(until_cancelled)
        for path, method in (("/tasks/", "GET"), ("/tasks/events", "GET"), ("/tasks/", "HEAD")):
            assert (await app.get(path, method)).status == 403
        path = f"/tasks/cancel?id={task.id}"
        assert (await app.get(path, "POST", BUTTON)).status == 403
        assert task.state is not TaskState.CANCELLED
        allowed = await app.get(path, "POST", BUTTON, (b"x-role", b"operator"))
        assert allowed.status == (403 if allow is refuse else 200)
        task.cancel()


async def test_who_cannot_be_asked_about() -> None:
    """What `allow` raises is the application's error, and nothing is shown."""

    def fail(scope: Scope) -> bool:
        raise SomeError

    async with served(fail) as app:
        answer = await app.get()
        assert isinstance(answer.error, SomeError)
        assert answer.messages == []


def test_who_may_see_it_must_be_said() -> None:
    """There is no default."""
    with pytest.raises(TypeError, match="allow"):
        TasksPage()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def allow_later(scope: Scope) -> Iterator[bool]:
    yield False


def allow_nobody() -> bool:
    return False


async def allow_later_too(scope: Scope) -> AsyncIterator[bool]:
    yield False


@pytest.mark.parametrize(
    ("allow", "says"),
    [
        (None, "allow must be callable, not NoneType: pass a function that takes a scope"),
        (True, "allow must be callable, not bool"),
        (allow_later, "allow is called, and allow_later is a generator function"),
        (allow_later_too, "allow is called, and allow_later_too is a generator function"),
        (allow_nobody, "allow must take the scope, and allow_nobody does not"),
    ],
)
def test_who_may_see_it_can_be_asked(allow: Any, says: str) -> None:
    """A generator is true whatever it would say, so the page would be everybody's."""
    with pytest.raises(TypeError, match=re.escape(says)):
        TasksPage(allow=allow)


class Operators:
    """Takes a scope, and decides nothing."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope


def give(answer: Any, scope: Scope) -> Any:
    return answer


async def give_later(answer: Any, scope: Scope) -> Any:
    return answer


async def allow_as_a_helper_says(scope: Scope) -> Any:
    return refuse(scope)  # and nobody awaits it


@pytest.mark.parametrize(
    ("allow", "kind"),
    [
        (partial(give, refuse), "function"),
        (partial(give_later, refuse), "function"),
        (allow_as_a_helper_says, "coroutine"),
        (Operators, "Operators"),
        (partial(give, "no"), "str"),
        (partial(give_later, 1), "int"),
        (partial(give, None), "NoneType"),
    ],
)
async def test_only_true_shows_it(allow: Any, kind: str) -> None:
    """An answer that is no `bool` is an error that says so, and the page is shown to nobody."""
    async with served(allow) as app:
        task = app.tasks.schedule(until_cancelled)
        path = f"/tasks/cancel?id={task.id}"
        for answer in (await app.get(), await app.get(path, "POST", BUTTON)):
            assert isinstance(answer.error, TypeError)
            assert f"allow must return True or False, not {kind}: call" in str(answer.error)
            assert answer.messages == []
        assert task.state is not TaskState.CANCELLED
        task.cancel()


# Its buttons.


async def test_the_cancel_button() -> None:
    """Says whether it takes effect: not on what is over, nor on what nobody knows."""
    async with served() as app:
        task = app.tasks.schedule(until_cancelled)
        assert await app.press("cancel", task.id) == (200, {"cancelled": True})
        await over(task)
        assert task.state is TaskState.CANCELLED
        assert await app.press("cancel", task.id) == (200, {"cancelled": False})
        assert await app.press("cancel", "junk") == (200, {"cancelled": False})
        assert await app.press("cancel") == (200, {"cancelled": False})


async def test_the_cancel_button_reaches_other_processes() -> None:
    """With records, the page of one worker cancels what another one runs."""
    store = Store()
    async with served(records=store) as here, served(records=store) as there:
        task = there.tasks.schedule(until_cancelled)
        assert task.id
        await store.until_read(task.id)
        assert await here.press("cancel", task.id) == (200, {"cancelled": True})


async def test_the_run_button() -> None:
    """Runs a periodic task now, by its name, whatever it has in it."""
    periodic = [
        Periodic(until_cancelled, Every(days=1), TaskConfig(name=HOSTILE)),
        Periodic(fail_async, Every(days=1), TaskConfig(key="one", limit=1, backlog=0)),
    ]
    async with served(periodic=periodic) as app:
        shown: list[Any] = []

        def look(kind: str, value: Any) -> bool:
            shown[:] = value if kind == "periodic" else []
            return kind == "periodic"

        await app.listen(look)
        status, answer = await app.press("run", shown[0]["name"])
        last = app.tasks.periodic[HOSTILE].last
        assert last is not None
        assert (status, answer) == (202, {"id": last.id})
        assert await app.press("run", shown[0]["name"]) == (202, {"id": last.id})
        assert (await app.press("run", "unknown"))[0] == 404
        assert (await app.press("unknown", shown[0]["name"]))[0] == 404
        blocking = app.tasks.task(key="one", limit=1).schedule(until_cancelled)
        await blocking.started.wait()
        status, text = await app.press("run", "fail_async")
        assert status == 409
        assert b"the limit of the key one is reached" in text
        blocking.cancel()


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"content-type", b"application/x-www-form-urlencoded")],
        [(b"sec-fetch-site", b"same-origin")],
        [BUTTON, (b"sec-fetch-site", b"cross-site")],
        [BUTTON, (b"sec-fetch-site", b"same-site")],
    ],
)
async def test_what_another_site_can_send(headers: list[tuple[bytes, bytes]]) -> None:
    """A form cannot send the header; and a browser says where a script comes from."""
    periodic = [Periodic(until_cancelled, Every(days=1))]
    async with served(periodic=periodic) as app:
        task = app.tasks.schedule(until_cancelled)
        for what, of in (("cancel", task.id), ("run", "until_cancelled")):
            refused = await app.get(f"/tasks/{what}?id={of}", "POST", *headers)
            assert refused.status == 403
        assert task.state is TaskState.RUNNING
        assert app.tasks.periodic["until_cancelled"].last is None
        task.cancel()


async def test_the_stream_is_for_the_page() -> None:
    """A script of another site does not get it, whatever CORS headers the application has."""
    async with served() as app:
        answer = await app.get("/tasks/events", "GET", (b"sec-fetch-site", b"cross-site"))
        assert header(answer, b"content-type") == b"text/html; charset=utf-8"
        assert header(answer, b"access-control-allow-origin") is None


# Its stream.


async def test_the_stream_begins_with_all_there_is() -> None:
    """Which process it is, what has ended, what lives, and the clocks."""
    async with served(periodic=[Periodic(until_cancelled, Every(days=1))]) as app:
        ended, living = app.tasks.schedule(fail_async), app.tasks.schedule(until_cancelled)
        assert ended.id
        await over(ended)
        said: list[tuple[str, Any]] = []

        def note(kind: str, value: Any) -> bool:
            said.append((kind, value))
            return kind == "periodic"

        answer = await app.listen(note)
        living.cancel()
    assert header(answer, b"content-type") == b"text/event-stream"
    assert [kind for kind, _ in said] == ["process", "task", "task", "periodic"]
    assert said[0][1] == os.getpid()
    assert [(value["id"], value["state"]) for _, value in said[1:3]] == [
        (ended.id, "failed"),
        (living.id, "running"),
    ]
    (clock,) = said[3][1]
    assert datetime.fromisoformat(clock.pop("next_run_time")) > datetime.now(UTC)
    assert clock == {"name": "until_cancelled", "paused": False, "last": None}


async def test_the_stream_goes_on_with_what_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each task, and the clocks; a paused one, too, though no event tells of that."""
    monkeypatch.setattr(page, "LOOK_EVERY", 0.01)
    async with served(periodic=[Periodic(anyio.sleep_forever, Every(days=1))]) as app:
        clock = app.tasks.periodic["sleep_forever"]
        clocks: list[Any] = []
        told: list[Any] = []

        def act(kind: str, value: Any) -> bool:
            if kind == "task":
                told.append(value)
                return bool(value["state"] == "succeeded")
            if kind == "periodic":
                clocks.append(value)
                if len(clocks) == 1:
                    clock.paused = True
                else:
                    app.tasks.task(name=HOSTILE).schedule(report)
            return False

        await app.listen(act)
    assert [one["paused"] for (one,) in clocks] == [False, True]
    last = told[-1]
    assert last["progress"] == {"done": 1, "total": 2, "message": None}
    assert last["name"] == HOSTILE.replace("\ud800", "\\ud800").replace("\0", "\\x00")


async def report() -> None:
    current_task().report(1, total=2)


async def test_a_page_is_to_ask_anew_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that stops waits for who listens: so no page listens for long at a time."""
    monkeypatch.setattr(page, "STREAM_FOR", 0.05)
    monkeypatch.setattr(page, "LOOK_EVERY", 0.01)
    async with served() as app:
        said: list[str] = []
        answer = await app.listen(lambda kind, _: said.append(kind))
    assert said == ["process", "periodic", "again"]
    assert answer.messages[-1] == {"type": "http.response.body", "body": b""}
    assert answer.error is None


async def test_a_shutdown_ends_the_stream() -> None:
    """As it begins: no tasks wait for who looks at them."""
    async with served() as app:

        def stop(kind: str, _: Any) -> None:
            if kind == "periodic":
                app.tasks._runner._let_readers_go()

        answer = await app.listen(stop)
        assert answer.messages[-1] == {"type": "http.response.body", "body": b""}


async def test_a_client_that_goes_away() -> None:
    """Leaves no reader behind."""
    async with served() as app:
        answer = await app.listen(lambda kind, value: kind == "process")
        assert answer.error is None
        observers = app.tasks._runner._observers
        task: Task = app.tasks.schedule(report)
        await over(task)
        assert not observers.active
