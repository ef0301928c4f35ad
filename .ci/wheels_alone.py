"""Look into each built wheel and install it into an empty environment: is it whole, by itself?

    python .ci/wheels_alone.py dist

Next to a package's wheel stand only our own wheels that it is built on, by path: the package index
has a stranger of the name fastapi-tasks. The rest must be what its one framework and anyio bring.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]

# The package, what it may need of others, what it may need of ours.
PACKAGES = [
    ("tasks-core", ["anyio"], []),
    ("starlette-tasks", ["anyio", "starlette"], ["tasks-core"]),
    ("fastapi-tasks", ["anyio", "fastapi"], ["tasks-core", "starlette-tasks"]),
    ("litestar-tasks", ["anyio", "litestar"], ["tasks-core"]),
]

# Nothing but a framework and anyio is there, so what is for others may not be imported: the plugin,
# for pytest; the carriers, for engines; the observer for OpenTelemetry.
IMPORTS = """
import pkgutil, {module} as package
for found in pkgutil.walk_packages(package.__path__, "{module}."):
    if not found.name.startswith(("tasks_core._pytest", "tasks_core.carriers.", "tasks_core.open")):
        __import__(found.name)
print(package.__file__)
"""

# The wheel's entry point alone brings the fixtures.
FIXTURES = """
import anyio, pytest
from tasks_core import TaskRunner, TasksScheduler, TaskSkipped

async def count():
    async with TaskRunner() as runner:
        return await TasksScheduler(runner).schedule(len, "four").wait()

def test_drained(drained_tasks):
    assert anyio.run(count) == 4
    assert len(drained_tasks.tasks) == 1

def test_inline(inline_tasks):
    assert anyio.run(count) == 4
    assert len(inline_tasks.tasks) == 1

def test_recorded(recorded_tasks):
    with pytest.raises(TaskSkipped):
        anyio.run(count)
    recorded_tasks.assert_scheduled(len, "four")
"""


def uv(*args: str, stdin: str = "") -> str:
    """Run uv and return what it prints."""
    return subprocess.run(
        ["uv", "--quiet", *args], input=stdin, check=True, text=True, stdout=subprocess.PIPE
    ).stdout


def names(requirements: str) -> set[str]:
    """Return the names in the lines of a requirements file."""
    lines = (line.partition("#")[0].strip() for line in requirements.splitlines())
    return {canonicalize_name(Requirement(line).name) for line in lines if line}


def wheel(dist: Path, name: str) -> Path:
    """Return the path of the package's one wheel."""
    (path,) = dist.glob(f"{name.replace('-', '_')}-*.whl")
    return path


def check_files(dist: Path, name: str) -> None:
    """Compare what the wheel holds with the sources: so tests of these are tests of it."""
    source, module = ROOT / "packages" / name, name.replace("-", "_")
    expected = {
        f"{module}/{path.relative_to(source / 'src' / module).as_posix()}": path.read_bytes()
        for path in (source / "src" / module).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert f"{module}/py.typed" in expected, name
    with ZipFile(wheel(dist, name)) as archive:
        files = {path: archive.read(path) for path in archive.namelist()}
    about = {
        path.partition("/")[2]: files.pop(path) for path in list(files) if ".dist-info/" in path
    }
    assert files == expected, (name, files.keys() ^ expected.keys())
    assert about["licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes(), name


def check_alone(dist: Path, name: str, others: list[str], ours: list[str]) -> None:
    """Install one package, compare what has come with what may come, and use it."""
    allowed = names(uv("pip", "compile", "--no-header", "-", stdin="\n".join(others)))
    with TemporaryDirectory() as folder:
        python = str(Path(folder, "bin", "python"))
        uv("venv", "--python", sys.executable, folder)
        uv("pip", "install", "--python", python, *(str(wheel(dist, it)) for it in (name, *ours)))
        installed = names(uv("pip", "freeze", "--python", python))
        assert installed == allowed | {name, *ours}, (name, installed ^ (allowed | {name, *ours}))
        program = IMPORTS.format(module=name.replace("-", "_"))
        where = subprocess.run(
            [python, "-I", "-c", program], check=True, text=True, stdout=subprocess.PIPE, cwd=folder
        ).stdout
        assert "site-packages" in where, where
        if name == "tasks-core":
            uv("pip", "install", "--python", python, "pytest")
            Path(folder, "test_fixtures.py").write_text(FIXTURES, encoding="utf-8")
            subprocess.run([python, "-I", "-m", "pytest", "-q", folder], check=True, cwd=folder)
    print(f"{name}: brings {', '.join(sorted(installed - {name}))}")


def main() -> None:
    """Check each package."""
    dist = Path(sys.argv[1])
    for name, others, ours in PACKAGES:
        check_files(dist, name)
        check_alone(dist, name, others, ours)


main()
