from fastapi import FastAPI
from fastapi_tasks import Task, TaskConfig, Tasks, add_tasks


def log_errors(task: Task, error: Exception) -> None: ...


async def critical_task() -> None: ...


async def ordinary_task() -> None: ...


# Good - conservative defaults, override when needed
global_config = TaskConfig(
    shield=False,  # Fast shutdown by default
    on_error=log_errors  # Always log errors
)

app = FastAPI()
add_tasks(app, config=global_config)


@app.post("/")
async def schedule(tasks: Tasks) -> None:
    tasks.schedule(ordinary_task)

    # Tasks opt-in to shielding when critical
    tasks.task(shield=True).schedule(critical_task)
