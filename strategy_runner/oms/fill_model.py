"""The fill model: what one market record does to the working orders of one strategy and symbol. A pure function.

The paper OMS calls it for each record of the tape, a worker that runs flat out calls it itself. A strategy's orders meet the
market alone: no other strategy or client changes what is filled, so a run of many gives each the fills of a run of one.

A trade or quote is one point in time. A bar is its open, then its range, then its close: what happens at the open happens
first; where stop and limit both lie within the range the stop comes first; of a bar that had begun before the order was
active only the close counts, since only that is known to be later. A bar that closes as the order becomes active is the one
that caused it, and never fills it.

A size that nobody recorded is unknown, which is not zero: a share of it limits nothing. So are NaN, and a bar's volume of 0
whose price moved (currencies, indices, metals); where the price stood still, a volume of 0 says that nothing was traded.
"""

import math
from collections.abc import Iterable, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from functools import cache, lru_cache
from math import isfinite
from typing import Literal

import msgspec
from msgspec.structs import replace

from strategy_runner.model.event import Bar, Quote, Trade
from strategy_runner.model.fill_settings import FillSettings
from strategy_runner.model.instrument import Instrument, decimal_of
from strategy_runner.model.order import OrderType, Side
from strategy_runner.model.position import ZERO
from strategy_runner.model.timeframe import timeframe_ns

MarketEvent = Trade | Quote | Bar
Band = tuple[float, float]
Moment = Literal["point", "open", "inside"]

_RANK: dict[str, int] = {"market": 0, "stop": 1, "stop_limit": 1, "limit": 2}
_ANY_VOLUME = math.inf
_timeframe_ns = cache(timeframe_ns)
_as_written = lru_cache(maxsize=256)(decimal_of)  # of a fraction, which is the same for most orders


class WorkingOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the market sees of an order. Prices are floats, as on the tape; `expires_ns` 0 is never.

    `triggered`: the stop was reached. `rested`: a limit order that did not fill at once, a maker from now on. `ahead` is what
    has still to trade at the limit price before it (queue `behind`).
    """

    id: str
    side: Side
    type: OrderType
    remaining: Decimal
    active_ns: int
    expires_ns: int = 0
    immediate: bool = False
    limit: float | None = None
    stop: float | None = None
    trail: float | None = None
    triggered: bool = False
    rested: bool = False
    ahead: float = 0.0


class Execution(msgspec.Struct, frozen=True, gc=False):
    """At most this much of an order was executed; who applies it may take less (an exit never exceeds the position)."""

    id: str
    price: Decimal
    quantity: Decimal
    liquidity: Literal["maker", "taker"]
    moment: Moment


class Lapse(msgspec.Struct, frozen=True, gc=False):
    """An order's time is over: `day` has ended, or `ioc` was not filled at once."""

    id: str
    reason: Literal["day", "ioc"]


class Move(msgspec.Struct, frozen=True, gc=False):
    """An order stands differently now: triggered, resting, its stop trailed, its queue shorter."""

    order: WorkingOrder


Outcome = Execution | Lapse | Move


def rank(order: WorkingOrder) -> int:
    """The order of execution at one moment: market orders, stops, limits. The pessimistic one."""
    return _RANK[order.type]


def match(
    orders: Sequence[WorkingOrder],
    event: MarketEvent,
    settings: FillSettings,
    instrument: Instrument,
    *,
    inside: bool = False,
) -> list[Outcome]:
    """What the event does to the orders, which come by `rank` and then by age. Of an order's outcomes a Move comes first.

    With `inside` the orders became active somewhere within the bar and have not met the market before: only their stops
    count, and not against its open. They trail its close alone, since its best price may have been before them.
    """
    if not orders:
        return []
    found: list[Outcome] = []
    if type(event) is Bar:
        volume = event.volume if event.volume or event.high == event.low else math.nan
        _Matching(settings, instrument, found, volume).bar(orders, event, inside)
    elif type(event) is Trade:
        matching = _Matching(settings, instrument, found, event.size)
        for order in orders:
            matching.point(order, event.event_ns, event.price, event.size)
    else:
        assert type(event) is Quote, event
        bids = _Matching(settings, instrument, found, event.bid_size, is_quote=True)
        asks = _Matching(settings, instrument, found, event.ask_size, is_quote=True)
        for order in orders:
            if order.side == "buy":
                asks.point(order, event.event_ns, event.ask, math.nan)
            else:
                bids.point(order, event.event_ns, event.bid, math.nan)
    return found


def quiet_band(orders: Iterable[WorkingOrder]) -> Band | None:
    """Prices between which the market neither fills nor moves any of the orders, whenever it trades there; None if there is no
    knowing without `match`."""
    low, high = -math.inf, math.inf
    for order in orders:
        if order.trail is not None or order.expires_ns:
            return None
        if order.rested:
            bound, is_above = order.limit, order.side == "sell"
        elif not order.triggered:
            bound, is_above = order.stop, order.side == "buy"
        else:
            bound = None
        if bound is None:
            return None
        if is_above:
            high = min(high, bound)
        else:
            low = max(low, bound)
    return low, high


def is_quiet(band: Band, event: MarketEvent) -> bool:
    """Whether all prices of an event are within a band: then `match` finds nothing."""
    low, high = band
    if type(event) is Bar:
        return low < event.low and event.high < high and low < event.open < high and low < event.close < high
    if type(event) is Trade:
        return low < event.price < high
    assert type(event) is Quote, event
    return low < event.bid < high and low < event.ask < high


def lone_price(
    side: Side, quantity: Decimal, active_ns: int, event: MarketEvent, settings: FillSettings
) -> float | None:
    """The market's price, before slippage, at which `match` executes the whole of a market order that meets the event alone.

    None where it does anything else, and where that is not known without asking it.
    """
    if settings.participation is not None or settings.impact:
        return None
    if type(event) is Bar:
        if not (isfinite(event.open) and isfinite(event.high) and isfinite(event.low) and isfinite(event.close)):
            return None
        if event.event_ns - _timeframe_ns(event.timeframe) >= active_ns:
            return event.open
        return event.close if event.event_ns > active_ns else None
    if event.event_ns < active_ns:
        return None
    if type(event) is Trade:
        price = event.price
    else:
        assert type(event) is Quote, event
        price, size = (event.ask, event.ask_size) if side == "buy" else (event.bid, event.bid_size)
        if size == size and size < quantity:
            return None
    return price if isfinite(price) else None


def taker_price(price: float, side: Side, settings: FillSettings, instrument: Instrument, *, is_quote: bool) -> Decimal:
    """What a market order pays that `lone_price` gives this price of a quote, or of another record."""
    return _plain(_slipped(price, side == "buy", settings, instrument.tick_size, is_quote=is_quote))


def _slipped(
    price: float, buys: bool, settings: FillSettings, tick: Decimal, *, is_quote: bool, share: float = 0.0
) -> Decimal:
    """The price with slippage, on the tick grid; `share` is that of the volume which the order takes. Where the market's price is
    above 0 nobody sells for nothing, or pays to sell: one tick is the least."""
    market = exact = decimal_of(price)
    fraction = settings.slippage_bps * 1e-4 + (0.0 if is_quote else settings.assumed_spread / 2)
    fraction += settings.impact * share * share
    if fraction or settings.slippage_ticks:
        worse = abs(exact) * _as_written(fraction) + settings.slippage_ticks * tick
        exact = exact + worse if buys else exact - worse
    rounded = (exact / tick).to_integral_value(ROUND_CEILING if buys else ROUND_FLOOR) * tick
    return tick if rounded <= ZERO < market else rounded


def _plain(price: Decimal) -> Decimal:
    """One way to write a price."""
    return price.normalize() + ZERO


class _Matching:
    """One event against orders: the volume that is left of it, and what was found so far."""

    __slots__ = ("_found", "_instrument", "_is_quote", "_settings", "_total", "_volume")

    def __init__(
        self,
        settings: FillSettings,
        instrument: Instrument,
        found: list[Outcome],
        size: float,
        *,
        is_quote: bool = False,
    ) -> None:
        self._settings = settings
        self._instrument = instrument
        self._found = found
        self._is_quote = is_quote
        self._total = size
        share = settings.participation
        if math.isnan(size):
            self._volume = _ANY_VOLUME
        elif share is None:
            self._volume = size if is_quote else _ANY_VOLUME
        else:
            self._volume = size * share

    # -- one moment ------------------------------------------------------------------------------------------------------

    def point(self, order: WorkingOrder, event_ns: int, price: float, size: float) -> None:
        if order.expires_ns and event_ns >= order.expires_ns:
            self._found.append(Lapse(order.id, "day"))
        elif event_ns >= order.active_ns and math.isfinite(price):
            self._at(order, price, size, "point")

    def _at(self, order: WorkingOrder, price: float, size: float, moment: Moment) -> WorkingOrder | None:
        """The order at one price. Returns it as it then stands, or None if it was executed or has lapsed."""
        sign = 1.0 if order.side == "buy" else -1.0
        if order.rested and sign * price > sign * order.limit:  # type: ignore[operator]  # what rests has a limit
            return order
        stands = order
        if not order.triggered and (order.stop is not None or order.trail is not None):
            if order.stop is None or sign * price < sign * order.stop:
                return self._moved(order, self._trailed(order, price, sign))
            stands = replace(order, triggered=True)
        if order.type in ("market", "stop"):
            return self._taken(order, stands, price, None, moment)
        limit = order.limit
        assert limit is not None, order
        if not stands.rested:
            if sign * price <= sign * limit:
                return self._taken(order, replace(stands, rested=True), price, limit, moment)
            if order.immediate:
                self._found.append(Lapse(order.id, "ioc"))
                return None
            return self._moved(order, replace(stands, rested=True, ahead=self._settings.queue_size))
        reached, most = self._reached(stands, sign * (price - limit), size)
        if reached is None:
            return self._moved(order, stands)
        return self._executed(order, reached, decimal_of(limit), "maker", moment, most)

    def _reached(self, order: WorkingOrder, gap: float, size: float) -> tuple[WorkingOrder | None, float]:
        """The resting order if the market has come to it, and how much of the event is for it at most.

        `gap` is how far the price stands on the wrong side of the limit; a quote there is somebody who wants our price.
        """
        queue = self._settings.queue
        if gap < 0 or (gap == 0 and (self._is_quote or queue == "touch")):
            return order, _ANY_VOLUME
        if gap > 0 or queue == "through" or not size > 0:
            return None, 0.0
        if size <= order.ahead:
            self._found.append(Move(replace(order, ahead=order.ahead - size)))
            return None, 0.0
        return replace(order, ahead=0.0), size - order.ahead

    # -- bars ------------------------------------------------------------------------------------------------------------

    def bar(self, orders: Sequence[WorkingOrder], bar: Bar, inside: bool) -> None:
        if not all(map(math.isfinite, (bar.open, bar.high, bar.low, bar.close))):
            return
        open_ns = bar.event_ns - _timeframe_ns(bar.timeframe)
        through: list[WorkingOrder] = []
        at_close: list[WorkingOrder] = []
        for order in orders:
            if order.expires_ns and bar.event_ns > order.expires_ns:
                self._found.append(Lapse(order.id, "day"))
            elif inside:
                through.append(order)
            elif open_ns >= order.active_ns:
                stands = self._at(order, bar.open, math.nan, "open")
                if stands is not None:
                    through.append(stands)
            elif bar.event_ns > order.active_ns:
                at_close.append(order)
        for order in through:
            self._within(order, bar, inside)
        for order in at_close:
            self._at(order, bar.close, math.nan, "point")

    def _within(self, order: WorkingOrder, bar: Bar, inside: bool) -> None:
        """The order in the range of a bar whose open it has outlived, or has not met."""
        sign = 1.0 if order.side == "buy" else -1.0
        worst, best = (bar.high, bar.low) if sign > 0 else (bar.low, bar.high)
        if not order.triggered and (order.stop is not None or order.trail is not None):
            if order.stop is not None and sign * worst >= sign * order.stop:
                self._triggered_within(order, order, order.stop)
            else:
                trailed = self._trailed(order, bar.close if inside else best, sign)
                if trailed.trail is not None and trailed.stop is not None and sign * bar.close >= sign * trailed.stop:
                    # the best price came before the close, so the way to the close led through the new stop
                    self._triggered_within(order, trailed, trailed.stop)
                else:
                    self._moved(order, trailed)
        elif order.rested:
            assert order.limit is not None, order
            gap = sign * (best - order.limit)
            if gap < 0 or (gap == 0 and self._settings.queue == "touch"):
                self._executed(order, order, decimal_of(order.limit), "maker", "inside", _ANY_VOLUME)

    def _triggered_within(self, order: WorkingOrder, stands: WorkingOrder, stop: float) -> None:
        sign = 1.0 if order.side == "buy" else -1.0
        stands = replace(stands, triggered=True)
        if order.limit is None or sign * stop <= sign * order.limit:
            stands = replace(stands, rested=order.limit is not None)
            self._taken(order, stands, stop, order.limit, "inside")
        elif order.immediate:
            self._found.append(Lapse(order.id, "ioc"))
        else:
            self._moved(order, replace(stands, rested=True, ahead=self._settings.queue_size))

    # -- what they share -------------------------------------------------------------------------------------------------

    def _trailed(self, order: WorkingOrder, price: float, sign: float) -> WorkingOrder:
        """With its stop at its distance from the best price so far."""
        if order.trail is None or (order.stop is not None and sign * price + order.trail >= sign * order.stop):
            return order
        stop = float(self._instrument.rounded_price(price + sign * order.trail))
        return replace(order, stop=stop) if order.stop is None or sign * stop < sign * order.stop else order

    def _moved(self, order: WorkingOrder, stands: WorkingOrder) -> WorkingOrder:
        if stands is not order:
            self._found.append(Move(stands))
        return stands

    def _taken(
        self, order: WorkingOrder, stands: WorkingOrder, price: float, limit: float | None, moment: Moment
    ) -> WorkingOrder | None:
        """Executed at the market's price, with slippage, but never beyond the limit."""
        settings, buys = self._settings, order.side == "buy"
        share = 0.0
        if settings.impact and self._total > 0:
            share = min(float(order.remaining), self._volume, self._total) / self._total  # nobody takes more than all
        rounded = _slipped(price, buys, settings, self._instrument.tick_size, is_quote=self._is_quote, share=share)
        if limit is not None:
            rounded = min(rounded, decimal_of(limit)) if buys else max(rounded, decimal_of(limit))
        return self._executed(order, stands, rounded, "taker", moment, _ANY_VOLUME)

    def _executed(
        self,
        order: WorkingOrder,
        stands: WorkingOrder,
        price: Decimal,
        liquidity: Literal["maker", "taker"],
        moment: Moment,
        most: float,
    ) -> WorkingOrder | None:
        available = min(self._volume, most)
        quantity = order.remaining
        if available < quantity:
            quantity = self._instrument.rounded_quantity(available) if available > 0 else ZERO
        self._moved(order, stands)
        if quantity > 0:
            self._volume -= float(quantity)
            self._found.append(Execution(order.id, _plain(price), quantity, liquidity, moment))
        if order.immediate and quantity < order.remaining:
            self._found.append(Lapse(order.id, "ioc"))
            return None
        return stands if quantity == 0 else None
