# The document writes `-> dict`:
# mypy: disable-error-code="type-arg"
# pyright: reportMissingTypeArgument=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false

from fastapi import FastAPI
from fastapi_tasks import Task, Tasks, add_tasks

from tests.fastapi_tasks.documents.stand_ins import StandInError, sentry_sdk

app = FastAPI()
add_tasks(app)


async def charge_card() -> None:
    raise StandInError("card declined")


async def send_alert(text: str) -> None: ...


async def payment_error_handler(task: Task, error: Exception) -> None:
    # Log to error tracking
    await sentry_sdk.capture_exception(error)

    # Alert on-call engineer
    await send_alert(f"Payment failed: {error}")


@app.post("/checkout")
async def checkout(tasks: Tasks) -> dict:
    tasks.task(
        name="process_payment",
        shield=True,
        on_error=payment_error_handler
    ).schedule(charge_card)

    return {"status": "ok"}
