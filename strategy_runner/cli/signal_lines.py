"""One line a signal, in columns that stay where they are, so that lines that follow later stand under the first ones."""

from datetime import UTC, datetime

import click

from strategy_runner.cli.output import plain, tell_left_out, terminal_width
from strategy_runner.model.decision import Decision
from strategy_runner.model.signal import SignalBody

# below this many characters the end of a line says too little to be shown
WHY_CHARACTERS_MIN = 16
WORKER_CHARACTERS = 34

# title and width of each column, the widths of numbers negative; the narrow ones are for terminals without room
_TIME, _WORKER, _ACTION, _DECISION = (
    ("event time (UTC)", 23),
    ("worker", WORKER_CHARACTERS),
    ("action", 6),
    ("decision", 9),
)
_SIZE, _PRICE, _CONFIDENCE = ("size", -10), ("price", -12), ("conf", -5)
_SECONDS = ("event time (UTC)", 19)
_LAYOUTS = (
    (_TIME, _WORKER, _ACTION, _SIZE, _PRICE, _CONFIDENCE, _DECISION),
    (_SECONDS, _WORKER, _ACTION, ("price", -10), _DECISION),
    (_SECONDS, _WORKER, _ACTION, _DECISION),
)
_Layout = tuple[tuple[str, int], ...]


class SignalLines:
    """Fits the terminal that stdout is: without room for all, numbers go and the reasons are cut short.

    `longest` is the length of the longest worker's name that is known to come.
    """

    def __init__(self, longest: int) -> None:
        self._width = terminal_width()
        self._worker = longest if self._width is not None else WORKER_CHARACTERS
        fitting = (layout for layout in _LAYOUTS if self._width is None or self._length(layout) <= self._width)
        self._layout: _Layout = next(fitting, _LAYOUTS[-1])

    def show_header(self) -> None:
        """With a word on what was left out."""
        head = self._line({title: title for title, _ in self._layout}, "why")
        shown = [title for title, _ in self._layout] + (["why"] if head.endswith("why") else [])
        left_out = [title for title in (*(title for title, _ in _LAYOUTS[0]), "why") if title not in shown]
        if left_out:
            tell_left_out(left_out)
        click.echo(head)

    def line(self, decision: Decision, body: SignalBody) -> str:
        return self.worded(body, decision.verdict, decision.reason)

    def worded(self, body: SignalBody, word: str, reason: str) -> str:
        """A line with another word than a router's in the column of the decision."""
        cells = {
            "event time (UTC)": moment(body.cause.event_ns),
            "worker": f"{body.client}:{body.strategy}.{body.symbol}",
            "action": body.action,
            "size": _number(body.size),
            "price": _number(body.entry_price),
            "conf": "-" if body.confidence is None else f"{body.confidence:.2f}",
            "decision": word,
        }
        return self._line(cells, reason or plain("; ".join(body.reasons)))

    def _line(self, cells: dict[str, str], why: str) -> str:
        line = ""
        for title, laid_out in self._layout:
            cell = cells[title][:19] if (title, laid_out) == _SECONDS else cells[title]
            width = self._worker if title == "worker" else laid_out
            line += f"{cell:<{width}} " if width > 0 else f"{cell:>{-width}} "
        if self._width is None:
            return line + why
        room = self._width - len(line)
        return (line + _cut(why, room)).rstrip() if room >= WHY_CHARACTERS_MIN else line.rstrip()

    def _length(self, layout: _Layout) -> int:
        return sum(self._worker + 1 if title == "worker" else abs(width) + 1 for title, width in layout) - 1


def moment(event_ns: int) -> str:
    """UTC to the millisecond."""
    whole_s, rest_ns = divmod(event_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(whole_s, UTC):%Y-%m-%d %H:%M:%S}.{rest_ns // 1_000_000:03d}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.10g}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."
