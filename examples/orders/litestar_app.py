"""Take orders on Litestar, with work in all three phases.

The payment begins at once, beside the route (promise 1.1); the warehouse is told when the route has
returned (1.2), the customer when the response is out (1.3). An order that is refused skips both,
and the task for failed requests pays back (1.6).

    curl -X POST "http://127.0.0.1:8000/orders?item=tea"
    curl http://127.0.0.1:8000/orders/1
"""

from litestar import Litestar, get, post
from litestar.exceptions import HTTPException, NotFoundException
from litestar.params import FromPath, FromQuery
from litestar_tasks import Tasks, TasksPlugin

from examples.orders.tasks import (
    charge,
    notify_warehouse,
    orders,
    place_order,
    refund,
    reserve,
    send_confirmation,
)


@post("/orders")
async def create_order(item: FromQuery[str], tasks: Tasks) -> dict[str, int]:
    """Take an order."""
    order = place_order(item)
    payment = tasks.task(name=f"charge {order.number}", shield=True).schedule(charge, order)
    tasks.after_route.schedule(notify_warehouse, order)
    tasks.after_response.schedule(send_confirmation, order, payment)
    tasks.after_response.task(run_on="failure", shield=True).schedule(refund, order, payment)
    if not reserve(order):
        raise HTTPException(f"{item} is sold out", status_code=409)
    return {"number": order.number}


@get("/orders/{number:int}")
async def get_order(number: FromPath[int]) -> list[str]:
    """Say what has become of an order."""
    if number not in orders:
        raise NotFoundException(f"there is no order {number}")
    return orders[number].history


app = Litestar(
    [create_order, get_order],
    plugins=[TasksPlugin(grace_period=10)],
    logging_config=None,  # it is configured where the program is started
)
