"""The shop on Docket, with the settings that the documentation recommends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from docket import Docket
from fastapi import FastAPI
from tasks_core.carriers.docket import DocketCarrier

from tests.engines.apps import shop


async def invoice(order: int) -> str:
    return await asyncio.to_thread(shop.work, order)


async def hold(order: int) -> str:
    return await asyncio.to_thread(shop.hold, order)


async def refuse(order: int) -> None:
    shop.refuse(order)


tasks = [invoice, hold, refuse]
docket = Docket("shop", url=shop.REDIS, execution_ttl=timedelta(seconds=shop.EXPIRES))
for task in tasks:
    docket.register(task)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    if shop.IN_PROCESS:
        yield
        return
    async with docket:
        yield


functions: dict[str, shop.Function] = {task.__name__: task for task in tasks}
app = shop.make_app(functions, [DocketCarrier(docket, timeout=shop.TIMEOUT)], lifespan)
