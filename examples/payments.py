"""Take payments that a shutdown waits for, and refund those that fail.

The task is shielded: when the server stops, the payment completes (promise 5.2). If it fails, its
error handler refunds, inside the same shield (4.3). The receipt, which the payment's task schedules
(2.3), may be lost: its task is not shielded, so a shutdown cancels it and names it in the log
(5.3).

    curl -X POST "http://127.0.0.1:8000/payments/1?amount=9.99"
    curl -X POST "http://127.0.0.1:8000/payments/2?amount=9999"
    curl http://127.0.0.1:8000/payments/2
"""

import logging
from typing import Annotated

import anyio
from fastapi import FastAPI, HTTPException, Query
from fastapi_tasks import Task, Tasks, add_tasks, current_tasks

LIMIT = 1000

logger = logging.getLogger(__name__)
payments: dict[int, str] = {}


async def ask_bank() -> None:
    """Stand for the bank, which takes a while."""
    await anyio.sleep(0.2)


async def finalize_payment(payment_id: int, amount: float) -> None:
    """Charge the card, book the payment, have a receipt sent."""
    payments[payment_id] = "charged"
    await ask_bank()
    if amount > LIMIT:
        raise ValueError(f"payment {payment_id} is over the limit")
    payments[payment_id] = "completed"
    current_tasks().task(name=f"receipt {payment_id}").schedule(send_receipt, payment_id)


async def send_receipt(payment_id: int) -> None:
    """Send a receipt."""
    logger.info("receipt for payment %d", payment_id)


async def refund(task: Task, error: Exception) -> None:
    """Pay back what could not be booked."""
    payment_id: int = task.kwargs["payment_id"]
    await ask_bank()
    payments[payment_id] = "refunded"
    logger.warning("refunded payment %d: %s", payment_id, error)


app = FastAPI()
add_tasks(app, shutdown_timeout=30)


@app.post("/payments/{payment_id}", status_code=202)
async def pay(
    payment_id: int, amount: Annotated[float, Query(gt=0)], tasks: Tasks
) -> dict[str, str]:
    """Begin a payment."""
    if payment_id in payments:
        raise HTTPException(409, f"there is a payment {payment_id} already")
    payments[payment_id] = "processing"
    tasks.task(name=f"payment {payment_id}", shield=True, on_error=refund).schedule(
        finalize_payment, payment_id=payment_id, amount=amount
    )
    return {"status": "processing"}


@app.get("/payments/{payment_id}")
async def get_payment(payment_id: int) -> dict[str, str]:
    """Say how a payment stands."""
    if payment_id not in payments:
        raise HTTPException(404, f"there is no payment {payment_id}")
    return {"status": payments[payment_id]}
