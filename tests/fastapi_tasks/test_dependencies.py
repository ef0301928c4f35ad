"""`Tasks` in every kind of FastAPI's dependencies: always the request's own scheduler."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from functools import partial
from itertools import permutations
from typing import Annotated, Any, Literal, TypeAlias

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, WebSocket
from fastapi_tasks import Task, Tasks, TasksScheduler, TaskState, add_tasks, current_tasks

from tests.asgi.watching import FAILURE, IN_ORDER, SUCCESS, Outcome, Watch
from tests.conformance.cases import async_function, finish
from tests.conformance.driver import serve

pytestmark = pytest.mark.anyio

Scope: TypeAlias = Literal["function", "request"]
Got: TypeAlias = list[TasksScheduler]


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    add_tasks(app)
    return app


# The kinds of dependencies; each notes the scheduler that it got.


def asynchronous(got: Got) -> Any:
    async def dependency(tasks: Tasks) -> None:
        got.append(tasks)

    return dependency


def synchronous(got: Got) -> Any:
    def dependency(tasks: Tasks) -> None:
        got.append(tasks)

    return dependency


def asynchronous_with_yield(got: Got) -> Any:
    async def dependency(tasks: Tasks) -> AsyncGenerator[None]:
        got.append(tasks)
        yield
        assert await tasks.schedule(len, "four").wait() == 4

    return dependency


def synchronous_with_yield(got: Got) -> Any:
    def dependency(tasks: Tasks) -> Generator[None]:
        got.append(tasks)
        yield
        tasks.schedule(len, "four")

    return dependency


def nested(got: Got) -> Any:
    def outer(tasks: Tasks, _: Annotated[None, Depends(asynchronous(got))]) -> None:
        got.append(tasks)

    return outer


def of_a_class(got: Got) -> Any:
    class Dependency:
        def __init__(self, tasks: Tasks) -> None:
            got.append(tasks)

    return Dependency


def of_a_callable_object(got: Got) -> Any:
    class Dependency:
        async def __call__(self, tasks: Tasks) -> None:
            got.append(tasks)

    return Dependency()


KINDS = [
    asynchronous,
    synchronous,
    asynchronous_with_yield,
    synchronous_with_yield,
    nested,
    of_a_class,
    of_a_callable_object,
]
each_kind = pytest.mark.parametrize("kind", KINDS)
each_scope = pytest.mark.parametrize("scope", [None, "function", "request"])


def assert_one(got: Got, at_least: int) -> None:
    assert len(got) >= at_least
    assert all(tasks is got[0] for tasks in got)


@each_scope
@each_kind
async def test_dependencies(app: FastAPI, kind: Callable[[Got], Any], scope: Scope | None) -> None:
    """1.8 A dependency of any kind and scope gets the scheduler that its route gets."""
    got: Got = []
    depends: Any = Depends(kind(got), scope=scope)

    @app.get("/async")
    async def async_route(_: Annotated[Any, depends], tasks: Tasks) -> None:
        got.extend((tasks, current_tasks()))

    @app.get("/sync")
    def sync_route(tasks: Tasks, _: Annotated[Any, depends]) -> None:
        got.extend((tasks, current_tasks()))

    async with serve(app) as server:
        for path in ("/async", "/sync"):
            exchange = await server.request(path)
            assert (exchange.status, exchange.error) == (200, None)
            assert_one(got, 3)
            got.clear()


@each_kind
async def test_dependencies_of_routers(app: FastAPI, kind: Callable[[Got], Any]) -> None:
    """1.8 So does a dependency that a router, its inclusion or a decorator brings."""
    got: Got = []
    router = APIRouter(dependencies=[Depends(kind(got))])

    @router.get("/", dependencies=[Depends(asynchronous(got))])
    async def route(tasks: Tasks) -> None:
        got.append(tasks)

    app.include_router(router, prefix="/router", dependencies=[Depends(asynchronous(got))])
    async with serve(app) as server:
        assert (await server.request("/router/")).status == 200
    assert_one(got, 3)


@each_scope
@each_kind
async def test_dependencies_of_websockets(
    app: FastAPI, kind: Callable[[Got], Any], scope: Scope | None
) -> None:
    """1.8 So does a dependency of a WebSocket route."""
    got: Got = []
    depends: Any = Depends(kind(got), scope=scope)

    @app.websocket("/")
    async def route(websocket: WebSocket, _: Annotated[Any, depends], tasks: Tasks) -> None:
        got.append(tasks)
        await websocket.accept()
        await websocket.close()

    async with serve(app) as server:
        async with server.websocket() as client:
            assert (await client.receive())["type"] == "websocket.accept"
        assert client.error is None
    assert_one(got, 2)


@each_scope
@pytest.mark.parametrize("order", [*permutations(("session", "tasks", "other"))], ids="-".join)
async def test_a_dependency_that_commits(
    app: FastAPI, order: tuple[str, ...], scope: Scope | None
) -> None:
    """1.3 A task sees what dependencies committed, whatever the order of the parameters."""
    log: list[str] = []
    made: list[Task] = []

    def noting(event: str) -> Callable[[], Awaitable[None]]:
        return async_function(partial(log.append, event))

    async def session() -> AsyncGenerator[None]:
        yield
        log.append("session")

    def other(tasks: Tasks) -> Generator[None]:
        yield
        log.append("other")
        made.append(tasks.after_response.schedule(noting("from the exit")))

    depends = {
        "session": "_1: Annotated[None, Depends(session, scope=scope)]",
        "tasks": "tasks: Tasks",
        "other": "_2: Annotated[None, Depends(other, scope=scope)]",
    }
    parameters = ", ".join(depends[name] for name in order)
    source = f"async def route({parameters}): made.append(tasks.after_response.schedule(see))"
    names: dict[str, Any] = {
        "Annotated": Annotated,
        "Depends": Depends,
        "Tasks": Tasks,
        "session": session,
        "other": other,
        "scope": scope,
        "made": made,
        "see": noting("task"),
    }
    exec(source, names)  # noqa: S102 - the order of parameters is the point
    app.get("/")(names["route"])

    async with serve(app) as server:
        assert (await server.request()).status == 200
        await finish(made)
    assert sorted(log[:2]) == ["other", "session"]
    assert log[2:] == ["task", "from the exit"]


@pytest.mark.parametrize("scope", ["function", "request"])
async def test_a_dependency_that_fails_to_commit(app: FastAPI, scope: Scope) -> None:
    """1.6 A commit that fails is a failure: for both phases, or for the later once all is sent."""
    outcome = Outcome()

    async def session() -> AsyncGenerator[None]:
        yield
        raise ValueError

    @app.get("/")
    async def route(tasks: Tasks, _: Annotated[None, Depends(session, scope=scope)]) -> None:
        outcome.schedule(tasks)

    async with serve(app) as server:
        exchange = await server.request()
        assert isinstance(exchange.error, ValueError)
        expected = FAILURE if scope == "function" else ["success", "failure"]
        assert await outcome.seen() == expected


@each_scope
async def test_a_dependency_sees_what_the_route_raises(app: FastAPI, scope: Scope | None) -> None:
    """1.6 A dependency that answers for its route with another error does not make it a success."""
    outcome = Outcome()

    async def translating(tasks: Tasks) -> AsyncGenerator[None]:
        outcome.schedule(tasks)
        try:
            yield
        except LookupError as error:
            raise HTTPException(404) from error

    @app.get("/")
    async def route(_: Annotated[None, Depends(translating, scope=scope)]) -> None:
        raise LookupError

    async with serve(app) as server:
        assert (await server.request()).status == 404
        assert await outcome.seen() == FAILURE


def exiting(made: list[Task]) -> Any:
    async def dependency(tasks: Tasks) -> AsyncGenerator[None]:
        later = tasks.after_response
        try:
            yield
        except LookupError:
            made.append(later.task(name="except").schedule(len, ""))
            raise
        finally:
            made.append(later.task(name="finally").schedule(len, ""))

    return dependency


def exiting_in_a_thread(made: list[Task]) -> Any:
    def dependency(tasks: Tasks) -> Generator[None]:
        later = tasks.after_response
        try:
            yield
        except LookupError as error:
            made.append(later.task(name="except").schedule(len, ""))
            raise HTTPException(404) from error
        finally:
            made.append(later.task(name="finally").schedule(len, ""))

    return dependency


@each_scope
@pytest.mark.parametrize("kind", [exiting, exiting_in_a_thread])
@pytest.mark.parametrize("fails", [False, True])
async def test_the_exit_of_a_dependency_knows_the_outcome(
    app: FastAPI,
    kind: Callable[[list[Task]], Any],
    scope: Scope | None,
    fails: bool,  # noqa: FBT001
) -> None:
    """1.5, 1.6 What it schedules runs, whether the route has raised or not."""
    made: list[Task] = []

    @app.get("/")
    async def route(_: Annotated[None, Depends(kind(made), scope=scope)]) -> None:
        if fails:
            raise LookupError

    async with serve(app) as server:
        await server.request()
        await finish(made)
    assert [task.name for task in made] == (["except", "finally"] if fails else ["finally"])
    assert {task.state for task in made} == {TaskState.SUCCEEDED}


async def test_a_dependency_that_refuses(app: FastAPI) -> None:
    """1.6 What a dependency raises fails the request, as if its route had."""
    outcome = Outcome()

    def refuse(tasks: Tasks) -> None:
        outcome.schedule(tasks)
        raise HTTPException(401)

    @app.get("/", dependencies=[Depends(refuse)])
    async def route() -> None: ...

    async with serve(app) as server:
        assert (await server.request()).status == 401
        assert await outcome.seen() == FAILURE


async def test_overridden_dependencies(app: FastAPI) -> None:
    """`Tasks` works in what a test puts in a dependency's place."""
    watch, outcome = Watch(), Outcome()

    async def real() -> None:
        raise NotImplementedError

    def stand_in(tasks: Tasks) -> None:
        outcome.schedule(tasks)

    @app.get("/", dependencies=[Depends(real)])
    async def route(tasks: Tasks) -> None:
        watch.schedule(tasks)

    app.dependency_overrides[real] = stand_in
    async with serve(app) as server:
        assert await watch.request(server) == IN_ORDER
        assert await outcome.seen() == SUCCESS
