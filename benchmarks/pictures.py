"""The pictures for the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import core, http, request
from benchmarks.http_client import P99
from benchmarks.measuring import Measured
from benchmarks.ways import BARE, CORE, EARLIER, GROUP, SHIELDED

OURS_COLOUR, OTHER_COLOUR = "#1f6feb", "#9aa4b2"


def draw(folder: Path, results: Mapping[str, Measured]) -> list[Path]:
    """Draw what was measured; return the files.

    Raises:
        ImportError: Matplotlib is not installed.
    """
    import matplotlib as mpl  # noqa: PLC0415 - may be missing

    mpl.use("svg")
    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[Path] = []
    for suite, name, make in (
        ("core", "task.svg", _task),
        ("request", "request.svg", _request),
        ("http", "latency.svg", _latency),
    ):
        if suite in results and results[suite].processes:
            figure = make(results[suite])
            figure.tight_layout()
            figure.savefig(folder / name)
            drawn.append(folder / name)
    return drawn


def _axes(title: str, unit: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # noqa: PLC0415 - may be missing

    figure = Figure(figsize=(8, 4))
    axes: Any = figure.subplots()
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(b=False)
    return figure, (axes, unit)


def _bars(axes: Any, names: Sequence[str], values: Sequence[float], ours: Sequence[str]) -> None:  # noqa: ANN401 - matplotlib
    colours = [OURS_COLOUR if name in ours else OTHER_COLOUR for name in names]
    bars = axes.barh(list(names), list(values), color=colours)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.invert_yaxis()


def _task(measured: Measured) -> Any:  # noqa: ANN401 - matplotlib
    names = [
        name
        for name in (
            BARE,
            "aiojobs spawn",
            "Quart add_background_task",
            CORE,
            SHIELDED,
            GROUP,
            EARLIER,
        )
        if f"{name}, {core.AT_ONCE}" in measured.variants()
    ]
    figure, (axes, _) = _axes("Schedule and run one no-op task", "")
    values = [measured.median(f"{name}, {core.AT_ONCE}") for name in names]
    _bars(axes, names, values, (CORE, SHIELDED))
    axes.set_xlabel("μs of CPU a task (median), a thousand at once")
    return figure


def _request(measured: Measured) -> Any:  # noqa: ANN401 - matplotlib
    figure, (axes, _) = _axes("A FastAPI request with background tasks", "")
    for name in (
        "FastAPI BackgroundTasks",
        request.BY_TASKS,
        "FastAPI asgi-background",
        f"{EARLIER} after_response",
    ):
        labels = [request.label(name, count, request.ONE_BY_ONE) for count in request.COUNTS]
        if labels[0] in measured.variants():
            axes.plot(
                request.COUNTS,
                [measured.median(label) for label in labels],
                marker="o",
                label=name,
                linewidth=2.5 if name.startswith("fastapi_tasks") else 1.2,
            )
    axes.axhline(
        measured.median(request.label("FastAPI plain", 0, request.ONE_BY_ONE)),
        color=OTHER_COLOUR,
        linestyle=":",
        label="no tasks",
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(request.COUNTS, [str(count) for count in request.COUNTS])
    axes.set_xlabel("tasks a request")
    axes.set_ylabel("μs of CPU a request (median)")
    axes.legend(frameon=False)
    return figure


def _latency(measured: Measured) -> Any:  # noqa: ANN401 - matplotlib
    figure, (axes, _) = _axes("Answers while slow tasks run in the background", "")
    names = [
        name
        for name in ("FastAPI BackgroundTasks", request.BY_TASKS)
        if f"{name}, {next(iter(http.CASES))}, {P99}" in measured.variants()
    ]
    height = 0.8 / len(names)
    for index, name in enumerate(names):
        places = [number + index * height for number in range(len(http.CASES))]
        values = [measured.median(f"{name}, {case}, {P99}") for case in http.CASES]
        bars = axes.barh(places, values, height * 0.9, label=name)
        axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_yticks(
        [number + 0.4 - height / 2 for number in range(len(http.CASES))], list(http.CASES)
    )
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("p99 in ms (median of rounds)")
    axes.legend(frameon=False)
    return figure
