"""Send a welcome mail to whoever signs up, on FastAPI.

The mail goes once the response is out (promise 1.3), and only if the signup succeeded (1.6). A
shutdown gives mails that are under way ten seconds (5.2).

    curl -X POST "http://127.0.0.1:8000/signup?email=ada@example.com"
"""

from fastapi import FastAPI
from fastapi_tasks import Tasks, add_tasks

from examples.mail.tasks import send_email

app = FastAPI()
add_tasks(app, grace_period=10)


@app.post("/signup", status_code=201)
async def signup(email: str, tasks: Tasks) -> dict[str, str]:
    """Sign somebody up."""
    tasks.after_response.task(name="welcome mail").schedule(
        send_email, email, subject="Welcome!", body="It is good to have you here."
    )
    return {"email": email}
