"""The orders and their tasks, which the three applications of this folder share.

Everything is in memory.
"""

import logging
from dataclasses import dataclass, field
from itertools import count

import anyio
from tasks_core import Task

logger = logging.getLogger(__name__)


@dataclass
class Order:
    """An order, and what has become of it so far."""

    number: int
    item: str
    history: list[str] = field(default_factory=list[str])

    def note(self, what: str) -> None:
        """Add to the history."""
        self.history.append(what)
        logger.info("order %d: %s", self.number, what)


stock = {"tea": 100, "coffee": 100}
orders: dict[int, Order] = {}
_numbers = count(1)


def place_order(item: str) -> Order:
    """Make an order."""
    order = Order(next(_numbers), item)
    orders[order.number] = order
    return order


def reserve(order: Order) -> bool:
    """Take the item from the stock; return whether there was one."""
    if not stock.get(order.item):
        return False
    stock[order.item] -= 1
    return True


async def ask_bank() -> None:
    """Stand for the bank, which takes a while."""
    await anyio.sleep(0.2)


async def charge(order: Order) -> str:
    """Charge the customer; return the receipt."""
    order.note("payment begun")
    await ask_bank()
    order.note("paid")
    return f"receipt {order.number}"


async def notify_warehouse(order: Order) -> None:
    """Let the warehouse pack."""
    order.note("warehouse notified")


async def send_confirmation(order: Order, payment: Task[..., str]) -> None:
    """Confirm, once the payment has gone through; without it this fails as the payment did."""
    receipt = await payment.wait()
    order.note(f"confirmed with {receipt}")


async def refund(order: Order, payment: Task[..., str]) -> None:
    """Pay back what was paid for an order that was refused."""
    receipt = await payment.wait()
    order.note(f"refunded {receipt}")
