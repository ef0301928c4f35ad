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

    said = "TasksUninitializedError: The task runner of this application has not been started"
    assert said in server.log()
