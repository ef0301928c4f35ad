"""The tasks that the three applications of this folder share: fetch a profile, send a webhook.

The other side is at SOURCE_URL and WEBHOOK_URL; `receiver.py` plays it on port 8001.
"""

import os
from collections.abc import Mapping
from typing import Any

import anyio
from httpx import AsyncClient
from tasks_core import Task

SOURCE_URL = os.environ.get("SOURCE_URL", "http://127.0.0.1:8001/profiles")
WEBHOOK_URL = os.environ.get("WEBHOOK_URL", "http://127.0.0.1:8001/webhook")
PAUSES = [1.0, 2.0, 4.0]
"""Seconds to wait before each new attempt."""

profiles: dict[int, Any] = {}


async def fetch_profile(client: AsyncClient, user_id: int) -> None:
    """Fetch what the other side knows of a user."""
    response = await client.get(f"{SOURCE_URL}/{user_id}")
    profiles[user_id] = response.raise_for_status().json()


async def send_webhook(client: AsyncClient, payload: Mapping[str, object]) -> None:
    """Tell the other side; an answer other than 2xx is a failure."""
    response = await client.post(WEBHOOK_URL, json=payload)
    response.raise_for_status()


async def retry(task: Task, error: Exception) -> None:
    """Run a failed task again, waiting longer each time; what is raised at last is logged."""
    last = error
    for pause in PAUSES:
        await anyio.sleep(pause)
        try:
            await task()
        except Exception as again:  # noqa: BLE001 - whatever it is, it may pass
            last = again
        else:
            return
    raise last
