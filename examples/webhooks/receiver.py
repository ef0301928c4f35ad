"""Play the other side for the programs of this folder: serve profiles, receive webhooks.

It runs beside one of them, on port 8001. The second webhook of any three is refused, so that there
is something to retry.

    curl http://127.0.0.1:8001/webhooks
"""

from itertools import cycle
from typing import Any

from fastapi import FastAPI, HTTPException

app = FastAPI()
received: list[dict[str, Any]] = []
_answers = cycle([204, 503, 204])


@app.get("/profiles/{user_id}")
async def profile(user_id: int) -> dict[str, object]:
    """Say what is known of a user."""
    return {"user_id": user_id, "interests": ["tea", "coffee"]}


@app.post("/webhook", status_code=204)
async def webhook(payload: dict[str, Any]) -> None:
    """Receive a webhook."""
    if next(_answers) != 204:
        raise HTTPException(503, "too busy, come again")
    received.append(payload)


@app.get("/webhooks")
async def webhooks() -> list[dict[str, Any]]:
    """List what was received."""
    return received
