"""Contract 7: a task is found, says how far it has come, is stopped, and is waited for."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Any

import anyio
import pytest
from anyio import from_thread, to_thread
from tasks_core import (
    Phase,
    Progress,
    RunOn,
    Task,
    TaskCancelled,
    TasksScheduler,
    TaskState,
    current_task,
)

from tests.conformance.cases import (
    FunctionKind,
    RouteKind,
    at,
    each_function,
    each_phase,
    each_route,
    finish,
)
from tests.conformance.driver import GUARD, Exchange, Server, serve
from tests.conformance.harness import (
    Answer,
    Harness,
    Route,
    ServerSocket,
    SocketRoute,
    Stream,
    Text,
    build,
)
from tests.tasks_core.store import Store

pytestmark = [pytest.mark.anyio, pytest.mark.alike]


class Desk:
    """What the routes of a test share: where one request leaves an id, and others ask by it.

    A task of `work` says so by `begun`, and ends as it is told: see `go`.
    """

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.go = anyio.Event()
        self.begun = anyio.Event()

    async def work(self) -> str:
        """Stand in for a task that takes its time."""
        self.begun.set()
        await self.go.wait()
        return "done"

    def schedule(self, func: Callable[[], object], phase: Phase) -> Route:
        """Return the route that schedules a task and answers with its id."""

        async def start(tasks: TasksScheduler) -> Text:
            self.ids.append(at(tasks, phase).task(name="work").schedule(func).id)
            return Text(self.ids[-1], status=202)

        return Route(endpoint=start, method="POST")

    def found(self, tasks: TasksScheduler) -> Task:
        """Find the task whose id was left last."""
        task = tasks.get(self.ids[-1])
        assert task is not None
        return task

    def status(self, tasks: TasksScheduler) -> Text:
        """Answer with the record of that task as JSON."""
        return Text(json.dumps(asdict(self.found(tasks).record())))

    def cancel(self, tasks: TasksScheduler) -> Text:
        """Cancel it, and answer whether that can take effect."""
        return Text(str(self.found(tasks).cancel()))


def written(exchange: Exchange) -> dict[str, Any]:
    """Read what `Desk.status` has answered."""
    assert exchange.status == 200
    read: dict[str, Any] = json.loads(exchange.body)
    return read


@each_route
@each_phase
async def test_a_living_task_is_found_by_its_id(
    harness: Harness, phase: Phase, route_kind: RouteKind
) -> None:
    """7.1 Another request finds a task that lives: it is the one that `schedule` returned."""
    desk = Desk()
    made: list[Task] = []
    found: list[Task | None] = []

    async def start(tasks: TasksScheduler) -> None:
        made.append(at(tasks, phase).schedule(desk.work))

    def look(tasks: TasksScheduler) -> None:
        found.append(tasks.get(made[0].id))

    routes = {"/": Route(endpoint=start), "/look": Route(endpoint=route_kind(look))}
    async with serve(build(harness, routes=routes)) as server:
        await server.request()
        await desk.begun.wait()
        await server.request("/look")
        assert found == made
        desk.go.set()


async def test_a_task_that_waits_for_its_phase_is_found(harness: Harness) -> None:
    """7.1 A task is found from its scheduling on, while its own request is still served."""
    desk = Desk()
    scheduled = anyio.Event()

    async def start(tasks: TasksScheduler) -> None:
        desk.ids.append(tasks.after_response.schedule(desk.work).id)
        scheduled.set()
        await desk.go.wait()

    async def look(tasks: TasksScheduler) -> Answer:
        return desk.status(tasks)

    routes = {"/": Route(endpoint=start), "/look": Route(endpoint=look)}
    async with serve(build(harness, routes=routes)) as server, anyio.create_task_group() as group:
        group.start_soon(server.request)
        await scheduled.wait()
        record = written(await server.request("/look"))
        assert (record["state"], record["phase"]) == ("pending", "after_response")
        desk.go.set()


async def test_a_task_is_found_from_a_websocket(harness: Harness) -> None:
    """7.1 A WebSocket route finds the tasks of other requests."""
    desk = Desk()

    async def talk(tasks: TasksScheduler, socket: ServerSocket) -> None:
        await socket.accept()
        await socket.send_text(desk.found(tasks).name)
        await socket.close()

    routes: dict[str, Route | SocketRoute] = {
        "/": desk.schedule(desk.work, Phase.AFTER_RESPONSE),
        "/talk": SocketRoute(endpoint=talk),
    }
    async with serve(build(harness, routes=routes)) as server:
        await server.request(method="POST")
        async with server.websocket("/talk") as socket:
            assert (await socket.receive())["type"] == "websocket.accept"
            assert (await socket.receive())["text"] == "work"
        desk.go.set()


async def test_an_unknown_id_is_not_found(harness: Harness) -> None:
    """7.1 What no task has as its id is not found."""
    found: list[Task | None] = []

    async def look(tasks: TasksScheduler) -> None:
        found.extend(map(tasks.get, ("", "0" * 32, "work")))

    async with serve(build(harness, look)) as server:
        assert (await server.request()).status == 200
    assert found == [None] * 3


FIELDS = {
    "id",
    "name",
    "function",
    "phase",
    "state",
    "scheduled_at",
    "started_at",
    "ended_at",
    "waited",
    "ran",
    "error_type",
    "error",
    "progress",
    "attempt",
    "carrier",
}


@pytest.mark.parametrize("state", [s for s in TaskState if s is not TaskState.HANDED_OVER], ids=str)
async def test_a_record_in_each_state(harness: Harness, state: TaskState) -> None:
    """7.1 A task's record is plain JSON in each state, its arguments and result are not in it."""
    desk = Desk()
    made: list[Task] = []
    run_on: RunOn = "failure" if state is TaskState.SKIPPED else "always"

    async def work(argument: str) -> str:
        current_task().report(1, total=2, message="half")
        if state is TaskState.FAILED:
            raise ValueError("it failed")
        if state is TaskState.RUNNING:
            await desk.work()
        return argument

    async def route(tasks: TasksScheduler) -> Answer:
        batch = tasks.after_response.task(name="work", run_on=run_on)
        made.append(batch.schedule(work, "secret"))
        desk.ids.append(made[0].id)
        if state is TaskState.CANCELLED:
            made[0].cancel()
        return await look(tasks)

    async def look(tasks: TasksScheduler) -> Answer:
        return desk.status(tasks)

    routes = {"/": Route(endpoint=route), "/look": Route(endpoint=look)}
    async with serve(build(harness, routes=routes)) as server:
        record = written(await server.request())
        if state is TaskState.RUNNING:
            await desk.begun.wait()
        elif state is not TaskState.PENDING:
            await finish(made)
        if state is not TaskState.PENDING:
            record = written(await server.request("/look"))
        desk.go.set()

    assert set(record) == FIELDS
    assert (record["id"], record["name"], record["state"]) == (made[0].id, "work", state.value)
    assert "secret" not in json.dumps(record)
    began = state in {TaskState.RUNNING, TaskState.SUCCEEDED, TaskState.FAILED}
    assert (record["started_at"] is not None, record["ran"] is not None) == (began, began)
    assert (record["ended_at"] is None) is (state in {TaskState.PENDING, TaskState.RUNNING})
    assert record["progress"] == ({"done": 1, "total": 2, "message": "half"} if began else None)
    failed = ("ValueError", "it failed") if state is TaskState.FAILED else (None, None)
    assert (record["error_type"], record["error"]) == failed


@each_function
@each_phase
async def test_a_task_that_has_ended_is_found(
    harness: Harness, phase: Phase, function_kind: FunctionKind
) -> None:
    """7.1 Another request finds a task that has ended, with its outcome and result."""
    desk = Desk()
    made: list[Task] = []
    results: list[object] = []

    async def start(tasks: TasksScheduler) -> None:
        made.append(at(tasks, phase).schedule(function_kind(lambda: "done")))
        desk.ids.append(made[0].id)

    async def look(tasks: TasksScheduler) -> Answer:
        found = desk.found(tasks)
        results.extend((found.result, await found.wait()))
        return desk.status(tasks)

    routes = {"/": Route(endpoint=start), "/look": Route(endpoint=look)}
    async with serve(build(harness, routes=routes)) as server:
        await server.request()
        await finish(made)
        assert written(await server.request("/look"))["state"] == "succeeded"
    assert results == ["done", "done"]


@pytest.mark.parametrize("history", [0, 2])
async def test_history_bounds_what_is_remembered(harness: Harness, history: int) -> None:
    """7.1 The last tasks that have ended are remembered, as many as `history` says."""
    made: list[Task] = []
    found: list[Task | None] = []

    async def start(tasks: TasksScheduler) -> None:
        made.append(tasks.schedule(anyio.lowlevel.checkpoint))
        assert made[-1].id

    async def look(tasks: TasksScheduler) -> None:
        found.extend(tasks.get(task.id) for task in made)
        assert len(tasks.registry.ended()) == history

    routes = {"/": Route(endpoint=start), "/look": Route(endpoint=look)}
    async with serve(build(harness, routes=routes, history=history)) as server:
        for _ in range(3):
            await server.request()
            await finish(made)
        assert (await server.request("/look")).status == 200
    assert [task is not None for task in found] == [False] * (3 - history) + [True] * history


async def test_the_registry_is_filtered(harness: Harness) -> None:
    """7.1 What lives and what has ended is listed by name, phase and state, and counted."""
    desk = Desk()
    made: list[Task] = []
    mail, pages = "mail", "pages"

    async def start(tasks: TasksScheduler) -> None:
        for phase, name in ((Phase.IMMEDIATE, mail), (Phase.AFTER_ROUTE, pages)):
            made.append(at(tasks, phase).task(name=name).schedule(desk.work))

    async def look(tasks: TasksScheduler) -> None:
        registry = tasks.registry
        waiting = tasks.after_response.task(name=mail).schedule(desk.work)
        assert registry.living() == list(registry) == [*made, waiting]
        assert registry.living(name=mail) == [made[0], waiting]
        assert registry.living(phase=Phase.AFTER_ROUTE) == [made[1]]
        assert registry.living(state=TaskState.RUNNING) == made
        assert registry.living(name=mail, state=TaskState.PENDING) == [waiting]
        assert len(registry) == 3
        assert registry.counts() == {TaskState.PENDING: 1, TaskState.RUNNING: 2}
        assert registry.ended() == []
        waiting.cancel()
        assert waiting.id

    def look_back(tasks: TasksScheduler) -> None:
        registry = tasks.registry
        assert (len(registry), registry.counts()) == (0, {})
        assert [task.state for task in registry.ended(name=mail)] == ["cancelled", "succeeded"]
        assert [task.id for task in registry.ended(phase=Phase.AFTER_ROUTE)] == [made[1].id]
        assert registry.ended(name=pages, state=TaskState.FAILED) == []

    routes = {
        "/": Route(endpoint=start),
        "/look": Route(endpoint=look),
        "/back": Route(endpoint=look_back),
    }
    async with serve(build(harness, routes=routes)) as server:
        await server.request()
        await desk.begun.wait()
        assert all(task.id for task in made)
        assert (await server.request("/look")).status == 200
        desk.go.set()
        await finish(made)
        assert (await server.request("/back")).status == 200


@each_phase
@each_function
async def test_a_task_reports_its_progress(
    harness: Harness, function_kind: FunctionKind, phase: Phase
) -> None:
    """7.2 `current_task().report` is seen by other requests; what is left out stays."""
    desk = Desk()
    made: list[Task] = []

    def work() -> None:
        current_task().report(1, total=4, message="reading")
        current_task().report(2.5)

    async def start(tasks: TasksScheduler) -> None:
        made.append(at(tasks, phase).schedule(function_kind(work)))
        desk.ids.append(made[0].id)

    async def look(tasks: TasksScheduler) -> Answer:
        return desk.status(tasks)

    routes = {"/": Route(endpoint=start), "/look": Route(endpoint=look)}
    async with serve(build(harness, routes=routes)) as server:
        await server.request()
        await finish(made)
        progress = written(await server.request("/look"))["progress"]
    assert progress == {"done": 2.5, "total": 4, "message": "reading"}
    assert made[0].progress == Progress(2.5, 4, "reading")


@each_function
async def test_nonsense_is_not_reported(harness: Harness, function_kind: FunctionKind) -> None:
    """7.2 What no reader could use is refused in the task, and changes nothing."""
    made: list[Task] = []
    refused: list[object] = []

    def work() -> None:
        report: Any = current_task().report
        report(1)
        for done, total in ((-1, None), (float("nan"), None), (1, float("inf")), ("1", None)):
            try:
                report(done, total=total)
            except (TypeError, ValueError):
                refused.append(done)

    async def start(tasks: TasksScheduler) -> None:
        made.append(tasks.schedule(function_kind(work)))

    async with serve(build(harness, start)) as server:
        await server.request()
        await made[0].wait()
    assert len(refused) == 4
    assert made[0].progress == Progress(1)


class Events(AsyncIterator[bytes]):
    """A task's progress, and at the end its state. No generator: trio minds one left early."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._updates = task.updates()
        self._ended = False

    async def __anext__(self) -> bytes:
        if self._ended:
            raise StopAsyncIteration
        try:
            progress = await anext(self._updates)
        except StopAsyncIteration:
            self._ended = True
            return f"event: end\ndata: {self._task.state}\n\n".encode()
        return f"data: {json.dumps(asdict(progress))}\n\n".encode()


def streaming(desk: Desk) -> Route:
    """Return the route that streams the updates of a task as server-sent events."""

    async def stream(tasks: TasksScheduler) -> Stream:
        return Stream(Events(desk.found(tasks)))

    return Route(endpoint=stream)


def events(exchange: Exchange) -> list[float | str]:
    """Read what came of such a stream: what was done, and the state at the end."""
    parts = exchange.body.decode().split("\n\n")[:-1]
    *updates, end = [part.split("data: ")[1] for part in parts]
    return [*(json.loads(update)["done"] for update in updates), end]


class Steps:
    """A task of a few steps, each of which waits until the one before has been read."""

    def __init__(self, number: int, readers: int = 1) -> None:
        self._steps = [[anyio.Event() for _ in range(readers)] for _ in range(number)]

    async def work(self) -> None:
        for number, read in enumerate(self._steps):
            current_task().report(number)
            for event in read:
                await event.wait()

    def reader(self, number: int = 0) -> Callable[[Any], None]:
        """Return what looks at the messages of a stream, and lets the task go on."""
        waiting = iter(self._steps)

        def look(message: Any) -> None:
            if b'"done"' in message.get("body", b""):
                next(waiting)[number].set()

        return look


@each_phase
async def test_updates_are_streamed(harness: Harness, phase: Phase) -> None:
    """7.2 Server-sent events of a task's progress come in order, as it reports."""
    desk, steps = Desk(), Steps(4)
    routes = {"/": desk.schedule(steps.work, phase), "/events": streaming(desk)}
    async with serve(build(harness, routes=routes)) as server:
        await server.request(method="POST")
        exchange = await server.request("/events", on_message=steps.reader())
        assert events(exchange) == [0, 1, 2, 3, "succeeded"]


async def test_updates_are_streamed_to_two(harness: Harness) -> None:
    """7.2 Of two that read each gets everything."""
    desk, steps = Desk(), Steps(3, readers=2)
    exchanges: list[Exchange] = []

    async def read(server: Server, number: int) -> None:
        exchanges.append(await server.request("/events", on_message=steps.reader(number)))

    routes = {"/": desk.schedule(steps.work, Phase.AFTER_RESPONSE), "/events": streaming(desk)}
    async with serve(build(harness, routes=routes)) as server:
        await server.request(method="POST")
        async with anyio.create_task_group() as group:
            for number in range(2):
                group.start_soon(read, server, number)
    assert [events(exchange) for exchange in exchanges] == [[0, 1, 2, "succeeded"]] * 2


@each_function
async def test_the_last_update_is_streamed(harness: Harness, function_kind: FunctionKind) -> None:
    """7.2 A reader that is slower than the task gets the newest, and always the last."""
    desk = Desk()

    def work() -> None:
        for number in range(100):
            current_task().report(number)

    routes = {
        "/": desk.schedule(function_kind(work), Phase.AFTER_RESPONSE),
        "/events": streaming(desk),
    }
    async with serve(build(harness, routes=routes)) as server:
        await server.request(method="POST")
        *updates, last, state = events(await server.request("/events"))
    assert (last, state) == (99, "succeeded")
    assert [*updates, last] == sorted({*updates, last}, key=float)


@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
@each_phase
async def test_updates_end_as_the_task_does(harness: Harness, phase: Phase, outcome: str) -> None:
    """7.2 A stream ends with the task, also where that fails or is cancelled."""
    desk = Desk()

    async def work() -> None:
        await desk.work()
        current_task().report(1)
        if outcome == "failed":
            raise ValueError("it failed")
        current_task().cancel()
        await anyio.sleep_forever()

    routes = {"/": desk.schedule(work, phase), "/events": streaming(desk)}
    async with serve(build(harness, routes=routes)) as server:
        await server.request(method="POST")
        await desk.begun.wait()

        def let_go(message: Any) -> None:
            if message["type"] == "http.response.start":
                desk.go.set()

        assert events(await server.request("/events", on_message=let_go)) == [1, outcome]


async def test_a_client_that_leaves_its_updates(harness: Harness) -> None:
    """7.2 A client that goes away within the stream changes nothing for the task, or for others."""
    desk, steps = Desk(), Steps(3)
    routes = {"/": desk.schedule(steps.work, Phase.AFTER_RESPONSE), "/events": streaming(desk)}
    async with serve(build(harness, routes=routes)) as server:
        await server.request(method="POST")
        await server.request("/events", fails_from=1)
        exchange = await server.request("/events", on_message=steps.reader())
        assert events(exchange) == [0, 1, 2, "succeeded"]


@each_route
@each_function
async def test_stopping_a_task_that_has_not_begun(
    harness: Harness, function_kind: FunctionKind, route_kind: RouteKind
) -> None:
    """7.3 Another request cancels a task that waits for its phase: it never runs."""
    desk = Desk()
    ran: list[str] = []
    scheduled = anyio.Event()

    async def start(tasks: TasksScheduler) -> None:
        task = tasks.after_response.schedule(function_kind(lambda: ran.append("it")))
        desk.ids.append(task.id)
        scheduled.set()
        await desk.go.wait()

    routes = {"/": Route(endpoint=start), "/stop": Route(endpoint=route_kind(desk.cancel))}
    async with serve(build(harness, routes=routes)) as server, anyio.create_task_group() as group:
        group.start_soon(server.request)
        await scheduled.wait()
        assert (await server.request("/stop")).body == b"True"
        assert (await server.request("/stop")).body == b"False"
        desk.go.set()
    assert ran == []


@pytest.mark.parametrize("shield", [False, True], ids=["unshielded", "shielded"])
@each_route
@each_phase
async def test_stopping_a_task_that_runs(
    harness: Harness,
    phase: Phase,
    route_kind: RouteKind,
    *,
    shield: bool,
) -> None:
    """7.3 Another request cancels a task that runs, shielded or not; its clean-up runs."""
    desk = Desk()
    made: list[Task] = []
    cleaned: list[str] = []

    async def work() -> None:
        try:
            await desk.work()
        finally:
            cleaned.append("up")

    async def start(tasks: TasksScheduler) -> None:
        made.append(at(tasks, phase).task(shield=shield).schedule(work))
        desk.ids.append(made[0].id)

    routes = {"/": Route(endpoint=start), "/stop": Route(endpoint=route_kind(desk.cancel))}
    async with serve(build(harness, routes=routes)) as server:
        await server.request()
        await desk.begun.wait()
        assert (await server.request("/stop")).body == b"True"
        with pytest.raises(TaskCancelled):
            await made[0].wait()
        assert (await server.request("/stop")).body == b"False"
    assert cleaned == ["up"]
    assert made[0].state is TaskState.CANCELLED


async def test_stopping_from_any_thread(harness: Harness) -> None:
    """7.3 A thread that neither the framework nor anyio has started cancels a task."""
    desk = Desk()
    made: list[Task] = []
    answers: list[bool] = []

    async def start(tasks: TasksScheduler) -> None:
        made.append(tasks.schedule(desk.work))

    async with serve(build(harness, start)) as server:
        await server.request()
        await desk.begun.wait()
        thread = threading.Thread(target=lambda: answers.append(made[0].cancel()))
        thread.start()
        await to_thread.run_sync(thread.join, GUARD)
        with pytest.raises(TaskCancelled):
            await made[0].wait()
    assert answers == [True]


@pytest.mark.parametrize("asks", [False, True], ids=["deaf", "cooperative"])
@each_phase
async def test_stopping_a_sync_task_that_runs(
    harness: Harness, phase: Phase, *, asks: bool
) -> None:
    """7.3 A running sync task cannot be stopped surely; one that asks anyio ends as cancelled."""
    desk = Desk()
    begun, go = threading.Event(), threading.Event()
    made: list[Task] = []

    def work() -> str:
        begun.set()
        go.wait(GUARD)
        if asks:
            from_thread.check_cancelled()
        return "done"

    async def start(tasks: TasksScheduler) -> None:
        made.append(at(tasks, phase).schedule(work))
        desk.ids.append(made[0].id)

    async def stop(tasks: TasksScheduler) -> Text:
        return desk.cancel(tasks)

    routes = {"/": Route(endpoint=start), "/stop": Route(endpoint=stop)}
    async with serve(build(harness, routes=routes)) as server:
        await server.request()
        await to_thread.run_sync(begun.wait, GUARD)
        assert (await server.request("/stop")).body == b"False"
        go.set()
        await finish(made)
    if asks:
        assert (made[0].state, made[0].result) == (TaskState.CANCELLED, None)
    else:
        assert (made[0].state, made[0].result) == (TaskState.SUCCEEDED, "done")


@each_function
async def test_waiting_in_a_route(harness: Harness, function_kind: FunctionKind) -> None:
    """7.4 A route waits for a task, and has its result."""

    async def route(tasks: TasksScheduler) -> Text:
        return Text(str(await tasks.schedule(function_kind(lambda: "done")).wait()))

    async with serve(build(harness, route)) as server:
        assert (await server.request()).body == b"done"


@pytest.mark.needs("anyio's threads")
@each_function
async def test_waiting_in_a_sync_route(harness: Harness, function_kind: FunctionKind) -> None:
    """7.4 A sync route waits through `anyio.from_thread.run`, for its own task and for others'."""
    desk = Desk()

    def route(tasks: TasksScheduler) -> Text:
        task = tasks.schedule(function_kind(lambda: "done"))
        desk.ids.append(task.id)
        return Text(str(from_thread.run(task.wait)))

    def later(tasks: TasksScheduler) -> Text:
        return Text(str(from_thread.run(desk.found(tasks).wait)))

    routes = {"/": Route(endpoint=route), "/later": Route(endpoint=later)}
    async with serve(build(harness, routes=routes)) as server:
        assert (await server.request()).body == b"done"
        assert (await server.request("/later")).body == b"done"


async def test_waiting_in_any_thread(harness: Harness) -> None:
    """7.4 In threads that are not anyio's, a sync route's too, anyio waits by the loop's token."""
    desk = Desk()
    token = anyio.lowlevel.current_token()

    def route(tasks: TasksScheduler) -> Text:
        task = tasks.schedule(desk.work)
        desk.ids.append(task.id)
        return Text(str(from_thread.run(task.wait, token=token)))

    async with serve(build(harness, route)) as server:
        desk.go.set()
        assert (await server.request()).body == b"done"


async def test_waiting_for_a_time(harness: Harness) -> None:
    """7.4 A route waits as long as an anyio scope lets it; the task goes on."""
    desk = Desk()
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> Text:
        made.append(tasks.schedule(desk.work))
        with anyio.move_on_after(0.01):
            await made[0].wait()
        with pytest.raises(TimeoutError), anyio.fail_after(0):
            await made[0].wait()
        return Text(made[0].state)

    async with serve(build(harness, route)) as server:
        assert (await server.request()).body == b"running"
        desk.go.set()
        assert await made[0].wait() == "done"


async def test_who_waits_is_cancelled(harness: Harness) -> None:
    """7.4 A task that waits for another one is cancelled, and leaves that alone."""
    desk = Desk()
    made: list[Task] = []

    async def start(tasks: TasksScheduler) -> None:
        made.append(tasks.schedule(desk.work))
        made.append(tasks.after_response.schedule(made[0].wait))

    async with serve(build(harness, start)) as server:
        await server.request()
        await made[1].started.wait()
        assert made[1].cancel()
        await finish(made[1:])
        assert [task.state for task in made] == [TaskState.RUNNING, TaskState.CANCELLED]
        desk.go.set()
        assert await made[0].wait() == "done"


@each_phase
@each_function
async def test_a_failure_is_raised_to_each_who_waits(
    harness: Harness,
    function_kind: FunctionKind,
    phase: Phase,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """7.4 Each who waits gets what the task has raised; it is logged once all the same."""
    error = ValueError("it failed")
    made: list[Task] = []
    caught: list[Exception] = []

    def work() -> None:
        raise error

    async def start(tasks: TasksScheduler) -> None:
        made.append(at(tasks, phase).schedule(function_kind(work)))

    async def wait() -> None:
        try:
            await made[0].wait()
        except ValueError as raised:
            caught.append(raised)

    async def wait_in_route(tasks: TasksScheduler) -> None:
        await wait()
        await to_thread.run_sync(from_thread.run, wait)

    routes = {"/": Route(endpoint=start), "/wait": Route(endpoint=wait_in_route)}
    async with serve(build(harness, routes=routes)) as server:
        await server.request()
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(wait)
        await server.request("/wait")
    assert caught == [error] * 5
    ours = [record for record in caplog.records if record.name == "tasks_core"]
    assert [record.levelname for record in ours] == ["ERROR"]


async def test_in_another_process(harness: Harness) -> None:
    """7.6 With a store that both share, another application finds, follows and cancels a task."""
    desk, store = Desk(), Store()
    seen: list[TaskState] = []

    async def stop(tasks: TasksScheduler) -> None:
        task_id = desk.ids[-1]
        assert tasks.get(task_id) is None
        async for status in tasks.follow(task_id):
            seen.append(status.state)
            if status.state is TaskState.RUNNING and len(seen) == 1:
                assert await tasks.cancel(task_id)

    here = build(harness, desk.schedule(desk.work, Phase.IMMEDIATE), records=store)
    there = build(harness, stop, records=store)
    async with serve(here) as server, serve(there) as another:
        await server.request(method="POST")
        await store.until_state(desk.ids[-1], "running")
        assert (await another.request()).error is None
    assert seen == [TaskState.RUNNING, TaskState.CANCELLED]
