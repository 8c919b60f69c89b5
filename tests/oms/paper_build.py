"""What tests of the paper OMS build: instruments, requests, books."""

from decimal import Decimal
from typing import Any

import msgspec

from strategy_runner.model.event import Bar, Quote, Trade
from strategy_runner.model.fill import Fill
from strategy_runner.model.fill_settings import FillSettings
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import OrderRequest
from strategy_runner.oms.paper_book import PaperBook
from strategy_runner.oms.paper_state import BookState, Entry

NOW = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
D = Decimal

X = Instrument(symbol="X", asset_class="crypto", currency="USD", tick_size=D("0.01"), lot_size=D("0.1"))
FUTURE = Instrument(
    symbol="F",
    asset_class="future",
    currency="EUR",
    tick_size=D("0.5"),
    lot_size=D(1),
    multiplier=D(10),
    margin_fraction=D("0.1"),
)
INSTRUMENTS = {"X": X, "F": FUTURE}
TOUCH = FillSettings(queue="touch")


def request(order_id: str = "o", /, **changes: Any) -> OrderRequest:
    """A market order of acme for 1 X; numbers may be given as text."""
    for key in ("quantity", "limit_price", "stop_price", "trail"):
        if isinstance(changes.get(key), str | int):
            changes[key] = D(changes[key])
    asked = OrderRequest(
        client_order_id=order_id,
        client="acme",
        account="main",
        venue="paper",
        strategy="swing",
        symbol="X",
        signal_id=f"signal-{order_id}",
        leg="entry",
        side="buy",
        type="market",
        quantity=D(1),
        event_ns=NOW,
    )
    return msgspec.structs.replace(asked, **changes)


def fill(order_id: str = "o", number: int = 0, /, **changes: Any) -> Fill:
    made = Fill(
        fill_id=f"{order_id}-{number}",
        client_order_id=order_id,
        signal_id="signal",
        client="acme",
        account="main",
        strategy="swing",
        symbol="X",
        side="buy",
        price=D(100),
        quantity=D(1),
        fee=D(0),
        currency="USD",
        liquidity="taker",
        event_ns=NOW,
    )
    return msgspec.structs.replace(made, **changes)


def trade(price: float, at_s: float = 1, size: float = 10.0) -> Trade:
    return Trade("X", NOW + int(at_s * SECOND), float(price), float(size))


def quote(bid: float, ask: float, at_s: float = 1, bid_size: float = 10.0, ask_size: float = 10.0) -> Quote:
    return Quote("X", NOW + int(at_s * SECOND), float(bid), float(ask), float(bid_size), float(ask_size))


def bar(open_: float, high: float, low: float, close: float, minute: int = 1, volume: float = 1000.0) -> Bar:
    """The minute that ends `minute` minutes after NOW."""
    prices = map(float, (open_, high, low, close))
    return Bar("X", "1m", NOW + minute * MINUTE, *prices, float(volume))


class Desk:
    """A book with the entries that made it, as whoever keeps a book has them."""

    def __init__(self, settings: FillSettings = TOUCH, *, keep_states: bool = True, **more: Any) -> None:
        self._settings, self._more, self._keep_states = settings, more, keep_states
        self.book = PaperBook(BookState(client="acme"), INSTRUMENTS, settings, **more)
        self.entries: list[Entry] = []
        self.states: list[bytes] = [self.state()]
        self.seq = 0

    def keep(self, entry: Entry | None) -> list[str]:
        """Folds it; the events as `kind order [reason]`."""
        if entry is None:
            return []
        self.entries.append(msgspec.msgpack.decode(msgspec.msgpack.encode(entry), type=Entry))
        self.book.fold(entry)
        if self._keep_states:
            self.states.append(self.state())
        return [told(event) for event in entry.events]

    def submit(self, *requests: OrderRequest) -> list[str]:
        return self.keep(self.book.submit(requests))

    def apply(self, *events: Any) -> list[str]:
        found = []
        for event in events:
            found += self.keep(self.book.apply(self.seq, event))
            self.seq += 1
            self.book.pass_to(self.seq)
        return found

    def cancel(self, *order_ids: str) -> list[str]:
        return self.keep(self.book.cancel(order_ids))

    def state(self) -> bytes:
        return msgspec.msgpack.encode(self.book.state, order="sorted")

    def refolded(self, entries: int) -> PaperBook:
        """What a restart makes of the first so many entries."""
        book = PaperBook(BookState(client="acme"), INSTRUMENTS, self._settings, **self._more)
        for entry in self.entries[:entries]:
            book.fold(entry)
        return book

    def held(self) -> Decimal:
        return sum((position.quantity for position in self.book.positions()), D(0))


def told(event: Any) -> str:
    if event.fill is not None:
        return f"fill {event.fill.client_order_id} {event.fill.quantity}@{event.fill.price}"
    if event.report is None:
        return f"{event.kind} {event.amount}"
    reason = f" {event.report.reason}" if event.report.reason else ""
    return f"{event.kind} {event.report.client_order_id}{reason}"
