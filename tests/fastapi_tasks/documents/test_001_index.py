"""The index of the documented API does what it says.

Its first six examples are the README's, to the letter: their programs are in `programs_000`, and
`test_000_readme.py` runs them.

| heading                             | program                                  |
|-------------------------------------|------------------------------------------|
| Quickstart                          | `programs_000/quickstart.py`             |
| Timing Modes                        | `programs_000/quickstart.py`             |
| Task Configuration                  | `programs_000/task_configuration.py`     |
| Shielding Critical Tasks            | `programs_000/shielding.py`              |
| Sync and Async Tasks                | `programs_000/sync_and_async.py`         |
| Error Handling                      | `programs_000/error_handling.py`         |
| Highlights: Precise Timing Control  | `programs_001/precise_timing_control.py` |
| Highlights: Task Shielding          | `programs_001/task_shielding.py`         |
| Highlights: Error Handling          | `programs_001/error_handling.py`         |
| Highlights: Full Type Safety        | `programs_001/full_type_safety.py`       |
"""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from tests.fastapi_tasks.documents import stand_ins
from tests.fastapi_tasks.documents.programs_000 import quickstart
from tests.fastapi_tasks.documents.programs_001 import (
    error_handling,
    full_type_safety,
    precise_timing_control,
    task_shielding,
)
from tests.fastapi_tasks.documents.watching import Watch


def test_no_mode_blocks_the_response(watch: Watch) -> None:
    """The response is complete while the tasks of all three modes still run. 1.2."""
    watch(quickstart, "send_welcome_email", "log_analytics", until_shutdown=True)

    with TestClient(quickstart.app) as client:
        response = client.post("/users", params={"email": "ada@example.com"})
        watch.begun("send_welcome_email")
        watch.begun("log_analytics", times=2)
        assert response.json() == {"user_id": 1}
        assert not any(call.ended for call in watch.calls)


def test_precise_timing_control(watch: Watch) -> None:
    """Each task begins at the moment that was chosen for it. 1.1, 1.2, 1.3."""
    watch(precise_timing_control, "process_payment", "update_inventory", "send_confirmation_email")

    with TestClient(watch.sending(precise_timing_control.app)) as client:
        response = client.post("/orders")
        watch.ended("send_confirmation_email")

    assert response.json() == {"status": "processing"}
    assert watch.order() == [
        "process_payment",
        "update_inventory",
        "response starts",
        "response ends",
        "send_confirmation_email",
    ]


def test_task_shielding(watch: Watch) -> None:
    """A shielded task completes even during the shutdown. 5.2."""
    watch(task_shielding, "finalize_payment", until_shutdown=True)

    with TestClient(task_shielding.app) as client:
        response = client.post("/payment")
        (call,) = watch.begun("finalize_payment")
        assert not call.ended

    assert response.json() == {"status": "processing"}
    assert call.completed


def test_error_handling(watch: Watch) -> None:
    """The error handler reports the failure and alerts somebody. 4.3."""
    watch(error_handling, "charge_card", "send_alert")
    watch(stand_ins.sentry_sdk, "capture_exception")

    with TestClient(error_handling.app) as client:
        response = client.post("/checkout")
        (alert,) = watch.ended("send_alert")

    assert response.json() == {"status": "ok"}
    assert alert.args == ("Payment failed: card declined",)
    (charge,) = watch.of("charge_card")
    (capture,) = watch.of("capture_exception")
    assert capture.args == (charge.error,)
    assert charge.running_as == "process_payment"
    (record,) = watch.log
    assert "process_payment" in record.getMessage()


def test_error_handler_of_a_shielded_task_is_shielded(watch: Watch) -> None:
    """A shutdown waits for a shielded task's error handler too. 4.3."""
    watch(error_handling, "send_alert", until_shutdown=True)

    with TestClient(error_handling.app) as client:
        client.post("/checkout")
        (alert,) = watch.begun("send_alert")
        assert not alert.ended

    assert alert.completed


def test_full_type_safety(watch: Watch) -> None:
    """The checked arguments arrive as they were passed."""
    watch(full_type_safety, "send_email")

    with TestClient(full_type_safety.app) as client:
        response = client.post("/send")
        (call,) = watch.ended("send_email")

    assert response.json() == {"status": "ok"}
    assert (call.args, call.kwargs) == (("user@example.com", "Hello", "Welcome!"), {})


def test_what_the_checkers_refuse_is_refused() -> None:
    """Arguments that do not fit are refused by `schedule`, in the route's traceback. 2.2."""
    with (
        TestClient(full_type_safety.app) as client,
        pytest.raises(TypeError, match=r"send_email.*body"),
    ):
        client.post("/wrong")
