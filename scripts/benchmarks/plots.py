"""Plots of what was measured: small SVG files for a document, drawn from the same figures as its table.

matplotlib draws them; the extra `bench` installs it, and nothing else needs it.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.common import Figure
from strategy_runner.errors import UsageError

_INCHES = (6.4, 3.6)
_OURS = "Strategy Runner"

Points = list[tuple[float, float]]


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """One drawing: values of one benchmark over what they were measured `at`, beside their references.

    Of its figures those whose titles begin with one of `titles`, each a line of its own; no titles are all, and one line.
    """

    file: str
    name: str
    titles: tuple[str, ...]
    across: str
    up: str


_PLOTS = (
    Plot(file="fan_out.svg", name="fan-out", titles=(), across="workers", up="events/s"),
    Plot(
        file="lag.svg",
        name="fleet",
        titles=("mean lag reported", "p99 lag reported", "mean wait of a record"),
        across="events/s",
        up="ms",
    ),
    Plot(file="memory.svg", name="density", titles=("PSS per worker",), across="workers", up="MB per worker"),
)


def check_plotting() -> None:
    """Raises UsageError without matplotlib: better before minutes of measuring than after them."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"--plots: expected matplotlib, found {error}; pip install 'strategy-runner[bench]'"
        ) from error


def write_plots(folder: Path, figures: Sequence[Figure]) -> list[Path]:
    """Those for which there are figures; the others stay as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for plot in _PLOTS:
        lines = lines_of(plot, figures)
        if lines:
            written.append(folder / plot.file)
            _draw(plot, lines, written[-1])
    return written


def lines_of(plot: Plot, figures: Sequence[Figure]) -> dict[str, Points]:
    """(where it was measured, value) in order, by what the legend calls the line."""
    lines: dict[str, set[tuple[float, float]]] = defaultdict(set)
    for one in figures:
        title = next((title for title in plot.titles or ("",) if one.figure.startswith(title)), None)
        if one.name != plot.name or one.at is None or title is None:
            continue
        lines[title if len(plot.titles) > 1 else _OURS].add((one.at, one.value))
        if one.reference is not None:
            lines[one.against].add((one.at, one.reference))
    return {name: sorted(points) for name, points in lines.items()}


def _draw(plot: Plot, lines: dict[str, Points], path: Path) -> None:
    from matplotlib.figure import Figure as Drawing
    from matplotlib.ticker import LogFormatter, StrMethodFormatter

    drawing = Drawing(figsize=_INCHES, layout="constrained")
    axes = drawing.add_subplot(xlabel=plot.across, ylabel=plot.up, xscale="log", yscale="log")
    for name, points in lines.items():
        axes.plot([at for at, _ in points], [value for _, value in points], marker="o", label=name)
    measured = sorted({at for points in lines.values() for at, _ in points})
    axes.set_xticks(measured, [f"{at:,.0f}" for at in measured])
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
    axes.yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(1.5, 0.5)))
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small")
    drawing.savefig(path, metadata={"Date": None})  # the same figures make the same file
