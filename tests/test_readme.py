"""What the READMEs show is true: their programs do what is said, and every command is CI's.

That every program runs is in tests/docs.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias, cast

import anyio
import pytest
from fastapi.testclient import TestClient as StarletteTestClient
from litestar.testing import TestClient as LitestarTestClient
from tasks_core import Task, TaskState, current_task

from tests.conformance.driver import serve
from tests.docs.watching import Calls

ROOT = Path(__file__).parents[1]
READMES = [ROOT / "README.md", *sorted(ROOT.glob("packages/*/README.md"))]


def blocks(readme: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    text = readme.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def program(readme: str, mark: str) -> str:
    """Return the one Python block of a README that contains a mark."""
    (found,) = [block for block in blocks(ROOT / readme, "python") if mark in block]
    return found


@pytest.fixture
def calls() -> Calls:
    return Calls()


Run: TypeAlias = Callable[..., Any]


@pytest.fixture
def run(calls: Calls, request: pytest.FixtureRequest) -> Iterator[Run]:
    """Return what runs a program, with stand-ins for some names; frameworks find its module."""
    name = f"readme_{request.node.name}"
    module = ModuleType(name)

    def run(source: str, *stand_ins: str) -> Any:
        sys.modules[name] = module
        exec(compile(source, name, "exec"), vars(module))  # noqa: S102 - it is ours
        for stand_in in stand_ins:
            vars(module)[stand_in] = calls.stand_in
        return module

    yield run
    sys.modules.pop(name, None)


WELCOME = ("ada@example.com", ("subject", "Welcome!"))
PHASES = [
    ("begins beside the {}", "ada@example.com"),
    ("begins before the response", "ada@example.com"),
    ("begins when the request is over", "ada@example.com"),
]


@pytest.mark.parametrize("mark", ["from fastapi import FastAPI\nfrom fastapi_tasks", "starlette"])
def test_program_for_fastapi_and_starlette(run: Run, calls: Calls, mark: str) -> None:
    """The first programs for FastAPI and Starlette answer, and send the mail."""
    marked = [block for block in blocks(ROOT / "README.md", "python") if mark in block]
    app = run(marked[0], "send_email").app
    with StarletteTestClient(app) as client:
        response = client.post("/users", params={"email": "ada@example.com"})
        assert response.json() == {"email": "ada@example.com"}
        assert calls.wait(1) == [WELCOME]


def test_program_for_litestar(run: Run, calls: Calls) -> None:
    """The program for Litestar answers, and sends the mail."""
    app = run(program("README.md", "litestar"), "send_email").app
    with LitestarTestClient(app) as client:
        response = client.post("/users", params={"email": "ada@example.com"})
        assert response.json() == {"email": "ada@example.com"}
        assert calls.wait(1) == [WELCOME]


def test_program_of_what_a_task_can_be(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The program with all settings answers, charges and audits; what fails is reported."""
    module = run(program("README.md", "def report"))
    made: list[Task] = []
    charge = module.charge

    def charging(payment: int) -> float:
        made.append(current_task())
        if payment < 0:
            raise ValueError(payment)
        return cast("float", charge(payment))

    module.charge = charging
    with StarletteTestClient(module.app) as client:
        ids = [client.post(f"/payments/{payment}").json()["task"] for payment in (5, -1)]

    assert [task.id for task in made] == ids
    assert [task.state for task in made] == [TaskState.SUCCEEDED, TaskState.FAILED]
    assert made[0].result == 0.05
    assert made[0].config.shield is True
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "audited -1",
        "audited 5",
        "charge -1 failed: -1",
    ]


def test_readme_of_fastapi_tasks(run: Run, calls: Calls) -> None:
    """The package's program runs a task for each phase."""
    app = run(program("packages/fastapi-tasks/README.md", "FastAPI"), "tell").app
    with StarletteTestClient(app) as client:
        client.post("/users", params={"email": "ada@example.com"})
        assert calls.wait(3) == [(what.format("route"), email) for what, email in PHASES]


def test_readme_of_litestar_tasks(run: Run, calls: Calls) -> None:
    """The package's program runs a task for each phase."""
    app = run(program("packages/litestar-tasks/README.md", "Litestar"), "tell").app
    with LitestarTestClient(app) as client:
        client.post("/users", params={"email": "ada@example.com"})
        assert calls.wait(3) == [(what.format("handler"), email) for what, email in PHASES]


def test_readme_of_starlette_tasks(run: Run, calls: Calls) -> None:
    """The package's program answers, and counts."""
    app = run(program("packages/starlette-tasks/README.md", "Starlette"), "count").app
    with StarletteTestClient(app) as client:
        assert client.get("/").text == "hello"
        assert calls.wait(1) == [("/",)]


def test_readme_of_tasks_core_with_a_middleware(run: Run, calls: Calls, anyio_backend: str) -> None:
    """The package's application answers, and counts."""
    app = run(program("packages/tasks-core/README.md", "TasksMiddleware"), "count").app

    async def ask() -> bytes:
        async with serve(app) as server:
            body = (await server.request("/path")).body
            await anyio.wait_all_tasks_blocked()
            return body

    assert anyio.run(ask, backend=anyio_backend) == b"hello"
    assert calls.wait(1) == [("/path",)]


def test_readme_of_tasks_core_by_hand(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The package's program without ASGI prints its result."""
    run(program("packages/tasks-core/README.md", "anyio.run"))
    assert capsys.readouterr().out == "2\n"


def test_commands() -> None:
    """The README's two commands differ in their last word only; CI runs the one for the tests."""
    demo, test = [block.strip() for block in blocks(ROOT / "README.md", "sh")]
    assert demo.removesuffix("run demo") == test.removesuffix("test")
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (used,) = re.findall(r"^readme_test='(.*)'$", script, re.MULTILINE)
    assert test == used
    assert "$hatch run demo" in script


@pytest.mark.parametrize("readme", READMES[1:], ids=lambda readme: readme.parent.name)
def test_how_to_install(readme: Path) -> None:
    """A package's README installs that package, and so does the project's."""
    (command,) = blocks(readme, "sh")
    assert command == f"pip install {readme.parent.name}\n"
    if readme.parent.name != "tasks-core":
        assert f"`{command.strip()}`" in READMES[0].read_text(encoding="utf-8")


def test_links() -> None:
    """Every file that a README links to exists."""
    for readme in READMES:
        text = readme.read_text(encoding="utf-8")
        links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
        assert [link for link in links if not (readme.parent / link).exists()] == []
