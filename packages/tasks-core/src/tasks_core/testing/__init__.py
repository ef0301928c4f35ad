"""What a test needs: run tasks and wait for them, or record them; and an application's lifespan.

Each is a block around what the test does. Within `drain` tasks run as ever, and leaving the block
waits for them; within `inline` each request waits for its own; within `record` none runs, and the
test asks what was scheduled::

    def test_signup(client: TestClient) -> None:
        with record() as recorded:
            client.post("/signup")
        recorded.after_response.assert_scheduled(send_mail, "ada@example.com")

In an async test, where the application runs on the test's own event loop, write ``async with``.

A block is in force for the requests that are made in it, by its thread or task or by what these
start (it is a context variable), so tests may run at the same time; and for those made where the
context names no block that is open, in threads of a pool for instance, unless several are open. Of
nested blocks the innermost counts: its tasks are not those of the others. A request stays with its
block to its end, also where the block is left before. For pytest there are the fixtures
``drained_tasks``, ``inline_tasks`` and ``recorded_tasks``, each a block around the test function;
what other fixtures enter after its set-up is within it.
"""

from ._drain import TasksBlock, drain, inline
from ._lifespan import lifespan
from ._record import RecordedPhase, RecordedTasks, record

__all__ = [
    "RecordedPhase",
    "RecordedTasks",
    "TasksBlock",
    "drain",
    "inline",
    "lifespan",
    "record",
]
