"""Engines that are installed, a redis-server of the tests' own, and the table of faults."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import TypeAlias, cast

import pytest

from tests.engines.processes import ENGINES, Engine, Redis, Shop

PACKAGES = {"celery": "celery", "taskiq": "taskiq_redis", "docket": "docket"}
INSTALLED = [name for name, package in PACKAGES.items() if find_spec(package) is not None]

Open: TypeAlias = Callable[..., Shop]
Record: TypeAlias = Callable[[str, object], None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a redis-server, where there is none."""
    if which("redis-server") is None:
        skip = pytest.mark.skip(reason="no redis-server is installed here")
        for item in items:
            if item.path.is_relative_to(Path(__file__).parent):
                item.add_marker(skip)


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in INSTALLED],
)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Run the test on each engine that is installed."""
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


# For each fault and engine, what came out.
_table = pytest.StashKey[dict[str, dict[str, str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("engines").addoption(
        "--faults-table",
        type=Path,
        metavar="FILE",
        help="write the table of faults, engines and outcomes as Markdown",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_table] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    outcome = dict(item.user_properties).get("outcome")
    if report.when == "call" and outcome is not None and isinstance(item, pytest.Function):
        sentence = str(cast("object", item.obj).__doc__).partition("\n")[0]
        row = item.config.stash[_table].setdefault(sentence, {})
        row[item.callspec.id] = str(outcome) if report.passed else "✗"
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    path: Path | None = session.config.getoption("faults_table", None)
    if path is not None:
        path.write_text(_markdown(session.config.stash[_table]), encoding="utf-8")


def _markdown(table: dict[str, dict[str, str]]) -> str:
    lines = [
        "# Faults of engines",
        "",
        "What each test of `tests/engines/test_faults.py` came to on each engine: made by the",
        "tests' own run, `hatch run docs:faults`. [Outgrowing the process](outgrowing.md) says",
        "what it means.",
        "",
        f"| Fault | {' | '.join(INSTALLED)} |",
        "| --- |" + " --- |" * len(INSTALLED),
    ]
    for fault, row in table.items():
        cells = " | ".join(row.get(name, "n/a") for name in INSTALLED)
        lines.append(f"| {fault} | {cells} |")
    return "\n".join(lines) + "\n"
