"""The scenarios can fail: with the naive double in place of the package, they do.

The double is what anybody would write first, see `apps/naive.py`. It passes what is easy, so that
nobody need think that it fails for being broken. As that depends on nothing but the scenarios and
the double, it runs with all servers (`hatch run servers`), and not each time.
"""

import signal
from collections.abc import Callable
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

import pytest

from tests.servers import (
    test_clients,
    test_hostile,
    test_middleware,
    test_resources,
    test_signals,
)
from tests.servers.server import Starter

Scenario = Callable[..., None]

PASSES: list[tuple[str, Scenario, tuple[Any, ...]]] = [
    ("hostile", test_hostile.test_hostile_task, ("Exception in a thread", "?shield=1")),
    ("resources", test_resources.test_session_of_the_request, ("tasks-first",)),
    ("clients", test_clients.test_connection_that_is_kept_alive, ()),
    ("middleware", test_middleware.test_middleware_that_answers_itself, ("answers-itself",)),
]

# One of each class: what leaves the double by one kind of exception, leaves it by the others.
FAILS: list[tuple[str, Scenario, tuple[Any, ...]]] = [
    ("hostile", test_hostile.test_hostile_task, ("SystemExit in a thread", "")),
    ("hostile", test_hostile.test_hostile_task, ("CancelledError", "")),
    ("hostile", test_hostile.test_hostile_task_without_a_name, ("partial with a secret",)),
    ("hostile", test_hostile.test_hostile_handler, ("Exception", "")),
    ("resources", test_resources.test_session_of_the_request, ("session-first",)),
    ("resources", test_resources.test_session_of_the_function, ("session-first",)),
    ("resources", test_resources.test_commit_that_fails_after_the_response, ()),
    ("middleware", test_middleware.test_middleware_around_failure, ("none", "http")),
    ("middleware", test_middleware.test_middleware_that_swallows_an_error, ("swallows-error",)),
    ("clients", test_clients.test_upload_that_ends_half_way, (test_clients.leave,)),
    ("clients", test_clients.test_websocket, ("crash",)),
]

STOPS: list[tuple[Scenario, tuple[Any, ...]]] = [
    (test_signals.test_signal, (signal.SIGTERM,)),
    (test_signals.test_server_that_cancels_requests, ()),
    (test_signals.test_tasks_that_never_end_with_a_bound, ()),
]


def _id(value: object) -> str | None:
    if isinstance(value, tuple):
        return "-".join(str(getattr(one, "__name__", one)) for one in value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    name: str | None = getattr(value, "__name__", None)
    return name


@pytest.fixture(autouse=True)
def _with_all_servers(pytestconfig: pytest.Config) -> None:
    if not pytestconfig.getoption("all_servers"):
        pytest.skip("with all servers: hatch run servers")


@pytest.fixture
def start(tmp_path: Path) -> Starter:
    """Start the double, and give up on it soon: a second is long for what comes at all."""
    return Starter("uvicorn", tmp_path, naive=True, guard=1)


def forget_property(_name: str, _value: object) -> None:
    pass


@pytest.mark.parametrize(("app", "scenario", "arguments"), PASSES, ids=_id)
def test_naive_double_passes(
    tmp_path: Path, app: str, scenario: Scenario, arguments: tuple[Any, ...]
) -> None:
    """The naive double passes the easy scenarios: it does work."""
    with Starter("uvicorn", tmp_path, naive=True)(app) as server:
        scenario(server, *arguments)
        server.kill()


@pytest.mark.parametrize(("app", "scenario", "arguments"), FAILS, ids=_id)
def test_naive_double_fails(
    start: Starter, app: str, scenario: Scenario, arguments: tuple[Any, ...]
) -> None:
    """The naive double fails the scenario."""
    with start(app) as server:
        try:
            with pytest.raises((AssertionError, OSError)):
                scenario(server, *arguments)
        finally:
            server.kill()


@pytest.mark.parametrize(("scenario", "arguments"), STOPS, ids=_id)
def test_naive_double_stops_badly(
    start: Starter, scenario: Scenario, arguments: tuple[Any, ...]
) -> None:
    """The naive double loses tasks at a shutdown, or does not come to its end."""
    with pytest.raises((AssertionError, OSError, TimeoutExpired)):
        scenario(start, forget_property, *arguments)


def test_naive_double_meets_a_closed_pool(start: Starter) -> None:
    """The naive double's tasks run on after the application has closed what they use."""
    with pytest.raises((AssertionError, TimeoutExpired)):
        test_resources.test_pool_outlives_tasks(start, signal.SIGTERM)
