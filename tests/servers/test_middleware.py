"""Middleware of every kind around the routes changes nothing for their tasks."""

import pytest

from tests.servers.server import Server

PHASES = ["immediate", "after_route", "after_response"]
STACKS = [
    "none",
    "base",
    "base-deep",
    "gzip",
    "gzip-base",
    "base-gzip",
    "cors",
    "session",
    "hosts",
    "all",
]
FAILURES = {
    "http": 409,
    "handled": 418,
    "status-handled": 404,
    "invalid": 422,
    "crash": 500,
}


def ask(server: Server, path: str) -> tuple[int, bytes]:
    server.forget()
    connection = server.connect()
    headers = {"Accept-Encoding": "gzip", "Origin": "http://elsewhere.test"}
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    received = response.status, response.read()
    connection.close()
    return received


def succeeds(server: Server) -> None:
    """Check that all phases came, in their order."""
    server.wait_for("over", *PHASES)
    said = [said for said in server.said if said in {*PHASES[1:], "route returns"}]
    assert said == ["route returns", *PHASES[1:]]


def fails(server: Server) -> None:
    """Check that only immediate tasks ran, and that the log tells of the others."""
    server.wait_for("over", "immediate")
    # Also what should not have run is waited for: it must not speak up in the next test.
    server.wait_until(
        lambda said: all(
            {phase, f"INFO {phase}"} & said for phase in ("after_route", "after_response")
        )
    )
    assert {"INFO after_route", "INFO after_response"} <= set(server.said)
    assert not {"after_route", "after_response"} & set(server.said)


@pytest.mark.parametrize("case", ["ok", "sync", "stream", "returned"])
@pytest.mark.parametrize("stack", STACKS)
def test_middleware_around_success(middleware: Server, stack: str, case: str) -> None:
    """Within this middleware, all phases come when the route has returned (1.2, 1.3)."""
    assert ask(middleware, f"/{stack}/{case}")[0] == (503 if case == "returned" else 200)
    succeeds(middleware)
    if case == "stream":
        said = middleware.said
        assert said.index("after_route") < said.index("body ends") < said.index("after_response")


@pytest.mark.parametrize("case", FAILURES)
@pytest.mark.parametrize("stack", STACKS)
def test_middleware_around_failure(middleware: Server, stack: str, case: str) -> None:
    """Within this middleware, a failed request skips the later phases, with a record each (1.6)."""
    assert ask(middleware, f"/{stack}/{case}")[0] == FAILURES[case]
    fails(middleware)


@pytest.mark.parametrize("stack", ["swallows-error", "swallows-error-base"])
def test_middleware_that_swallows_an_error(middleware: Server, stack: str) -> None:
    """A request whose error a middleware answers with 200 has failed all the same (1.6)."""
    assert ask(middleware, f"/{stack}/crash") == (200, b"swallowed")
    fails(middleware)


@pytest.mark.parametrize("case", ["ok", "stream"])
@pytest.mark.parametrize("stack", ["swallows-response", "swallows-response-base"])
def test_middleware_that_swallows_the_response(middleware: Server, stack: str, case: str) -> None:
    """A request whose response is never sent has its phases (1.2, 1.3)."""
    assert ask(middleware, f"/{stack}/{case}") == (200, b"another")
    succeeds(middleware)


@pytest.mark.parametrize("stack", ["answers-itself", "wrong-host"])
def test_middleware_that_answers_itself(middleware: Server, stack: str) -> None:
    """A request that never gets as far as the route runs none of its tasks, and harms none."""
    assert ask(middleware, f"/{stack}/ok")[1] != b""
    middleware.wait_for("over")
    assert not set(PHASES) & set(middleware.said)
    assert ask(middleware, "/none/ok")[0] == 200
    succeeds(middleware)


def test_middleware_that_answers_itself_with_tasks(middleware: Server) -> None:
    """A middleware that answers by itself may schedule, and all phases come (2.7)."""
    assert ask(middleware, "/answers-with-tasks/ok") == (200, b"itself")
    succeeds(middleware)


def test_middleware_inside(middleware: Server) -> None:
    """A `BaseHTTPMiddleware` of a mount alone, further in than the tasks, delays no phase (1.2)."""
    assert ask(middleware, "/inside/ok")[0] == 200
    succeeds(middleware)


@pytest.mark.parametrize(
    ("case", "status"),
    [("http", 409), ("http-current", 409), ("crash", 500)],
)
def test_middleware_inside_around_failure(middleware: Server, case: str, status: int) -> None:
    """A route that fails within a mount's own `BaseHTTPMiddleware` has failed (1.6)."""
    assert ask(middleware, f"/inside/{case}")[0] == status
    fails(middleware)
