"""The state of a client's paper book, and the one way it changes: state = fold of the journal's entries.

An entry holds results and not causes: each order it touched as it then stood, and what happened. So a restart needs neither
the records behind it nor the rules that were in force, and cannot come to another result. What moves with every record, the
last prices and the stops that trail them, goes along with the next entry.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TypeVar

import msgspec

from strategy_runner.errors import ConfigurationError
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import OmsEvent, OrderReport
from strategy_runner.model.position import ZERO
from strategy_runner.oms.fill_model import WorkingOrder
from strategy_runner.oms.ledger import Account, after_fill, after_funding
from strategy_runner.oms.order_machine import Order, report_of

FINISHED_KEPT = 10_000
LONG_AGO_NS = -1 << 63  # before any time
_K = TypeVar("_K", str, tuple[str, str, str])


class PaperOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`work` is how the market sees it. An exit `waits` until its bracket's entry has filled. `age` orders what came in;
    `raw_fees` are those of its fills before the minimum."""

    order: Order
    work: WorkingOrder
    age: int
    waits: bool = False
    raw_fees: Decimal = ZERO

    @property
    def lane(self) -> tuple[str, str, str]:
        """Orders of one lane share a position, and meet the market together."""
        request = self.order.request
        return request.account, request.strategy, request.symbol


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry of the journal. `seq` is the tape's next record after it. `opened` are accounts that begin, with their cash;
    `prices` and the orders without an event in `orders` are what the records since the entry before have moved. `instruments` are
    those that money is counted with from this entry on, where they are others than before."""

    seq: int
    event_ns: int
    orders: tuple[PaperOrder, ...] = ()
    events: tuple[OmsEvent, ...] = ()
    opened: dict[str, dict[str, Decimal]] = {}
    prices: dict[str, float] = {}
    instruments: dict[str, Instrument] = {}


class PaperIndex:
    """Which orders of a book belong together, those of a bracket and those of a lane, found without walking over all of them. And
    how many are open."""

    def __init__(self, orders: Iterable[PaperOrder]) -> None:
        self.is_open = 0
        self.brackets: dict[str, dict[str, None]] = {}
        self.lanes: dict[tuple[str, str, str], dict[str, None]] = {}
        for paper in orders:
            self.put(None, paper)

    def put(self, before: PaperOrder | None, paper: PaperOrder) -> None:
        self.is_open += (not paper.order.is_final) - (before is not None and not before.order.is_final)
        if before is None:
            order_id, bracket = paper.order.id, paper.order.request.bracket
            self.lanes.setdefault(paper.lane, {})[order_id] = None
            if bracket:
                self.brackets.setdefault(bracket, {})[order_id] = None

    def drop(self, paper: PaperOrder) -> None:
        assert paper.order.is_final, paper.order.id
        _leave(self.lanes, paper.lane, paper.order.id)
        if paper.order.request.bracket:
            _leave(self.brackets, paper.order.request.bracket, paper.order.id)


def _leave(groups: dict[_K, dict[str, None]], key: _K, order_id: str) -> None:
    del groups[key][order_id]
    if not groups[key]:
        del groups[key]


class BookState(msgspec.Struct, kw_only=True, dict=True):
    """`number` is the next event's. `orders` are those that are open, and finished ones of a bracket that has open orders;
    `finished` the last FINISHED_KEPT others. An order that is not among them and caused at or before `forgotten_ns` may be
    one that was forgotten. `instruments` has by symbol what its money was last counted with."""

    client: str
    seq: int = 0
    event_ns: int = LONG_AGO_NS
    number: int = 0
    age: int = 0
    orders: dict[str, PaperOrder] = {}
    finished: dict[str, tuple[int, OrderReport]] = {}
    forgotten_ns: int = LONG_AGO_NS
    accounts: dict[str, Account] = {}
    prices: dict[str, float] = {}
    instruments: dict[str, Instrument] = {}

    def __post_init__(self) -> None:
        self.__dict__["index"] = PaperIndex(self.orders.values())

    @property
    def index(self) -> PaperIndex:
        """No field: neither kept nor compared."""
        index: PaperIndex = self.__dict__["index"]
        return index


def instrument_of(instruments: Mapping[str, Instrument], client: str, symbol: str) -> Instrument:
    """Raises ConfigurationError for a symbol that the book trades and the configuration has lost."""
    found = instruments.get(symbol)
    if found is None:
        raise ConfigurationError(
            f"instruments.{symbol}: expected an instrument, since {client} has orders or a position in it, found none"
        )
    return found


def fold(state: BookState, entry: Entry, instruments: Mapping[str, Instrument]) -> None:
    """Changes the state by an entry, which must be the next. `instruments` are for entries of earlier versions, which do not say
    what they were counted with."""
    assert entry.seq >= state.seq, (entry.seq, state.seq)
    state.seq, state.event_ns = entry.seq, max(state.event_ns, entry.event_ns)
    state.prices.update(entry.prices)
    state.instruments.update(entry.instruments)
    for account, cash in entry.opened.items():
        assert account not in state.accounts, account
        state.accounts[account] = Account(client=state.client, account=account, cash=cash)
    for event in entry.events:
        assert event.number == state.number, (event.number, state.number)
        state.number += 1
        if event.fill is None and event.amount is None:
            continue
        instrument = state.instruments.get(event.symbol) or instrument_of(instruments, state.client, event.symbol)
        if event.fill is not None:
            fill = event.fill
            state.accounts[fill.account] = after_fill(state.accounts[fill.account], fill, instrument)
        elif event.amount is not None:
            currency = instrument.currency
            account_after = after_funding(
                state.accounts[event.account], event.strategy, event.symbol, currency, event.amount
            )
            state.accounts[event.account] = account_after
    for paper in entry.orders:
        state.index.put(state.orders.get(paper.order.id), paper)
        state.orders[paper.order.id] = paper
        state.age = max(state.age, paper.age + 1)
    _put_away(state, entry.orders)


def _put_away(state: BookState, touched: tuple[PaperOrder, ...]) -> None:
    """Finished orders leave, a bracket's all at once; the oldest are forgotten."""
    if not any(paper.order.is_final for paper in touched):
        return
    brackets = dict.fromkeys(paper.order.request.bracket for paper in touched if paper.order.request.bracket)
    leaving = [paper for paper in touched if paper.order.is_final and not paper.order.request.bracket]
    for bracket in brackets:
        papers = [state.orders[order_id] for order_id in state.index.brackets[bracket]]
        if all(paper.order.is_final for paper in papers):
            leaving += papers
    for paper in leaving:
        del state.orders[paper.order.id]
        state.index.drop(paper)
        state.finished[paper.order.id] = (paper.order.request.event_ns, report_of(paper.order))
    while len(state.finished) > FINISHED_KEPT:
        event_ns, _ = state.finished.pop(next(iter(state.finished)))
        state.forgotten_ns = max(state.forgotten_ns, event_ns)
