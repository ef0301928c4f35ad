"""Watch background tasks on a real server, and check their order against the contract.

    python examples/demo.py            draws a timeline; exits 0 only if the order is as promised
    python examples/demo.py --serve    keeps the server up, to try by hand

Only orders are checked, never durations, and only such as one moment causes the other; so a slow
machine changes the picture but not the outcome. Where there is a redis-server, a worker of an
engine does one task more.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from threading import Condition, Thread
from typing import Any, Final, TypeAlias

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # it is run as a script, from wherever

from examples import nearby  # noqa: E402
from examples.demo_timeline import LEGEND, Lane, Timeline  # noqa: E402

GUARD: Final = 30.0
"""Seconds after which something that should have happened will not happen any more."""

PHASES: Final = {"immediate": "cyan", "after_route": "magenta", "after_response": "blue"}
QUEUE: Final = "examples.task_queue.docket_app:app"  # which starts a redis-server and a worker, too
PATHS: Final = ("/phases/async", "/phases/sync", "/mail", "/orders/7", "/long")
SKIPPED: Final = ("logged INFO", "logged DEBUG")  # by a request that has failed, or succeeded
LAST_NOTES: Final = {"ended", "cancelled", "handler ended", *SKIPPED}


class DemoError(Exception):
    """The demo cannot go on."""


Moment: TypeAlias = tuple[str, str]
"""Who, and what it did; see `Note`."""


# The server and what its application notes.


@dataclass(frozen=True)
class Note:
    """Something that happened in the application; see `note` in demo_app.py."""

    at: int
    request: str
    who: str
    what: str
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Server:
    """A uvicorn process, and what its application has noted so far."""

    def __init__(self, app: str, *, show: Callable[[Note], None] | None = None) -> None:
        self.notes: list[Note] = []
        self._changed = Condition()
        self._show = show
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._app: socket.socket | None = None
        # Bound but not listening, it keeps the port ours until the server listens there.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._reserved.getsockname()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        host, port = self.address
        command = [sys.executable, "-m", "uvicorn", app, "--app-dir", str(ROOT)]
        command += ["--host", host, "--port", str(port), "--no-access-log"]
        self._process = subprocess.Popen(
            command,
            env=os.environ | {"DEMO_NOTES": "{}:{}".format(*self._listener.getsockname())},
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is ours; we pass it on
        )
        Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        try:
            self._app, _ = self._listener.accept()
            with self._app.makefile() as lines:
                for line in lines:
                    entry = json.loads(line)
                    known = {key: entry.pop(key) for key in ("at", "request", "who", "what")}
                    self._add(Note(**known, facts=entry))
        except OSError:
            pass  # it is gone
        self._add(Note(time.monotonic_ns(), "", "server", "ended"))

    def _add(self, note: Note) -> None:
        if self._show:
            self._show(note)
        with self._changed:
            self.notes.append(note)
            self._changed.notify_all()

    def wait_until(self, happened: Callable[[list[Note]], bool], guard: float = GUARD) -> bool:
        """Wait for notes; return whether they came."""
        with self._changed:
            return self._changed.wait_for(lambda: happened(self.notes), guard)

    def connect(self) -> socket.socket:
        """Connect, as soon as the server listens."""
        deadline = time.monotonic() + GUARD
        while True:
            try:
                return socket.create_connection(self.address, timeout=GUARD)
            except OSError as error:
                if time.monotonic() > deadline:
                    raise DemoError("The server does not listen.") from error
            if self._has_exited(0.02):
                raise DemoError("The server has ended before it listened.")

    def release(self) -> None:
        """Tell the application, which holds, that the client has the whole body."""
        if self._app is not None:
            self._app.send(b".")

    def signal(self, number: int) -> int:
        """Send a signal; return when."""
        at = time.monotonic_ns()
        self._process.send_signal(number)
        return at

    def ended(self, guard: float = GUARD) -> bool:
        """Wait until the process has ended by itself; return whether it has."""
        return self._has_exited(guard) and self.wait_until(
            lambda notes: notes[-1].who == "server", guard
        )

    def _has_exited(self, guard: float) -> bool:
        try:
            self._process.wait(guard)
        except subprocess.TimeoutExpired:
            return False
        return True

    def log_tail(self) -> str:
        """Return the last lines of the server's log."""
        self._log.seek(0)
        return "\n".join(self._log.read().decode(errors="replace").splitlines()[-40:])

    def close(self) -> None:
        """Leave nothing behind."""
        if self._process.poll() is None:
            self._process.terminate()  # what it has started ends with it
            if not self._has_exited(GUARD):
                self._process.kill()
                self._process.wait(GUARD)
        for closes in (self._reserved, self._listener, self._app, self._log):
            if closes is not None:
                closes.close()


@contextmanager
def serving(app: str, *, show: Callable[[Note], None] | None = None) -> Generator[Server]:
    """Run the server for as long as the block lasts."""
    server = Server(app, show=show)
    try:
        yield server
    finally:
        server.close()


# The client.


@dataclass(frozen=True)
class Exchange:
    """A request and its response as the client sees them."""

    status: int
    body: str
    sent: int
    first_byte: int
    last_byte: int


def fetch(server: Server, path: str, json_body: str = "") -> Exchange:
    """Send a request from a raw socket, which knows when bytes arrive."""
    lines = [f"{'POST' if json_body else 'GET'} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(json_body)}"]
    lines += ["Connection: close", "", json_body]
    with server.connect() as connection:
        sent = time.monotonic_ns()
        connection.sendall("\r\n".join(lines).encode())
        received = connection.recv(1)
        first_byte = time.monotonic_ns()
        head, length = b"", 0
        while not head or len(received) < length:
            chunk = connection.recv(65536)
            if not chunk:
                raise DemoError(f"The response to {path} ended too early: {received!r}")
            received += chunk
            if not head and b"\r\n\r\n" in received:
                head, _, received = received.partition(b"\r\n\r\n")
                fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
                length = int(fields[b"content-length"])
        last_byte = time.monotonic_ns()
    return Exchange(int(head.split()[1]), received.decode(), sent, first_byte, last_byte)


# What is checked.


@dataclass(frozen=True)
class Check:
    """One promise of the contract, and whether it was kept."""

    number: str
    promise: str
    fault: str = ""


class Story:
    """What happened in one request, and the checks on it."""

    def __init__(self, title: str, notes: Sequence[Note]) -> None:
        self.title = title
        self.notes = notes
        self.checks: list[Check] = []

    def all(self, who: str, what: str) -> list[Note]:
        """Return all notes of a kind, in order."""
        return [note for note in self.notes if (note.who, note.what) == (who, what)]

    def at(self, who: str, what: str) -> int | None:
        """Return when something happened first."""
        notes = self.all(who, what)
        return notes[0].at if notes else None

    def order(self, number: str, promise: str, *orders: Sequence[Moment]) -> None:
        """Check that all this happened, each time in this order."""
        faults = [fault for moments in orders if (fault := self._fault(moments))]
        self.checks.append(Check(number, promise, "; ".join(faults)))

    def _fault(self, moments: Sequence[Moment]) -> str:
        for who, what in moments:
            if self.at(who, what) is None:
                return f"{who} {what}: never"
        for before, after in pairwise(moments):
            if (self.at(*before) or 0) >= (self.at(*after) or 0):
                return f"{' '.join(after)}: not after {' '.join(before)}"
        return ""

    def equal(self, number: str, promise: str, found: object, expected: object) -> None:
        """Check that something is what it should be."""
        fault = "" if found == expected else f"found {found!r}, expected {expected!r}"
        self.checks.append(Check(number, promise, fault))


def ask(server: Server, path: str, title: str, *, holds: bool = False) -> Story:
    """Send a request, and wait until all has happened that it brings about."""
    exchange = fetch(server, path)
    if holds and server.wait_until(lambda notes: bool(who_noted(notes, path, {"holds"}))):
        server.release()
    # Notes come in their order: with the response's end, all that was scheduled is known.
    server.wait_until(
        lambda notes: (
            "response" in who_noted(notes, path, {"ended"})
            and who_noted(notes, path, LAST_NOTES) >= who_noted(notes, path, {"scheduled"})
        )
    )
    return Story(f"GET {path} → {exchange.status}   {title}", told(server, path, exchange))


def who_noted(notes: Sequence[Note], path: str, what: set[str]) -> set[str]:
    """Return of whom something was noted in a request."""
    return {note.who for note in notes if note.request == path and note.what in what}


def told(server: Server, path: str, exchange: Exchange) -> list[Note]:
    """Return all that happened in a request, at the client too, in order."""
    notes = [note for note in server.notes if note.request == path]
    for at, what in (
        (exchange.sent, "sent"),
        (exchange.first_byte, "first byte"),
        (exchange.last_byte, "last byte"),
    ):
        notes.append(Note(at, path, "client", what, {"status": exchange.status}))
    return sorted(notes, key=lambda note: note.at)


# The requests, and what must be true of them.


def all_phases(server: Server, kind: str) -> Story:
    """Schedule an async and a sync task in each phase."""
    title = f"{'an' if kind == 'async' else 'a'} {kind} route that never awaits"
    story = ask(server, f"/phases/{kind}", title, holds=True)
    order = story.order
    starts, arrives = ("response", "began"), ("client", "first byte")
    ends, returns = ("response", "ended"), ("route", "ended")
    order(
        "1.1",
        "an immediate task takes its first step before the response's first message leaves",
        [("now, async", "scheduled"), ("now, async", "began"), starts, arrives],
    )
    closes = ("dependency, scope function", "ended")
    order(
        "1.2",
        "an after-route task begins once the route has returned and function-scoped dependencies "
        "are closed; its first step comes before the response starts",
        [returns, closes, ("after route, async", "began"), starts, arrives],
    )
    order(
        "1.2",
        "a sync one begins no earlier",
        [returns, closes, ("after route, sync", "began")],
    )
    handed = [
        note.facts["state"]
        for name in ("now, sync", "after route, sync")
        for note in story.all(name, "as the response starts")
    ]
    promise = "sync tasks have been handed to a thread by then"
    story.equal("1.2", promise, handed, ["running", "running"])
    order(
        "1.2",
        "the response does not wait for a task to finish",
        *(
            [ends, (f"{phase}, {kind}", "ended")]
            for phase in ("now", "after route")
            for kind in ("async", "sync")
        ),
    )
    commits = ("dependency, scope request", "ended")
    order(
        "1.3",
        "an after-response task begins once the last of the body has been sent and the request's "
        "dependencies are closed",
        [ends, commits, ("after response, async", "began")],
        [ends, commits, ("after response, sync", "began")],
    )
    name = "after response, async"
    order(
        "1.3",
        "the client has the whole body while that task's first step holds the event loop",
        [(name, "holds"), (name, "the client has all"), (name, "ended")],
    )
    order(
        "1.4",
        "the phases begin in order",
        [(f"{phase}, async", "began") for phase in ("now", "after route", "after response")],
    )
    return story


def failing_task(server: Server) -> Story:
    """Let one of three tasks fail."""
    story = ask(server, "/mail", "a task that fails, with a handler, between two others")
    order, fails = story.order, ("send mail", "failed")
    promise = "the tasks of a phase begin in the order in which they were scheduled"
    order("1.4", promise, [(name, "began") for name in ("count", "send mail", "index")])
    promise = "the other tasks go on, and the response is unaffected"
    order("4.1", promise, [fails, ("index", "ended")], [("count", "began"), ("count", "ended")])
    story.equal("4.1", "so the client got its 200", status(story), 200)
    logs = [note.facts["traceback"] for note in story.all("send mail", "logged ERROR")]
    story.equal("4.2", "the failure is logged once, with its traceback", logs, [True])
    handles = [("send mail", what) for what in ("logged ERROR", "handler began", "handler ended")]
    order("4.3", "then its handler is called", [fails, *handles])
    return story


def failing_request(server: Server) -> Story:
    """Let the route raise HTTPException."""
    story = ask(server, "/orders/7", "the route raises HTTPException")
    story.equal("1.6", "the client gets the 404", status(story), 404)
    promise = "a task that runs already goes on"
    story.order("1.6", promise, [("route", "ended"), ("count", "ended")])
    promise = "the tasks of the later phases do not begin, and one INFO record each says so"
    found = {
        name: (len(story.all(name, "began")), len(story.all(name, "logged INFO")))
        for name in ("reserve", "confirm")
    }
    story.equal("1.6", promise, found, {"reserve": (0, 1), "confirm": (0, 1)})
    story.order(
        "1.6",
        'tasks with run_on="failure" and run_on="always" do, after the response',
        *(
            [("response", "ended"), (name, "began"), (name, "ended")]
            for name in ("on failure", "always")
        ),
    )
    return story


def shutdown(server: Server) -> Story:
    """Stop the server while tasks are at work."""
    shielded = ["shielded, async", *(f"shielded, sync {number}" for number in (1, 2, 3))]
    waits = "shielded, sync 4"
    exchange = fetch(server, "/long")
    if not server.wait_until(
        lambda notes: who_noted(notes, "/long", {"began"}) >= {"unshielded", *shielded}
    ):
        raise DemoError("The tasks that the shutdown is to meet have not begun.")
    signalled = server.signal(signal.SIGTERM)
    ended = server.ended()
    notes = told(server, "/long", exchange)
    # The shutdown belongs to no request.
    notes += [note for note in server.notes if not note.request and note.at > signalled]
    notes.append(Note(signalled, "", "SIGTERM", "came"))
    story = Story("GET /long, then ┃ SIGTERM", sorted(notes, key=lambda note: note.at))
    order, comes = story.order, ("SIGTERM", "came")
    closes = ("lifespan", "closes resources")
    cleans_up = ("unshielded", "cleans up")
    order(
        "5.2",
        "an unshielded task is cancelled when the shutdown comes",
        [("unshielded", "began"), comes, cleans_up],
    )
    promise = "its finally block runs, and may await in a shielded scope"
    order("5.5", promise, [cleans_up, ("unshielded", "cancelled")])
    order(
        "5.2",
        "shielded tasks, async and sync, complete",
        *([(name, "began"), comes, (name, "ended")] for name in shielded),
    )
    order(
        "5.4",
        "a shielded task that still waits for a thread runs, and completes",
        [(waits, "scheduled"), comes, (waits, "began"), (waits, "ended")],
    )
    order(
        "5.1",
        "all that comes before the application closes its resources",
        *([(name, "ended"), closes] for name in (*shielded, waits)),
        [("unshielded", "cancelled"), closes],
    )
    report = [note.facts["message"] for note in story.all("runner", "logged WARNING")]
    found = [message.count("unshielded (id=") for message in report]
    story.equal("5.3", "one report names the task that did not finish", found, [1])
    order("5.2", "then the server ends", [closes, ("server", "ended")])
    story.equal("5.2", "by itself", ended, True)  # noqa: FBT003 - what is found
    return story


def other_process(server: Server) -> Story:
    """Let a worker of an engine do it, in a process of its own; ask the web what it is at."""
    exchange = fetch(server, "/tasks?kind=report", '{"month": 5}')
    task_id = json.loads(exchange.body)["task_id"]
    notes = told(server, "/tasks", exchange)
    notes.append(Note(exchange.last_byte, "/tasks", task_id, "scheduled", {"phase": "after_route"}))
    whats = {"running": "began", "succeeded": "ended", "failed": "failed"}
    deadline = time.monotonic() + GUARD
    while not {"ended", "failed"}.intersection(note.what for note in notes):
        found = json.loads(fetch(server, f"/tasks/{task_id}").body)
        what = whats.get(found["state"], "waits")
        notes.append(Note(time.monotonic_ns(), "/tasks", task_id, what, found))
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    title = f"POST /tasks → {exchange.status}   a task for Docket, and a worker's process"
    story = Story(title, notes)
    promise = "the id that was answered with is the engine's"
    story.equal("8.4", promise, (status(story), task_id.partition("-")[0]), (202, "docket"))
    promise = "by it the web tells what the worker has returned, in another process"
    story.equal("8.9", promise, notes[-1].facts["result"], {"kind": "report", "month": 5})
    return story


def status(story: Story) -> int:
    """Return the status that the client got."""
    return int(story.all("client", "last byte")[0].facts["status"])


# What a person sees.


def lanes(story: Story) -> list[Lane]:
    """Return what is drawn: the client, and all that was scheduled or began."""
    sent, first, last = (story.at("client", what) for what in ("sent", "first byte", "last byte"))
    rows = [Lane("client, first to last byte", sent, first, last, end="█", style="yellow")]
    names = dict.fromkeys(n.who for n in story.notes if n.what in {"scheduled", "began"})
    rows += [task_lane(story, name) for name in names if name != "response"]
    if closed := story.at("lifespan", "closes resources"):
        rows.append(Lane("lifespan: closes resources", began=closed, ended=closed, end="█"))
    return rows


def task_lane(story: Story, name: str) -> Lane:
    """Return the lane of a task, of the route, or of a dependency."""
    scheduled = story.all(name, "scheduled")
    ended, end = None, "✓"
    signs = {"ended": "✓", "failed": "✗", "cancelled": "◌", **dict.fromkeys(SKIPPED, "-")}
    for what, sign in signs.items():
        if (at := story.at(name, what)) is not None:
            ended, end = at, sign
    return Lane(
        name,
        story.at(name, "scheduled"),
        story.at(name, "began"),
        ended,
        end if scheduled else "█",
        story.at(name, "handler began"),
        story.at(name, "handler ended"),
        style=PHASES[scheduled[0].facts["phase"]] if scheduled else "green",
    )


def draw(console: Console, story: Story) -> None:
    """Print the timeline of a request, and the checks on it."""
    rules = {("response", "began"): "┊", ("response", "ended"): "┊", ("SIGTERM", "came"): "┃"}
    drawn = {at: sign for moment, sign in rules.items() if (at := story.at(*moment)) is not None}
    console.print(Rule(Text(story.title, style="bold"), align="left", style="dim"))
    console.print()
    console.print(Timeline(lanes(story), start=story.at("client", "sent") or 0, rules=drawn))
    console.print()
    for check in story.checks:
        promise = Text(check.promise)
        if check.fault:
            promise.append(f" ({check.fault})", style="red")
        head = Text("✗ ", "bold red") if check.fault else Text("✓ ", "green")
        head.append(check.number, "bold default").append(" ")
        for line in promise.wrap(console, console.width - len(head)):
            line.rstrip()
            console.print(head + line)
            head = Text(" " * len(head))
    console.print()


def watch(console: Console, app: str) -> int:
    """Send the requests, draw what happened, and return the exit code."""
    scenes: list[Callable[[Server], Story]] = [
        lambda server: all_phases(server, "async"),
        lambda server: all_phases(server, "sync"),
        failing_task,
        failing_request,
        shutdown,
    ]
    console.print(Text(LEGEND, style="dim"))
    checks, failed = play(console, app, scenes)
    if not failed and nearby.REDIS:
        more, failed = play(console, QUEUE, [other_process])
        checks += more
    elif not failed:
        print_lines(console, "No task for another process: there is no redis-server here.", "")
    console.print(Rule(style="dim"))
    for check in failed:
        console.print(Text(f"✗ {check.number}  {check.promise} ({check.fault})", style="red"))
    if not failed:
        console.print(Text(f"✓ {len(checks)} checks: the order is the one promised.", "bold green"))
    return 1 if failed else 0


def play(
    console: Console, app: str, scenes: Sequence[Callable[[Server], Story]]
) -> tuple[list[Check], list[Check]]:
    """Draw what happens in an application; return what was checked, and what has failed."""
    checks: list[Check] = []
    with serving(app) as server:
        try:
            for scene in scenes:
                story = scene(server)
                draw(console, story)
                checks += story.checks
            failed = [check for check in checks if check.fault]
        except (DemoError, OSError) as error:
            failed = [Check("The demo", "came to its end", str(error))]
        if failed:
            console.print(Rule("The server's log", align="left", style="dim"))
            print_lines(console, server.log_tail())
    return checks, failed


def serve(console: Console, app: str) -> int:
    """Keep the server up, and print what happens in it, until Ctrl-C."""
    began = time.monotonic_ns()

    def show(note: Note) -> None:
        at = f"{(note.at - began) / 1e9:9.4f} s"
        what = f"{note.who} {note.what} {note.facts.get('message', '')}"
        if note.what == "as the response starts":
            return
        print_lines(console, f"{at}  {note.request:<14} {what}")

    with serving(app, show=show) as server:
        try:
            server.connect().close()
            url = "http://{}:{}".format(*server.address)
            print_lines(
                console,
                f"Serving at {url}, with its documentation at {url}/docs. Try:",
                "",
                *(f"    curl -i {url}{path}" for path in PATHS),
                "",
                "Ctrl-C ends it, and shows how the tasks of /long end.",
                "",
            )
            while not server.wait_until(lambda notes: "server" in {note.who for note in notes}):
                pass
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            server.signal(signal.SIGINT)
            return 0 if server.ended() else 1
        except DemoError as error:
            print_lines(console, str(error))
        print_lines(console, server.log_tail())
        return 1


def print_lines(console: Console, *lines: str) -> None:
    """Print text as it is, however long its lines are."""
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def exit_cleanly(number: int, _frame: object) -> None:
    """Do not leave the server behind."""
    sys.exit(128 + number)


def main() -> int:
    """Read the command line, and do what it says."""
    parser = argparse.ArgumentParser(description="Watch background tasks on a real server.")
    parser.add_argument("--serve", action="store_true", help="keep the server up, to try by hand")
    parser.add_argument("--app", default="examples.demo_app:app", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    # Not a terminal: for a README, say.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 100
    if callable(reconfigure := getattr(sys.stdout, "reconfigure", None)):
        reconfigure(encoding="utf-8")
    console = Console(width=width, highlight=False)
    signal.signal(signal.SIGTERM, exit_cleanly)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    sys.setswitchinterval(1e-4)  # the client notes its bytes while another thread reads notes
    return serve(console, arguments.app) if arguments.serve else watch(console, arguments.app)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
