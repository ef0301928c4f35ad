"""One phase of a request, with settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Unpack

from ._config import TaskConfig, TaskSettings
from ._phase import AFTER_RESPONSE, Phase
from ._scheduling import Scheduler
from ._task import Task

if TYPE_CHECKING:
    from ._scheduler import TasksScheduler


class PhaseScheduler(Scheduler):
    """Schedules tasks for one phase of a request, with settings.

    Attributes:
        phase: The phase.
        config: The settings of the tasks that it schedules, all layers merged.
    """

    __slots__ = ("_scheduler", "config", "phase")

    def __init__(self, scheduler: TasksScheduler, phase: Phase, config: TaskConfig) -> None:
        """Made by `TasksScheduler`, not by users."""
        self._scheduler = scheduler
        self.phase: Phase = phase
        self.config: TaskConfig = config

    @property
    def scheduled(self) -> tuple[Task, ...]:
        """The request's tasks that wait for this phase, in order; none once it has begun."""
        return self._scheduler._waiting_for(self.phase)

    def task(self, **settings: Unpack[TaskSettings]) -> PhaseScheduler:
        """Return the same phase with these settings over the present ones (contract 3.4)."""
        config = self.config._override(settings)
        if settings.get("confirm") and self.phase is AFTER_RESPONSE:
            msg = "confirm=True is not for after_response: the response has left. Take after_route."
            raise ValueError(msg)
        return PhaseScheduler(self._scheduler, self.phase, config)

    def _schedule(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Task[Any, Any]:
        return self._scheduler._schedule(func, args, kwargs, self.phase, self.config)

    def __repr__(self) -> str:
        """Show the phase and the settings."""
        return f"<PhaseScheduler phase={self.phase} config={self.config}>"
