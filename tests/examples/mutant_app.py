"""The demo's application over a library that breaks promises; MUTANTS says which."""

import os
from typing import Any

from fastapi_tasks import TaskConfig, TasksScheduler

from examples.demo_app import app

__all__ = ["app"]


async def begun(_self: TasksScheduler) -> None:
    pass


def fail(_self: TasksScheduler, _error: object) -> None:
    pass


mutants: dict[str, tuple[type[Any], str, object]] = {
    "no fence": (TasksScheduler, "begun", begun),
    "no phases": (TasksScheduler, "after_response", TasksScheduler.after_route),
    "no failed requests": (TasksScheduler, "_fail", fail),
    "no shields": (TaskConfig, "shielded", property(lambda _config: False)),
}
for mutant in os.environ["MUTANTS"].split(","):
    setattr(*mutants[mutant])
