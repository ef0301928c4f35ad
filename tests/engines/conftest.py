"""Engines that are installed, a redis-server of the tests' own, and the table of faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from os import environ
from pathlib import Path
from shutil import which
from typing import TypeAlias, cast

import pytest

from tests.engines.processes import ENGINES, Engine, Redis, Shop

NAMED = environ.get("ENGINE", "").split(",")
"""What this run is about: one engine in each of the environments `engines` of hatch.toml."""
CHOSEN = [name for name in ENGINES if name in NAMED]
"""Those of them that have a carrier."""

Open: TypeAlias = Callable[..., Shop]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is not about the chosen engine, and what needs a redis-server that is not there."""
    for item in items:
        if not item.path.is_relative_to(Path(__file__).parent):
            continue
        is_dbos = item.path.stem == "test_dbos"
        if not ("dbos" in NAMED if is_dbos else CHOSEN):
            reason = "`hatch run engines:test` runs these, one engine at a time"
        elif not is_dbos and which("redis-server") is None:
            reason = "no redis-server is installed here"
        else:
            continue
        item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module", params=CHOSEN or ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Run the test on each engine that is chosen."""
    return ENGINES[request.param]


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with Redis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture
def database(shared_redis: Redis) -> str:
    """Return the address of a database that no other test has."""
    return shared_redis.new()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    """Start a redis-server for a test that does something to it."""
    with Redis(tmp_path) as redis:
        yield redis


@pytest.fixture
def open_shop(engine: Engine, tmp_path: Path) -> Open:
    """Serve the shop with what the test chooses."""

    def open_shop(redis: str, *arguments: str, **environment: str) -> Shop:
        return Shop(engine, redis, tmp_path, arguments, **environment)

    return open_shop


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("engines").addoption(
        "--faults-table",
        type=Path,
        metavar="FILE",
        help="write the table of faults, engines and outcomes as Markdown",
    )


def pytest_configure(config: pytest.Config) -> None:
    path: Path | None = config.getoption("faults_table", None)
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Table(path))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Note the fault and the engine."""
    if isinstance(item, pytest.Function) and item.path.stem == "test_faults":
        sentence = str(cast("object", item.obj).__doc__).partition("\n")[0]
        number, _, fault = sentence.rstrip(".").partition(": ")
        engine = str(item.callspec.params["engine"])
        item.user_properties.append(("fault", (f"{fault} ({number})", engine)))


class _Table:
    """For each fault and engine, what came out, in words.

    Where several processes run the tests, this is in the one that collects their reports.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cells: dict[str, dict[str, str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        properties = dict(report.user_properties)
        if "fault" in properties and (report.when == "call" or not report.passed):
            fault, engine = cast("tuple[str, str]", properties["fault"])
            words = {"passed": properties.get("outcome", "✓"), "skipped": "n/a"}
            outcome = str(words.get(report.outcome, "✗"))
            self._cells.setdefault(fault, {})[engine] = outcome

    def pytest_sessionfinish(self) -> None:
        lines = [
            "# Faults of engines",
            "",
            "What each test of `tests/engines/test_faults.py` came to on each engine: made by the",
            "tests' own run, `hatch run docs:faults`, on one machine at one time. In",
            "[Outgrowing the process](outgrowing.md#what-fails) is what it means.",
            "",
            f"| Fault | {' | '.join(name.title() for name in CHOSEN)} |",
            "| --- |" + " --- |" * len(CHOSEN),
        ]
        for fault in sorted(self._cells):
            cells = " | ".join(self._cells[fault].get(name, "-") for name in CHOSEN)
            lines.append(f"| {fault} | {cells} |")
        self._path.write_text("\n".join(lines) + "\n", encoding="utf-8")
