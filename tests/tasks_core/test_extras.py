"""What needs more than anyio: where that is not installed, the error says what to install."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest

EXTRAS = [
    ("carriers.celery", "celery", "celery"),
    ("carriers.docket", "docket", "docket"),
    ("carriers.taskiq", "taskiq", "taskiq"),
    ("opentelemetry", "opentelemetry", "opentelemetry"),
]


@pytest.mark.parametrize(("name", "missing", "extra"), EXTRAS)
def test_a_module_whose_extra_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, name: str, missing: str, extra: str
) -> None:
    """6.2: Importing it raises Python's own error, which names what is missing and the extra."""
    module = f"tasks_core.{name}"
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    said = rf'^{module} needs {missing}: pip install "tasks-core\[{extra}\]"$'
    with pytest.raises(ModuleNotFoundError, match=said) as raised:
        import_module(module)
    assert raised.value.name == missing


def test_what_else_is_missing_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that is there, and lacks something itself, says so."""
    pytest.importorskip("celery")
    monkeypatch.delitem(sys.modules, "tasks_core.carriers.celery", raising=False)
    monkeypatch.setitem(sys.modules, "kombu.serialization", None)
    with pytest.raises(ModuleNotFoundError, match="kombu") as raised:
        import_module("tasks_core.carriers.celery")
    assert raised.value.name == "kombu.serialization"
    assert "tasks-core[" not in str(raised.value)
