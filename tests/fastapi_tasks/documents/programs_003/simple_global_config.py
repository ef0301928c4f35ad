from fastapi import APIRouter, FastAPI
from fastapi_tasks import Task, TaskConfig, Tasks, add_tasks

from tests.fastapi_tasks.documents.stand_ins import StandInError

router = APIRouter()


@router.post("/")
async def schedule(tasks: Tasks) -> None:
    tasks.schedule(fail)


async def fail() -> None:
    raise StandInError("as ever")


def error_handler(task: Task, error: Exception) -> None:
    print(f"simple: {task.name}")


def complex_handler(task: Task, error: Exception) -> None:
    print(f"complex: {task.name}")


# Good - simple, clear global config
global_config = TaskConfig(on_error=error_handler)

app = FastAPI()
add_tasks(app, config=global_config)
app.include_router(router)

# Avoid - too much in global config
global_config = TaskConfig(
    name="default_task",  # Don't set names globally
    shield=True,  # Risky default
    on_error=complex_handler
)

app_to_avoid = FastAPI()
add_tasks(app_to_avoid, config=global_config)
app_to_avoid.include_router(router)
