"""Tasks and error handlers that do their worst, beside others that must not notice."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Never

import anyio
import anyio.lowlevel
from fastapi import FastAPI

from tests.servers.apps.package import (
    SETTINGS,
    Phase,
    Task,
    Tasks,
    add_tasks,
    batch_of,
    current_task,
    tell_records,
)
from tests.servers.apps.wire import pass_gate, say, wait_at_gate

tell_records()
app = FastAPI()
add_tasks(app, **SETTINGS)

# Made at run time, so that no source line in a traceback holds it.
SECRET = "hunter{}".format(2)  # noqa: UP032 - as above

HOSTS: dict[str, Callable[[], object]] = {}


class Abrupt(BaseException):
    pass


class Cancelled(BaseException):
    """Looks like trio's."""


class Evil:
    """Raises whatever is asked of it, except to be called."""

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def __repr__(self) -> str:
        raise Abrupt(self.secret)

    __str__ = __repr__

    def __getattr__(self, name: str) -> Never:
        raise Abrupt(name)

    def __call__(self, *_: Any, **__: Any) -> Never:
        raise ValueError


class Telling:
    """Tells its secret where anybody formats it."""

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def __repr__(self) -> str:
        return f"Telling({self.secret})"

    async def method(self, *_: Any, **__: Any) -> Never:
        raise ValueError


def raising(error: BaseException) -> Callable[..., Coroutine[Any, Any, None]]:
    async def raise_it(*_: Any, **__: Any) -> None:
        await anyio.lowlevel.checkpoint()
        raise error

    return raise_it


def raising_at_once(error: BaseException) -> Callable[..., Coroutine[Any, Any, None]]:
    async def raise_it(*_: Any, **__: Any) -> None:
        raise error

    return raise_it


def raising_sync(error: BaseException) -> Callable[..., None]:
    def raise_it(*_: Any, **__: Any) -> None:
        raise error

    return raise_it


async def exit_program(*_: Any, **__: Any) -> None:
    sys.exit(3)


async def recurse(*args: Any, **kwargs: Any) -> None:
    await recurse(*args, **kwargs)


def recurse_sync(*args: Any, **kwargs: Any) -> None:
    recurse_sync(*args, **kwargs)


async def await_cancelled_future(*_: Any, **__: Any) -> None:
    if not _on_asyncio():  # which alone has futures
        raise Cancelled
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def await_cancelled_task(*_: Any, **__: Any) -> None:
    if not _on_asyncio():
        raise Cancelled
    other = asyncio.ensure_future(asyncio.sleep(3600))
    await asyncio.sleep(0)
    other.cancel()
    await other


async def fail_in_group(*_: Any, **__: Any) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(raising(Abrupt()))
        group.start_soon(raising(ValueError()))


async def cancel_itself(*_: Any, **__: Any) -> None:
    current_task().cancel()
    await anyio.sleep_forever()


async def cancel_own_scope(*_: Any, **__: Any) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anyio.sleep_forever()


async def cancel_natively(*_: Any, **__: Any) -> None:
    if not _on_asyncio():  # where nothing but scopes can cancel
        raise Cancelled
    running = asyncio.current_task()
    assert running is not None
    running.cancel()
    await asyncio.sleep(3600)


async def cancel_host(*_: Any, **__: Any) -> None:
    HOSTS["host"]()


def _on_asyncio() -> bool:
    return anyio.get_cancelled_exc_class() is asyncio.CancelledError


TASKS: dict[str, Callable[[], Callable[..., object]]] = {
    "Exception": lambda: raising(ValueError()),
    "Exception at once": lambda: raising_at_once(ValueError()),
    "Exception in a thread": lambda: raising_sync(ValueError()),
    "SystemExit": lambda: raising(SystemExit(1)),
    "SystemExit at once": lambda: exit_program,
    "SystemExit in a thread": lambda: raising_sync(SystemExit(1)),
    "KeyboardInterrupt in a thread": lambda: raising_sync(KeyboardInterrupt()),
    "GeneratorExit": lambda: raising(GeneratorExit()),
    "GeneratorExit in a thread": lambda: raising_sync(GeneratorExit()),
    "StopIteration in a thread": lambda: raising_sync(StopIteration()),
    "BaseException": lambda: raising(Abrupt()),
    "BaseException in a thread": lambda: raising_sync(Abrupt()),
    "group of exceptions": lambda: raising(ExceptionGroup("", [ValueError(), KeyError()])),
    "group of worse": lambda: raising(BaseExceptionGroup("", [SystemExit(1), Abrupt()])),
    "CancelledError": lambda: raising(asyncio.CancelledError()),
    "CancelledError in a thread": lambda: raising_sync(asyncio.CancelledError()),
    "look-alike of trio.Cancelled": lambda: raising(Cancelled()),
    "future that was cancelled": lambda: await_cancelled_future,
    "task that was cancelled": lambda: await_cancelled_task,
    "task group": lambda: fail_in_group,
    "recursion": lambda: recurse,
    "recursion in a thread": lambda: recurse_sync,
    "callable with a hostile repr": lambda: Evil(SECRET),
    "partial with a secret": lambda: partial(raising(ValueError()), SECRET),
    "method of what has a secret": lambda: Telling(SECRET).method,
    "cancels itself": lambda: cancel_itself,
    "cancels itself natively": lambda: cancel_natively,
    "cancels a scope of its own": lambda: cancel_own_scope,
}


def retry_and_raise(task: Task, error: Exception) -> Never:
    raise ZeroDivisionError from error


HANDLERS: dict[str, Callable[..., object]] = {
    "Exception in a thread": retry_and_raise,
    "Exception": raising(ZeroDivisionError()),
    "SystemExit": raising(SystemExit(1)),
    "BaseException in a thread": raising_sync(Abrupt()),
    "CancelledError": raising(asyncio.CancelledError()),
    "hostile repr": Evil(SECRET),
}


async def stand_by() -> None:
    say("async begins")
    await wait_at_gate("bystanders")
    say("async ends")


def stand_by_sync() -> None:
    say("sync begins")
    pass_gate("bystanders")
    say("sync ends")


async def watch(task: Task) -> None:
    with suppress(Exception):
        await task.wait()
    say(f"hostile {task.state}")


def schedule(tasks: Tasks, phase: Phase, func: Any, **settings: Any) -> None:
    tasks.schedule(stand_by)
    tasks.schedule(stand_by_sync)
    batch = batch_of(tasks, phase).task(**settings)
    task = batch.schedule(func, SECRET, Telling(SECRET), evil=Evil(SECRET), password=SECRET)
    tasks.task(name="watch").schedule(watch, task)


@app.get("/task/{how}/{phase}")
async def run_hostile_task(how: str, phase: Phase, tasks: Tasks, *, shield: bool = False) -> None:
    schedule(tasks, phase, TASKS[how](), name="hostile", shield=shield)


@app.get("/unnamed/{how}/{phase}")
async def run_unnamed_task(how: str, phase: Phase, tasks: Tasks) -> None:
    schedule(tasks, phase, TASKS[how]())


@app.get("/handler/{how}/{phase}")
async def run_hostile_handler(
    how: str, phase: Phase, tasks: Tasks, *, shield: bool = False
) -> None:
    func = raising(ValueError())
    schedule(tasks, phase, func, name="hostile", on_error=HANDLERS[how], shield=shield)


@app.get("/host")
async def be_cancelled(tasks: Tasks) -> None:
    with anyio.CancelScope() as scope:
        HOSTS["host"] = scope.cancel
        if _on_asyncio():
            running = asyncio.current_task()
            assert running is not None
            HOSTS["host"] = running.cancel
        schedule(tasks, "immediate", cancel_host, name="hostile")
        tasks.after_response.task(name="later").schedule(say, "later")
        await anyio.sleep_forever()


@app.get("/next")
async def go_on(tasks: Tasks) -> None:
    for name in ("immediate", "thread"):
        tasks.schedule(say, f"next {name}")
    tasks.after_route.schedule(say, "next after_route")
    tasks.after_response.schedule(say, "next after_response")
