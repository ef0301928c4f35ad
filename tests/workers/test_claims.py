"""Contract 10.6 in four workers of a real server, by the recipes of `docs/periodic.md`."""

from __future__ import annotations

import os
import re
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from tests.docs.programs import ROOT, Program, programs_of, write
from tests.engines.processes import Redis
from tests.servers.server import Server

RECIPES = {
    program.name: program
    for program in programs_of(ROOT / "docs" / "periodic.md")
    if program.name.startswith("claim_")
}
WORKERS = 4


def table(recipe: Program) -> str:
    """Return the statement that a recipe shows for its table."""
    (statement,) = re.findall(r"^# (CREATE TABLE .+)$", recipe.source, re.MULTILINE)
    return str(statement)


def open_redis(request: pytest.FixtureRequest) -> dict[str, str]:
    redis: Redis = request.getfixturevalue("redis")
    return {"REDIS_PORT": str(redis.port)}


def open_postgres(request: pytest.FixtureRequest) -> dict[str, str]:
    address: str = request.getfixturevalue("postgres")
    with psycopg.connect(address) as connection:
        connection.execute(table(RECIPES["claim_postgres"]).encode())
    return {"DATABASE_URL": address}


def open_sqlite(request: pytest.FixtureRequest) -> dict[str, str]:
    path: Path = request.getfixturevalue("tmp_path") / "claims.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(table(RECIPES["claim_sqlite"]))
    return {"DATABASE": str(path)}


STORES = {"claim_redis": open_redis, "claim_postgres": open_postgres, "claim_sqlite": open_sqlite}


def asked(server: Server, name: str) -> dict[str, list[tuple[str, str]]]:
    """Return, by the moment, which processes have asked whether to run, and what they were told."""
    found: dict[str, list[tuple[str, str]]] = {}
    for what, *rest in map(str.split, list(server.said)):
        if what == name:
            at, process, answer = rest
            found.setdefault(at, []).append((process, answer))
    return found


def test_every_recipe() -> None:
    """Each recipe of the page is run here."""
    assert set(RECIPES) == set(STORES)


@pytest.mark.parametrize("recipe", STORES)
def test_10_6_four_workers(
    recipe: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10.6: With a claim one of four workers runs it at each moment, without one all of them do."""
    write([RECIPES[recipe]], tmp_path / "recipes")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "recipes"), prepend=os.pathsep)
    environment = {**STORES[recipe](request), "TESTS_CLAIM": recipe}
    # Else workers that take their time to start on a busy machine are replaced.
    arguments = ["--workers", str(WORKERS), "--timeout-worker-healthcheck", "60"]
    app = "tests.workers.apps.clocks:app"
    with Server("uvicorn", app, tmp_path / "log", arguments, environment) as server:

        def by_all(name: str) -> set[str]:
            return {at for at, told in asked(server, name).items() if len(told) == WORKERS}

        server.wait_until(lambda _: len(by_all("once") & by_all("everywhere")) >= 3)

    runs = Counter(what for what in server.said if what.startswith("ran "))
    once, everywhere = asked(server, "once"), asked(server, "everywhere")
    for at in by_all("once") & by_all("everywhere"):
        assert len({process for process, _ in once[at]}) == WORKERS
        assert sorted(answer for _, answer in once[at]) == ["False"] * (WORKERS - 1) + ["True"]
        assert [answer for _, answer in everywhere[at]] == ["True"] * WORKERS
    won = [answer for told in once.values() for _, answer in told].count("True")
    assert runs["ran once"] == won <= len(once)
    assert runs["ran everywhere"] == sum(map(len, everywhere.values())) > won
