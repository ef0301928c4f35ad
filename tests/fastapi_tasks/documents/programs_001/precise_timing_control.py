# The document writes `-> dict`:
# mypy: disable-error-code="type-arg"
# pyright: reportMissingTypeArgument=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false

from fastapi import FastAPI
from fastapi_tasks import Tasks, add_tasks


async def process_payment() -> None: ...


async def update_inventory() -> None: ...


async def send_confirmation_email() -> None: ...


app = FastAPI()
add_tasks(app)

@app.post("/orders")
async def create_order(tasks: Tasks) -> dict:
    # Immediate: starts right away
    tasks.schedule(process_payment)

    # After route: scheduled before response sent (fire-and-forget)
    tasks.after_route.schedule(update_inventory)

    # After response: scheduled after response sent
    tasks.after_response.schedule(send_confirmation_email)

    return {"status": "processing"}
