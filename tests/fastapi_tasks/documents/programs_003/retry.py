# The document writes `-> dict`:
# mypy: disable-error-code="type-arg"
# pyright: reportMissingTypeArgument=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false

from fastapi import FastAPI
from fastapi_tasks import Task, Tasks, add_tasks

app = FastAPI()
add_tasks(app)


import asyncio

async def retry_handler(task: Task, error: Exception) -> None:
    """Retry the task up to 3 times"""
    max_retries = 3
    for attempt in range(max_retries):
        try:
            await asyncio.sleep(2 ** attempt)  # Exponential backoff
            # Retry the task
            await task.func(*task.args, **task.kwargs)
            print(f"Task {task.config.name} succeeded on retry {attempt + 1}")
            return
        except Exception as e:
            if attempt == max_retries - 1:
                print(f"Task {task.config.name} failed after {max_retries} retries")
                raise
            print(f"Retry {attempt + 1} failed: {e}")

async def flaky_operation() -> None:
    # Simulates an operation that might fail
    import random
    if random.random() < 0.7:
        raise ValueError("Random failure")
    print("Operation succeeded")

@app.post("/flaky")
async def flaky_endpoint(tasks: Tasks) -> dict:
    tasks.task(
        name="flaky_task",
        on_error=retry_handler
    ).schedule(flaky_operation)
    return {"status": "ok"}
