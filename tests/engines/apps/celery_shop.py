"""The shop on Celery, with the settings that the documentation recommends."""

from __future__ import annotations

from celery import Celery, shared_task
from tasks_core.carriers.celery import CeleryCarrier

from tests.engines.apps import shop

celery = Celery("shop", broker=shop.REDIS, backend=shop.REDIS)
celery.conf.update(
    # A worker that is killed: another one takes its task.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={
        "visibility_timeout": 4,  # in production longer than the longest task
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "socket_timeout": shop.SOCKET_TIMEOUT,
        "socket_connect_timeout": shop.CONNECT_TIMEOUT,
    },
    # A Redis that hangs, or is away for a moment.
    redis_socket_timeout=shop.SOCKET_TIMEOUT,
    redis_socket_connect_timeout=shop.CONNECT_TIMEOUT,
    task_publish_retry_policy={
        "max_retries": 20,
        "interval_start": 0.1,
        "interval_step": 0.1,
        "interval_max": 0.3,
    },
    # Statuses.
    task_track_started=True,
    result_expires=shop.EXPIRES,
)


@shared_task
def invoice(order: int) -> str:
    return shop.work(order)


@shared_task
def hold(order: int) -> str:
    return shop.hold(order)


@shared_task
def refuse(order: int) -> None:
    shop.refuse(order)


celery.set_default()
functions: dict[str, shop.Function] = {"invoice": invoice, "hold": hold, "refuse": refuse}
app = shop.make_app(functions, [CeleryCarrier(celery, timeout=shop.TIMEOUT)])
