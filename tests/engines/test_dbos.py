"""What docs/outgrowing.md says of DBOS: durable in a file, in the application's own process."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from tests.engines.processes import DBOS_RUNS, wait_until
from tests.servers.server import Server

APP = "tests.engines.apps.dbos_shop:app"


@pytest.mark.skipif(not DBOS_RUNS, reason="from Python 3.12 on DBOS needs SQLite 3.42")
def test_a_workflow_goes_on_after_kill_9(tmp_path: Path) -> None:
    """8.10: A process that is killed with -9 and started again finishes what it had begun."""
    environment = {"TESTS_FILE": str(tmp_path / "shop.sqlite")}

    def serve(log: str) -> Server:
        return Server("uvicorn", APP, tmp_path / log, environment=environment)

    with serve("first") as server:
        with closing(server.connect()) as connection:
            connection.request("POST", "/orders/7")
            workflow_id = json.loads(connection.getresponse().read())
        server.wait_until(lambda said: any(it.startswith("7 ships in") for it in said))
        assert "7 charged" in server.said
        server.kill()
    with serve("second") as server:
        server.wait_until(lambda said: any(it.startswith("7 ships in") for it in said))
        assert "7 charged" not in server.said
        server.open("go 7")
        wait_until(lambda: b"SUCCESS" in server.get(f"/tasks/{workflow_id}")[1], server.log)
        assert server.get("/tasks/unknown")[0] == 404
