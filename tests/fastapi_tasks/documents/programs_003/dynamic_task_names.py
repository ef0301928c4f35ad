# The document writes `-> dict`:
# mypy: disable-error-code="type-arg"
# pyright: reportMissingTypeArgument=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false

from fastapi import FastAPI
from fastapi_tasks import Tasks, add_tasks

app = FastAPI()
add_tasks(app)


def process_data(user_id: int) -> None: ...


@app.post("/process/{user_id}")
async def process_user_data(user_id: int, tasks: Tasks) -> dict:
    task_name = f"process_user_{user_id}"
    tasks.task(name=task_name).schedule(process_data, user_id)
    return {"status": "processing"}
