"""From a signal to orders: what a strategy may say of how they are placed, and of those that it had made before."""

from typing import Any

import msgspec
import pytest
from oms.paper_build import D, X
from router.desk import body_of
from worker.build import START_NS

from strategy_runner.model.order import OrderChange, OrderRequest, client_order_id
from strategy_runner.model.signal import OrderTerms, SignalBody, canonical, decode_body
from strategy_runner.oms.order_making import as_exit, cancelled_by, changes_of, day_end_ns, orders_of

HOUR = 3_600_000_000_000


def orders(**changes: Any) -> list[OrderRequest]:
    return orders_of(signal(**changes), account="main", instrument=X)


def signal(**changes: Any) -> SignalBody:
    body = body_of("talk.X", 3, size=2.0, **changes)
    assert decode_body(canonical(body)) == body
    return body


def words(order: OrderRequest) -> tuple[Any, ...]:
    return order.leg, order.side, order.type, order.limit_price, order.stop_price, order.trail, order.time_in_force


@pytest.mark.parametrize(
    ("terms", "placed"),
    [
        (None, ("entry", "buy", "market", None, None, None, "gtc")),
        (OrderTerms(limit_price=99.996), ("entry", "buy", "limit", D("100"), None, None, "gtc")),
        (OrderTerms(stop_price=101.0), ("entry", "buy", "stop", None, D("101"), None, "gtc")),
        (
            OrderTerms(stop_price=101.0, limit_price=102.0),
            ("entry", "buy", "stop_limit", D("102"), D("101"), None, "gtc"),
        ),
        (OrderTerms(time_in_force="ioc", limit_price=99.0), ("entry", "buy", "limit", D("99"), None, None, "ioc")),
    ],
)
def test_an_entry_is_placed_by_its_terms(terms: OrderTerms | None, placed: tuple[Any, ...]) -> None:
    (entry,) = orders(terms=terms)
    assert words(entry) == placed


def test_a_trail_is_the_distance_at_which_the_stop_loss_of_an_entry_follows() -> None:
    entry, stop = orders(terms=OrderTerms(trail=1.5), stop_loss=98.5)
    assert words(entry) == ("entry", "buy", "market", None, None, None, "gtc")
    assert words(stop) == ("stop_loss", "sell", "stop", None, D("98.5"), D("1.5"), "gtc")
    assert stop.bracket == entry.client_order_id


def test_a_close_that_trails_is_a_stop_that_follows_and_only_reduces() -> None:
    (leave,) = orders(action="close", reasons=("enough", "closes:long"), terms=OrderTerms(trail=2.0))
    assert words(leave) == ("exit", "sell", "stop", None, D("98"), D("2"), "gtc")
    assert leave.reduce_only


def test_a_sale_of_what_is_held_goes_to_the_market_whatever_stop_loss_it_brings() -> None:
    sale = signal(action="sell", terms=OrderTerms(trail=2.0), stop_loss=102.0)
    (leave,) = orders_of(as_exit(sale, D(2), X), account="main", instrument=X)
    assert words(leave) == ("exit", "sell", "market", None, None, None, "gtc")
    assert [order.leg for order in orders_of(as_exit(sale, D(1), X), account="main", instrument=X)] == [
        "entry",
        "stop_loss",
    ]
    limited = signal(action="sell", terms=OrderTerms(trail=2.0, limit_price=101.0), stop_loss=103.0)
    odd = msgspec.structs.replace(sale, size=2.04)
    assert as_exit(odd, D(2), X).action == "close", "its order is one of 2"
    (leave,) = orders_of(as_exit(limited, D(2), X), account="main", instrument=X)
    assert words(leave) == ("exit", "sell", "limit", D("101"), None, None, "gtc")


@pytest.mark.parametrize(
    ("asset_class", "hour", "end"),
    [
        ("crypto", 1, 24),  # it never closes: midnight UTC
        ("equity", 15, 21),  # 10:00 in New York: until 16:00
        ("equity", 22, 24 + 21),  # after the close: of the next session
        ("fx", 12, 3 * 24 + 22),  # the week is one session: from Tuesday until Friday 17:00
    ],
)
def test_a_day_order_ends_with_the_day_of_its_market(asset_class: str, hour: int, end: int) -> None:
    midnight = START_NS // (24 * HOUR) * 24 * HOUR
    instrument = msgspec.structs.replace(X, asset_class=asset_class)
    assert day_end_ns(instrument, midnight + hour * HOUR) == midnight + end * HOUR
    (entry,) = orders(terms=OrderTerms(time_in_force="day"))
    assert entry.expires_ns == day_end_ns(X, entry.event_ns)


def test_a_modification_names_the_orders_of_its_signal_and_only_what_changes() -> None:
    body = signal(action="modify", of="s", terms=OrderTerms(limit_price=99.5), stop_loss=97.004, take_profit=None)
    assert changes_of(body, X) == [
        OrderChange(client_order_id=client_order_id("s", "entry"), quantity=D("2"), limit_price=D("99.5")),
        OrderChange(client_order_id=client_order_id("s", "exit"), quantity=D("2"), limit_price=D("99.5")),
        OrderChange(client_order_id=client_order_id("s", "stop_loss"), stop_price=D("97")),
    ]
    assert cancelled_by(signal(action="cancel", of="s")) == [
        client_order_id("s", "entry"),
        client_order_id("s", "exit"),
    ]


def test_what_a_signal_does_not_say_is_not_in_its_bytes() -> None:
    assert b"terms" not in canonical(signal()) and b'"of"' not in canonical(signal())
    assert canonical(signal(terms=OrderTerms(limit_price=99.0))).endswith(b'"terms":{"limit_price":99.0}}')
