"""What the paper OMS refuses of a request, each with a stable name, and how the market sees what it takes."""

from decimal import Decimal

from strategy_runner.model.fill_settings import FillSettings
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import OrderRequest
from strategy_runner.model.position import ZERO
from strategy_runner.oms.fill_model import WorkingOrder
from strategy_runner.oms.order_machine import Order
from strategy_runner.risk.numbers import has_countable_steps, is_on_grid

REASONS = {
    "wrong_client": "the order names another client than the one who sent it",
    "unknown_symbol": "the OMS has no instrument of this symbol",
    "bad_quantity": "the quantity is not positive and finite, lies between two lots, or has more of them than can be counted",
    "bad_price": "a price of this type of order is missing, not finite, lies between two ticks, or has more of them than can be "
    "counted",
    "no_expiry": "a day order does not say when its day ends",
    "too_many_orders": "the client has as many open orders as the OMS takes",
    "too_old": "the order was caused before orders that the OMS has forgotten: it may be one of them",
    "entry_rejected": "the entry of its bracket was rejected",
    "unknown_order": "the OMS has never taken an order of this id",
    "below_filled": "the new quantity is less than what was filled",
    "day": "the day of the order has ended",
    "ioc": "it was not filled at once",
    "asked": "the client cancelled it",
    "nothing_to_reduce": "it may only reduce a position, and there is none",
    "position_closed": "the position that it would have reduced was closed",
    "other_exit_filled": "the other exit of its bracket was filled",
    "entry_ended": "the entry of its bracket ended without a fill",
    "exit_ended_it": "an exit of its bracket has begun to close what it had filled",
}


def refusal(request: OrderRequest, client: str, instrument: Instrument | None, held: Decimal) -> str:
    """The reason's name, or "" for an order that can be taken. One that only reduces may be of all that its strategy has `held`:
    the lot may have been another when that was bought."""
    if request.client != client:
        return "wrong_client"
    if instrument is None:
        return "unknown_symbol"
    quantity = request.quantity
    is_whole = request.reduce_only and quantity.is_finite() and quantity == abs(held)
    if not (is_whole or _on_grid(quantity, instrument.lot_size)) or quantity <= 0:
        return "bad_quantity"
    wants_limit = request.type in ("limit", "stop_limit")
    wants_stop = request.type in ("stop", "stop_limit") and request.trail is None
    prices = (request.limit_price, request.stop_price)
    if (wants_limit and request.limit_price is None) or (wants_stop and request.stop_price is None):
        return "bad_price"
    if any(price is not None and not _on_grid(price, instrument.tick_size) for price in prices):
        return "bad_price"
    if request.trail is not None and not (
        request.trail.is_finite()
        and request.trail > 0
        and has_countable_steps(request.trail, instrument.tick_size)
        and request.type in ("stop", "stop_limit")
    ):
        return "bad_price"
    if request.time_in_force == "day" and not request.expires_ns:
        return "no_expiry"
    return ""


def changed_refusal(order: Order, quantity: Decimal, prices: tuple[Decimal | None, ...], instrument: Instrument) -> str:
    """The reason's name, or "" for a modification that can be made."""
    if not (quantity == order.quantity or _on_grid(quantity, instrument.lot_size)) or quantity <= 0:
        return "bad_quantity"
    if quantity < order.filled:
        return "below_filled"
    if any(price is not None and not _on_grid(price, instrument.tick_size) for price in prices):
        return "bad_price"
    return ""


def working(order: Order, settings: FillSettings, *, waits: bool) -> WorkingOrder:
    """An order as the market sees it before anything happened to it; an exit that waits has no way to go any more."""
    request = order.request
    wants_limit, wants_stop = request.type in ("limit", "stop_limit"), request.type in ("stop", "stop_limit")
    return WorkingOrder(
        id=order.id,
        side=request.side,
        type=request.type,
        remaining=order.remaining,
        active_ns=request.event_ns + (0 if waits else settings.latency_ns),
        expires_ns=request.expires_ns if request.time_in_force == "day" else 0,
        immediate=request.time_in_force == "ioc",
        limit=_float(order.limit_price) if wants_limit else None,
        stop=_float(order.stop_price) if wants_stop else None,
        trail=_float(request.trail) if wants_stop else None,
    )


def unseen(order: Order) -> WorkingOrder:
    """For an order that the market never sees; its numbers may be none."""
    return WorkingOrder(id=order.id, side=order.request.side, type=order.request.type, remaining=ZERO, active_ns=0)


def _float(number: Decimal | None) -> float | None:
    return None if number is None else float(number)


def _on_grid(number: Decimal, step: Decimal) -> bool:
    return number.is_finite() and is_on_grid(number, step)
