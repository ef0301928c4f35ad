"""The carrier for Celery, without a broker: what it takes, what it sends, what it tells."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Generator
from functools import partial, wraps
from secrets import token_hex
from typing import Any
from unittest.mock import MagicMock, create_autospec

import pytest

celery = pytest.importorskip("celery")

from celery import Celery, Task, group, shared_task, states  # noqa: E402
from celery.exceptions import Ignore  # noqa: E402
from kombu import Connection  # noqa: E402
from kombu.exceptions import OperationalError  # noqa: E402
from kombu.serialization import loads  # noqa: E402
from tasks_core import (  # noqa: E402
    Every,
    HandOverError,
    Periodic,
    TaskHandedOver,
    TaskRunner,
    TaskState,
    TaskStatus,
)
from tasks_core.carriers.celery import CeleryCarrier  # noqa: E402

from tests.carriers.values import NONSENSE, VALUES, Order  # noqa: E402
from tests.tasks_core.stage import GUARD, open_runner, over  # noqa: E402

pytestmark = pytest.mark.anyio

VERSION = tuple(map(int, celery.__version__.split(".")[:2]))


def make_app(**settings: Any) -> Any:
    app = Celery("tests", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.update(task_default_queue=token_hex(4))  # the process has all that is in memory
    app.conf.update(settings)
    return app


@pytest.fixture
def app() -> Generator[Any]:
    app = make_app()
    yield app
    app.close()


def pay(order: int, *, twice: bool = False) -> str:
    return f"{order} {twice}"


def take(value: object) -> None: ...


def messages(app: Any) -> list[Any]:
    """Return what was sent: the id and the arguments."""
    found, queue = list[Any](), app.conf.task_default_queue
    with Connection("memory://") as connection, connection.SimpleQueue(queue) as waiting:
        while waiting.qsize():
            message: Any = waiting.get(timeout=GUARD)
            body = loads(message.body, message.content_type, message.content_encoding)
            found.append((message.headers["id"], *body[:2]))
            message.ack()
    return found


def refusal(action: Callable[[], object]) -> BaseException | None:
    try:
        action()
    except Exception as error:  # noqa: BLE001 - the test compares
        return error
    return None


@pytest.mark.parametrize("serializer", ["json", "pickle"])
@pytest.mark.parametrize("value", VALUES)
def test_8_3_carry_takes_what_celery_sends(app: Any, value: str, serializer: str) -> None:
    """8.3: For an argument of every type, `carry` accepts exactly what publishing accepts."""
    app.conf.task_serializer = serializer
    task = app.task(take, shared=False)
    carrier = CeleryCarrier(app)
    make = VALUES[value]
    published = refusal(lambda: task.apply_async((make(),), task_id="x"))
    carried = refusal(lambda: carrier.carry(task, (make(),), {}))
    by_name = refusal(lambda: carrier.carry(task, (), {"value": make()}))
    assert (published is None, type(by_name)) == (carried is None, type(carried))
    if carried is not None:
        assert isinstance(carried, TypeError)
        assert f"Celery cannot send these arguments as {serializer}: " in str(carried)
        assert str(carried).startswith("tests.carriers.test_celery.take: ")


@pytest.mark.parametrize("model", ["model", "list of models", "int", "set", "lock"])
@pytest.mark.parametrize("serializer", ["json", "pickle"])
@pytest.mark.skipif(VERSION < (5, 5), reason="pydantic tasks are new in 5.5")
def test_8_3_tasks_of_pydantic(app: Any, model: str, serializer: str) -> None:
    """8.3: Where Celery makes dictionaries of models, so does the check."""
    app.conf.task_serializer = serializer

    def bill(order: Order) -> None: ...

    task = app.task(bill, pydantic=True, shared=False)
    make = VALUES[model]
    published = refusal(lambda: task.apply_async((make(),), task_id="x"))
    carried = refusal(lambda: CeleryCarrier(app).carry(task, (make(),), {}))
    assert (published is None) == (carried is None)
    assert carried is None or isinstance(carried, TypeError)


CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((1,), {}),
    ((1,), {"twice": True}),
    ((), {"order": 1}),
    ((), {}),
    ((1, 2), {}),
    ((1,), {"thrice": True}),
    ((1,), {"order": 1}),
]


@pytest.mark.parametrize(("args", "kwargs"), CALLS)
@pytest.mark.parametrize("kind", ["plain", "bound", "shared", "retried", "untyped", "class"])
def test_8_3_arguments_that_do_not_fit(
    app: Any, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """8.3: As Celery checks them; and where it does not though it could, the function's own."""

    def bound(self: Task[Any, Any], order: int, *, twice: bool = False) -> None: ...

    class Paying(app.Task):  # type: ignore[misc]
        name = "paying"

        def run(self, order: int, *, twice: bool = False) -> None: ...

    app.set_current()
    paying: Any = Paying
    ways: dict[str, Callable[[], Any]] = {
        "plain": lambda: app.task(pay, shared=False),
        "bound": lambda: app.task(bound, bind=True, shared=False),
        "shared": lambda: shared_task(pay),
        "retried": lambda: app.task(pay, autoretry_for=(OSError,), name="retried", shared=False),
        "untyped": lambda: app.task(pay, typing=False, name="untyped", shared=False),
        "class": lambda: app.register_task(paying()),
    }
    made = ways[kind]()
    published = refusal(lambda: made.apply_async(args, kwargs, task_id="x"))
    carried = refusal(lambda: CeleryCarrier(app).carry(made, args, kwargs))
    fits = refusal(lambda: pay(*args, **kwargs)) is None
    assert (carried is None) == (True if kind == "untyped" else fits)
    assert published is None or carried is not None
    if carried is not None:
        assert isinstance(carried, TypeError)
        assert "schedule(" in str(carried)
        assert "settings such as name= or shield= go to .task(...)" in str(carried)


def ship(order: int, /, *, twice: bool = False) -> None: ...


@pytest.mark.parametrize("kind", ["plain", "bound", "retried", "class"])
def test_8_3_a_positional_parameter_given_by_name(app: Any, kind: str) -> None:
    """8.3: Celery sends it, and its worker could not call the function: refused by schedule."""

    def bound(self: Task[Any, Any], order: int, /) -> None: ...

    class Shipping(app.Task):  # type: ignore[misc]
        name = "shipping"

        def run(self, order: int, /) -> None: ...

    shipping: Any = Shipping
    ways: dict[str, Callable[[], Any]] = {
        "plain": lambda: app.task(ship, shared=False),
        "bound": lambda: app.task(bound, bind=True, shared=False),
        "retried": lambda: app.task(ship, autoretry_for=(OSError,), name="retried", shared=False),
        "class": lambda: app.register_task(shipping()),
    }
    made, carrier = ways[kind](), CeleryCarrier(app)
    with pytest.raises(TypeError, match=r"schedule\(.*positional.only.*"):
        carrier.carry(made, (), {"order": 1})
    assert carrier.carry(made, (1,), {}) is not None


@pytest.mark.skipif(VERSION < (5, 7), reason="before that nothing tells such tasks")
def test_8_3_arguments_that_do_not_fit_what_pydantic_checks(app: Any) -> None:
    """8.3: Celery takes anything for a task of pydantic, and its worker refuses it."""
    task = app.task(pay, pydantic=True, shared=False)
    for args, kwargs in CALLS:
        fits = refusal(lambda args=args, kwargs=kwargs: pay(*args, **kwargs)) is None  # type: ignore[misc]
        carried = refusal(
            lambda args=args, kwargs=kwargs: CeleryCarrier(app).carry(task, args, kwargs)  # type: ignore[misc]
        )
        assert (carried is None) == fits
        assert fits or "schedule(tests.carriers.test_celery.pay, ...)" in str(carried)


def test_8_3_what_is_called_decides(app: Any) -> None:
    """8.3: A decorator's own parameters count; and where a task's class is called, that one's."""

    def give(func: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(func)
        def giving(*args: Any) -> object:
            return func("a session", *args)

        return giving

    def book(session: str, order: int) -> None: ...

    class Giving(app.Task):  # type: ignore[misc]
        name = "giving"

        def run(self, session: str, order: int) -> None: ...

        def __call__(self, order: int) -> None:
            self.run("a session", order)

    giving: Any = Giving
    for task in (app.task(give(book), shared=False), app.register_task(giving())):
        assert CeleryCarrier(app).carry(task, (1,), {}) is not None


@pytest.mark.parametrize("options", [{}, {"typing": False}, {"autoretry_for": (OSError,)}])
def test_8_3_a_generator_function(app: Any, options: dict[str, Any]) -> None:
    """8.3, 2.2: Refused, as nothing of it would run in a worker; unless the task's class has it."""

    def export(order: int) -> Generator[int]:
        yield order

    class Exhausting(app.Task):  # type: ignore[misc]
        def __call__(self, *args: Any) -> object:
            return list(self.run(*args))

    carrier = CeleryCarrier(app)
    task = app.task(export, shared=False, **options)
    with pytest.raises(TypeError, match=r"export is a generator function, and nothing would"):
        carrier.carry(task, (1,), {})
    exhausting = app.task(export, base=Exhausting, name="exhausting", shared=False, **options)
    assert carrier.carry(exhausting, (1,), {}) is not None


@pytest.mark.parametrize("how", ["decorator", "routes", "both"])
def test_8_3_the_serializer_of_a_task(app: Any, how: str) -> None:
    """8.3: The one that Celery takes, whether the task, its route or the application says it."""
    own: Any = {"serializer": "pickle"} if how != "routes" else {}
    if how != "decorator":
        app.conf.task_routes = {"tests.carriers.test_celery.take": {"serializer": "pickle"}}
    task = app.task(take, shared=False, **own)
    for make in (VALUES["set"], VALUES["complex"], VALUES["lock"]):
        published = refusal(lambda make=make: task.apply_async((make(),), task_id="x"))  # type: ignore[misc]
        carried = refusal(lambda make=make: CeleryCarrier(app).carry(task, (make(),), {}))  # type: ignore[misc]
        assert (published is None) == (carried is None), make


def test_8_1_what_celery_did_not_make_is_not_carried(app: Any) -> None:
    """8.1: Functions, methods of tasks, mocks, and what sends its tasks itself, are none."""
    task = app.task(pay, shared=False)
    sent = (task.delay, task.apply_async, task.s(1).delay, task.s(1) | task.s(), group(task.s(1)))
    specs = (app.tasks[task.name], task, task.s(1))
    mocks = [make(spec) for spec in specs for make in (MagicMock, create_autospec)]
    carrier = CeleryCarrier(app)
    for func in (pay, *sent, partial(task), *mocks):
        assert carrier.carry(func, (1,), {}) is None
    assert [mock for mock in mocks if mock.mock_calls] == []


async def test_8_1_a_signature_is_refused(app: Any) -> None:
    """8.1: Its call would run the task here, carrier or not; the message says what sends it."""
    task = app.task(pay, shared=False)
    async with open_runner(carriers=[CeleryCarrier(app)]) as runner:
        for func in (task.s(1), partial(task.si(1))):
            with pytest.raises(
                TypeError, match=r"pay is a signature.*schedule\(signature\.delay\)"
            ):
                runner.schedule(func)
        await runner.schedule(task.s(1).delay).wait()
    assert [args for _, *args in messages(app)] == [[[1], {}]]
    async with open_runner() as runner:
        assert await runner.schedule(task.s(1)).wait() == "1 False"


async def test_8_2_what_is_sent_is_what_was_scheduled(app: Any) -> None:
    """8.2, 8.4: By the task's id, with the arguments, those of a partial included."""
    task = app.task(pay, shared=False)
    async with open_runner(carriers=[CeleryCarrier(app)]) as runner:
        first = runner.schedule(task, 1, twice=True)
        second = runner.schedule(partial(task, twice=False), 2)
        await over(first, second)
        assert {first.state, second.state} == {TaskState.HANDED_OVER}
        assert first.carrier == "celery"
    assert sorted(messages(app), key=lambda sent: sent[1]) == [
        (first.id, [1], {"twice": True}),
        (second.id, [2], {"twice": False}),
    ]


async def test_8_1_without_a_carrier_it_runs_here(app: Any) -> None:
    """8.1: Tasks of every kind, which then have Celery's request as in any direct call."""

    def bound(self: Task[Any, Any], order: int) -> object:
        return (self.request.id, order)

    def fails(self: Task[Any, Any]) -> None:
        raise OSError("it failed")

    async with open_runner() as runner:
        assert await runner.schedule(app.task(pay, shared=False), 1).wait() == "1 False"
        assert await runner.schedule(app.task(bound, bind=True, shared=False), 1).wait() == (
            None,
            1,
        )
        retried = app.task(
            fails, bind=True, autoretry_for=(OSError,), retry_backoff=1, shared=False
        )
        task = runner.schedule(retried)
        with pytest.raises(OSError, match="it failed"):  # once: Celery retries in its workers only
            await task.wait()
        assert task.name.endswith("fails")


async def test_8_1_each_application_has_its_own_tasks(app: Any) -> None:
    """8.1, 8.9: A task goes to the carrier of its application, which is asked for its status."""
    other = make_app()
    carriers = [CeleryCarrier(other, name="other"), CeleryCarrier(app, name="own")]
    func = app.task(pay, shared=False)
    async with open_runner(carriers=carriers) as runner:
        task = runner.schedule(partial(func, twice=True), 1)
        task_id = task.id
        await over(task)
        app.backend.store_result(task_id, "done", states.SUCCESS)
        status = await runner.status(task_id)
        assert await runner.schedule(pay, 3).wait() == "3 False"
        there = runner.schedule(other.task(pay, shared=False), 2)
        await over(there)
    assert status == TaskStatus(id=task_id, state=TaskState.SUCCEEDED, result="done", carrier="own")
    assert messages(app) == [(task_id, [1], {"twice": True})]
    assert (there.carrier, messages(other)) == ("other", [(there.id, [2], {})])
    other.close()


async def test_8_1_a_task_of_no_carriers_application(app: Any) -> None:
    """8.1: It is the first carrier's, as if there were one; its own application sends it."""
    other = make_app()
    async with open_runner(carriers=[CeleryCarrier(other)]) as runner:
        task = runner.schedule(app.task(pay, shared=False), 1)
        await over(task)
    assert messages(app) == [(task.id, [1], {})]
    other.close()


async def test_8_1_a_shared_task_is_its_carriers_application(app: Any) -> None:
    """8.1, 8.9: Of the carriers that one whose application is current; else the first sends it."""
    other, third = make_app(task_serializer="pickle"), make_app()
    shared: Any = shared_task(name=f"shared-{token_hex(4)}")(pay)
    carriers = [CeleryCarrier(other, name="other"), CeleryCarrier(app, name="own")]
    async with open_runner(carriers=carriers) as runner:
        app.set_current()
        own = runner.schedule(shared, 1)
        with pytest.raises(TypeError, match="Celery cannot send these arguments as json"):
            runner.schedule(shared, {1})
        third.set_current()
        first = runner.schedule(shared, {2})
        await over(own, first)
    assert (own.carrier, first.carrier) == ("own", "other")
    assert messages(app) == [(own.id, [1], {})]
    with Connection("memory://") as connection:
        assert connection.SimpleQueue(other.conf.task_default_queue).qsize() == 1
    assert messages(third) == []
    for one in (other, third):
        one.close()


def test_10_8_a_periodic_task_that_needs_arguments(app: Any) -> None:
    """10.8: It is refused as the runner is made, without an event loop, and nothing is sent."""
    task = app.task(pay, shared=False)
    with pytest.raises(TypeError, match=r"Periodic\(pay, .* missing 1 .*: 'order'.*partial"):
        TaskRunner(periodic=[Periodic(task, Every(days=1))], carriers=[CeleryCarrier(app)])
    given = [Periodic(partial(task, 5), Every(days=1))]
    assert set(TaskRunner(periodic=given, carriers=[CeleryCarrier(app)]).periodic) == {"pay"}
    assert not messages(app)


def test_8_3_no_broker_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """8.3: `carry` opens no connection, whatever the broker."""

    def connect(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(socket.socket, "connect", connect)
    app: Any = Celery("tests", broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/0")
    task = app.task(pay, name="pay", shared=False)
    assert CeleryCarrier(app).carry(task, (1,), {}) is not None
    with pytest.raises(TypeError):
        CeleryCarrier(app).carry(task, (object(),), {})


# The result backend


STATES = {
    states.PENDING: TaskState.PENDING,
    states.RECEIVED: TaskState.PENDING,
    states.STARTED: TaskState.RUNNING,
    states.RETRY: TaskState.RUNNING,
    "PROGRESS": TaskState.RUNNING,
    states.SUCCESS: TaskState.SUCCEEDED,
    states.FAILURE: TaskState.FAILED,
    states.REVOKED: TaskState.CANCELLED,
    "IGNORED": TaskState.RUNNING,
}


@pytest.mark.parametrize("state", STATES)
def test_8_9_states(app: Any, state: str) -> None:
    """8.9: What Celery says, in our words; states of the user's own are *running*."""
    result: Any = ValueError("no money") if state in states.EXCEPTION_STATES else {"paid": 1}
    task_id = f"celery-{state}"
    app.backend.store_result(task_id, result, state)
    status = CeleryCarrier(app).status(task_id)
    assert status is not None
    assert (status.id, status.state, status.carrier) == (task_id, STATES[state], "celery")
    assert status.result == ({"paid": 1} if state == states.SUCCESS else None)
    failure = ("ValueError", "no money") if state == states.FAILURE else (None, None)
    assert (status.error_type, status.error) == failure


class Refused(Exception):  # noqa: N818 - what has happened
    """An exception of the user's own, with arguments of its own."""

    def __init__(self, order: int, why: str) -> None:
        super().__init__(order, why)

    def __str__(self) -> str:
        return "{} was refused:\n{}".format(*self.args)


def test_8_9_an_error_of_the_users_own(app: Any) -> None:
    """8.9: Its type and its text, without what a terminal could act on."""
    app.backend.store_result("celery-refused", Refused(7, "no money"), states.FAILURE)
    status = CeleryCarrier(app).status("celery-refused")
    assert status is not None
    assert (status.error_type, status.error) == ("Refused", "7 was refused:\nno money")


def test_8_9_an_unknown_id_is_pending(app: Any) -> None:
    """8.9: Celery cannot tell it from one that waits (fails when it can)."""
    status = CeleryCarrier(app).status("celery-of nobody")
    assert status == TaskStatus(id="celery-of nobody", state=TaskState.PENDING, carrier="celery")


def test_8_9_without_a_result_backend_nobody_knows() -> None:
    """8.9: The status is None."""
    app = Celery("tests", broker="memory://", set_as_current=False)
    assert CeleryCarrier(app).status("celery-1") is None


async def test_8_9_the_runner_asks_the_carrier_of_the_id(app: Any) -> None:
    """8.9: By the name that the carrier was given."""
    carrier = CeleryCarrier(app, name="queue", timeout=61)
    assert carrier.timeout == 61
    async with TaskRunner(carriers=[carrier]) as runner:
        task = runner.schedule(app.task(pay, shared=False), 1)
        task_id = task.id
        await over(task)
        app.backend.store_result(task_id, "done", states.SUCCESS)
        status = await runner.status(task_id)
    assert task_id.startswith("queue-")
    assert status == TaskStatus(
        id=task_id, state=TaskState.SUCCEEDED, result="done", carrier="queue"
    )


# Celery's own test mode


async def test_8_5_eager_tasks_have_run_when_they_are_handed_over() -> None:
    """8.5: With `task_always_eager` the hand-over runs the task, and a copy of its arguments."""
    seen: list[object] = []

    def see(value: object) -> None:
        seen.append(value)

    app = make_app(task_always_eager=True, task_eager_propagates=True)
    async with open_runner(carriers=[CeleryCarrier(app)]) as runner:
        task = runner.schedule(app.task(see, shared=False), (1, {2: 3}))
        with pytest.raises(TaskHandedOver):
            await task.wait()
    assert seen == [[1, {"2": 3}]]  # what JSON makes of it


async def test_8_7_eager_failures_are_heard_if_celery_raises_them() -> None:
    """8.7: With `task_eager_propagates`; without, Celery keeps them to itself."""

    def fails() -> None:
        raise ValueError("no money")

    for propagates in (True, False):
        app = make_app(task_always_eager=True, task_eager_propagates=propagates)
        async with open_runner(carriers=[CeleryCarrier(app)]) as runner:
            task = runner.schedule(app.task(fails, name="fails", shared=False))
            await over(task)
        if propagates:
            assert isinstance(task.exception, HandOverError)
            assert isinstance(task.exception.__cause__, ValueError)
        else:
            assert task.state is TaskState.HANDED_OVER


async def test_8_7_what_publishing_raises_is_not_confirmed() -> None:
    """8.7: The cause is Celery's own error."""
    app = make_app(broker_url="redis://127.0.0.1:1/0", broker_transport_options={"max_retries": 1})
    async with open_runner(carriers=[CeleryCarrier(app)]) as runner:
        task = runner.schedule(app.task(pay, shared=False), 1)
        await over(task)
    assert isinstance(task.exception, HandOverError)
    assert isinstance(task.exception.__cause__, OperationalError)


def test_ignored_tasks_stay_pending(app: Any) -> None:
    """8.9: A task without a result has no status but *pending* (fails when Celery has one)."""

    def ignores() -> None:
        raise Ignore

    task = app.task(ignores, name="ignores", shared=False)
    task.apply(task_id="celery-ignored")
    status = CeleryCarrier(app).status("celery-ignored")
    assert status is not None
    assert status.state is TaskState.PENDING


@pytest.mark.parametrize(("settings", "error", "said"), NONSENSE)
def test_8_3_settings_that_make_no_sense(
    app: Any, settings: Any, error: type[Exception], said: str
) -> None:
    """8.3: They are refused where the carrier is made."""
    with pytest.raises(error, match=re.escape(said)):
        CeleryCarrier(app, **settings)


@pytest.mark.parametrize("engine", ["redis://localhost", None, Celery])
def test_8_3_what_is_no_application_is_refused(engine: Any) -> None:
    """8.3: When the carrier is made, with what to pass instead."""
    said = r"^CeleryCarrier takes .*, not (str|NoneType|the class ).*: .*Celery\("
    with pytest.raises(TypeError, match=said):
        CeleryCarrier(engine)
