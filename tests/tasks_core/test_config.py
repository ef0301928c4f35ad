from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import FrozenInstanceError, fields, replace
from enum import StrEnum
from functools import partial
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock, create_autospec

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tasks_core import Carrier, Every, Periodic, Task, TaskConfig, TaskRunner, TasksScheduler
from tasks_core.asgi import TasksMiddleware


def log_it(task: Task, error: Exception) -> None: ...


async def log_it_later(task: Task, error: Exception) -> None: ...


async def call_again(func: Callable[[], Awaitable[Any]], /) -> Any:
    return await func()


async def call_again_once(func: Callable[[], Awaitable[Any]], /) -> Any:
    return await func()


# What each field may be set to, what is false among it; a field that is missing here fails a test.
VALUES: dict[str, list[object]] = {
    "name": ["", "a", "b"],
    "shield": [False, True],
    "on_error": [log_it, log_it_later],
    "run_on": ["success", "failure", "always"],
    "timeout": [0.5, 1],
    "retry": [call_again, call_again_once],
    "key": ["a", "b"],
    "unique": [False, True],
    "limit": [1, 2],
    "backlog": [0, 1],
    "daemon": [False, True],
    "confirm": [False, True],
}
NAMES = [field.name for field in fields(TaskConfig)]

configs = st.builds(
    TaskConfig, **{name: st.sampled_from([None, *values]) for name, values in VALUES.items()}
)


def test_these_tests_know_every_field() -> None:
    """A field of which these tests know no values is noticed (contract 3.2)."""
    assert list(VALUES) == NAMES


def test_nothing_is_set_by_default() -> None:
    """Every field is None by default (contract 3.1)."""
    assert [getattr(TaskConfig(), name) for name in NAMES] == [None] * len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_is_immutable(name: str) -> None:
    """A field cannot be assigned, and none can be added (contract 3.1)."""
    config = TaskConfig()

    with pytest.raises(FrozenInstanceError):
        setattr(config, name, VALUES[name][0])
    with pytest.raises(FrozenInstanceError):
        setattr(config, "another", 1)  # noqa: B010 - types know better


def test_settings_are_passed_by_name() -> None:
    """A config takes keyword arguments only, so that fields may be added in any place."""
    with pytest.raises(TypeError):
        TaskConfig("name")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


@given(configs, configs, configs)
def test_merging_is_associative(a: TaskConfig, b: TaskConfig, c: TaskConfig) -> None:
    """How layers are grouped does not matter (contract 3.2)."""
    assert a.merge(b).merge(c) == a.merge(b.merge(c))


@given(configs)
def test_the_empty_config_is_the_identity(config: TaskConfig) -> None:
    """A layer that sets nothing changes nothing, on either side (contract 3.2)."""
    assert TaskConfig().merge(config) == config
    assert config.merge(TaskConfig()) == config


@given(configs)
def test_merging_twice_is_merging_once(config: TaskConfig) -> None:
    """A layer over itself is itself (contract 3.2)."""
    assert config.merge(config) == config


@given(configs, configs)
def test_the_later_layer_wins_where_it_sets_a_value(a: TaskConfig, b: TaskConfig) -> None:
    """Each field is the other's where that is not None, else one's own (contract 3.2)."""
    merged = a.merge(b)

    for name in NAMES:
        ours, theirs = getattr(a, name), getattr(b, name)
        assert getattr(merged, name) is (ours if theirs is None else theirs)


@given(configs, configs)
def test_merging_changes_neither_config(a: TaskConfig, b: TaskConfig) -> None:
    """A merge makes a new config (contract 3.2)."""
    before = replace(a), replace(b)

    merged = a.merge(b)

    assert (a, b) == before
    assert merged is not a
    assert merged is not b


@pytest.mark.parametrize(
    ("name", "weaker", "stronger"),
    [("shield", True, False), ("name", "nightly", "")],
)
def test_a_false_value_is_a_value(name: str, weaker: object, stronger: object) -> None:
    """False and the empty string win over a layer below (contract 3.2)."""
    settings: list[dict[str, Any]] = [{name: weaker}, {name: stronger}]
    below, above = (TaskConfig(**each) for each in settings)

    assert getattr(below.merge(above), name) == stronger


@given(configs, configs, configs, configs)
def test_the_layers_of_a_task_merge_weakest_first(
    application: TaskConfig, router: TaskConfig, first: TaskConfig, second: TaskConfig
) -> None:
    """The application's layer is below the scheduler's, that below the task's (contract 3.3)."""
    tasks = TasksScheduler(TaskRunner(config=application), router)
    settings: list[dict[str, Any]] = [
        {name: getattr(layer, name) for name in NAMES} for layer in (first, second)
    ]

    batch = tasks.after_route.task(**settings[0]).task(**settings[1])

    assert batch.config == application.merge(router).merge(first).merge(second)
    assert tasks.config == application.merge(router)
    assert tasks.task(**settings[0]).config == application.merge(router).merge(first)


@pytest.mark.parametrize(("shield", "shielded"), [(None, False), (False, False), (True, True)])
def test_a_task_is_not_shielded_unless_it_says_so(shield: bool | None, shielded: bool) -> None:  # noqa: FBT001
    """The default of shield is false (contract 3.1)."""
    assert TaskConfig(shield=shield).shielded is shielded


def test_a_setting_that_there_is_not_is_refused() -> None:
    """The error names those that there are (contract 2.2)."""
    wrong: Any = {"sheild": True}
    with pytest.raises(TypeError, match=r"no setting 'sheild' of a task: there are name, shield,"):
        TaskRunner().task(**wrong)
    with pytest.raises(TypeError, match="sheild"):
        TaskConfig(**wrong)


def test_a_name_that_is_no_string_is_refused() -> None:
    """The error says what to pass instead (contract 2.2)."""
    with pytest.raises(TypeError, match=r"name must be a string, not int: pass str"):
        TaskConfig(name=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_an_error_handler_that_cannot_be_called_is_refused() -> None:
    """The error says what to pass instead (contract 2.2)."""
    with pytest.raises(TypeError, match=r"on_error must be callable, not str: pass a function"):
        TaskConfig(on_error="log")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("other", "kind"),
    [({"name": "a"}, "dict"), (None, "NoneType"), (TaskConfig, "the class TaskConfig")],
)
def test_only_settings_merge(other: Any, kind: str) -> None:
    """The error says what to pass instead (contract 2.2)."""
    with pytest.raises(TypeError, match=rf"merge takes a TaskConfig, not {kind}: "):
        TaskConfig().merge(other)


def generates(task: Task, error: Exception) -> Iterator[None]:
    yield


async def generates_later(task: Task, error: Exception) -> AsyncIterator[None]:
    yield


def takes_nothing() -> None: ...


def takes_more(task: Task, error: Exception, *, more: object) -> None: ...


class Handlers:
    def takes_task(self, task: Task) -> None: ...

    def takes_both(self, task: Task, error: Exception, more: object = None) -> None: ...

    def __call__(self) -> None: ...


WOULD_NOT_RUN: list[tuple[Any, str]] = [
    (generates, "on_error is called, and generates is a generator function, which nothing"),
    (generates_later, "and generates_later is a generator function"),
    (partial(generates), "and generates is a generator function"),
    (takes_nothing, "on_error must take the task and the error, and takes_nothing does not: pass"),
    (takes_more, "does not: pass a function that takes (task, error)"),
    (Handlers().takes_task, "and Handlers.takes_task does not"),
    (Handlers(), "and Handlers does not"),
    (partial(takes_more, Mock(), ValueError()), "and takes_more does not"),
]


@pytest.mark.parametrize(("handler", "says"), WOULD_NOT_RUN)
def test_an_error_handler_that_would_not_run_is_refused(handler: Any, says: str) -> None:
    """Each time, where it is set, with what to pass instead (contract 2.2)."""
    for set_it in (TaskConfig, TaskRunner().task, TaskConfig):
        with pytest.raises(TypeError) as raised:
            set_it(on_error=handler)
        assert says in str(raised.value)


RUN: list[Any] = [
    Handlers().takes_both,
    partial(Handlers().takes_both, more=1),
    partial(Handlers.takes_both, Handlers()),
    Mock(),
    create_autospec(log_it),
    AsyncMock(),
    MagicMock(spec=log_it),
    print,
    logging.getLogger("test").error,
    ValueError,
]


@pytest.mark.parametrize("handler", RUN)
def test_an_error_handler_of_any_kind(handler: Any) -> None:
    """What can be called with a task and an error is taken as it is."""
    for set_it in (TaskConfig, TaskRunner().task, TaskConfig):
        set_it(on_error=handler)


@pytest.mark.parametrize("run_on", ["", "Success", "never", 1, []])
def test_an_unknown_outcome_is_refused(run_on: Any) -> None:
    """The error names the three outcomes (contract 2.2)."""
    with pytest.raises(ValueError, match=r'"success", "failure" or "always", not'):
        TaskConfig(run_on=run_on)


def test_a_name_is_a_plain_string() -> None:
    """A member of an enum, or another string of a class of its own, is taken by its value."""

    class Names(StrEnum):
        MAIL = "mail"

    name = TaskConfig(name=Names.MAIL).name

    assert name == "mail"
    assert type(name) is str


@pytest.mark.parametrize("shield", ["no", 1.0, object()])
def test_a_shield_that_is_no_boolean_is_refused(shield: Any) -> None:
    """A string that reads as a refusal would be taken for true."""
    with pytest.raises(TypeError, match="shield must be true or false"):
        TaskConfig(shield=shield)


class Bad(Carrier):
    """What is called, asked and kept, as users write such: an instance is what is meant."""

    name = "bad"

    def __init__(self, url: str, ttl: int = 5) -> None: ...

    def __call__(self, *args: object) -> None: ...

    def carry(self, func: object, *args: object) -> None: ...

    async def put(self, *args: object, **kwargs: object) -> None: ...

    async def get(self, *args: object, **kwargs: object) -> None: ...


WRONG: Any = Bad
CLASSES: dict[str, Callable[[], object]] = {
    "carriers": lambda: TaskRunner(carriers=WRONG),
    "one of carriers": lambda: TaskRunner(carriers=[WRONG]),
    "observers": lambda: TaskRunner(observers=WRONG),
    "an observer": lambda: TaskRunner(observers=[WRONG]),
    "periodic": lambda: TaskRunner(periodic=WRONG),
    "one of periodic": lambda: TaskRunner(periodic=[WRONG]),
    "records": lambda: TaskRunner(records=WRONG),
    "config": lambda: TaskRunner(config=WRONG),
    "on_error": lambda: TaskConfig(on_error=WRONG),
    "retry": lambda: TaskConfig(retry=WRONG),
    "name": lambda: TaskConfig(name=WRONG),
    "merge": lambda: TaskConfig().merge(WRONG),
    "a periodic task's config": lambda: Periodic(take_nothing, Every(hours=1), WRONG),
    "claim": lambda: Periodic(take_nothing, Every(hours=1), claim=WRONG),
    "app": lambda: TasksMiddleware(WRONG),
    "tasks": lambda: TasksMiddleware(AsyncMock(), tasks=WRONG),
}


def take_nothing() -> None: ...


@pytest.mark.parametrize("setting", CLASSES)
def test_a_class_in_place_of_an_instance_is_refused(setting: str) -> None:
    """Also one that takes as many arguments: its instances would do nothing (contract 2.2, 3.3)."""
    with pytest.raises(TypeError, match="the class Bad"):
        CLASSES[setting]()


def test_a_class_whose_instances_cannot_be_called_is_a_function() -> None:
    """It is meant itself: an observer may be what makes a context manager (contract 11.2)."""

    class Around:
        def __init__(self, task: Task) -> None: ...

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    TaskRunner(observers=[Around])
