"""The program `live` shows its tasks in a browser, and stops and runs them there.

The page alone, without a browser, is in tests/tasks_core/test_page.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from selenium.webdriver import Chrome

from tests.examples.live_page import BROWSER, DRIVER, Page, opened
from tests.examples.programs import launched

TASKS = ("charge", "pack", "confirm", "refund")


@pytest.fixture
def address() -> Iterator[str]:
    with launched("live") as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Open one browser for all, as that takes seconds."""
    if not (BROWSER and DRIVER):
        pytest.skip("no browser: apt-get install --no-install-recommends chromium chromium-driver")
    with opened(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(browser: Chrome, address: str) -> Iterator[Page]:
    page = Page(browser, address, framed=True)
    page.resize(1000)
    yield page
    browser.get("about:blank")  # its open stream would hold up the server's stop


def test_who_may_see_it(address: str) -> None:
    """It is shown to who sits at the machine, and its buttons are for itself."""
    assert httpx.get(f"{address}/tasks/").status_code == 200
    assert httpx.post(f"{address}/tasks/run?id=count_stock").status_code == 403
    assert httpx.post(f"{address}/orders", params={"pace": 0}).json() == {"order": 1}


def test_progress(page: Page) -> None:
    """Each task of an order appears, shows its progress, and ends; only then its button goes."""
    page.run("""
        window.seen = [];
        const see = () => document.querySelectorAll("#tasks tr").forEach(row => seen.push([
            row.querySelector(".name").textContent.split(": ")[1],
            row.querySelector(".state").textContent,
            row.querySelector("progress").position,
            row.querySelector("button").checkVisibility(),
        ]));
        new MutationObserver(see).observe(
            document.getElementById("tasks"), { attributes: true, childList: true, subtree: true }
        );
    """)
    page.place_order("accepted", 0.5)
    for name in ("charge", "pack", "confirm"):
        page.wait_for(f"order 1: {name}", "succeeded", "done")
        assert page.progress(f"order 1: {name}") == 1
    page.wait_for("order 1: refund", "skipped")

    seen: list[tuple[str, str, float, bool]] = [
        tuple(one) for one in page.run("return window.seen")
    ]
    for task, end in zip(TASKS, ("succeeded", "succeeded", "succeeded", "skipped"), strict=True):
        states = list(dict.fromkeys(state for name, state, _, _ in seen if name == task))
        assert states[-1] == end
        assert set(states[:-1]) <= {"pending", "running"}
        positions = [position for name, _, position, _ in seen if name == task]
        assert positions == sorted(positions)
        assert end == "skipped" or [position for position in positions if 0 < position < 1]
    for _, state, _, can_be_cancelled in seen:
        assert can_be_cancelled is (state in {"pending", "running"})


def test_failures(page: Page, address: str) -> None:
    """A failed task shows its error; of an order that is refused only the refund is done."""
    page.place_order("accepted, and its mail fails", 0.01)
    page.wait_for("order 1: confirm", "failed", "the mail server does not answer")
    page.place_order("refused", 0.01)
    page.wait_for("order 2: refund", "succeeded")
    page.wait_for("order 2: pack", "skipped")
    page.wait_for("order 2: confirm", "skipped")
    page.wait_for("order 2: charge", "succeeded")
    script = "return performance.getEntriesByType('resource').map(entry => entry.name)"
    assert all(url.startswith(address) for url in page.run(script))


def test_buttons(page: Page) -> None:
    """They cancel a task that runs, though shielded, and one that waits, and run by hand."""
    page.place_order("accepted", 3600)
    page.wait_for("order 1: charge", "running", "ask")
    page.wait_for("order 1: pack", "pending")
    page.wait_for("order 1: confirm", "pending")
    page.button("order 1: charge").click()
    page.button("order 1: confirm").click()
    page.wait_for("order 1: charge", "cancelled")
    page.wait_for("order 1: confirm", "cancelled")
    page.browser.refresh()  # what has ended is remembered, and what lives goes on
    page.enter()
    page.wait_for("order 1: charge", "cancelled", "ask")
    page.wait_for("order 1: confirm", "cancelled")
    page.wait_for("order 1: pack", "pending")
    page.wait_for("order 1: refund", "pending")

    assert page.names()[0] == "count_stock"  # by the clock
    page.button("count_stock").click()
    page.wait_for_last("count_stock", "succeeded")


def test_a_phone(page: Page) -> None:
    """All is in reach on a narrow screen, without moving it sideways."""
    page.place_order("accepted, and its mail fails", 0.01)
    page.wait_for("order 1: confirm", "failed", "the mail server does not answer")
    page.resize(500)
    wide, at_hand = page.run(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert wide <= at_hand
