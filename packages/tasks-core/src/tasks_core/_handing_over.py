"""Handing tasks over to their engines: bounded, and apart from all other threads (contract 8.6)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from inspect import isawaitable, iscoroutine
from threading import Condition, Thread
from typing import Any, Final

from anyio import Event, Semaphore, move_on_after

from ._backend import Backend
from ._carrier import Carried, Carrier, TaskStatus
from ._exceptions import HandOverError, LoopEndedError
from ._function import is_async
from ._raised import aborted_by
from ._record import escape
from ._traceback import cut_traceback

THREADS: Final = 4
"""How many sync questions are asked at a time, of each whom a runner asks."""

AT_A_TIME: Final = 40
"""How many questions are at all. A client that is async has a connection for each, and raises where
there are no more: redis-py has 100, for hand-overs, questions and whatever else is asked."""


class Messengers:
    """Ask what may hang, each a few questions at a time: who hangs holds up nobody else.

    Sync ones are asked in threads: what hangs is left behind with its thread. They keep no process
    from ending.
    """

    def __init__(self) -> None:
        self._groups: dict[object, _Group] = {}  # by who is asked, made when it is first
        self._closed = False

    async def ask(
        self, whom: object, backend: Backend, question: Callable[..., Any], /, *args: object
    ) -> Any:  # noqa: ANN401 - whatever is answered
        """Call a function of others: on the event loop if it is async, in a thread otherwise.

        Who is cancelled does not wait for the answer, nor for a turn.

        Args:
            whom: Who is asked, and what: questions of one kind wait for each other.
            backend: The event loop that waits.
            question: The function.
            args: Its arguments.
        """
        call = partial(question, *args)
        # What is raised may keep this frame, and the task, whose arguments these are, has that.
        del question, args
        group = self._groups.get(whom) or self._groups.setdefault(whom, _Group())
        if self._closed:
            group.close()
        try:
            async with group.turns:
                if is_async(call):
                    return await call()
                found = await group.ask(_Letter(call, backend))
                return await found if isawaitable(found) else found
        finally:
            del call

    def close(self) -> None:
        """Let the threads end that have nothing to do."""
        self._closed = True
        for group in list(self._groups.values()):
            group.close()


class _Group:
    """The turns for one who is asked, and the threads."""

    def __init__(self) -> None:
        # Without a pause where one is free: a task's first step is its hand-over.
        self.turns = Semaphore(AT_A_TIME, fast_acquire=True)
        self._letters = deque[_Letter]()
        self._changed = Condition()  # held for the letters and the counts
        self._threads = self._idle = 0
        self._closed = False

    async def ask(self, letter: _Letter) -> Any:  # noqa: ANN401 - whatever is answered
        """Ask in a thread; who is cancelled does not wait for it."""
        self.post(letter)
        try:
            await letter.answered.wait()
        except BaseException:
            letter.drop()
            raise
        finally:
            self.take_back(letter)
        return letter.read()

    def post(self, letter: _Letter) -> None:
        """Give a letter to a thread, as soon as one has time for it."""
        with self._changed:
            self._letters.append(letter)
            self._changed.notify()
            if len(self._letters) <= self._idle or self._threads == THREADS:
                return
            self._threads += 1
        Thread(target=self._work, name="tasks_core messenger", daemon=True).start()

    def take_back(self, letter: _Letter) -> None:
        """Forget a letter that no thread has taken yet."""
        with self._changed, suppress(ValueError):
            self._letters.remove(letter)

    def close(self) -> None:
        """Let the threads end that have nothing to do."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                while not self._letters and not self._closed:
                    self._changed.wait()
                self._idle -= 1
                if not self._letters:
                    self._threads -= 1
                    return
                letter = self._letters.popleft()
            letter.answer()
            del letter  # it holds the arguments


class _Letter:
    """A question on its way to a thread and back, asked in a copy of the present context."""

    def __init__(self, question: Callable[[], Any], backend: Backend) -> None:
        self.answered = Event()
        self._context = copy_context()
        self._question = question
        self._backend = backend
        self._found: Any = None
        self._error: Exception | None = None
        self._dropped = False

    def answer(self) -> None:
        """Ask, in the thread, and wake who waits."""
        try:
            self._found = self._context.run(self._question)
        except Exception as error:  # noqa: BLE001 - who asks gets it
            self._error = error
        except BaseException as error:  # noqa: BLE001 - as from any other thread of ours
            self._error = aborted_by(error)
        finally:
            # They hold the task, and what was raised holds this.
            del self._question, self._context
        if self._dropped:
            self.drop()
        with suppress(LoopEndedError):
            self._backend.act(self.answered.set)

    def drop(self) -> None:
        """Forget the answer, for which nobody waits any more; a coroutine is not to be awaited."""
        self._dropped = True
        found, self._found = self._found, None
        if iscoroutine(found):
            found.close()

    def read(self) -> Any:  # noqa: ANN401 - whatever the engine says
        """Return the answer, or raise it, once."""
        error, self._error = self._error, None  # the error has the frames, and these have this
        try:
            if error is not None:
                raise error
            return self._found
        finally:
            del error


async def hand_over(
    name: str, task_id: str, carried: Carried, messengers: Messengers, backend: Backend
) -> None:
    """Hand a task over to its engine.

    Raises:
        HandOverError: The engine has not confirmed it (contract 8.7).
    """
    carrier, send = carried.carrier, carried.send
    try:
        # Not `fail_after`: a generator's context manager sets attributes of what is raised.
        with move_on_after(carrier.timeout) as limit:
            await messengers.ask(("hand-over", carrier.name), backend, send, task_id)
        if limit.cancelled_caught:
            raise TimeoutError  # noqa: TRY301 - handled as what the engine raises
    except Exception as error:
        cut_traceback(error)
        raise HandOverError(escape(name), carrier.name) from error
    else:
        carried.confirmed = True
    finally:
        del carried, send  # as in `Messengers.ask`


async def ask_status(
    task_id: str, carrier: Carrier, messengers: Messengers, backend: Backend
) -> TaskStatus | None:
    """Ask an engine what has become of a task.

    Raises:
        TimeoutError: It has not answered within the carrier's timeout (contract 8.9).
    """
    found: TaskStatus | None = None
    with move_on_after(carrier.timeout) as limit:
        whom = "status", carrier.name
        found = await messengers.ask(whom, backend, carrier.status, task_id)
    if limit.cancelled_caught:
        msg = (
            f"{carrier.name} did not tell the status of task {task_id} within "
            f"{carrier.timeout:g} s, the timeout of its carrier"
        )
        raise TimeoutError(msg)
    return found
