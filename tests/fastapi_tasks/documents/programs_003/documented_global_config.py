from fastapi import FastAPI
from fastapi_tasks import Task, TaskConfig, Tasks, add_tasks

from tests.fastapi_tasks.documents.stand_ins import StandInError

app = FastAPI()


async def sentry_error_handler(task: Task, error: Exception) -> None:
    print(f"Sentry: {error}")


async def fail() -> None:
    raise StandInError("reported")


# Global task configuration for this application:
# - All tasks report errors to Sentry
# - Tasks are NOT shielded (can be cancelled during shutdown)
# - Individual tasks can override these defaults
global_config = TaskConfig(
    on_error=sentry_error_handler,
    shield=False
)

add_tasks(app, config=global_config)


@app.post("/")
async def schedule(tasks: Tasks) -> None:
    tasks.schedule(fail)
    tasks.task(shield=True).schedule(fail)
