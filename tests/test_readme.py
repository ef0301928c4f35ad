"""What the READMEs say of commands and files is true.

That their programs run, and do what is said, is in tests/docs.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
READMES = [ROOT / "README.md", *sorted(ROOT.glob("packages/*/README.md"))]


def blocks(readme: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    text = readme.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_commands() -> None:
    """The README's two commands differ in their last word only; CI runs the one for the tests."""
    demo, test, _ = [block.strip() for block in blocks(ROOT / "README.md", "sh")]
    assert demo.removesuffix("run demo") == test.removesuffix("test")
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (used,) = re.findall(r"^readme_test='(.*)'$", script, re.MULTILINE)
    assert test == used
    assert "$hatch run demo" in script


@pytest.mark.parametrize("readme", READMES, ids=lambda readme: readme.parent.name)
def test_how_to_install(readme: Path) -> None:
    """The way to install says first that the index has another project; it takes our wheels."""
    name = readme.parent.name if readme.parent.parent.name == "packages" else "fastapi-tasks"
    command = blocks(readme, "sh")[-1].strip()
    wheel = f"dist/{name.replace('-', '_')}-*.whl"
    assert command.endswith(f"pip install --find-links dist {wheel}")
    text = readme.read_text(encoding="utf-8")
    assert text.index("package index") < text.index("pip install --find-links")
    assert f"pip install {name}" not in text


def test_where_the_guide_begins() -> None:
    """The guide says first that the index has another project, then builds and takes our wheels."""
    page = ROOT / "docs" / "start.md"
    text = page.read_text(encoding="utf-8")
    first = text.index("pip install")
    assert text.index("is another project") < first
    assert "hatch run wheels:build" in text[first : text.index("--find-links")]
    for name in ("fastapi", "starlette", "litestar"):
        assert f"pip install --find-links CLONE/dist CLONE/dist/{name}_tasks-*.whl" in text


def test_no_page_installs_another_project() -> None:
    """No page has pip take from the index what is not ours there."""
    pages = [*READMES, *sorted((ROOT / "docs").glob("*.md"))]
    ours = r"pip install [^\n`]*(?<![/\w])(tasks-core|(fastapi|starlette|litestar)-tasks)"
    found = [page.name for page in pages if re.search(ours, page.read_text(encoding="utf-8"))]
    assert found == []


def test_links() -> None:
    """Every file that a README links to exists."""
    for readme in READMES:
        text = readme.read_text(encoding="utf-8")
        links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
        assert [link for link in links if not (readme.parent / link).exists()] == []
