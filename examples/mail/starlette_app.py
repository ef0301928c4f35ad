"""Send a welcome mail to whoever signs up, on Starlette.

The mail goes once the response is out (promise 1.3), and only if the signup succeeded (1.6). A
shutdown gives mails that are under way ten seconds (5.2).

    curl -X POST "http://127.0.0.1:8000/signup?email=ada@example.com"
"""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette_tasks import add_tasks, get_tasks

from examples.mail.tasks import send_email


async def signup(request: Request) -> JSONResponse:
    """Sign somebody up."""
    email = request.query_params.get("email")
    if email is None:
        raise HTTPException(400, "Say who: ?email=...")
    get_tasks(request).after_response.task(name="welcome mail").schedule(
        send_email, email, subject="Welcome!", body="It is good to have you here."
    )
    return JSONResponse({"email": email}, 201)


app = Starlette(routes=[Route("/signup", signup, methods=["POST"])])
add_tasks(app, grace_period=10)
