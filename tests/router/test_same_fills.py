"""The same signals in the same market give the same fills at a pace, by a router's desk and the paper OMS's book, and flat out,
by the desk inside a worker: when, of which order, how much, at which price and for which fee."""

import random
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from decimal import Decimal
from pathlib import Path
from shutil import rmtree
from typing import Any

import msgspec
import pytest
from oms.paper_build import MINUTE, NOW, SECOND, D, X
from router.trade import trading_spec

from strategy_runner.config.schema import RiskConfig
from strategy_runner.config.spec import PaperSpec
from strategy_runner.model.decision import Decision
from strategy_runner.model.event import Bar, Quote, Trade
from strategy_runner.model.fill import Fill
from strategy_runner.model.fill_settings import FeeSettings, FillSettings
from strategy_runner.model.names import WorkerKey
from strategy_runner.model.order import OmsEvent, OrderChange, OrderReport, OrderRequest
from strategy_runner.model.signal import (
    ORDERING,
    Cause,
    Envelope,
    LoggedSignal,
    OrderTerms,
    SignalBody,
    canonical,
    digest,
    signal_id,
)
from strategy_runner.oms.fill_model import MarketEvent
from strategy_runner.oms.paper_book import PaperBook
from strategy_runner.oms.paper_state import BookState, Entry
from strategy_runner.risk import events
from strategy_runner.risk.limits import limits_of
from strategy_runner.router.appraiser import Appraiser
from strategy_runner.router.desk import NO_RATE
from strategy_runner.router.intake import Arrival
from strategy_runner.router.journal import DecisionReader, Journal, decision_log
from strategy_runner.router.order_flow import OrderFlow
from strategy_runner.router.order_journal import OrderJournal, Written, read_fills
from strategy_runner.router.risk_record import RiskRecord, standing_wish
from strategy_runner.router.ruling import Judge
from strategy_runner.worker.paper import PaperDesk

KEY = WorkerKey("acme", "swing", "X")
GENERATION = "0badcafe"
RECORDS = 14


class BookOms:
    """The paper OMS's book as its OMS serves it, without the way between."""

    def __init__(self, settings: FillSettings) -> None:
        self.book = PaperBook(BookState(client="acme"), {"X": X}, settings)
        self.told: list[OmsEvent] = []
        self._seq = 0

    def meet(self, event: MarketEvent) -> None:
        self._seq += 1
        self._keep(self.book.apply(self._seq, event))
        self.book.pass_to(self._seq + 1)

    def submit(self, orders: Sequence[OrderRequest]) -> list[OrderReport | None]:
        self._keep(self.book.submit(orders))
        return [self.book.report(order.client_order_id) for order in orders]

    def cancel(self, order_id: str) -> OrderReport | None:
        self._keep(self.book.cancel([order_id]))
        return self.book.report(order_id)

    def modify(self, change: OrderChange) -> OrderReport | None:
        entry, reason = self.book.modify(change)
        self._keep(entry)
        report = self.book.report(change.client_order_id)
        return msgspec.structs.replace(report, reason=reason) if report is not None and reason else report

    def events(self, from_number: int, limit: int) -> list[OmsEvent]:
        return self.told[from_number : from_number + limit]

    def _keep(self, entry: Entry | None) -> None:
        if entry is not None:
            self.book.fold(entry)
            self.told += entry.events


class LastPrice:
    """A market that knows the last price."""

    def __init__(self) -> None:
        self.last: float | None = None

    def price(self, symbol: str) -> float | None:
        return self.last


class Paced:
    """What a router does with the signals of its worker, in one thread, until nothing is left to do before the next record."""

    def __init__(self, root: Path, settings: FillSettings, stack: ExitStack) -> None:
        folder = root / "router"
        self.oms, self.market = BookOms(settings), LastPrice()
        self._fills = root / "fills.log"
        self._decisions = stack.enter_context(closing(Journal(folder)))
        self._record = stack.enter_context(closing(RiskRecord(folder, "acme", "mock")))
        limits = limits_of(RiskConfig(), {"X": X})
        self._record.take(events.Configured(at_ns=1, limits=limits, day=1, starting_cash=D(1_000_000)))
        judge = Judge(None, {})
        self._appraiser = Appraiser(trading_spec(root, (KEY.folder,)), judge, self._record, self.market)  # type: ignore[arg-type]  # all that is asked
        self._written: deque[Written] = deque()
        journal = OrderJournal(folder, self._fills, "acme", {"X": X}, written=self._written)
        self._journal = stack.enter_context(closing(journal))
        reader = stack.enter_context(closing(DecisionReader(decision_log(folder))))
        self._flow = OrderFlow(
            journal,
            self.oms,  # type: ignore[arg-type]  # all that is asked
            reader,
            clock=lambda: 0,
            event_ns=lambda: 0,
            ring=lambda durable: None,
            rate=NO_RATE,
            priorities=(),
            instruments={"X": X},
            below=0,
        )

    @property
    def held(self) -> Decimal:
        return self._journal.book.held(KEY.strategy, KEY.symbol)

    def fills(self) -> list[Fill]:
        return [entry.event.fill for entry in read_fills(self._fills) if entry.event.fill is not None]

    def meet(self, event: MarketEvent) -> None:
        self.market.last = last_price(event)
        self.oms.meet(event)
        self._go_on()

    def submit(self, bodies: Sequence[SignalBody]) -> None:
        """What the worker asks for at one record comes together."""
        at_ns = self._decisions.number
        arrivals = [arrived(n, body) for n, body in enumerate(bodies, at_ns)]
        rulings = self._appraiser.rule(arrivals, at_ns, reconciled=True)
        decisions = [
            Decision(
                number=n,
                signal_id=one.body.id,
                verdict=ruling.verdict,
                reason=ruling.reason,
                decided_ns=at_ns,
                envelope=one.logged.envelope,
                body=one.logged.body,
                orders=ruling.orders,
                price=ruling.price,
            )
            for n, (one, ruling) in enumerate(zip(arrivals, rulings, strict=True), at_ns)
        ]
        self._decisions.append(decisions, {})
        for decision in decisions:
            self._record.decided(decision, standing_wish(decision.orders, None))
        self._go_on()

    def _go_on(self) -> None:
        flow, is_working = self._flow, True
        while is_working:
            is_working = flow.take_decisions(self._decisions.synced)
            for work in (flow.take_events, flow.send, flow.tidy, flow.cancel, flow.modify):
                is_working |= work()
        self._record.follow(self._written)


def arrived(n: int, body: SignalBody) -> Arrival:
    raw = canonical(body)
    envelope = Envelope(n=n, seq=0, epoch=1, mode="mock", received_ns=0, recorded_ns=0, generation=GENERATION)
    return Arrival(KEY.folder, LoggedSignal(envelope, digest(raw), raw), body, 0)


def last_price(event: MarketEvent) -> float:
    return event.price if type(event) is Trade else event.close if type(event) is Bar else event.mid  # type: ignore[union-attr]  # a quote


# -- a life --------------------------------------------------------------------------------------------------------------


class Life:
    """A market and what a strategy wants in it, by luck. Prices stay near each other, so that much is reached."""

    def __init__(self, seed: int) -> None:
        self._luck = luck = random.Random(seed)
        self._kind = luck.choice(("trades", "quotes", "bars"))
        self._price, self._at, self._n = 100.0, NOW, 0
        self.settings = FillSettings(
            latency_ns=luck.choice((0, 0, SECOND // 2, 3 * SECOND)),
            participation=luck.choice((None, None, 0.3)),
            queue=luck.choice(("through", "touch", "behind")),
            queue_size=2.0,
            slippage_ticks=luck.choice((0, 1)),
            fees=luck.choice((FeeSettings(), FeeSettings(taker=D("0.001"), minimum=D("0.35")))),
        )

    def record(self) -> MarketEvent:
        luck = self._luck
        self._at += MINUTE if self._kind == "bars" else luck.choice((1, 1, 1, 60)) * SECOND
        self._price = price = round(self._price + luck.choice((-2, -1, -0.5, -0.25, 0, 0.25, 0.5, 1, 2)), 2)
        size = luck.choice((1.0, 3.0, 10.0, 50.0))
        if self._kind == "trades":
            return Trade("X", self._at, price, size, 1.0)
        if self._kind == "quotes":
            return Quote("X", self._at, price, price + 0.25, size, luck.choice((1.0, 5.0)))
        high, low = price + luck.choice((0, 1, 2)), price - luck.choice((0, 1, 2))
        return Bar("X", "1m", self._at, price, high, low, price, 3 * size)

    def wishes(self, held: float) -> Iterator[SignalBody]:
        for _ in range(self._luck.choice((0, 0, 1, 1, 2))):
            kind = self._luck.random()
            if kind < 0.45:
                yield self._entry()
            elif kind < 0.8 and held:
                yield self._close(held)
            elif kind >= 0.8 and self._n:
                yield self._change()

    def _entry(self) -> SignalBody:
        luck, side = self._luck, self._luck.choice((1, -1))
        terms = self._terms()
        trails = terms is not None and terms.trail is not None
        stop = round(self._price - side, 2) if trails or luck.random() < 0.5 else None
        target = luck.choice((None, round(self._price + 1.5 * side, 2)))
        size = luck.choice((0.5, 1.04, 2.0, 3.0))
        return self._body("buy" if side > 0 else "sell", size, stop_loss=stop, take_profit=target, terms=terms)

    def _close(self, held: float) -> SignalBody:
        luck, size = self._luck, abs(held)
        if luck.random() < 0.4:
            size = max(0.1, round(size * luck.choice((0.3, 0.5)), 1))
        return self._body("close", size, terms=self._terms(), reasons=("closes:long" if held > 0 else "closes:short",))

    def _change(self) -> SignalBody:
        luck, price = self._luck, self._price
        of = signal_id(KEY.name, GENERATION, luck.randrange(self._n))
        if luck.random() < 0.5:
            return self._body("cancel", None, of=of)
        limit, stop = OrderTerms(limit_price=round(price - 0.5, 2)), OrderTerms(stop_price=round(price + 0.5, 2))
        return self._body(
            "modify",
            luck.choice((None, 0.01, 0.5, 1.0)),
            of=of,
            stop_loss=round(price - 1, 2),
            take_profit=luck.choice((None, round(price + 1, 2))),
            terms=luck.choice((None, limit, stop)),
        )

    def _terms(self) -> OrderTerms | None:
        luck = self._luck
        if luck.random() < 0.6:
            return None
        near, lifetime = (
            round(self._price + luck.choice((-1, -0.5, 0.5, 1)), 2),
            luck.choice(("gtc", "gtc", "day", "ioc")),
        )
        kind = luck.choice(("limit", "stop", "stop_limit", "trail", "market"))
        if kind == "trail":
            return OrderTerms(trail=1.0)
        if kind == "market":
            return OrderTerms(time_in_force=lifetime)
        limit = {"limit": near, "stop": None, "stop_limit": round(near + luck.choice((-0.5, 0.5)), 2)}[kind]
        return OrderTerms(limit_price=limit, stop_price=None if kind == "limit" else near, time_in_force=lifetime)

    def _body(self, action: Any, size: float | None, **more: Any) -> SignalBody:
        n, self._n = self._n, self._n + 1
        given = {"stop_loss": None, "take_profit": None, "reasons": (), **more}
        return SignalBody(
            id=signal_id(KEY.name, GENERATION, n),
            client="acme",
            strategy="swing",
            symbol="X",
            venue="paper",
            timeframe="1m",
            action=action,
            size=size,
            entry_price=self._price if action in ORDERING else None,
            confidence=None,
            strength=None,
            strategy_type="any",
            models=(),
            cause=Cause(stream="X/trade", ordinal=n, event_ns=self._at, values=()),
            refusal=None,
            **given,
        )


def live(seed: int, root: Path) -> int:
    """One life both ways; how many fills it had."""
    life, log = Life(seed), []
    with ExitStack() as stack:
        paced = Paced(root, life.settings, stack)
        flat, flat_fills = PaperDesk(PaperSpec(fills=life.settings, instrument=X), KEY, "main"), []
        for _ in range(RECORDS):
            event = life.record()
            log.append(str(event))
            told = flat.meet(event) if flat.waits else ()
            flat_fills += [one.entry.event.fill for one in told if one.entry.event.fill is not None]
            paced.meet(event)
            story = f"seed {seed}, {life.settings}\n" + "\n".join(log)
            assert list(map(repr, flat_fills)) == list(map(repr, paced.fills())), story
            assert flat.held == paced.held, story
            wishes = list(life.wishes(float(flat.held)))
            if wishes:
                log += [str(canonical(body)) for body in wishes]
                flat.submit(*wishes)
                paced.submit(wishes)
        return len(flat_fills)


@pytest.mark.parametrize(
    "first", [0, *(pytest.param(first, marks=pytest.mark.slow) for first in range(100, 1_300, 400))]
)
def test_any_life_has_the_same_fills_at_a_pace_and_flat_out(tmp_path: Path, first: int) -> None:
    lives = 400 if first else 100
    fills = 0
    for seed in range(first, first + lives):
        root = tmp_path / str(seed)
        fills += live(seed, root)
        rmtree(root)
    assert fills > 2 * lives, "lives in which little is filled prove little"


# -- told step by step -----------------------------------------------------------------------------------------------------


class Pair:
    """Both ways, in a market that trades once a second."""

    def __init__(self, root: Path, settings: FillSettings, stack: ExitStack) -> None:
        self.life = Life(0)
        self.life._price = 100.0
        self.paced = Paced(root, settings, stack)
        self.flat = PaperDesk(PaperSpec(fills=settings, instrument=X), KEY, "main")

    @property
    def held(self) -> Decimal:
        assert self.flat.held == self.paced.held
        return self.flat.held

    def pass_on(self, seconds: int, price: float = 100.0) -> None:
        for _ in range(seconds):
            self.life._at += SECOND
            event = Trade("X", self.life._at, price, 50.0, 1.0)
            if self.flat.waits:
                self.flat.meet(event)
            self.paced.meet(event)

    def ask(self, *bodies: SignalBody) -> None:
        """At one record."""
        self.flat.submit(*bodies)
        self.paced.submit(bodies)

    def body(self, action: str, size: float | None, **more: Any) -> SignalBody:
        return self.life._body(action, size, **more)


SLOW = FillSettings(latency_ns=3 * SECOND)
TAKEN_BACK = [
    pytest.param(2.0, "later", "cancel", 0, id="all"),
    pytest.param(2.0, "later", "modify", 0, id="all, by a smaller one"),
    pytest.param(2.0, "at once", "cancel", 2, id="all, at the same record"),
    pytest.param(1.0, "later", "cancel", 2, id="a part, whose stop stands"),
    pytest.param(1.0, "later", "modify", D("1.9"), id="a part, by a smaller one"),
]


@pytest.mark.parametrize(("size", "when", "action", "left"), TAKEN_BACK)
def test_a_close_is_not_taken_back_that_has_ended_what_protected_the_position(
    tmp_path: Path, size: float, when: str, action: str, left: Any
) -> None:
    """Its stop had ended with it, and nobody watched the position: whatever is left has its stop, and leaves with it."""
    with ExitStack() as stack:
        both = Pair(tmp_path, SLOW, stack)
        both.pass_on(1)
        both.ask(both.body("buy", 2.0, stop_loss=90.0))
        both.pass_on(4)
        assert both.held == 2
        close = both.body("close", size, reasons=("closes:long",))
        back = both.body(action, None if action == "cancel" else 0.1, of=close.id)
        if when == "at once":
            both.ask(close, back)
        else:
            both.ask(close)
            both.pass_on(1)
            both.ask(back)
        both.pass_on(5)
        assert both.held == left
        both.pass_on(5, 89.0)
        assert both.held == 0


def test_of_two_modifications_at_one_record_the_later_counts(tmp_path: Path) -> None:
    """Flat out the second was judged by what the first had left, and refused."""
    with ExitStack() as stack:
        both = Pair(tmp_path, FillSettings(), stack)
        both.pass_on(1)
        entry = both.body("buy", 3.0, terms=OrderTerms(limit_price=95.0))
        both.ask(entry)
        both.pass_on(1)
        lower = OrderTerms(limit_price=94.0)
        both.ask(both.body("modify", 0.5, of=entry.id, terms=lower), both.body("modify", 1.0, of=entry.id))
        both.pass_on(2, 94.5)
        assert both.held == 0
        both.pass_on(2, 93.0)
        assert both.held == 1


def test_a_stop_loss_that_is_nothing_in_ticks_is_refused_with_its_entry_both_ways(tmp_path: Path) -> None:
    """Flat out the entry was filled, and its stop stood at 0, where nothing trades."""
    with ExitStack() as stack:
        both = Pair(tmp_path, FillSettings(), stack)
        both.pass_on(1, 0.02)
        both.ask(both.body("buy", 2.0, stop_loss=0.004))
        both.pass_on(1, 0.02)
        assert both.held == 0
        both.ask(both.body("buy", 2.0, stop_loss=0.006))
        both.pass_on(1, 0.02)
        assert both.held == 2
