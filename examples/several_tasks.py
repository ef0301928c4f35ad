"""Run several tasks for one request side by side, and one when all of them have ended.

Sync functions run in threads of their own (promise 2.5), so the two steps do not wait for each
other. What must come last gets the handles that `schedule` returns, and waits (2.6).

    curl -X POST http://127.0.0.1:8000/texts/hello -H "Content-Type: text/plain" -d "some words"
    curl http://127.0.0.1:8000/texts/hello
"""

import hashlib
import logging
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated

import anyio
from fastapi import Body, FastAPI, HTTPException
from fastapi_tasks import Task, Tasks, add_tasks

logger = logging.getLogger(__name__)
results: defaultdict[str, dict[str, str]] = defaultdict(dict[str, str])


def count_words(name: str, file: Path) -> None:
    """Count the words of a text."""
    results[name]["words"] = str(len(file.read_text(encoding="utf-8").split()))


def make_checksum(name: str, file: Path) -> None:
    """Make a checksum of a text, which takes a moment."""
    checksum = hashlib.scrypt(file.read_bytes(), salt=b"salt", n=2**14, r=8, p=1, dklen=16)
    results[name]["checksum"] = checksum.hex()


async def clean_up(file: Path, *steps: Task) -> None:
    """Remove the file when all steps have ended, however they ended."""
    for step in steps:
        with suppress(Exception):  # the runner has logged it
            await step.wait()
    await anyio.Path(file).unlink()
    logger.info("removed %s", file)


app = FastAPI()
add_tasks(app, grace_period=10)


@app.post("/texts/{name}", status_code=202)
def process(
    name: str, text: Annotated[str, Body(media_type="text/plain")], tasks: Tasks
) -> dict[str, str]:
    """Process a text."""
    with NamedTemporaryFile("w", delete=False, encoding="utf-8") as stored:
        stored.write(text)
    file = Path(stored.name)
    words = tasks.task(name=f"words of {name}").schedule(count_words, name, file)
    checksum = tasks.task(name=f"checksum of {name}").schedule(make_checksum, name, file)
    tasks.task(name=f"clean-up of {name}", shield=True).schedule(clean_up, file, words, checksum)
    return {"status": "begun"}


@app.get("/texts/{name}")
async def get_results(name: str) -> dict[str, str]:
    """Return what was found out so far."""
    if name not in results:
        raise HTTPException(404, f"there is no text {name}")
    return results[name]
