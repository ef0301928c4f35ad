"""The README of the documented API does what it says.

| heading            | program                             |
|--------------------|-------------------------------------|
| Quickstart         | `programs_000/quickstart.py`         |
| Timing Modes       | `programs_000/quickstart.py`         |
| Task Configuration | `programs_000/task_configuration.py` |
| Shielding Critical Tasks | `programs_000/shielding.py`    |
| Sync and Async Tasks | `programs_000/sync_and_async.py`   |
| Error Handling     | `programs_000/error_handling.py`     |
"""

from __future__ import annotations

from starlette.testclient import TestClient

from tests.fastapi_tasks.documents import stand_ins
from tests.fastapi_tasks.documents.programs_000 import (
    error_handling,
    quickstart,
    shielding,
    sync_and_async,
    task_configuration,
)
from tests.fastapi_tasks.documents.watching import Watch


def test_quickstart(watch: Watch) -> None:
    """The three tasks run, each with its arguments, and the response is the route's."""
    watch(quickstart, "send_welcome_email", "log_analytics")

    with TestClient(quickstart.app) as client:
        response = client.post("/users", params={"email": "ada@example.com"})
        watch.ended("send_welcome_email")
        watch.ended("log_analytics", times=2)

    assert response.json() == {"user_id": 1}
    assert [call.args for call in watch.calls] == [
        ("ada@example.com",),
        ("user_created", 1),
        ("response_sent", 1),
    ]
    assert all(call.completed for call in watch.calls)


def test_timing_modes(watch: Watch) -> None:
    """Tasks begin at once and after the route before the response starts, the others at its end.

    1.1, 1.2, 1.3, 1.4, with a route that never awaits.
    """
    watch(quickstart, "send_welcome_email", "log_analytics")

    with TestClient(watch.sending(quickstart.app)) as client:
        client.post("/users", params={"email": "ada@example.com"})
        watch.ended("log_analytics", times=2)

    assert watch.order() == [
        "send_welcome_email",
        "log_analytics",
        "response starts",
        "response ends",
        "log_analytics",
    ]


def test_without_a_name_the_qualified_name_serves(watch: Watch) -> None:
    """A task without a name runs under the function's qualified name."""
    watch(quickstart, "send_welcome_email", "log_analytics")

    with TestClient(quickstart.app) as client:
        client.post("/users", params={"email": "ada@example.com"})
        watch.ended("log_analytics", times=2)

    names = [(call.of.name, call.running_as) for call in watch.calls]
    assert names == [(name, name) for name in watch.order()]


def test_task_configuration(watch: Watch) -> None:
    """The error handler gets the task with its name, and the error; the response is unaffected.

    4.2, 4.3.
    """
    watch(task_configuration, "process_order", "print")

    with TestClient(task_configuration.app) as client:
        response = client.post("/orders", params={"order_id": 7})
        watch.printed("Task process_order failed: out of stock: 7")

    assert response.json() == {"order_id": 7}
    (call,) = watch.of("process_order")
    assert call.running_as == "process_order"
    assert call.of.config.shielded
    (record,) = watch.log
    assert "process_order" in record.getMessage()


def test_shielding_critical_tasks(watch: Watch) -> None:
    """A shielded task completes before the shutdown does. 5.2."""
    watch(shielding, "finalize_payment", until_shutdown=True)

    with TestClient(shielding.app) as client:
        response = client.post("/payments", params={"payment_id": 7})
        (call,) = watch.begun("finalize_payment")
        assert not call.ended

    assert response.json() == {"status": "processing"}
    assert call.completed
    assert call.args == (7,)


def test_running_tasks_are_cancelled_at_shutdown(watch: Watch) -> None:
    """A shutdown cancels tasks that are not shielded, of whatever phase, and reports them.

    5.2, 5.3.
    """
    watch(quickstart, "send_welcome_email", "log_analytics", until_shutdown=True)

    with TestClient(quickstart.app) as client:
        client.post("/users", params={"email": "ada@example.com"})
        watch.begun("send_welcome_email")
        watch.begun("log_analytics", times=2)

    assert [str(call.of.state) for call in watch.calls] == ["cancelled"] * 3
    (record,) = watch.log
    assert all(call.of.id in record.getMessage() for call in watch.calls)


def test_sync_and_async_tasks(watch: Watch) -> None:
    """A sync function runs in a worker thread, an async one on the event loop. 2.1."""
    watch(sync_and_async, "sync_task", "async_task", "print")
    watch.sleep(sync_and_async)

    with TestClient(sync_and_async.app) as client:
        response = client.post("/process")
        (in_thread,) = watch.ended("sync_task")
        (on_loop,) = watch.ended("async_task")

    assert response.json() == {"status": "ok"}
    assert in_thread.running_as is None
    assert on_loop.running_as == "async_task"
    printed = {(call.args, call.running_as) for call in watch.of("print")}
    assert printed == {
        (("Processed: sync data",), None),
        (("Processed: async data",), "async_task"),
    }
    assert [call.args for call in watch.of("sleep")] == [(1,), (1,)]


def test_error_handling(watch: Watch) -> None:
    """The failure is logged, then handled; this response and the next are unaffected.

    4.1, 4.2, 4.3.
    """
    watch(error_handling, "might_fail", "handle_error")
    watch(stand_ins.sentry_sdk, "capture_exception")

    with TestClient(error_handling.app) as client:
        for times in (1, 2):
            response = client.post("/risky")
            assert response.json() == {"status": "started"}
            watch.ended("handle_error", times)

    (failed, _) = watch.of("might_fail")
    (handled, _) = watch.of("handle_error")
    (captured, _) = watch.of("capture_exception")
    assert handled.args == (failed.of, failed.error)
    assert captured.args == (failed.error,)
    assert failed.of.exception is failed.error
    assert [record.levelname for record in watch.log] == ["ERROR", "ERROR"]
