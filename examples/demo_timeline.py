"""Draws what happened in a request: a lane for each task, on one axis of time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

_NUMBER = 9
_NARROW = 70  # columns; below this there is no room for the numbers

LEGEND = """\
○ scheduled  · waits  █ runs  ✓ ended  ✗ failed  ▒ its handler  ◌ cancelled  - skipped
The response begins to leave the server at the first ┊ and has left it at the second.
Times are in milliseconds. The axis is stretched where much happens at once.
"""


@dataclass(frozen=True)
class Lane:
    """One row: what was scheduled, began and ended when, in nanoseconds, and how it ended."""

    name: str
    scheduled: int | None = None
    began: int | None = None
    ended: int | None = None
    end: str = "✓"
    handler_began: int | None = None
    handler_ended: int | None = None
    style: str = "cyan"

    def moments(self) -> list[int]:
        """Return all that happened."""
        every = (self.scheduled, self.began, self.ended, self.handler_began, self.handler_ended)
        return [at for at in every if at is not None]


@dataclass(frozen=True)
class Timeline:
    """Lanes on a common axis, which fits the console.

    The axis is stretched where much happens at once: whatever came later is further to the right,
    by at least a column where there is room. The numbers are milliseconds.

    Args:
        lanes: The rows.
        start: What counts as 0.
        rules: Moments that are drawn through all lanes, and with what.
    """

    lanes: Sequence[Lane]
    start: int
    rules: Mapping[int, str] = field(default_factory=dict[int, str])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw."""
        del console
        names = max(len(lane.name) for lane in self.lanes) + 2
        numbers = 3 * _NUMBER if options.max_width >= _NARROW else 0
        width = max(options.max_width - names - numbers - 2, 10)
        columns = self._columns(width)
        if numbers:
            heads = "".join(f"{head:>{_NUMBER}}" for head in ("scheduled", "began", "ended"))
            yield Text(" " * (names + width + 1) + heads, style="dim", no_wrap=True)
        for lane in self.lanes:
            row = Text(f"{lane.name:<{names}}", style=lane.style, no_wrap=True, overflow="crop")
            row.append_text(self._draw(lane, columns, width))
            if numbers:
                row.append(" ")
                for at in (lane.scheduled, lane.began, lane.ended):
                    row.append("".rjust(_NUMBER) if at is None else f"{self._ms(at):>{_NUMBER}}")
            yield row
        yield Text(" " * names + self._scale(columns, width), style="dim", no_wrap=True)

    def _ms(self, at: int) -> str:
        return f"{(at - self.start) / 1e6:.1f}"

    def _columns(self, width: int) -> dict[int, int]:
        """Give each moment a column: gaps count by their square roots, and each for something."""
        moments = {self.start, *self.rules}
        for lane in self.lanes:
            moments.update(lane.moments())
        ordered = sorted(moments)
        gaps = [sqrt(after - before) for before, after in pairwise(ordered)]
        least = min(1.0, (width - 1) / max(len(gaps), 1))
        unit = (width - 1 - least * len(gaps)) / (sum(gaps) or 1.0)
        columns, position = {ordered[0]: 0}, 0.0
        for moment, gap in zip(ordered[1:], gaps, strict=True):
            position += least + unit * gap
            columns[moment] = min(int(position + 1e-6), width - 1)
        return columns

    def _draw(self, lane: Lane, columns: dict[int, int], width: int) -> Text:
        cells = [" "] * width

        def fill(first: int | None, last: int | None, sign: str) -> None:
            if first is not None:
                last = max(moments) if last is None else last
                for column in range(columns[first], columns[last] + 1):
                    cells[column] = sign

        for rule, sign in self.rules.items():
            fill(rule, rule, sign)
        moments = lane.moments()
        fill(lane.scheduled, lane.began or lane.ended, "·")
        fill(lane.began, lane.ended, "█")
        fill(lane.handler_began, lane.handler_ended, "▒")
        fill(lane.scheduled, lane.scheduled, "○")
        fill(lane.ended, lane.ended, lane.end)
        return Text("".join(cells), style=lane.style)

    def _scale(self, columns: dict[int, int], width: int) -> str:
        scale = ""
        for moment, column in sorted(columns.items()):
            label = self._ms(moment)
            if column + len(label) <= width and (not scale or column >= len(scale) + 2):
                scale = scale.ljust(column) + label
        return scale + " ms" if len(scale) + 3 <= width else scale
