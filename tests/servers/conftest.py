"""Serves the applications."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, cast

import pytest

from tests.servers.server import COMMANDS, Server, Starter

FEW: Final = ("uvicorn", "hypercorn-trio")
"""One server on each event loop, if not all are asked for."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests on each kind of server, or on few."""
    if "kind" in metafunc.fixturenames:
        kinds = COMMANDS if metafunc.config.getoption("all_servers") else FEW
        metafunc.parametrize("kind", kinds, scope="module")


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


def pytest_itemcollected(item: pytest.Item) -> None:
    """Note the scenario, where it stands, and the kind of server."""
    if isinstance(item, pytest.Function) and "kind" in item.fixturenames:
        sentence = str(cast("object", item.obj).__doc__).partition("\n")[0]
        kind = str(item.callspec.params["kind"])
        which = item.callspec.id.replace(kind, "", 1).strip("-")
        scenario = f"{sentence} `{which}`" if which else sentence
        place = (item.path.stem[5:], item.location[1] or 0, scenario)
        item.user_properties.append(("scenario", (place, kind)))
