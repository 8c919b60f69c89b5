"""Figures as a table: for a terminal, and in Markdown between two marks of a document."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.common import Figure
from strategy_runner.errors import ConfigurationError

BEGIN, END = "<!-- figures: made by scripts/bench --write -->", "<!-- end of figures -->"
_TITLES = ("benchmark", "figure", "value", "min .. max", "unit", "reference", "min .. max", "ratio", "reference is")


def as_text(figures: Sequence[Figure]) -> str:
    """Columns aligned with spaces."""
    cells = [_TITLES, *map(_cells, figures)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_TITLES))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def as_markdown(figures: Sequence[Figure], machine: str, day: str) -> str:
    rows = [_TITLES, tuple("---" for _ in _TITLES), *map(_cells, figures)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    commands = "\n".join(dict.fromkeys(figure.command for figure in figures))
    return f"{day}; {machine}.\n\n{table}\n\nAgain, one by one:\n\n```\n{commands}\n```"


def write_into(document: Path, figures: Sequence[Figure], machine: str, day: str) -> None:
    """Replaces what stands between the marks, and keeps the figures beside the document for the next time, as JSON.

    Raises ConfigurationError if the document does not have both marks.
    """
    text = document.read_text() if document.exists() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ConfigurationError(f"{document}: expected the marks {BEGIN} and {END}, found not both")
    document.write_text(f"{before}{BEGIN}\n{as_markdown(figures, machine, day)}\n{END}{after}")
    document.with_suffix(".jsonl").write_bytes(msgspec.json.Encoder().encode_lines(figures))


def _cells(figure: Figure) -> tuple[str, ...]:
    return (
        figure.name,
        figure.figure,
        _number(figure.value),
        f"{_number(figure.min)} .. {_number(figure.max)}" if figure.runs > 1 else "",
        figure.unit,
        _number(figure.reference),
        f"{_number(figure.reference_min)} .. {_number(figure.reference_max)}" if figure.runs > 1 else "",
        _number(figure.ratio),
        figure.against,
    )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"
