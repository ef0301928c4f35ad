"""A middleware of the awkward kind, for frameworks that bring none."""

from __future__ import annotations

import anyio
from anyio.streams.memory import MemoryObjectSendStream
from tasks_core.asgi import ASGIApp, Message, Receive, Scope, Send


def relay(app: ASGIApp) -> ASGIApp:
    """Wrap ``app`` so that it runs in a task of its own, its messages handed over one by one."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
            return
        failure: Exception | None = None
        messages, accepted = anyio.create_memory_object_stream[Message]()

        async def run(outbox: MemoryObjectSendStream[Message]) -> None:
            nonlocal failure
            async with outbox:
                try:
                    await app(scope, receive, outbox.send)
                except Exception as error:  # noqa: BLE001 - raised below, in the task of the caller
                    failure = error

        async with anyio.create_task_group() as group, accepted:
            group.start_soon(run, messages)
            async for message in accepted:
                await send(message)
        if failure is not None:
            raise failure

    return serve
