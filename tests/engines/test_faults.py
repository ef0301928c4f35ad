"""Contract 8 where something breaks: what becomes of the work, on real processes.

The first line of each docstring is a row of the table in docs/faults.md, and what the test records
as its outcome is the cell.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.engines.conftest import Open
from tests.engines.processes import Engine, Redis, Shop, wait_until

Record: TypeAlias = Callable[[str, object], None]


@pytest.fixture
def outcome(record_property: Record) -> Callable[[str], None]:
    """Say in words what has come of it."""
    return lambda words: record_property("outcome", words)


Outcome: TypeAlias = Callable[[str], None]


@contextmanager
def hangs(redis: Redis) -> Generator[None]:
    """Let Redis answer nobody, though it takes connections."""
    redis.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        redis.send_signal(signal.SIGCONT)


def pass_time(seconds: float) -> None:
    """Let an outage last."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= end)


def test_a_worker_is_killed(open_shop: Open, database: str, outcome: Outcome) -> None:
    """8.10: A worker is killed with -9 in the midst of a task.

    With the settings that the documentation names another worker runs it again.
    """
    with open_shop(database) as shop:
        worker = shop.work()
        task_id = shop.place(1, "what=hold&confirm=true&phase=after_route")
        shop.wait_for("1 holds in ")
        shop.kill(worker)
        killed = time.monotonic()
        shop.work()
        by_itself = shop.engine.recovers
        if not by_itself:
            # It looks for what others have left behind when it has got a message, and only then.
            pass_time(2)  # longer than its `idle_timeout`
            assert len(shop.said("1 holds in ")) == 1
            shop.place(2)
        shop.wait_for("1 holds in ", 2)
        took = time.monotonic() - killed
        shop.server.open("go 1")
        assert shop.wait_for_state(task_id, "succeeded")["result"] == "held 1"
    when = f"after {took:.0f} s" if by_itself else "when another message comes"
    outcome(f"runs again {when}")


def kill_web(shop: Shop) -> None:
    shop.server.kill()
    shop.serve().__enter__()


def test_the_web_process_is_killed_before_the_hand_over(
    open_shop: Open, database: str, outcome: Outcome
) -> None:
    """8.7: The web process is killed with -9 between response and hand-over."""
    with open_shop(database, TESTS_SESSION="slow") as shop:
        task_id = shop.place(1)
        shop.wait_for("commits")  # the response is out, and *after response* has not begun
        kill_web(shop)
        assert shop.queued() == 0
        assert shop.state(task_id) == (None if shop.engine.knows_unknown else "pending")
    outcome("lost")


def test_the_web_process_is_killed_after_confirm(
    open_shop: Open, database: str, outcome: Outcome
) -> None:
    """8.8: The web process is killed with -9 after a response to `confirm=True`."""
    with open_shop(database, TESTS_SESSION="slow") as shop:
        task_id = shop.place(1, "phase=after_route&confirm=true")
        shop.wait_for("commits")
        kill_web(shop)
        shop.work()
        assert shop.wait_for_state(task_id, "succeeded")["result"] == "invoice 1"
    outcome("runs")


def test_redis_is_down(open_shop: Open, redis: Redis, outcome: Outcome) -> None:
    """8.7: Redis is down.

    Nothing is lost in silence: the failure is heard, and with `confirm=True` the request fails.
    """
    with open_shop(redis.url(), TESTS_TIMEOUT="1") as shop:
        redis.kill()
        shop.place(1)
        shop.wait_for("not confirmed: 1")
        assert shop.request("POST", "/orders/2?phase=after_route&confirm=true").status == 500
        shop.wait_for("not confirmed: 2")
        assert shop.request("GET", "/ping").status == 200
    outcome("202 and `on_error`; 500 with `confirm`")


def test_redis_hangs(open_shop: Open, redis: Redis, outcome: Outcome) -> None:
    """8.6: Redis hangs (SIGSTOP) during sixty posts of two tasks each.

    All are answered, each hand-over is heard to have failed, no route waits for the broker, tasks
    of this process run, and the shutdown is in time.
    """
    timeout = 10  # longer than a machine stands still
    with open_shop(redis.url(), TESTS_TIMEOUT=str(timeout)) as shop:
        shop.place(0, "phase=after_route&confirm=true")  # connections are open
        worst = 0.0
        with hangs(redis):

            def post(number: int) -> int:
                return shop.request("POST", f"/burst/{2 * number}").status

            with ThreadPoolExecutor(6) as pool:
                posts = [pool.submit(post, number) for number in range(1, 61)]
                while not all(it.done() for it in posts):
                    began = time.monotonic()
                    assert shop.request("GET", "/sync").status == 200
                    worst = max(worst, time.monotonic() - began)
            assert [it.result() for it in posts] == [202] * 60
            shop.wait_for("in process ", 60)
            shop.place(1000)
            began = time.monotonic()
            shop.server.stop()
            stopped = time.monotonic() - began
        heard = {what.split()[2] for what in shop.said("not confirmed: ")}
        assert heard == {*map(str, range(2, 122)), "1000"}
    assert worst < timeout
    assert stopped < timeout + 5
    outcome(f"121 of 121 heard; worst `def` route {worst:.2f} s, shutdown {stopped:.1f} s")


def test_redis_is_away_for_a_moment(
    engine: Engine, open_shop: Open, redis: Redis, tmp_path: Path, outcome: Outcome
) -> None:
    """8.10: Redis is away for 1.5 s during twenty posts.

    The engine's client tries again, with the settings that the documentation names. That of Docket
    cannot be told to: there the error handler hands over again, which is safe, as the id is a key.
    """
    again = {} if engine.retries else {"TESTS_AGAIN": "yes"}
    with open_shop(redis.url(), **again) as shop:
        shop.place(0, "phase=after_route&confirm=true")
        redis.kill()
        for order in range(1, 21):
            shop.place(order)
        pass_time(1.5)
        with Redis(tmp_path, redis.port):
            wait_until(lambda: shop.queued() + len(shop.said("not confirmed")) >= 20)
            assert (shop.queued(), shop.said("not confirmed")) == (20, [])
    outcome("20 of 20 handed over" if engine.retries else "20 of 20, by `on_error`")


def test_the_web_process_is_stopped_in_the_midst(
    open_shop: Open, redis: Redis, outcome: Outcome
) -> None:
    """8.6: The web process gets SIGTERM in the midst of a hand-over."""
    with open_shop(redis.url(), TESTS_TIMEOUT="30") as shop:
        shop.place(0, "phase=after_route&confirm=true")
        with hangs(redis):
            task_id = shop.place(1)
            shop.request("GET", f"/begun/{task_id}")
            shop.server.send_signal(signal.SIGTERM)
            shop.server.wait_for_log("Shutting down")
        shop.server.wait()
        assert shop.queued() == 2
        assert shop.said("not confirmed") == []
    outcome("handed over, then it ends")


def test_a_result_has_expired(
    engine: Engine, open_shop: Open, database: str, outcome: Outcome
) -> None:
    """8.9: The result has expired."""
    if not engine.forgets:
        pytest.skip("`docket worker` keeps results for 15 minutes, whatever the docket says")
    with open_shop(database, TESTS_EXPIRES="2") as shop:
        shop.work()
        task_id = shop.place(1, "what=hold")
        shop.wait_for("1 holds in ")
        shop.server.open("go 1")
        shop.wait_for_state(task_id, "succeeded")
        shop.wait_for_state(task_id, "pending")
    outcome("*pending* again")
