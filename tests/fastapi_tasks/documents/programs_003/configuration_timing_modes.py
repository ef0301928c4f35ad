# The document writes `-> dict`:
# mypy: disable-error-code="type-arg"
# pyright: reportMissingTypeArgument=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false

from fastapi import FastAPI
from fastapi_tasks import Task, Tasks, add_tasks

from tests.fastapi_tasks.documents.stand_ins import StandInError

app = FastAPI()
add_tasks(app)


async def immediate_operation() -> None:
    raise StandInError("immediate")


async def cleanup_resources() -> None: ...


def send_notification() -> None:
    raise StandInError("notification")


def log_error(task: Task, error: Exception) -> None: ...


async def notification_error_handler(task: Task, error: Exception) -> None: ...


@app.post("/comprehensive")
async def comprehensive_example(tasks: Tasks) -> dict:
    # Immediate task with configuration
    tasks.task(
        name="immediate_task",
        on_error=log_error
    ).schedule(immediate_operation)
    # After-route task with configuration
    tasks.after_route.task(
        name="cleanup_task",
        shield=True
    ).schedule(cleanup_resources)
    # After-response task with configuration
    tasks.after_response.task(
        name="notification_task",
        on_error=notification_error_handler
    ).schedule(send_notification)
    return {"status": "ok"}
