"""A page that shows an application's tasks, live: to look at in development, or for operators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from importlib.resources import files
from inspect import isawaitable
from json import dumps
from typing import Final, TypeAlias
from urllib.parse import parse_qs

from anyio import create_task_group, move_on_after

from ._periodic import PeriodicTask
from ._record import plain
from ._request import Receive, Scope, Send, get_scheduler
from ._scheduler import TasksScheduler

__all__ = ["Allow", "TasksPage"]

Allow: TypeAlias = Callable[[Scope], "Awaitable[bool] | bool"]
"""Called with the ASGI scope of each request: whether who makes it may see and stop tasks."""

LOOK_EVERY: Final = 2.0
"""Seconds after which the clocks are looked at again."""

_POLICY: Final = (
    b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    b"connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'"
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
    run them. It is of one process: of several workers it shows one. Who is shown a task knows its
    id, so it is remembered (see `TaskRegistry`).

    Args:
        allow: Who may see it: see `Allow`. There is no default.

    Since 0.1.0.
    """

    def __init__(self, *, allow: Allow) -> None:
        """Read the page."""
        self._allow = allow
        self._page = files("tasks_core").joinpath("page.html").read_bytes()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            msg = f"TasksPage serves HTTP, not {scope['type']}: mount it in an application"
            raise ValueError(msg)
        allowed = self._allow(scope)
        if not (await allowed if isawaitable(allowed) else allowed):
            await _answer(send, 403, b"Who may see this page is said where it is mounted.")
            return
        tasks = get_scheduler(scope)
        what = scope["path"].rstrip("/").rpartition("/")[2]
        headers = dict(scope["headers"])
        if scope["method"] == "POST":
            # No form can send this header, and no script of another site without being asked for.
            if b"x-tasks-page" not in headers:
                await _answer(send, 403, b"This is for the buttons of the page.")
                return
            query = parse_qs(scope["query_string"].decode())
            await _answer(send, *await _act(tasks, what, query.get("id", [""])[0]))
        elif scope["method"] not in {"GET", "HEAD"}:
            await _answer(send, 405, b"")
        elif what == "events" and b"text/event-stream" in headers.get(b"accept", b""):
            await _stream(tasks, receive, send)
        else:
            await _answer(send, 200, self._page, b"text/html; charset=utf-8")


async def _act(tasks: TasksScheduler, what: str, of: str) -> tuple[int, bytes]:
    if what == "cancel":
        return 200, dumps({"cancelled": await tasks.cancel(of)}).encode()
    if what == "run" and of in tasks.periodic:
        return 202, dumps({"id": tasks.periodic[of].run().id}).encode()
    return 404, b"There is no such button."


async def _answer(send: Send, status: int, body: bytes, kind: bytes = b"text/plain") -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _stream(tasks: TasksScheduler, receive: Receive, send: Send) -> None:
    """Send the record of each task, and again when it has changed; until the client has gone."""
    headers = [(b"content-type", b"text/event-stream"), *_HEADERS]
    await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def say(event: str, data: str) -> None:
        body = f"event: {event}\ndata: {data}\n\n".encode()
        await send({"type": "http.response.body", "body": body, "more_body": True})

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        group.cancel_scope.cancel()

    async with create_task_group() as group:
        group.start_soon(watch)
        with tasks.registry.updates() as updates:  # first, so that nothing is missed from here on
            for task in (*tasks.registry.ended(), *tasks.registry):
                await say("task", dumps(asdict(task.record())))
            shown = ""
            while True:
                clocks = dumps([_show(one) for one in tasks.periodic.values()])
                if clocks != shown:
                    await say("periodic", clocks)
                shown, record = clocks, None
                with move_on_after(LOOK_EVERY) as waiting:
                    record = await anext(updates, None)
                if record is not None:
                    await say("task", dumps(asdict(record)))
                elif not waiting.cancelled_caught:  # a shutdown has begun
                    break
        group.cancel_scope.cancel()
    await send({"type": "http.response.body", "body": b""})


def _show(periodic: PeriodicTask) -> dict[str, str | bool | None]:
    at, last = periodic.next_run_time, periodic.last
    return {
        "name": plain(periodic.name),
        "next_run_time": None if at is None else at.isoformat(),
        "paused": periodic.paused,
        "last": None if last is None else str(last.state),
    }
