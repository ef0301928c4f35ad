"""FastAPI and Starlette with asgi-background."""

from asgi_background import BackgroundTaskMiddleware, BackgroundTasks
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from benchmarks.work import task


def fastapi(count: int) -> FastAPI:
    """After the response."""
    app = FastAPI(middleware=[Middleware(BackgroundTaskMiddleware)])

    @app.get("/")
    async def _route(request: Request) -> dict[str, bool]:
        background = BackgroundTasks(request.scope)
        for _ in range(count):
            await background.add_task(task)
        return {"ok": True}

    return app


def starlette(count: int) -> Starlette:
    """After the response."""

    async def route(request: Request) -> Response:
        background = BackgroundTasks(request.scope)
        for _ in range(count):
            await background.add_task(task)
        return JSONResponse({"ok": True})

    return Starlette(routes=[Route("/", route)], middleware=[Middleware(BackgroundTaskMiddleware)])
