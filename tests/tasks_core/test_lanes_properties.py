"""Whatever is scheduled by keys, in whatever order and from any thread (9.8 to 9.11).

Never more than the limit run, those that wait come in order, and nothing is left.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final, TypeVar

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
    BacklogFullError,
    Phase,
    PhaseScheduler,
    RunnerClosedError,
    Task,
    TaskRunner,
    TasksScheduler,
    TaskState,
)

from tests.tasks_core.test_properties import FINAL, GUARD, Loop

R = TypeVar("R")
REQUESTS: Final = 3
LIMITS: Final = {"a": 1, "b": 2, "c": 3}

Spec = tuple[Phase, str, int, bool, bool, bool, int | None]
SPECS: Final[st.SearchStrategy[Spec]] = st.tuples(
    st.sampled_from(Phase),
    st.sampled_from(list(LIMITS)),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, None, 0, 2]),
)
"""Phase, key, limit (up to the key's own), and whether it is sync, whether another thread
schedules it, ``unique``, ``backlog``."""


@dataclass
class Known:
    """A task, and what is known of it."""

    task: Task
    key: str
    limit: int
    sync: bool
    due: int | None = None
    """When its time has come, by the machine's clock."""
    outcome: Future[None] = field(default_factory=Future[None])
    begun: list[int] = field(default_factory=list[int])
    cancelled: bool = False
    """Whether it makes way for another one, though it may live on for a while."""


class Keys(RuleBasedStateMachine):
    """One runner on asyncio, some requests, and tasks of three keys, each with its limit."""

    @initialize(shield=st.booleans(), specs=st.lists(SPECS, min_size=4, max_size=12))
    def open(self, shield: bool, specs: list[Spec]) -> None:  # noqa: FBT001 - drawn
        self.loop = Loop()
        self.others = ThreadPoolExecutor(2)
        # There is a thread for each: so what waits, waits for others of its key.
        self.runner = TaskRunner(shutdown_timeout=GUARD)
        self.loop.spawn(self.runner.__aenter__()).result(GUARD)
        self.requests = [TasksScheduler(self.runner) for _ in range(REQUESTS)]
        self.reached = [Phase.IMMEDIATE] * REQUESTS
        self.waiting = [list[Known]() for _ in range(REQUESTS)]
        self.shield = shield
        self.known: list[Known] = []
        self.clock = 0
        self.changing = Lock()
        self.running = Counter[str]()
        self.exceeded: list[Known] = []
        self.closing: Future[None] | None = None
        self.functions: dict[tuple[str, bool], Callable[[Known], Any]] = {}
        self.schedule(0, specs)

    def _do(self, elsewhere: bool, act: Callable[[], R]) -> R:  # noqa: FBT001 - drawn
        return self.others.submit(act).result(GUARD) if elsewhere else self.loop.do(act)

    def _enter(self, known: Known) -> None:
        with self.changing:
            self.clock += 1
            known.begun.append(self.clock)
            self.running[known.key] += 1
            # A thread may be late to note that it has begun, and others have joined it by then.
            limit = LIMITS[known.key] if known.sync else known.limit
            if self.running[known.key] > limit:
                self.exceeded.append(known)

    def _leave(self, known: Known) -> None:
        with self.changing:
            self.running[known.key] -= 1

    def _function(self, key: str, sync: bool) -> Callable[[Known], Any]:  # noqa: FBT001 - drawn
        """Return the function of a key: always the same, for ``unique``."""

        def work_in_thread(known: Known) -> None:
            self._enter(known)
            try:
                known.outcome.result(GUARD)
            finally:
                self._leave(known)

        async def work(known: Known) -> None:
            self._enter(known)
            try:
                await asyncio.wrap_future(known.outcome)
            finally:
                self._leave(known)

        return self.functions.setdefault((key, sync), work_in_thread if sync else work)

    @rule(number=st.integers(0, REQUESTS - 1), specs=st.lists(SPECS, min_size=1, max_size=4))
    def schedule(self, number: int, specs: list[Spec]) -> None:
        for phase, key, drawn, sync, elsewhere, unique, backlog in specs:
            limit = min(drawn, LIMITS[key])
            batch = at(self.requests[number], phase).task(
                key=key, limit=limit, unique=unique, backlog=backlog, shield=self.shield
            )
            known = Known(None, key, limit, sync)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            self._schedule(number, batch, known, elsewhere=elsewhere)

    def _schedule(
        self, number: int, batch: PhaseScheduler, known: Known, *, elsewhere: bool
    ) -> None:
        function = self._function(known.key, known.sync)
        lives = len(self.runner.registry)
        like_it = [
            one
            for one in self._living()
            if (one.key, one.sync) == (known.key, known.sync) and not one.cancelled
        ]
        try:
            known.task = self._do(elsewhere, lambda: batch.schedule(function, known))
        except RunnerClosedError:
            assert self.closing is not None
            return
        except BacklogFullError:
            assert batch.config.backlog is not None
            assert len(self.runner.registry) <= lives
            return
        if known.task.args != (known,):
            assert batch.config.unique
            twin = known.task.args[0]
            assert (twin.key, twin.sync) == (known.key, known.sync)
            return
        self.known.append(known)
        if batch.config.unique and like_it:
            assert len(self._living(like_it)) < len(like_it)
        if self.reached[number] >= batch.phase:
            self._come(known)
        else:
            self.waiting[number].append(known)

    def _living(self, of: list[Known] | None = None) -> list[Known]:
        return [one for one in of or self.known if one.task.state not in FINAL]

    def _come(self, known: Known) -> None:
        with self.changing:
            self.clock += 1
            known.due = self.clock

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
        for each in (Phase.AFTER_ROUTE, Phase.AFTER_RESPONSE):
            if self.reached[number] < each <= phase:
                self.reached[number] = each
                for known in list(self.waiting[number]):
                    if known.task.phase is each:
                        self.waiting[number].remove(known)
                        self._come(known)
        self._do(elsewhere, lambda: self.requests[number].reach(phase, failed=failed))

    def _some(self, data: st.DataObject) -> Known:
        return self.known[data.draw(st.integers(0, 99)) % len(self.known)]

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def end_task(self, data: st.DataObject) -> None:
        known = self._some(data)
        if not known.outcome.done():
            known.outcome.set_result(None)

    @precondition(lambda self: self.known)
    @rule(data=st.data(), elsewhere=st.booleans())
    def cancel(self, data: st.DataObject, elsewhere: bool) -> None:  # noqa: FBT001 - drawn
        known = self._some(data)
        if self._do(elsewhere, known.task.cancel):
            known.cancelled = True

    @precondition(lambda self: self.closing is None and len(self.known) > 5)
    @rule()
    def close(self) -> None:
        self.closing = self.loop.spawn(self.runner.drain())

    @invariant()
    def the_limit_holds(self) -> None:
        assert not getattr(self, "exceeded", [])

    def teardown(self) -> None:
        """Let all tasks end, and close: nothing may be left."""
        if not hasattr(self, "loop"):
            return
        try:
            self._finish()
        finally:
            for known in self.known:
                if not known.outcome.done():
                    known.outcome.set_result(None)
            self.others.shutdown()
            self.loop.close()

    def _finish(self) -> None:
        for number in range(REQUESTS):
            self.reach(number, Phase.AFTER_RESPONSE, failed=False, elsewhere=False)
        for known in self.known:
            if not known.outcome.done():
                known.outcome.set_result(None)
        if self.closing is None:
            self.loop.spawn(self.runner.join()).result(GUARD)
            assert self.loop.do(lambda: len(self.runner._lanes)) == 0
            self.closing = self.loop.spawn(self.runner.drain())
        self.closing.result(GUARD)
        self.the_limit_holds()
        assert len(self.runner._lanes) == 0
        assert len(self.runner.registry) == 0
        for known in self.known:
            assert known.task.state in FINAL
            assert len(known.begun) <= 1
            if known.task.state is TaskState.SUCCEEDED:
                assert known.begun
        for key in LIMITS:
            self._check_order(key)

    def _check_order(self, key: str) -> None:
        """Of threads either may come first to note that it has begun, unless there is only one."""
        begun = [
            (known.due or 0, known.begun[0])
            for known in self.known
            if known.key == key and known.begun and (LIMITS[key] == 1 or not known.sync)
        ]
        in_turn = [moment for _, moment in sorted(begun)]
        assert in_turn == sorted(in_turn), (key, begun)


def at(request: TasksScheduler, phase: Phase) -> PhaseScheduler:
    """Return what schedules for a phase."""
    if phase is Phase.IMMEDIATE:
        return request.task()
    return request.after_route if phase is Phase.AFTER_ROUTE else request.after_response


Keys.TestCase.settings = settings(stateful_step_count=25, deadline=None)
TestKeys = Keys.TestCase
