"""The page "Write your own adapter" is true: its example works, and passes the whole suite."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import anyio
import pytest
from tasks_core import Phase, TaskRunner, TasksScheduler

from tests.asgi.watching import FAILURE, Outcome
from tests.conformance.driver import serve

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8")
MODULES = {"pico", "pico_tasks", "pico_wrapped", "pico_app", "pico_harness", "falcon_app"}
SUITE = 500
"""Seconds after which a run of the whole suite counts as stuck; it takes less than a tenth."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write the page's modules into a folder from which they can be imported."""
    programs = re.findall(r'^```python title="(.*?)"\n(.*?)^```$', PAGE, re.DOTALL | re.MULTILINE)
    for name, program in programs:
        (tmp_path / name).write_text(program, encoding="utf-8")
    assert {Path(name).stem for name, _ in programs} == MODULES
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.mark.anyio
async def test_the_application(folder: Path) -> None:
    """The page's application answers, and its tasks begin in the order of the phases."""
    program = import_module("pico_app")
    async with serve(program.app) as server:
        assert (await server.request()).body == b"hello"
        await anyio.wait_all_tasks_blocked()
    assert program.log == ["the route runs", "the route has returned", "the request is over"]


@pytest.mark.anyio
async def test_falcon(folder: Path) -> None:
    """The page's application of Falcon tells failures, and its hook comes when tasks have ended."""
    program = import_module("falcon_app")
    async with serve(program.app) as server:
        assert (await server.request("/orders?item=7", method="POST")).status == 200
        await anyio.wait_all_tasks_blocked()
        assert (await server.request("/orders", method="POST")).status == 400
        await anyio.wait_all_tasks_blocked()
    assert program.log == ["ordered", "refused", "closed"]


def test_the_suite(folder: Path, pytestconfig: pytest.Config) -> None:
    """The page's command runs the suite over the page's harness, and all of it holds.

    On one event loop, and without what no framework can change, unless everything is asked for.
    """
    (command,) = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    everything = pytestconfig.getoption("everything")
    output = run(
        folder, *command.split(), *([] if everything else ["-k", "asyncio", "-m", "not alike"])
    )
    assert re.search(r"^\d{3,} passed", output, re.MULTILINE), output[-500:]


LACKING = """
from pico_harness import PicoHarness

class Harness(PicoHarness):
    lacks = dict.fromkeys(("trio", "websockets", "lifespan errors"), "it has none")
"""


def test_what_a_framework_lacks(folder: Path) -> None:
    """Tests of what a harness says that its framework has not are skipped, with its reason."""
    (folder / "lacking.py").write_text(LACKING, encoding="utf-8")
    files = [f"tests/conformance/test_{name}.py" for name in ("lifetime", "requests")]
    names = "test_websocket or test_an_error_of_the_lifespan or test_without_a_lifespan"
    output = run(folder, "pytest", *files, "--harness=lacking:Harness", "-k", names, "-vv")
    cases = re.findall(r"::(test_\w+)\[(.*?)\] (\w+)", output)
    assert {outcome for _, case, outcome in cases if "trio" in case.split("-")} == {"SKIPPED"}
    asyncio = {(name, outcome) for name, case, outcome in cases if "trio" not in case.split("-")}
    assert ("test_websocket", "SKIPPED") in asyncio
    assert ("test_an_error_of_the_lifespan", "SKIPPED") in asyncio
    assert ("test_without_a_lifespan", "PASSED") in asyncio
    assert "it has none" in output


def run(folder: Path, *command: str) -> str:
    """Run a command of the page, and return what it prints."""
    runs = [sys.executable, "-m", *command, "-q", "-p", "no:cacheprovider"]
    paths = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        runs,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        check=False,
        encoding="utf-8",
        timeout=SUITE,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    return done.stdout


@pytest.mark.anyio
async def test_telling_a_failure() -> None:
    """The page's hook makes a failure of a request that looks like a success from outside."""
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {}
    exec(program, names)  # noqa: S102 - it is ours
    hook = names["process_exception"]
    assert callable(hook)
    outcome = Outcome()
    async with TaskRunner() as runner:
        with TasksScheduler(runner) as tasks:
            outcome.schedule(tasks)
            hook(None, ValueError())
            tasks.reach(Phase.AFTER_ROUTE)
        assert await outcome.seen() == FAILURE
