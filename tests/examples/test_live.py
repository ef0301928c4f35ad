"""The program `live` shows its tasks in a browser, and stops them there."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from fastapi_tasks import TaskRecord, TasksScheduler
from tasks_core import TaskRunner

from examples import live
from tests.examples.live_page import BROWSER, DRIVER, Page, browsing
from tests.examples.programs import GUARD, launched

TASKS = ("charge", "pack", "confirm", "refund")
needs_browser = pytest.mark.skipif(
    not (BROWSER and DRIVER),
    reason="no browser: apt-get install --no-install-recommends chromium chromium-driver",
)


@pytest.fixture
def address() -> Iterator[str]:
    with launched("live") as address:
        yield address


@pytest.fixture
def http(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=GUARD) as http:
        yield http


@pytest.fixture
def page(address: str, tmp_path: Path) -> Iterator[Page]:
    with browsing(address, tmp_path / "profile") as page:
        yield page


@contextmanager
def listening(http: httpx.Client) -> Generator[Iterator[dict[str, Any]]]:
    """Open the stream, and iterate over the records that it sends."""

    def records(response: httpx.Response) -> Iterator[dict[str, Any]]:
        deadline = time.monotonic() + GUARD
        for line in response.iter_lines():  # pings, too, so it never times out by itself
            assert time.monotonic() < deadline
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))

    with http.stream("GET", "/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        yield records(response)


def until_over(records: Iterator[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Read on until the four tasks of an order are over; return what was said of each."""
    said: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        said.setdefault(record["name"].partition(": ")[2], []).append(record)
        if sum(of_task[-1]["ended_at"] is not None for of_task in said.values()) == len(TASKS):
            return said
    raise AssertionError("the stream has ended")


def test_stream(http: httpx.Client) -> None:
    """The stream tells of all tasks of an order to their ends; a second one, of what has been."""
    with listening(http) as records:
        assert http.post("/orders", params={"pace": 0.01}).json() == {"order": 1}
        said = until_over(records)
    assert {name: of_task[-1]["state"] for name, of_task in said.items()} == {
        "charge": "succeeded",
        "pack": "succeeded",
        "confirm": "succeeded",
        "refund": "skipped",
    }
    assert said["charge"][-1]["progress"] == {"done": 3, "total": 3, "message": "done"}
    for of_task in said.values():
        done = [record["progress"]["done"] for record in of_task if record["progress"]]
        assert done == sorted(set(done))
    with listening(http) as records:
        assert until_over(records) == {name: of_task[-1:] for name, of_task in said.items()}


@pytest.mark.anyio
async def test_waiting() -> None:
    """The stream tells of a task as soon as it is followed, though nothing has happened to it."""
    told: list[TaskRecord] = []

    async def listen(tasks: TasksScheduler) -> None:
        async with aclosing(live.stream_events(tasks)) as stream:
            told.append(await anext(stream))

    with anyio.fail_after(GUARD):
        async with TaskRunner() as runner, anyio.create_task_group() as group:
            tasks = TasksScheduler(runner)
            group.start_soon(listen, tasks)
            await anyio.wait_all_tasks_blocked()
            task = tasks.after_response.task(name="later").schedule(print)
            live.follow(tasks, task)
    assert [(record.name, record.state) for record in told] == [("later", "pending")]


@needs_browser
def test_progress(page: Page) -> None:
    """Each task of an order appears, shows its progress, and ends; only then the button goes."""
    page.run("""
        window.seen = [];
        const see = () => document.querySelectorAll("#tasks tr").forEach(row => seen.push([
            row.querySelector(".name").textContent.split(": ")[1],
            row.querySelector(".state").textContent,
            row.querySelector("progress").position,
            row.querySelector(".stop").disabled,
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
    for _, state, _, disabled in seen:
        assert disabled is (state not in {"pending", "running"})


@needs_browser
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


@needs_browser
def test_stop(page: Page) -> None:
    """The button stops a task that runs, though shielded, and one that waits, and no other."""
    page.place_order("accepted", 3600)
    page.wait_for("order 1: charge", "running", "ask")
    page.wait_for("order 1: pack", "pending")
    page.wait_for("order 1: confirm", "pending")
    page.stop_button("order 1: charge").click()
    page.stop_button("order 1: confirm").click()
    page.wait_for("order 1: charge", "cancelled")
    page.wait_for("order 1: confirm", "cancelled")
    page.browser.refresh()  # what has ended is remembered, and what lives goes on
    page.wait_for("order 1: charge", "cancelled", "ask")
    page.wait_for("order 1: confirm", "cancelled")
    page.wait_for("order 1: pack", "pending")
    page.wait_for("order 1: refund", "pending")
