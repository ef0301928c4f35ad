"""What the soak loads: routes whose tasks end in every way, and an account of all of them."""

import asyncio
import gc
import os
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import anyio
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from fastapi_tasks import PhaseScheduler, Task, Tasks, add_tasks

FINAL = ("succeeded", "failed", "cancelled", "skipped")

random = Random()  # noqa: S311 - nothing secret
scheduled = 0
ended: Counter[str] = Counter()


class Account:
    """Counts each task once, by the state that it has ended in."""

    def __init__(self) -> None:
        self.living: set[Task] = set()

    def take(self, task: Task) -> None:
        global scheduled  # noqa: PLW0603 - the account is the process's
        scheduled += 1
        self.living.add(task)

    def settle(self) -> None:
        """Move what has ended to the counts."""
        over = [task for task in self.living if str(task.state) in FINAL]
        ended.update(str(task.state) for task in over)
        self.living.difference_update(over)


account = Account()
release = threading.Event()


app = FastAPI()
add_tasks(app)


class SoakError(Exception):
    pass


async def work(how: str) -> None:
    await asyncio.sleep(random.random() / 100)
    if how == "fail":
        raise SoakError
    if how == "abort":
        raise SystemExit(1)
    if how == "stray":
        raise asyncio.CancelledError
    if how == "cancel":
        await anyio.sleep_forever()


def work_in_thread(how: str) -> None:
    if how == "fail":
        raise SoakError


def schedule(batch: PhaseScheduler) -> None:
    how = random.choice(["end", "end", "fail", "abort", "stray", "cancel"])
    run_on = random.choice(["success", "failure", "always"])
    func: Any = random.choice([work, work, work_in_thread])
    task = batch.task(shield=random.random() < 0.5, run_on=run_on).schedule(func, how)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    account.take(task)
    if how == "cancel":
        asyncio.get_running_loop().call_later(random.random() / 20, task.cancel)


@app.get("/mixed")
async def mixed(tasks: Tasks) -> Any:
    for batch in (tasks.task(), tasks.after_route, tasks.after_response):
        for _ in range(random.randrange(3)):
            schedule(batch)
    account.settle()
    chance = random.random()
    if chance < 0.1:
        raise HTTPException(409)
    if chance < 0.15:
        raise SoakError
    if chance < 0.4:
        return StreamingResponse(stream())
    return {"tasks": scheduled}


async def stream() -> AsyncIterator[bytes]:
    for _ in range(20):
        yield bytes(2_000)
        await asyncio.sleep(0)


@app.get("/plain")
async def plain(tasks: Tasks) -> None:
    account.take(tasks.schedule(work_in_no_time))
    account.take(tasks.after_response.schedule(work_in_no_time))
    account.settle()


async def work_in_no_time() -> None:
    pass


@app.get("/sync")
def sync_route() -> str:
    return "still here"


@app.get("/flight/{count}")
async def take_off(count: int, tasks: Tasks) -> dict[str, float]:
    """Have so many tasks in flight at once, and let them all land."""
    gate = anyio.Event()
    before, began = memory(), time.perf_counter()
    flying = [tasks.schedule(gate.wait) for _ in range(count)]
    await flying[-1].started.wait()
    in_flight, during = sum(task.state == "running" for task in flying), memory()
    gate.set()
    for task in flying:
        await task.wait()
    return {
        "in_flight": in_flight,
        "succeeded": sum(task.state == "succeeded" for task in flying),
        "seconds": time.perf_counter() - began,
        "bytes_each": (during - before) / count,
    }


@app.get("/block/{count}")
async def block(count: int, tasks: Tasks) -> None:
    """Have so many sync tasks, of which as many block a thread as there may be."""
    release.clear()
    for _ in range(count):
        account.take(tasks.schedule(release.wait))


@app.get("/release")
async def let_go() -> None:
    release.set()


@app.get("/account")
async def tell() -> dict[str, Any]:
    account.settle()
    gc.collect()
    return {
        "scheduled": scheduled,
        "living": len(account.living),
        "ended": dict(ended),
        "memory": memory(),
    }


def memory() -> int:
    """Return the resident bytes of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
