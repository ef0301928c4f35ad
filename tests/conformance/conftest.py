"""Runs every test over every harness."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import cast

import pytest

from tests.conformance.harness import CAPABILITIES, Harness
from tests.conformance.promises import PROMISES
from tests.conformance.table import load_harnesses
from tests.conftest import leave_out

# The harnesses of this run.
_harnesses = pytest.StashKey[list[Harness]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_harnesses] = load_harnesses(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "harness" in metafunc.fixturenames:
        harnesses = metafunc.config.stash[_harnesses]
        metafunc.parametrize("harness", harnesses, ids=[harness.name for harness in harnesses])


def pytest_itemcollected(item: pytest.Item) -> None:
    """Note what the test proves and where, and what is known of that combination."""
    if not isinstance(item, pytest.Function) or "harness" not in item.fixturenames:
        return
    function: object = cast("object", item.obj)
    number = str(function.__doc__).partition(" ")[0]
    if number not in PROMISES:
        message = f"the docstring of {item.nodeid} does not begin with a promise's number"
        raise pytest.UsageError(message)
    harness = cast("Harness", item.callspec.params["harness"])
    backend = str(item.callspec.params["anyio_backend"])
    item.user_properties.append(("conformance", (number, harness.name, backend)))
    if backend == "trio" and "trio" in harness.lacks:
        item.add_marker(pytest.mark.skip(reason=harness.lacks["trio"]))
    for mark in item.iter_markers("needs"):
        for capability in mark.args:
            if capability not in CAPABILITIES:
                message = f"{item.nodeid} needs {capability!r}, which is no capability"
                raise pytest.UsageError(message)
            if capability in harness.lacks:
                item.add_marker(pytest.mark.skip(reason=harness.lacks[capability]))
    for known, reason in harness.deviations.items():
        name, _, parameter = known.rstrip("]").partition("[")
        ids = re.split("[-]", item.callspec.id)
        if name == item.originalname and (not parameter or parameter in ids):
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out cases that prove the same again, unless everything is asked for.

    The first framework of a run has every case on both event loops. What is marked as `alike`,
    which no framework can change, has one case on each of the others, on each event loop; all else
    has every case on asyncio there, and one on trio, as no adapter knows which it is. The one is
    not the same everywhere.
    """
    asked = config.getoption("promise")
    if asked is not None:
        leave_out({item for item in items if (_where(item) or ("",))[0] != asked}, config, items)
    if config.getoption("everything"):
        return
    cases: dict[tuple[str, str, str], list[pytest.Item]] = defaultdict(list)
    harnesses = config.stash[_harnesses]
    places = {harness.name: at for at, harness in enumerate(harnesses)}
    for item in items:
        where = _where(item)
        if where is None:
            continue
        _, name, backend = where
        reduced = backend == "trio" or item.get_closest_marker("alike") is not None
        if places[name] and reduced and item.get_closest_marker("xfail") is None:
            cases[item.nodeid.partition("[")[0], name, backend].append(item)
    left: set[pytest.Item] = set()
    for (_, name, _), those in cases.items():
        del those[places[name] % len(those)]
        left.update(those)
    leave_out(left, config, items)


def _where(item: pytest.Item) -> tuple[str, str, str] | None:
    """Return the promise, the framework and the event loop, of a test of this suite."""
    found = dict(item.user_properties).get("conformance")
    return cast("tuple[str, str, str] | None", found)
