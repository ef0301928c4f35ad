# The document writes `-> dict`:
# mypy: disable-error-code="type-arg"
# pyright: reportMissingTypeArgument=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false

from fastapi import FastAPI
from fastapi_tasks import Tasks, add_tasks

app = FastAPI()
add_tasks(app)


async def critical_operation() -> None:
    # This operation MUST complete
    print("Performing critical operation")

@app.post("/critical")
async def critical_endpoint(tasks: Tasks) -> dict:
    # This task will complete even during server shutdown
    tasks.task(shield=True).schedule(critical_operation)
    return {"status": "ok"}
