"""From a signal to orders: a pure function, so that a router's desk and a worker that fills its own orders ask for the same.

An entry goes to the market; with a stop loss or a take profit it is a bracket, whose exits wait for what the entry fills and
end one another. A close is one exit to the market that only reduces; the paper OMS cancels the exits of what it has closed,
of any other OMS the desk does. Ids come of the signal's, so that the same signal never gives two orders.
"""

from decimal import Decimal

from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import Leg, OrderRequest, OrderType, Side, client_order_id
from strategy_runner.model.signal import SignalBody

_OPPOSITE: dict[Side, Side] = {"buy": "sell", "sell": "buy"}


def orders_of(
    body: SignalBody, *, account: str, instrument: Instrument, quantity: Decimal | None = None
) -> list[OrderRequest]:
    """The orders of a signal that may be traded, the entry or exit first.

    `quantity` takes the place of the signal's size where somebody has sized it; it lies on the lot grid. A size below one lot
    gives orders of quantity 0, which nobody takes: whoever sends them says so.
    """
    assert body.refusal is None, body.id
    assert body.size is not None, "a signal that the worker passed has a size"
    amount = instrument.rounded_quantity(body.size) if quantity is None else quantity
    orders = _Orders(body, account, amount)
    if body.action == "close":
        return [orders.make("exit", closing_side(body), reduce_only=True)]
    side: Side = body.action
    levels = [level for level in (body.stop_loss, body.take_profit) if level is not None]
    bracket = client_order_id(body.id, "entry") if levels else ""
    requests = [orders.make("entry", side, bracket=bracket)]
    if body.stop_loss is not None:
        price = instrument.rounded_price(body.stop_loss)
        requests.append(
            orders.make("stop_loss", _OPPOSITE[side], "stop", stop=price, reduce_only=True, bracket=bracket)
        )
    if body.take_profit is not None:
        price = instrument.rounded_price(body.take_profit)
        requests.append(
            orders.make("take_profit", _OPPOSITE[side], "limit", limit=price, reduce_only=True, bracket=bracket)
        )
    return requests


def closing_side(body: SignalBody) -> Side:
    """The side that a close takes: the pipeline has noted what it closes (pipeline/completion.py)."""
    closes = body.reasons[-1]
    assert closes in ("closes:long", "closes:short"), body.id
    return "sell" if closes == "closes:long" else "buy"


class _Orders:
    """Makes the orders of one signal."""

    def __init__(self, body: SignalBody, account: str, quantity: Decimal) -> None:
        self._body = body
        self._account = account
        self._quantity = quantity

    def make(
        self,
        leg: Leg,
        side: Side,
        kind: OrderType = "market",
        *,
        limit: Decimal | None = None,
        stop: Decimal | None = None,
        reduce_only: bool = False,
        bracket: str = "",
    ) -> OrderRequest:
        body = self._body
        return OrderRequest(
            client_order_id=client_order_id(body.id, leg),
            client=body.client,
            account=self._account,
            venue=body.venue,
            strategy=body.strategy,
            symbol=body.symbol,
            signal_id=body.id,
            leg=leg,
            side=side,
            type=kind,
            quantity=self._quantity,
            event_ns=body.cause.event_ns,
            limit_price=limit,
            stop_price=stop,
            reduce_only=reduce_only,
            bracket=bracket,
        )
