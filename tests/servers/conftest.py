"""Serves the applications, and makes the table of scenarios, servers and outcomes."""

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import cast

import pytest

from tests.servers.server import COMMANDS, Server, Starter


@pytest.fixture(scope="module", params=COMMANDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Run the test on each kind of server."""
    name: str = request.param
    return name


@pytest.fixture
def stopping(kind: str, tmp_path: Path) -> Iterator[Server]:
    """Serve `apps/stopping.py`."""
    with Server(kind, "tests.servers.apps.stopping:app", tmp_path / "log") as server:
        yield server


@pytest.fixture(scope="module")
def phases_server(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve `apps/phases.py`, for all tests of a module."""
    log = tmp_path_factory.mktemp(kind) / "log"
    with Server(kind, "tests.servers.apps.phases:app", log) as server:
        yield server


@pytest.fixture
def phases(phases_server: Server) -> Server:
    """Serve `apps/phases.py`, with nothing said yet and all gates closed."""
    phases_server.forget()
    return phases_server


@pytest.fixture
def start(kind: str, tmp_path: Path) -> Starter:
    """Start servers with applications and settings that the test chooses."""
    return Starter(kind, tmp_path)


def _shared(app: str) -> Callable[[str, pytest.TempPathFactory], Iterator[Server]]:
    @pytest.fixture(scope="module", name=app)
    def shared(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        with Starter(kind, tmp_path_factory.mktemp(kind))(app) as server:
            yield server

    return shared


hostile, resources, clients, middleware = map(
    _shared, ("hostile", "resources", "clients", "middleware")
)

# For each module, scenario and kind of server: how often what came out, in words.
_table = pytest.StashKey[dict[tuple[str, str], dict[str, Counter[str]]]]()

_WORDS = {"passed": "✓", "xfailed": "known not to", "skipped": "n/a", "failed": "✗"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("servers").addoption(
        "--scenario-table",
        type=Path,
        metavar="FILE",
        help="write the table of scenarios, servers and outcomes as Markdown",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_table] = {}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Note the scenario and the kind of server."""
    if isinstance(item, pytest.Function) and "kind" in item.fixturenames:
        sentence = str(cast("object", item.obj).__doc__).partition("\n")[0]
        kind = str(item.callspec.params["kind"])
        which = item.callspec.id.replace(kind, "", 1).strip("-")
        scenario = f"{sentence} `{which}`" if which else sentence
        item.user_properties.append(("scenario", (item.path.stem[5:], scenario, kind)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    properties = dict(item.user_properties)
    if "scenario" in properties and (report.when == "call" or report.outcome != "passed"):
        module, scenario, kind = cast("tuple[str, str, str]", properties["scenario"])
        outcome = "xfailed" if hasattr(report, "wasxfail") else report.outcome
        word = _WORDS[outcome]
        if outcome == "passed" and "outcome" in properties:
            word = f"{word} {properties['outcome']}"
        row = item.config.stash[_table].setdefault((module, scenario), {})
        row.setdefault(kind, Counter())[word] += 1
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    path: Path | None = session.config.getoption("scenario_table", None)
    if path is not None:
        path.write_text(_markdown(session.config.stash[_table]), encoding="utf-8")


def _markdown(table: dict[tuple[str, str], dict[str, Counter[str]]]) -> str:
    lines = [
        "# On real servers",
        "",
        "What each scenario of `tests/servers` came to on each server: made by the tests' own run,",
        "`hatch run docs:scenarios`.",
    ]
    last = ""
    for (module, scenario), row in sorted(table.items(), key=lambda item: item[0][0]):
        if module != last:
            lines += ["", f"## {module.capitalize()}", "", f"| Scenario | {' | '.join(COMMANDS)} |"]
            lines += ["| --- |" + " --- |" * len(COMMANDS)]
            last = module
        cells = " | ".join(", ".join(row.get(kind, Counter("-"))) for kind in COMMANDS)
        lines.append(f"| {scenario} | {cells} |")
    return "\n".join(lines) + "\n"
