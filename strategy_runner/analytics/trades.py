"""Trades: what each strategy's fills come to, from flat to flat, by the average price method. Exact, from fill logs alone.

Their entries have the position behind each fill, with what it cost and has gained in money. So what was counted once stays as it
was counted, whatever an instrument has become since.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal, localcontext

import msgspec

from strategy_runner.model.fill import Fill
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import Side
from strategy_runner.model.position import ZERO, Position
from strategy_runner.model.private import PrivateEntry
from strategy_runner.oms.ledger import EXACT


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
    """What is held still. `so_far` is what the trade has realised, after fees and with funding; `multiplier` is of now."""

    client: str
    strategy: str
    symbol: str
    currency: str
    position: Position
    so_far: Decimal
    multiplier: Decimal
    opened_ns: int
    signal_id: str

    def result_at(self, price: Decimal) -> Decimal:
        """What it has come to so far, with the position at this price."""
        with localcontext(EXACT):
            return self.so_far + self.position.quantity * price * self.multiplier - self.position.cost


class Trades(msgspec.Struct, frozen=True, kw_only=True):
    """In the order in which they ended. `fees` and `fills` are by (client, strategy, symbol, currency): an instrument
    may have had another currency."""

    ended: tuple[Trade, ...]
    open: tuple[Open, ...]
    fees: dict[tuple[str, str, str, str], Decimal]
    fills: dict[tuple[str, str, str, str], int]


class _Run(msgspec.Struct, kw_only=True):
    """One worker's on one account, as it goes on."""

    position: Position
    currency: str = ""
    so_far: Decimal = ZERO
    opened_ns: int = 0
    signal_id: str = ""
    most: Decimal = ZERO


def trades_of(entries: Iterable[PrivateEntry], instruments: Mapping[str, Instrument]) -> Trades:
    """Of a client's fill logs, each worker's entries in their order: workers that fill their own orders each keep a log of their
    own.

    What is held is worth what `instruments` say of now; `multiplier` is 1 for one that nobody knows.
    """
    runs: dict[tuple[str, str, str, str], _Run] = {}
    ended: list[Trade] = []
    fees: dict[tuple[str, str, str, str], Decimal] = {}
    fills: dict[tuple[str, str, str, str], int] = {}
    with localcontext(EXACT):
        for entry in entries:
            event = entry.event
            key = (event.client, event.account, event.strategy, event.symbol)
            if event.fill is not None:
                run = runs.get(key) or runs.setdefault(key, _Run(position=_nothing(key)))
                ended += _filled(run, event.fill, entry.position)
                payer = (event.client, event.strategy, event.symbol, event.fill.currency)
                fees[payer] = fees.get(payer, ZERO) + event.fill.fee
                fills[payer] = fills.get(payer, 0) + 1
            elif event.amount is not None and key in runs:
                runs[key].so_far += event.amount
    left = tuple(_open(run, instruments) for run in runs.values() if run.position.quantity)
    ended.sort(key=lambda trade: trade.closed_ns)  # stable: those of one moment stay as they came
    return Trades(ended=tuple(ended), open=left, fees=fees, fills=fills)


def _filled(run: _Run, fill: Fill, after: Position) -> list[Trade]:
    """The trade that a fill ends, if it ends one; one that turns the position ends it and begins another, and its fee belongs to
    what it ends."""
    before, run.position, run.currency = run.position, after, fill.currency
    run.so_far += after.realised - before.realised - fill.fee
    is_over = before.quantity * after.quantity <= 0 and before.quantity != 0
    ended = [_ended(run, fill, before.quantity)] if is_over else []
    if is_over:
        run.so_far = ZERO
    if not before.quantity or (is_over and after.quantity):
        run.opened_ns, run.signal_id, run.most = fill.event_ns, fill.signal_id, ZERO
    run.most = max(run.most, abs(after.quantity))
    return ended


def _ended(run: _Run, fill: Fill, before: Decimal) -> Trade:
    return Trade(
        client=fill.client,
        account=fill.account,
        strategy=fill.strategy,
        symbol=fill.symbol,
        side="buy" if before > 0 else "sell",
        quantity=run.most,
        opened_ns=run.opened_ns,
        closed_ns=fill.event_ns,
        result=run.so_far,
        currency=fill.currency,
        signal_id=run.signal_id,
    )


def _open(run: _Run, instruments: Mapping[str, Instrument]) -> Open:
    position = run.position
    instrument = instruments.get(position.symbol)
    return Open(
        client=position.client,
        strategy=position.strategy,
        symbol=position.symbol,
        currency=run.currency,
        position=position,
        so_far=run.so_far,
        multiplier=instrument.multiplier if instrument is not None else Decimal(1),
        opened_ns=run.opened_ns,
        signal_id=run.signal_id,
    )


def _nothing(key: tuple[str, str, str, str]) -> Position:
    client, account, strategy, symbol = key
    return Position(client=client, account=account, strategy=strategy, symbol=symbol)
