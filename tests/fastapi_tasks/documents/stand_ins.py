"""What stands in for Sentry; stand-ins for the rest are in the programs."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from types import ModuleType


class StandInError(Exception):
    """Raised by stand-ins for functions that fail."""


class AwaitableSentry:
    """Sentry as documents 000 and 001 use it: the real `capture_exception` cannot be awaited."""

    async def capture_exception(self, error: Exception) -> None: ...


sentry_sdk = AwaitableSentry()


class Scope:
    def __init__(self) -> None:
        self.contexts: dict[str, dict[str, object]] = {}

    def set_context(self, key: str, value: dict[str, object]) -> None:
        self.contexts[key] = value


class Sentry(ModuleType):
    """Sentry as document 003 uses it: the real `push_scope` is deprecated.

    The programs import it in place of the real one, which need not be installed to run them.
    """

    def __init__(self) -> None:
        super().__init__("sentry_sdk")
        self.scope = Scope()
        self.captured: list[tuple[Exception, dict[str, dict[str, object]]]] = []

    @contextmanager
    def push_scope(self) -> Generator[Scope]:
        self.scope = Scope()
        yield self.scope
        self.scope = Scope()

    def capture_exception(self, error: Exception) -> None:
        self.captured.append((error, self.scope.contexts))
