from fastapi import FastAPI
from fastapi_tasks import Task, Tasks, add_tasks

app = FastAPI()
add_tasks(app)


async def detailed_error_handler(task: Task, error: Exception) -> None:
    print(f"Task name: {task.config.name}")
    print(f"Function: {task.func.__name__}")
    print(f"Arguments: {task.args}")
    print(f"Keyword arguments: {task.kwargs}")
    print(f"Error: {error}")
    print(f"Error type: {type(error).__name__}")


def divide(dividend: int, *, by: int) -> float:
    return dividend / by


@app.post("/")
async def schedule(tasks: Tasks) -> None:
    tasks.task(name="division", on_error=detailed_error_handler).schedule(divide, 1, by=0)
