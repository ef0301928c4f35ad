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
MODULES = {"pico", "pico_tasks", "pico_app", "pico_harness"}
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


def test_the_suite(folder: Path) -> None:
    """The page's command runs the suite over the page's harness, and all of it holds."""
    (command,) = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    runs = [sys.executable, "-m", *command.split(), "-q", "-p", "no:cacheprovider"]
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
    assert re.search(r"^\d{3,} passed", done.stdout, re.MULTILINE), done.stdout[-500:]


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
