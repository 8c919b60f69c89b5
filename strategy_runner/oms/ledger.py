"""The ledger: what a client's accounts hold, exactly. Pure: each function gives the account after a fill or a payment.

Cash moves by the full price of what is bought and sold, and a position's value is its quantity at the market price, so

    equity = cash + value,   and changes only by price moves, fees and funding

for spot, shares and futures alike. What a position binds is its margin, a matter of valuation and not of cash.
"""

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext

import msgspec

from strategy_runner.errors import StateError
from strategy_runner.model.fill import Fill
from strategy_runner.model.fill_settings import FEE_STEP, FeeSettings, fee_due, raw_fee
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.position import ZERO, Position

EXACT = Context(prec=60)  # in which products of prices and quantities are never rounded
_COST_STEP = Decimal("1e-12")  # to which the cost of a part of a position is, so that all sums stay exact
_FREE = FeeSettings()
_NO_FEE = ZERO.quantize(FEE_STEP)


class MissingPriceError(StateError):
    """A position or a currency has no price yet: its value is not known, and is not 0."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """`cash` by currency; `positions` by `place`, one of each strategy and symbol that ever traded here."""

    client: str
    account: str
    cash: dict[str, Decimal] = {}
    positions: dict[str, Position] = {}


class Valuation(msgspec.Struct, frozen=True, kw_only=True):
    """An account at given prices, in one currency. `realised` and `unrealised` are before fees and funding; `margin` is what
    the positions bind, `free` the equity beyond it."""

    currency: str
    cash: Decimal
    value: Decimal
    equity: Decimal
    realised: Decimal
    unrealised: Decimal
    fees: Decimal
    funding: Decimal
    margin: Decimal
    free: Decimal


def place(strategy: str, symbol: str) -> str:
    """The key of a position within its account; neither name may hold a slash."""
    return f"{strategy}/{symbol}"


def after_fill(account: Account, fill: Fill, instrument: Instrument) -> Account:
    """Pays or receives the price, pays the fee, changes the position at average cost."""
    return after_fills(account, [fill], instrument)[0]


def after_fills(account: Account, fills: Sequence[Fill], instrument: Instrument) -> tuple[Account, list[Position]]:
    """The account after fills of one strategy in one symbol, and the position after each of them."""
    first, multiplier = fills[0], instrument.multiplier
    key = place(first.strategy, first.symbol)
    position = account.positions.get(key) or Position(
        client=account.client, account=account.account, strategy=first.strategy, symbol=first.symbol
    )
    cash = account.cash.get(first.currency, ZERO)
    positions = []
    with localcontext(EXACT):  # operators in it cost half as much as the methods of a context
        for fill in fills:
            change = fill.quantity if fill.side == "buy" else fill.quantity.copy_negate()
            price = fill.price * multiplier
            cash = cash - change * price - fill.fee
            position = _changed(position, change, price, fill.fee, multiplier)
            positions.append(position)
    after = Account(
        client=account.client,
        account=account.account,
        cash={**account.cash, first.currency: cash},
        positions={**account.positions, key: position},
    )
    return after, positions


def first_fees(
    fees: FeeSettings,
    fills: Sequence[tuple[Decimal, Decimal]],
    multiplier: Decimal,
) -> list[Decimal]:
    """What the first fills of taking orders pay, each (price, quantity)."""
    if fees == _FREE:
        return [_NO_FEE] * len(fills)
    with localcontext(EXACT):
        return [
            fee_due(fees, None, raw_fee(fees, price * quantity * multiplier, quantity, "taker"))
            for price, quantity in fills
        ]


def after_funding(account: Account, strategy: str, symbol: str, currency: str, amount: Decimal) -> Account:
    """`amount` is received when positive, paid when negative. The position must exist."""
    key = place(strategy, symbol)
    before = account.positions[key]
    with localcontext(EXACT):
        return msgspec.structs.replace(
            account,
            cash={**account.cash, currency: account.cash.get(currency, ZERO) + amount},
            positions={**account.positions, key: msgspec.structs.replace(before, funding=before.funding + amount)},
        )


def funding_of(position: Position, rate: Decimal, price: Decimal, instrument: Instrument) -> Decimal:
    """What the position receives: with a positive rate longs pay shorts rate times notional."""
    with localcontext(EXACT):
        return (-rate * position.quantity * price * instrument.multiplier).quantize(_COST_STEP, ROUND_HALF_EVEN)


def unrealised(position: Position, price: Decimal, instrument: Instrument) -> Decimal:
    """Before fees, in the instrument's currency."""
    with localcontext(EXACT):
        return position.quantity * price * instrument.multiplier - position.cost


def valuation(
    account: Account,
    currency: str,
    *,
    prices: Mapping[str, Decimal],
    rates: Mapping[str, Decimal],
    instruments: Mapping[str, Instrument],
) -> Valuation:
    """The account in one currency. `rates` says what a unit of each other currency is worth in it.

    Raises MissingPriceError for an open position without a price, or a currency without a rate.
    """
    cash = value = realised = gain = fees = funding = margin = ZERO
    with localcontext(EXACT):
        for held, amount in account.cash.items():
            cash += amount * _rate(account, held, currency, rates) if amount else ZERO
        for position in account.positions.values():
            instrument = instruments[position.symbol]
            rate = _rate(account, instrument.currency, currency, rates)
            realised += position.realised * rate
            fees += position.fees * rate
            funding += position.funding * rate
            if position.quantity:
                price = prices.get(position.symbol)
                if price is None:
                    raise MissingPriceError(
                        f"account {account.account}: expected a price of {position.symbol}, found none yet"
                    )
                worth = position.quantity * price * instrument.multiplier
                value += worth * rate
                gain += (worth - position.cost) * rate
                margin += abs(worth) * instrument.margin_fraction * rate
        return Valuation(
            currency=currency,
            cash=cash,
            value=value,
            equity=cash + value,
            realised=realised,
            unrealised=gain,
            fees=fees,
            funding=funding,
            margin=margin,
            free=cash + value - margin,
        )


def _rate(account: Account, held: str, currency: str, rates: Mapping[str, Decimal]) -> Decimal:
    if held == currency:
        return Decimal(1)
    rate = rates.get(held)
    if rate is None:
        raise MissingPriceError(f"account {account.account}: expected a rate from {held} to {currency}, found none")
    return rate


def _changed(before: Position, change: Decimal, price: Decimal, fee: Decimal, multiplier: Decimal) -> Position:
    """`price` is of one unit of quantity. What closes leaves at the average cost; the rest opens at its own price.

    To be called in a localcontext(EXACT).
    """
    held, held_cost = before.quantity, before.cost
    quantity = held + change
    if not held or (held > ZERO) == (change > ZERO):  # all of it opens
        closed = ZERO
    elif not quantity or (quantity > ZERO) == (change > ZERO):  # all that was held closes
        closed = held
    else:
        closed = change.copy_negate()
    cost_closed = held_cost if closed == held else (held_cost * closed / held).quantize(_COST_STEP, ROUND_HALF_EVEN)
    cost = held_cost - cost_closed + (change + closed) * price
    average = (cost / (quantity * multiplier)).quantize(_COST_STEP, ROUND_HALF_EVEN) if quantity else ZERO
    return Position(
        client=before.client,
        account=before.account,
        strategy=before.strategy,
        symbol=before.symbol,
        quantity=quantity,
        average_price=average,
        cost=cost,
        realised=before.realised + closed * price - cost_closed,
        fees=before.fees + fee,
        funding=before.funding,
    )
