"""Whatever is done to requests and their tasks, in whatever order and from any thread.

No task is lost, none runs twice, final states stay, and a phase keeps its order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Thread
from typing import Any, Final, TypeVar

import anyio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from tasks_core import (
    Phase,
    PhaseScheduler,
    RunnerClosedError,
    RunOn,
    Task,
    TaskRunner,
    TasksScheduler,
    TaskState,
)

GUARD: Final = 60.0
FINAL: Final = {
    TaskState.SUCCEEDED,
    TaskState.FAILED,
    TaskState.CANCELLED,
    TaskState.SKIPPED,
}
REQUESTS: Final = 3
CLOSES_AFTER: Final = 5
R = TypeVar("R")

Spec = tuple[Phase, RunOn, bool, bool]
RUN_ON: Final[list[RunOn]] = ["success", "failure", "always"]
SPECS: Final[st.SearchStrategy[Spec]] = st.tuples(
    st.sampled_from(Phase), st.sampled_from(RUN_ON), st.booleans(), st.booleans()
)
"""Phase, outcome, whether it is sync, whether another thread schedules it."""


class Loop:
    """An event loop in a thread of its own, which the machine asks to do things."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = Thread(target=self.loop.run_forever)
        self.thread.start()

    def do(self, act: Callable[[], R]) -> R:
        async def once() -> R:
            return act()

        return asyncio.run_coroutine_threadsafe(once(), self.loop).result(GUARD)

    def spawn(self, coro: Any) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(coro, self.loop)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(GUARD)
        self.loop.close()


@dataclass
class Known:
    """A task, and what was asked of it."""

    task: Task
    request: int
    phase: Phase
    run_on: RunOn
    sync: bool
    cancelled: bool = False
    """Whether it was cancelled by the machine or by the shutdown."""
    outcome: Future[str] = field(default_factory=Future[str])
    begun: list[None] = field(default_factory=list[None])
    final: TaskState | None = None


class Requests(RuleBasedStateMachine):
    """One runner on asyncio, some requests, and tasks that end when the machine says so."""

    @initialize(
        threads=st.integers(1, 3),
        shield=st.booleans(),
        specs=st.lists(SPECS, min_size=3, max_size=12),
    )
    def open(self, threads: int, shield: bool, specs: list[Spec]) -> None:  # noqa: FBT001 - drawn
        self.loop = Loop()
        self.others = ThreadPoolExecutor(2)
        self.runner = TaskRunner(thread_limit=threads)
        self.shield = shield
        self.loop.spawn(self.runner.__aenter__()).result(GUARD)
        self.requests = [TasksScheduler(self.runner) for _ in range(REQUESTS)]
        self.known: list[Known] = []
        self.closing: Future[None] | None = None
        self.schedule(0, specs)

    def _do(self, elsewhere: bool, act: Callable[[], R]) -> R:  # noqa: FBT001 - a drawn value
        """Act on the loop's thread or on another one."""
        return self.others.submit(act).result(GUARD) if elsewhere else self.loop.do(act)

    @rule(number=st.integers(0, REQUESTS - 1), specs=st.lists(SPECS, min_size=1, max_size=4))
    def schedule(self, number: int, specs: list[Spec]) -> None:
        for spec in specs:
            self._schedule(number, *spec)

    def _schedule(
        self,
        number: int,
        phase: Phase,
        run_on: RunOn,
        sync: bool,  # noqa: FBT001 - drawn values
        elsewhere: bool,  # noqa: FBT001
    ) -> None:
        outcome: Future[str] = Future()
        begun: list[None] = []

        def work_in_thread() -> None:
            begun.append(None)
            end(outcome.result(GUARD))

        async def work() -> None:
            begun.append(None)
            end(await asyncio.wrap_future(outcome))

        batch = _batch(self.requests[number], phase).task(run_on=run_on, shield=self.shield)
        func: Callable[[], Any] = work_in_thread if sync else work
        try:
            task = self._do(elsewhere, lambda: batch.schedule(func))
        except RunnerClosedError:
            assert self.closing is not None
            return
        self.known.append(Known(task, number, phase, run_on, sync, outcome=outcome, begun=begun))

    @rule(
        number=st.integers(0, REQUESTS - 1),
        phase=st.sampled_from([Phase.AFTER_ROUTE, Phase.AFTER_RESPONSE]),
        failed=st.booleans(),
        elsewhere=st.booleans(),
    )
    def reach(
        self,
        number: int,
        phase: Phase,
        failed: bool,  # noqa: FBT001 - drawn values
        elsewhere: bool,  # noqa: FBT001
    ) -> None:
        self._do(elsewhere, lambda: self.requests[number].reach(phase, failed=failed))

    @rule(number=st.integers(0, REQUESTS - 1), elsewhere=st.booleans())
    def fail(self, number: int, elsewhere: bool) -> None:  # noqa: FBT001 - drawn
        self._do(elsewhere, self.requests[number].fail)

    def _some(self, data: st.DataObject) -> Known:
        # Of a fixed range: how many are known depends on when a shutdown begins to refuse tasks,
        # and what is drawn must not.
        return self.known[data.draw(st.integers(0, 99)) % len(self.known)]

    @precondition(lambda self: self.known)
    @rule(data=st.data(), how=st.sampled_from(["return", "raise", "abort"]))
    def end_task(self, data: st.DataObject, how: str) -> None:
        known = self._some(data)
        if not known.outcome.done():
            known.outcome.set_result(how)

    @precondition(lambda self: self.known)
    @rule(data=st.data(), elsewhere=st.booleans())
    def cancel(self, data: st.DataObject, elsewhere: bool) -> None:  # noqa: FBT001 - drawn
        known = self._some(data)
        ended = known.task.state in FINAL
        effective = self._do(elsewhere, known.task.cancel)
        assert not (ended and effective)
        known.cancelled = known.cancelled or not ended

    @precondition(lambda self: self.closing is None and len(self.known) > CLOSES_AFTER)
    @rule()
    def close(self) -> None:
        self.closing = self.loop.spawn(self.runner.drain())
        if not self.shield:
            for known in self.known:
                known.cancelled = True

    @invariant()
    def final_states_stay(self) -> None:
        for known in getattr(self, "known", []):
            state = known.task.state
            assert known.final in {None, state}
            if state in FINAL:
                known.final = state
            assert len(known.begun) <= 1

    def teardown(self) -> None:
        """Let all tasks end, and close: everything must add up."""
        if not hasattr(self, "loop"):
            return
        try:
            self._finish()
        finally:
            for known in self.known:
                if not known.outcome.done():
                    known.outcome.set_result("return")
            self.others.shutdown()
            self.loop.close()

    def _finish(self) -> None:
        for request in self.requests:
            self.loop.do(partial(request.reach, Phase.AFTER_RESPONSE))
        for known in self.known:
            if not known.outcome.done():
                known.outcome.set_result("return")
        if self.closing is None:
            for known in self.known:
                self.loop.spawn(_over(known.task)).result(GUARD)
            self.closing = self.loop.spawn(self.runner.drain())
        self.closing.result(GUARD)
        self.final_states_stay()
        for known in self.known:
            self._check(known)
        for phase in Phase:
            for number in range(len(self.requests)):
                self._check_order(number, phase)

    def _check(self, known: Known) -> None:
        state = known.task.state
        assert state in FINAL, f"lost: {known}"
        assert bool(known.begun) == (state in {TaskState.SUCCEEDED, TaskState.FAILED}) or (
            state is TaskState.CANCELLED
        ), known
        if state is TaskState.CANCELLED:
            assert known.cancelled or self.closing is not None, known
        elif state is TaskState.SUCCEEDED:
            assert known.outcome.result() == "return", known
        elif state is TaskState.FAILED:
            assert known.outcome.result() in {"raise", "abort"}, known
        else:
            assert known.phase is not Phase.IMMEDIATE
            assert known.run_on != "always"

    def _check_order(self, number: int, phase: Phase) -> None:
        # Sync functions are handed to their threads in order; which of them then comes first to
        # its first line, the operating system decides.
        for sync in (False, True):
            begun = [
                known.task._began_at
                for known in self.known
                if (known.request, known.phase, known.sync) == (number, phase, sync)
                and known.task._began_at is not None
            ]
            assert begun == sorted(begun), (number, phase, sync, begun)


def end(how: str) -> None:
    if how == "raise":
        raise ValueError
    if how == "abort":
        raise SystemExit


def _batch(request: TasksScheduler, phase: Phase) -> PhaseScheduler:
    if phase is Phase.IMMEDIATE:
        return request.task()
    return request.after_route if phase is Phase.AFTER_ROUTE else request.after_response


async def _over(task: Task) -> None:
    with anyio.fail_after(GUARD):
        with suppress(Exception):
            await task.wait()


Requests.TestCase.settings = settings(stateful_step_count=25, deadline=None)
TestRequests = Requests.TestCase
