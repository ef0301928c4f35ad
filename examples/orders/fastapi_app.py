"""Take orders on FastAPI, with work in all three phases.

The payment begins at once, beside the route (promise 1.1); the warehouse is told when the route has
returned (1.2), the customer when the response is out (1.3). An order that is refused skips both,
and the task for failed requests pays back (1.6).

    curl -X POST "http://127.0.0.1:8000/orders?item=tea"
    curl http://127.0.0.1:8000/orders/1
"""

from fastapi import FastAPI, HTTPException
from fastapi_tasks import Tasks, add_tasks

from examples.orders.tasks import (
    charge,
    notify_warehouse,
    orders,
    place_order,
    refund,
    reserve,
    send_confirmation,
)

app = FastAPI()
add_tasks(app, grace_period=10)


@app.post("/orders", status_code=201)
async def create_order(item: str, tasks: Tasks) -> dict[str, int]:
    """Take an order."""
    order = place_order(item)
    payment = tasks.task(name=f"charge {order.number}", shield=True).schedule(charge, order)
    tasks.after_route.schedule(notify_warehouse, order)
    tasks.after_response.schedule(send_confirmation, order, payment)
    tasks.after_response.task(run_on="failure", shield=True).schedule(refund, order, payment)
    if not reserve(order):
        raise HTTPException(409, f"{item} is sold out")
    return {"number": order.number}


@app.get("/orders/{number}")
async def get_order(number: int) -> list[str]:
    """Say what has become of an order."""
    if number not in orders:
        raise HTTPException(404, f"there is no order {number}")
    return orders[number].history
