"""Install each built wheel into an empty environment: what comes with it, and does it import?

    python .ci/wheels_alone.py dist

Next to a package's wheel stand only our own wheels that it is built on, by path: the package index
has a stranger of the name fastapi-tasks. The rest must be what its one framework and anyio bring.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# The package, what it may need of others, what it may need of ours.
PACKAGES = [
    ("tasks-core", ["anyio"], []),
    ("starlette-tasks", ["anyio", "starlette"], ["tasks-core"]),
    ("fastapi-tasks", ["anyio", "fastapi"], ["tasks-core", "starlette-tasks"]),
    ("litestar-tasks", ["anyio", "litestar"], ["tasks-core"]),
]


def uv(*args: str, stdin: str = "") -> str:
    """Run uv and return what it prints."""
    return subprocess.run(
        ["uv", "--quiet", *args], input=stdin, check=True, text=True, stdout=subprocess.PIPE
    ).stdout


def names(requirements: str) -> set[str]:
    """Return the names in the lines of a requirements file."""
    lines = (line.partition("#")[0].strip() for line in requirements.splitlines())
    return {canonicalize_name(Requirement(line).name) for line in lines if line}


def wheel(dist: Path, name: str) -> str:
    """Return the path of the package's one wheel."""
    (path,) = dist.glob(f"{name.replace('-', '_')}-*.whl")
    return str(path)


def check(dist: Path, name: str, others: list[str], ours: list[str]) -> None:
    """Install one package and compare what has come with what may come."""
    allowed = names(uv("pip", "compile", "--no-header", "-", stdin="\n".join(others)))
    with TemporaryDirectory() as folder:
        python = str(Path(folder, "bin", "python"))
        uv("venv", "--python", sys.executable, folder)
        uv("pip", "install", "--python", python, *(wheel(dist, one) for one in (name, *ours)))
        installed = names(uv("pip", "freeze", "--python", python))
        assert installed == allowed | {name, *ours}, (name, installed ^ (allowed | {name, *ours}))
        module = name.replace("-", "_")
        program = f"import {module}; print({module}.__file__)"
        where = subprocess.run(
            [python, "-I", "-c", program], check=True, text=True, stdout=subprocess.PIPE, cwd=folder
        ).stdout
        assert "site-packages" in where, where
    print(f"{name}: brings {', '.join(sorted(installed - {name}))}")


for row in PACKAGES:
    check(Path(sys.argv[1]), *row)
