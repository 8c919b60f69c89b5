"""How results are shown: a table for people, JSON for programs, names for pipes."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

STYLES = {
    "trading": "green",
    "publishing": "green",
    "routing": "green",
    "finished": "cyan",
    "accepted": "green",
    "refused": "yellow",
    "expired": "yellow",
    "failed": "bold red",
    "silent": "bold red",
    "FATAL": "bold red",
    "BACKOFF": "yellow",
    "stopped": "dim",
    "STOPPED": "dim",
}

output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "name"]),
    default="table",
    show_default=True,
    help="Form of the result.",
)


def console() -> Console:
    """stdout. Honours NO_COLOR; not a terminal: no colours, and as wide as it needs."""
    return Console(width=None if sys.stdout.isatty() else 240, highlight=False)


def talk(message: str) -> None:
    """A word to the person, on stderr."""
    click.echo(message, err=True)


def show_json(value: Any) -> None:
    click.echo(msgspec.json.encode(value).decode())


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Iterable[str] = ()) -> None:
    """`right` names the columns of numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    numbers = set(right)
    for column in columns:
        table.add_column(
            column, justify="right" if column in numbers else "left", no_wrap=column not in ("reason", "last error")
        )
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console().print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    text = str(value)
    style = STYLES.get(text)
    escaped = text.replace("[", "\\[")
    return f"[{style}]{escaped}[/]" if style else escaped


def age(seconds: float | None) -> str | None:
    """A short age: 3s, 4m, 5h, 6d."""
    if seconds is None:
        return None
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"
