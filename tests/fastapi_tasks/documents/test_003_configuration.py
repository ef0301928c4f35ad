"""The tutorial on task configuration of the documented API does what it says.

| heading                                          | program, in `programs_003`           |
|--------------------------------------------------|--------------------------------------|
| The task() Method                                | `task_method.py`                     |
| Naming Tasks                                     | `naming_tasks.py`                    |
| Naming Conventions                               | `naming_conventions.py`              |
| Dynamic Task Names                               | `dynamic_task_names.py`              |
| Task Shielding: Basic Usage                      | `shielding_basic_usage.py`           |
| Real-World Example: Payment Processing           | `payment_processing.py`              |
| Shielding with Different Timing Modes            | `shielding_timing_modes.py`          |
| Basic Error Handler                              | `basic_error_handler.py`             |
| Error Handler Signature                          | `error_handler_signature.py`         |
| Accessing Task Information in Error Handlers     | `accessing_task_information.py`      |
| Real-World Example: Error Tracking               | `error_tracking.py`                  |
| Error Handler with Retry Logic                   | `retry.py`                           |
| Combining Configuration Options                  | `combining_options.py`               |
| Configuration with Different Timing Modes        | `configuration_timing_modes.py`      |
| Configuration Best Practices, 1 to 4             | `best_practices.py`                  |
| Default Configuration                            | `default_configuration.py`           |
| Global Configuration                             | `global_configuration.py`            |
| Overriding Global Configuration                  | `overriding_global_configuration.py` |
| Configuration Merge Behavior                     | `merge_behavior.py`                  |
| Real-World Example: Production App               | `production_app.py`                  |
| Global Best Practices: Set Conservative Defaults | `conservative_defaults.py`           |
| Global Best Practices: Document Your Config      | `documented_global_config.py`        |
| Global Best Practices: Keep It Simple            | `simple_global_config.py`            |
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from types import ModuleType

import pytest
from starlette.testclient import TestClient

from tests.fastapi_tasks.documents.programs_003 import (
    accessing_task_information,
    basic_error_handler,
    best_practices,
    combining_options,
    configuration_timing_modes,
    conservative_defaults,
    default_configuration,
    documented_global_config,
    dynamic_task_names,
    error_handler_signature,
    global_configuration,
    merge_behavior,
    naming_conventions,
    naming_tasks,
    overriding_global_configuration,
    payment_processing,
    retry,
    shielding_basic_usage,
    shielding_timing_modes,
    simple_global_config,
    task_method,
)
from tests.fastapi_tasks.documents.stand_ins import Sentry
from tests.fastapi_tasks.documents.watching import Watch


@pytest.fixture
def sentry(monkeypatch: pytest.MonkeyPatch) -> Sentry:
    """Let programs import the stand-in for Sentry."""
    sentry = Sentry()
    monkeypatch.setitem(sys.modules, "sentry_sdk", sentry)
    return sentry


@pytest.fixture
def program_with_sentry(
    sentry: Sentry, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], ModuleType]:
    """Import a program that imports Sentry."""

    def load(name: str) -> ModuleType:
        program = import_module(f"tests.fastapi_tasks.documents.programs_003.{name}")
        # A program that was imported before has that test's stand-in.
        monkeypatch.setattr(program, "sentry_sdk", sentry)
        return program

    return load


# Names


def test_task_method(watch: Watch) -> None:
    """The name, the shield and the error handler that `task()` takes are the task's. 3.4."""
    watch(task_method, "my_function", "error_handler")

    with TestClient(task_method.app) as client:
        client.post("/")
        (handled,) = watch.ended("error_handler")

    (call,) = watch.of("my_function")
    assert call.args == ("one", 2)
    assert (call.of.name, call.running_as) == ("my_task", "my_task")
    assert call.of.config.shielded
    assert handled.args == (call.of, call.error)


def test_naming_tasks(watch: Watch) -> None:
    """A task's name is that of the running asyncio task."""
    watch(naming_tasks, "send_email", "print")

    with TestClient(naming_tasks.app) as client:
        response = client.post("/notify", params={"email": "ada@example.com"})
        watch.printed("Sending email to ada@example.com")

    assert response.json() == {"status": "ok"}
    (call,) = watch.of("send_email")
    assert call.kwargs == {"to": "ada@example.com", "subject": "Welcome!"}
    assert call.running_as == "send_welcome_email"


def test_task_names_appear_in_logs(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log of a failure has the task's name, its id and its function, not its arguments. 4.2."""

    def print_nothing(text: str) -> None:
        raise OSError(text)

    monkeypatch.setattr(naming_tasks, "print", print_nothing, raising=False)
    watch(naming_tasks, "send_email")

    with TestClient(naming_tasks.app) as client:
        response = client.post("/notify", params={"email": "ada@example.com"})
        (record,) = watch.logged("send_welcome_email")

    assert response.json() == {"status": "ok"}
    (call,) = watch.of("send_email")
    assert watch.log == [record]
    assert (record.levelname, record.name) == ("ERROR", "tasks_core")
    assert call.of.id in record.getMessage()
    assert "send_email" in record.getMessage()
    assert "ada@example.com" not in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is call.error


def test_naming_conventions(watch: Watch) -> None:
    """Tasks of one function go by the names that each was given."""
    watch(naming_conventions, "send_email", "process_payment", "create_thumbnail")

    with TestClient(naming_conventions.app) as client:
        client.post("/")
        watch.ended("send_email", times=3)

    assert [(call.name, call.args, call.running_as) for call in watch.calls] == [
        ("send_email", (...,), "send_order_confirmation"),
        ("process_payment", (...,), "process_payment"),
        ("create_thumbnail", (...,), "generate_thumbnail"),
        ("send_email", (...,), "task1"),
        ("send_email", (...,), "email"),
    ]


def test_dynamic_task_names(watch: Watch) -> None:
    """Each request may name its task anew."""
    watch(dynamic_task_names, "process_data")

    with TestClient(dynamic_task_names.app) as client:
        for user_id in (1, 2):
            response = client.post(f"/process/{user_id}")
            assert response.json() == {"status": "processing"}
        watch.ended("process_data", times=2)

    named = {call.args: call.of.config.name for call in watch.calls}
    assert named == {(1,): "process_user_1", (2,): "process_user_2"}


# Shields


def test_shielding_basic_usage(watch: Watch) -> None:
    """A shielded task completes during the server's shutdown. 5.2."""
    watch(shielding_basic_usage, "critical_operation", until_shutdown=True)
    watch(shielding_basic_usage, "print")

    with TestClient(shielding_basic_usage.app) as client:
        response = client.post("/critical")
        watch.begun("critical_operation")
        assert not watch.of("print")

    assert response.json() == {"status": "ok"}
    watch.printed("Performing critical operation")


def test_payment_processing(watch: Watch) -> None:
    """A shutdown waits until the payment is complete, step by step. 5.2."""
    steps = ("update_payment_status", "charge_card", "send_receipt")
    watch(payment_processing, "finalize_payment", until_shutdown=True)
    watch(payment_processing, *steps)

    with TestClient(payment_processing.app) as client:
        response = client.post("/payments", params={"payment_id": 7, "amount": 9.5})
        (payment,) = watch.begun("finalize_payment")
        assert not payment.ended

    assert response.json() == {"status": "processing", "payment_id": 7}
    assert payment.completed
    assert payment.running_as == "finalize_payment_7"
    assert [(call.name, call.args) for call in watch.calls[1:]] == [
        ("update_payment_status", (7, "completed")),
        ("charge_card", (7, 9.5)),
        ("send_receipt", (7,)),
    ]


def test_shielding_with_different_timing_modes(watch: Watch) -> None:
    """Tasks of both later phases are shielded as those that begin at once. 5.2, 5.4."""
    functions = ("finalize_order", "send_critical_notification")
    watch(shielding_timing_modes, *functions, until_shutdown=True)

    with TestClient(shielding_timing_modes.app) as client:
        response = client.post("/order", json={"item": "tea"})
        (order,) = watch.begun("finalize_order")
        (confirmation,) = watch.begun("send_critical_notification")
        assert not order.ended
        assert not confirmation.ended

    assert response.json() == {"order_id": 1}
    assert (order.args, order.running_as) == ((1,), "finalize_order")
    assert (confirmation.args, confirmation.running_as) == ((1,), "send_confirmation")
    assert order.completed
    assert confirmation.completed


# Error handlers


def test_basic_error_handler(watch: Watch) -> None:
    """The handler is called with the task and the exception that was raised. 4.3."""
    watch(basic_error_handler, "risky_operation", "my_error_handler", "print")

    with TestClient(basic_error_handler.app) as client:
        response = client.post("/risky")
        watch.printed("Task risky_task failed: Something went wrong")

    assert response.json() == {"status": "ok"}
    (failed,) = watch.of("risky_operation")
    (handled,) = watch.of("my_error_handler")
    assert handled.args == (failed.of, failed.error)


def test_error_handler_signature(watch: Watch) -> None:
    """Sync and async handlers serve sync and async functions. 4.3."""
    handlers = ("async_error_handler", "sync_error_handler")
    watch(error_handler_signature, *handlers, "fail_async", "fail_sync")
    watch(error_handler_signature, "log_error_to_service", "print")

    with TestClient(error_handler_signature.app) as client:
        response = client.post("/")
        for handler in handlers:
            watch.ended(handler, times=2)

    assert response.is_success
    calls = {
        (call.of.func.__name__, call.name, call.running_as is None)
        for handler in handlers
        for call in watch.of(handler)
    }
    assert calls == {
        ("fail_async", "async_error_handler", False),
        ("fail_sync", "async_error_handler", False),
        ("fail_async", "sync_error_handler", True),
        ("fail_sync", "sync_error_handler", True),
    }
    errors = {str(call.args[0]) for call in watch.of("log_error_to_service")}
    assert errors == {"async function", "sync function"}
    printed = {call.args for call in watch.of("print")}
    assert printed == {("Error: async function",), ("Error: sync function",)}


def test_accessing_task_information(watch: Watch) -> None:
    """In a handler the task's name, function and arguments are there."""
    watch(accessing_task_information, "print")

    with TestClient(accessing_task_information.app) as client:
        client.post("/")
        watch.printed(
            "Task name: division",
            "Function: divide",
            "Arguments: (1,)",
            "Keyword arguments: {'by': 0}",
            "Error: division by zero",
            "Error type: ZeroDivisionError",
        )


def test_error_tracking(
    watch: Watch, sentry: Sentry, program_with_sentry: Callable[[str], ModuleType]
) -> None:
    """An error service gets the exception, with the task in its context."""
    program = program_with_sentry("error_tracking")
    watch(program, "process_user_data", "send_to_error_tracking")

    with TestClient(program.app) as client:
        response = client.post("/process", json={"user": 1})
        (handled,) = watch.ended("send_to_error_tracking")

    assert response.json() == {"status": "processing"}
    assert handled.completed
    (failed,) = watch.of("process_user_data")
    context = {
        "name": "process_user_data",
        "function": "process_user_data",
        "args": "({'user': 1},)",
        "kwargs": "{}",
    }
    assert sentry.captured == [(failed.error, {"task": context})]


def _let_chance_be(monkeypatch: pytest.MonkeyPatch, values: Iterable[float]) -> None:
    monkeypatch.setattr(random, "random", iter(values).__next__)


def test_retry_succeeds(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler may call the task's function again until it succeeds. 4.4."""
    _let_chance_be(monkeypatch, [0.1, 0.2, 0.9])
    watch(retry, "retry_handler", "print")
    watch.sleep(retry)

    with TestClient(retry.app) as client:
        response = client.post("/flaky")
        (handled,) = watch.ended("retry_handler")

    assert response.json() == {"status": "ok"}
    watch.printed(
        "Retry 1 failed: Random failure",
        "Operation succeeded",
        "Task flaky_task succeeded on retry 2",
    )
    assert [call.args for call in watch.of("sleep")] == [(1,), (2,)]
    assert handled.completed
    assert str(handled.of.state) == "failed"
    (record,) = watch.log
    assert "flaky_task" in record.getMessage()


def test_retry_gives_up(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that raises at the end is logged once; the next request finds all as it was.

    4.1, 4.3, 4.4.
    """
    _let_chance_be(monkeypatch, [0.1, 0.2, 0.3, 0.4, 0.9])
    watch(retry, "flaky_operation", "retry_handler", "print")
    watch.sleep(retry)

    with TestClient(retry.app) as client:
        client.post("/flaky")
        watch.logged("retry_handler")
        response = client.post("/flaky")
        watch.ended("flaky_operation", times=5)

    assert response.json() == {"status": "ok"}
    watch.printed(
        "Retry 1 failed: Random failure",
        "Retry 2 failed: Random failure",
        "Task flaky_task failed after 3 retries",
        "Operation succeeded",
    )
    assert [call.args for call in watch.of("sleep")] == [(1,), (2,), (4,)]
    (handled,) = watch.of("retry_handler")
    assert handled.error is not None
    failure, of_handler = watch.log
    assert failure.levelname == of_handler.levelname == "ERROR"
    assert "flaky_task" in failure.getMessage()
    assert "flaky_task" in of_handler.getMessage()


def test_combining_configuration_options(watch: Watch) -> None:
    """The handler of a named and shielded task finds the keyword argument to refund by. 4.3."""
    watch(combining_options, "process_payment_async", "payment_error_handler")
    watch(combining_options, "log_to_sentry", "send_alert", "initiate_refund")

    with TestClient(combining_options.app) as client:
        response = client.post("/payments", params={"payment_id": 7, "amount": 9.5})
        (refund,) = watch.ended("initiate_refund")

    assert response.json() == {"status": "processing"}
    (failed,) = watch.of("process_payment_async")
    assert failed.kwargs == {"payment_id": 7, "amount": 9.5}
    assert failed.running_as == "process_payment_7"
    assert failed.of.config.shielded
    assert refund.args == (7,)
    assert [call.args for call in watch.of("log_to_sentry")] == [(failed.error,)]
    (alert,) = watch.of("send_alert")
    assert alert.args == ("Payment task failed: card declined",)


def test_handler_of_a_shielded_task_outlives_the_shutdown_signal(watch: Watch) -> None:
    """A shutdown waits for the refund that a shielded task's handler makes. 4.3, 5.2."""
    watch(combining_options, "initiate_refund", until_shutdown=True)

    with TestClient(combining_options.app) as client:
        client.post("/payments", params={"payment_id": 7, "amount": 9.5})
        (refund,) = watch.begun("initiate_refund")
        assert not refund.ended

    assert refund.completed


def test_configuration_with_different_timing_modes(watch: Watch) -> None:
    """Names, shields and handlers work in all three modes. 3.4."""
    functions = ("immediate_operation", "cleanup_resources", "send_notification")
    watch(configuration_timing_modes, *functions, "log_error", "notification_error_handler")

    with TestClient(configuration_timing_modes.app) as client:
        response = client.post("/comprehensive")
        (logged,) = watch.ended("log_error")
        (cleaned,) = watch.ended("cleanup_resources")
        (notified,) = watch.ended("notification_error_handler")

    assert response.json() == {"status": "ok"}
    immediate, clean_up, notification = (watch.of(function)[0] for function in functions)
    assert immediate.running_as == "immediate_task"
    assert clean_up.running_as == "cleanup_task"
    assert notification.of.config.name == "notification_task"
    assert notified.running_as == "notification_task"
    assert [call.of.config.shielded for call in (immediate, clean_up, notification)] == [
        False,
        True,
        False,
    ]
    assert cleaned.completed
    assert logged.args == (immediate.of, immediate.error)
    assert notified.args == (notification.of, notification.error)


# Best practices


def test_always_name_critical_tasks(watch: Watch) -> None:
    """Two shielded tasks of a function differ by name, given or the function's own."""
    watch(best_practices, "finalize_payment", until_shutdown=True)

    with TestClient(best_practices.app) as client:
        client.post("/always-name-critical-tasks")
        calls = watch.begun("finalize_payment", times=2)
        assert not any(call.ended for call in calls)

    assert all(call.completed for call in calls)
    assert [call.running_as for call in calls] == ["process_payment", "finalize_payment"]


def test_use_descriptive_error_handlers(watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    """A handler may pass task and error on, or write to the application's own log. 4.3."""
    watch(best_practices, "process_payment", "send_email", "handle_payment_error")
    watch(best_practices.logger, "error")

    with TestClient(best_practices.app) as client:
        client.post("/use-descriptive-error-handlers")
        (handled,) = watch.ended("handle_payment_error")
        watch.ended("error")

    (payment,) = watch.of("process_payment")
    (email,) = watch.of("send_email")
    assert handled.args == (payment.of, payment.error)
    (record,) = (r for r in caplog.records if r.name == best_practices.logger.name)
    assert record.getMessage() == "Task newsletter failed"
    assert record.exc_info is not None
    assert record.exc_info[1] is email.error


def test_shield_only_when_necessary(watch: Watch) -> None:
    """A shutdown waits for what is shielded, necessary or not. 5.2."""
    watch(best_practices, "finalize_payment", "send_email", until_shutdown=True)

    with TestClient(best_practices.app) as client:
        client.post("/shield-only-when-necessary")
        (payment,) = watch.begun("finalize_payment")
        (email,) = watch.begun("send_email")
        assert not payment.ended
        assert not email.ended

    assert str(payment.of.state) == "succeeded"
    assert str(email.of.state) == "failed"


def test_combine_configuration_logically(watch: Watch) -> None:
    """Each task has its own name, shield and handler."""
    functions = ("critical_function", "send_email")
    watch(best_practices, *functions, "critical_error_handler", "log_error")

    with TestClient(best_practices.app) as client:
        client.post("/combine-configuration-logically")
        (critical_handled,) = watch.ended("critical_error_handler")
        (handled,) = watch.ended("log_error")

    critical, email = (watch.of(function)[0] for function in functions)
    assert (critical.running_as, critical.of.config.shielded) == ("critical_operation", True)
    assert (email.running_as, email.of.config.shielded) == ("send_notification", False)
    assert critical_handled.args == (critical.of, critical.error)
    assert handled.args == (email.of, email.error)


# Defaults and global configuration


def test_default_configuration(watch: Watch) -> None:
    """The three spellings of no configuration are equivalent: own name, no shield, no handler.

    3.1. The failures are logged all the same: 4.2.
    """
    watch(default_configuration, "my_task")

    with TestClient(default_configuration.app) as client:
        response = client.post("/")
        watch.logged("my_task", times=3)

    assert response.is_success
    calls = watch.of("my_task")
    seen = {
        (call.running_as, call.of.config.name, call.of.config.shielded, call.of.config.on_error)
        for call in calls
    }
    assert len(calls) == 3
    assert seen == {("my_task", None, False, None)}
    assert [record.levelname for record in watch.log] == ["ERROR"] * 3


def test_default_is_to_be_cancelled(watch: Watch) -> None:
    """All three spellings leave the task to be cancelled at shutdown. 5.2."""
    watch(default_configuration, "my_task", until_shutdown=True)

    with TestClient(default_configuration.app) as client:
        client.post("/")
        calls = watch.begun("my_task", times=3)

    assert [str(call.of.state) for call in calls] == ["cancelled"] * 3


def test_global_configuration(watch: Watch) -> None:
    """A task without settings of its own has the application's. 3.3."""
    watch(global_configuration, "my_function", "track_error", "print")

    with TestClient(global_configuration.app) as client:
        response = client.post("/task")
        (tracked,) = watch.ended("track_error")

    assert response.json() == {"status": "scheduled"}
    watch.printed("Task None failed: not today")
    (call,) = watch.of("my_function")
    assert tracked.args == (call.error,)
    assert call.of.config == global_configuration.global_config


def test_global_configuration_is_for_all_modes(watch: Watch) -> None:
    """Tasks of the later phases have the application's shield and handler too. 3.3, 5.2."""
    watch(global_configuration, "my_function", until_shutdown=True)
    watch(global_configuration, "track_error", "print")

    with TestClient(global_configuration.app) as client:
        client.post("/later")
        calls = watch.begun("my_function", times=2)
        assert not any(call.ended for call in calls)

    assert [str(call.of.state) for call in calls] == ["failed", "failed"]
    assert {call.args[0] for call in watch.of("track_error")} == {call.error for call in calls}


def test_overriding_global_configuration(watch: Watch) -> None:
    """A task's settings override the application's field by field. 3.2, 3.3."""
    functions = ("task1", "task2", "task3", "task4")
    watch(overriding_global_configuration, *functions, "print")

    with TestClient(overriding_global_configuration.app) as client:
        response = client.post("/tasks")
        printed = watch.ended("print", times=4)

    assert response.json() == {"status": "ok"}
    assert {call.of.func.__name__: call.args[0] for call in printed} == {
        "task1": "Global handler",
        "task2": "Custom handler",
        "task3": "Global handler",
        "task4": "Custom handler",
    }
    configs = [watch.of(function)[0].of.config for function in functions]
    assert [config.name for config in configs] == [None, None, None, "my_task"]
    assert [config.shield for config in configs] == [True, True, False, False]


def test_overriding_the_global_shield(watch: Watch) -> None:
    """`shield=False` over a global `True` lets a shutdown cancel the task. 3.2, 5.2."""
    functions = ("task1", "task2", "task3", "task4")
    watch(overriding_global_configuration, *functions, until_shutdown=True)
    watch(overriding_global_configuration, "print")

    with TestClient(overriding_global_configuration.app) as client:
        client.post("/tasks")
        calls = [watch.begun(function)[0] for function in functions]

    states = [str(call.of.state) for call in calls]
    assert states == ["failed", "failed", "cancelled", "cancelled"]


def test_merge_behavior(watch: Watch) -> None:
    """The other config's fields win where they are not `None`, `False` included. 3.2."""
    watch(merge_behavior, "fail", "print")

    merged = merge_behavior.merged
    assert (merged.name, merged.shield) == ("global", False)
    assert merged.on_error is merge_behavior.handler1

    with TestClient(merge_behavior.app) as client:
        client.post("/")
        watch.printed("handler1: merged")

    (call,) = watch.of("fail")
    assert call.running_as == "global"
    assert not call.of.config.shielded


def test_production_app(watch: Watch, program_with_sentry: Callable[[str], ModuleType]) -> None:
    """The payment, shielded over the global `False`, outlives the notification. 3.3, 5.2."""
    program = program_with_sentry("production_app")
    watch(program, "process_payment", "send_notification", until_shutdown=True)

    with TestClient(program.app) as client:
        paid = client.post("/payments", params={"payment_id": 7, "amount": 9.5})
        notified = client.post("/notify", params={"user_id": 8, "message": "Hello"})
        (payment,) = watch.begun("process_payment")
        (notification,) = watch.begun("send_notification")

    assert paid.json() == {"status": "processing"}
    assert notified.json() == {"status": "scheduled"}
    assert (payment.args, payment.running_as) == ((7, 9.5), "process_payment_7")
    assert (notification.args, notification.running_as) == ((8, "Hello"), "notify_8")
    assert str(payment.of.state) == "succeeded"
    assert str(notification.of.state) == "cancelled"


def test_production_app_reports_errors(
    watch: Watch,
    sentry: Sentry,
    program_with_sentry: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The global handler writes to the application's log and to the error service. 4.3."""
    program = program_with_sentry("production_app")

    async def fail(user_id: int, message: str) -> None:
        raise ConnectionError(user_id, message)

    monkeypatch.setattr(program, "send_notification", fail)
    watch(program, "send_notification")
    watch(program.logger, "error")
    watch(sentry, "capture_exception")

    with TestClient(program.app) as client:
        client.post("/notify", params={"user_id": 8, "message": "Hello"})
        watch.ended("capture_exception")

    (failed,) = watch.of("send_notification")
    (logged,) = watch.of("error")
    assert logged.args == ("Task failed: notify_8",)
    assert logged.kwargs == {"exc_info": failed.error}
    context = {"name": "notify_8", "function": "fail"}
    assert sentry.captured == [(failed.error, {"task": context})]


def test_set_conservative_defaults(watch: Watch) -> None:
    """Only the task that opts in to shielding outlives the shutdown. 3.3, 5.2."""
    watch(conservative_defaults, "ordinary_task", "critical_task", until_shutdown=True)

    with TestClient(conservative_defaults.app) as client:
        client.post("/")
        (ordinary,) = watch.begun("ordinary_task")
        (critical,) = watch.begun("critical_task")

    assert str(ordinary.of.state) == "cancelled"
    assert str(critical.of.state) == "succeeded"
    assert ordinary.of.config.on_error is critical.of.config.on_error is not None


def test_document_your_global_config(watch: Watch) -> None:
    """All tasks report errors and none is shielded, but that an individual task overrides it."""
    watch(documented_global_config, "fail", "print")

    with TestClient(documented_global_config.app) as client:
        client.post("/")
        watch.printed("Sentry: reported", "Sentry: reported")

    assert [call.of.config.shielded for call in watch.of("fail")] == [False, True]


def test_keep_it_simple(watch: Watch) -> None:
    """With a handler alone, tasks keep the names that a global name takes from them. 3.3."""
    watch(simple_global_config, "fail", "print")

    for app in (simple_global_config.app, simple_global_config.app_to_avoid):
        with TestClient(app) as client:
            client.post("/")
            watch.ended("print", times=1 if app is simple_global_config.app else 2)

    watch.printed("simple: fail", "complex: default_task")
    assert [call.running_as for call in watch.of("fail")] == ["fail", "default_task"]
    assert [call.of.config.shielded for call in watch.of("fail")] == [False, True]
