"""The picture of the demo's first timeline, made of the text that the demo has printed.

python tests/docs/pictures.py     writes docs/images/timeline.svg from docs/demo.md
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "demo.md"
PICTURE: Final = ROOT / "docs" / "images" / "timeline.svg"

_COLUMN: Final = 10.0
_LANE: Final = 34
_LEFT: Final = 18
_TOP: Final = 40

_STYLE: Final = """\
  <style>
    .card { fill: #fff; stroke: #d4d4d8 }
    text { font: 13px ui-sans-serif, system-ui, "DejaVu Sans", sans-serif; fill: #27272a }
    .quiet { fill: #63636c }
    .over { paint-order: stroke; stroke: #fff; stroke-width: 4px; stroke-linejoin: round }
    .rule, .waits { stroke: #a1a1aa; stroke-dasharray: 2 4 }
    .request { fill: #a1a1aa }
    .now { fill: #0d9488 } .route { fill: #7c3aed } .response { fill: #2563eb }
    @media (prefers-color-scheme: dark) {
      .card { fill: #18181b; stroke: #3f3f46 }
      text { fill: #e4e4e7 }
      .quiet { fill: #a1a1aa }
      .over { stroke: #18181b }
      .rule, .waits { stroke: #71717a }
      .request { fill: #71717a }
      .now { fill: #2dd4bf } .route { fill: #a78bfa } .response { fill: #60a5fa }
    }
  </style>"""

_COLOURS: Final = {"now": "now", "after route": "route", "after response": "response"}


def first(row: str) -> int:
    """Return the column in which a drawing begins."""
    return min(row.index(sign) for sign in "○█" if sign in row)


def lanes(page: str) -> list[tuple[str, str, list[str]]]:
    """Return name, drawing and milliseconds of each lane of the first timeline."""
    (block,) = re.findall(r"^GET [^\n]*\n\n(.*?)\n\n", page, re.DOTALL | re.MULTILINE)[:1]
    head, *rows, _ = block.splitlines()
    numbers = head.index("scheduled")
    left = min(map(first, rows))
    return [(row[:left].strip(), row[left:numbers], row[numbers:].split()) for row in rows]


def draw(page: str) -> Iterator[str]:
    """Draw the first timeline of the demo's page, line by line."""
    rows = lanes(page)
    width = int(2 * _LEFT + _COLUMN * max(len(drawing) for _, drawing, _ in rows))
    height = _TOP + _LANE * len(rows) + 16
    size = f'viewBox="0 0 {width} {height}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title">'
    yield '  <title id="title">When each task of a request was scheduled, began and ended</title>'
    yield _STYLE
    size = f'width="{width - 1}" height="{height - 1}"'
    yield f'  <rect class="card" x=".5" y=".5" {size} rx="10"/>'
    rules = sorted({at for _, drawing, _ in rows for at, sign in enumerate(drawing) if sign == "┊"})
    labels = (("first byte", "end", -4), ("last byte", "start", 4))
    for column, (label, anchor, shift) in zip(rules, labels, strict=True):
        x = _LEFT + _COLUMN * (column + 0.5)
        yield f'  <path class="rule" d="M{x} 14V{height - 14}"/>'
        yield f'  <text class="quiet" x="{x + shift}" y="24" text-anchor="{anchor}">{label}</text>'
    for index, (name, drawing, times) in enumerate(rows):
        y = _TOP + _LANE * index
        colour = _COLOURS.get(name.partition(",")[0], "request")
        column = 0
        for sign, group in groupby(drawing.replace("┊", " ")):
            x, span = _LEFT + _COLUMN * column, _COLUMN * len(list(group))
            column += round(span / _COLUMN)
            if sign == "█":
                at = f'x="{x}" y="{y + 14}"'
                yield f'  <rect class="{colour}" {at} width="{span}" height="9" rx="3"/>'
            elif sign == "·":
                yield f'  <path class="waits" d="M{x} {y + 18.5}H{x + span}"/>'
            elif sign == "○":
                yield f'  <circle class="{colour}" cx="{x + _COLUMN / 2}" cy="{y + 18.5}" r="3.5"/>'
        x = _LEFT + _COLUMN * first(drawing)
        told = f'{escape(name)} <tspan class="quiet">{" to ".join(times[-2:])} ms</tspan>'
        yield f'  <text class="over" x="{x}" y="{y + 9}">{told}</text>'
    yield "</svg>"


def picture() -> str:
    """Return the picture of the page as it is."""
    return "\n".join([*draw(PAGE.read_text(encoding="utf-8")), ""])


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
