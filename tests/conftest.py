"""What all tests share; and their options, as no other file is read before a run has begun."""

from __future__ import annotations

import gc
import logging
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tasks_core.testing import drain, inline, record

from tests.asgi.watching import Outcome
from tests.conformance import table as conformance
from tests.servers import table as servers
from tests.servers.server import GUARD, Server


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tasks")
    group.addoption(
        "--harness",
        action="append",
        metavar="NAME",
        help="run the conformance suite over this framework, asgi for example, or over another's "
        "harness, as MODULE:CLASS; may be repeated",
    )
    group.addoption(
        "--promise", metavar="NUMBER", help="run what the conformance suite has of one promise"
    )
    group.addoption(
        "--conformance-table",
        type=Path,
        metavar="FILE",
        help="write the table of promises, frameworks and event loops as Markdown",
    )
    group.addoption(
        "--everything",
        action="store_true",
        help="run each case of the conformance suite and of the adapters' over each framework and "
        "event loop",
    )
    group.addoption(
        "--all-servers",
        action="store_true",
        help="run all servers, as users start them, and the naive double",
    )
    group.addoption(
        "--scenario-table",
        type=Path,
        metavar="FILE",
        help="write the table of scenarios, servers and outcomes as Markdown",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Choose how servers start, and how many cases Hypothesis tries; have the tables made.

    What is bounded by a default is bounded by a guard, and Hypothesis times nothing: how long a
    machine stands still makes no test red.

    The tables are made in the process that collects the reports.
    """
    Server.forks = not config.getoption("all_servers")
    examples = 200 if config.getoption("everything") else 50
    settings.register_profile(
        "tasks",
        settings(),
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    if not config.getoption("--hypothesis-profile"):
        settings.load_profile("tasks")
    patch = pytest.MonkeyPatch()
    for bound in ("_runner.UNWIND_TIME", "_records.ANSWER_WITHIN", "_record_store.GUARD"):
        patch.setattr(f"tasks_core.{bound}", GUARD)
    for block in (drain, inline, record):
        patch.setattr(block, "__kwdefaults__", dict(block.__kwdefaults__ or (), timeout=GUARD))
    if hasattr(config, "workerinput"):
        return
    path: Path | None = config.getoption("conformance_table")
    if path is not None:
        config.pluginmanager.register(conformance.Table(path, conformance.load_harnesses(config)))
    path = config.getoption("scenario_table")
    if path is not None:
        config.pluginmanager.register(servers.Table(path))


WAITING = {"examples", "soak", "workers"}
"""Folders whose tests mostly wait for processes."""
OF_ADAPTERS = {"fastapi_tasks", "litestar_tasks", "starlette_tasks", "testing_kit", "where"}
"""Folders whose tests go through adapters, which know no event loop."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what proves the same again, unless everything is asked for.

    No adapter knows which event loop it is: one case of each of their tests is run on trio, but for
    tests that ask for the loop's name. What mostly waits for processes comes first, so that nobody
    waits for it in the end.
    """
    items.sort(key=lambda item: item.path.parent.name not in WAITING)
    if config.getoption("everything"):
        return
    cases: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if (
            item.path.parent.name in OF_ADAPTERS
            and isinstance(item, pytest.Function)
            and hasattr(item, "callspec")
            and item.callspec.params.get("anyio_backend") == "trio"
            and "anyio_backend_name" not in item.fixturenames
        ):
            cases[item.nodeid.partition("[")[0]].append(item)
    leave_out({item for those in cases.values() for item in those[1:]}, config, items)


def leave_out(left: set[pytest.Item], config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take tests out of what is run."""
    if left:
        config.hook.pytest_deselected(items=list(left))
        items[:] = [item for item in items if item not in left]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run every async test on both event loops."""
    backend: str = request.param
    return backend


@pytest.fixture
def outcome() -> Outcome:
    """Give what notes a request's outcome."""
    return Outcome()


@pytest.fixture
def log() -> list[str]:
    """Give an empty log."""
    return []


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Give a file to answer with."""
    path = tmp_path / "page"
    path.write_text("nothing here")
    return path


@pytest.fixture
def no_collector(caplog: pytest.LogCaptureFixture) -> Generator[None]:
    """What is freed is freed by itself; and pytest keeps no records, which have the errors."""
    caplog.set_level(logging.CRITICAL, "tasks_core")
    gc.disable()
    yield
    gc.enable()


def pytest_collection() -> None:
    """Let nobody look for garbage while tests are collected, of which there is none."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Let the many tests that collect garbage look at their own only, which is soon done.

    Hypothesis looks for who refers to what when it is imported: so that is done before.
    """
    gc.enable()
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Undo that: what is imported from here on may look for who refers to what.

    A worker imports nothing more, and pytest looks for garbage several times as it ends.
    """
    gc.enable()  # the collection may have failed
    if not hasattr(session.config, "workerinput"):
        gc.unfreeze()
