from fastapi import FastAPI
from fastapi_tasks import Tasks, add_tasks

from tests.fastapi_tasks.documents.stand_ins import StandInError

app = FastAPI()
add_tasks(app)


async def my_task() -> None:
    raise StandInError("logged but not handled")


@app.post("/")
async def schedule(tasks: Tasks) -> None:
    # These are equivalent
    tasks.schedule(my_task)
    tasks.task().schedule(my_task)
    tasks.task(name=None, shield=False, on_error=None).schedule(my_task)
