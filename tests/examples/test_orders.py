"""The program `orders` works in all three phases, on every framework."""

from __future__ import annotations

import anyio
import pytest
from tasks_core import Phase, current_task

from examples.orders import tasks
from examples.orders.tasks import orders, stock
from tests.examples.conftest import GUARD
from tests.examples.programs import FRAMEWORKS, client


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_accepted(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """1.1, 1.2, 2.6: The response waits for no task, the confirmation for the payment."""
    shutdown = anyio.Event()

    async def until_shutdown() -> None:
        with anyio.fail_after(GUARD):
            await shutdown.wait()

    monkeypatch.setattr(tasks, "ask_bank", until_shutdown)
    with client(f"orders.{framework}_app", on_shutdown=shutdown.set) as http:
        response = http.post("/orders", params={"item": "tea"})
        assert response.status_code == 201
        number = response.json()["number"]
        begun = ["payment begun", "warehouse notified"]
        assert http.get(f"/orders/{number}").json() == begun
    assert orders[number].history == [*begun, "paid", f"confirmed with receipt {number}"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_phases(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """1.1 to 1.3: There is a task in each phase."""
    phases: dict[str, Phase] = {}

    def watch(name: str) -> None:
        async def watched(*_: object) -> None:
            phases[name] = current_task().phase

        monkeypatch.setattr(f"examples.orders.{framework}_app.{name}", watched)

    for name in ("charge", "notify_warehouse", "send_confirmation"):
        watch(name)
    with client(f"orders.{framework}_app") as http:
        http.post("/orders", params={"item": "tea"})
    assert list(phases.items()) == [
        ("charge", Phase.IMMEDIATE),
        ("notify_warehouse", Phase.AFTER_ROUTE),
        ("send_confirmation", Phase.AFTER_RESPONSE),
    ]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_refused(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """1.6 An order that is refused is paid back, and nobody is told of it."""
    monkeypatch.setitem(stock, "tea", 0)
    with client(f"orders.{framework}_app") as http:
        response = http.post("/orders", params={"item": "tea"})
        assert response.status_code == 409
        assert "tea is sold out" in response.text
    number = max(orders)
    assert orders[number].history == ["payment begun", "paid", f"refunded receipt {number}"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_unknown(framework: str) -> None:
    """An order that nobody placed is not found."""
    with client(f"orders.{framework}_app") as http:
        assert http.get("/orders/0").status_code == 404
