"""Contract 10.6 in four workers of a real server, by the recipes of `docs/periodic.md`."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from shutil import which

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


STORES = {
    "claim_redis": (open_redis, "redis-server"),
    "claim_postgres": (open_postgres, "pg_ctl"),
    "claim_sqlite": (open_sqlite, sys.executable),
}
"""For each recipe, what makes its store and says where it is, and what that needs."""


def asked(server: Server, name: str) -> dict[str, list[tuple[str, str]]]:
    """Return, by the moment, which processes have asked whether to run, and what they were told."""
    found: dict[str, list[tuple[str, str]]] = {}
    for what, *rest in map(str.split, list(server.said)):
        if what == name:
            at, process, answer = rest
            found.setdefault(at, []).append((process, answer))
    return found


def by_all(server: Server, name: str) -> set[str]:
    """Return the moments of which each worker has asked."""
    return {at for at, told in asked(server, name).items() if len(told) == WORKERS}


def test_every_recipe() -> None:
    """Each recipe of the page is run here."""
    assert set(RECIPES) == set(STORES)


def test_10_6_four_workers(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10.6: With a claim one of four workers runs it at each moment, without one all of them do."""
    recipes = [name for name, (_, needed) in STORES.items() if which(needed)]
    write([RECIPES[recipe] for recipe in recipes], tmp_path / "recipes")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "recipes"), prepend=os.pathsep)
    environment = {"TESTS_CLAIMS": " ".join(recipes)}
    for recipe in recipes:
        environment |= STORES[recipe][0](request)
    # Else workers that take their time to start on a busy machine are replaced.
    arguments = ["--workers", str(WORKERS), "--timeout-worker-healthcheck", "60"]
    app = "tests.workers.apps.clocks:app"
    with Server("uvicorn", app, tmp_path / "log", arguments, environment) as server:
        names = [*recipes, "everywhere"]
        server.wait_until(
            lambda _: all(
                len(by_all(server, name)) >= 3 <= server.said.count(f"ran {name}") for name in names
            )
        )

    # Where the server was stopped while a claim was asked, that moment has no run: one a worker.
    runs = Counter(what for what in server.said if what.startswith("ran "))
    everywhere = asked(server, "everywhere")
    assert {len(set(told)) for told in everywhere.values()} >= {WORKERS}
    asked_for = sum(map(len, everywhere.values()))
    assert asked_for - WORKERS <= runs["ran everywhere"] <= asked_for
    for recipe in recipes:
        told = asked(server, recipe)
        for at in by_all(server, recipe):
            assert len({process for process, _ in told[at]}) == WORKERS
            answers = sorted(answer for _, answer in told[at])
            assert answers == ["False"] * (WORKERS - 1) + ["True"], recipe
        won = [answer for of_one in told.values() for _, answer in of_one].count("True")
        assert won - WORKERS <= runs[f"ran {recipe}"] <= won <= len(told)
    if missing := STORES.keys() - set(recipes):
        pytest.skip(f"the rest has passed, without {missing}, whose servers are not installed here")
