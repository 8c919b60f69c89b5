"""From a signal to orders: a pure function, so that a router's desk and a worker that fills its own orders ask for the same.

An entry goes to the market unless its terms say otherwise; with a stop loss or a take profit it is a bracket, whose exits wait
for what the entry fills and end one another. A close is one exit that only reduces; the paper OMS cancels the exits of what it
has closed, of any other OMS the desk does. Ids come of the signal's, so that the same signal never gives two orders.

A buy or sell that only reduces what its strategy holds is an exit, as a close is: whoever makes orders asks `as_exit` first.

A modification or cancellation names an earlier signal, and so its orders. Numbers in it are absolute: asked twice, it is one.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import Leg, OrderChange, OrderRequest, OrderType, Side, TimeInForce, client_order_id
from strategy_runner.model.position import ZERO
from strategy_runner.model.session import is_open, next_change
from strategy_runner.model.signal import OrderTerms, SignalBody
from strategy_runner.oms.ledger import EXACT

_DAY_NS = 86_400_000_000_000
_OPPOSITE: dict[Side, Side] = {"buy": "sell", "sell": "buy"}
_CLOSES = {"sell": "closes:long", "buy": "closes:short"}


def draft_id(signal_id: str, leg: str) -> str:
    """Takes the place of client_order_id in a draft, since most of what is asked for may never be an order."""
    return leg


def final(draft: OrderRequest) -> OrderRequest:
    """The order that a draft is one of."""
    signal_id, bracket = draft.signal_id, draft.bracket
    return msgspec.structs.replace(
        draft,
        client_order_id=client_order_id(signal_id, draft.leg),
        bracket=client_order_id(signal_id, bracket) if bracket else "",
    )


def as_exit(body: SignalBody, held: Decimal, instrument: Instrument) -> SignalBody:
    """A buy or sell whose order only reduces what is held, as the close that it is; any other as it stands. A `trail` of it was
    its stop loss's, which an exit does not bring. Raises ValueError for a size that is no number."""
    if not held or body.action == "close" or body.size is None or body.size <= 0:
        return body
    side: Side = "buy" if body.action == "buy" else "sell"
    if (held > 0) == (side == "buy") or instrument.rounded_quantity(body.size) > abs(held):
        return body
    if not quantity_to_close(body.size, abs(held), ZERO, instrument):
        return body
    terms = None if body.terms is None else msgspec.structs.replace(body.terms, trail=None)
    return msgspec.structs.replace(body, action="close", reasons=(*body.reasons, _CLOSES[side]), terms=terms)


def quantity_to_close(size: float, held: Decimal, closing: Decimal, instrument: Instrument) -> Decimal:
    """What the order of a close asks for: whole lots of its size, at most what is held and other exits are not closing already.
    And all that is held where that is less than a lot, since the lot may have been another when it was bought; by itself, since
    an OMS may not take it. Not positive where there is nothing to close. Raises ValueError for a size that is no number."""
    lots = min(instrument.rounded_quantity(size), instrument.rounded_quantity(EXACT.subtract(held, closing)))
    return lots if lots or closing or size < float(held) else held


def orders_of(
    body: SignalBody,
    *,
    account: str,
    instrument: Instrument,
    quantity: Decimal | None = None,
    name: Callable[[str, str], str] = client_order_id,
) -> list[OrderRequest]:
    """The orders of a signal that may be traded, the entry or exit first; with `draft_id` as their `name`, drafts of them.

    `quantity` takes the place of the signal's size where somebody has sized it. A size below one lot
    gives orders of quantity 0, which nobody takes: whoever sends them says so.
    """
    assert body.refusal is None, body.id
    assert body.size is not None, "a signal that the worker passed has a size"
    amount = instrument.rounded_quantity(body.size) if quantity is None else quantity
    placing = {} if body.terms is None else _placing(body, body.terms, instrument)
    if body.action == "close":
        return [_order(name, body, account, amount, "exit", closing_side(body), reduce_only=True, **placing)]
    side: Side = "buy" if body.action == "buy" else "sell"
    if body.stop_loss is None and body.take_profit is None:
        return [_order(name, body, account, amount, "entry", side, **placing)]
    bracket = name(body.id, "entry")
    trail = placing.pop("trail", None)
    requests = [_order(name, body, account, amount, "entry", side, bracket=bracket, **placing)]
    out = _OPPOSITE[side]
    if body.stop_loss is not None:
        stop = instrument.rounded_price(body.stop_loss)
        order = _order(
            name,
            body,
            account,
            amount,
            "stop_loss",
            out,
            "stop",
            stop=stop,
            trail=trail,
            reduce_only=True,
            bracket=bracket,
        )
        requests.append(order)
    if body.take_profit is not None:
        limit = instrument.rounded_price(body.take_profit)
        order = _order(
            name, body, account, amount, "take_profit", out, "limit", limit=limit, reduce_only=True, bracket=bracket
        )
        requests.append(order)
    return requests


def changes_of(body: SignalBody, instrument: Instrument) -> list[OrderChange]:
    """What a modification asks for, by order; those that do not exist, or are over, are passed over by whoever takes it."""
    assert body.action == "modify", body.id
    terms = body.terms or OrderTerms()
    found = []
    if body.size is not None or terms.limit_price is not None or terms.stop_price is not None:
        for leg in ("entry", "exit"):
            change = OrderChange(
                client_order_id=client_order_id(body.of, leg),
                quantity=None if body.size is None else instrument.rounded_quantity(body.size),
                limit_price=None if terms.limit_price is None else instrument.rounded_price(terms.limit_price),
                stop_price=None if terms.stop_price is None else instrument.rounded_price(terms.stop_price),
            )
            found.append(change)
    if body.stop_loss is not None:
        stop = instrument.rounded_price(body.stop_loss)
        found.append(OrderChange(client_order_id=client_order_id(body.of, "stop_loss"), stop_price=stop))
    if body.take_profit is not None:
        limit = instrument.rounded_price(body.take_profit)
        found.append(OrderChange(client_order_id=client_order_id(body.of, "take_profit"), limit_price=limit))
    return found


def merged(before: OrderChange | None, after: OrderChange) -> OrderChange:
    """Two changes of one order as one: what is wished later counts, field by field."""
    said = {name: value for name, value in msgspec.structs.asdict(after).items() if value is not None}
    return after if before is None else msgspec.structs.replace(before, **said)


def cancelled_by(body: SignalBody) -> list[str]:
    """The client order ids that a cancellation concerns; what protects a position is none of them."""
    assert body.action == "cancel", body.id
    return [client_order_id(body.of, leg) for leg in ("entry", "exit")]


def day_end_ns(instrument: Instrument, event_ns: int) -> int:
    """When the day of an order that is caused now is over: at the end of the market's session (a coming one, if it is closed),
    at midnight UTC where it never closes."""
    end_ns = next_change(instrument.hours, event_ns)
    if end_ns is None:
        return (event_ns // _DAY_NS + 1) * _DAY_NS
    if not is_open(instrument.hours, event_ns):
        end_ns = next_change(instrument.hours, end_ns)
        assert end_ns is not None, instrument
    return end_ns


def closing_side(body: SignalBody) -> Side:
    """The side that a close takes: the pipeline has noted what it closes (pipeline/completion.py)."""
    closes = body.reasons[-1]
    assert closes in ("closes:long", "closes:short"), body.id
    return "sell" if closes == "closes:long" else "buy"


def _placing(body: SignalBody, terms: OrderTerms, instrument: Instrument) -> dict[str, Any]:
    """How the entry or exit of a signal is placed, in exact numbers; with an entry the `trail` is its stop loss's."""
    limit = None if terms.limit_price is None else instrument.rounded_price(terms.limit_price)
    stop = None if terms.stop_price is None else instrument.rounded_price(terms.stop_price)
    trail = None if terms.trail is None else max(instrument.rounded_price(terms.trail), instrument.tick_size)
    if body.action == "close" and trail is not None and stop is None:
        assert body.entry_price is not None, "the pipeline has completed it"
        stop = instrument.rounded_price(body.entry_price) + (-trail if closing_side(body) == "sell" else trail)
    kinds: dict[tuple[bool, bool], OrderType] = {
        (False, False): "market",
        (True, False): "limit",
        (False, True): "stop",
        (True, True): "stop_limit",
    }
    return {
        "kind": kinds[limit is not None, stop is not None],
        "limit": limit,
        "stop": stop,
        "trail": trail,
        "time_in_force": terms.time_in_force,
        "expires_ns": day_end_ns(instrument, body.cause.event_ns) if terms.time_in_force == "day" else 0,
    }


def _order(
    name: Callable[[str, str], str],
    body: SignalBody,
    account: str,
    quantity: Decimal,
    leg: Leg,
    side: Side,
    kind: OrderType = "market",
    *,
    limit: Decimal | None = None,
    stop: Decimal | None = None,
    trail: Decimal | None = None,
    time_in_force: TimeInForce = "gtc",
    expires_ns: int = 0,
    reduce_only: bool = False,
    bracket: str = "",
) -> OrderRequest:
    return OrderRequest(
        client_order_id=name(body.id, leg),
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
        trail=trail,
        time_in_force=time_in_force,
        expires_ns=expires_ns,
        reduce_only=reduce_only,
        bracket=bracket,
    )
