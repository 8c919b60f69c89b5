"""risk: what it costs to judge an order and to take an event in, beside writing the canonical bytes of the signal behind it; and
whether that grows with what a client holds.
"""

import time
from collections.abc import Callable, Iterator
from decimal import Decimal

import msgspec

from benchmarks.common import Figure, Sample, Settings, figure
from strategy_runner.config.schema import RiskConfig
from strategy_runner.model.fill import Fill
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import OrderReport, OrderRequest, OrderState
from strategy_runner.model.signal import Cause, SignalBody, canonical
from strategy_runner.risk import events
from strategy_runner.risk.checks import check
from strategy_runner.risk.limits import limits_of
from strategy_runner.risk.state import RiskState
from strategy_runner.risk.transition import apply

NAME = "risk"
_FEW = (2, 2, 4)  # strategies, symbols, working orders
_MANY = (6, 50, 600)
_ROUNDS_OF = 10
_PRICE = Decimal(100)
_RISK = RiskConfig(
    max_position_notional=1e9,
    max_position_size={f"S{number}-USD": 1e6 for number in range(_MANY[1])},
    max_order_value=1e6,
    max_daily_loss=1e6,
    max_drawdown=0.5,
    max_losing_trades=10,
    max_orders_per_second=100_000,
    max_orders_per_minute=100_000,
    max_open_orders=1_000,
    price_collar=0.05,
    duplicate_window_s=1.0,
    runaway_signals=1_000,
    runaway_window_s=1.0,
    shares={"strategy_1": 0.5},
)


def run(settings: Settings) -> Iterator[Figure]:
    rounds = max(1, settings.events // _ROUNDS_OF)
    few, many = [], []
    for _ in range(settings.runs):
        few.append(_measure(rounds, *_FEW))
        many.append(_measure(rounds, *_MANY))
    encode = Sample.of(one["canonical"] for one in many)
    sizes = "{} positions, {} working orders"
    held = sizes.format(_MANY[0] * _MANY[1], _MANY[2])
    for name, what in _WHAT.items():
        ours = Sample.of(one[name] for one in many)
        yield figure(settings, NAME, f"{what}, {held}", "us", ours, encode, "canonical bytes of a signal")
    fewer = sizes.format(_FEW[0] * _FEW[1], _FEW[2])
    for name in ("entry", "life"):
        ours, before = Sample.of(one[name] for one in many), Sample.of(one[name] for one in few)
        yield figure(settings, NAME, f"{_WHAT[name]}, {held}, beside fewer", "us", ours, before, fewer)


_WHAT = {
    "entry": "check of an entry",
    "exit": "check of an exit",
    "signal": "counting a signal for the runaway breaker",
    "mark": "a new price: equity and all breakers",
    "life": "an order taken in, filled and over",
}


def _measure(rounds: int, strategies: int, symbols: int, working: int) -> dict[str, float]:
    """Microseconds of each thing in a state of this size."""
    state = _state(strategies, symbols, working)
    entry = _order(0, 0, "fresh", reduce_only=False)
    leaving = _order(0, 0, "leaving", reduce_only=True)
    assert check(entry, state, _PRICE, 10) is None
    assert check(leaving, state, _PRICE, 10) is None
    signal = events.Signalled(at_ns=10, strategy="strategy_0", symbol="S0-USD")
    mark = events.Marked(at_ns=10, symbol="S0-USD", price=_PRICE)
    report = OrderReport(client_order_id="fresh", client="bench", state=OrderState.FILLED, quantity=entry.quantity)
    life = (
        events.Ordered(at_ns=10, order=entry, price=_PRICE),
        events.Filled(at_ns=10, fill=_fill(0, 0)),
        events.Reported(at_ns=10, report=report),
    )
    body = _body()

    def live() -> None:
        for event in life:
            apply(state, event)

    calls: dict[str, Callable[[], object]] = {
        "entry": lambda: check(entry, state, _PRICE, 10),
        "exit": lambda: check(leaving, state, _PRICE, 10),
        "signal": lambda: apply(state, signal),
        "mark": lambda: apply(state, mark),
        "life": live,
        "canonical": lambda: canonical(body),
    }
    for call in calls.values():
        _us_each(rounds // 10 + 1, call)
    state.recent.clear()  # a life before would be its duplicate
    return {name: _us_each(rounds, call) for name, call in calls.items()}


def _state(strategies: int, symbols: int, working: int) -> RiskState:
    instruments = {
        symbol: Instrument(
            symbol=symbol,
            asset_class="crypto",
            currency="USD",
            tick_size=Decimal("0.01"),
            lot_size=Decimal("0.001"),
        )
        for symbol in _RISK.max_position_size
    }
    state = RiskState(client="bench", mode="mock")
    limits = limits_of(_RISK, instruments)
    apply(state, events.Configured(at_ns=0, limits=limits, day=1, starting_cash=Decimal(1_000_000)))
    for strategy in range(strategies):
        for symbol in range(symbols):
            apply(state, events.Filled(at_ns=1, fill=_fill(strategy, symbol)))
    for number in range(working):
        order = _order(number % strategies, number // strategies % symbols, f"working-{number}", reduce_only=False)
        apply(state, events.Ordered(at_ns=2, order=order, price=_PRICE + number))
    state.recent.clear()  # they would be its duplicates
    return state


def _order(strategy: int, symbol: int, order_id: str, *, reduce_only: bool) -> OrderRequest:
    return OrderRequest(
        client_order_id=order_id,
        client="bench",
        account="main",
        venue="venue",
        strategy=f"strategy_{strategy}",
        symbol=f"S{symbol}-USD",
        signal_id="",
        leg="exit" if reduce_only else "entry",
        side="sell" if reduce_only else "buy",
        type="limit",
        quantity=Decimal("1.234"),
        limit_price=Decimal("100.01"),
        event_ns=10,
        reduce_only=reduce_only,
    )


def _fill(strategy: int, symbol: int) -> Fill:
    return Fill(
        fill_id=f"{strategy}-{symbol}",
        client_order_id="",
        signal_id="",
        client="bench",
        account="main",
        strategy=f"strategy_{strategy}",
        symbol=f"S{symbol}-USD",
        side="buy",
        price=_PRICE,
        quantity=Decimal("2.5"),
        fee=Decimal("0.25"),
        currency="USD",
        liquidity="taker",
        event_ns=1,
    )


def _body() -> SignalBody:
    cause = Cause(stream="S0-USD/trade", ordinal=123_456, event_ns=10, values=(100.0, 1.0, 1.0))
    missing = {field.name: None for field in msgspec.structs.fields(SignalBody) if field.required}
    text = {name: name for name in ("id", "client", "strategy", "symbol", "venue", "timeframe", "strategy_type")}
    given = {"action": "buy", "size": 1.234, "entry_price": 100.01, "models": (), "cause": cause, "reasons": ("above",)}
    return msgspec.convert({**missing, **text, **given}, SignalBody)


def _us_each(rounds: int, call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    for _ in range(rounds):
        call()
    return (time.perf_counter() - begun) / rounds * 1e6
