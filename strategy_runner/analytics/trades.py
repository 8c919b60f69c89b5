"""Trades: what each strategy's fills come to, from flat to flat, by the average price method. Exact, from fills alone."""

from collections.abc import Iterable, Mapping
from decimal import Decimal

import msgspec

from strategy_runner.model.fill import Fill
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import OmsEvent, Side
from strategy_runner.risk.book import ZERO, Book, after_fill, after_payment


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """A position from its first fill to its end. `result` is after fees and with funding, in `currency`; `signal_id` is of the
    signal that opened it, `quantity` the most that was held."""

    client: str
    account: str
    strategy: str
    symbol: str
    side: Side
    quantity: Decimal
    opened_ns: int
    closed_ns: int
    result: Decimal
    currency: str
    signal_id: str


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """What is held still."""

    client: str
    strategy: str
    symbol: str
    currency: str
    book: Book
    opened_ns: int
    signal_id: str

    def result_at(self, price: Decimal) -> Decimal:
        """What it has come to so far, with the position at this price."""
        return self.book.since_entry + self.book.unrealised(price)


class Trades(msgspec.Struct, frozen=True, kw_only=True):
    """In the order in which they ended. `fees` and `fills` are by (client, strategy, symbol)."""

    ended: tuple[Trade, ...]
    open: tuple[Open, ...]
    fees: dict[tuple[str, str, str], Decimal]
    fills: dict[tuple[str, str, str], int]


class _Run(msgspec.Struct, kw_only=True):
    """One worker's on one account, as it goes on."""

    book: Book
    opened_ns: int = 0
    signal_id: str = ""
    most: Decimal = ZERO


def trades_of(events: Iterable[OmsEvent], instruments: Mapping[str, Instrument]) -> Trades:
    """Of a client's events, each worker's in their order: workers that fill their own orders each keep a log of their own.

    What an instrument is worth a point (`multiplier`) is 1 for one that nobody knows.
    """
    runs: dict[tuple[str, str, str, str], _Run] = {}
    ended: list[Trade] = []
    fees: dict[tuple[str, str, str], Decimal] = {}
    fills: dict[tuple[str, str, str], int] = {}
    for event in events:
        key = (event.client, event.account, event.strategy, event.symbol)
        if event.fill is not None:
            run = runs.get(key) or runs.setdefault(key, _Run(book=_book(event.fill, instruments)))
            ended += _filled(run, event.fill)
            worker = (event.client, event.strategy, event.symbol)
            fees[worker] = fees.get(worker, ZERO) + event.fill.fee
            fills[worker] = fills.get(worker, 0) + 1
        elif event.amount is not None and key in runs:
            runs[key].book = after_payment(runs[key].book, event.amount)
    left = tuple(
        Open(
            client=key[0],
            strategy=key[2],
            symbol=key[3],
            currency=run.book.currency,
            book=run.book,
            opened_ns=run.opened_ns,
            signal_id=run.signal_id,
        )
        for key, run in runs.items()
        if run.book.quantity
    )
    ended.sort(key=lambda trade: trade.closed_ns)  # stable: those of one moment stay as they came
    return Trades(ended=tuple(ended), open=left, fees=fees, fills=fills)


def _filled(run: _Run, fill: Fill) -> list[Trade]:
    """The trade that a fill ends, if it ends one; one that turns the position begins another."""
    before = run.book.quantity
    run.book, result = after_fill(run.book, fill)
    ended = []
    if result is not None:
        ended.append(_ended(run, fill, before, result))
    if not before or (result is not None and run.book.quantity):
        run.opened_ns, run.signal_id, run.most = fill.event_ns, fill.signal_id, ZERO
    run.most = max(run.most, abs(run.book.quantity))
    return ended


def _ended(run: _Run, fill: Fill, before: Decimal, result: Decimal) -> Trade:
    return Trade(
        client=fill.client,
        account=fill.account,
        strategy=fill.strategy,
        symbol=fill.symbol,
        side="buy" if before > 0 else "sell",
        quantity=run.most,
        opened_ns=run.opened_ns,
        closed_ns=fill.event_ns,
        result=result,
        currency=fill.currency,
        signal_id=run.signal_id,
    )


def _book(fill: Fill, instruments: Mapping[str, Instrument]) -> Book:
    instrument = instruments.get(fill.symbol)
    multiplier = instrument.multiplier if instrument is not None else Decimal(1)
    return Book(strategy=fill.strategy, symbol=fill.symbol, currency=fill.currency, multiplier=multiplier)
