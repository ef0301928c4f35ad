"""Quart: plain and with its own tasks."""

from typing import Any

from quart import Quart

from benchmarks.work import task


def plain(count: int) -> Quart:
    """No tasks."""
    return own(0 * count)


def own(count: int) -> Quart:
    """`Quart.add_background_task`, which starts at once."""
    app = Quart(__name__)
    add: Any = getattr(app, "add_background_task")  # noqa: B009 - it is not wholly typed

    @app.get("/")
    async def _route() -> dict[str, bool]:
        for _ in range(count):
            add(task)
        return {"ok": True}

    return app
