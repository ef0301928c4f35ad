# The document writes `-> dict`:
# mypy: disable-error-code="type-arg"
# pyright: reportMissingTypeArgument=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false

from fastapi import FastAPI
from fastapi_tasks import Task, Tasks, add_tasks

from tests.fastapi_tasks.documents.stand_ins import StandInError

app = FastAPI()
add_tasks(app)


async def process_payment_async(payment_id: int, amount: float) -> None:
    raise StandInError("card declined")


async def log_to_sentry(error: Exception) -> None: ...


async def send_alert(text: str) -> None: ...


async def initiate_refund(payment_id: int) -> None: ...


async def payment_error_handler(task: Task, error: Exception) -> None:
    # Log to error tracking
    await log_to_sentry(error)
    # Alert on-call engineer
    await send_alert(f"Payment task failed: {error}")
    # Attempt to refund if needed
    payment_id = task.kwargs.get("payment_id")
    if payment_id:
        await initiate_refund(payment_id)

@app.post("/payments")
async def create_payment(payment_id: int, amount: float, tasks: Tasks) -> dict:
    # Fully configured task
    tasks.task(
        name=f"process_payment_{payment_id}",
        shield=True,
        on_error=payment_error_handler
    ).schedule(process_payment_async, payment_id=payment_id, amount=amount)
    return {"status": "processing"}
