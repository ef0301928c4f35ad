"""Every message of an error that the packages raise, on one page, to be read aloud.

    python tests/docs/messages.py     prints them, by module

They are found in the sources: in what is called `msg`, in what functions return that a `raise`
calls, and in the errors' own classes. What depends on the case stands in braces.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = sorted(ROOT.glob("packages/*/src/**/*.py"))


@dataclass(frozen=True)
class Message:
    """What an error says, and where."""

    module: str
    line: int
    error: str
    text: str

    def __str__(self) -> str:
        """Give it a paragraph."""
        text = fill(self.text, 96, initial_indent="    ", subsequent_indent="    ")
        return f"{self.module}:{self.line} {self.error}\n{text}\n"


def said(node: ast.expr) -> str:
    """Return what an expression says: a string as it is, all else as its source in braces."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(map(said, node.values))
    if isinstance(node, ast.FormattedValue):
        return f"{{{ast.unparse(node.value)}}}"
    return f"{{{ast.unparse(node)}}}"


def name_of(node: ast.expr | None) -> str:
    """Return the name of what is raised: of a class, or of the function that makes the error."""
    called = node.func if isinstance(node, ast.Call) else node
    return "" if called is None else ast.unparse(called)


def messages_of(path: Path) -> Iterator[Message]:
    """Find the messages of a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = sorted((it for it in ast.walk(tree) if hasattr(it, "lineno")), key=position)
    raises = [it for it in nodes if isinstance(it, ast.Raise)]
    calls = {
        name_of(call): name_of(it.exc)
        for it in raises
        for call in (ast.walk(it.exc) if it.exc else ())
        if isinstance(call, ast.Call)
    }
    for node in nodes:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "msg":
            after = [name_of(it.exc) for it in raises if it.lineno > node.lineno]
            yield Message(path.name, node.lineno, after[0] if after else "", said(node.value))
        elif isinstance(node, ast.FunctionDef) and node.name in calls:
            for it in ast.walk(node):
                if isinstance(it, ast.Return) and it.value:
                    value = it.value
                    if isinstance(value, ast.Call) and value.args:
                        value = value.args[0]
                    text = said(value)
                    if not re.fullmatch(r"{[^{}]*}", text):
                        yield Message(path.name, it.lineno, calls[node.name], text)
        elif isinstance(node, ast.ClassDef):
            yield from messages_of_class(path, node)


def position(node: ast.AST) -> tuple[int, int]:
    return getattr(node, "lineno", 0), getattr(node, "col_offset", 0)


def messages_of_class(path: Path, node: ast.ClassDef) -> Iterator[Message]:
    """Find what an error's class says itself, and the texts of an enumeration of causes."""
    bases = [ast.unparse(base) for base in node.bases]
    for it in node.body:
        if bases == ["Enum"] and isinstance(it, ast.Assign) and path.stem == "_exceptions":
            name = f"{node.name}.{ast.unparse(it.targets[0])}"
            yield Message(path.name, it.lineno, name, said(it.value))
        elif isinstance(it, ast.FunctionDef) and it.name == "__str__" and "Error" in str(bases):
            returned = [ret for ret in ast.walk(it) if isinstance(ret, ast.Return) and ret.value]
            yield from (
                Message(path.name, ret.lineno, node.name, said(ret.value))
                for ret in returned
                if ret.value
            )


def messages() -> list[Message]:
    """Return all, in the order of the sources."""
    return [message for path in SOURCES for message in messages_of(path)]


if __name__ == "__main__":
    sys.stdout.write("\n".join(map(str, messages())))
