# The document writes `-> dict`:
# mypy: disable-error-code="type-arg"
# pyright: reportMissingTypeArgument=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false

from fastapi_tasks import Task

from tests.fastapi_tasks.documents.stand_ins import StandInError


async def track_error(error: Exception) -> None: ...


async def my_function() -> None:
    raise StandInError("not today")


from fastapi import FastAPI
from fastapi_tasks import Tasks, add_tasks, TaskConfig

# Define global error handler
async def global_error_handler(task: Task, error: Exception) -> None:
    print(f"Task {task.config.name} failed: {error}")
    # Send to error tracking service
    await track_error(error)

# Global configuration applied to all tasks
global_config = TaskConfig(
    shield=True,  # All tasks shielded by default
    on_error=global_error_handler
)

app = FastAPI()
add_tasks(app, config=global_config)

@app.post("/task")
async def endpoint(tasks: Tasks) -> dict:
    # This task inherits global configuration
    # shield=True, on_error=global_error_handler
    tasks.schedule(my_function)
    return {"status": "scheduled"}


@app.post("/later")
async def later(tasks: Tasks) -> None:
    """Not in the document's example: its global configuration is for all timing modes."""
    tasks.after_route.schedule(my_function)
    tasks.after_response.schedule(my_function)
