"""Where the packages are tested with their lower bounds, these are what is installed."""

from importlib.metadata import PackageNotFoundError, requires, version
from os import environ

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

PACKAGES = ("tasks-core", "starlette-tasks", "fastapi-tasks", "litestar-tasks")


def requirements() -> list[Requirement]:
    """Return what the installed ones of our packages need of others, with the extra for ENGINE."""
    found: list[str] = []
    for name in PACKAGES:
        try:
            found += requires(name) or []
        except PackageNotFoundError:
            continue
    chosen = {"extra": environ.get("ENGINE", "")}
    needed = [it for it in map(Requirement, found) if it.name not in PACKAGES]
    return [it for it in needed if it.marker is None or it.marker.evaluate(chosen)]


@pytest.mark.skipif(
    environ.get("UV_RESOLUTION") != "lowest-direct", reason="here are the newest versions"
)
def test_lower_bounds() -> None:
    """The installed version of each requirement is its lower bound."""
    found = requirements()
    assert found
    for needed in found:
        (bound,) = needed.specifier
        assert bound.operator == ">="
        assert Version(version(needed.name)) == Version(bound.version), needed.name
