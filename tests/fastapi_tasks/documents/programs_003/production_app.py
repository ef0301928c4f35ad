# The document writes `-> dict`:
# mypy: disable-error-code="type-arg"
# pyright: reportMissingTypeArgument=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false

import logging

logger = logging.getLogger("the application's")

from fastapi import FastAPI
from fastapi_tasks import Tasks, add_tasks, TaskConfig, Task
import sentry_sdk

# Global error handler for production monitoring
async def production_error_handler(task: Task, error: Exception) -> None:
    # Log to application logs
    logger.error(f"Task failed: {task.config.name}", exc_info=error)
    # Send to Sentry with context
    with sentry_sdk.push_scope() as scope:
        scope.set_context("task", {
            "name": task.config.name,
            "function": task.func.__name__,
        })
        sentry_sdk.capture_exception(error)

# All tasks in production should:
# 1. Report errors to Sentry
# 2. NOT be shielded by default (allow quick shutdown)
production_config = TaskConfig(
    on_error=production_error_handler,
    shield=False
)

app = FastAPI()
add_tasks(app, config=production_config)

async def process_payment(payment_id: int, amount: float) -> None:
    # Process payment...
    pass

async def send_notification(user_id: int, message: str) -> None:
    # Send notification...
    pass

@app.post("/payments")
async def create_payment(payment_id: int, amount: float, tasks: Tasks) -> dict:
    # Critical payment task - override global config to shield
    tasks.task(
        name=f"process_payment_{payment_id}",
        shield=True  # Override: payments must complete
        # on_error still uses production_error_handler from global
    ).schedule(process_payment, payment_id, amount)
    return {"status": "processing"}

@app.post("/notify")
async def notify_user(user_id: int, message: str, tasks: Tasks) -> dict:
    # Non-critical notification - use global config
    # shield=False, on_error=production_error_handler
    tasks.task(name=f"notify_{user_id}").schedule(
        send_notification, user_id, message
    )
    return {"status": "scheduled"}
