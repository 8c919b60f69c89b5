"""The paper book: one client's orders, fills, positions and cash, moved by requests and market records. Pure.

Every call decides and changes nothing: it gives the Entry that says what follows, or None. Whoever keeps the book writes the
entry where it is safe and then folds it. (What moves with each record, prices and trailing stops, `apply` keeps by itself; a
restart makes it again from the records after the last entry, or finds it in the state.)

    entry = book.apply(seq, event)
    if entry: journal.append(entry); book.fold(entry)
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Literal, NamedTuple

import msgspec

from strategy_runner.model.event import Bar, Funding, Quote, Trade
from strategy_runner.model.fill import Fill
from strategy_runner.model.fill_settings import FillSettings
from strategy_runner.model.instrument import Instrument, decimal_of
from strategy_runner.model.order import (
    OmsEvent,
    OrderChange,
    OrderReport,
    OrderRequest,
    OrderState,
    Side,
    client_order_id,
)
from strategy_runner.model.position import ZERO, Position
from strategy_runner.model.signal import SignalBody
from strategy_runner.oms.fill_model import (
    Band,
    MarketEvent,
    Moment,
    WorkingOrder,
    is_quiet,
    match,
    quiet_band,
    rank,
    taker_price,
)
from strategy_runner.oms.ledger import Account, after_fills, first_fees, funding_of, place
from strategy_runner.oms.order_machine import (
    Acknowledged,
    Cancelled,
    Modified,
    Rejected,
    advance,
    new_order,
    report_of,
)
from strategy_runner.oms.paper_request import changed_refusal, refusal, unseen, working
from strategy_runner.oms.paper_state import BookState, Entry, PaperOrder, fold
from strategy_runner.oms.paper_step import Step

OPEN_ORDERS_MAX = 10_000
NO_TAPE = -1
_FILLED = OrderState.FILLED


class _Lane(NamedTuple):
    """What meets the market together, and the prices between which nothing happens to it."""

    orders: list[WorkingOrder]
    band: Band | None


_Lanes = dict[tuple[str, str, str], _Lane]


class LoneOrder(msgspec.Struct, frozen=True, gc=False):
    """A market order that needs no book, of the signal `body`: an entry without a bracket, or an exit, which only reduces."""

    body: SignalBody
    leg: Literal["entry", "exit"]
    side: Side
    quantity: Decimal

    @property
    def id(self) -> str:
        return client_order_id(self.body.id, self.leg)


class LoneFill(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What counts of such an order and of the record that fills it: `caused_ns` is the order's time, `event_ns` the record's, and
    `price` the one before slippage."""

    signal_id: str
    leg: Literal["entry", "exit"]
    side: Side
    quantity: Decimal
    caused_ns: int
    event_ns: int
    price: float
    is_quote: bool


class LoneFills(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Fills that follow one another. `seq` is behind the last record, `market` the symbol's price by it."""

    seq: int
    market: float
    fills: list[LoneFill]


class PaperBook:
    """`settings` gives how orders of a symbol are filled where the `default` does not hold; `opening` is the cash with which
    an account begins, by account and currency."""

    def __init__(
        self,
        state: BookState,
        instruments: Mapping[str, Instrument],
        default: FillSettings,
        *,
        settings: Mapping[str, FillSettings] | None = None,
        opening: Mapping[str, Mapping[str, Decimal]] | None = None,
    ) -> None:
        self.state = state
        self._instruments = instruments
        self._default = default
        self._settings = dict(settings or {})
        self._opening = {account: dict(cash) for account, cash in (opening or {}).items()}
        self._lanes: dict[str, _Lanes] = {}
        self._moved: set[str] = set()
        self._priced: set[str] = set()
        self._positions: dict[str, set[tuple[str, str]]] = {}
        for lane in state.index.lanes:
            self._work(lane)
        for account in state.accounts.values():
            for held in account.positions.values():
                self._note_position(account.account, held.strategy, held.symbol)

    def set_terms(self, default: FillSettings, settings: Mapping[str, FillSettings]) -> None:
        """From the next request and record on; what was filled stays as it is."""
        self._default, self._settings = default, dict(settings)

    # -- what is asked of it ---------------------------------------------------------------------------------------------

    def submit(self, requests: Sequence[OrderRequest]) -> Entry | None:
        """Takes new orders; known ones are what they are. Ask `report` for each once the entry is folded."""
        step = self._step(max((request.event_ns for request in requests), default=0))
        age, is_open = self.state.age, self.state.index.is_open
        refused_brackets: set[str] = set()
        taken: list[PaperOrder] = []
        for request in requests:
            if self.report(request.client_order_id) is not None or request.client_order_id in step.touched:
                continue
            reason = self._refusal(request, is_open + len(taken))
            if reason and request.bracket and request.leg == "entry":
                refused_brackets.add(request.bracket)
            order, settings = new_order(request), self._settings_of(request.symbol)
            work = unseen(order) if reason else working(order, settings, waits=_is_exit(request))
            paper = PaperOrder(order=order, work=work, age=age)
            age += 1
            if reason:
                self._reject(step, paper, reason)
            else:
                taken.append(paper)
                step.put(paper)
        for paper in taken:
            if paper.order.request.bracket in refused_brackets:
                self._reject(step, paper, "entry_rejected")
                continue
            account = paper.order.request.account
            if account not in self.state.accounts and account not in step.opened:
                step.opened[account] = self._opening.get(account, {})
            order = advance(paper.order, Acknowledged(f"paper-{paper.age}"))
            step.tell("acknowledged", msgspec.structs.replace(paper, order=order))
        for bracket in dict.fromkeys(paper.order.request.bracket for paper in taken):
            step.settle(bracket)
        return self._entry(step)

    def modify(self, change: OrderChange) -> tuple[Entry | None, str]:
        """The entry, if it changes anything, and the name of the reason why not."""
        paper = self.state.orders.get(change.client_order_id)
        if paper is None or paper.order.is_final:
            return None, "" if self.report(change.client_order_id) else "unknown_order"
        order, request = paper.order, paper.order.request
        quantity = order.quantity if change.quantity is None else change.quantity
        prices = (change.limit_price, change.stop_price)
        reason = changed_refusal(order, quantity, prices, self._instruments[request.symbol])
        after = order if reason else advance(order, Modified(change))
        if after is order:
            return None, reason
        step = self._step(self.state.event_ns)
        work = working(after, self._settings_of(request.symbol), waits=True)
        if change.stop_price is None:
            work = msgspec.structs.replace(work, stop=paper.work.stop, triggered=paper.work.triggered)
        if change.limit_price is None:
            work = msgspec.structs.replace(work, rested=paper.work.rested, ahead=paper.work.ahead)
        work = msgspec.structs.replace(work, active_ns=paper.work.active_ns)
        step.tell("modified", msgspec.structs.replace(paper, order=after, work=work))
        step.settle(request.bracket)
        return self._entry(step), ""

    def cancel(self, client_order_ids: Iterable[str]) -> Entry | None:
        step = self._step(self.state.event_ns)
        for order_id in client_order_ids:
            if order_id in self.state.orders:
                paper = step.get(order_id)
                if not paper.order.is_final:
                    step.end(paper, Cancelled("asked"))
        return self._entry(step)

    # -- the market ------------------------------------------------------------------------------------------------------

    def apply(self, seq: int, event: MarketEvent | Funding) -> Entry | None:
        """The next record of a symbol. One that the book has seen before its restart changes nothing."""
        symbol = event.symbol
        lanes = self._lanes.get(symbol)
        if not lanes and symbol not in self._positions:
            return None
        if seq < self.state.seq:
            return None
        if isinstance(event, Funding):
            return self._fund(seq, event)
        self._note_price(symbol, market_price(event))
        if not lanes:
            return None
        instrument, settings = self._instruments[symbol], self._settings_of(symbol)
        step = None
        for lane in sorted(lanes) if len(lanes) > 1 else lanes:
            orders, band = lanes[lane]
            if band is not None and is_quiet(band, event):
                continue
            outcomes = match(orders, event, settings, instrument)
            if outcomes:
                step = step or self._step(event.event_ns, seq + 1)
                opened = {execution.id: execution.moment for execution in step.take(outcomes)}
                if opened and type(event) is Bar:
                    self._exits_within(step, opened, event, settings, instrument)
        if step is None:
            return None
        if step.events:
            return self._entry(step)
        for order_id, paper in step.touched.items():
            self.state.orders[order_id] = paper
            self._moved.add(order_id)
        for lane in {paper.lane for paper in step.touched.values()}:
            self._work(lane)
        return None

    def takes_lone(self, order: LoneOrder, held: Decimal) -> bool:
        """Whether a sound market order that would stand alone in the book needs it for nothing but its fill. `held` is the
        position of its strategy."""
        if order.body.cause.event_ns <= self.state.forgotten_ns:
            return False
        return order.leg == "entry" or (held if order.side == "sell" else held.copy_negate()) >= order.quantity

    def fill_lone(
        self, lone: LoneFills, *, account: str, strategy: str, symbol: str
    ) -> tuple[list[OmsEvent], list[Position]]:
        """Orders of `takes_lone` to which `fill_model.lone_price` has given a price: the same events and the same book as
        `submit`, `apply` and `fold` of each give, in a fraction of the time, and the position behind each.

        For who reads no tape and never asks for an order that has ended: it is not remembered.
        """
        state, instrument, settings = self.state, self._instruments[symbol], self._settings_of(symbol)
        fills = self._lone_fills(lone.fills, account, strategy, instrument, settings)
        before = state.accounts.get(account) or Account(
            client=state.client, account=account, cash=self._opening.get(account, {})
        )
        state.accounts[account], positions = after_fills(before, fills, instrument)
        state.instruments[symbol] = instrument
        client, events, number = state.client, [], state.number - 1
        for age, fill in enumerate(fills, state.age):
            number += 2  # the one between is the acknowledgement's
            quantity = fill.quantity
            report = OrderReport(
                client_order_id=fill.client_order_id,
                client=client,
                state=_FILLED,
                quantity=quantity,
                filled=quantity,
                average_price=fill.price * quantity / quantity,
                oms_order_id=f"paper-{age}",
            )
            event = OmsEvent(
                number=number,
                client=client,
                kind="fill",
                event_ns=fill.event_ns,
                seq=NO_TAPE,
                report=report,
                fill=fill,
                account=account,
                strategy=strategy,
                symbol=symbol,
            )
            events.append(event)
        state.number, state.age, state.seq = number + 1, state.age + len(fills), lone.seq
        last = lone.fills[-1]
        state.event_ns = max(state.event_ns, last.caused_ns, last.event_ns)
        self._note_price(symbol, lone.market)
        self._note_position(account, strategy, symbol)
        self._priced.clear()
        return events, positions

    def pass_to(self, seq: int) -> None:
        """Every record below `seq` that concerns the book was applied."""
        self.state.seq = max(self.state.seq, seq)

    def mark(self) -> Entry:
        """An entry that tells of no event, only how far the book has read and what has moved: a restart goes on from there."""
        return self._with_moves(self._step(self.state.event_ns))

    def fold(self, entry: Entry) -> None:
        """Changes the book by an entry of its own, or of its journal."""
        fold(self.state, entry, self._instruments)
        for lane in {paper.lane for paper in entry.orders}:
            self._work(lane)
        for event in entry.events:
            if event.fill is not None:
                self._note_position(event.account, event.strategy, event.symbol)
        self._moved.clear()
        self._priced.clear()

    # -- what it can tell ------------------------------------------------------------------------------------------------

    @property
    def watched(self) -> set[str]:
        """The symbols whose records concern the book: those with open orders or a position."""
        return self._lanes.keys() | self._positions.keys()

    def band(self, symbol: str) -> Band | None:
        """The prices between which nothing happens to the one lane of a symbol; None if something may, or there is none."""
        lanes = self._lanes.get(symbol, {})
        return next(iter(lanes.values())).band if len(lanes) == 1 else None

    def report(self, client_order_id: str) -> OrderReport | None:
        paper = self.state.orders.get(client_order_id)
        if paper is not None:
            return report_of(paper.order)
        finished = self.state.finished.get(client_order_id)
        return finished[1] if finished else None

    def open_orders(self) -> list[OrderReport]:
        papers = sorted(self.state.orders.values(), key=lambda paper: paper.age)
        return [report_of(paper.order) for paper in papers if not paper.order.is_final]

    def positions(self) -> list[Position]:
        return [held for account in self.state.accounts.values() for held in account.positions.values()]

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _settings_of(self, symbol: str) -> FillSettings:
        return self._settings.get(symbol, self._default)

    def _step(self, event_ns: int, seq: int = -1) -> Step:
        return Step(
            self.state,
            seq=max(seq, self.state.seq),
            event_ns=max(event_ns, self.state.event_ns) if seq < 0 else event_ns,
            instruments=self._instruments,
            settings=self._settings_of,
        )

    def _entry(self, step: Step) -> Entry | None:
        """The step's entry, with all that moved since the last one."""
        return self._with_moves(step) if step.events else None

    def _with_moves(self, step: Step) -> Entry:
        entry = step.entry()
        moved = [self.state.orders[order_id] for order_id in sorted(self._moved - step.touched.keys())]
        prices = {symbol: self.state.prices[symbol] for symbol in sorted(self._priced)}
        instruments = self._changed_instruments(entry.events)
        return msgspec.structs.replace(entry, orders=(*entry.orders, *moved), prices=prices, instruments=instruments)

    def _changed_instruments(self, events: Sequence[OmsEvent]) -> dict[str, Instrument]:
        """What the money of these events is counted with, where that is another than before."""
        counted = {event.symbol for event in events if event.fill is not None or event.amount is not None}
        known, now = self.state.instruments, self._instruments
        return {symbol: now[symbol] for symbol in sorted(counted) if known.get(symbol) != now[symbol]}

    def _refusal(self, request: OrderRequest, is_open: int) -> str:
        account = self.state.accounts.get(request.account)
        position = account.positions.get(place(request.strategy, request.symbol)) if account else None
        held = position.quantity if position else ZERO
        reason = refusal(request, self.state.client, self._instruments.get(request.symbol), held)
        if not reason and request.event_ns <= self.state.forgotten_ns:
            return "too_old"
        return reason or ("too_many_orders" if is_open >= OPEN_ORDERS_MAX else "")

    def _reject(self, step: Step, paper: PaperOrder, reason: str) -> None:
        step.tell("rejected", msgspec.structs.replace(paper, order=advance(paper.order, Rejected(reason))))

    def _exits_within(
        self, step: Step, opened: dict[str, Moment], bar: Bar, settings: FillSettings, instrument: Instrument
    ) -> None:
        """Exits that an entry's fill woke within this bar: after its open they have the whole bar before them, else only
        their stops count."""
        for order_id, moment in opened.items():
            request = step.get(order_id).order.request
            if not request.bracket or request.leg != "entry" or moment == "point":
                continue
            members = step.members(request.bracket)
            woken = [paper for paper in members if _works(paper) and self.state.orders[paper.order.id].waits]
            works = [paper.work for paper in sorted(woken, key=_precedence)]
            step.take(match(works, bar, settings, instrument, inside=moment == "inside"))

    def _fund(self, seq: int, funding: Funding) -> Entry | None:
        """Pays on every position of the symbol, at the last price: what was filled had one. NaN is no rate and pays nothing."""
        if funding.symbol not in self._positions or not math.isfinite(funding.rate):
            return None
        step = self._step(funding.event_ns, seq + 1)
        price, instrument = self.state.prices[funding.symbol], self._instruments[funding.symbol]
        for account in self.state.accounts.values():
            for held in account.positions.values():
                if held.symbol == funding.symbol and held.quantity:
                    amount = funding_of(held, decimal_of(funding.rate), decimal_of(price), instrument)
                    step.pay_funding((held.account, held.strategy, held.symbol), amount)
        return self._entry(step)

    def _lone_fills(
        self,
        orders: Sequence[LoneFill],
        account: str,
        strategy: str,
        instrument: Instrument,
        settings: FillSettings,
    ) -> list[Fill]:
        prices = [taker_price(one.price, one.side, settings, instrument, is_quote=one.is_quote) for one in orders]
        notionals = [(price, one.quantity) for price, one in zip(prices, orders, strict=True)]
        fees = first_fees(settings.fees, notionals, instrument.multiplier)
        client, symbol, currency = self.state.client, instrument.symbol, instrument.currency
        fills = []
        for one, price, fee in zip(orders, prices, fees, strict=True):
            signal_id = one.signal_id
            order_id = client_order_id(signal_id, one.leg)
            fill = Fill(
                fill_id=f"{order_id}-0",
                client_order_id=order_id,
                signal_id=signal_id,
                client=client,
                account=account,
                strategy=strategy,
                symbol=symbol,
                side=one.side,
                price=price,
                quantity=one.quantity,
                fee=fee,
                currency=currency,
                liquidity="taker",
                event_ns=one.event_ns,
            )
            fills.append(fill)
        return fills

    def _note_price(self, symbol: str, price: float) -> None:
        if math.isfinite(price):
            self.state.prices[symbol] = price
            self._priced.add(symbol)

    def _work(self, lane: tuple[str, str, str]) -> None:
        """Notes what meets the market of a lane in which an order has changed."""
        known, symbol = self.state.orders, lane[2]
        papers = [paper for order_id in self.state.index.lanes.get(lane, ()) if _works(paper := known[order_id])]
        if papers:
            orders = [paper.work for paper in sorted(papers, key=_precedence)]
            self._lanes.setdefault(symbol, {})[lane] = _Lane(orders, quiet_band(orders))
        elif lane in self._lanes.get(symbol, ()):
            del self._lanes[symbol][lane]
            if not self._lanes[symbol]:
                del self._lanes[symbol]

    def _note_position(self, account: str, strategy: str, symbol: str) -> None:
        """Whose position in a symbol there is."""
        held = self.state.accounts[account].positions[place(strategy, symbol)]
        if held.quantity:
            self._positions.setdefault(symbol, set()).add((account, strategy))
        elif symbol in self._positions:
            self._positions[symbol].discard((account, strategy))
            if not self._positions[symbol]:
                del self._positions[symbol]


def market_price(event: MarketEvent) -> float:
    """The trade's price, the quote's middle (or the one side it has), the bar's close; NaN where there is none."""
    if isinstance(event, Trade):
        return event.price
    if isinstance(event, Quote):
        return next(filter(math.isfinite, (event.mid, event.bid, event.ask)), math.nan)
    return event.close


def _works(paper: PaperOrder) -> bool:
    return not (paper.waits or paper.order.is_final)


def _precedence(paper: PaperOrder) -> tuple[int, int]:
    return rank(paper.work), paper.age


def _is_exit(request: OrderRequest) -> bool:
    return bool(request.bracket) and request.leg != "entry"
