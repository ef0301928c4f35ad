# The document writes `-> dict`, and annotates a parameter as `dict`:
# mypy: disable-error-code="type-arg"
# pyright: reportMissingTypeArgument=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false

from fastapi import FastAPI
from fastapi_tasks import Tasks, add_tasks

app = FastAPI()
add_tasks(app)


def save_order(order_data: dict[str, object]) -> int:
    return len(order_data)


async def finalize_order(order_id: int) -> None: ...


async def send_critical_notification(order_id: int) -> None: ...


@app.post("/order")
async def create_order(order_data: dict, tasks: Tasks) -> dict:
    order_id = save_order(order_data)
    # Shield after-route task
    tasks.after_route.task(
        name="finalize_order",
        shield=True
    ).schedule(finalize_order, order_id)
    # Shield after-response task
    tasks.after_response.task(
        name="send_confirmation",
        shield=True
    ).schedule(send_critical_notification, order_id)
    return {"order_id": order_id}
