"""The reference names all that users may import."""

from __future__ import annotations

import re
from types import ModuleType

import fastapi_tasks
import litestar_tasks
import pytest
import starlette_tasks
import tasks_core
import tasks_core.asgi
import tasks_core.opentelemetry
import tasks_core.page
import tasks_core.testing
from tasks_core import RunnerSettings, TaskSettings

from tests.docs.programs import ROOT

PAGE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
ASGI_TYPES = {"ASGIApp", "Message", "Receive", "Scope", "Send"}


@pytest.mark.parametrize(
    "module",
    [
        fastapi_tasks,
        litestar_tasks,
        starlette_tasks,
        tasks_core,
        tasks_core.asgi,
        tasks_core.opentelemetry,
        tasks_core.page,
        tasks_core.testing,
    ],
    ids=lambda module: module.__name__,
)
def test_names(module: ModuleType) -> None:
    """Every public name of a package is in the reference, but for ASGI's own types."""
    words = set(re.findall(r"\w+", PAGE))
    assert set(module.__all__) - words - ASGI_TYPES == set()


CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_settings() -> None:
    """The page on settings has each of a task's in its table, and each of a runner's thrice."""
    rows = re.findall(r"^\| `(\w+)` \|", CONFIGURATION, re.MULTILINE)
    assert sorted(rows) == sorted(TaskSettings.__annotations__)
    calls = re.findall(r"(?:add_tasks|TasksPlugin)\(\n(.*?)\n    \)", CONFIGURATION, re.DOTALL)
    complete = [
        call
        for call in calls
        if set(re.findall(r"^        (\w+)=", call, re.MULTILINE))
        == RunnerSettings.__annotations__.keys()
    ]
    assert len(complete) == 3
