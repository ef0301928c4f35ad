"""Whoever reads the messages of errors reads them all."""

from __future__ import annotations

import ast
import re

from tests.docs.messages import SOURCES, messages, name_of

BUILT_IN = {"TypeError", "ValueError", "RuntimeError", "ImportError"}


def test_all_are_found() -> None:
    """There is a text for each `raise` of a built-in error, and for each class of the packages'."""
    found = messages()
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        raises = [it for it in ast.walk(tree) if isinstance(it, ast.Raise)]
        raised = sum(name_of(it.exc) in BUILT_IN for it in raises)
        told = sum(it.module == path.name and it.error in BUILT_IN for it in found)
        assert told >= raised, path.name
    said = {it.error for it in found}
    errors = next(path for path in SOURCES if path.stem == "_exceptions")
    classes = re.findall(r"^class (\w+)\(Tasks?\w*Error", errors.read_text(), re.MULTILINE)
    assert set(classes) <= said


def test_all_say_something() -> None:
    """None is empty, none has a gap."""
    for message in messages():
        assert len(message.text) > 10, message
        assert not re.search(r"  | $", message.text), message
