# The document writes `-> dict`, and its error handler's `task` has no annotation:
# mypy: disable-error-code="type-arg, no-untyped-def"
# pyright: reportMissingTypeArgument=false, reportMissingParameterType=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from fastapi import FastAPI
from fastapi_tasks import Tasks, add_tasks

from tests.fastapi_tasks.documents.stand_ins import StandInError

app = FastAPI()
add_tasks(app)


async def process_order(order_id: int) -> None:
    raise StandInError(f"out of stock: {order_id}")


async def on_task_error(task, exception: Exception) -> None:
    print(f"Task {task.config.name} failed: {exception}")


@app.post("/orders")
async def create_order(order_id: int, tasks: Tasks) -> dict:
    # Configure task with name and error handler
    tasks.task(
        name="process_order",
        shield=True,  # protect from cancellation
        on_error=on_task_error,
    ).schedule(process_order, order_id)

    return {"order_id": order_id}
