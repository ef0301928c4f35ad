"""Send a welcome mail to whoever signs up, on Litestar.

The mail goes once the response is out (promise 1.3), and only if the signup succeeded (1.6). A
shutdown gives mails that are under way ten seconds (5.2).

    curl -X POST "http://127.0.0.1:8000/signup?email=ada@example.com"
"""

from litestar import Litestar, post
from litestar.params import FromQuery
from litestar_tasks import Tasks, TasksPlugin

from examples.mail.tasks import send_email


@post("/signup")
async def signup(email: FromQuery[str], tasks: Tasks) -> dict[str, str]:
    """Sign somebody up."""
    tasks.after_response.task(name="welcome mail").schedule(
        send_email, email, subject="Welcome!", body="It is good to have you here."
    )
    return {"email": email}


app = Litestar(
    [signup],
    plugins=[TasksPlugin(grace_period=10)],
    logging_config=None,  # it is configured where the program is started
)
