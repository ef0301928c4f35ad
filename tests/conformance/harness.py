"""What a framework's harness is, and the words in which the suite describes an application.

A test never names a framework. It describes an application with the classes here; the harness
builds that with its framework, and with the tasks added as the framework's users add them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, Unpack, get_args

from tasks_core import RunnerSettings, TasksScheduler
from tasks_core.asgi import ASGIApp

from tests.conformance.driver import GUARD

Capability: TypeAlias = Literal[
    "dependencies",  # a generator that surrounds the route and gets the request's tasks
    "function dependencies",  # one that is closed before the response starts
    "request dependencies",  # one that is closed after the response
    "validation",  # the framework refuses bad parameters by itself
    "add twice",  # tasks can be added to an application that has them
    "without tasks",  # a route can ask for tasks where none were added
    "anyio's threads",  # sync routes run in worker threads of anyio
    "trio",  # it runs on trio, and not on asyncio only
    "websockets",  # a route for them
    "lifespan errors",  # what its lifespan raises comes out of the application, and is no message
]
CAPABILITIES: frozenset[Capability] = frozenset(get_args(Capability))


@dataclass(frozen=True, slots=True)
class Text:
    """A plain text answer."""

    body: str = "ok"
    status: int = 200


@dataclass(frozen=True, slots=True)
class Empty:
    """An answer without a body."""

    status: int = 204


@dataclass(frozen=True, slots=True)
class Stream:
    """A streamed answer."""

    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class File:
    """A file as the answer."""

    path: Path


Answer: TypeAlias = Text | Empty | Stream | File
AsyncEndpoint: TypeAlias = Callable[[TasksScheduler], Awaitable[Answer | None]]
SyncEndpoint: TypeAlias = Callable[[TasksScheduler], Answer | None]
Endpoint: TypeAlias = AsyncEndpoint | SyncEndpoint
"""What answers a request; ``None`` is ``Text()``."""


ErrorAnswer: TypeAlias = Callable[[Exception], Answer]
"""What an application answers when an exception was raised."""


class ServerSocket(Protocol):
    """The application's end of a WebSocket connection, as the frameworks have it."""

    async def accept(self) -> None: ...
    async def receive_text(self) -> str: ...
    async def send_text(self, data: str) -> None: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SocketRoute:
    """A route for WebSocket connections."""

    endpoint: Callable[[TasksScheduler, ServerSocket], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """A generator that surrounds a route, with one yield (needs "dependencies").

    Args:
        around: The generator function.
        scope: Whether it is closed before the response starts or after it has been sent; by
            default whatever is the framework's own default.
        first: Whether the route's parameter for it comes before the one for the tasks.
        inner: Called by a dependency of this dependency.
    """

    around: Callable[[TasksScheduler], AsyncGenerator[None, None]]
    scope: Literal["function", "request"] | None = None
    first: bool = True
    inner: Callable[[TasksScheduler], None] = lambda _: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route for HTTP requests.

    Args:
        endpoint: What answers.
        method: The method that it answers to.
        dependency: What surrounds it.
        number: Whether it takes the query parameter ``number``, an integer (needs "validation").
    """

    endpoint: Endpoint
    method: str = "GET"
    dependency: Dependency | None = None
    number: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """An application in the suite's own words.

    Args:
        routes: What is served, by path.
        mounted: The routes of a sub-application, mounted at ``/mounted``.
        lifespan: The application's own lifespan.
        wrapped: Whether a middleware surrounds it that runs what is inside in a task of its own.
        answers: The application's own handlers of exceptions.
        added: The settings of each time that tasks are added to it.
    """

    routes: Mapping[str, Route | SocketRoute]
    mounted: Mapping[str, Route] = field(default_factory=dict[str, Route])
    lifespan: Callable[[], AbstractAsyncContextManager[None]] | None = None
    wrapped: bool = False
    answers: Mapping[type[Exception], ErrorAnswer] = field(
        default_factory=dict[type[Exception], ErrorAnswer]
    )
    added: Sequence[RunnerSettings] = (RunnerSettings(),)


class Harness(Protocol):
    """A framework, to the suite.

    Whoever writes an adapter for another framework writes one, and runs the suite over it::

        pytest tests/conformance --harness=your_package.module:YourHarness
    """

    @property
    def name(self) -> str:
        """The framework's name, in test ids and in the table."""
        ...

    @property
    def lacks(self) -> Mapping[Capability, str]:
        """What the framework does not have, with the reason: tests that need it are skipped."""
        ...

    @property
    def deviations(self) -> Mapping[str, str]:
        """Tests that are known to fail, with the reason: each is a strict xfail.

        A key is a test's name, or that and the id of one of its parameters: ``test_x[trio]``.
        """
        ...

    def build(self, application: Application) -> ASGIApp:
        """Build the application with the framework."""
        ...

    def http_error(self, status: int) -> Exception:
        """Return the exception by which the framework's users answer with a status."""
        ...


def build(  # noqa: PLR0913 - an application
    harness: Harness,
    route: Endpoint | Route | SocketRoute | None = None,
    *,
    routes: Mapping[str, Route | SocketRoute] | None = None,
    mounted: Mapping[str, Route] | None = None,
    lifespan: Callable[[], AbstractAsyncContextManager[None]] | None = None,
    wrapped: bool = False,
    answers: Mapping[type[Exception], ErrorAnswer] | None = None,
    **settings: Unpack[RunnerSettings],
) -> ASGIApp:
    """Build an application with tasks; ``route`` has the path ``/``."""
    known = dict(routes or {})
    if route is not None:
        known["/"] = route if isinstance(route, Route | SocketRoute) else Route(endpoint=route)
    # So that a test that fails in its midst still ends. Where a shutdown is tested, it says so.
    settings.setdefault("shutdown_timeout", GUARD)
    return harness.build(
        Application(
            routes=known,
            mounted=mounted or {},
            lifespan=lifespan,
            wrapped=wrapped,
            answers=answers or {},
            added=(settings,),
        )
    )
