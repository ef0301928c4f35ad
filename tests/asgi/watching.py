"""What the tests of every framework share: tasks that tell when they began, and for which outcome.

It knows no framework: the folders that run with only one of them installed use it too.
"""

from __future__ import annotations

from functools import partial

from tasks_core import Phase, Task, TasksScheduler, TaskState

from tests.conformance.cases import async_function, at, finish, noting
from tests.conformance.driver import Server

IN_ORDER = ["immediate", "after_route", "start", "sent", "after_response"]
"""How a response and the tasks of all phases follow each other."""


class Watch:
    """Tasks of all phases, and the order in which they and the response's messages come."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.made: list[Task] = []

    def schedule(self, tasks: TasksScheduler) -> None:
        """Schedule a task for each phase, the last phase first."""
        for phase in reversed(Phase):
            task = async_function(partial(self.log.append, str(phase)))
            self.made.append(at(tasks, phase).schedule(task))

    async def request(self, server: Server, path: str = "/", method: str = "GET") -> list[str]:
        """Send a request; return what came in which order, once all tasks have ended."""
        await server.request(path, method=method, on_message=noting(self.log))
        return await self.ended()

    async def ended(self) -> list[str]:
        """Return what came in which order, once all tasks have ended."""
        await finish(self.made)
        return self.log


class Outcome:
    """Tasks that run on success and on failure, and which of them did."""

    def __init__(self) -> None:
        self.made: list[Task] = []

    def schedule(self, tasks: TasksScheduler) -> None:
        """Schedule a task for each later phase and outcome."""
        for batch in (tasks.after_route, tasks.after_response):
            self.made += [
                batch.task(name="success").schedule(len, ""),
                batch.task(name="failure", run_on="failure").schedule(len, ""),
            ]

    async def seen(self) -> list[str]:
        """Return the outcome as the two phases have seen it, once all tasks have ended."""
        await finish(self.made)
        return [task.name for task in self.made if task.state is TaskState.SUCCEEDED]


SUCCESS = ["success", "success"]
FAILURE = ["failure", "failure"]
