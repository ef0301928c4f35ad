"""The fixtures for pytest, in runs of pytest's own, each with an ASGI application."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from importlib.util import find_spec
from subprocess import run
from typing import Final

import pytest

pytest_plugins = ["pytester"]

PLUGIN: Final = "tasks_core._pytest_plugin"
# Where the package is installed, pytest finds the plugin by itself.
INSTALLED: Final = any(point.value == PLUGIN for point in entry_points(group="pytest11"))

# An application, and a client with which every kind of test can call it.
KIT: Final = '''
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from tasks_core import current_tasks
from tasks_core.asgi import TasksMiddleware
from tasks_core.testing import drain, inline, lifespan, record

ran = []

async def note(what):
    await anyio.lowlevel.checkpoint()
    ran.append(what)

async def fail(what):
    raise ValueError(f"task {what}")

async def inner(scope, receive, send):
    func = {"/note": note, "/fail": fail}[scope["path"]]
    current_tasks().after_response.task(name="it").schedule(func, scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})

app = TasksMiddleware(inner)

async def get(started, path):
    async def send(message):
        pass
    await started({"type": "http", "path": path}, None, send)

class Client:
    """As test clients do, it has an event loop in a thread of its own."""

    def __init__(self, portal, started):
        self.portal, self.started = portal, started

    def get(self, path):
        self.portal.call(get, self.started, path)

@pytest.fixture(scope="module")
def client():
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(lifespan(app)) as started,
    ):
        yield Client(portal, started)

@pytest.fixture(autouse=True)
def clean():
    ran.clear()
'''

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run_pytest(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run tests that are written below `KIT`, with two plugins, and return how they ended."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    plugins = ("-p", "anyio", "-p", PLUGIN, "-p", "no:cacheprovider")

    def run_it(tests: str, *options: str, ini: str = "") -> pytest.RunResult:
        pytester.makeini(f"[pytest]\n{ini}")
        pytester.makepyfile(kit=KIT, test_it=f"from kit import *\n{tests}")
        # The plugins were imported by the outer run, with their assertions as they are.
        strict = ("-W", "error", "-W", "ignore::pytest.PytestAssertRewriteWarning")
        return pytester.runpytest_inprocess(*plugins, *strict, *options)

    return run_it


def test_sync_tests(run_pytest: Run) -> None:
    """In sync tests the block is around the function, and its errors are failures of the test."""
    result = run_pytest("""
def test_drains(client, drained_tasks):
    client.get("/note")
    assert [task.name for task in drained_tasks.tasks] == ["it"]

def test_drains_then(client):
    assert ran == []  # what the test before it waited for has been cleared

def test_inline(client, inline_tasks):
    client.get("/note")
    assert ran == ["/note"]

def test_records(client, recorded_tasks):
    client.get("/note")
    recorded_tasks.after_response.task(name="it").assert_scheduled(note, "/note")
    assert ran == []

def test_misses(client, recorded_tasks):
    recorded_tasks.assert_scheduled(note, "/note")

def test_fails(client, drained_tasks):
    client.get("/fail")

def test_fails_inline(client, inline_tasks):
    client.get("/fail")

def test_fails_by_itself(client, drained_tasks):
    client.get("/fail")
    assert 1 == 2

def test_without(client):
    client.get("/note")
""")
    result.assert_outcomes(passed=5, failed=4)
    result.stdout.fnmatch_lines(["*AssertionError: no such task was recorded:"])
    result.stdout.fnmatch_lines(["E*ValueError: task /fail"])
    result.stdout.fnmatch_lines(["*assert 1 == 2", "E*Task it failed: Traceback*"])
    result.stdout.no_fnmatch_line("*_block.py:*")  # the kit's own frames are not shown
    result.stdout.no_fnmatch_line("*_record.py:*")
    result.stdout.no_fnmatch_line("*_pytest_plugin.py:*")


ASYNC_TESTS: Final = """
async def test_drains(started, drained_tasks):
    await get(started, "/note")
    assert [task.name for task in drained_tasks.tasks] == ["it"]

async def test_drains_then(started):
    assert ran == []

async def test_inline(started, inline_tasks):
    await get(started, "/note")
    assert ran == ["/note"]

async def test_records(started, recorded_tasks):
    await get(started, "/note")
    recorded_tasks.after_response.assert_scheduled(note, what="/note")
    assert ran == []

async def test_fails(started, drained_tasks):
    await get(started, "/fail")

@pytest.mark.parametrize("path", ["/note", "/fail"])
async def test_params(started, path, recorded_tasks):
    await get(started, path)
    assert len(recorded_tasks.tasks) == 1

class TestClass:
    async def test_drains(self, started, drained_tasks):
        assert isinstance(self, TestClass)
        await get(started, "/note")
        assert len(drained_tasks.tasks) == 1

    async def test_fails(self, started, drained_tasks):
        await get(started, "/fail")

async def test_a_client_with_a_thread(client, inline_tasks):
    client.get("/note")
    assert ran == ["/note"]
"""


@pytest.mark.parametrize("scope", ["function", "module"])
def test_async_tests_of_anyio(run_pytest: Run, scope: str) -> None:
    """In async tests under anyio's plugin, on both event loops, with a client of any scope."""
    result = run_pytest(f"""
pytestmark = pytest.mark.anyio

@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param

@pytest.fixture(scope="{scope}")
async def started(anyio_backend):
    async with lifespan(app) as started:
        yield started
{ASYNC_TESTS}
""")
    result.assert_outcomes(passed=16, failed=4)
    result.stdout.no_fnmatch_line("*_block.py:*")


@pytest.mark.skipif(find_spec("pytest_asyncio") is None, reason="pytest-asyncio is not installed")
@pytest.mark.parametrize("scope", ["function", "module"])
def test_async_tests_of_pytest_asyncio(run_pytest: Run, scope: str) -> None:
    """In async tests under pytest-asyncio, whose fixtures have tasks and contexts of their own."""
    tests = f"""
import pytest_asyncio

@pytest_asyncio.fixture(scope="{scope}")
async def started():
    async with lifespan(app) as started:
        yield started
{ASYNC_TESTS}
"""
    scopes = [f"asyncio_default_{kind}_loop_scope = {scope}" for kind in ("fixture", "test")]
    ini = "\n".join(["asyncio_mode = auto", *scopes])
    result = run_pytest(tests, "-p", "pytest_asyncio.plugin", ini=ini)
    result.assert_outcomes(passed=8, failed=2)


def test_classes_and_usefixtures(run_pytest: Run) -> None:
    """In classes, also `unittest`'s, and asked for by `usefixtures`."""
    result = run_pytest("""
import unittest

class TestClass:
    @pytest.mark.parametrize("path", ["/note", "/fail"])
    def test_it(self, client, path, drained_tasks):
        assert isinstance(self, TestClass)
        client.get(path)

@pytest.mark.usefixtures("drained_tasks")
class TestOfUnittest(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def give_client(self, client):
        self.client = client

    def test_drains(self):
        self.client.get("/note")

    def test_fails(self):
        self.client.get("/fail")

@pytest.mark.usefixtures("drained_tasks")
class TestAsyncOfUnittest(unittest.IsolatedAsyncioTestCase):
    async def test_drains(self):
        async with lifespan(app) as started:
            await get(started, "/note")
            async with drain():
                await get(started, "/note")
        assert ran == ["/note"] * 2

    async def test_fails(self):
        async with lifespan(app) as started, drain():
            await get(started, "/fail")
""")
    result.assert_outcomes(passed=3, failed=3)


def test_async_tests_of_unittest(run_pytest: Run) -> None:
    """In async test cases, which have an event loop and a context of their own."""
    result = run_pytest("""
import asyncio
import unittest

@pytest.mark.usefixtures("recorded_tasks")
class TestAsync(unittest.IsolatedAsyncioTestCase):
    @pytest.fixture(autouse=True)
    def keep(self, recorded_tasks):
        self.recorded = recorded_tasks

    async def test_records(self):
        async with lifespan(app) as started:
            await get(started, "/note")
        assert ran == []
        self.recorded.after_response.assert_scheduled(note, "/note")

    async def test_misses(self):
        self.recorded.assert_scheduled(note, "/note")

@pytest.mark.usefixtures("recorded_tasks")
class TestSync(unittest.TestCase):
    def test_records(self):
        async def test():
            async with lifespan(app) as started:
                await get(started, "/note")
        asyncio.run(test())
        assert ran == []

class TestDrains(unittest.IsolatedAsyncioTestCase):
    @pytest.fixture(autouse=True)
    def keep(self, drained_tasks):
        self.drained = drained_tasks

    async def asyncSetUp(self):
        self.app = await self.enterAsyncContext(lifespan(app))

    async def test_drains(self):
        await get(self.app, "/note")
        assert len(self.drained.tasks) == 1

    async def test_fails(self):
        await get(self.app, "/fail")
""")
    result.assert_outcomes(passed=3, failed=2)
    result.stdout.fnmatch_lines(["*AssertionError: no such task was recorded:"])
    result.stdout.fnmatch_lines(["E*ValueError: task /fail"])


HYPOTHESIS_TESTS: Final = """
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

often = settings(
    max_examples=3,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
paths = given(path=st.sampled_from(["/note", "/fail"]))
notes = given(number=st.integers(0, 2))

@often
@paths
def test_sync_records(client, recorded_tasks, path):
    client.get(path)
    assert len(recorded_tasks.tasks) == 1  # of each example its own
    recorded_tasks.after_response.assert_scheduled({"/note": note, "/fail": fail}[path], path)
    recorded_tasks.assert_nothing_else_scheduled()

@often
@notes
def test_sync_inline(client, inline_tasks, number):
    ran.clear()
    client.get("/note")
    assert ran == ["/note"]

@often
@notes
def test_sync_fails(client, drained_tasks, number):
    client.get("/fail")

@often
@paths
async def test_records(started, recorded_tasks, path):
    await get(started, path)
    assert len(recorded_tasks.tasks) == 1
    assert ran == []

@often
@notes
async def test_inline(started, inline_tasks, number):
    ran.clear()
    await get(started, "/note")
    assert ran == ["/note"]

@often
@notes
async def test_drains(started, drained_tasks, number):
    await get(started, "/note")
    assert len(drained_tasks.tasks) == 1

@often
@notes
async def test_fails(started, drained_tasks, number):
    await get(started, "/fail")
"""


def test_tests_of_hypothesis_under_anyio(run_pytest: Run) -> None:
    """In tests with `@given` the block is around each example, new each time."""
    result = run_pytest(f"""
@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.fixture
async def started(anyio_backend):
    async with lifespan(app) as started:
        yield started

pytestmark = pytest.mark.anyio
{HYPOTHESIS_TESTS}
""")
    result.assert_outcomes(passed=5, failed=2)


@pytest.mark.skipif(find_spec("pytest_asyncio") is None, reason="pytest-asyncio is not installed")
def test_tests_of_hypothesis_under_pytest_asyncio(run_pytest: Run) -> None:
    """Under pytest-asyncio, which runs each example on the loop of the test."""
    tests = f"""
import pytest_asyncio

@pytest_asyncio.fixture
async def started():
    async with lifespan(app) as started:
        yield started
{HYPOTHESIS_TESTS}
"""
    scopes = [f"asyncio_default_{kind}_loop_scope = function" for kind in ("fixture", "test")]
    ini = "\n".join(["asyncio_mode = auto", *scopes])
    result = run_pytest(tests, "-p", "pytest_asyncio.plugin", ini=ini)
    result.assert_outcomes(passed=5, failed=2)


def test_a_block_in_a_fixture_of_the_users_own(run_pytest: Run) -> None:
    """An async test has another context than such a fixture, and sees its block all the same."""
    result = run_pytest("""
@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.fixture
async def started(anyio_backend):
    async with lifespan(app) as started:
        yield started

@pytest.fixture
def mails():
    with record() as recorded:
        yield recorded

@pytest.mark.anyio
async def test_records(started, mails):
    await get(started, "/note")
    assert ran == []
    mails.after_response.assert_scheduled(note, "/note")

def test_records_in_threads(client, mails):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(client.get, ["/note", "/fail"]))
    assert ran == []
    assert len(mails.tasks) == 2
""")
    result.assert_outcomes(passed=2)


def test_several_blocks(run_pytest: Run) -> None:
    """Of several blocks the one that was made last is innermost: a test's own, not a suite's."""
    result = run_pytest("""
@pytest.fixture(autouse=True)
def of_the_suite(drained_tasks):
    return drained_tasks

def test_records(client, recorded_tasks, of_the_suite):
    client.get("/fail")
    recorded_tasks.after_response.assert_scheduled(fail, "/fail")
    assert of_the_suite.tasks == []

def test_of_the_failure_itself(client):
    with drain(raise_errors=False) as block:
        client.get("/fail")
    assert block.tasks[0].state == "failed"

def test_fails(client):
    client.get("/fail")
""")
    result.assert_outcomes(passed=2, failed=1)


OWN_BLOCKS: Final = """
import contextlib
import unittest
from concurrent.futures import ThreadPoolExecutor

@pytest.fixture(autouse=True)
def of_the_suite(drained_tasks):
    return drained_tasks

@pytest.fixture
def mails():
    with record() as recorded:
        yield recorded

@pytest.fixture
def failures():
    with drain(raise_errors=False) as block:
        yield block
"""


def test_own_blocks_beside_a_fixture(run_pytest: Run) -> None:
    """What was entered after a fixture's set-up is within its block (contract 7.5)."""
    result = run_pytest(f"""{OWN_BLOCKS}
def test_in_a_fixture(client, mails, of_the_suite):
    client.get("/note")
    mails.after_response.assert_scheduled(note, "/note")
    assert ran == of_the_suite.tasks == []

def test_of_the_failure_itself(client, failures):
    client.get("/fail")

def test_in_threads_of_a_pool(client, mails):
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(client.get, ["/note", "/fail"]))
    assert len(mails.tasks) == 2

def test_further_in(client, mails, recorded_tasks):
    client.get("/note")
    with record() as innermost:
        client.get("/fail")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(client.get, "/fail").result()
    client.get("/note")
    assert [len(block.tasks) for block in (mails, recorded_tasks, innermost)] == [0, 2, 2]

def test_within_two_fixtures(client, recorded_tasks, failures, of_the_suite):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(client.get, "/fail").result()
    assert [len(block.tasks) for block in (recorded_tasks, failures)] == [0, 1]
    assert of_the_suite.tasks == []

@pytest.fixture(scope="module")
def outermost():
    with record() as recorded:
        yield recorded

@pytest.fixture
def tears_down(client, outermost, mails):
    yield
    client.get("/note")
    with ThreadPoolExecutor(1) as pool:  # which asks the blocks that are open
        pool.submit(client.get, "/note").result()
    assert len(mails.tasks) == 3

def test_a_block_around_all(outermost, mails, tears_down, client, of_the_suite):
    client.get("/note")
    assert [len(block.tasks) for block in (outermost, of_the_suite, mails)] == [0, 0, 1]

@pytest.fixture
def of_another_thread():
    with start_blocking_portal() as portal:
        with portal.wrap_async_context_manager(record()) as recorded:
            yield recorded

def test_a_block_of_another_thread(client, of_another_thread, of_the_suite):
    client.get("/note")
    assert [len(block.tasks) for block in (of_another_thread, of_the_suite)] == [0, 1]

class TestSetUpMethod:
    def setup_method(self):
        self.left = contextlib.ExitStack()
        self.mails = self.left.enter_context(record())

    def teardown_method(self):
        self.left.close()

    def test_it(self, client, of_the_suite):
        client.get("/note")
        assert len(self.mails.tasks) == 1
        self.left.close()
        client.get("/note")
        assert len(of_the_suite.tasks) == 1

class TestOfUnittest(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def give_client(self, client):
        self.client = client

    def setUp(self):
        self.mails = self.enterContext(record())

    def test_it(self):
        self.client.get("/note")
        assert len(self.mails.tasks) == 1

class TestAsyncOfUnittest(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.started = await self.enterAsyncContext(lifespan(app))
        self.mails = await self.enterAsyncContext(record())

    async def test_it(self):
        await get(self.started, "/note")
        assert len(self.mails.tasks) == 1
""")
    result.assert_outcomes(passed=10)


ASYNC_OWN_BLOCKS: Final = f"""{OWN_BLOCKS}
async def test_in_a_fixture(started, mails, of_the_suite):
    await get(started, "/note")
    mails.after_response.assert_scheduled(note, "/note")
    assert ran == of_the_suite.tasks == []

async def test_in_an_async_fixture(started, async_mails, of_the_suite):
    await get(started, "/note")
    assert len(async_mails.tasks) == 1
    assert ran == of_the_suite.tasks == []

async def test_by_a_client_with_a_thread(client, mails):
    client.get("/note")
    assert len(mails.tasks) == 1

async def test_further_in(started, mails, inline_tasks):
    await get(started, "/note")
    async with record() as innermost:
        await get(started, "/fail")
    await get(started, "/note")
    assert [len(block.tasks) for block in (mails, inline_tasks, innermost)] == [0, 2, 1]
"""


def test_own_blocks_beside_a_fixture_under_anyio(run_pytest: Run) -> None:
    """In async tests too, which have another context than sync fixtures, on both event loops."""
    result = run_pytest(f"""
pytestmark = pytest.mark.anyio

@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param

@pytest.fixture
async def started(anyio_backend):
    async with lifespan(app) as started:
        yield started

@pytest.fixture
async def async_mails(anyio_backend):
    async with record() as recorded:
        yield recorded
{ASYNC_OWN_BLOCKS}""")
    result.assert_outcomes(passed=8)


@pytest.mark.skipif(find_spec("pytest_asyncio") is None, reason="pytest-asyncio is not installed")
def test_own_blocks_beside_a_fixture_under_pytest_asyncio(run_pytest: Run) -> None:
    """Under pytest-asyncio, whose fixtures have contexts of their own."""
    tests = f"""
import pytest_asyncio

@pytest_asyncio.fixture
async def started():
    async with lifespan(app) as started:
        yield started

@pytest_asyncio.fixture
async def async_mails():
    async with record() as recorded:
        yield recorded
{ASYNC_OWN_BLOCKS}"""
    scopes = [f"asyncio_default_{kind}_loop_scope = function" for kind in ("fixture", "test")]
    ini = "\n".join(["asyncio_mode = auto", *scopes])
    result = run_pytest(tests, "-p", "pytest_asyncio.plugin", ini=ini)
    result.assert_outcomes(passed=4)


def test_own_blocks_beside_a_fixture_in_tests_of_hypothesis(run_pytest: Run) -> None:
    """Where the fixture's block is new for each example, what was entered before stays within."""
    result = run_pytest(f"""{OWN_BLOCKS}
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

@settings(
    max_examples=3,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(number=st.integers(0, 2))
def test_in_a_fixture(client, mails, number):
    before = len(mails.tasks)
    client.get("/note")
    assert len(mails.tasks) == before + 1
    assert ran == []
""")
    result.assert_outcomes(passed=1)


def test_fixtures_that_are_asked_for_by_name(run_pytest: Run) -> None:
    """A fixture may choose a block by name; within the test itself it is too late, and refused."""
    result = run_pytest("""
@pytest.fixture(params=["drained_tasks", "inline_tasks"])
def block(request):
    return request.getfixturevalue(request.param)

def test_chosen(client, block):
    client.get("/note")
    assert len(block.tasks) == 1

def test_too_late(client, request):
    with pytest.raises(RuntimeError, match="Too late: name the fixture as an argument"):
        request.getfixturevalue("recorded_tasks")
""")
    result.assert_outcomes(passed=3)


def test_a_test_that_is_run_again(run_pytest: Run) -> None:
    """A test that is run again, as plugins for unsteady tests do, has a new block."""
    result = run_pytest(
        """
runs = []

@pytest.mark.xfail(condition=False, reason="run twice")
def test_it(client, recorded_tasks):
    client.get("/note")
    runs.append(len(recorded_tasks.tasks))
    assert runs == [1] * len(runs)

def test_that_it_was():
    assert runs == [1, 1]
""",
        "-p",
        "again",
    )
    result.assert_outcomes(passed=3)


@pytest.fixture(autouse=True)
def again(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        again="""
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    if item.name != "test_it":
        return None
    for _ in range(2):
        item._initrequest()
        for report in runtestprotocol(item, nextitem=nextitem, log=False):
            item.ihook.pytest_runtest_logreport(report=report)
    return True
"""
    )
    pytester.syspathinsert()


@pytest.mark.skipif(not INSTALLED, reason="pytest finds plugins of installed packages only")
def test_pytest_finds_the_plugin(pytester: pytest.Pytester) -> None:
    """Where the package is installed, the fixtures are there."""
    pytester.makepyfile("def test_it(drained_tasks, inline_tasks, recorded_tasks): pass")
    pytester.runpytest_subprocess("-p", "no:asyncio").assert_outcomes(passed=1)


def test_tests_that_are_no_functions(run_pytest: Run, pytester: pytest.Pytester) -> None:
    """Other tests, doctests for instance, are left alone."""
    pytester.makepyfile(module='"""\n>>> 1 + 1\n2\n"""\n')
    run_pytest("", "--doctest-modules", "module.py").assert_outcomes(passed=1)


def imported_by(*statements: str) -> set[str]:
    """Return the modules that are there after some statements."""
    program = "; ".join((*statements, "import sys", "print(*sys.modules)"))
    done = run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_plugin_is_cheap() -> None:
    """Every run of pytest loads the plugin, so it imports no framework, and trio neither."""
    new = imported_by("import pytest, anyio", f"import {PLUGIN}")
    new -= imported_by("import pytest, anyio")
    unwanted = {"fastapi", "litestar", "starlette", "httpx", "trio", "difflib"}
    assert PLUGIN in new
    assert not new & unwanted
