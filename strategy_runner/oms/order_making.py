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
    if body.action == "close":
        return [_order(body, account, amount, "exit", closing_side(body), reduce_only=True)]
    side: Side = body.action
    if body.stop_loss is None and body.take_profit is None:
        return [_order(body, account, amount, "entry", side)]
    bracket = client_order_id(body.id, "entry")
    requests = [_order(body, account, amount, "entry", side, bracket=bracket)]
    out = _OPPOSITE[side]
    if body.stop_loss is not None:
        stop = instrument.rounded_price(body.stop_loss)
        order = _order(body, account, amount, "stop_loss", out, "stop", stop=stop, reduce_only=True, bracket=bracket)
        requests.append(order)
    if body.take_profit is not None:
        limit = instrument.rounded_price(body.take_profit)
        order = _order(
            body, account, amount, "take_profit", out, "limit", limit=limit, reduce_only=True, bracket=bracket
        )
        requests.append(order)
    return requests


def closing_side(body: SignalBody) -> Side:
    """The side that a close takes: the pipeline has noted what it closes (pipeline/completion.py)."""
    closes = body.reasons[-1]
    assert closes in ("closes:long", "closes:short"), body.id
    return "sell" if closes == "closes:long" else "buy"


def _order(
    body: SignalBody,
    account: str,
    quantity: Decimal,
    leg: Leg,
    side: Side,
    kind: OrderType = "market",
    *,
    limit: Decimal | None = None,
    stop: Decimal | None = None,
    reduce_only: bool = False,
    bracket: str = "",
) -> OrderRequest:
    return OrderRequest(
        client_order_id=client_order_id(body.id, leg),
        client=body.client,
        account=account,
        venue=body.venue,
        strategy=body.strategy,
        symbol=body.symbol,
        signal_id=body.id,
        leg=leg,
        side=side,
        type=kind,
        quantity=quantity,
        event_ns=body.cause.event_ns,
        limit_price=limit,
        stop_price=stop,
        reduce_only=reduce_only,
        bracket=bracket,
    )
