from fastapi import FastAPI
from fastapi_tasks import Task, Tasks, add_tasks

from tests.fastapi_tasks.documents.stand_ins import StandInError

app = FastAPI()
add_tasks(app)
arg1 = "one"
arg2 = 2


async def my_function(first: str, second: int) -> None:
    raise StandInError(f"{first} {second}")


def error_handler(task: Task, error: Exception) -> None: ...


@app.post("/")
async def schedule(tasks: Tasks) -> None:
    tasks.task(
        name="my_task",  # Optional: task name for logging
        shield=True,  # Optional: protect from cancellation
        on_error=error_handler  # Optional: custom error handler
    ).schedule(my_function, arg1, arg2)
