"""The published package whose import name our own FastAPI package has: it needs its own place."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

PACKAGE: Final = "fastapi-tasks==0.1.0"
SAME: Final = ("fastapi", "starlette", "anyio", "uvicorn", "uvloop", "pydantic")
PATIENCE: Final = 180
"""Seconds that the installation may take."""


_CHECK: Final = """
import sys
from importlib.metadata import version
sys.exit(any(version(name) != number for name, number in (w.split("==") for w in sys.argv[1:])))
"""


class NoPeerError(Exception):
    """The published package cannot be measured; the message says why."""


def find(*, install: bool) -> str:
    """Return an interpreter like this one that has the published package.

    Raises:
        NoPeerError: There is none.
    """
    python = _place() / "bin" / "python"
    if not _has_package(python):
        if not install:
            raise NoPeerError(f"not installed in {_place()}, and a smoke run installs nothing")
        _install(python)
    return str(python)


def _place() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "tasks-benchmarks" / f"{PACKAGE}-{sys.implementation.cache_tag}"


def _has_package(python: Path) -> bool:
    """Whether it is there, beside the versions of all else that this interpreter has."""
    if not python.exists():
        return False
    wanted = [PACKAGE, *_pins()]
    done = subprocess.run([python, "-Ic", _CHECK, *wanted], capture_output=True, check=False)
    return done.returncode == 0


def _pins() -> list[str]:
    pins: list[str] = []
    for name in SAME:
        try:
            pins.append(f"{name}=={version(name)}")
        except PackageNotFoundError:
            continue
    return pins


def _install(python: Path) -> None:
    try:
        venv.create(_place(), clear=True, with_pip=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", PACKAGE, *_pins()],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        said = str(error.stderr or error.stdout or error).strip()
        raise NoPeerError(f"{PACKAGE} cannot be installed: {said.splitlines()[-1]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoPeerError(f"{PACKAGE} cannot be installed: {error}") from error
