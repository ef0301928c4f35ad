"""An application's lifespan, with its tasks around its own code; and which runner serves what."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from contextvars import ContextVar
from functools import partial
from secrets import token_hex
from threading import Lock
from typing import Any, Final, Unpack

from ._config import TaskConfig
from ._exceptions import Missing, MountedSettingsError, TasksUninitializedError
from ._layer import LayeredScheduler, RoutedScheduler
from ._messages import LifespanMessages, fail_start
from ._request import KEY, LAYER, ASGIApp, Receive, Scope, Send, serve
from ._runner import TaskRunner
from ._scheduler import TasksScheduler, current, found
from ._scheduling import watching
from ._settings import RunnerSettings, Settings

_lifespans: ContextVar[tuple[tuple[TaskRunner, TasksScheduler | Missing | None], ...]] = ContextVar(
    "tasks_core.lifespans", default=()
)
"""The runners within whose `run` this code is called, each with what was current around it."""

_SLASHES: Final = re.compile("/+")


class ApplicationTasks:
    """The tasks of one application: its settings, and the runners of its lifespans that run.

    For who writes an adapter. There is one lifespan at a time, as a rule; but one application may
    be served on several event loops, and several applications may share a lifespan's state.

    Its settings are those of `RunnerSettings`.

    Raises:
        TypeError: A setting is of the wrong type.
        ValueError: A number is out of its range.
    """

    def __init__(self, **settings: Unpack[RunnerSettings]) -> None:
        """Check the settings; nothing runs before the application's lifespan."""
        Settings.of(settings)
        self._settings = settings
        # Of the lifespans that run, in whatever threads; it is replaced under the lock, never
        # changed.
        self._runners: tuple[TaskRunner, ...] = ()
        self._changing = Lock()
        # In a lifespan's state, its runner; in a scope, the scheduler over which this is a layer.
        self._key = f"tasks_core.runner-{token_hex(4)}"
        self._missing = Missing.STARTED  # why there is no runner, while there is none

    @asynccontextmanager
    async def run(
        self, state: MutableMapping[str, Any] | None = None
    ) -> AsyncGenerator[TaskRunner]:
        """Run a runner around a lifespan of the application (contract 5.1).

        It is entered before the application's own code, which may schedule by `current_tasks`;
        `TaskRunner.drain` is awaited before that code tears down what tasks use.

        Args:
            state: The lifespan's state, where the server has one.
        """
        runner = TaskRunner(**self._settings)
        runner._holds_clocks = True
        async with runner:
            token = _lifespans.set((*_lifespans.get(), (runner, current.get(None))))
            with self._changing:
                self._runners = (*self._runners, runner)
            if state is not None:
                state[self._key] = runner
            self._missing = Missing.FAILED
            try:
                with watching.apart(runner._past):
                    yield runner
                self._missing = Missing.ENDED
            finally:
                with self._changing:
                    self._runners = tuple(one for one in self._runners if one is not runner)
                with suppress(ValueError):  # a generator may be closed in another context
                    _lifespans.reset(token)

    def running_here(self) -> TaskRunner | None:
        """Return the runner within whose `run` the caller was called, if it was within one."""
        here = (one for one, _ in reversed(_lifespans.get()) if one in self._runners)
        return next(here, None)

    def get_here(
        self, scope: Scope, layers: Callable[[Scope, TaskConfig], TaskConfig | None]
    ) -> TasksScheduler:
        """Return the tasks of the request that is being served here, by this application.

        For a framework in which nothing of ours is around the application before its lifespan
        runs, nor where it is mounted in another one with tasks: then its settings are a layer,
        here alone. What is current stays: nobody would take that back from the outer application's
        code. And the scope tells which request is served here, as a sub-request has another one.

        Args:
            scope: The request's scope.
            layers: As in `serve`.

        Raises:
            TasksUninitializedError: There are none; it says why.
            MountedSettingsError: It is mounted, and has settings that are a runner's.
        """
        request = scope.get(KEY, self._missing)
        tasks = found(scope.get(LAYER) or request)
        if tasks._runner in self._runners or scope.get(self._key) is request:
            return tasks  # `serve` is around the request
        return LayeredScheduler(tasks, self.check_layer(), partial(layers, scope))

    def started(self) -> None:
        """Note that a lifespan has started: it can end from now on, no longer fail to start.

        From now on its periodic tasks run, too: before, what they use need not be there. Where
        another application's code has run the lifespan, that code has its own tasks again.
        """
        here = self.running_here()
        for runner in self._runners if here is None else (here,):
            self._release(runner)
        outer = next((outer for one, outer in _lifespans.get() if one is here), None)
        if outer is not None:
            current.set(outer)

    def _release(self, runner: TaskRunner) -> None:
        self._missing = Missing.ENDED
        if runner._released is not None:
            runner._released.set()

    def find(self, scope: Scope) -> TaskRunner | None:
        """Return the runner for a request, if a lifespan runs.

        Args:
            scope: The request's scope.
        """
        runners = self._runners
        if not runners:
            return None
        state = scope.get("state")
        runner: TaskRunner | None = state.get(self._key) if state else None
        if runner in runners:
            return runner
        here = (one for one in runners if one._entered().is_current())
        return next(here, runners[-1])

    def serve(  # noqa: PLR0913 - an ASGI call and what it is to know
        self,
        app: ASGIApp,
        scope: Scope,
        receive: Receive,
        send: Send,
        disconnects: tuple[type[Exception], ...] = (),
        *,
        mounted: bool = False,
        layers: Callable[[Scope, TaskConfig], TaskConfig | None] | None = None,
    ) -> Awaitable[None]:
        """Serve a request with its tasks, or with an error that says why it has none.

        Args:
            app: The application, with all its middleware.
            scope: The request's scope, of type ``http`` or ``websocket``.
            receive: The request's ``receive``.
            send: The request's ``send``.
            disconnects: As in `TasksMiddleware`.
            mounted: Whether another application has routed the request here.
            layers: Called with the scope and the application's settings, returns these with those
                of layers within it, a router's for instance, over them: `TaskConfig.merge`. As long
                as the request is not routed it returns nothing, and is called again.

        Raises:
            MountedSettingsError: It is mounted in another application with tasks, and has settings
                that are a runner's.
        """
        runners, outer = self._runners, scope.get(KEY)
        runner = runners[0] if len(runners) == 1 else self.find(scope)  # a call for each request
        if outer is not None and (runner is None or self._is_within(outer, scope)):
            if isinstance(outer, TasksScheduler):
                within = None if layers is None else partial(layers, scope)
                layer = LayeredScheduler(scope.get(LAYER) or outer, self.check_layer(), within)
                return self._serve_layer(app, scope, receive, send, outer, layer)
            return app(scope, receive, send)  # an application further out has said why
        if runner is None:
            missing = Missing.MOUNTED if mounted else self._missing
            return _serve_without(app, scope, receive, send, missing)
        try:
            scheduler = (
                TasksScheduler(runner)
                if layers is None
                else RoutedScheduler(runner, partial(layers, scope))
            )
        except TasksUninitializedError as error:
            return _serve_without(app, scope, receive, send, error.missing)
        return serve(app, scope, receive, send, scheduler, disconnects)

    def _is_within(self, outer: TasksScheduler | Missing, scope: Scope) -> bool:
        """Whether another application serves this very request, and has this one mounted.

        A mount leaves the path, or takes its beginning away, and may take several slashes for one.
        What else is called with a scope of another request is a request of its own, and so is what
        this application itself calls.
        """
        if not isinstance(outer, TasksScheduler) or outer._runner in self._runners:
            return False
        if scope.get(self._key) is outer:
            return False
        return _plain(outer._path).endswith(_plain(scope.get("path", "")))

    async def _serve_layer(  # noqa: PLR0913, PLR0917 - an ASGI call and what it is to know
        self,
        app: ASGIApp,
        scope: Scope,
        receive: Receive,
        send: Send,
        request: TasksScheduler,
        layer: LayeredScheduler,
    ) -> None:
        """Serve a request further out, with a layer of settings over its own."""
        outer, before = scope.get(LAYER), scope.get(self._key)
        scope[LAYER], scope[self._key] = layer, request
        token = current.set(layer)
        try:
            await app(scope, receive, send)
        finally:
            scope[LAYER], scope[self._key] = outer, before
            current.reset(token)

    def check_layer(self) -> TaskConfig:
        """Return the settings as a mounted application's layer (contract 3.3).

        Raises:
            MountedSettingsError: Some are a runner's.
        """
        wrong = [
            name for name, value in self._settings.items() if name != "config" and value is not None
        ]
        if wrong:
            raise MountedSettingsError(wrong)
        return self._settings.get("config") or TaskConfig()

    async def live(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the application's lifespan, with a runner around it.

        Args:
            app: The application, with all its middleware.
            scope: The scope, of type ``lifespan``.
            receive: The lifespan's ``receive``.
            send: The lifespan's ``send``.

        Raises:
            Exception: What the application's lifespan has raised (contract 5.7).
        """
        async with AsyncExitStack() as stack:
            try:
                runner = await stack.enter_async_context(self.run(scope.get("state")))
            except Exception:
                await fail_start(receive, send)
                raise
            started = partial(self._release, runner)
            await LifespanMessages(runner, receive, send, started).serve(app, scope)


def _plain(path: str) -> str:
    return _SLASHES.sub("/", path).rstrip("/")


async def _serve_without(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, missing: Missing
) -> None:
    """Serve a request that has no tasks, and let who asks for them know why."""
    scope[KEY] = missing
    token = current.set(missing)
    try:
        await app(scope, receive, send)
    finally:
        scope.pop(KEY, None)  # a route may clear its scope
        current.reset(token)
