"""A job that is queued within a transaction, by the recipe of `docs/outgrowing.md`."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import anyio
import psycopg
import pytest

from tests.conformance.driver import serve
from tests.docs.programs import ROOT, programs_of, write

GUARD = 60.0
NAME = "in_transaction"
PAGE = ROOT / "docs" / "outgrowing.md"


def procrastinate(folder: Path, *arguments: str) -> None:
    """Run the page's command line, in the folder that has the recipe."""
    (line,) = re.findall("`(.+) schema --apply`", PAGE.read_text(encoding="utf-8"))
    subprocess.run(
        [*shlex.split(line), *arguments],
        check=True,
        capture_output=True,
        cwd=folder,
        timeout=GUARD,
    )


def test_a_job_is_committed_with_the_row_or_not_at_all(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8.10: A commit that fails leaves no job; one that succeeds leaves one for a worker."""
    (recipe,) = (it for it in programs_of(PAGE) if it.name == NAME)
    write([recipe], tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("DATABASE_URL", postgres)
    commands = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", os.pathsep.join([commands, os.environ["PATH"]]))
    procrastinate(tmp_path, "schema", "--apply")

    async def place_twice() -> list[int]:
        async with serve(import_module(NAME).app) as server:
            return [(await server.request("/orders/7", method="POST")).status for _ in range(2)]

    with psycopg.connect(postgres, autocommit=True) as connection:
        # The second is refused by the commit, when its job has been queued.
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)")
        assert anyio.run(place_twice) == [202, 500]
        jobs = "SELECT task_name, args, status::text FROM procrastinate_jobs"
        assert connection.execute(jobs).fetchall() == [("ship", {"order": 7}, "todo")]
        procrastinate(tmp_path, "worker", "--one-shot")
        assert connection.execute(jobs).fetchall() == [("ship", {"order": 7}, "succeeded")]
