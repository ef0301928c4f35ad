"""What runs beside the tasks of a runner, from its start until its end: clocks, records."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import copy_context

from anyio import CancelScope, Event
from anyio.lowlevel import checkpoint

from ._backend import Backend


class Service:
    """A coroutine of ours on the event loop, which nobody else is to end.

    Args:
        backend: The event loop.
        name: The name of its task there.
        run: The coroutine function.
        ended_by: Called with what ends it before it is stopped, a cancellation of all for instance.
    """

    def __init__(
        self,
        backend: Backend,
        name: str,
        run: Callable[[], Awaitable[None]],
        ended_by: Callable[[BaseException], None],
    ) -> None:
        self._backend = backend
        self._run = run
        self._ended_by = ended_by
        self._scope: CancelScope = backend.scope_type(shield=True)
        self._over = Event()
        # The loop holds it weakly.
        self._handle = backend.spawn(self._serve(), name, copy_context())

    def stop(self) -> None:
        """Stop it; it ends in a later turn of the loop."""
        self._scope.cancel()

    async def until_over(self) -> None:
        """Wait until it has ended."""
        await checkpoint()  # by then a task that was cancelled before its first step has ended
        if not self._backend.has_ended(self._handle):
            await self._over.wait()

    async def _serve(self) -> None:
        try:
            with self._scope:
                await self._run()
        except (GeneratorExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - a cancellation of all is one
            # Its scope does not take its own cancellation if asyncio has miscounted within.
            if not self._scope.cancel_called:
                self._ended_by(error)
        finally:
            self._over.set()
