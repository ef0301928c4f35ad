from __future__ import annotations

import inspect
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from functools import partial, wraps
from itertools import combinations
from threading import get_ident
from typing import Any, NoReturn
from unittest.mock import AsyncMock, MagicMock, Mock, call, create_autospec

import pytest
from tasks_core import TasksScheduler, _function
from tasks_core._checks import check_callback
from tasks_core._function import check_call, check_kind, fits, is_async
from tasks_core._identity import identify
from tasks_core._names import describe

from tests.tasks_core.stage import open_runner


def with_signature(func: Callable[..., object]) -> Callable[..., object]:
    """Say of a function how it is called, as some decorators do."""
    vars(func)["__signature__"] = inspect.signature(func)
    return func


def add(a: int, b: int = 2, *, c: int = 3) -> int:
    return a + b + c


untyped: Any = add  # what checkers know nothing of


async def add_async(a: int, b: int = 2, *, c: int = 3) -> int:
    return a + b + c


def collect(*numbers: int) -> int:
    return sum(numbers)


def name_all(**numbers: int) -> int:
    return sum(numbers.values())


def generate() -> Generator[int]:
    yield 1


@with_signature
def generate_as_told() -> Generator[int]:
    yield 1


async def generate_async() -> AsyncGenerator[int]:
    yield 1


@types.coroutine
def old_style() -> Generator[None, None, str]:
    yield from ()
    return "old"


@wraps(add_async)
def sync_around_async(*args: Any, **kwargs: Any) -> Awaitable[int]:
    return add_async(*args, **kwargs)


@wraps(add)
async def async_around_sync(*args: Any, **kwargs: Any) -> int:
    return add(*args, **kwargs)


@wraps(add)
def without_b(a: int) -> int:
    return add(a)


numbers: list[int] = []


class Sender:
    def send(self, to: str) -> str:
        return to

    async def send_async(self, to: str) -> str:
        return to

    @classmethod
    async def of_class(cls) -> str:
        return cls.__name__

    @staticmethod
    async def static() -> str:
        return "static"

    def generate(self) -> Generator[int]:
        yield 1


class Callee:
    def __call__(self, to: str) -> str:
        return to


class AsyncCallee:
    async def __call__(self, to: str) -> str:
        return to


class GeneratorCallee:
    def __call__(self) -> Generator[int]:
        yield 1


class AsyncGeneratorCallee:
    async def __call__(self) -> AsyncGenerator[int]:
        yield 1


class Ready:
    """An object that can be awaited, and is made in a thread."""

    def __init__(self) -> None:
        self.thread = get_ident()

    def __await__(self) -> Generator[None, None, int]:
        yield from ()
        return self.thread


class HostileName:
    """A callable whose name cannot be read."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(name) if name == "__qualname__" else AttributeError(name)

    def __call__(self) -> str:
        return "called"


class HostileToAll(HostileName):
    """A callable that refuses whatever else it is asked for, as some proxies do."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(name)


class OddName:
    def __getattr__(self, name: str) -> object:
        if name == "__qualname__":
            return 1
        raise AttributeError(name)

    def __call__(self) -> None: ...


class NoSignature:
    __signature__ = "none"

    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (add, "add"),
        (partial(add, 1), "add"),
        (partial(partial(add, 1), 2), "add"),
        (Sender().send, "Sender.send"),
        (partial(Sender().send, "x"), "Sender.send"),
        (Sender, "Sender"),
        (Callee(), "Callee"),
        (partial(Callee(), "x"), "Callee"),
        (len, "len"),
        (numbers.append, "list.append"),
        (sync_around_async, "add_async"),
        (HostileName(), "HostileName"),
        (OddName(), "OddName"),
        (Mock(), "Mock"),
        (None, "NoneType"),
    ],
)
def test_a_function_is_described_by_its_qualified_name(func: object, name: str) -> None:
    """Functions have a name in logs; what has none is named after its type (contract 4.2)."""
    assert describe(func).rpartition("<locals>.")[2] == name


@pytest.mark.parametrize(
    "func",
    [
        add_async,
        partial(add_async, 1),
        partial(partial(add_async, 1), 2),
        Sender().send_async,
        partial(Sender().send_async, "x"),
        Sender.of_class,
        Sender.static,
        AsyncCallee(),
        partial(AsyncCallee(), "x"),
        old_style,
        partial(old_style),
        async_around_sync,
        AsyncMock(),
    ],
)
def test_what_only_makes_an_awaitable_is_async(func: Callable[..., object]) -> None:
    """Partials, methods, callable objects and wrapped functions are recognised (contract 2.1)."""
    assert is_async(func)


@pytest.mark.parametrize(
    "func",
    [
        add,
        partial(add, 1),
        Sender().send,
        Sender,
        AsyncCallee,
        Callee(),
        partial(Callee(), "x"),
        len,
        numbers.append,
        sync_around_async,
        lambda: add_async(1),
        Mock(),
        MagicMock(),
        HostileName,
    ],
)
def test_what_does_anything_else_when_called_is_sync(func: Callable[..., object]) -> None:
    """A sync wrapper around an async function may block, so it is sync (contract 2.1)."""
    assert not is_async(func)


class TakesAny:
    """A callable object whose call names no parameter, not even itself."""

    def __call__(*args: object) -> None: ...


class Mailer(Sender):
    def __call__(self, to: str) -> str:
        return to

    @staticmethod
    def send_static(to: str) -> str:
        return to

    @classmethod
    def send_of_class(cls, to: str) -> str:
        return to


def send(to: str) -> str:
    return to


async def send_async(to: str) -> str:
    return to


def generate_to(to: str) -> Generator[str]:
    yield to


@with_signature
def send_as_told(to: str) -> str:
    return to


SYNC_MOCKS: dict[str, Callable[[], Any]] = {
    "a_mock": Mock,
    "a_magic_mock": MagicMock,
    "an_attribute": lambda: MagicMock().mailer.send,
    "of_a_function": lambda: MagicMock(spec=send),
    "of_a_generator_function": lambda: MagicMock(spec=generate_to),
    "of_a_function_with_a_signature": lambda: MagicMock(spec=send_as_told),
    "of_a_method": lambda: MagicMock(spec=Mailer().send),
    "of_a_class": lambda: MagicMock(spec=Mailer),
    "of_a_metaclass": lambda: MagicMock(spec=type),
    "of_an_object": lambda: MagicMock(spec=Mailer()),
    "of_a_builtin": lambda: MagicMock(spec=print),
    "a_method_of_an_object": lambda: MagicMock(spec=Mailer()).send,
    "a_function": lambda: create_autospec(send),
    "a_bound_method": lambda: create_autospec(Mailer().send),
    "a_method": lambda: create_autospec(Mailer, instance=True).send,
    "a_static_method": lambda: create_autospec(Mailer).send_static,
    "a_class_method": lambda: create_autospec(Mailer).send_of_class,
    "an_object": lambda: create_autospec(Mailer, instance=True),
    "what_a_class_returns": lambda: create_autospec(Mailer)().send,
}

ASYNC_MOCKS: dict[str, Callable[[], Any]] = {
    "an_async_mock": AsyncMock,
    "of_an_async_function": lambda: MagicMock(spec=send_async),
    "of_a_sync_function": lambda: AsyncMock(spec=send),
    "of_a_sync_method": lambda: AsyncMock(spec=Mailer().send),
    "of_an_async_method": lambda: MagicMock(spec=Mailer().send_async),
    "an_async_method_of_an_object": lambda: MagicMock(spec=Mailer()).send_async,
    "an_async_function": lambda: create_autospec(send_async),
    "an_async_method": lambda: create_autospec(Mailer, instance=True).send_async,
}

AROUND: dict[str, Callable[[Any], Any]] = {"itself": lambda mock: mock, "a_partial": partial}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
@pytest.mark.parametrize("make", (SYNC_MOCKS | ASYNC_MOCKS).values(), ids=SYNC_MOCKS | ASYNC_MOCKS)
def test_a_mock_is_asked_nothing_that_it_notes(
    make: Callable[[], Any], around: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is found out of a mock before its call is no call of it (contract 2.2)."""
    monkeypatch.setattr(_function, "_FITTING", {})
    mock = make()
    func = around(mock)

    check_call(func, ("ada",), {})
    check_kind(func)
    describe(func)
    fits(func, ("ada",))
    identify(func)
    check_callback("send", func, "an address", remedy="a mock")
    assert mock.mock_calls == []


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    ("make", "on_loop"),
    [
        *(pytest.param(make, False, id=name) for name, make in SYNC_MOCKS.items()),
        *(pytest.param(make, True, id=name) for name, make in ASYNC_MOCKS.items()),
    ],
)
async def test_a_mock_runs_where_what_it_stands_for_would(
    make: Callable[[], Any], *, on_loop: bool
) -> None:
    """What a mock returns decides: a coroutine, and it runs on the event loop (contract 2.1)."""
    mock, threads = make(), list[int]()

    def note(to: str) -> str:
        threads.append(get_ident())
        return to

    mock.side_effect = note
    async with open_runner() as runner:
        assert await TasksScheduler(runner).schedule(mock, "ada").wait() == "ada"
    assert (threads == [get_ident()]) is on_loop
    assert is_async(mock) is on_loop
    assert mock.mock_calls == [call("ada")]


FITTING: list[tuple[object, tuple[object, ...], dict[str, object]]] = [
    (add, (1,), {}),
    (add, (1, 2), {"c": 3}),
    (add, (), {"a": 1}),
    (add_async, (1, 2), {}),
    (collect, (), {}),
    (collect, (1, 2, 3), {}),
    (partial(add, 1), (2,), {}),
    (partial(add, c=1), (2,), {"c": 2}),
    (Sender().send, ("x",), {}),
    (Sender().send, (), {"to": "x"}),
    (Sender.send, (Sender(), "x"), {}),
    (types.MethodType(Callee(), "x"), (), {}),
    (Callee(), ("x",), {}),
    (TakesAny(), ("x", 1), {}),
    (Sender, (), {}),
    (len, ([],), {}),
    (print, ("any", 1), {"sep": ""}),
    (dict.fromkeys, ("ab",), {}),
    (without_b, (1,), {}),
    (sync_around_async, (1, 2), {}),
    (old_style, (), {}),
    (Mock(), (1,), {"a": 2}),
    (AsyncMock(), (1,), {"a": 2}),
    (NoSignature(), (1, 2, 3), {}),
]


@pytest.mark.parametrize(
    ("func", "args", "kwargs"),
    FITTING,
)
def test_what_can_be_called_so_passes(
    func: object, args: tuple[object, ...], kwargs: dict[str, object]
) -> None:
    """Arguments that fit, or may fit a signature that nobody can read, pass (contract 2.2)."""
    check_call(func, args, kwargs)
    check_call(func, args, kwargs)  # and again, with the signature at hand


UNFIT: list[tuple[object, tuple[object, ...], dict[str, object], str]] = [
    (add, (), {}, "add"),
    (add, (1, 2, 3), {}, "add"),
    (add, (1,), {"d": 1}, "add"),
    (add, (1,), {"a": 1}, "add"),
    (add_async, (), {}, "add_async"),
    (partial(add, 1), (2, 3), {}, "add"),
    (partial(untyped, 1, 2, 3), (), {}, "add"),
    (Sender().send, (), {}, "Sender.send"),
    (Sender().send, ("x", "y"), {}, "Sender.send"),
    (Callee(), (), {}, "Callee"),
    (Sender, (1,), {}, "Sender"),
    (len, ([], []), {}, "len"),
    (without_b, (1, 2), {}, "add"),
    (create_autospec(Callee()), (), {}, ""),
    (create_autospec(Sender).of_class, (1,), {}, ""),
    (types.MethodType(Callee(), "x"), ("y",), {}, ""),
    (collect, (), {"name": "nightly"}, "collect"),
]


@pytest.mark.parametrize(
    ("func", "args", "kwargs", "name"),
    UNFIT,
)
def test_arguments_that_do_not_fit_are_refused(
    func: object, args: tuple[object, ...], kwargs: dict[str, object], name: str
) -> None:
    """The error names the function and says where settings go (contract 2.2)."""
    with pytest.raises(TypeError, match=rf"schedule\(.*{name}, .*settings such as name="):
        check_call(func, args, kwargs)


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (generate, "generate"),
        (generate_async, "generate_async"),
        (partial(generate), "generate"),
        (Sender().generate, "Sender.generate"),
        (partial(generate_async), "generate_async"),
        (GeneratorCallee(), "GeneratorCallee"),
        (AsyncGeneratorCallee(), "AsyncGeneratorCallee"),
        (generate_as_told, "generate_as_told"),
    ],
)
def test_a_generator_function_is_refused(func: object, name: str) -> None:
    """Nothing would ever run a generator, so the error says so (contract 2.2)."""
    with pytest.raises(TypeError, match=rf"{name} is a generator .* a function that loops over it"):
        check_call(func, (), {})


def test_what_is_known_of_calls_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who calls a function by ever other names does not fill the memory; all is checked as ever."""
    monkeypatch.setattr(_function, "_FITTING", {})
    monkeypatch.setattr(_function, "_MOST_SHAPES", 5)
    for names in combinations("abcdef", 2):
        check_call(name_all, (), dict.fromkeys(names, 1))
        assert 0 < len(_function._FITTING) <= 5
        with pytest.raises(TypeError, match="too many positional arguments"):
            check_call(name_all, (1,), dict.fromkeys(names, 1))


@pytest.mark.parametrize(
    ("thing", "name"),
    [(None, "NoneType"), (1, "int"), ("add", "str"), (generate(), "generator"), (Ready(), "Ready")],
)
def test_what_cannot_be_called_is_refused(thing: object, name: str) -> None:
    """The error names what was passed and says what to pass (contract 2.2)."""
    with pytest.raises(TypeError, match=rf"{name} cannot be called: pass the function first"):
        check_call(thing, (), {})


def test_a_coroutine_object_is_refused() -> None:
    """The error says how to write it; no warning of an unawaited coroutine follows (2.2)."""
    with pytest.raises(TypeError, match=r"write schedule\(add_async, ...\)"):
        check_call(add_async(1), (), {})


@pytest.mark.anyio
async def test_schedule_refuses_in_the_traceback_of_its_caller() -> None:
    """Every way to schedule raises at once, and no task is left behind (contract 2.2)."""
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        wrong: Any = 1
        wrong_call: Any = partial(add)
        for schedule in (tasks.schedule, tasks.after_route.schedule, tasks.task().schedule):
            with pytest.raises(TypeError, match="int cannot be called"):
                schedule(wrong)
            with pytest.raises(TypeError, match="missing a required argument: 'a'"):
                schedule(wrong_call)

        assert tasks.after_route.scheduled == ()


@pytest.mark.anyio
async def test_whatever_a_callable_is_it_is_called() -> None:
    """Every kind of callable is run, and its awaited result is the task's (contract 2.1)."""
    callables: list[tuple[partial[Any], object]] = [
        (partial(add, 1), 6),
        (partial(add_async, 1), 6),
        (partial(async_around_sync, 1), 6),
        (partial(Sender().send, "x"), "x"),
        (partial(Sender().send_async, "x"), "x"),
        (partial(Sender.of_class), "Sender"),
        (partial(Sender.static), "static"),
        (partial(Callee(), "x"), "x"),
        (partial(AsyncCallee(), "x"), "x"),
        (partial(old_style), "old"),
        (partial(len, "four"), 4),
        (partial(AsyncMock(return_value=1)), 1),
        (partial(Mock(return_value=1)), 1),
        (partial(list, "ab"), ["a", "b"]),
    ]
    async with open_runner() as runner:
        tasks = TasksScheduler(runner)
        for func, result in callables:
            assert await tasks.schedule(func).wait() == result
            assert await tasks.schedule(func.func, *func.args).wait() == result


@pytest.mark.anyio
@pytest.mark.parametrize(
    "anyio_backend",
    [
        "asyncio",
        "trio",
    ],
)
@pytest.mark.parametrize("func", [sync_around_async, Mock(side_effect=add_async)])
async def test_a_coroutine_that_a_sync_function_returns_is_awaited(
    func: Callable[[int], Awaitable[int]],
) -> None:
    """A sync wrapper around an async function runs to the end (contract 2.1)."""
    async with open_runner() as runner:
        assert await TasksScheduler(runner).schedule(func, 1).wait() == 6


@pytest.mark.anyio
async def test_what_a_sync_function_returns_is_awaited_on_the_event_loop() -> None:
    """Anything awaitable is awaited, never dropped, be it made by a class (contract 2.1)."""
    async with open_runner() as runner:
        # Mypy takes what is awaitable by its structure only for the result.
        awaited: object = await TasksScheduler(runner).schedule(Ready).wait()

        assert awaited != get_ident()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "kind",
    [
        HostileName,
        HostileToAll,
    ],
)
async def test_a_callable_with_hostile_attributes_can_be_scheduled(
    kind: type[HostileName],
) -> None:
    """What can be called is run, whatever its attributes do when they are read (2.1, 4.1)."""
    async with open_runner() as runner:
        task = TasksScheduler(runner).schedule(kind())

        assert await task.wait() == "called"
        assert task.name == kind.__name__


def test_a_keyboard_interrupt_passes_through_attributes() -> None:
    """Ctrl-C that hits while a name is read is not taken for hostility (4.1)."""

    class Interrupted:
        def __getattr__(self, name: str) -> NoReturn:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        describe(Interrupted())
