import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo.py"
GUARD = 100
PROMISES = "1.1 1.2 1.3 1.4 1.6 4.1 4.2 4.3 5.1 5.2 5.3 5.4 5.5".split()  # noqa: SIM905


def run_demo(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, DEMO, *arguments],
        capture_output=True,
        check=False,
        encoding="utf-8",
        env=os.environ | {"COLUMNS": "200"} | env,
        timeout=GUARD,
    )


def test_demo_finds_the_order_that_the_contract_promises() -> None:
    """The demo exits 0, and has checked each of these promises (1.1-1.4, 1.6, 4.1-4.3, 5.1-5.5)."""
    done = run_demo()

    assert done.returncode == 0, done.stdout + done.stderr
    for number in PROMISES:
        assert f"✓ {number} " in done.stdout
    assert not [line for line in done.stdout.splitlines() if line.startswith("✗")]
    assert done.stderr == ""
    assert "there is no redis-server here" in done.stdout  # as for all tests of this folder


@pytest.mark.skipif(which("redis-server") is None, reason="no redis-server is installed here")
def test_demo_follows_an_id_to_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """8.4, 8.9 One id from the 202 to what a worker has returned, where there is a Redis."""
    monkeypatch.delenv("REDIS_URL")
    done = run_demo()

    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ 8.4 " in done.stdout
    assert "✓ 8.9 " in done.stdout
    assert re.search(r"^docket-\w{32} .+✓ ", done.stdout, re.MULTILINE)
    assert "no redis-server" not in done.stdout


@pytest.mark.parametrize(
    ("mutants", "broken"),
    [
        ("no fence,no failed requests,no shields", ["1.1", "1.2", "1.6", "5.2", "5.4"]),
        ("no phases", ["1.3"]),
    ],
)
def test_demo_finds_a_broken_promise(mutants: str, broken: list[str]) -> None:
    """The demo exits 1 when a promise is broken, and names it."""
    done = run_demo("--app", "tests.examples.mutant_app:app", MUTANTS=mutants)

    assert done.returncode == 1, done.stdout + done.stderr
    summary = done.stdout.rpartition("───")[2]
    for number in broken:
        assert f"✗ {number} " in summary


def test_demo_says_why_it_cannot_go_on() -> None:
    """The demo exits 1 when the server does not start, and shows its log."""
    done = run_demo("--app", "examples.no_such_module:app")

    assert done.returncode == 1
    assert "The server has ended before it listened." in done.stdout
    assert "no_such_module" in done.stdout


def test_demo_serves_until_it_is_interrupted() -> None:
    """With `--serve` the demo prints what to try, and one Ctrl-C ends it cleanly."""
    with subprocess.Popen(
        [sys.executable, DEMO, "--serve"],
        encoding="utf-8",
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "Ctrl-C" in line:
                    break
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=GUARD)
        finally:
            process.terminate()

    assert process.returncode == 0, rest
    assert "lifespan closes resources" in rest
    assert "Traceback" not in rest
