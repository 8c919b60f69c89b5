"""The appraiser: what a signal may ask of the OMS. For each one in turn: too late, stale, its size, its strategy's say among
others, and the risk check; what passes leaves as the orders that were checked.

A signal that only reduces what its strategy holds is an exit, whatever it is called. Exits pass where entries are stopped.
"""

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

import msgspec

from strategy_runner.config.spec import RouterSpec
from strategy_runner.model.instrument import Instrument, decimal_of
from strategy_runner.model.order import OrderRequest, Side, signed
from strategy_runner.model.position import ZERO
from strategy_runner.model.session import is_day_off
from strategy_runner.model.signal import ORDERING, SignalBody
from strategy_runner.oms.order_making import (
    as_exit,
    cancelled_by,
    changes_of,
    closing_side,
    draft_id,
    final,
    orders_of,
    quantity_to_close,
)
from strategy_runner.risk import sizing
from strategy_runner.risk.aggregation import BAD_SIZE, Wish, aggregate
from strategy_runner.risk.aggregation import Ruling as Aggregated
from strategy_runner.risk.breakers import BREAKERS, stopping
from strategy_runner.risk.changes import NO_OPEN_ORDER, change_refusal
from strategy_runner.risk.checks import UNKNOWN_INSTRUMENT, check
from strategy_runner.risk.exits import NOTHING_TO_EXIT
from strategy_runner.risk.numbers import is_on_grid
from strategy_runner.risk.sizing import Basis, size_of
from strategy_runner.risk.state import held, rate_to_client
from strategy_runner.risk.working import Exposure, worker_key
from strategy_runner.router.intake import Arrival
from strategy_runner.router.market import Market
from strategy_runner.router.reconciliation import UNRECONCILED
from strategy_runner.router.risk_record import RiskRecord, standing_key
from strategy_runner.router.ruling import Judge, Moment, Ruling, expires_ns, late_ruling, stale_ruling
from strategy_runner.router.volatility import BARS, yearly_volatility

NO_ACCOUNT = "no_account"
DAY_OFF = "market_day_off"
REASONS: dict[str, str] = {
    NO_ACCOUNT: "the client has no account for the symbol",
    DAY_OFF: "an entry at a weekend or holiday of the symbol's market, by the time of its record; crypto has none",
}


class _Case(msgspec.Struct, kw_only=True, gc=False):
    """One signal on its way; `ruling` ends it."""

    arrival: Arrival
    body: SignalBody
    ruling: Ruling | None = None
    wish: Wish | None = None
    quantity: Decimal = ZERO


class Appraiser:
    """Reads the state of `record`, and takes into it what passes. `price` is asked once for each symbol and batch."""

    def __init__(self, spec: RouterSpec, judge: Judge, record: RiskRecord, market: Market) -> None:
        self._judge = judge
        self._record = record
        self._market = market
        self.reload(spec)

    def reload(self, spec: RouterSpec) -> None:
        assert spec.oms is not None
        self._spec = spec
        self._accounts = spec.oms.accounts

    def rule(self, arrivals: Sequence[Arrival], at_ns: int, *, reconciled: bool) -> list[Ruling]:
        """A ruling for each signal, in their order. `reconciled` is whether orders and positions were compared with the OMS's;
        else entries are refused."""
        moment = self._judge.moment()
        prices: dict[str, Decimal | None] = {}
        for arrival in arrivals:
            if arrival.body.symbol not in prices:
                prices[arrival.body.symbol] = self._price(arrival.body.symbol)
        cases = [self._open(arrival, moment, prices, at_ns) for arrival in arrivals]
        self._aggregate(cases, prices, at_ns, reconciled)
        return [self._close(case, prices[case.body.symbol], at_ns, reconciled) for case in cases]

    # -- before the others are heard -------------------------------------------------------------------------------------

    def _open(self, arrival: Arrival, moment: Moment | None, prices: dict[str, Decimal | None], at_ns: int) -> _Case:
        body = arrival.body
        if body.refusal is not None:
            return _Case(arrival=arrival, body=body, ruling=Ruling("refused", body.refusal))
        if arrival.logged.envelope.is_observed:  # its router had not come to it
            return _Case(arrival=arrival, body=body, ruling=Ruling("accepted"))
        limits = self._judge.limits_of(arrival.worker)
        late = late_ruling(arrival, moment, limits)
        if late is not None or body.action not in ORDERING:
            return _Case(arrival=arrival, body=body, ruling=late)
        instrument = self._spec.instruments.get(body.symbol)
        if instrument is None:
            return _Case(arrival=arrival, body=body, ruling=Ruling("refused", UNKNOWN_INSTRUMENT))
        if body.symbol not in self._accounts:
            return _Case(arrival=arrival, body=body, ruling=Ruling("refused", NO_ACCOUNT))
        try:
            return self._wish(arrival, instrument, moment, prices[body.symbol], at_ns)
        except (ValueError, InvalidOperation):
            return _Case(arrival=arrival, body=body, ruling=Ruling("refused", BAD_SIZE))

    def _wish(
        self, arrival: Arrival, instrument: Instrument, moment: Moment | None, price: Decimal | None, at_ns: int
    ) -> _Case:
        """Raises ValueError, InvalidOperation for numbers that are none."""
        signal = arrival.body
        body = as_exit(signal, held(self._record.state, signal.strategy, signal.symbol), instrument)
        case = _Case(arrival=arrival, body=body)
        if body.size is None:
            case.ruling = Ruling("refused", BAD_SIZE)
            return case
        is_exit = body.action == "close"
        if is_exit:
            case.quantity = self._exit_quantity(body, instrument)
            if case.quantity <= 0:
                case.ruling = Ruling("refused", NOTHING_TO_EXIT)
        else:
            if is_day_off(instrument.hours, body.cause.event_ns):
                case.ruling = Ruling("refused", DAY_OFF)
            else:
                case.ruling = stale_ruling(arrival, moment, self._judge.limits_of(arrival.worker))
            if case.ruling is None:
                self._size(case, instrument, price)
        if self._spec.risk.aggregation == "all":
            return case  # nobody else is heard
        latch = None if is_exit else stopping(self._record.state, body.strategy, body.symbol, at_ns)
        if latch is not None and case.ruling is None:
            case.ruling = Ruling("refused", BREAKERS[latch.breaker].refusal, price=price)  # before others lose to it
        side: Side = closing_side(body) if is_exit else "buy" if body.action == "buy" else "sell"
        case.wish = Wish(
            signal_id=body.id,
            strategy=body.strategy,
            side=side,
            size=case.quantity,
            confidence=body.confidence,
            is_exit=is_exit,
        )
        return case

    def _exit_quantity(self, body: SignalBody, instrument: Instrument) -> Decimal:
        """Of the size that the worker saw, at most what is held now and no other exit is closing already; the two differ while
        fills are under way to it."""
        assert body.size is not None
        state = self._record.state
        closing = state.totals.of(worker_key(body.strategy, body.symbol)).closing
        return quantity_to_close(body.size, abs(held(state, body.strategy, body.symbol)), closing, instrument)

    def _size(self, case: _Case, instrument: Instrument, price: Decimal | None) -> None:
        body, own = case.body, self._spec.sizing.get(case.body.strategy)
        assert body.size is not None
        if own is None or own.sizing.kind == "fixed" or body.size != own.size or price is None:
            case.quantity = instrument.rounded_quantity(body.size)
            if case.quantity <= 0:
                case.ruling = Ruling("refused", sizing.BELOW_LOT if body.size > 0 else BAD_SIZE)
            elif not is_on_grid(case.quantity, instrument.lot_size):
                case.ruling = Ruling("refused", sizing.TOO_MANY_LOTS)  # before others lose to it
            return
        state = self._record.state
        volatility = None
        if own.sizing.kind == "volatility_target":
            volatility = yearly_volatility(self._market.closes(body.symbol, body.timeframe, BARS))
        rate = rate_to_client(state, instrument.currency)
        basis = Basis(
            size=decimal_of(body.size),
            price=_entered_at(body, price),
            rate=Decimal(1) if rate is None else rate,
            equity=state.equity if rate is not None else None,
            stop=None if body.stop_loss is None else decimal_of(body.stop_loss),
            volatility=None if volatility is None else decimal_of(volatility),
        )
        sized = size_of(own.sizing, basis, instrument)
        if sized.quantity is None:
            case.ruling = Ruling("refused", sized.refusal or sizing.NOT_FINITE)
        else:
            case.quantity = instrument.rounded_quantity(sized.quantity)  # written as a size that was named is

    # -- among the others --------------------------------------------------------------------------------------------------

    def _aggregate(
        self, cases: Sequence[_Case], prices: dict[str, Decimal | None], at_ns: int, reconciled: bool
    ) -> None:
        """Those of one batch and symbol together: the least that is left of each is traded, the reason of each loss is kept.

        Nobody loses to an entry that risk would not let through: it is refused, and the others are heard without it. Of one that
        is netted that is judged by what is left."""
        policy = self._spec.risk.aggregation
        if policy == "all":
            return
        for symbol in dict.fromkeys(case.body.symbol for case in cases):
            own = [case for case in cases if case.body.symbol == symbol and case.wish is not None]
            while heard := [case for case in own if case.ruling is None]:
                wishes = [case.wish for case in heard if case.wish is not None]
                rulings = aggregate(policy, wishes, self._standing(symbol), self._spec.risk.priorities)
                judged = list(zip(heard, rulings, strict=True))
                for case, ruling in judged:
                    left = case.quantity if policy != "net" else self._left(case, ruling.size)
                    if left > 0 and case.body.action != "close":
                        refusal = self._refusal(self._drafts(case.body, left), prices[symbol], at_ns, reconciled)
                        if refusal is not None:
                            case.ruling = Ruling("refused", refusal, price=prices[symbol])
                if all(case.ruling is None for case in heard):
                    self._settle(judged)
                    break

    def _settle(self, judged: Sequence[tuple[_Case, Aggregated]]) -> None:
        for case, ruling in judged:
            if not ruling.accepted:
                detail = f"lost to {ruling.winner}" if ruling.winner else ""
                case.ruling = Ruling("refused", ruling.reason, detail=detail)
            else:
                case.quantity = self._left(case, ruling.size)
                if case.quantity <= 0:
                    case.ruling = Ruling("refused", sizing.BELOW_LOT)

    def _left(self, case: _Case, size: Decimal) -> Decimal:
        """Of the quantity of a signal that is let through with a size."""
        if size >= case.quantity:
            return case.quantity
        return self._spec.instruments[case.body.symbol].rounded_quantity(size)

    def _standing(self, symbol: str) -> list[Wish]:
        """What strategies asked for before and still hold, or have entries under way for: of each the last. What was rejected,
        or has ended unfilled, speaks no more."""
        exposures = self._record.state.exposures
        found: dict[str, Wish] = {}
        for key, wish in self._record.standing.items():
            one = exposures.get(worker_key(wish.strategy, symbol))
            if key == standing_key(wish, symbol) and one is not None and _is_wanted(one, wish.side):
                found.pop(wish.strategy, None)
                found[wish.strategy] = wish
        return list(found.values())

    # -- the check ---------------------------------------------------------------------------------------------------------

    def _close(self, case: _Case, price: Decimal | None, at_ns: int, reconciled: bool) -> Ruling:
        body = case.body
        if case.ruling is None or case.ruling.verdict != "expired":
            self._record.signalled(at_ns, body.strategy, body.symbol)
        if case.ruling is not None:
            return case.ruling
        if body.action not in ORDERING:
            return self._change(body, price, at_ns)
        if body.action == "close":  # others of the same batch may be closing by now
            left = self._exit_quantity(body, self._spec.instruments[body.symbol])
            case.quantity = min(case.quantity, left)
            if case.quantity <= 0:
                return Ruling("refused", NOTHING_TO_EXIT, price=price)
        drafts = self._drafts(body, case.quantity)
        refusal = self._refusal(drafts, price, at_ns, reconciled)
        if refusal is not None:
            return Ruling("refused", refusal, price=price)
        orders = tuple(final(draft) for draft in drafts)
        self._record.ordered(at_ns, orders, price)
        expiry_ns = expires_ns(case.arrival, self._judge.limits_of(case.arrival.worker))
        return Ruling("accepted", orders=orders, expires_ns=expiry_ns, price=price)

    def _change(self, body: SignalBody, price: Decimal | None, at_ns: int) -> Ruling:
        """Of orders that were made of an earlier signal; the desk finds them again by their ids."""
        state, instrument = self._record.state, self._spec.instruments.get(body.symbol)
        if instrument is None:
            return Ruling("refused", UNKNOWN_INSTRUMENT)
        if body.action == "cancel":
            is_open = any(order_id in state.orders for order_id in cancelled_by(body))
            return Ruling("accepted") if is_open else Ruling("refused", NO_OPEN_ORDER)
        wished = [(one, state.orders.get(one.client_order_id)) for one in changes_of(body, instrument)]
        found = [change_refusal(one, order, state, price, at_ns) for one, order in wished if order is not None]
        refusal = next(filter(None, found), None) if found else NO_OPEN_ORDER
        if refusal is not None:
            return Ruling("refused", refusal, price=price)
        self._record.changed(at_ns, [one for one, _ in wished])
        return Ruling("accepted", price=price)

    def _drafts(self, body: SignalBody, quantity: Decimal) -> Sequence[OrderRequest]:
        return orders_of(
            body,
            account=self._accounts[body.symbol],
            instrument=self._spec.instruments[body.symbol],
            quantity=quantity,
            name=draft_id,
        )

    def _refusal(
        self, orders: Sequence[OrderRequest], price: Decimal | None, at_ns: int, reconciled: bool
    ) -> str | None:
        entry, state = orders[0], self._record.state
        if not reconciled and not entry.reduce_only:
            return UNRECONCILED
        refusal = check(entry, state, price, at_ns)
        for leg in orders[1:]:
            refusal = refusal or check(leg, state, price, at_ns, entry)
        return refusal

    def _price(self, symbol: str) -> Decimal | None:
        price = self._market.price(symbol)
        return None if price is None else decimal_of(price)


def _is_wanted(exposure: Exposure, side: Side) -> bool:
    """Whether a worker holds something on a side, or may come to by what is working."""
    return signed(side, exposure.quantity) > 0 or (exposure.buys if side == "buy" else exposure.sells) > 0


def _entered_at(body: SignalBody, price: Decimal) -> Decimal:
    """What an entry is likely to be filled at: the market's price, or the one that it waits for. Raises ValueError for none."""
    terms = body.terms
    if terms is None:
        return price
    dearer, cheaper = (max, min) if body.action == "buy" else (min, max)
    if terms.stop_price is not None:
        price = dearer(price, decimal_of(terms.stop_price))
    return price if terms.limit_price is None else cheaper(price, decimal_of(terms.limit_price))
