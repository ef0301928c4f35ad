"""The page of tasks on real servers, and in a real browser."""

from __future__ import annotations

from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.examples.live_page import BROWSER, DRIVER, browsing
from tests.servers.server import Server, Starter

HOSTILE = "<img src=x onerror=\"document.title='forged'\"> & '</script>"


def begin(server: Server, name: str) -> None:
    connection = server.connect()
    connection.request("POST", f"/start?name={quote(name)}")
    assert connection.getresponse().status == 200
    connection.close()


def read_until(response: HTTPResponse, text: bytes) -> None:
    for line in response:
        if text in line:
            return
    raise AssertionError("the stream has ended")


def test_an_open_page_does_not_hold_up_a_stop(start: Starter) -> None:
    """A server stops though somebody looks at the page of tasks, and the tasks are cancelled."""
    with start("watched", environment={"TESTS_STREAM_FOR": "1"}) as server:
        connection = server.connect()
        connection.request("GET", "/tasks/events")
        response = connection.getresponse()
        begin(server, "watched")
        read_until(response, b'"watched"')
        server.stop()
        server.wait_for("cancelled")
        connection.close()


def test_names_are_text(tmp_path: Path) -> None:
    """What users have typed into a name is shown, and is no part of the page."""
    if not (BROWSER and DRIVER):
        pytest.skip("no browser: apt-get install --no-install-recommends chromium chromium-driver")
    app, environment = "tests.servers.apps.watched:app", {"TESTS_NAME": HOSTILE}
    with Server("uvicorn", app, tmp_path / "log", (), environment) as server:
        begin(server, HOSTILE + " task")
        address = f"http://127.0.0.1:{server.port}/tasks/"
        with browsing(address, tmp_path / "profile") as page:
            assert sorted(page.names()) == [HOSTILE, HOSTILE + " task"]
            assert page.run("return [document.title, document.images.length]") == ["Tasks", 0]
