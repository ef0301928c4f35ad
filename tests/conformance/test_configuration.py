"""Contract 3: settings, their layers, and where they can be written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import pytest
from tasks_core import Phase, Task, TaskConfig, TasksScheduler

from tests.conformance.cases import (
    RouteKind,
    async_function,
    at,
    each_phase,
    each_route,
    finish,
)
from tests.conformance.driver import serve
from tests.conformance.harness import Harness, build

pytestmark = pytest.mark.anyio


def applications_handler(task: Task, error: Exception) -> None: ...


def tasks_handler(task: Task, error: Exception) -> None: ...


APPLICATIONS = TaskConfig(
    name="application's", shield=True, on_error=applications_handler, run_on="always"
)


async def configs(
    harness: Harness,
    schedule: Callable[[TasksScheduler], list[Task]],
    config: TaskConfig | None = None,
) -> list[TaskConfig]:
    """Return the configs of tasks that a route schedules."""
    made: list[Task] = []

    async def route(tasks: TasksScheduler) -> None:
        made.extend(schedule(tasks))

    async with serve(build(harness, route, config=config)) as server:
        await server.request()
        await finish(made)
    return [task.config for task in made]


@each_phase
async def test_nothing_is_set_by_default(harness: Harness, phase: Phase) -> None:
    """3.1 Where nothing was set, every field of a task's config is ``None``."""
    (config,) = await configs(harness, lambda tasks: [at(tasks, phase).schedule(int)])
    assert config == TaskConfig()
    assert all(value is None for value in dataclasses.asdict(config).values())


async def test_a_config_is_immutable(harness: Harness) -> None:
    """3.1 The config of a task cannot be changed."""
    (config,) = await configs(harness, lambda tasks: [tasks.schedule(int)])
    for field in dataclasses.fields(config):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, field.name, None)


@each_phase
async def test_the_applications_settings_apply(harness: Harness, phase: Phase) -> None:
    """3.3 The application's settings apply to all phases, however a task is scheduled."""
    seen = await configs(
        harness,
        lambda tasks: [
            at(tasks, phase).schedule(int),
            at(tasks, phase).task().schedule(int),
            tasks.schedule(int),
        ],
        APPLICATIONS,
    )
    assert seen == [APPLICATIONS] * 3


@each_phase
@pytest.mark.parametrize(
    ("field", "value"),
    [("name", ""), ("shield", False), ("on_error", tasks_handler), ("run_on", "success")],
)
async def test_the_tasks_settings_win(
    harness: Harness, phase: Phase, field: str, value: object
) -> None:
    """3.3 What a task sets wins, ``False`` and ``""`` included; all else stays."""
    settings: dict[str, Any] = {field: value}
    (seen,) = await configs(
        harness, lambda tasks: [at(tasks, phase).task(**settings).schedule(int)], APPLICATIONS
    )
    assert seen == dataclasses.replace(APPLICATIONS, **settings)


async def test_settings_add_up(harness: Harness) -> None:
    """3.2 Settings on settings merge, the later ones win, and what they leave out stays."""
    (seen,) = await configs(
        harness,
        lambda tasks: [
            tasks.task(name="first", shield=True)
            .task(name="second")
            .task(run_on="failure")
            .schedule(int)
        ],
        TaskConfig(on_error=applications_handler, run_on="always"),
    )
    assert seen == TaskConfig(
        name="second", shield=True, on_error=applications_handler, run_on="failure"
    )


@each_phase
async def test_a_name_is_the_running_tasks_name(harness: Harness, phase: Phase) -> None:
    """3.3 A task's name is that of the event loop's task; without one, the function's is."""
    made: list[Task] = []

    async def name() -> str | None:
        return anyio.get_current_task().name

    async def route(tasks: TasksScheduler) -> None:
        made.append(at(tasks, phase).schedule(name))
        made.append(at(tasks, phase).task(name="report 7").schedule(name))

    async with serve(build(harness, route)) as server:
        await server.request()
        assert await made[0].wait() == name.__qualname__ == made[0].name
        assert await made[1].wait() == "report 7" == made[1].name


@each_phase
@each_route
async def test_a_configured_way_to_schedule_is_used_again(
    harness: Harness, route_kind: RouteKind, phase: Phase
) -> None:
    """3.4 What `task(...)` returns can be kept and used again, and changes nothing else."""
    log: list[int] = []
    made: list[Task] = []

    def route(tasks: TasksScheduler) -> None:
        batch = at(tasks, phase).task(name="kept")
        made.extend(
            batch.schedule(async_function(partial(log.append, number))) for number in range(3)
        )
        made.append(at(tasks, phase).schedule(async_function(int)))

    async with serve(build(harness, route_kind(route))) as server:
        await server.request()
        await finish(made)
    assert log == [0, 1, 2]
    assert [task.config.name for task in made] == ["kept", "kept", "kept", None]


async def test_equivalent_ways_to_schedule(harness: Harness) -> None:
    """3.4 ``task()`` with nothing, or with ``None``, is the same as none at all."""
    seen = await configs(
        harness,
        lambda tasks: [
            tasks.schedule(int),
            tasks.task().schedule(int),
            tasks.task(name=None, shield=None, on_error=None, run_on=None).schedule(int),
        ],
        TaskConfig(name="same"),
    )
    assert seen == [TaskConfig(name="same")] * 3
