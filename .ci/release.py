"""Say whether the tree is what a tag says it is; without a tag, whether it agrees with itself.

    python .ci/release.py [v1.2.3]

The packages have one version, adapters need exactly that one of ours, and the changelog has an
entry for the tag's.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def mistakes(root: Path, tag: str | None) -> Iterator[str]:
    """Say what is wrong, one sentence each."""
    paths = sorted(root.glob("packages/*/pyproject.toml"))
    projects = [tomllib.loads(path.read_text(encoding="utf-8"))["project"] for path in paths]
    versions: dict[str, str] = {project["name"]: project["version"] for project in projects}
    if len(set(versions.values())) != 1:
        yield f"the packages have several versions: {versions}"
    for project in projects:
        extras: dict[str, list[str]] = project.get("optional-dependencies", {})
        for requirement in chain(project["dependencies"], *extras.values()):
            name = re.split(r"[^\w-]", requirement, maxsplit=1)[0]
            plain = re.sub(r"\[.*?\]", "", requirement)
            if name in versions and plain != f"{name}=={versions[name]}":
                yield f"{project['name']} needs {requirement}, here is {versions[name]}"
    if tag is None:
        return
    version = tag.removeprefix("v")
    if {version} != set(versions.values()) or version == tag:
        yield f"the tag {tag} is not v and the version of the packages: {versions}"
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    if not re.search(
        rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE
    ):
        yield f"CHANGELOG.md has no entry '## [{version}] - DATE'"


def main(arguments: Sequence[str]) -> int:
    """Print what is wrong, if anything is."""
    found = list(mistakes(ROOT, arguments[0] if arguments else None))
    print(*found or ["The versions agree."], sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
