"""The page of examples has every program, and shows files that exist."""

from __future__ import annotations

import re

from examples.__main__ import PROGRAMS
from tests.docs.programs import ROOT

PAGE = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")


def test_programs() -> None:
    """Each program that can be started is on the page, with its command and its source."""
    shown = re.findall(r'--8<-- "(.*)"', PAGE)
    assert [file for file in shown if not (ROOT / file).exists()] == []
    sources = {f"{module.replace('.', '/')}.py" for module in PROGRAMS.values()}
    assert sources - set(shown) == set()
    commands = set(re.findall(r"^hatch run example ([\w-]+)", PAGE, re.MULTILINE))
    assert commands == set(PROGRAMS)
