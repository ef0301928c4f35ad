"""Start an example: `hatch run example NAME`. Without a name, list them all."""

import argparse
import ast
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import uvicorn

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # it is run as a script, from wherever

PROGRAMS: Final = {
    "notifications": "examples.notifications",
    "mail": "examples.mail.fastapi_app",
    "mail-starlette": "examples.mail.starlette_app",
    "mail-litestar": "examples.mail.litestar_app",
    "several-tasks": "examples.several_tasks",
    "orders": "examples.orders.fastapi_app",
    "orders-starlette": "examples.orders.starlette_app",
    "orders-litestar": "examples.orders.litestar_app",
    "activity-log": "examples.activity_log",
    "services": "examples.services",
    "webhooks": "examples.webhooks.fastapi_app",
    "webhooks-starlette": "examples.webhooks.starlette_app",
    "webhooks-litestar": "examples.webhooks.litestar_app",
    "webhook-receiver": "examples.webhooks.receiver",
    "periodic": "examples.periodic.fastapi_app",
    "periodic-starlette": "examples.periodic.starlette_app",
    "periodic-litestar": "examples.periodic.litestar_app",
    "failures": "examples.failures",
    "payments": "examples.payments",
    "error-tracking": "examples.error_tracking",
    "progress": "examples.progress",
    "csv-upload": "examples.csv_upload",
    "manager": "examples.manager",
    "auditor": "examples.auditor",
    "live": "examples.live",
    "video": "examples.video",
    "queue": "examples.task_queue.docket_app",
    "queue-taskiq": "examples.task_queue.taskiq_app",
}
"""The programs by name: modules with an `app`."""


def description(module: str) -> str:
    """Return a program's docstring."""
    file = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Start the program that is named, or list all."""
    parser = argparse.ArgumentParser(prog="hatch run example", description=__doc__)
    parser.add_argument("name", nargs="?", choices=PROGRAMS, metavar="NAME")
    parser.add_argument("--port", type=int, default=8000, help="8000 unless told; 0 is any")
    chosen = parser.parse_args(arguments)
    if chosen.name is None:
        for name, module in PROGRAMS.items():
            print(f"{name:20}", description(module).partition("\n")[0])
        return
    module = PROGRAMS[chosen.name]
    print(description(module), end="\n\n", flush=True)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s:     %(name)s: %(message)s")
    # Else one Ctrl-C would wait for as long as a browser listens to a stream, as it does of `live`.
    uvicorn.run(f"{module}:app", port=chosen.port, timeout_graceful_shutdown=3)


if __name__ == "__main__":
    main()
