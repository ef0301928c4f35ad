# The document writes `-> dict`, and annotates a parameter as `dict`:
# mypy: disable-error-code="type-arg"
# pyright: reportMissingTypeArgument=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false

from fastapi import FastAPI
from fastapi_tasks import Task, Tasks, add_tasks

from tests.fastapi_tasks.documents.stand_ins import StandInError

app = FastAPI()
add_tasks(app)


async def process_user_data(data: dict[str, object]) -> None:
    raise StandInError("bad data")


import sentry_sdk

async def send_to_error_tracking(task: Task, error: Exception) -> None:
    """Send task errors to Sentry"""
    with sentry_sdk.push_scope() as scope:
        scope.set_context("task", {
            "name": task.config.name,
            "function": task.func.__name__,
            "args": str(task.args),
            "kwargs": str(task.kwargs),
        })
        sentry_sdk.capture_exception(error)

@app.post("/process")
async def process_data(data: dict, tasks: Tasks) -> dict:
    tasks.task(
        name="process_user_data",
        on_error=send_to_error_tracking
    ).schedule(process_user_data, data)
    return {"status": "processing"}
