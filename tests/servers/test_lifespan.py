import sys
from pathlib import Path

import pytest

from tests.servers.server import Server


@pytest.mark.parametrize(
    ("of", "arguments"),
    [("uvicorn", ["--lifespan", "off"]), ("granian", ["--interface", "asginl"])],
)
def test_server_without_lifespan_says_what_is_missing(
    of: str, arguments: list[str], tmp_path: Path
) -> None:
    """Without a lifespan a request for tasks fails, and the log names the cause (5.6)."""
    app = "tests.servers.apps.phases:app"
    with Server(of, app, tmp_path / "log", arguments) as server:
        assert server.get("/async/immediate/work")[0] == 500
        assert server.get("/openapi.json")[0] == 200
        server.kill()  # a SIGTERM that comes while it stands still granian may never hear

    said = "TasksUninitializedError: The task runner of this application has not been started"
    assert said in server.log()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before Python 3.12 none of it is heard")
def test_hypercorn_ends_without_a_word(tmp_path: Path) -> None:
    """It cancels a lifespan that has said that it is over, and raises what comes of that (5.7)."""
    app = "tests.servers.apps.phases:app"
    with Server("hypercorn-asyncio", app, tmp_path / "log") as server:
        server.stop()

    assert "Error" not in server.log()
    assert server.process.poll() == 0
