"""Fetch external data and send a webhook after the response, on Starlette.

Both tasks use the client that the application opened; it is closed only when tasks have ended
(promise 5.1). A webhook that fails is tried again by its error handler (4.4). Start the other side
first: `hatch run example webhook-receiver --port 8001`.

    curl -X POST http://127.0.0.1:8000/users/7/refresh
    curl http://127.0.0.1:8000/users/7
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from httpx import AsyncClient
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette_tasks import add_tasks, get_tasks

from examples.webhooks.tasks import fetch_profile, profiles, retry, send_webhook


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncGenerator[dict[str, AsyncClient]]:
    """Open one client for all requests and tasks."""
    async with AsyncClient(timeout=10) as client:
        yield {"client": client}


async def refresh(request: Request) -> JSONResponse:
    """Fetch a user's profile anew, and tell the other side."""
    tasks = get_tasks(request)
    client: AsyncClient = request.state.client
    user_id: int = request.path_params["user_id"]
    tasks.after_response.schedule(fetch_profile, client, user_id)
    payload = {"user_id": user_id, "action": "refresh"}
    tasks.after_response.task(on_error=retry).schedule(send_webhook, client, payload)
    return JSONResponse({"user_id": user_id}, 202)


async def get_user(request: Request) -> JSONResponse:
    """Return the profile that was fetched."""
    user_id: int = request.path_params["user_id"]
    if user_id not in profiles:
        raise HTTPException(404, "nothing was fetched yet")
    return JSONResponse(profiles[user_id])


app = Starlette(
    routes=[
        Route("/users/{user_id:int}/refresh", refresh, methods=["POST"]),
        Route("/users/{user_id:int}", get_user),
    ],
    lifespan=lifespan,
)
add_tasks(app, grace_period=10)
