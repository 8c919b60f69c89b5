"""The desk of a worker that fills its own orders: most of them in one step, and that step changes no byte."""

import pickle
from decimal import Decimal
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oms.paper_build import FUTURE, MINUTE, NOW, SECOND, X

from strategy_runner.config.spec import PaperSpec
from strategy_runner.model.event import Bar, Quote, Trade
from strategy_runner.model.fill_settings import FeeSettings, FillSettings
from strategy_runner.model.names import WorkerKey
from strategy_runner.model.order import OmsEvent
from strategy_runner.model.private import is_told
from strategy_runner.model.signal import Cause, OrderTerms, SignalBody
from strategy_runner.oms.fill_model import MarketEvent
from strategy_runner.oms.order_making import as_exit, closing_side, orders_of
from strategy_runner.oms.paper_book import PaperBook
from strategy_runner.oms.paper_state import BookState, Entry
from strategy_runner.worker.paper import PaperDesk

D = Decimal
NAN = float("nan")
SWING = WorkerKey("acme", "swing", "X")


class Step(NamedTuple):
    """A record, and what the strategy asks for once it has seen it."""

    event: MarketEvent
    wishes: list[SignalBody]


def wish(
    n: int, symbol: str, event_ns: int, action: str, size: float, stop: float | None, target: float | None
) -> SignalBody:
    return SignalBody(
        id=f"acme:swing.{symbol}@00000000/{n}",
        client="acme",
        strategy="swing",
        symbol=symbol,
        venue="paper",
        timeframe="1m",
        action=action.partition(":")[0],  # type: ignore[arg-type]  # one of the three
        size=size,
        entry_price=100.0,
        stop_loss=stop,
        take_profit=target,
        confidence=None,
        strength=None,
        strategy_type="any",
        models=(),
        cause=Cause(stream=f"{symbol}/bar.1m", ordinal=n, event_ns=event_ns, values=()),
        reasons=("closes:" + action.partition(":")[2],),
        refusal=None,
    )


prices = st.sampled_from([0.008, 99.0, 99.5, 100.0, 100.13, 101.0, NAN])
sizes = st.sampled_from([0.04, 0.1, 1.0, 2.5, 7.0, 1e15 + 0.5])
actions = st.sampled_from(["buy", "sell", "close:long", "close:short"])
levels = st.sampled_from([None, None, None, 99.2, 100.9])
terms = st.builds(
    FillSettings,
    latency_ns=st.sampled_from([0, 50_000_000, 2 * MINUTE]),
    slippage_ticks=st.sampled_from([0, 2]),
    slippage_bps=st.sampled_from([0.0, 1.5]),
    assumed_spread=st.sampled_from([0.0, 0.0003]),
    impact=st.sampled_from([0.0, 0.0, 0.1]),
    participation=st.sampled_from([None, None, 0.5]),
    fees=st.builds(
        FeeSettings,
        maker=st.just(D("-0.0001")),
        taker=st.sampled_from([D(0), D("0.001")]),
        per_share=st.sampled_from([D(0), D("0.005")]),
        minimum=st.sampled_from([D(0), D("0.35")]),
    )
    | st.just(FeeSettings()),
)


@st.composite
def lives(draw: st.DrawFn, symbol: str) -> list[Step]:
    kind, at, steps, n = draw(st.sampled_from(["trades", "quotes", "bars"])), NOW, [], 0
    for _ in range(draw(st.integers(1, 8))):
        at += draw(st.sampled_from([0, 1_000_000, MINUTE]))
        price, size = draw(prices), draw(sizes | st.just(NAN))
        event: MarketEvent
        if kind == "trades":
            event = Trade(symbol, at, price, size, 1.0)
        elif kind == "quotes":
            event = Quote(symbol, at, price, price + 0.5, size, size)
        else:
            event = Bar(symbol, "1m", at, price, 101.0, 99.0, draw(prices), size)
        wishes = []
        for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2]))):
            wishes.append(wish(n, symbol, at, draw(actions), draw(sizes), draw(levels), draw(levels)))
            n += 1
        steps.append(Step(event, wishes))
    return steps


def by_the_book(life: list[Step], spec: PaperSpec, account: str) -> tuple[list[OmsEvent], BookState]:
    """What the paper OMS's own book makes of it, every order submitted, every record applied."""
    book = PaperBook(BookState(client="acme"), {spec.instrument.symbol: spec.instrument}, spec.fills)
    told: list[OmsEvent] = []

    def fold(entry: Entry | None) -> None:
        if entry is not None:
            book.fold(entry)
            book.state.finished.clear()
            told.extend(msgspec.structs.replace(event, seq=-1) for event in entry.events if is_told(event))

    met = 0
    for event, wishes in life:
        if book.state.orders:
            met += 1
            fold(book.apply(met, event))
        for one in wishes:
            held = sum((position.quantity for position in book.positions()), D(0))
            order, quantity = as_exit(one, held, spec.instrument), None
            if order.action == "close":
                left = (held if closing_side(order) == "sell" else -held) - closing(book)
                quantity = min(map(spec.instrument.rounded_quantity, (one.size or 0.0, left)))
                if quantity <= 0:
                    continue
            orders = orders_of(order, account=account, instrument=spec.instrument, quantity=quantity)
            fold(book.submit(orders))
            if orders[0].leg == "exit" and closing(book) >= abs(held):
                fold(book.cancel([key for key, one in book.state.orders.items() if one.order.request.leg != "exit"]))
    return told, book.state


def closing(book: PaperBook) -> Decimal:
    open_ones = [one.order for one in book.state.orders.values() if not one.order.is_final]
    return sum((order.remaining for order in open_ones if order.request.leg == "exit"), D(0))


@settings(deadline=None, max_examples=400)
@given(st.data(), terms, st.sampled_from([X, FUTURE]), st.booleans(), st.booleans())
def test_an_order_filled_in_one_step_is_filled_as_the_book_fills_it(
    data: st.DataObject, fills: FillSettings, instrument: object, is_restored: bool, is_told_later: bool
) -> None:
    spec = PaperSpec(fills=fills, instrument=instrument)  # type: ignore[arg-type]  # of the two above
    life = data.draw(lives(spec.instrument.symbol))
    key = WorkerKey("acme", "swing", spec.instrument.symbol)
    desk = PaperDesk(spec, key, "main")
    told: list[OmsEvent] = []
    for event, wishes in life:
        if is_restored:
            told += [one.entry.event for one in desk.tell_filled()]
            state = pickle.loads(pickle.dumps(desk.state()))
            desk = PaperDesk(spec, key, "main")
            desk.restore(state)
        if desk.waits and not (is_told_later and desk.fill_alone(event)):
            told += [one.entry.event for one in desk.meet(event)]
        for one in wishes:
            desk.submit(one)
    told += [one.entry.event for one in desk.tell_filled()]
    expected, book = by_the_book(life, spec, "main")
    assert [event.fill for event in told] == [event.fill for event in expected[: len(told)]]
    assert repr(told) == repr(expected[: len(told)])  # to the digit: 1.0 is another text than 1
    state = desk.state()[0]
    assert isinstance(state, BookState)
    assert desk.held == sum(
        (event.fill.quantity if event.fill.side == "buy" else -event.fill.quantity) for event in told if event.fill
    )
    assert all(event.kind != "fill" for event in expected[len(told) :]), "what is still to be told was never filled"
    for name in ("number", "age", "accounts", "orders", "event_ns"):
        assert repr(getattr(state, name)) == repr(getattr(book, name)), name


@pytest.mark.parametrize("side", ["sell", "buy"])
def test_a_signal_that_only_reduces_is_an_exit_as_it_is_for_a_router(side: str) -> None:
    """It opens nothing, and brings no stop of its own."""
    up, opens = (1, "buy") if side == "sell" else (-1, "sell")
    spec = PaperSpec(fills=FillSettings(latency_ns=5 * SECOND), instrument=X)
    desk = PaperDesk(spec, WorkerKey("acme", "swing", "X"), "main")

    def meet(price: float, at_s: int) -> list[tuple[str, str, Decimal]]:
        told = [one.entry for one in desk.meet(Trade("X", NOW + at_s * SECOND, price, 10.0, 1.0))]
        return [(entry.leg, entry.event.kind, entry.position.quantity) for entry in told]

    desk.submit(wish(0, "X", NOW, opens, 1.0, 100.0 - 5 * up, 100.0 + 20 * up))
    assert meet(100.0, 6) == [("entry", "fill", D(up))]
    desk.submit(wish(1, "X", NOW + 7 * SECOND, side, 1.0, 100.0 + 5 * up, 100.0 - 20 * up))
    protected = [("stop_loss", "cancelled", D(up)), ("take_profit", "cancelled", D(up))]
    assert meet(100.0 - 6 * up, 8) == protected, "it ends what protected the position, as a router's desk sees to"
    assert meet(100.0 - 6 * up, 12) == [("exit", "fill", D(0))]
    assert not desk.waits and desk.held == 0


@pytest.mark.parametrize(("closed", "left"), [(2.0, "cancelled"), (1.0, "fill")])
def test_a_close_of_all_that_is_held_ends_what_still_waits_to_enter(closed: float, left: str) -> None:
    """As it does with an OMS; a part of the position leaves it where it is. So does a close that waits for a price."""
    desk = PaperDesk(PaperSpec(fills=FillSettings(), instrument=X), WorkerKey("acme", "swing", "X"), "main")

    def meet(price: float, at_s: int) -> list[tuple[str, str, Decimal]]:
        told = [one.entry for one in desk.meet(Trade("X", NOW + at_s * SECOND, price, 10.0, 1.0))]
        return [(entry.leg, entry.event.kind, entry.position.quantity) for entry in told]

    desk.submit(wish(0, "X", NOW, "buy", 2.0, None, None))
    assert meet(100.0, 1) == [("entry", "fill", D(2))]
    waits = wish(1, "X", NOW + SECOND, "buy", 1.0, None, None)
    desk.submit(msgspec.structs.replace(waits, terms=OrderTerms(limit_price=99.0)))
    far = wish(2, "X", NOW + SECOND, "close:long", 2.0, None, None)
    desk.submit(msgspec.structs.replace(far, terms=OrderTerms(limit_price=110.0)))
    assert meet(100.0, 2) == []
    desk.submit(wish(3, "X", NOW + 2 * SECOND, "close:long", closed, None, None))
    told = [*meet(100.0, 3), *meet(98.0, 4)]
    assert [kind for leg, kind, _ in told if leg == "entry"] == [left]
    assert desk.held == (0 if left == "cancelled" else 2)


@pytest.mark.parametrize("in_parts", [False, True], ids=["at once", "in parts"])
def test_a_close_of_all_that_is_held_ends_the_stop_and_the_target_as_it_does_with_an_oms(in_parts: bool) -> None:
    desk = PaperDesk(PaperSpec(fills=FillSettings(latency_ns=5 * SECOND), instrument=X), SWING, "main")
    desk.submit(wish(0, "X", NOW, "buy", 2.0, 95.0, 120.0))
    assert met(desk, 100.0, 6) == [("entry", "fill", D(2))]
    if in_parts:
        desk.submit(wish(1, "X", NOW + 6 * SECOND, "close:long", 0.5, None, None))
        assert met(desk, 100.0, 7) == []
    desk.submit(wish(2, "X", NOW + 7 * SECOND, "close:long", 2.0, None, None))
    assert met(desk, 94.0, 8) == [("stop_loss", "cancelled", D(2)), ("take_profit", "cancelled", D(2))]
    left = [("exit", "fill", D("1.5"))] if in_parts else []
    assert met(desk, 94.0, 12) == [*left, ("exit", "fill", D(0))]
    assert not desk.waits


def test_exits_that_are_under_way_leave_the_next_one_what_they_do_not_close() -> None:
    desk = PaperDesk(PaperSpec(fills=FillSettings(), instrument=X), SWING, "main")
    desk.submit(wish(0, "X", NOW, "buy", 2.0, None, None))
    assert met(desk, 100.0, 1) == [("entry", "fill", D(2))]
    for n, size in ((1, 0.5), (2, 2.0), (3, 2.0), (4, 0.1)):
        desk.submit(wish(n, "X", NOW + SECOND, "close:long", size, None, None))
    assert met(desk, 100.0, 2) == [("exit", "fill", D("1.5")), ("exit", "fill", D(0))], (
        "the others had nothing to close"
    )
    assert not desk.waits


def test_what_is_less_than_a_lot_is_closed_by_itself_and_ends_what_protects_it() -> None:
    """The lot was another when it was bought; a close of less than all of it closes nothing."""
    before = PaperDesk(PaperSpec(fills=FillSettings(), instrument=X), SWING, "main")
    before.submit(wish(0, "X", NOW, "buy", 2.5, 95.0, 120.0))
    assert met(before, 100.0, 1) == [("entry", "fill", D("2.5"))]
    desk = PaperDesk(
        PaperSpec(fills=FillSettings(), instrument=msgspec.structs.replace(X, lot_size=D(1))), SWING, "main"
    )
    desk.restore(pickle.loads(pickle.dumps(before.state())))
    desk.submit(*(wish(n, "X", NOW + SECOND, "close:long", 2.5, None, None) for n in (1, 2)))
    assert met(desk, 100.0, 2) == [("exit", "fill", D("0.5"))], "the rest waits until the lots are closed"
    desk.submit(wish(3, "X", NOW + 2 * SECOND, "close:long", 0.25, None, None))
    assert met(desk, 100.0, 3) == []
    desk.submit(wish(4, "X", NOW + 3 * SECOND, "close:long", 0.5, None, None))
    assert met(desk, 100.0, 4) == [
        ("stop_loss", "cancelled", D("0.5")),
        ("take_profit", "cancelled", D("0.5")),
        ("exit", "fill", D(0)),
    ]
    assert not desk.waits


@pytest.mark.parametrize(("asset_class", "is_filled"), [("equity", False), ("crypto", True)])
def test_nothing_is_entered_at_a_weekend_of_its_market_and_anything_may_be_left(
    asset_class: str, is_filled: bool
) -> None:
    traded = msgspec.structs.replace(X, asset_class=asset_class)
    desk = PaperDesk(PaperSpec(fills=FillSettings(), instrument=traded), SWING, "main")
    desk.submit(wish(0, "X", NOW, "buy", 1.0, None, None))
    assert met(desk, 100.0, 1) == [("entry", "fill", D(1))]
    days = 4 * 24 * 3_600  # from Tuesday to Saturday
    desk.submit(wish(1, "X", NOW + days * SECOND, "buy", 1.0, 95.0, None))
    entered = [("entry", "fill", D(2))] if is_filled else []
    assert met(desk, 100.0, days + 1) == entered
    desk.submit(wish(2, "X", NOW + (days + 1) * SECOND, "close:long", 1.0, None, None))
    assert [kind for leg, kind, _ in met(desk, 100.0, days + 2) if leg == "exit"] == ["fill"]


def test_a_modification_is_judged_by_the_orders_that_are_open() -> None:
    """The size of an entry that is over is no size of what protects its position."""
    desk = PaperDesk(PaperSpec(fills=FillSettings(queue="touch"), instrument=X), SWING, "main")
    desk.submit(wish(0, "X", NOW, "buy", 1.0, 95.0, 110.0))
    assert met(desk, 100.0, 1) == [("entry", "fill", D(1))]
    change = wish(1, "X", NOW + SECOND, "modify", 2.0, None, 105.0)
    desk.submit(msgspec.structs.replace(change, of=wish(0, "X", NOW, "buy", 1.0, None, None).id))
    assert met(desk, 105.0, 2) == [
        ("take_profit", "modified", D(1)),
        ("take_profit", "fill", D(0)),
        ("stop_loss", "cancelled", D(0)),
    ]


def met(desk: PaperDesk, price: float, at_s: int) -> list[tuple[str, str, Decimal]]:
    """What a trade does, as leg, kind and what is held then."""
    told = [one.entry for one in desk.meet(Trade("X", NOW + at_s * SECOND, price, 10.0, 1.0))]
    return [(entry.leg, entry.event.kind, entry.position.quantity) for entry in told]
