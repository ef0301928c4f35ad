"""The shop on Taskiq and Redis streams, with the settings that the documentation recommends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from taskiq import AsyncBroker
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker
from tasks_core.carriers.taskiq import TaskiqCarrier

from tests.engines.apps import shop

connection: dict[str, Any] = {
    # A Redis that is away for a moment.
    "retry": Retry(ConstantBackoff(0.2), 20),
    "retry_on_error": [RedisConnectionError, RedisTimeoutError, OSError],
    "socket_connect_timeout": shop.CONNECT_TIMEOUT,
}


def make_broker() -> AsyncBroker:
    if "TESTS_AMQP" in os.environ:
        from taskiq_aio_pika import AioPikaBroker  # noqa: PLC0415 - where there is a RabbitMQ

        return AioPikaBroker(os.environ["TESTS_AMQP"])
    return RedisStreamBroker(
        shop.REDIS,
        consumer_id="0",  # what was sent before the first worker came is not lost
        idle_timeout=1000,  # in production longer than the longest task
        maxlen=100_000,
        **connection,
    )


broker = make_broker().with_result_backend(
    RedisAsyncResultBackend(
        shop.REDIS, result_ex_time=shop.EXPIRES, keep_results=True, **connection
    )
)


@broker.task("shop.invoice")
async def invoice(order: int) -> str:
    return await asyncio.to_thread(shop.work, order)


@broker.task("shop.hold")
async def hold(order: int) -> str:
    return await asyncio.to_thread(shop.hold, order)


@broker.task("shop.refuse")
async def refuse(order: int) -> None:
    shop.refuse(order)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    if not shop.IN_PROCESS:
        await broker.startup()
    yield
    if not shop.IN_PROCESS:
        await broker.shutdown()


functions: dict[str, shop.Function] = {"invoice": invoice, "hold": hold, "refuse": refuse}
app = shop.make_app(functions, [TaskiqCarrier(broker, timeout=shop.TIMEOUT)], lifespan)
