"""The states of a task."""

from __future__ import annotations

from enum import StrEnum


class TaskState(StrEnum):
    """The states of a task (contract 2.6); the last five are final and never change."""

    PENDING = "pending"
    """It waits for its phase, for its turn, or for a thread."""
    RUNNING = "running"
    """Its function has been called, or handed to its thread."""
    SUCCEEDED = "succeeded"
    """Its function has returned."""
    FAILED = "failed"
    """Its function has raised. The error handler may still be at work."""
    CANCELLED = "cancelled"
    """It was cancelled: by `Task.cancel`, by a shutdown, or natively by the event loop."""
    SKIPPED = "skipped"
    """Its request's outcome was not the one in ``run_on``."""
    HANDED_OVER = "handed_over"
    """An engine has it, and knows what becomes of it."""


# For the reason given in _phase.py.
PENDING, RUNNING, SUCCEEDED, FAILED, CANCELLED, SKIPPED, HANDED_OVER = TaskState

LIVING = frozenset({PENDING, RUNNING})
"""The states that are not final."""
