"""What the documentation shows is true: its programs run.

Their types are checked by `hatch check types`.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextvars import copy_context
from importlib import import_module
from pathlib import Path

import anyio
import pytest
from sentry_sdk import integrations
from tasks_core.asgi import ASGIApp

from tests.conformance.driver import serve
from tests.docs.programs import ROOT, RUN, Program, all_programs, programs_of, summary, write
from tests.engines.processes import DBOS_RUNS

PROGRAMS = all_programs()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    write(PROGRAMS, folder)
    return folder


@pytest.fixture
def importable(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the programs be imported, with a working directory and log settings of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    loggers = [logging.getLogger(name) for name in (None, "tasks_core")]
    settings = [(it.level, it.handlers[:], it.filters[:], it.propagate) for it in loggers]
    # By itself Sentry changes every framework that it finds, for all tests that follow.
    enabled: list[str] = vars(integrations)["_AUTO_ENABLING_INTEGRATIONS"]
    found = enabled[:]
    enabled.clear()
    yield
    enabled[:] = found
    for logger, setting in zip(loggers, settings, strict=True):
        logger.level, logger.handlers[:], logger.filters[:], logger.propagate = setting
        logger.setLevel(setting[0])
    for program in PROGRAMS:
        sys.modules.pop(program.name, None)


async def start_and_stop(app: ASGIApp) -> None:
    async with serve(app):
        pass


def run(name: str) -> None:
    app: ASGIApp | None = getattr(import_module(name), "app", None)
    if app is not None:
        anyio.run(start_and_stop, app)


@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize("program", [it for it in PROGRAMS if it.way == RUN], ids=str)
def test_program(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    """A program of the documentation runs, its assertions hold, its application starts and stops.

    What its tasks raise is what it is about, and never a mistake in the program.
    """
    if "from dbos" in program.source and not DBOS_RUNS:
        pytest.skip("from Python 3.12 on DBOS needs SQLite 3.42")
    copy_context().run(run, program.name)
    raised = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert [it for it in raised if isinstance(it, NameError | TypeError | AttributeError)] == []


def test_counts(capfd: pytest.CaptureFixture[str]) -> None:
    """Every block is executed, or there is a reason why not; this prints how many there are."""
    lines = list(summary(PROGRAMS))
    texts = [page.read_text(encoding="utf-8") for page in {it.page for it in PROGRAMS}]
    fences = sum(text.count("```python") for text in texts)
    assert lines[0].startswith(f"{fences} Python blocks")
    with capfd.disabled():  # to the stream that xdist leaves alone
        print("", *lines, sep="\n", file=sys.stderr)


PAGE = """
```python
a = 1
```

<!-- continued -->

```python
b = a
```

<!-- test
assert b == 1
-->

<!-- setup
import c
-->

=== "First"

    ```python title="d.py"
    c.d()
    ```

=== "Second"

    ```python
    e = 1
    ```

<!-- test First
assert c
-->

<!-- types only: it never ends -->

```python
while True: ...
```

````text
```python
no program
```
````
"""


def test_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page's blocks become programs, whose lines have their numbers on the page."""
    monkeypatch.setattr("tests.docs.programs.ROOT", tmp_path)
    page = tmp_path / "docs" / "a-page.md"
    page.parent.mkdir()
    page.write_text(PAGE)
    first, second, third, fourth = programs_of(page)

    assert (first.name, first.blocks, first.way) == ("a_page_2", 2, RUN)
    assert (second.name, second.blocks, second.way) == ("d", 1, RUN)
    assert (third.name, third.blocks, third.way) == ("a_page_28", 1, RUN)
    assert (fourth.name, fourth.reason) == ("a_page_38", "it never ends")
    assert fourth.way != RUN
    lines = PAGE.splitlines()
    for program in (first, second, third, fourth):
        code = dict(enumerate(program.source.splitlines(), 1))
        assert {n: line for n, line in code.items() if line} == {
            n: lines[n - 1].strip() for n, line in code.items() if line
        }
    assert [line for line in first.source.splitlines() if line] == [
        "a = 1",
        "b = a",
        "assert b == 1",
    ]
    assert [line for line in second.source.splitlines() if line] == [
        "import c",
        "c.d()",
        "assert c",
    ]


@pytest.mark.parametrize(
    "page",
    [
        "<!-- continued -->\n\n```python\n```\n",
        "<!-- skipped -->\n\n```python\n```\n",
        "<!-- setup\na = 1\n-->\n",
        "<!-- test\na = 1\n-->\n",
        '=== "Tab"\n\n    ```python\n    ```\n\n    <!-- test\n    a = 1\n    -->\n',
        "```py\n```\n",
    ],
)
def test_what_cannot_be_meant(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment or a language that means nothing is refused."""
    monkeypatch.setattr("tests.docs.programs.ROOT", tmp_path)
    (tmp_path / "page.md").write_text(page)
    with pytest.raises(ValueError, match=r"page\.md"):
        programs_of(tmp_path / "page.md")


def test_the_page_on_testing_imports_the_client_that_it_installs() -> None:
    """A program that uses a framework has its HTTP client from that framework's install line."""
    page = ROOT / "docs" / "testing.md"
    tab = r'=== "(\w+)"\n\n +```sh\n +pip install pytest (\w+)\n'
    text = page.read_text(encoding="utf-8")
    installed = {name.lower(): client for name, client in re.findall(tab, text)}
    assert set(installed) == {"fastapi", "starlette", "litestar"}
    imported: list[str] = []
    for program in programs_of(page):
        modules = re.findall(r"^(?:import|from) (\w+)", program.source, re.MULTILINE)
        clients = [module for module in modules if module.startswith("httpx")]
        for framework in installed.keys() & modules:
            assert set(clients) <= {installed[framework]}, program
        imported += clients
    assert imported
