"""Fetch external data and send a webhook after the response, on FastAPI.

Both tasks use the client that the application opened; it is closed only when tasks have ended
(promise 5.1). A webhook that fails is tried again by its error handler (4.4). Start the other side
first: `hatch run example webhook-receiver --port 8001`.

    curl -X POST http://127.0.0.1:8000/users/7/refresh
    curl http://127.0.0.1:8000/users/7
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi_tasks import Tasks, add_tasks
from httpx import AsyncClient

from examples.webhooks.tasks import fetch_profile, profiles, retry, send_webhook


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[dict[str, AsyncClient]]:
    """Open one client for all requests and tasks."""
    async with AsyncClient(timeout=10) as client:
        yield {"client": client}


def get_client(request: Request) -> AsyncClient:
    """Return the application's client."""
    client: AsyncClient = request.state.client
    return client


app = FastAPI(lifespan=lifespan)
add_tasks(app, grace_period=10)


@app.post("/users/{user_id}/refresh", status_code=202)
async def refresh(
    user_id: int, client: Annotated[AsyncClient, Depends(get_client)], tasks: Tasks
) -> dict[str, int]:
    """Fetch a user's profile anew, and tell the other side."""
    tasks.after_response.schedule(fetch_profile, client, user_id)
    payload = {"user_id": user_id, "action": "refresh"}
    tasks.after_response.task(on_error=retry).schedule(send_webhook, client, payload)
    return {"user_id": user_id}


@app.get("/users/{user_id}")
async def get_user(user_id: int) -> Any:  # noqa: ANN401 - whatever the other side sent
    """Return the profile that was fetched."""
    if user_id not in profiles:
        raise HTTPException(404, "nothing was fetched yet")
    return profiles[user_id]
