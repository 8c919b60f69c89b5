"""One line a signal, in columns that stay where they are, so that lines that follow later stand under the first ones."""

from datetime import UTC, datetime

from strategy_runner.cli.output import terminal_width
from strategy_runner.model.decision import Decision
from strategy_runner.model.signal import SignalBody

# below this many characters the end of a line says too little to be shown
WHY_CHARACTERS_MIN = 16
ROOMY_TERMINAL = 112


class SignalLines:
    """Fits the terminal that stdout is: without room for all, size and confidence go, and the reasons are cut short."""

    def __init__(self) -> None:
        self._width = terminal_width()
        self._roomy = self._width is None or self._width >= ROOMY_TERMINAL

    def header(self) -> str:
        return self._line("event time (UTC)", "worker", "action", "size", "price", "conf", "decision", "why")

    def line(self, decision: Decision, body: SignalBody) -> str:
        return self._line(
            moment(body.cause.event_ns) if self._roomy else moment(body.cause.event_ns)[:19],
            f"{body.client}:{body.strategy}.{body.symbol}",
            body.action,
            _number(body.size),
            _number(body.entry_price),
            "-" if body.confidence is None else f"{body.confidence:.2f}",
            decision.verdict,
            decision.reason or "; ".join(body.reasons),
        )

    def _line(
        self, time: str, worker: str, action: str, size: str, price: str, confidence: str, decision: str, why: str
    ) -> str:
        if self._roomy:
            line = f"{time:<23} {worker:<34} {action:<6} {size:>10} {price:>12} {confidence:>5} {decision:<9} "
        else:
            line = f"{time:<19} {worker:<31} {action:<6} {price:>10} {decision:<9} "
        if self._width is None:
            return line + why
        room = self._width - len(line)
        return (line + _cut(why, room)).rstrip() if room >= WHY_CHARACTERS_MIN else line.rstrip()


def moment(event_ns: int) -> str:
    """UTC to the millisecond."""
    whole_s, rest_ns = divmod(event_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(whole_s, UTC):%Y-%m-%d %H:%M:%S}.{rest_ns // 1_000_000:03d}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.10g}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."
