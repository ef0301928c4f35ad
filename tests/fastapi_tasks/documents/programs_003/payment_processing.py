# The document writes `-> dict`:
# mypy: disable-error-code="type-arg"
# pyright: reportMissingTypeArgument=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false

from fastapi import FastAPI
from fastapi_tasks import Tasks, add_tasks

app = FastAPI()
add_tasks(app)


def update_payment_status(payment_id: int, status: str) -> None: ...


def charge_card(payment_id: int, amount: float) -> None: ...


def send_receipt(payment_id: int) -> None: ...


async def finalize_payment(payment_id: int, amount: float) -> None:
    # Update payment status in database
    update_payment_status(payment_id, "completed")
    # Charge the credit card
    charge_card(payment_id, amount)
    # Send receipt
    send_receipt(payment_id)

@app.post("/payments")
async def process_payment(
    payment_id: int,
    amount: float,
    tasks: Tasks
) -> dict:
    # Shield this task - payments MUST complete
    tasks.task(
        name=f"finalize_payment_{payment_id}",
        shield=True
    ).schedule(finalize_payment, payment_id, amount)
    return {"status": "processing", "payment_id": payment_id}
