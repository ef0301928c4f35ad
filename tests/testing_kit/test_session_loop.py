"""A suite under pytest-asyncio: its fixtures have the session's event loop, its tests their own.

That is what `asyncio_default_fixture_loop_scope = session` means for tests without a scope; many
suites are so. The application starts on one loop and is served on others, of the same thread.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

import pytest

pytest_plugins = ["pytester"]

APPLICATION: Final = """
from contextlib import asynccontextmanager

{imports}

log = []

async def note(what):
    await anyio.lowlevel.checkpoint()
    log.append(what)
    return asyncio.get_running_loop()

def note_in_thread(what):
    log.append(what)

async def fail():
    raise ValueError("it failed")

async def handle(task, error):
    log.append(f"handled {{error}}")

def plan(tasks):
    for number in range(3):
        tasks.schedule(note, f"immediate {{number}}")
        tasks.after_route.schedule(note, f"route {{number}}")
        tasks.after_response.schedule(note, f"response {{number}}")
    tasks.after_response.task(on_error=handle).schedule(fail)
    tasks.after_response.schedule(note_in_thread, "thread")

{application}

app = create()
"""

TESTS: Final = """
import asyncio

import anyio
import httpx
import pytest
import pytest_asyncio
from application import app, create, log
from tasks_core.testing import drain, inline, lifespan, record

loops = []

@pytest_asyncio.fixture
async def client():
    loops.append(asyncio.get_running_loop())
    async with lifespan(create()) as started:
        transport = httpx.ASGITransport(started)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client

@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def session_client():
    loops.append(asyncio.get_running_loop())
    async with lifespan(app) as started:
        transport = httpx.ASGITransport(started)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client

@pytest.fixture(autouse=True)
def clean():
    log.clear()

PHASES = ("immediate", "route", "response")
EXPECTED = [f"{phase} {number}" for phase in PHASES for number in range(3)]

@pytest.mark.parametrize("again", range(3))
async def test_phases(session_client, again):
    assert asyncio.get_running_loop() is not loops[-1]
    async with drain(raise_errors=False):
        assert (await session_client.get("/")).status_code < 300
    assert [what for what in log if what in EXPECTED] == EXPECTED
    assert sorted(set(log) - set(EXPECTED)) == ["handled it failed", "thread"]

async def test_waiting(session_client):
    answer = await session_client.get("/wait")
    assert answer.text.strip('"') == "same loop"

async def test_waiting_for_a_failure(session_client):
    answer = await session_client.get("/wait-for-failure")
    assert answer.text.strip('"') == "it failed"

async def test_fixture(session_client, drained_tasks):
    await session_client.get("/wait")
    assert len(drained_tasks.tasks) == 1

async def test_inline(session_client):
    async with inline(raise_errors=False):
        await session_client.get("/")
        assert "handled it failed" in log

async def test_record(session_client):
    async with record() as recorded:
        await session_client.get("/")
    assert len(recorded.tasks) == 11
    assert log == []

async def test_failed_requests(session_client):
    async with drain():
        assert (await session_client.get("/refuse")).status_code == 403
    assert log == ["refused"]

async def test_a_client_of_its_own(client):
    assert asyncio.get_running_loop() is loops[-1]
    async with drain(raise_errors=False):
        await client.get("/")
    assert "response 2" in log
"""

FASTAPI: Final = (
    """
import asyncio

import anyio
from fastapi import APIRouter, FastAPI, HTTPException
from fastapi_tasks import Tasks, add_tasks, current_tasks
""",
    """
router = APIRouter()

@router.get("/")
async def index(tasks: Tasks) -> str:
    plan(tasks)
    return "ok"

@router.get("/wait")
async def wait(tasks: Tasks) -> str:
    loop = await tasks.schedule(note, "waited").wait()
    return "same loop" if loop is asyncio.get_running_loop() else "another loop"

@router.get("/wait-for-failure")
async def wait_for_failure(tasks: Tasks) -> str:
    try:
        await tasks.schedule(fail).wait()
    except ValueError as error:
        return str(error)
    return "no failure"

@router.get("/refuse")
async def refuse(tasks: Tasks) -> None:
    tasks.after_response.schedule(note, "not this")
    tasks.after_response.task(run_on="failure").schedule(note, "refused")
    raise HTTPException(403)

def create() -> FastAPI:
    app = FastAPI()
    app.include_router(router)
    add_tasks(app)
    return app
""",
)

STARLETTE: Final = (
    """
import asyncio

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette_tasks import add_tasks, get_tasks
""",
    """
async def index(request):
    plan(get_tasks(request))
    return PlainTextResponse("ok")

async def wait(request):
    loop = await get_tasks(request).schedule(note, "waited").wait()
    same = loop is asyncio.get_running_loop()
    return PlainTextResponse("same loop" if same else "another loop")

async def wait_for_failure(request):
    try:
        await get_tasks(request).schedule(fail).wait()
    except ValueError as error:
        return PlainTextResponse(str(error))

async def refuse(request):
    get_tasks(request).after_response.schedule(note, "not this")
    get_tasks(request).after_response.task(run_on="failure").schedule(note, "refused")
    raise HTTPException(403)

def create():
    app = Starlette(routes=[
        Route("/", index), Route("/wait", wait), Route("/wait-for-failure", wait_for_failure),
        Route("/refuse", refuse),
    ])
    add_tasks(app)
    return app
""",
)

LITESTAR: Final = (
    """
import asyncio

import anyio
from litestar import Litestar, get
from litestar.exceptions import HTTPException
from litestar_tasks import Tasks, TasksPlugin
""",
    """
@get("/")
async def index(tasks: Tasks) -> str:
    plan(tasks)
    return "ok"

@get("/wait")
async def wait(tasks: Tasks) -> str:
    loop = await tasks.schedule(note, "waited").wait()
    return "same loop" if loop is asyncio.get_running_loop() else "another loop"

@get("/wait-for-failure")
async def wait_for_failure(tasks: Tasks) -> str:
    try:
        await tasks.schedule(fail).wait()
    except ValueError as error:
        return str(error)
    return "no failure"

@get("/refuse")
async def refuse(tasks: Tasks) -> str:
    tasks.after_response.schedule(note, "not this")
    tasks.after_response.task(run_on="failure").schedule(note, "refused")
    raise HTTPException(status_code=403)

def create() -> Litestar:
    routes = [index, wait, wait_for_failure, refuse]
    return Litestar(routes, plugins=[TasksPlugin()], logging_config=None)
""",
)


@pytest.mark.skipif(find_spec("pytest_asyncio") is None, reason="pytest-asyncio is not installed")
@pytest.mark.parametrize(
    "framework", [FASTAPI, STARLETTE, LITESTAR], ids=["fastapi", "starlette", "litestar"]
)
def test_fixtures_on_the_sessions_loop(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, framework: tuple[str, str]
) -> None:
    """2.7 Phases, waiting, error handlers and order, as if there were one loop."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    imports, application = framework
    pytester.makeini(
        "[pytest]\nasyncio_mode = auto\n"
        "asyncio_default_fixture_loop_scope = function\n"
        "asyncio_default_test_loop_scope = function\n"
    )
    pytester.makepyfile(
        application=APPLICATION.format(imports=imports, application=application), test_it=TESTS
    )
    plugins = (
        "-p",
        "pytest_asyncio.plugin",
        "-p",
        "tasks_core._pytest_plugin",
        "-p",
        "no:cacheprovider",
    )
    # The plugins were imported by the outer run, with their assertions as they are.
    strict = ("error", "ignore::DeprecationWarning", "ignore::pytest.PytestAssertRewriteWarning")
    result = pytester.runpytest_inprocess(*plugins, *(f"-W{it}" for it in strict))
    result.assert_outcomes(passed=10)
