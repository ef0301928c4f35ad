"""What `hatch run example` installs is enough, where the tests' environment has much more."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions, requires
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from examples.__main__ import PROGRAMS
from tests.examples.programs import GUARD, ROOT

# A module that is None in `sys.modules` cannot be imported, as if it were not installed. Celery
# imports the clients of its broker and its results when it first uses them.
IMPORTS = """
import importlib, sys
hidden, *programs = sys.argv[1:]
sys.modules.update(dict.fromkeys(hidden.split()))
for program in programs:
    importlib.import_module(program)
from examples.video import celery
celery.connection_for_write().get_transport_cls()
celery.backend
"""


def read(file: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / file).read_text(encoding="utf-8"))


def brought(requirements: Iterable[str | dict[str, str]]) -> set[str]:
    """Return the names of all that is installed by a dependency group, or by requirements."""
    groups = read("pyproject.toml")["dependency-groups"]
    waiting, known = [*requirements], set[tuple[str, str]]()
    while waiting:
        needed = waiting.pop()
        if isinstance(needed, dict):
            waiting += groups[needed["include-group"]]
            continue
        it = Requirement(needed)
        for extra in ("", *it.extras):
            if (key := (canonicalize_name(it.name), extra)) not in known:
                known.add(key)
                chosen = {"extra": extra}
                further = map(Requirement, requires(it.name) or [])
                waiting += [
                    str(it) for it in further if it.marker is None or it.marker.evaluate(chosen)
                ]
    return {name for name, _ in known}


def test_programs_import_what_their_group_brings() -> None:
    """Each program finds all that it imports there, and Celery what it needs for a Redis."""
    environment = read("hatch.toml")["envs"]["default"]
    ours = [path.name for path in ROOT.glob("packages/*")]
    there = brought([*ours, *({"include-group": it} for it in environment["dependency-groups"])])
    hidden = [
        module
        for module, distributions in packages_distributions().items()
        if there.isdisjoint(map(canonicalize_name, distributions))
    ]
    subprocess.run(
        [sys.executable, "-c", IMPORTS, " ".join(hidden), *PROGRAMS.values()],
        check=True,
        cwd=ROOT,
        env=os.environ | {"REDIS_URL": "redis://127.0.0.1:1/0"},
        timeout=GUARD,
    )
