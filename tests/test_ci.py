"""What is said of CI, commands, versions and releases in one place agrees with the other places."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
PACKAGES = sorted(path.parent.name for path in ROOT.glob("packages/*/pyproject.toml"))
SPEAKING = [
    ROOT / ".ci" / "run",
    *WORKFLOWS,
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.glob("docs/*.md")),
]


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def commands(text: str) -> set[str]:
    """Return what a text asks of hatch, without options: `test`, `check code`, `run core:test`."""
    text = re.sub(r"(hatch run) \+\S+", r"\1", text)  # some environments of several
    return set(re.findall(r"hatch ((?:run|check) [\w:-]+|test\b)", text))


HATCH: dict[str, Any] = tomllib.loads(read("hatch.toml"))["envs"]


def exists(command: str) -> bool:
    """Whether hatch.toml has what a command names."""
    verb, _, name = command.partition(" ")
    if verb == "test":
        return "hatch-test" in HATCH
    if verb == "check":
        return f"hatch-check-{name}" in HATCH
    environment, _, script = name.rpartition(":")
    settings = HATCH[environment or "default"]
    template = HATCH.get(settings.get("template"), {})
    return script in {**template.get("scripts", {}), **settings.get("scripts", {})}


@pytest.mark.parametrize("path", SPEAKING, ids=lambda path: path.name)
def test_commands_exist(path: Path) -> None:
    """Every command of hatch that a text names is there."""
    assert [it for it in commands(path.read_text(encoding="utf-8")) if not exists(it)] == []


def test_a_command_that_does_not_exist() -> None:
    """What is not in hatch.toml is noticed."""
    asked = commands("- run: hatch run docs:biuld\n`$hatch check code`; .venv/bin/hatch test -n 3")
    assert asked == {"run docs:biuld", "check code", "test"}
    assert [it for it in asked if not exists(it)] == ["run docs:biuld"]


def test_workflow() -> None:
    """The workflow runs what `.ci/run` runs, and on each version of Python all of it."""
    others = {"run pythons:test"}
    assert commands(read(".github/workflows/ci.yml")) | others == commands(read(".ci/run"))


def test_contributing() -> None:
    """Five commands are enough to work on it."""
    (block,) = re.findall(r"^```sh\n(.*?)^```$", read("CONTRIBUTING.md"), re.DOTALL | re.MULTILINE)
    assert len(block.splitlines()) == 5


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md"])
def test_links(page: str) -> None:
    """Every file that a page links to exists; those of READMEs and docs are checked elsewhere."""
    links = [link for link in re.findall(r"\]\(([^)#]+)", read(page)) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions(workflow: Path) -> None:
    """The actions of others are pinned by their major version."""
    text = workflow.read_text(encoding="utf-8")
    used = [it for it in re.findall(r"uses: (\S+)", text) if not it.startswith("./")]
    assert used
    assert [it for it in used if not re.search(r"@(v\d+|release/v\d+)$", it)] == []


def projects() -> Iterator[dict[str, Any]]:
    for name in PACKAGES:
        yield tomllib.loads(read(f"packages/{name}/pyproject.toml"))["project"]


def rows() -> dict[str, list[str]]:
    """Return the cells of the table of versions, by its first column."""
    lines = [line for line in read("docs/versions.md").splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name.lower(): rest for name, *rest in cells[2:]}


def test_python_versions() -> None:
    """CI, the workflow, the packages and the page of versions name the same versions of Python."""
    (matrix,) = re.findall(r"python: \[(.*)\]", read(".github/workflows/ci.yml"))
    (loop,) = re.findall(r"^ *for version in (.*); do$", read(".ci/run"), re.MULTILINE)
    versions = loop.split()
    assert re.findall(r'"(.*?)"', matrix) == versions
    oldest, newest, command = rows()["python"]
    assert (oldest, newest) == (versions[0], versions[-1])
    assert command == f"`hatch test -py {','.join(versions)}`"
    for project in projects():
        prefix = "Programming Language :: Python :: 3."
        named = [it.rpartition(" ")[2] for it in project["classifiers"] if it.startswith(prefix)]
        assert named == versions
        assert project["requires-python"] == f">={oldest}"


def test_oldest_versions() -> None:
    """The page's oldest versions are the packages' lower bounds."""
    needed = [it for project in projects() for it in project["dependencies"]]
    bounds = dict(it.split(">=") for it in needed if ">=" in it)
    assert {name: oldest for name, (oldest, *_) in rows().items() if name != "python"} == bounds


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a copy of what a release is judged by, with the changelog's entry for its version."""
    copytree(ROOT / ".ci", tmp_path / ".ci")
    for name in PACKAGES:
        (tmp_path / "packages" / name).mkdir(parents=True)
        project = Path("packages", name, "pyproject.toml")
        (tmp_path / project).write_text(read(str(project)), encoding="utf-8")
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## [{VERSION}] - 2026-01-31\n")
    return tmp_path


def judge(tree: Path, *tag: str) -> tuple[int, str]:
    """Return the exit code of the check of a release, and what it has printed."""
    command = [sys.executable, str(tree / ".ci" / "release.py"), *tag]
    done = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE)
    return done.returncode, done.stdout


VERSION: str = next(projects())["version"]


def test_versions_of_the_packages() -> None:
    """The four packages have one version, and need each other's."""
    assert judge(ROOT) == (0, "The versions agree.\n")


def test_release(tree: Path) -> None:
    """A tag is accepted that names the packages' version, which has an entry in the changelog."""
    assert judge(tree, f"v{VERSION}") == (0, "The versions agree.\n")


@pytest.mark.parametrize("tag", ["v9.9.9", VERSION, "v"])
def test_release_with_another_tag(tree: Path, tag: str) -> None:
    """A tag is refused that does not name the packages' version."""
    code, said = judge(tree, tag)
    assert code == 1
    assert f"the tag {tag} is not v and the version" in said


@pytest.mark.parametrize(
    "entry", ["## [Unreleased]", f"## [{VERSION}]", f"## [{VERSION}.1] - 2026-01-31"]
)
def test_release_without_an_entry(tree: Path, entry: str) -> None:
    """A tag is refused for whose version the changelog has no entry with a date."""
    (tree / "CHANGELOG.md").write_text(f"# Changelog\n\n{entry}\n")
    assert judge(tree, f"v{VERSION}") == (1, f"CHANGELOG.md has no entry '## [{VERSION}] - DATE'\n")


@pytest.mark.parametrize(
    "line",
    [
        f'version = "{VERSION}"',
        f'"tasks-core=={VERSION}"',
        f'"tasks-core[cron]=={VERSION}"',
    ],
)
def test_release_of_several_versions(tree: Path, line: str) -> None:
    """Packages are refused that have several versions, or need one that is not here."""
    project = tree / "packages" / "litestar-tasks" / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    assert line in text
    project.write_text(text.replace(line, line.replace(VERSION, "9.9.9")))
    assert judge(tree)[0] == 1
