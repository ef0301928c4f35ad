"""The tables say what the tests show.

`docs/comparison.md` has a section for each question, with the names of the tests; the README's has
a row for each way, and some of the questions.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "comparison.md"
QUEUES = {
    "arq": "https://arq-docs.helpmanuel.io/",
    "Taskiq": "https://taskiq-python.github.io/",
    "Celery": "https://docs.celeryq.dev/",
}
"""What needs a broker and workers is not run here, but for its documentation."""
CARRIED = "tasks-core with a carrier"
"""Where a cell of this is of the queue, it links to that one's documentation."""


def tables(page: Path) -> list[list[list[str]]]:
    """Return the cells of a page's tables, without their separators."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    rows = [[line.strip("| \n").split(" | ") for line in it.splitlines()] for it in found]
    return [[row for row in table if "---" not in row[-1]] for table in rows]


def shown_by() -> list[tuple[str, str]]:
    """Return the names of the ways and what shows an answer of theirs, which is folded."""
    return re.findall(r"^ {4}- (.+?): (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def test_tables_agree() -> None:
    """The README has all ways, and asks some questions of the page in its words; cells agree."""
    (questions, *rows), *_ = tables(README)
    titles = re.findall(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    names = [f"**{title[0].lower()}{title[1:]}**" for title in titles]
    sections = dict(zip(names, tables(PAGE), strict=True))
    ways, *columns = map(list, zip(*rows, strict=True))
    for question, cells in zip(questions, columns, strict=True):
        assert cells == [row[1] for row in sections[question][1:]]
    assert all([row[0] for row in section[1:]] == ways for section in sections.values())


def of_this_run(session: pytest.Session) -> set[str]:
    """Return the names of the tests beside this one that the present run has."""
    beside = [item for item in session.items if item.path.parent == Path(__file__).parent]
    names = {item.nodeid.rpartition("/")[2] for item in beside}
    return {name for name in names if not name.startswith(Path(__file__).name)}


def collected() -> set[str]:
    """Return the names of all the tests beside this one, which takes a process of its own."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q"]
    folder = Path(__file__).parent
    out = subprocess.check_output([*command, folder, f"--ignore={__file__}"], cwd=ROOT, text=True)
    return set(re.findall(r"^.*/(test_\w+\.py::.+)$", out, re.MULTILINE))


def test_what_shows_a_cell(request: pytest.FixtureRequest) -> None:
    """Each cell names tests that exist, and each test is named; those of queues have a link."""
    named = set[str]()
    shown = shown_by()
    assert [way for way, _ in shown] == [row[0] for table in tables(PAGE) for row in table[1:]]
    for way, cell in shown:
        names = re.findall(r"`([^`]+)`", cell)
        if way in QUEUES:
            assert re.fullmatch(rf"\[documentation\]\({QUEUES[way]}.*\)", cell)
        else:
            links = re.findall(r"\((https:[^)]+)\)", cell) if way == CARRIED else []
            assert names or links, (way, cell)
            assert all(link.startswith(tuple(QUEUES.values())) for link in links)
        named.update(names)
    assert named == of_this_run(request.session) or named == collected()
