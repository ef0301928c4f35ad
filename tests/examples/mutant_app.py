"""The demo's application over a library that breaks one promise; MUTANT says which."""

import os
from typing import Any

from fastapi_tasks import Phase, TaskConfig, TasksScheduler

from examples.demo_app import app

__all__ = ["app"]

reach: Any = TasksScheduler.reach


async def begun(_self: TasksScheduler) -> None:
    pass


def reach_all(self: TasksScheduler, _phase: Phase, *, failed: bool = False) -> None:
    reach(self, Phase.AFTER_RESPONSE, failed=failed)


def reach_whatever_the_outcome(self: TasksScheduler, phase: Phase, *, failed: bool = False) -> None:
    del failed
    reach(self, phase)


mutants: dict[str, tuple[type[Any], str, object]] = {
    "no fence": (TasksScheduler, "begun", begun),
    "no phases": (TasksScheduler, "reach", reach_all),
    "no failed requests": (TasksScheduler, "reach", reach_whatever_the_outcome),
    "no shields": (TaskConfig, "shielded", property(lambda _config: False)),
}
setattr(*mutants[os.environ["MUTANT"]])
