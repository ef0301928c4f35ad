"""What a test needs, re-exported from `tasks_core.testing`, which see."""

from tasks_core.testing import (
    RecordedPhase,
    RecordedTasks,
    TasksBlock,
    drain,
    inline,
    lifespan,
    record,
)

__all__ = [
    "RecordedPhase",
    "RecordedTasks",
    "TasksBlock",
    "drain",
    "inline",
    "lifespan",
    "record",
]
