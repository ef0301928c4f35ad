# The document writes `-> dict`:
# mypy: disable-error-code="type-arg"
# pyright: reportMissingTypeArgument=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false

from fastapi import FastAPI
from fastapi_tasks import Task, TaskConfig, Tasks, add_tasks

from tests.fastapi_tasks.documents.stand_ins import StandInError


async def global_error_handler(task: Task, error: Exception) -> None:
    print("Global handler")


async def task1() -> None:
    raise StandInError("1")


async def task2() -> None:
    raise StandInError("2")


async def task3() -> None:
    raise StandInError("3")


async def task4() -> None:
    raise StandInError("4")


# Global config: all tasks shielded with global error handler
global_config = TaskConfig(shield=True, on_error=global_error_handler)
app = FastAPI()
add_tasks(app, config=global_config)

async def custom_error_handler(task: Task, error: Exception) -> None:
    print("Custom handler")

@app.post("/tasks")
async def endpoint(tasks: Tasks) -> dict:
    # Task 1: Uses global config completely
    # shield=True, on_error=global_error_handler
    tasks.schedule(task1)
    # Task 2: Overrides error handler only
    # shield=True (from global), on_error=custom_error_handler
    tasks.task(on_error=custom_error_handler).schedule(task2)
    # Task 3: Overrides shield only
    # shield=False, on_error=global_error_handler (from global)
    tasks.task(shield=False).schedule(task3)
    # Task 4: Overrides everything
    # shield=False, on_error=custom_error_handler, name="my_task"
    tasks.task(
        name="my_task",
        shield=False,
        on_error=custom_error_handler
    ).schedule(task4)
    return {"status": "ok"}
