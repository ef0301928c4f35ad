from fastapi import FastAPI
from fastapi_tasks import Task, TaskConfig, Tasks, add_tasks

from tests.fastapi_tasks.documents.stand_ins import StandInError


async def fail() -> None:
    raise StandInError("merged")


def handler1(task: Task, error: Exception) -> None:
    print(f"handler1: {error}")


global_config = TaskConfig(name="global", shield=True, on_error=handler1)

# Task config only sets shield=False
task_config = TaskConfig(shield=False)

# After merge:
# - name: "global" (from global, task didn't specify)
# - shield: False (from task, overrides global)
# - on_error: handler1 (from global, task didn't specify)
merged = global_config.merge(task_config)

app = FastAPI()
add_tasks(app, config=merged)


@app.post("/")
async def schedule(tasks: Tasks) -> None:
    tasks.schedule(fail)
