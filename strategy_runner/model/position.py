"""A position: what an account holds of a symbol, and what it has gained. Exact numbers, in the symbol's quote currency."""

from decimal import Decimal

import msgspec

ZERO = Decimal(0)


class Position(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`quantity` is signed: long is positive. `average_price` is of the open quantity, 0 when flat, and `cost` what the open
    quantity cost in all, signed and exact. `realised` is before fees; `funding` is positive when received."""

    client: str
    account: str
    strategy: str
    symbol: str
    quantity: Decimal = ZERO
    average_price: Decimal = ZERO
    cost: Decimal = ZERO
    realised: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
