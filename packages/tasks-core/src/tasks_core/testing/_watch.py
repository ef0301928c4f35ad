"""Where a block is in force: which requests it sees."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from contextvars import Token
from typing import cast

from tasks_core._scheduler import SchedulerHost, observing

Observe = Callable[[SchedulerHost], SchedulerHost]


class Watch:
    """Lets a block stand between new schedulers and their runners, from its beginning to its end.

    Args:
        observe: Returns what stands there, in the place of the runner.
    """

    def __init__(self, observe: Observe) -> None:
        self._observe = observe
        self._outer: Observe | None = None
        self._token: Token[Observe] | None = None
        # Contexts that were copied within the block live on: for them, too, it has ended then.
        self._ended = False

    @property
    def begun(self) -> bool:
        """Whether the block was entered."""
        return self._token is not None

    def begin(self) -> None:
        """Be in force for what is done in this context, and in those that are copied from it.

        Raises:
            RuntimeError: It was before.
        """
        if self._token is not None:
            msg = "A block can be entered once: make a new one each time."
            raise RuntimeError(msg)
        self._outer = observing.get(None)
        self._token = observing.set(self._see)

    def end(self) -> None:
        """Be in force for no new request."""
        self._ended = True
        with suppress(ValueError):  # a fixture may end in another context than it began in
            observing.reset(cast("Token[Observe]", self._token))

    def _see(self, host: SchedulerHost) -> SchedulerHost:
        observe = self._outer if self._ended else self._observe
        return host if observe is None else observe(host)
