"""The Python blocks of the documentation, as programs that can be run and type-checked.

A block is a program of its own, which is run and type-checked, unless a comment says otherwise. A
comment stands before the block, each is one of

    <!-- continued -->          the block goes on where the one before it has ended
    <!-- types only: why -->    the program is type-checked and not run
    <!-- skipped: why -->       it is neither
    <!-- setup                  code that the reader need not see, ahead of the block
    ... -->

and after a block, or after content tabs, as the site would show an indented comment,

    <!-- test                   code that follows the block, with assertions
    ... -->
    <!-- test TAB               likewise, for the last block in the tab of this label
    ... -->

    python tests/docs/programs.py FOLDER    writes all programs as modules, for type checkers
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [
    ROOT / "README.md",
    *sorted(ROOT.glob("packages/*/README.md")),
    *sorted(ROOT.glob("docs/*.md")),
]

RUN: Final = "executed and type-checked"
_WAYS: Final = {"": RUN, "types only": "type-checked only", "skipped": "skipped"}

_PART: Final = re.compile(
    r"""
    ^(?P<indent>[ ]*) (?:
        (?P<fence>`{3,}) (?P<language>\w*) (?P<info>[^\n]*) \n (?P<block>.*?) ^[ ]*(?P=fence)$
    |
        ===[ ]"(?P<tab>[^"\n]+)"$
    |
        <!--[ ](?P<word>setup|test) (?:[ ](?P<of>[^\n]+))? \n (?P<code>.*?) ^[ ]*-->$
    |
        <!--[ ](?P<mark>continued|types[ ]only|skipped) (?::[ ](?P<reason>[^\n]+?))? [ ]-->$
    )
    """,
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)


@dataclass(slots=True)
class Program:
    """One block of a page, or several that belong together, with what is not shown of it."""

    page: Path
    name: str
    """The module's name: the block's title, or else the page and the block's line."""
    way: str = RUN
    """What is done with it."""
    reason: str = ""
    """Why it is not run."""
    tab: str | None = None
    """The label of the content tab that it stands in."""
    blocks: int = 0
    """How many blocks it consists of."""
    source: str = ""
    """Its code, each line with the number that it has on the page."""

    def add(self, code: str, line: int) -> None:
        self.source += "\n" * (line - 1 - self.source.count("\n")) + dedent(code)

    def __str__(self) -> str:
        """Name it, for the tests' ids."""
        return self.name


class _Reader:
    """Makes programs of a page's parts, in their order."""

    def __init__(self, page: Path) -> None:
        self.page = page
        folder = page.parent.relative_to(ROOT).name  # none for the project's own README
        stem = page.stem.lower() if folder in {"", "docs"} else f"{folder}_{page.stem.lower()}"
        self.stem = stem.replace("-", "_")
        self.programs: list[Program] = []
        self.tab: str | None = None
        # What the comments since the last block have said.
        self.hidden: list[tuple[str, int]] = []
        self.mark = ""
        self.reason = ""

    def block(self, part: re.Match[str], line: int) -> None:
        if part["language"] in {"py", "py3", "pycon", "python3"}:
            msg = "the language is called python"
            raise ValueError(msg)
        if part["language"] != "python":
            return
        title = re.search(r'title="(\w+)\.py"', part["info"])
        if self.mark != "continued":
            name = title[1] if title else f"{self.stem}_{line}"
            tab = self.tab if part["indent"] else None
            self.programs.append(Program(self.page, name, _WAYS[self.mark], self.reason, tab))
        elif not self.programs or title:
            msg = "there is no block to continue, or it has another title"
            raise ValueError(msg)
        program = self.programs[-1]
        program.blocks += 1
        for code, at in [*self.hidden, (part["block"], line + 1)]:
            program.add(code, at)
        self.hidden, self.mark, self.reason = [], "", ""

    def code(self, part: re.Match[str], line: int) -> None:
        if part["indent"]:
            msg = "the site would show this comment: put it after the tabs"
            raise ValueError(msg)
        if part["word"] == "setup":
            self.hidden.append((part["code"], line + 1))
            return
        tested = [it for it in self.programs if part["of"] in {it.tab, None}]
        if not tested:
            msg = "there is no block to test"
            raise ValueError(msg)
        tested[-1].add(part["code"], line + 1)

    def comment(self, part: re.Match[str]) -> None:
        self.mark, self.reason = part["mark"], part["reason"] or ""
        if (self.mark == "continued") is bool(self.reason):
            msg = f"say why, as in <!-- {self.mark}: why -->; what is continued needs no reason"
            raise ValueError(msg)


def programs_of(page: Path) -> list[Program]:
    """Return the programs of a page.

    Raises:
        ValueError: Something cannot be meant.
    """
    reader = _Reader(page)
    text = page.read_text(encoding="utf-8")
    for part in _PART.finditer(text):
        line = text.count("\n", 0, part.start()) + 1
        try:
            if part["fence"]:
                reader.block(part, line)
            elif part["tab"]:
                reader.tab = part["tab"]
            elif part["word"]:
                reader.code(part, line)
            else:
                reader.comment(part)
        except ValueError as error:
            msg = f"{page.relative_to(ROOT)}:{line}: {error}"
            raise ValueError(msg) from error
    if reader.hidden or reader.mark:
        msg = f"{page.relative_to(ROOT)}: there is no block after the last comment"
        raise ValueError(msg)
    return reader.programs


def all_programs() -> list[Program]:
    """Return the programs of all pages."""
    return [program for page in PAGES for program in programs_of(page)]


def write(programs: Sequence[Program], folder: Path) -> None:
    """Write programs as the modules of a folder, instead of those that are there.

    Raises:
        ValueError: Two programs have the same name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for former in folder.glob("*.py"):
        former.unlink()
    for program in programs:
        path = folder / f"{program.name}.py"
        if path.exists():
            msg = f"two programs are called {program.name}"
            raise ValueError(msg)
        path.write_text(program.source, encoding="utf-8")


def summary(programs: Sequence[Program]) -> Iterator[str]:
    """Say how many blocks are treated in which way, and why some are not run."""
    blocks = Counter[str]()
    for program in programs:
        blocks[program.way] += program.blocks
    yield f"{blocks.total()} Python blocks in {len({program.page for program in programs})} pages"
    yield from (f"  {count} {way}" for way, count in blocks.most_common())
    for program in programs:
        if program.way != RUN:
            yield f"  {program.name}: {program.way}, {program.reason}"


def main() -> None:
    programs = all_programs()
    write([program for program in programs if program.way != "skipped"], Path(sys.argv[1]))
    print(*summary(programs), sep="\n")


if __name__ == "__main__":
    main()
