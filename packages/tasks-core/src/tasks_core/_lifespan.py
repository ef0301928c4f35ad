"""An application's lifespan, as tasks live in it: around its own code (contract 5.1)."""

from __future__ import annotations

from ._phase import AFTER_RESPONSE
from ._request import ASGIApp, Message, Receive, Scope, Send
from ._runner import TaskRunner
from ._scheduler import TasksScheduler


def lifespan_scheduler(runner: TaskRunner) -> TasksScheduler:
    """Return a scheduler for the application's lifespan, where every phase has begun.

    Enter it around the application's own lifespan code, so that `current_tasks` finds it there
    (contract 5.1).

    Since 0.1.0.
    """
    scheduler = TasksScheduler(runner)
    scheduler.reach(AFTER_RESPONSE)
    return scheduler


class Lifespan:
    """The lifespan as the application sees it: before its shutdown, all tasks have ended."""

    def __init__(self, runner: TaskRunner, receive: Receive, send: Send) -> None:
        self._runner = runner
        self._receive = receive
        self._send = send
        # Whether the application has asked for a message or sent one: it speaks the protocol.
        self._spoken = False

    async def send(self, message: Message) -> None:
        self._spoken = True
        await self._send(message)

    async def receive(self) -> Message:
        self._spoken = True
        message = await self._receive()
        if message["type"] == "lifespan.shutdown":
            await self._runner.drain()
        return message

    async def serve(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self.receive, self.send)
        except Exception:
            # An application without a lifespan refuses the scope, which is its right; what one
            # with a lifespan raises is its own affair (contract 5.7).
            if self._spoken:
                raise
        if not self._spoken:
            for message in ("lifespan.startup.complete", "lifespan.shutdown.complete"):
                await self.receive()
                await self._send({"type": message})
