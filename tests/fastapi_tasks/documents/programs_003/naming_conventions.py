from fastapi import FastAPI
from fastapi_tasks import Tasks, add_tasks

app = FastAPI()
add_tasks(app)

# The document's `...` are arguments that it leaves out; here they are passed as they stand.


async def send_email(what: object) -> None: ...


async def process_payment(what: object) -> None: ...


async def create_thumbnail(what: object) -> None: ...


@app.post("/")
async def schedule(tasks: Tasks) -> None:
    # Good names
    tasks.task(name="send_order_confirmation").schedule(send_email, ...)
    tasks.task(name="process_payment").schedule(process_payment, ...)
    tasks.task(name="generate_thumbnail").schedule(create_thumbnail, ...)

    # Less helpful names
    tasks.task(name="task1").schedule(send_email, ...)
    tasks.task(name="email").schedule(send_email, ...)
