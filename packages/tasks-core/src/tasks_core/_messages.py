"""The messages of a lifespan, as the application sees them."""

from __future__ import annotations

from collections.abc import Callable
from traceback import format_exc
from typing import Final

from anyio import CancelScope

from . import _report
from ._exceptions import TasksUninitializedError
from ._request import ASGIApp, Message, Receive, Scope, Send
from ._runner import TaskRunner

REFUSALS: Final = (
    AssertionError,
    KeyError,
    NotImplementedError,
    TasksUninitializedError,
    ValueError,
)
"""What applications without a lifespan raise when they are offered one: those that take it for a
request; the last but one, as it has no scheduler."""


class LifespanMessages:
    """The messages of a lifespan as the application sees them: all tasks end before its shutdown.

    Args:
        runner: The lifespan's.
        receive: The lifespan's ``receive``.
        send: The lifespan's ``send``.
        started: Is called when the application has started.
    """

    def __init__(
        self, runner: TaskRunner, receive: Receive, send: Send, started: Callable[[], None]
    ) -> None:
        self._runner = runner
        self._receive = receive
        self._send = send
        self._tell_started = started
        # Whether the application has asked for a message or sent one, so speaks the protocol;
        # whether it has started; and whether it knows that it is to stop.
        self._spoken = self._started = self._stops = False

    async def send(self, message: Message) -> None:
        self._spoken = True
        if message["type"] == "lifespan.startup.complete":
            self._started = True
            self._tell_started()
        elif message["type"] == "lifespan.startup.failed":  # some servers exit with that
            await self._drain()
        try:
            await self._send(message)
        except BaseException:  # as in `receive`
            await self._drain()
            raise

    async def receive(self) -> Message:
        self._spoken = True
        try:
            message = await self._receive()
            if message["type"] == "lifespan.shutdown":
                await self._runner.drain()
        except BaseException:  # the server ends it so: the application tears down next (5.1)
            await self._drain()
            raise
        self._stops = message["type"] == "lifespan.shutdown"
        return message

    async def _drain(self) -> None:
        """End all tasks, also where the lifespan is cancelled."""
        with CancelScope(shield=True):
            await self._runner.drain()

    async def serve(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self.receive, self.send)
        except Exception as error:
            # What an application with a lifespan raises is its own affair (contract 5.7). One
            # without a lifespan refuses the scope, which is its right.
            if not self._spoken and not isinstance(error, REFUSALS):
                await fail_start(self._receive, self.send)
            if self._spoken:
                raise
            _report.no_lifespan(error)
        if not self._spoken:
            await self.receive()
            await self.send({"type": "lifespan.startup.complete"})
        if self._started and not self._stops:  # it has no more to do, but its requests have
            await self._until_stopped()
            await self._send({"type": "lifespan.shutdown.complete"})

    async def _until_stopped(self) -> None:
        while not self._stops:
            await self.receive()


async def fail_start(receive: Receive, send: Send) -> None:
    """Tell the server of the exception that is being handled.

    Else it takes that for an application without a lifespan, and serves requests.
    """
    await receive()
    await send({"type": "lifespan.startup.failed", "message": format_exc()})
