"""The tables say what the tests show.

The README's has a column for each way; `docs/comparison.md` has a section for each row, with the
names of the tests.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "comparison.md"


def tables(page: Path) -> list[list[list[str]]]:
    """Return the cells of a page's tables, without their separators."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    rows = [[line.strip("| \n").split(" | ") for line in it.splitlines()] for it in found]
    return [[row for row in table if "---" not in row[-1]] for table in rows]


def shown_by() -> list[tuple[str, str]]:
    """Return the names of the ways and what shows a cell of theirs."""
    return [(row[0], row[-1]) for table in tables(PAGE) for row in table[1:]]


def test_tables_agree() -> None:
    """Each cell of the README stands on the page, with what shows it."""
    (ways, *rows), *_ = tables(README)
    titles = re.findall(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [f"**{title[0].lower()}{title[1:]}**" for title in titles] == [row[0] for row in rows]
    for row, section in zip(rows, tables(PAGE), strict=True):
        assert [it[:2] for it in section[1:]] == [
            list(it) for it in zip(ways, row[1:], strict=True)
        ]


def collected() -> set[str]:
    """Return the names of the tests beside this one."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q"]
    folder = Path(__file__).parent
    out = subprocess.check_output([*command, folder, f"--ignore={__file__}"], cwd=ROOT, text=True)
    return set(re.findall(r"^.*/(test_\w+\.py::.+)$", out, re.MULTILINE))


def test_what_shows_a_cell() -> None:
    """Each cell names tests that exist, and each test is named; Celery's have a link."""
    named = set[str]()
    for way, cell in shown_by():
        if way == "Celery":
            assert re.fullmatch(r"\[documentation\]\(https://docs\.celeryq\.dev/.+\)", cell)
        else:
            names = re.findall(r"`([^`]+)`", cell)
            assert names, (way, cell)
            named.update(names)
    assert named == collected()
