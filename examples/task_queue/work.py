"""What the queue's tasks do, whichever engine has the queue."""

from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["report", "thumbnail"]


async def process(kind: Kind, payload: dict[str, Any]) -> dict[str, Any]:
    """Stand for the work.

    Raises:
        ValueError: The payload is empty.
    """
    if not payload:
        msg = f"a {kind} needs a payload"
        raise ValueError(msg)
    return {"kind": kind, **payload}
