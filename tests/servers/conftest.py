from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.server import COMMANDS, Server


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
