"""A page that shows an application's tasks, live: to look at in development, or for operators."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from importlib.resources import files
from inspect import isawaitable
from json import dumps
from typing import Final, TypeAlias
from urllib.parse import parse_qs

from anyio import create_task_group, current_time, move_on_after

from ._checks import check_answer, check_callback
from ._exceptions import TasksError
from ._periodic import PeriodicTask
from ._record import plain
from ._request import Receive, Scope, Send, get_scheduler
from ._scheduler import TasksScheduler

__all__ = ["Allow", "TasksPage"]

Allow: TypeAlias = Callable[[Scope], "Awaitable[bool] | bool"]
"""Called with the ASGI scope of each request: whether who makes it may see and stop tasks. What is
no `bool` is a `TypeError`, and nothing is shown."""

LOOK_EVERY: Final = 2.0
"""Seconds after which the clocks are looked at again."""

STREAM_FOR: Final = 5.0
"""Seconds after which a page asks anew: some servers that stop wait for who listens."""

_POLICY: Final = (
    b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src "
    b"'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_HEADERS: Final = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
]


class TasksPage:
    """An ASGI application: ``app.mount("/tasks", TasksPage(allow=is_operator))``.

    It shows the tasks of the application that it is mounted in: those that live and those that are
    remembered, with their progress, and what runs by the clock; and it has buttons that cancel and
    run them. It is of one process, which it names: of several workers it shows any. Who is shown a
    task knows its id, so it is remembered (see `TaskRegistry`), and written to ``records``.

    Args:
        allow: Who may see it: see `Allow`. No default; what cannot be asked is a `TypeError`.
    """

    def __init__(self, *, allow: Allow) -> None:
        check_callback("allow", allow, "the scope", remedy="pass a function that takes a scope")
        self._allow = allow
        self._page = files("tasks_core").joinpath("page.html").read_bytes()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})  # not accepted: a 403
            return
        if scope["type"] != "http":
            msg = f"TasksPage serves HTTP, not {scope['type']}: mount it in an application"
            raise ValueError(msg)
        allowed = self._allow(scope)
        allowed = await allowed if isawaitable(allowed) else allowed
        if not check_answer("allow", allowed):
            await _answer(send, 403, b"Who may see this page is said where it is mounted.")
            return
        tasks, method, headers = get_scheduler(scope), scope["method"], dict(scope["headers"])
        path, root = scope["path"].rstrip("/"), scope.get("root_path", "").rstrip("/")
        what = "" if root.endswith(path) else path.rpartition("/")[2]  # a mount has any name
        # No form can send the second header, and no script of another site without being asked for.
        same_site = headers.get(b"sec-fetch-site", b"same-origin") == b"same-origin"
        if method == "POST" and not (same_site and b"x-tasks-page" in headers):
            await _answer(send, 403, b"This is for the buttons of the page.")
        elif method == "POST":
            query = parse_qs(scope["query_string"].decode("latin-1"))
            await _answer(send, *await _act(tasks, what, query.get("id", [""])[0]))
        elif method not in {"GET", "HEAD"}:
            await _answer(send, 405, b"", (b"allow", b"GET, HEAD, POST"))
        elif method == "GET" and what == "events" and same_site:
            await _stream(tasks, receive, send)
        else:
            kind = (b"content-type", b"text/html; charset=utf-8")
            await _answer(send, 200, self._page if method == "GET" else b"", kind)


async def _act(tasks: TasksScheduler, what: str, of: str) -> tuple[int, bytes]:
    if what == "cancel":
        return 200, dumps({"cancelled": await tasks.cancel(of)}).encode()
    for periodic in tasks.periodic.values():
        if what == "run" and plain(periodic.name) == of:
            try:
                return 202, dumps({"id": periodic.run().id}).encode()
            except TasksError as error:
                return 409, plain(str(error)).encode()
    return 404, b"There is no such button."


async def _answer(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *_HEADERS]})
    await send({"type": "http.response.body", "body": body})


async def _stream(tasks: TasksScheduler, receive: Receive, send: Send) -> None:
    """Send the record of each task, and again when it has changed; until the client has gone."""
    sent = [(b"content-type", b"text/event-stream"), *_HEADERS]
    await send({"type": "http.response.start", "status": 200, "headers": sent})

    async def say(event: str, value: object) -> None:
        body = f"event: {event}\ndata: {dumps(value)}\n\n".encode()
        await send({"type": "http.response.body", "body": body, "more_body": True})

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        group.cancel_scope.cancel()

    async with create_task_group() as group:
        group.start_soon(watch)
        with tasks.registry.updates() as updates:  # first, so that nothing is missed from here on
            await say("process", os.getpid())
            for task in (*tasks.registry.ended(), *tasks.registry):
                await say("task", asdict(task.record()))
            shown, until = None, current_time() + STREAM_FOR
            while current_time() < until:
                clocks = [_show(one) for one in tasks.periodic.values()]
                if clocks != shown:
                    await say("periodic", clocks)
                shown, record = clocks, None
                with move_on_after(min(LOOK_EVERY, until - current_time())) as waiting:
                    record = await anext(updates, None)
                if record is not None:
                    await say("task", asdict(record))
                elif not waiting.cancelled_caught:  # a shutdown has begun
                    break
            else:
                await say("again", None)
        await send({"type": "http.response.body", "body": b""})
        group.cancel_scope.cancel()


def _show(periodic: PeriodicTask) -> dict[str, str | bool | None]:
    at, last = periodic.next_run_time, periodic.last
    return {
        "name": plain(periodic.name),
        "next_run_time": None if at is None else at.isoformat(),
        "paused": periodic.paused,
        "last": None if last is None else str(last.state),
    }
