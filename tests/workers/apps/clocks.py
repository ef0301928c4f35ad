"""Periodic tasks in each of several workers: one runs in all of them, others where a claim says.

The claims are those that `docs/periodic.md` shows; which of them, the test chooses.
"""

import os
from collections.abc import Awaitable
from datetime import datetime
from functools import partial
from importlib import import_module
from inspect import iscoroutinefunction
from typing import cast

from tasks_core import Claim, Every, Periodic, TaskConfig
from tasks_core.asgi import Receive, Scope, Send, TasksMiddleware

from tests.servers.apps.wire import say


def watch(claim: Claim) -> Claim:
    """Tell the test what a claim answers, on the event loop or in a thread as that is."""

    def note(name: str, at: datetime, answer: bool) -> bool:  # noqa: FBT001 - it is what is noted
        say(f"{name} {at.isoformat()} {os.getpid()} {answer}")
        return answer

    async def ask(name: str, at: datetime) -> bool:
        return note(name, at, await cast("Awaitable[bool]", claim(name, at)))

    def ask_in_thread(name: str, at: datetime) -> bool:
        return note(name, at, cast("bool", claim(name, at)))

    return ask if iscoroutinefunction(claim) else ask_in_thread


async def run(name: str) -> None:
    say(f"ran {name}")


def declare(name: str, claim: Claim) -> Periodic:
    # Shielded: what was claimed by the time at which the server is told to stop runs.
    config = TaskConfig(name=name, shield=True)
    return Periodic(partial(run, name), Every(seconds=0.5), config, watch(claim))


periodic = [declare("everywhere", lambda _name, _at: True)]
for recipe in os.environ["TESTS_CLAIMS"].split():
    claim: Claim = import_module(recipe).claim
    periodic.append(declare(recipe, claim))


async def serve_nothing(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "lifespan"
    for what in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{what}.complete"})


app = TasksMiddleware(serve_nothing, periodic=periodic)
