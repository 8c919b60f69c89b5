"""A client's limits, exact: what [risk] says, with the instruments, in the numbers that the checks compare.

Limits are part of the risk state and change by an event of their own, so that a replay judges every moment by the limits of
that moment.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Literal

import msgspec

from strategy_runner.config.schema import RiskConfig
from strategy_runner.model.instrument import Instrument, decimal_of

Aggregation = Literal["all", "priority", "net", "vote", "confidence"]
ONE = Decimal(1)
EXIT_RATE_FACTOR = 10
_SECOND_NS = 1_000_000_000


class Rate(msgspec.Struct, frozen=True):
    """At most `count` within any `span_ns`."""

    count: int
    span_ns: int

    def times(self, factor: int) -> "Rate":
        return Rate(self.count * factor, self.span_ns)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """See RiskConfig for the meanings. None is no limit. Money in `currency`, losses and sizes positive."""

    currency: str
    instruments: dict[str, Instrument]
    max_position_notional: Decimal | None = None
    max_position_size: dict[str, Decimal] = {}
    max_order_value: Decimal | None = None
    max_daily_loss: Decimal | None = None
    max_drawdown: Decimal | None = None
    max_losing_trades: int | None = None
    order_rates: tuple[tuple[str, Rate], ...] = ()
    max_open_orders: int | None = None
    price_collar: Decimal | None = None
    duplicate_window_ns: int | None = None
    runaway: Rate | None = None
    rejects: Rate | None = None
    cooldown_ns: int = 0
    allow_symbols: frozenset[str] = frozenset()
    deny_symbols: frozenset[str] = frozenset()
    shares: dict[str, Decimal] = {}

    def share(self, strategy: str) -> Decimal:
        return self.shares.get(strategy, ONE)


def limits_of(risk: RiskConfig, instruments: Mapping[str, Instrument]) -> Limits:
    """`instruments` as config/instruments.py makes them."""
    rates = (("second", risk.max_orders_per_second, 1), ("minute", risk.max_orders_per_minute, 60))
    return Limits(
        currency=risk.currency,
        instruments=dict(instruments),
        max_position_notional=_exact(risk.max_position_notional),
        max_position_size={symbol: decimal_of(size) for symbol, size in risk.max_position_size.items()},
        max_order_value=_exact(risk.max_order_value),
        max_daily_loss=_exact(risk.max_daily_loss),
        max_drawdown=_exact(risk.max_drawdown),
        max_losing_trades=risk.max_losing_trades,
        order_rates=tuple((per, rate_of(limit, seconds)) for per, limit, seconds in rates if limit is not None),
        max_open_orders=risk.max_open_orders,
        price_collar=_exact(risk.price_collar),
        duplicate_window_ns=None if risk.duplicate_window_s is None else _ns(risk.duplicate_window_s),
        runaway=_within(risk.runaway_signals, risk.runaway_window_s),
        rejects=_within(risk.max_rejects, risk.rejects_window_s),
        cooldown_ns=_ns(risk.cooldown_s or 0.0),
        allow_symbols=frozenset(risk.allow_symbols),
        deny_symbols=frozenset(risk.deny_symbols),
        shares={strategy: decimal_of(share) for strategy, share in risk.shares.items()},
    )


def rate_of(limit: float, seconds: int) -> Rate:
    """`limit` in so many seconds as whole orders in a span: 5 a second are 5 in 1 s, 0.5 are 1 in 2 s, 2.5 are 2 in 0.8 s."""
    count = max(1, int(limit))
    return Rate(count, -int(-count * seconds * _SECOND_NS // limit))


def _within(count: int | None, window_s: float | None) -> Rate | None:
    return None if count is None or window_s is None else Rate(count, _ns(window_s))


def _exact(number: float | None) -> Decimal | None:
    return None if number is None else decimal_of(number)


def _ns(seconds: float) -> int:
    return round(seconds * _SECOND_NS)
