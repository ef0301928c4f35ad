"""Take orders on Starlette, with work in all three phases.

The payment begins at once, beside the route (promise 1.1); the warehouse is told when the route has
returned (1.2), the customer when the response is out (1.3). An order that is refused skips both,
and the task for failed requests pays back (1.6).

    curl -X POST "http://127.0.0.1:8000/orders?item=tea"
    curl http://127.0.0.1:8000/orders/1
"""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette_tasks import add_tasks, get_tasks

from examples.orders.tasks import (
    charge,
    notify_warehouse,
    orders,
    place_order,
    refund,
    reserve,
    send_confirmation,
)


async def create_order(request: Request) -> JSONResponse:
    """Take an order."""
    tasks = get_tasks(request)
    item = request.query_params.get("item", "")
    order = place_order(item)
    payment = tasks.task(name=f"charge {order.number}", shield=True).schedule(charge, order)
    tasks.after_route.schedule(notify_warehouse, order)
    tasks.after_response.schedule(send_confirmation, order, payment)
    tasks.after_response.task(run_on="failure", shield=True).schedule(refund, order, payment)
    if not reserve(order):
        raise HTTPException(409, f"{item} is sold out")
    return JSONResponse({"number": order.number}, 201)


async def get_order(request: Request) -> JSONResponse:
    """Say what has become of an order."""
    number: int = request.path_params["number"]
    if number not in orders:
        raise HTTPException(404, f"there is no order {number}")
    return JSONResponse(orders[number].history)


app = Starlette(
    routes=[
        Route("/orders", create_order, methods=["POST"]),
        Route("/orders/{number:int}", get_order),
    ]
)
add_tasks(app, grace_period=10)
