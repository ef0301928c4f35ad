"""The program `periodic` runs by the clock and by hand; so does what the docs set beside it."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Annotated, Any

import pytest
from fastapi import Depends
from fastapi.testclient import TestClient
from tasks_core.testing import drain, inline

from examples.periodic import tasks
from tests.examples.conftest import GUARD, Log
from tests.examples.programs import FRAMEWORKS, ROOT, client

ADMIN = {"x-admin-key": "secret"}


@pytest.fixture(autouse=True)
def _no_sessions() -> None:
    tasks.sessions.clear()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_by_hand(framework: str, log: Log) -> None:
    """10.7 Administrators see when each runs next, run it now, and pause it; others do not."""
    with client(f"periodic.{framework}_app") as http:
        path = "/admin/periodic"
        refused = [
            http.get(path),
            http.post(f"{path}/daily_report/run"),
            http.put(f"{path}/daily_report?paused=true"),
        ]
        assert [answer.status_code for answer in refused] == [403] * 3
        http.headers.update(ADMIN)

        cleanup, report = http.get(path).json()
        assert (cleanup["name"], report["name"]) == ("cleanup_sessions", "daily_report")
        assert (report["last_run"], report["paused"]) == (None, False)
        assert report["next_run_time"][10:16] == "T09:00"
        assert cleanup["next_run_time"].endswith("T00:00:00+00:00")

        with drain():
            assert http.post(f"{path}/daily_report/run").status_code == 202
        assert "daily report: 0 sessions are open" in log.of("examples.periodic.tasks")
        assert http.put(f"{path}/daily_report?paused=true").json() == report | {
            "last_run": "succeeded",
            "paused": True,
        }
        assert http.post(f"{path}/unknown/run").status_code == 404
        assert http.put(f"{path}/unknown?paused=true").status_code == 404


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_clean_up(framework: str) -> None:
    """The clean-up forgets what has expired, and nothing else."""
    with client(f"periodic.{framework}_app") as http:
        http.post("/sessions?seconds=-1")
        token = http.post("/sessions").json()["token"]
        assert len(tasks.sessions) == 2
        with drain():
            http.post("/admin/periodic/cleanup_sessions/run", headers=ADMIN)
    assert list(tasks.sessions) == [token]


def test_clock() -> None:
    """10.2 The clean-up is due at midnight in UTC, the report at nine in Berlin."""
    winter, summer = (datetime(2026, month, 15, 12, tzinfo=UTC) for month in (1, 7))
    cleanup, report = (periodic.trigger for periodic in tasks.PERIODIC)
    tomorrow = timedelta(days=1)
    for now, hour in ((winter, 8), (summer, 7)):
        midnight = now.replace(hour=0) + tomorrow
        assert cleanup.get_next_fire_time(None, now) == midnight
        assert report.get_next_fire_time(None, now) == midnight + timedelta(hours=hour)


# Before and after, in docs/periodic.md.

BEFORE, AFTER = "With APScheduler", "With fastapi-tasks"


class Database:
    def __init__(self) -> None:
        self.executed: list[str] = []

    async def execute(self, statement: str) -> None:
        self.executed.append(statement)


def blocks() -> dict[str, tuple[int, str]]:
    """Return the promised number of lines and the program, by the title."""
    text = (ROOT / "docs" / "periodic.md").read_text(encoding="utf-8")
    block = r"^\*\*([^:*]+): (\d+) lines\*\*\n.*?^```python\n(.*?)^```$"
    found = re.findall(block, text, re.DOTALL | re.MULTILINE)
    return {title: (int(lines), code) for title, lines, code in found}


@pytest.fixture
def program(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Run a program of the page, with a stand-in for what it leaves out."""
    name = f"periodic_{request.param.split()[-1].replace('-', '_')}"
    module = ModuleType(name)
    sent: list[object] = []

    async def generate_report() -> str:
        return "all is well"

    async def send_email(to: str, text: str) -> None:
        sent.append((to, text))

    vars(module).update(
        AdminUser=Annotated[str, Depends(lambda: "ada")],
        db=Database(),
        generate_report=generate_report,
        send_email=send_email,
        sent=sent,
    )
    sys.modules[name] = module
    exec(compile(blocks()[request.param][1], name, "exec"), vars(module))  # noqa: S102 - it is ours
    yield module
    del sys.modules[name]


def test_lines() -> None:
    """Each program has as many lines as its title says."""
    assert list(blocks()) == [BEFORE, AFTER]
    for lines, code in blocks().values():
        assert sum(bool(line.strip()) for line in code.splitlines()) == lines


@pytest.mark.parametrize("program", [AFTER], indirect=True)
def test_after(program: Any) -> None:
    """Ours runs both by their names, and says what has become of them."""
    with TestClient(program.app) as http, inline():
        for name in ("cleanup", "report"):
            assert http.post(f"/admin/trigger/{name}").status_code == 202
        assert http.post("/admin/trigger/unknown").status_code == 404
    assert program.db.executed == ["DELETE FROM sessions WHERE expires < NOW()"]
    assert program.sent == [("admin@example.com", "all is well")]


@pytest.mark.parametrize("program", [BEFORE], indirect=True)
def test_before(program: Any) -> None:
    """APScheduler's runs what is triggered, and its shutdown cancels what runs."""
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def generate_report() -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return ""

    async def main() -> None:
        program.generate_report = generate_report
        async with asyncio.timeout(GUARD):
            async with program.lifespan(program.app):
                await program.trigger_job("daily_report", "ada")
                await begun.wait()
            await cancelled.wait()

    asyncio.run(main())
    assert program.sent == []
