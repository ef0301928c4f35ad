"""What the checkers promise of litestar-tasks; checked, never run (contract 6.3)."""

from typing import Any, assert_type

from litestar import Controller, Litestar, WebSocket, get, websocket
from litestar_tasks import TaskConfig, Tasks, TasksPlugin, TasksScheduler


async def connect(user: str) -> int:
    return len(user)


@get("/")
async def handler(tasks: Tasks) -> int:
    assert_type(tasks, TasksScheduler)
    tasks.schedule(connect, 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    return await tasks.task(shield=True).schedule(connect, user="x").wait()


class Reports(Controller):
    path = "/reports"
    opt = {"tasks": TaskConfig(shield=True)}  # noqa: RUF012 - Litestar's idiom

    @get("/", sync_to_thread=True)
    def report(self, tasks: Tasks) -> str:
        return tasks.after_response.schedule(connect, "x").id


@websocket("/socket")
async def socket(socket: WebSocket[Any, Any, Any], tasks: Tasks) -> None:
    await socket.accept()
    tasks.after_route.schedule(connect, "x")


app = Litestar(
    [handler, Reports, socket],
    plugins=[TasksPlugin(config=TaskConfig(name="x"), shutdown_timeout=20)],
)
TasksPlugin(grace=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
