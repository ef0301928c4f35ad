# The document writes `-> dict`:
# mypy: disable-error-code="type-arg"
# pyright: reportMissingTypeArgument=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false

from fastapi import FastAPI
from fastapi_tasks import Tasks, add_tasks

app = FastAPI()
add_tasks(app)

async def send_email(to: str, subject: str) -> None:
    print(f"Sending email to {to}")

@app.post("/notify")
async def notify_user(email: str, tasks: Tasks) -> dict:
    # Name the task for better logging
    tasks.task(name="send_welcome_email").schedule(
        send_email,
        to=email,
        subject="Welcome!"
    )
    return {"status": "ok"}
