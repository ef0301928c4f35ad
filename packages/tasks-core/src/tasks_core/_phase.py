"""The named moments of a request at which tasks begin."""

from __future__ import annotations

from enum import IntEnum


class Phase(IntEnum):
    """A moment of a request; phases come in this order (contract 1)."""

    IMMEDIATE = 0
    """While the route runs: a task begins as soon as it is scheduled."""
    AFTER_ROUTE = 1
    """The route has returned and function-scoped dependencies are closed; nothing has been sent."""
    AFTER_RESPONSE = 2
    """The request is over: everything has been sent and its dependencies are closed."""

    def __str__(self) -> str:
        """Return the phase as it is written in code and logs, for instance ``after_route``."""
        return self.name.lower()


# Python 3.11 looks a member of an enum up through a property written in Python, which takes as long
# as half a task. So code that runs for each task or request uses these.
IMMEDIATE, AFTER_ROUTE, AFTER_RESPONSE = Phase
