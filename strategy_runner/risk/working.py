"""What is working: a client's open orders as risk counts them, and what each worker may come to hold by them."""

from decimal import Decimal

import msgspec

from strategy_runner.model.order import Leg, OrderState, Side

ZERO = Decimal(0)
PROTECTIVE_LEGS = ("stop_loss", "take_profit")


class OpenOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An order that is not in a final state. `price` is what its worth is counted with, `is_entry` whether it may open a
    position, `waits` whether for a price. `limit_price` and `stop_price` are those that the OMS has; None if there is none, or
    if it is not known."""

    strategy: str
    symbol: str
    side: Side
    leg: Leg
    quantity: Decimal
    price: Decimal
    is_entry: bool
    waits: bool = False
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    filled: Decimal = ZERO
    state: OrderState = OrderState.INTENT

    @property
    def is_closing(self) -> bool:
        """Whether it is an exit that is to be filled now, and not one that waits for the market to go wrong or far enough."""
        return not (self.is_entry or self.waits or self.leg in PROTECTIVE_LEGS)

    @property
    def remaining(self) -> Decimal:
        return max(self.quantity - self.filled, ZERO)


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker comes to, see exposure.py. `buys` and `sells` are working entries and `working_price` their highest
    price, `worst` the largest position they may lead to and `worth` its value at `price`, the higher of that and the market's;
    `gain` is the profit so far. Money is in the client's currency, None while its rate is missing."""

    strategy: str
    symbol: str
    quantity: Decimal
    buys: Decimal
    sells: Decimal
    working_price: Decimal
    price: Decimal
    worst: Decimal
    worth: Decimal | None
    gain: Decimal | None


def worker_key(strategy: str, symbol: str) -> str:
    return f"{strategy}/{symbol}"
