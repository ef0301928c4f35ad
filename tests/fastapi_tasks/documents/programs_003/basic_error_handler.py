# The document writes `-> dict`:
# mypy: disable-error-code="type-arg"
# pyright: reportMissingTypeArgument=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false

from fastapi import FastAPI
from fastapi_tasks import Tasks, add_tasks

app = FastAPI()
add_tasks(app)


from fastapi_tasks import Task

async def my_error_handler(task: Task, error: Exception) -> None:
    print(f"Task {task.config.name} failed: {error}")

async def risky_operation() -> None:
    raise ValueError("Something went wrong")

@app.post("/risky")
async def risky_endpoint(tasks: Tasks) -> dict:
    tasks.task(
        name="risky_task",
        on_error=my_error_handler
    ).schedule(risky_operation)
    return {"status": "ok"}
