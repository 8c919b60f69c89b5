"""How much of each limit is used, as `risk CLIENT` shows it."""

from decimal import Decimal

from risk.risk_desk import Desk

from strategy_runner.risk.report import Use, uses


def test_each_limit_says_what_is_used_of_it_with_what_is_working_counted_as_held() -> None:
    desk = Desk(
        max_position_notional=10_000.0,
        max_position_size={"BTC-USD": 20.0},
        max_order_value=5_000.0,
        max_open_orders=4,
        max_orders_per_second=5,
        shares={"high": 0.5},
    )
    desk.fill("buy", "10", "100")
    assert desk.send(desk.order(quantity="2")) is None
    assert desk.send(desk.order(quantity="3", strategy="low")) is None
    assert uses(desk.state, desk.now_ns) == [
        Use(limit="max_position_notional", used=Decimal(1_500), allowed=Decimal(10_000)),
        Use(limit="max_position_notional", strategy="high", used=Decimal(1_200), allowed=Decimal(5_000)),
        Use(limit="max_position_size", symbol="BTC-USD", used=Decimal(15), allowed=Decimal(20)),
        Use(limit="max_order_value", allowed=Decimal(5_000)),
        Use(limit="max_open_orders", used=Decimal(2), allowed=Decimal(4)),
        Use(limit="max_orders_per_second", used=Decimal(2), allowed=Decimal(5)),
    ]
    desk.later(1.5)
    assert uses(desk.state, desk.now_ns)[-1].used == 0


def test_what_is_not_limited_is_not_shown() -> None:
    assert uses(Desk().state, 0) == []
