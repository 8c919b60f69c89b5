"""Trades and what they come to, beside plain arithmetic over the fills."""

from collections.abc import Iterable
from decimal import Decimal, localcontext
from itertools import zip_longest
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy_runner.analytics.attribution import NO_MODEL, parts
from strategy_runner.analytics.performance import performance
from strategy_runner.analytics.trades import trades_of
from strategy_runner.model.fill import Fill
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import OmsEvent, Side
from strategy_runner.model.private import PrivateEntry
from strategy_runner.model.signal import ModelVote
from strategy_runner.oms.ledger import Account, after_fill, after_funding, place

D = Decimal
CONTRACT = Instrument(
    symbol="ES", asset_class="indices", currency="USD", tick_size=D("0.25"), lot_size=D(1), multiplier=D(50)
)
INSTRUMENTS = {"ES": CONTRACT}


def told(events: Iterable[OmsEvent], *instruments: Instrument) -> list[PrivateEntry]:
    """As a fill log has them: each with the position that it made, by its instrument, the last one's for the rest."""
    account, entries = Account(client="acme", account="main"), []
    for number, (one, instrument) in enumerate(
        zip_longest(events, instruments, fillvalue=(CONTRACT, *instruments)[-1])
    ):
        assert isinstance(one, OmsEvent) and isinstance(instrument, Instrument)
        if one.fill is not None:
            account = after_fill(account, one.fill, instrument)
        elif one.amount is not None:
            account = after_funding(account, one.strategy, one.symbol, "USD", one.amount)
        position = account.positions[place(one.strategy, one.symbol)]
        entries.append(PrivateEntry(number, f"{one.strategy}.{one.symbol}", one, position))
    return entries


def fill(number: int, side: Side, quantity: str, price: str, fee: str = "1", **changes: Any) -> OmsEvent:
    made = Fill(
        fill_id=str(number),
        client_order_id=f"order-{number}",
        signal_id=changes.pop("signal_id", f"signal-{number}"),
        client="acme",
        account="main",
        strategy=changes.pop("strategy", "talk"),
        symbol="ES",
        side=side,
        price=D(price),
        quantity=D(quantity),
        fee=D(fee),
        currency=changes.pop("currency", "USD"),
        liquidity="taker",
        event_ns=number,
    )
    return event(number, kind="fill", fill=made, strategy=made.strategy)


def event(number: int, **changes: Any) -> OmsEvent:
    return OmsEvent(number=number, client="acme", event_ns=number, seq=-1, account="main", symbol="ES", **changes)


def test_a_trade_goes_from_flat_to_flat_and_pays_its_fees() -> None:
    found = trades_of(
        told(
            [
                fill(0, "buy", "2", "100"),
                fill(1, "buy", "2", "110"),
                event(2, kind="funding", amount=D("-3"), strategy="talk"),
                fill(3, "sell", "1", "120"),
                fill(4, "sell", "3", "108"),
            ]
        ),
        INSTRUMENTS,
    )
    (trade,) = found.ended
    gain = (120 - 105 + 3 * (108 - 105)) * 50
    assert (trade.result, trade.side, trade.quantity) == (D(gain - 4 - 3), "buy", D(4))
    assert (trade.signal_id, trade.opened_ns, trade.closed_ns) == ("signal-0", 0, 4)
    assert not found.open and found.fees == {("acme", "talk", "ES", "USD"): D(4)}


def test_a_fill_that_turns_a_position_ends_one_trade_and_begins_another() -> None:
    found = trades_of(told([fill(0, "sell", "1", "100"), fill(1, "buy", "3", "90")]), INSTRUMENTS)
    (trade,) = found.ended
    assert (trade.result, trade.side, trade.quantity) == (D(10 * 50 - 2), "sell", D(1))
    (left,) = found.open
    assert (left.position.quantity, left.signal_id, left.opened_ns) == (D(2), "signal-1", 1)
    assert left.result_at(D(95)) == D(2 * 5 * 50)


def test_what_a_trade_came_to_does_not_change_with_the_multiplier() -> None:
    """One in which it changed came to the money that changed hands; what is held is worth what it is now."""
    events = [
        fill(0, "buy", "1", "100"),
        fill(1, "sell", "1", "110"),
        fill(2, "buy", "1", "100"),
        fill(3, "sell", "1", "110"),
        fill(4, "buy", "1", "100"),
    ]
    now = msgspec.structs.replace(CONTRACT, multiplier=D(5))
    found = trades_of(told(events, CONTRACT, CONTRACT, CONTRACT, now), {"ES": now})
    assert [one.result for one in found.ended] == [D(10 * 50 - 2), D(110 * 5 - 100 * 50 - 2)]
    (left,) = found.open
    assert left.result_at(D(120)) == D(20 * 5 - 1)


def test_fees_of_an_instrument_whose_currency_has_changed_are_told_apart() -> None:
    """`report` showed those of both in the rows of each."""
    dollars = [fill(0, "buy", "1", "100"), fill(1, "sell", "1", "110")]
    euros = [fill(2, "buy", "1", "100", "3", currency="EUR")]
    now = msgspec.structs.replace(CONTRACT, currency="EUR")
    trades = trades_of(told([*dollars, *euros], CONTRACT, CONTRACT, now), {"ES": now})
    assert trades.fees == {("acme", "talk", "ES", "USD"): D(2), ("acme", "talk", "ES", "EUR"): D(3)}
    assert trades.fills == {("acme", "talk", "ES", "USD"): 2, ("acme", "talk", "ES", "EUR"): 1}


def test_strategies_on_one_symbol_have_trades_of_their_own() -> None:
    found = trades_of(
        told([fill(0, "buy", "1", "100"), fill(1, "sell", "1", "100", strategy="walk")]),
        INSTRUMENTS,
    )
    assert not found.ended and {one.strategy for one in found.open} == {"talk", "walk"}


def test_trades_are_in_the_order_in_which_they_ended_though_each_worker_has_a_log_of_its_own() -> None:
    talk = [
        fill(1, "buy", "1", "100"),
        fill(3, "sell", "1", "90"),
        fill(5, "buy", "1", "90"),
        fill(7, "sell", "1", "80"),
    ]
    walk = [fill(n + 1, "buy" if n in (1, 5) else "sell", "1", str(100 + n), strategy="walk") for n in (1, 3, 5, 7)]
    found = trades_of(told([*talk, *walk]), INSTRUMENTS)
    assert [(one.strategy, one.closed_ns) for one in found.ended] == [
        ("talk", 3),
        ("walk", 4),
        ("talk", 7),
        ("walk", 8),
    ]
    assert performance([one.result for one in found.ended]).max_drawdown == D(502 + 502 - 98)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["buy", "sell"]),
            st.integers(1, 5),
            st.decimals("1", "500", places=2),
            st.decimals("0", "9", places=2),
        ),
        max_size=30,
    )
)
def test_all_results_together_are_the_money_that_changed_hands(made: list[tuple[Side, int, Decimal, Decimal]]) -> None:
    events = [fill(n, side, str(size), str(price), str(fee)) for n, (side, size, price, fee) in enumerate(made)]
    found = trades_of(told(events), INSTRUMENTS)
    last = made[-1][2] if made else D(1)
    held = sum((size if side == "buy" else -size for side, size, _, _ in made), 0)
    cash = sum((D(size) * price * (-50 if side == "buy" else 50) - fee for side, size, price, fee in made), D(0))
    results = sum((one.result for one in found.ended), D(0)) + sum((one.result_at(last) for one in found.open), D(0))
    assert results == pytest.approx(cash + held * last * 50, abs=D("1e-15"))


def vote(model: str, weight: float, confidence: float) -> ModelVote:
    return ModelVote(model=model, score=1.0, confidence=confidence, weight=weight, stream="s", ordinal=0, event_ns=0)


def test_models_share_a_result_by_weight_and_confidence_to_the_last_digit() -> None:
    found = parts(D("100.01"), [vote("a", 2.0, 0.5), vote("b", 1.0, 1.0), vote("c", 1.0, 1.0)])
    assert sum(found.values()) == D("100.01")
    assert found["a"] == found["b"] == D("33.33666667")
    assert parts(D(5), []) == parts(D(5), [vote("a", 1.0, 0.0)]) == {NO_MODEL: D(5)}


@pytest.mark.parametrize("result", ["123456789012345678901.123456789", "-1e26", "7e40"])
def test_models_share_a_result_of_any_size_to_the_last_digit(result: str) -> None:
    found = parts(D(result), [vote("a", 1.0, 0.7), vote("b", 1.0, 0.7), vote("c", 1.0, 0.7)])
    with localcontext(prec=60):
        assert sum(found.values()) == D(result)


def test_the_measures_of_a_series() -> None:
    found = performance([D(10), D(-4), D(-8), D(6), D(1)])
    assert (found.trades, found.won, found.win_rate) == (5, 3, 0.6)
    assert found.profit_factor == pytest.approx(17 / 12)
    assert (found.result, found.average, found.best, found.worst) == (D(5), D(1), D(10), D(-8))
    assert found.max_drawdown == D(12), "from 10 down to -2"
    assert performance([D(-3)]).max_drawdown == D(3), "from the beginning, which is 0"
    empty = performance([])
    assert (empty.win_rate, empty.profit_factor, empty.average, empty.result) == (None, None, None, D(0))
