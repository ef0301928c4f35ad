"""The program `csv_upload` imports files, says how far it is, stops, and leaves no file behind."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from threading import Event
from typing import Any

import anyio
import pytest
from anyio import from_thread
from fastapi.testclient import TestClient
from fastapi_tasks import current_tasks
from fastapi_tasks.testing import drain, inline

from examples import csv_upload
from tests.conformance.driver import GUARD

PRICES = b"name,amount\ntea,3.50\nmilk,1.20\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder where the program stores files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def http(folder: Path) -> Iterator[TestClient]:
    with TestClient(csv_upload.app, raise_server_exceptions=False) as http:
        yield http
    assert list(folder.iterdir()) == []


@pytest.fixture(autouse=True)
def amounts() -> dict[int, Decimal]:
    csv_upload.amounts.clear()
    return csv_upload.amounts


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Event:
    """Hold the import at its first row, and say when it is there."""
    reached = Event()

    def hold(*_: object) -> None:
        reached.set()
        from_thread.run(anyio.sleep_forever)

    monkeypatch.setattr(csv_upload, "process_csv_row", hold)
    return reached


def upload(http: TestClient, content: bytes = PRICES) -> str:
    """Upload a file; return where the status of its import is."""
    response = http.post("/upload-csv/7", files={"file": ("prices.csv", content)})
    assert response.status_code == 202
    url: str = response.json()["status_url"]
    return url


def get(http: TestClient, url: str) -> dict[str, Any]:
    record: dict[str, Any] = http.get(url).raise_for_status().json()
    return record


def test_success(
    http: TestClient,
    folder: Path,
    amounts: dict[int, Decimal],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """All rows are imported, the user is told, and the file is gone."""
    caplog.set_level(logging.INFO, "examples.csv_upload")
    with inline():
        url = upload(http)
    assert list(folder.iterdir()) == []
    assert amounts == {7: Decimal("4.70")}
    assert "user 7: 2 rows were imported" in caplog.messages
    record = get(http, url)
    assert record["state"] == "succeeded"
    assert record["progress"] == {"done": 2, "total": 2, "message": None}


def test_failure(
    http: TestClient,
    folder: Path,
    amounts: dict[int, Decimal],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A row that cannot be read ends the import, the user is told, and the file is gone."""
    caplog.set_level(logging.INFO, "examples.csv_upload")
    with inline(raise_errors=False):
        url = upload(http, PRICES + b"salt\n")
    assert list(folder.iterdir()) == []
    assert amounts == {7: Decimal("4.70")}
    assert [one for one in caplog.messages if one.startswith("user 7: the import has failed")]
    record = get(http, url)
    assert record["state"] == "failed"
    assert record["progress"] == {"done": 2, "total": 3, "message": None}


def test_stop(http: TestClient, folder: Path, held: Event) -> None:
    """An import that is stopped ends, and its file, which was there until then, is gone."""
    with drain():
        url = upload(http)
        assert held.wait(GUARD)
        assert get(http, url)["state"] == "running"
        (file,) = folder.iterdir()
        assert file.read_bytes() == PRICES
        assert http.delete(url).status_code == 202
    assert list(folder.iterdir()) == []
    assert get(http, url)["state"] == "cancelled"


def test_stop_before_it_begins(
    http: TestClient,
    folder: Path,
    amounts: dict[int, Decimal],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An import that is stopped while the file still comes in never begins; the file is gone."""

    def stop(*_: object) -> None:
        (task,) = current_tasks().registry.living(name="import of user 7")
        assert len(list(folder.iterdir())) == 1
        assert task.cancel()

    monkeypatch.setattr(shutil, "copyfileobj", stop)
    with inline():
        url = upload(http)
    assert list(folder.iterdir()) == []
    record = get(http, url)
    assert (record["state"], record["started_at"]) == ("cancelled", None)
    assert amounts == {}


def test_request_fails(
    http: TestClient,
    folder: Path,
    amounts: dict[int, Decimal],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An upload that cannot be stored is not imported, and leaves no file."""

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(shutil, "copyfileobj", fail)
    with inline() as block:
        assert http.post("/upload-csv/7", files={"file": PRICES}).status_code == 500
    assert [(task.name, str(task.state)) for task in block.tasks] == [
        ("import of user 7", "skipped"),
        ("clean-up", "succeeded"),
    ]
    assert list(folder.iterdir()) == []
    assert amounts == {}


def test_shutdown(http: TestClient, folder: Path, held: Event) -> None:
    """A shutdown stops the import; the file is gone, as `http` asserts for every test."""
    upload(http)
    assert held.wait(GUARD)
    assert len(list(folder.iterdir())) == 1


def test_unknown(http: TestClient) -> None:
    """An id that was never given is not found."""
    assert http.get("/imports/0").status_code == 404
    assert http.delete("/imports/0").status_code == 404
