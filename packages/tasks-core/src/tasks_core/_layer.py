"""A request's scheduler with settings of layers within the application, or of a mounted one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, TypeAlias

from ._config import TaskConfig
from ._phase import IMMEDIATE, Phase
from ._runner import TaskRunner
from ._scheduler import TasksScheduler
from ._task import Task

Layers: TypeAlias = Callable[[TaskConfig], TaskConfig | None]
"""Returns settings with those of layers over them; nothing as long as these are not known."""


class RoutedScheduler(TasksScheduler):
    """A request's scheduler with the settings of its route's layers, once that is known.

    Args:
        runner: The application's runner.
        layers: Puts the layers' settings over the application's.
    """

    __slots__ = ("_layers", "_own")

    _own: TaskConfig
    _layers: Layers | None

    def __init__(self, runner: TaskRunner, layers: Layers) -> None:
        TasksScheduler.__init__(self, runner)  # `super()` is an object more for each request
        self._layers = layers

    @property  # the other's is plain, as most requests have nothing to look up
    def config(self) -> TaskConfig:
        """The settings that a task of this request has before its own."""
        layers = self._layers
        config = None if layers is None else layers(self._own)
        if config is not None:
            self._own = config
            self._layers = None  # now, as another thread may ask
        return self._own

    @config.setter
    def config(self, config: TaskConfig) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._own = config


class LayeredScheduler(RoutedScheduler):
    """A request's scheduler as a mounted application has it: with that one's settings over it.

    Args:
        request: The request's scheduler.
        config: The settings of the mounted application.
        layers: Puts those of layers within that over these.
    """

    __slots__ = ("_request",)

    def __init__(
        self, request: TasksScheduler, config: TaskConfig, layers: Layers | None = None
    ) -> None:
        self._request = request
        self._runner = request._runner
        self._open = 0
        self._own = request.config.merge(config)
        self._layers = layers

    def __enter__(self) -> Self:
        """Make it the current scheduler."""
        self._request._open += 1
        return super().__enter__()

    def reach(self, phase: Phase, *, failed: bool = False) -> None:
        """Let a phase begin."""
        self._request.reach(phase, failed=failed)

    def _fail(self, error: BaseException | None) -> None:
        self._request._fail(error)

    async def begun(self) -> None:
        """Wait until what was started has run its first step."""
        await self._request.begun()

    async def settle(self) -> None:
        """Wait for the request's tasks where a test asks for that."""
        await self._request.settle()

    def _schedule(  # noqa: PLR0913, PLR0917 - what `schedule` is given, and how; by name it is dearer
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        phase: Phase = IMMEDIATE,
        config: TaskConfig | None = None,
        accept: Callable[[Task], Task] | None = None,
    ) -> Task[Any, Any]:
        config = config or self.config
        return self._request._schedule(func, args, kwargs, phase, config, accept)

    @property
    def _answers(self) -> bool:
        return self._request._answers

    def _close(self) -> None:
        self._request._close()

    def _waiting_for(self, phase: Phase) -> tuple[Task, ...]:
        return self._request._waiting_for(phase)

    def __repr__(self) -> str:
        """Show the request's."""
        return repr(self._request)
