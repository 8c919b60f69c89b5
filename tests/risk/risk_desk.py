"""A client's risk state to try things on: what is configured, and short words for what happens."""

from decimal import Decimal
from itertools import count
from typing import Any

from strategy_runner.config.schema import RiskConfig
from strategy_runner.model.fill import Fill
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import Leg, OrderChange, OrderReport, OrderRequest, OrderState, OrderType, Side
from strategy_runner.risk import events
from strategy_runner.risk.changes import change_refusal
from strategy_runner.risk.checks import check
from strategy_runner.risk.limits import Limits, limits_of
from strategy_runner.risk.state import RiskState, encode_state
from strategy_runner.risk.transition import apply

CLIENT = "ikenna"
BTC = Instrument(
    symbol="BTC-USD", asset_class="crypto", currency="USD", tick_size=Decimal("0.01"), lot_size=Decimal("0.001")
)
FUTURE = Instrument(
    symbol="DAX",
    asset_class="future",
    currency="EUR",
    tick_size=Decimal("0.5"),
    lot_size=Decimal(1),
    multiplier=Decimal(25),
)
SECOND_NS = 1_000_000_000


def limits(**given: Any) -> Limits:
    """Those of [risk] with these keys."""
    return limits_of(RiskConfig(**given), {BTC.symbol: BTC, FUTURE.symbol: FUTURE})


class Desk:
    """Keeps the log of its events, so that it can be replayed. `now_ns` stands still unless it is moved."""

    def __init__(self, *, cash: str = "100000", **given: Any) -> None:
        self.now_ns = 1_000 * SECOND_NS
        self.log: list[events.RiskEvent] = []
        self.state = RiskState(client=CLIENT, mode="mock")
        self._ids = count()
        self.take(events.Configured(at_ns=self.now_ns, limits=limits(**given), day=1, starting_cash=Decimal(cash)))

    def take(self, event: events.RiskEvent) -> None:
        self.log.append(event)
        apply(self.state, event)

    def later(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND_NS)

    def order(
        self,
        side: Side = "buy",
        quantity: str = "1",
        *,
        strategy: str = "high",
        symbol: str = "BTC-USD",
        leg: Leg = "entry",
        kind: OrderType = "market",
        limit: str | None = None,
        stop: str | None = None,
    ) -> OrderRequest:
        return OrderRequest(
            client_order_id=f"order-{next(self._ids)}",
            client=CLIENT,
            account="main",
            venue="binance",
            strategy=strategy,
            symbol=symbol,
            signal_id="signal",
            leg=leg,
            side=side,
            type=kind,
            quantity=Decimal(quantity),
            event_ns=self.now_ns,
            limit_price=None if limit is None else Decimal(limit),
            stop_price=None if stop is None else Decimal(stop),
            reduce_only=leg != "entry",
        )

    def check(self, order: OrderRequest, price: str | None = "100") -> str | None:
        return check(order, self.state, None if price is None else Decimal(price), self.now_ns)

    def send(self, order: OrderRequest, price: str = "100") -> str | None:
        """Checks, and makes it an intent if it passes."""
        refusal = self.check(order, price)
        if refusal is None:
            self.take(events.Ordered(at_ns=self.now_ns, order=order, price=Decimal(price)))
        return refusal

    def report(self, order: OrderRequest, state: OrderState, filled: str = "0") -> None:
        report = OrderReport(
            client_order_id=order.client_order_id,
            client=CLIENT,
            state=state,
            quantity=order.quantity,
            filled=Decimal(filled),
        )
        self.take(events.Reported(at_ns=self.now_ns, report=report))

    def modify(self, order: OrderRequest, price: str | None = "100", **changes: str) -> str | None:
        """Checks a change of an open order; if it passes, the OMS makes it."""
        numbers = {key: Decimal(number) for key, number in changes.items()}
        change = OrderChange(client_order_id=order.client_order_id, **numbers)
        last = None if price is None else Decimal(price)
        refusal = change_refusal(change, self.state.orders[order.client_order_id], self.state, last, self.now_ns)
        if refusal is None:
            self.take(events.Changed(at_ns=self.now_ns, change=change))
            self.take(events.Changed(at_ns=self.now_ns, change=change, is_made=True))
        return refusal

    def fill(
        self,
        side: Side,
        quantity: str,
        price: str,
        *,
        strategy: str = "high",
        symbol: str = "BTC-USD",
        fee: str = "0",
    ) -> None:
        fill = Fill(
            fill_id=f"fill-{next(self._ids)}",
            client_order_id="",
            signal_id="",
            client=CLIENT,
            account="main",
            strategy=strategy,
            symbol=symbol,
            side=side,
            price=Decimal(price),
            quantity=Decimal(quantity),
            fee=Decimal(fee),
            currency="USD",
            liquidity="taker",
            event_ns=self.now_ns,
        )
        self.take(events.Filled(at_ns=self.now_ns, fill=fill))

    def mark(self, price: str, symbol: str = "BTC-USD") -> None:
        self.take(events.Marked(at_ns=self.now_ns, symbol=symbol, price=Decimal(price)))

    def signals(self, number: int, strategy: str = "high", symbol: str = "BTC-USD") -> None:
        for _ in range(number):
            self.take(events.Signalled(at_ns=self.now_ns, strategy=strategy, symbol=symbol))

    def day(self, day: int) -> None:
        self.take(events.DayRolled(at_ns=self.now_ns, day=day))

    def stop(self, posture: events.Stop, strategy: str = "", symbol: str = "") -> None:
        self.take(
            events.Stopped(
                at_ns=self.now_ns,
                authority="operator",
                posture=posture,
                strategy=strategy,
                symbol=symbol,
                reason="by hand",
            )
        )

    def resume(self, strategy: str = "", symbol: str = "", authority: events.Authority = "operator") -> None:
        self.take(events.Resumed(at_ns=self.now_ns, authority=authority, strategy=strategy, symbol=symbol))

    def open(self) -> set[tuple[str, str, str]]:
        return {(one.breaker, one.strategy, one.symbol) for one in self.state.latches}

    def replayed(self) -> bytes:
        """What the log alone leads to."""
        state = RiskState(client=CLIENT, mode="mock")
        for event in self.log:
            apply(state, event)
        return encode_state(state)
