"""The ledger: cash and positions are conserved, whatever is filled."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oms.paper_build import FUTURE, INSTRUMENTS, D, X, fill

from strategy_runner.oms.ledger import (
    Account,
    MissingPriceError,
    after_fill,
    after_funding,
    funding_of,
    valuation,
)

EMPTY = Account(client="acme", account="main", cash={"USD": D(1000)})


def test_a_round_trip_realises_the_difference_and_pays_its_fees() -> None:
    account = after_fill(EMPTY, fill(quantity=D(2), fee=D("0.1")), X)
    account = after_fill(account, fill(side="sell", price=D(110), quantity=D(2), fee=D("0.2")), X)
    held = account.positions["swing/X"]
    assert (held.quantity, held.realised, held.fees) == (0, 20, D("0.3"))
    assert account.cash["USD"] == D("1019.7")


def test_what_turns_a_position_closes_it_first() -> None:
    account = after_fill(EMPTY, fill(quantity=D(2)), X)
    account = after_fill(account, fill(side="sell", price=D(110), quantity=D(5)), X)
    held = account.positions["swing/X"]
    assert (held.quantity, held.average_price, held.realised) == (-3, 110, 20)


def test_strategies_hold_their_own_positions_in_one_account() -> None:
    account = after_fill(EMPTY, fill(quantity=D(2)), X)
    account = after_fill(account, fill(side="sell", strategy="other", quantity=D(3)), X)
    assert {key: held.quantity for key, held in account.positions.items()} == {"swing/X": 2, "other/X": -3}


def test_longs_pay_shorts_when_the_funding_rate_is_positive() -> None:
    account = after_fill(EMPTY, fill(quantity=D(2)), X)
    amount = funding_of(account.positions["swing/X"], D("0.0001"), D(100), X)
    account = after_funding(account, "swing", "X", "USD", amount)
    assert amount == D("-0.02")
    assert (account.cash["USD"], account.positions["swing/X"].funding) == (D("799.98"), D("-0.02"))


def test_an_account_in_several_currencies_is_valued_in_one() -> None:
    account = after_fill(EMPTY, fill(symbol="F", currency="EUR", price=D(50), quantity=D(1)), FUTURE)
    value = valuation(account, "USD", prices={"F": D(52)}, rates={"EUR": D("1.1")}, instruments=INSTRUMENTS)
    assert value.equity == 1000 + 20 * D("1.1"), "two points of ten euros"
    assert (value.unrealised, value.margin) == (D("22.0"), D("57.2"))
    assert value.free == value.equity - value.margin


def test_what_has_no_price_has_no_value_and_not_the_value_zero() -> None:
    account = after_fill(EMPTY, fill(), X)
    with pytest.raises(MissingPriceError, match="expected a price of X"):
        valuation(account, "USD", prices={}, rates={}, instruments=INSTRUMENTS)
    with pytest.raises(MissingPriceError, match="expected a rate from USD to EUR"):
        valuation(account, "EUR", prices={"X": D(1)}, rates={}, instruments=INSTRUMENTS)


PRICES = st.integers(1, 10**9).map(lambda ticks: D(ticks) * D("0.00000001"))
FILLS = st.tuples(
    st.sampled_from(["buy", "sell"]),
    PRICES,
    st.integers(1, 10**9).map(lambda lots: D(lots) * D("0.00000001")),
    st.integers(-100, 1000).map(lambda cents: D(cents) / 100),
    st.sampled_from(["a", "b"]),
)


@given(st.lists(FILLS, min_size=1, max_size=30), PRICES, st.lists(st.integers(-50, 50), max_size=3))
def test_cash_and_positions_are_conserved(rows: list[tuple], last: Decimal, rates: list[int]) -> None:
    account, paid, bought, spent, received = EMPTY, D(0), D(0), D(0), D(0)
    for number, (side, price, quantity, fee, strategy) in enumerate(rows):
        one = fill("o", number, side=side, price=price, quantity=quantity, fee=fee, strategy=strategy)
        account = after_fill(account, one, X)
        sign = 1 if side == "buy" else -1
        paid, bought, spent = paid + fee, bought + sign * quantity, spent + sign * quantity * price
    for rate in rates:
        held = account.positions[f"{rows[0][4]}/X"]
        amount = funding_of(held, D(rate) / 1000, last, X)
        received += amount
        account = after_funding(account, held.strategy, "X", "USD", amount)
    value = valuation(account, "USD", prices={"X": last}, rates={}, instruments=INSTRUMENTS)
    assert sum(held.quantity for held in account.positions.values()) == bought
    assert value.cash == 1000 - spent - paid + received
    assert value.equity == value.cash + bought * last
    assert value.realised + value.unrealised == bought * last - spent, "all gain is realised or not yet"
    assert value.equity == 1000 + value.realised + value.unrealised - value.fees + value.funding
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(account), type=Account) == account
