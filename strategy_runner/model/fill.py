"""A fill: part or all of an order was executed. Exact numbers; what a strategy sees of it is model/event.py's float view."""

from decimal import Decimal
from typing import Literal

import msgspec


class Fill(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`fill_id` is unique per account; `quantity` is positive; `fee` is positive when paid, in `currency`, the quote currency."""

    fill_id: str
    client_order_id: str
    signal_id: str
    client: str
    account: str
    strategy: str
    symbol: str
    side: Literal["buy", "sell"]
    price: Decimal
    quantity: Decimal
    fee: Decimal
    currency: str
    liquidity: Literal["maker", "taker"]
    event_ns: int
