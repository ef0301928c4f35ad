from fastapi import FastAPI
from fastapi_tasks import Task, Tasks, add_tasks

from tests.fastapi_tasks.documents.stand_ins import StandInError

app = FastAPI()
add_tasks(app)


async def log_error_to_service(error: Exception) -> None: ...


# Async error handler
async def async_error_handler(task: Task, error: Exception) -> None:
    await log_error_to_service(error)

# Sync error handler
def sync_error_handler(task: Task, error: Exception) -> None:
    print(f"Error: {error}")


async def fail_async() -> None:
    raise StandInError("async function")


def fail_sync() -> None:
    raise StandInError("sync function")


@app.post("/")
async def schedule(tasks: Tasks) -> None:
    with_async_handler = tasks.task(on_error=async_error_handler)
    with_async_handler.schedule(fail_async)
    with_async_handler.schedule(fail_sync)
    with_sync_handler = tasks.task(on_error=sync_error_handler)
    with_sync_handler.schedule(fail_async)
    with_sync_handler.schedule(fail_sync)
