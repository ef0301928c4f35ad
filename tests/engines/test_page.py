"""The programs of `docs/outgrowing.md`, with workers that are started by the page's own lines."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.programs import ROOT, programs_of
from tests.engines.processes import GUARD, Engine, Process

PAGE = ROOT / "docs" / "outgrowing.md"
PLACE_AN_ORDER = """
from fastapi.testclient import TestClient
from fastapi_tasks.testing import drain
from shop import app

with TestClient(app) as client, drain():
    print(client.post("/orders/7").json()["task_id"])
"""


def in_production(text: str, redis: str) -> str:
    """Return a text of the page, with a Redis of the test's own where it has another, or none."""
    for written, meant in (
        (r"redis://localhost:6379/\d|memory://\w+", redis),
        ("from taskiq import InMemoryBroker", "from taskiq_redis import RedisStreamBroker"),
        (r"InMemoryBroker\(\)", f'RedisStreamBroker("{redis}", consumer_id="0")'),
    ):
        text = re.sub(written, meant, text)
    return text


def test_8_a_worker_is_started_by_the_line_of_the_page(
    engine: Engine, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8: It finds the shop in the folder where it is started, and does what a route scheduled."""
    (program,) = (it for it in programs_of(PAGE) if it.tab == engine.name.title())
    shop, _, _ = program.source.partition("\nfrom fastapi.testclient")  # the page's own test of it
    (tmp_path / "shop.py").write_text(in_production(shop, database), encoding="utf-8")
    lines = re.findall("Start workers with `(.+?)`", PAGE.read_text(encoding="utf-8"))
    (line,) = (it for it in lines if f"{engine.name} " in it)
    commands = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", os.pathsep.join([commands, os.environ["PATH"]]))
    placed = subprocess.run(
        [sys.executable, "-c", PLACE_AN_ORDER],
        check=True,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        timeout=GUARD,
    )
    command = shlex.split(in_production(line, database))
    with Process(command, tmp_path / "worker", folder=tmp_path) as worker:
        worker.wait_for_log(placed.stdout.strip())
