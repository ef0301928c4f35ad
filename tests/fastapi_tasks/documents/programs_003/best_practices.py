import logging

from fastapi import FastAPI
from fastapi_tasks import Task, Tasks, add_tasks

from tests.fastapi_tasks.documents.stand_ins import StandInError

app = FastAPI()
add_tasks(app)
logger = logging.getLogger("the application's")


async def process_payment() -> None:
    raise StandInError("card declined")


async def finalize_payment() -> None: ...


async def send_email() -> None:
    raise StandInError("no such mailbox")


async def critical_function() -> None:
    raise StandInError("critical")


async def handle_payment_error(task: Task, error: Exception) -> None: ...


def critical_error_handler(task: Task, error: Exception) -> None: ...


def log_error(task: Task, error: Exception) -> None: ...


@app.post("/always-name-critical-tasks")
async def always_name_critical_tasks(tasks: Tasks) -> None:
    # The document leaves the function out: `.schedule(...)`.
    # Good
    tasks.task(name="process_payment", shield=True).schedule(finalize_payment)

    # Less good
    tasks.task(shield=True).schedule(finalize_payment)  # Missing name


@app.post("/use-descriptive-error-handlers")
async def use_descriptive_error_handlers(tasks: Tasks) -> None:
    # Good - specific handler for specific task type
    async def payment_error_handler(task: Task, error: Exception) -> None:
        await handle_payment_error(task, error)

    tasks.task(on_error=payment_error_handler).schedule(process_payment)

    # Also good - generic handler for logging
    async def log_all_errors(task: Task, error: Exception) -> None:
        logger.error(f"Task {task.config.name} failed", exc_info=error)

    # Not in the document, which only defines this handler.
    tasks.task(name="newsletter", on_error=log_all_errors).schedule(send_email)


@app.post("/shield-only-when-necessary")
async def shield_only_when_necessary(tasks: Tasks) -> None:
    # Good - shield critical operations
    tasks.task(shield=True).schedule(finalize_payment)

    # Bad - unnecessary shielding
    tasks.task(shield=True).schedule(send_email)  # Emails can fail/retry


@app.post("/combine-configuration-logically")
async def combine_configuration_logically(tasks: Tasks) -> None:
    # Good - critical task with name, shield, and error handler
    tasks.task(
        name="critical_operation",
        shield=True,
        on_error=critical_error_handler
    ).schedule(critical_function)

    # Good - non-critical task with just error logging
    tasks.task(
        name="send_notification",
        on_error=log_error
    ).schedule(send_email)
