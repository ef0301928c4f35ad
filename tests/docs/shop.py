"""What the hidden parts of the page on databases check, of an application that takes orders."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tests.docs.watching import Calls


def check(client: Any, program: dict[str, Any]) -> None:
    """Place an order, and see that its task has found and confirmed it.

    Args:
        client: The framework's test client, not started yet.
        program: The globals of the page's program.
    """
    database = import_module("shop_database")
    calls = Calls()
    program["confirm"] = calls.of(program["confirm"])

    async def is_confirmed(order_id: int) -> object:
        async with database.sessions() as session:
            order = await session.get_one(database.Order, order_id)
            return order.confirmed

    with client:
        # Litestar has it under the first name, Starlette under the second.
        portal = getattr(client, "blocking_portal", None) or client.portal
        portal.call(database.create_tables)
        order_id = int(client.post("/orders?item=bread").text)
        assert calls.wait(1) == [(order_id,)]
        assert portal.call(is_confirmed, order_id) is True
        portal.call(database.engine.dispose)
