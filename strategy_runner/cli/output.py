"""How results are shown: a table for people, JSON for programs, names for pipes."""

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import click
import msgspec

from strategy_runner.cli.table import Column, Table

_T = TypeVar("_T")

STYLES: dict[str, dict[str, Any]] = {
    word: style
    for words, style in (
        (("trading", "publishing", "routing", "filling", "accepted", "ok", "equal"), {"fg": "green"}),
        (("observing", "finished"), {"fg": "cyan"}),
        (("refused", "expired", "reducing", "warning", "BACKOFF"), {"fg": "yellow"}),
        (("halted", "failed", "silent", "error", "different", "FATAL"), {"fg": "red", "bold": True}),
        (("stopped", "STOPPED"), {"dim": True}),
    )
    for word in words
}


def _option(*forms: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        "-o", "--output", type=click.Choice(forms), default=forms[0], show_default=True, help="Form of the result."
    )


output_option = _option("table", "json", "name")
nameless_output_option = _option("table", "json")


def talk(message: str) -> None:
    """A word to the person, on stderr."""
    click.echo(plain(message, keeps="\n"), err=True)


def show_json(value: Any) -> None:
    click.echo(msgspec.json.encode(value).decode())


def show_results(
    found: Sequence[_T],
    output: str,
    *,
    name: Callable[[_T], str],
    table: Callable[[Sequence[_T]], object],
    otherwise: str = "",
) -> None:
    """Results in the form that is asked for; where there are none, `otherwise` says so in place of an empty table."""
    if output == "json":
        show_json(found)
    elif output == "name":
        for one in found:
            click.echo(name(one))
    elif found or not otherwise:
        table(found)
    else:
        talk(otherwise)


def show_table(columns: Iterable[Column], rows: Iterable[Sequence[Any]]) -> None:
    """As wide as the terminal, with a word on what was left out; as wide as it needs where there is none."""
    table = Table(tuple(columns), [[_cell(value) for value in row] for row in rows])
    width = terminal_width()
    if width is not None:
        table, left_out = table.fitted(width)
        if left_out:
            tell_left_out(left_out[::-1])
    for line in table.lines(width, *((_coloured, _bold) if takes_colours() else ())):
        click.echo(line)


def tell_left_out(titles: Sequence[str]) -> None:
    """Of columns that the terminal has no room for."""
    talk(f"no room for {', '.join(titles)}: a wider terminal or -o json shows all")


def plain(text: str, *, keeps: str = "") -> str:
    """With every character written out that a terminal would obey, or that begins another line: a strategy's words, of which
    messages and tables are full, must not be able to pass for somebody else's. Those of `keeps` stay."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keeps else one.encode("unicode_escape").decode() for one in text)


def terminal_width() -> int | None:
    """Columns of the terminal that stdout is, or None if it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def takes_colours() -> bool:
    """Whether stdout is a terminal that can show them, and whoever sits there wants them."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def _cell(value: Any) -> str:
    return "-" if value is None else plain(str(value))


def _coloured(text: str) -> str:
    return click.style(text, **STYLES[text]) if text in STYLES else text


def _bold(text: str) -> str:
    return click.style(text, bold=True)


def money(amount: Decimal | None) -> str | None:
    """With two digits; an amount that rounds to nothing has no sign."""
    return None if amount is None else f"{amount:z,.2f}"


def age(seconds: float | None) -> str | None:
    """A short age: 3s, 4m, 5h, 6d."""
    if seconds is None:
        return None
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(0, seconds):.0f}s"
