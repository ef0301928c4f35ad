from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import product
from threading import RLock, Thread
from types import TracebackType
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tasks_core import (
    Phase,
    RunnerClosedError,
    RunOn,
    Task,
    TaskConfig,
    TaskRunner,
    TasksError,
    TasksScheduler,
    TasksUninitializedError,
    current_task,
    current_tasks,
)
from tasks_core._backend import Backend
from tasks_core._exceptions import Skipped
from tasks_core._layer import LayeredScheduler

from tests.tasks_core.stage import GUARD, StillBackend, interrupting

RUN_ON: tuple[RunOn, ...] = ("success", "failure", "always")
RUN_ON_SUCCESS: tuple[RunOn | None, ...] = (None, "success")


class Lock:
    """A lock that knows whether it is held."""

    def __init__(self) -> None:
        self._lock = RLock()
        self.held = 0

    def acquire(self) -> None:
        self._lock.acquire()
        self.held += 1

    def release(self) -> None:
        self.held -= 1
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


class Host(TaskRunner):
    """A runner whose event loop does nothing, which notes what it is asked for."""

    def __init__(self, config: TaskConfig | None = None) -> None:
        super().__init__(config=config)
        self._backend = StillBackend()
        self._lock = cast("Any", Lock())
        self.accepted: list[Task] = []
        self.started: list[Task] = []
        self.skipped: list[Task] = []
        self.levels: list[int] = []
        self.asked_for_begun = 0

    @property
    def lock(self) -> Lock:
        return cast("Lock", self._lock)

    def _accept(self, task: Task, counts: bool = True) -> Task:  # noqa: FBT001, FBT002 - as there
        assert self.lock.held
        assert counts
        self.accepted.append(task)
        return task

    def _start(self, tasks: Sequence[Task], here: bool = False) -> None:  # noqa: FBT001, FBT002 - as there
        assert not self.lock.held  # a start may run user code: a task's name, a logging handler
        self.started += tasks

    def _skip(self, task: Task, why: Skipped, level: int) -> None:
        assert not self.lock.held
        self.skipped.append(task)
        self.levels.append(level)

    def _cancel(self, task: Task) -> bool:
        return True

    async def _begun(self, backend: Backend) -> None:
        assert backend is self._backend
        self.asked_for_begun += 1


class Raced(Lock):
    """A lock that somebody else gets first, who does something under it: each time something."""

    def __init__(self, *firsts: Callable[[], None]) -> None:
        super().__init__()
        self._firsts = iter(firsts)

    def acquire(self) -> None:
        for first in self._firsts:
            first()
            break
        super().acquire()


def nothing(number: int = 0) -> int:
    return number


def run(coroutine_function: Callable[[], Any]) -> None:
    """Run a coroutine that never waits, without an event loop."""
    with pytest.raises(StopIteration):
        coroutine_function().send(None)


def test_phases_come_in_order_and_know_their_names() -> None:
    """Phases compare as they follow each other, and are written as in code (contract 1)."""
    assert Phase.IMMEDIATE < Phase.AFTER_ROUTE < Phase.AFTER_RESPONSE
    assert [str(phase) for phase in Phase] == ["immediate", "after_route", "after_response"]


def test_an_immediate_task_is_started_at_once() -> None:
    """What is scheduled without a phase does not wait for one (contract 1.1)."""
    host = Host()

    task = TasksScheduler(host).schedule(nothing)

    assert host.accepted == host.started == [task]
    assert task.phase is Phase.IMMEDIATE


def test_tasks_of_later_phases_wait_for_theirs() -> None:
    """A phase starts its own tasks, and none of a later one (contract 1.2, 1.3)."""
    host = Host()
    tasks = TasksScheduler(host)
    response = tasks.after_response.schedule(nothing)
    route = tasks.after_route.schedule(nothing)
    assert host.accepted == [response, route]
    assert host.started == []

    tasks.reach(Phase.AFTER_ROUTE)
    assert host.started == [route]

    tasks.reach(Phase.AFTER_RESPONSE)
    assert host.started == [route, response]


def test_a_phase_starts_its_tasks_in_the_order_of_their_scheduling() -> None:
    """Whatever batch they were scheduled with, tasks start in order (contract 1.4)."""
    host = Host()
    tasks = TasksScheduler(host)
    scheduled: list[Task] = []
    for number in range(10):
        batch = tasks.after_route.task(name="odd") if number % 2 else tasks.after_route
        scheduled.append(batch.schedule(nothing, number))

    tasks.reach(Phase.AFTER_ROUTE)

    assert host.started == scheduled


def test_reaching_a_phase_reaches_those_before_it() -> None:
    """A phase that was passed over begins first, in its place (contract 1.4)."""
    host = Host()
    tasks = TasksScheduler(host)
    last = tasks.after_response.schedule(nothing)
    first = tasks.after_route.schedule(nothing)

    tasks.reach(Phase.AFTER_RESPONSE)

    assert host.started == [first, last]


def test_a_phase_is_reached_once() -> None:
    """Reaching a phase again, or one before it, starts nothing twice."""
    host = Host()
    tasks = TasksScheduler(host)
    task = tasks.after_route.schedule(nothing)

    for phase in (Phase.AFTER_ROUTE, Phase.AFTER_ROUTE, Phase.IMMEDIATE):
        tasks.reach(phase)

    assert host.started == [task]


@pytest.mark.parametrize("reached", [Phase.AFTER_ROUTE, Phase.AFTER_RESPONSE])
def test_a_task_for_a_phase_that_has_begun_is_started_at_once(reached: Phase) -> None:
    """Nothing that is scheduled late vanishes (contract 1.5)."""
    host = Host()
    tasks = TasksScheduler(host)
    tasks.reach(reached)

    late = tasks.after_route.schedule(nothing)
    immediate = tasks.schedule(nothing)

    assert host.started == [late, immediate]
    assert late.phase is Phase.AFTER_ROUTE


@pytest.mark.parametrize(
    ("failed", "run_on", "late"), list(product([False, True], [None, *RUN_ON], [False, True]))
)
def test_the_outcome_of_the_request_decides_what_runs(
    failed: bool,  # noqa: FBT001
    run_on: RunOn | None,
    late: bool,  # noqa: FBT001
) -> None:
    """Tasks of later phases run on success unless they say otherwise (1.6).

    What is scheduled once the request has failed runs, unless it says that it runs on success.
    """
    host = Host()
    tasks = TasksScheduler(host)
    if late:
        tasks.reach(Phase.AFTER_ROUTE, failed=failed)
    task = tasks.after_route.task(run_on=run_on).schedule(nothing)
    tasks.reach(Phase.AFTER_ROUTE, failed=failed)

    runs = run_on == "always" or (run_on == "failure") == failed or (late and run_on is None)
    assert host.started == ([task] if runs else [])
    assert host.skipped == ([] if runs else [task])


def test_an_immediate_task_runs_whatever_the_outcome() -> None:
    """A failed request takes nothing from tasks that were handed over at once (contract 1.6)."""
    host = Host()
    tasks = TasksScheduler(host)
    tasks.reach(Phase.AFTER_RESPONSE, failed=True)

    task = tasks.task(run_on="success").schedule(nothing)

    assert host.started == [task]


def test_a_request_that_has_failed_stays_failed() -> None:
    """A later phase cannot turn failure into success (contract 1.6)."""
    host = Host()
    tasks = TasksScheduler(host)
    task = tasks.after_response.schedule(nothing)

    tasks.reach(Phase.AFTER_ROUTE, failed=True)
    tasks.reach(Phase.AFTER_RESPONSE, failed=False)

    assert host.skipped == [task]


def test_a_request_may_fail_after_its_route_has_succeeded() -> None:
    """What ran after the route has run; what comes after the response is skipped (1.6)."""
    host = Host()
    tasks = TasksScheduler(host)
    route, response = (tasks.after_route.schedule(nothing), tasks.after_response.schedule(nothing))

    tasks.reach(Phase.AFTER_ROUTE)
    tasks.reach(Phase.AFTER_RESPONSE, failed=True)

    assert host.started == [route]
    assert host.skipped == [response]


def test_what_waits_for_a_success_is_skipped_when_the_request_fails() -> None:
    """At that moment, of whatever phase it is; what else waits goes on waiting (1.6)."""
    host = Host()
    tasks = TasksScheduler(host)
    waiting = {
        (phase, run_on): batch.task(run_on=run_on).schedule(nothing)
        for phase, batch in enumerate([tasks.after_route, tasks.after_response])
        for run_on in (None, *RUN_ON)
    }

    tasks.fail()
    tasks.fail()
    assert host.skipped == [waiting[phase, run_on] for phase in (0, 1) for run_on in RUN_ON_SUCCESS]
    assert host.started == []
    tasks.reach(Phase.AFTER_RESPONSE)
    assert host.started == [task for task in waiting.values() if task not in host.skipped]


def test_what_is_scheduled_once_the_request_has_failed_runs() -> None:
    """When its phase begins; what says that it runs on success is skipped at once (1.6)."""
    host = Host()
    tasks = TasksScheduler(host)
    tasks.fail()
    late = [
        tasks.after_response.task(run_on=run_on).schedule(nothing) for run_on in (None, *RUN_ON)
    ]
    unset, success, failure, always = late

    assert (host.started, host.skipped) == ([], [success])
    assert list(tasks.after_response.scheduled) == [unset, failure, always]
    tasks.reach(Phase.AFTER_RESPONSE)
    assert (host.started, host.skipped) == ([unset, failure, always], [success])


def test_how_much_is_made_of_a_skipped_task() -> None:
    """Most where the client had its answer before the request failed, least of a success (1.6)."""
    host = Host()
    failure, success, answered = (TasksScheduler(host) for _ in range(3))
    failure.after_route.task(run_on="failure").schedule(nothing)
    success.after_route.schedule(nothing)
    answered.after_response.schedule(nothing)

    failure.reach(Phase.AFTER_RESPONSE)
    success.fail()
    answered.reach(Phase.AFTER_ROUTE)
    answered.fail()
    answered.after_response.task(run_on="success").schedule(nothing)

    assert host.levels == [logging.DEBUG, logging.INFO, logging.WARNING, logging.INFO]


def test_a_scheduler_without_an_event_loop_refuses_tasks() -> None:
    """Its runner was never entered; once that is, it takes them (contract 2.8)."""
    runner = TaskRunner()
    tasks = TasksScheduler(runner)
    for batch in (tasks, tasks.after_route.task(name="nothing")):
        with pytest.raises(RunnerClosedError, match=r"^Task nothing .* has not been entered yet"):
            batch.schedule(nothing)
    assert len(runner.registry) == 0

    host = Host()
    host._backend = None
    tasks = TasksScheduler(host)
    host._backend = StillBackend()
    assert host.started == [tasks.schedule(nothing)] == host.accepted


def test_the_outcome_is_a_setting_like_any_other() -> None:
    """The application's layer may say on which outcome tasks run (contract 1.6, 3.3)."""
    host = Host(TaskConfig(run_on="always"))
    tasks = TasksScheduler(host)
    always = tasks.after_route.schedule(nothing)
    success = tasks.after_route.task(run_on="success").schedule(nothing)

    tasks.reach(Phase.AFTER_ROUTE, failed=True)

    assert host.started == [always]
    assert host.skipped == [success]


def test_a_phase_tells_what_waits_for_it() -> None:
    """`scheduled` holds the tasks of the phase in order, until it begins."""
    tasks = TasksScheduler(Host())
    named = tasks.after_route.task(name="named")
    first, other, second = (
        tasks.after_route.schedule(nothing),
        tasks.after_response.schedule(nothing),
        named.schedule(nothing),
    )
    assert list(tasks.after_route.scheduled) == list(named.scheduled) == [first, second]
    assert list(tasks.after_response.scheduled) == [other]

    tasks.reach(Phase.AFTER_ROUTE)
    assert list(tasks.after_route.scheduled) == []
    assert list(tasks.after_response.scheduled) == [other]


def test_immediate_tasks_wait_for_no_phase() -> None:
    """What is started at once is not listed as scheduled."""
    tasks = TasksScheduler(Host())
    batch = tasks.task(name="now")

    batch.schedule(nothing)

    assert batch.scheduled == ()


def test_a_configured_batch_can_be_kept_and_used_again() -> None:
    """Batches are immutable and share their scheduler's phases (contract 3.4)."""
    host = Host()
    tasks = TasksScheduler(host)
    nightly = tasks.after_route.task(name="nightly", shield=True)
    more = nightly.task(run_on="always")

    one, two = nightly.schedule(nothing, 1), nightly.schedule(nothing, number=2)
    three = more.schedule(nothing)

    assert [task.name for task in (one, two, three)] == ["nightly"] * 3
    assert (one.args, two.kwargs) == ((1,), {"number": 2})
    assert nightly.config.run_on is None
    assert three.config == TaskConfig(name="nightly", shield=True, run_on="always")
    assert tasks.config == TaskConfig()


def test_waiting_for_first_steps_asks_the_runner_only_if_something_was_started() -> None:
    """A request without tasks costs no turn of the event loop (contract 1.2)."""
    host = Host()
    tasks = TasksScheduler(host)
    tasks.after_route.task(run_on="failure").schedule(nothing)
    tasks.reach(Phase.AFTER_ROUTE)
    run(tasks.begun)
    assert host.asked_for_begun == 0

    tasks.schedule(nothing)
    run(tasks.begun)
    run(tasks.begun)
    assert host.asked_for_begun == 1


def test_a_scheduler_that_is_entered_is_the_current_one() -> None:
    """`current_tasks` finds the innermost scheduler; leaving it reaches the last phase (6.2)."""
    host = Host()
    with TasksScheduler(host) as outer:
        with TasksScheduler(host) as inner:
            assert current_tasks() is inner
            task = inner.after_response.schedule(nothing)
        assert current_tasks() is outer

    assert host.started == [task]
    with pytest.raises(TasksUninitializedError, match="No request is being served here"):
        current_tasks()


@pytest.mark.parametrize("mounted", [False, True])
def test_a_scheduler_that_is_entered_again(mounted: bool) -> None:  # noqa: FBT001
    """Of its blocks the outermost reaches the last phase, also in a mounted application (6.2)."""
    host = Host()
    request = TasksScheduler(host)
    config = TaskConfig(name="mounted")
    with request, LayeredScheduler(request, config) if mounted else request as outer:
        for _ in range(2):
            with current_tasks() as inner:
                assert inner is outer
                inner.after_response.schedule(nothing)
            assert current_tasks() is outer
        assert host.started == []

    assert host.started == host.accepted
    assert len(host.started) == 2
    with pytest.raises(TasksUninitializedError, match="No request is being served here"):
        current_tasks()


@pytest.mark.parametrize(
    ("runner", "kind"),
    [
        (None, "NoneType"),
        (TaskRunner, r"the class TaskRunner"),
        ("app", "str"),
        (TasksScheduler(Host()), "TasksScheduler"),
        (TasksScheduler(Host()).after_route, "PhaseScheduler"),
        (TasksScheduler(Host()).schedule(nothing), "Task"),
    ],
)
def test_what_is_no_runner_is_refused(runner: Any, kind: str) -> None:
    """With a word on where one comes from (contract 2.2)."""
    with pytest.raises(TypeError, match=f"takes a TaskRunner, not {kind}: `async with TaskRunner"):
        TasksScheduler(runner)


@pytest.mark.parametrize("mounted", [False, True])
@pytest.mark.parametrize("phase", ["after_response", 2, 7, None, Phase])
def test_what_is_no_phase_is_not_reached(phase: Any, mounted: bool) -> None:  # noqa: FBT001
    """It is refused with a word on what is one, and the request stays as it was (contract 2.2)."""
    host = Host()
    request = TasksScheduler(host)
    tasks = LayeredScheduler(request, TaskConfig()) if mounted else request
    task = tasks.after_response.schedule(nothing)
    with pytest.raises(TypeError, match=r"^reach takes a Phase, not .*: Phase\.AFTER_ROUTE where"):
        tasks.reach(phase, failed=True)
    assert repr(tasks) == "<TasksScheduler phase=immediate failed=False>"

    tasks.reach(Phase.AFTER_RESPONSE)
    assert host.started == [task]


def test_leaving_a_scheduler_by_an_error_means_failure() -> None:
    """A block that raises is a request that has failed (contract 1.6)."""
    host = Host()
    task: Task | None = None

    def serve() -> None:
        nonlocal task
        with TasksScheduler(host) as tasks:
            task = tasks.after_response.schedule(nothing)
            raise KeyError

    with pytest.raises(KeyError):
        serve()
    assert host.skipped == [task]


def test_no_task_runs_outside_of_a_task() -> None:
    """`current_task` says where it can be called (contract 2.6)."""
    with pytest.raises(TasksError, match="No task is running here: call current_task"):
        current_task()


def test_schedulers_and_batches_show_themselves() -> None:
    """Both have a repr that tells their phase, for debugging."""
    tasks = TasksScheduler(Host())
    tasks.reach(Phase.AFTER_ROUTE, failed=True)

    assert repr(tasks) == "<TasksScheduler phase=after_route failed=True>"
    assert repr(tasks.after_response.task(name="x")).startswith(
        "<PhaseScheduler phase=after_response config=TaskConfig(name='x'"
    )


operations = st.one_of(
    st.tuples(st.just("schedule"), st.sampled_from(Phase), st.sampled_from([None, *RUN_ON])),
    st.tuples(st.just("reach"), st.sampled_from(Phase), st.booleans()),
    st.tuples(st.just("fail"), st.just(Phase.IMMEDIATE), st.none()),
)


@given(st.lists(operations, max_size=30))
def test_whatever_happens_each_task_is_started_or_skipped_once(
    history: list[tuple[str, Phase, Any]],
) -> None:
    """No history of a request loses a task, runs one twice or out of its order (1.4, 1.5, 1.6)."""
    host = Host()
    tasks = TasksScheduler(host)
    batches = {
        Phase.IMMEDIATE: tasks.task(),
        Phase.AFTER_ROUTE: tasks.after_route,
        Phase.AFTER_RESPONSE: tasks.after_response,
    }
    begun, failed = Phase.IMMEDIATE, False
    for kind, phase, setting in history:
        if kind == "schedule":
            task = batches[phase].task(run_on=setting).schedule(nothing)
            runs = phase is Phase.IMMEDIATE or setting != ("success" if failed else "failure")
            assert (task in host.started) == (phase <= begun and runs)
        elif kind == "fail":
            failed = True
            tasks.fail()
        else:
            failed = failed or setting
            tasks.reach(phase, failed=setting)
            begun = max(begun, phase)
        waiting = (*tasks.after_route.scheduled, *tasks.after_response.scheduled)
        assert set(waiting) == set(host.accepted) - set(host.started) - set(host.skipped)
        assert not failed or "success" not in [task.config.run_on for task in waiting]
    tasks.reach(Phase.AFTER_RESPONSE)

    ended = host.started + host.skipped
    assert len(ended) == len(set(ended))
    assert set(ended) == set(host.accepted)
    for phase in Phase:
        of_phase = [task for task in host.started if task.phase is phase]
        assert of_phase == [task for task in host.accepted if task in of_phase]


@pytest.mark.parametrize("step", range(8))
def test_a_phase_may_begin_in_a_thread_while_a_task_is_scheduled(step: int) -> None:
    """Whichever of the two sees the other, the task is started, and once (contract 1.5)."""
    host = Host()
    tasks = TasksScheduler(host)
    threads: list[Thread] = []

    def reach() -> None:
        threads.append(Thread(target=tasks.reach, args=(Phase.AFTER_ROUTE,)))
        threads[0].start()
        threads[0].join(0.05)  # in vain where it waits for the lock, which is held here

    with interrupting(TasksScheduler._put.__code__, step, reach):
        task = tasks.after_route.schedule(nothing)
    for thread in threads:
        thread.join(GUARD)
    tasks.reach(Phase.AFTER_ROUTE)

    assert host.started == [task]
    assert tasks.after_route.scheduled == ()


def test_a_phase_that_begins_just_before_a_task_is_put_there() -> None:
    """It has not seen the task, which is started by who has scheduled it (contract 1.5)."""
    host = Host()
    tasks = TasksScheduler(host)
    host._lock = cast("Any", Raced(lambda: None, lambda: tasks.reach(Phase.AFTER_ROUTE)))

    task = tasks.after_route.schedule(nothing)

    assert host.started == [task]
    assert tasks.after_route.scheduled == ()


def test_a_phase_that_two_threads_reach_begins_once() -> None:
    """Who comes second to a phase starts nothing again (contract 1.5)."""
    host = Host()
    tasks = TasksScheduler(host)
    task = tasks.after_route.schedule(nothing)
    host._lock = cast("Any", Raced(lambda: tasks.reach(Phase.AFTER_ROUTE)))

    tasks.reach(Phase.AFTER_ROUTE)

    assert host.started == [task]
