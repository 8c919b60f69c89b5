"""One accepted signal as one line of QuantConnect CSV; pure. What the format cannot say is refused, never bent.

    time,signal_id,strategy,symbol,side,qty,price,value
    2026-11-20 14:30:00.123456,ikenna:swing.AAPL@9f3c/12,swing,AAPL,BUY,10,,1

LEAN splits lines at commas and knows no quoting, takes `time` as the moment the signal became known (UTC, always six
digits), drops rows that go back in time and, live, rows of a time it has already seen: so times strictly increase.
"""

import math
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal as ExactNumber

import msgspec

from strategy_runner.model.decision import Decision
from strategy_runner.model.names import SYMBOL_PATTERN
from strategy_runner.model.signal import ORDERING, SignalBody
from strategy_runner.sinks.received_body import BodyRefused

HEADER = b"time,signal_id,strategy,symbol,side,qty,price,value\n"

_SIDES = {"buy": "BUY", "sell": "SELL"}
_CLOSING_SIDES = {"closes:long": "SELL", "closes:short": "BUY"}
_SYMBOL = re.compile(SYMBOL_PATTERN)
_UNSAFE = re.compile(r'[,"\x00-\x1f\x7f\x85\u2028\u2029]')
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EVENT_NS_MAX = 2**63 - 1


class CsvRow(msgspec.Struct, frozen=True):
    """A line without its time: `earliest_us` (since 1970, UTC) may be moved up to keep the file's times increasing."""

    symbol: str
    earliest_us: int
    rest: str

    def line(self, time_us: int) -> str:
        assert time_us >= self.earliest_us
        return f"{_time_text(time_us)},{self.rest}\n"


def csv_row(decision: Decision, body: SignalBody) -> CsvRow:
    """The row of an accepted signal. Raises BodyRefused if the format cannot hold it."""
    if not 0 <= body.cause.event_ns <= _EVENT_NS_MAX:
        raise BodyRefused(f"cause.event_ns: expected nanoseconds from 1970 to 2262, found {body.cause.event_ns}")
    if not _SYMBOL.fullmatch(body.symbol):
        raise BodyRefused(f"symbol: expected {SYMBOL_PATTERN}, found {body.symbol!r}")
    if body.size is None or not (math.isfinite(body.size) and body.size > 0):
        raise BodyRefused(f"size: expected a number > 0, found {body.size!r}")
    side = _side(body)
    fields = [
        _plain("signal_id", decision.signal_id),
        _plain("strategy", body.strategy),
        body.symbol,
        side,
        _quantity(decision, body.size),
        "",  # a limit price: every signal is a market order
        _value(side, body.strength),
    ]
    return CsvRow(body.symbol, body.cause.event_ns // 1_000, ",".join(fields))


def goes_to_market(body: SignalBody) -> bool:
    """A row is a market order; what waits for a price, or changes an order, has none."""
    terms = body.terms
    waits = terms is not None and (
        terms.limit_price is not None
        or terms.stop_price is not None
        or (terms.trail is not None and body.action == "close")
    )
    return body.action in ORDERING and not waits


def file_name(symbol: str) -> str:
    """An Object Store key may hold one dot, the one before `csv`."""
    return f"{symbol.replace('.', '_')}.csv"


def shortest(number: float) -> str:
    """The shortest digits that read back as the same float, without exponent: 10, 0.1, 0.00000015."""
    return format(ExactNumber(repr(number)), "f").removesuffix(".0")


def _quantity(decision: Decision, size: float) -> str:
    """What was checked and is sent to an OMS too, where there is one: sized, netted, or no more than is held. Else what was let
    through."""
    if decision.orders:
        return format(decision.orders[0].quantity.normalize(), "f")
    return shortest(size if decision.size is None else decision.size)


def _side(body: SignalBody) -> str:
    if body.action != "close":
        return _SIDES[body.action]
    last = body.reasons[-1] if body.reasons else ""
    if last not in _CLOSING_SIDES:
        raise BodyRefused(f"reasons: expected closes:long or closes:short at the end of a close, found {last!r}")
    return _CLOSING_SIDES[last]


def _value(side: str, strength: float | None) -> str:
    """LEAN's `Value`, by which code may divide: signed by side, 1 unless a strength says otherwise, never 0."""
    sign = "" if side == "BUY" else "-"
    return f"{sign}{shortest(abs(strength or 1.0))}"


def _plain(field: str, text: str) -> str:
    if not text or _UNSAFE.search(text):
        raise BodyRefused(f"{field}: expected text without comma, quote or control character, found {text!r}")
    return text


def _time_text(time_us: int) -> str:
    moment = _EPOCH + timedelta(microseconds=time_us)
    return moment.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
