# The document writes `-> dict`:
# mypy: disable-error-code="type-arg"
# pyright: reportMissingTypeArgument=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false

from fastapi import FastAPI
from fastapi_tasks import Tasks, add_tasks

app = FastAPI()
add_tasks(app)


async def finalize_payment() -> None: ...


@app.post("/payment")
async def process_payment(tasks: Tasks) -> dict:
    # This task completes even during server shutdown
    tasks.task(shield=True).schedule(finalize_payment)

    return {"status": "processing"}
