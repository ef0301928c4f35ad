"""Fetch external data and send a webhook after the response, on Litestar.

Both tasks use the client that the application opened; it is closed only when tasks have ended
(promise 5.1). A webhook that fails is tried again by its error handler (4.4). Start the other side
first: `hatch run example webhook-receiver --port 8001`.

    curl -X POST http://127.0.0.1:8000/users/7/refresh
    curl http://127.0.0.1:8000/users/7
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from httpx import AsyncClient
from litestar import Litestar, get, post
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar_tasks import Tasks, TasksPlugin

from examples.webhooks.tasks import fetch_profile, profiles, retry, send_webhook


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncGenerator[None]:
    """Open one client for all requests and tasks."""
    async with AsyncClient(timeout=10) as client:
        app.state.client = client
        yield


@post("/users/{user_id:int}/refresh", status_code=202)
async def refresh(user_id: FromPath[int], state: State, tasks: Tasks) -> dict[str, int]:
    """Fetch a user's profile anew, and tell the other side."""
    client: AsyncClient = state.client
    tasks.after_response.schedule(fetch_profile, client, user_id)
    payload = {"user_id": user_id, "action": "refresh"}
    tasks.after_response.task(on_error=retry).schedule(send_webhook, client, payload)
    return {"user_id": user_id}


@get("/users/{user_id:int}")
async def get_user(user_id: FromPath[int]) -> Any:  # noqa: ANN401 - whatever the other side sent
    """Return the profile that was fetched."""
    if user_id not in profiles:
        raise NotFoundException("nothing was fetched yet")
    return profiles[user_id]


app = Litestar(
    [refresh, get_user],
    lifespan=[lifespan],
    plugins=[TasksPlugin(grace_period=10)],
    logging_config=None,  # it is configured where the program is started
)
