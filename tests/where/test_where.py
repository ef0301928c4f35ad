"""Where tasks can be had, by framework and place: each cell of the table in docs/where.md."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tasks_core import RunnerClosedError, Task, TasksScheduler, TasksUninitializedError
from tasks_core._exceptions import Closed, Missing  # noqa: PLC2701
from tasks_core.testing import drain

from tests.conformance.driver import serve
from tests.where.places import PLACES

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs" / "where.md"


async def nothing() -> None: ...


class Asked:
    """What asks: it schedules a task for each phase, or notes why it cannot."""

    def __init__(self) -> None:
        self.made: list[Task] = []
        self.refusals: list[Exception] = []

    def __call__(self, get: Callable[[], TasksScheduler]) -> None:
        try:
            tasks = get()
            made = [
                batch.task(run_on="always").schedule(nothing)
                for batch in (tasks.task(), tasks.after_route, tasks.after_response)
            ]
        except (TasksUninitializedError, RunnerClosedError) as error:
            self.refusals.append(error)
        else:
            self.made += made


async def ask_in(framework: str, place: str) -> Asked:
    """Run the application of a place, and return what has become of its tasks."""
    asked = Asked()
    async with serve(PLACES[framework, place](asked)) as server, drain():
        if "WebSocket" in place:
            async with server.websocket() as client:
                await client.receive()
        else:
            await server.request()
    return asked


# The places where tasks cannot be had, with the causes that an error may name there.
REFUSED: dict[str, set[object]] = {
    "thread without the context": {Missing.CONTEXT},
    "lifespan shutdown": {Closed.SHUT_DOWN},
    "shutdown hook": {Closed.SHUT_DOWN, Missing.CONTEXT},  # the latter in Litestar, which it names
}


@pytest.mark.parametrize(("framework", "place"), PLACES)
async def test_where_tasks_can_be_had(framework: str, place: str) -> None:
    """2.7 Tasks of every phase can be had there and run; or the error says what is true."""
    asked = await ask_in(framework, place)
    if place in REFUSED:
        (refusal,) = asked.refusals
        assert refusal.args[-1] in REFUSED[place]
        assert not asked.made
    else:
        assert not asked.refusals
        assert [str(task.state) for task in asked.made] == ["succeeded"] * 3


def test_the_table() -> None:
    """2.7 The table of the documentation has each of these cells, and no other."""
    rows = re.findall(r"^\| (.*?) \| (.*?) \| (.*?) \| (.*?) \|$", PAGE.read_text(), re.MULTILINE)
    heads, _, *rest = rows
    cells: dict[tuple[str, str], str] = {
        (framework, place): cell
        for place, *of in rest
        for framework, cell in zip(heads[1:], of, strict=True)
    }
    expected: dict[tuple[str, str], Any] = {
        (framework, place): cells.get((framework, place)) for framework, place in PLACES
    }
    assert {key: cell for key, cell in cells.items() if cell != "-"}.keys() == expected.keys()
    for (framework, place), cell in expected.items():
        assert cell.startswith("no" if place in REFUSED else "yes"), (framework, place)
