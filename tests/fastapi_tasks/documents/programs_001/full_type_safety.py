# The document writes `-> dict`:
# mypy: disable-error-code="type-arg"
# pyright: reportMissingTypeArgument=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false

from fastapi import FastAPI
from fastapi_tasks import Tasks, add_tasks

app = FastAPI()
add_tasks(app)


async def send_email(to: str, subject: str, body: str) -> None:
    ...

@app.post("/send")
async def send(tasks: Tasks) -> dict:
    # IDE knows parameter types and provides autocomplete
    tasks.schedule(send_email, "user@example.com", "Hello", "Welcome!")

    return {"status": "ok"}


@app.post("/wrong")
async def send_wrongly(tasks: Tasks) -> None:
    """Not in the document: that the types are known is seen by what the checkers refuse."""
    tasks.schedule(send_email, "user@example.com", "Hello")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
