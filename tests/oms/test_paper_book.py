"""The paper book: brackets, reduce-only, repeated requests, and a state that is what its journal says."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oms.paper_build import INSTRUMENTS, MINUTE, NOW, SECOND, TOUCH, D, Desk, bar, quote, request, trade

from strategy_runner.model.event import Bar, Funding
from strategy_runner.model.fill_settings import FeeSettings, FillSettings
from strategy_runner.model.order import OrderChange, OrderRequest, OrderState
from strategy_runner.oms import paper_state
from strategy_runner.oms.paper_book import PaperBook
from strategy_runner.oms.paper_request import REASONS


def bracket(name: str = "b", quantity: Any = 10, side: str = "buy", **entry: Any) -> list[OrderRequest]:
    out = "sell" if side == "buy" else "buy"
    stop, target = (95, 105) if side == "buy" else (105, 95)
    more = {"bracket": name, "quantity": quantity}
    return [
        request(f"{name}-entry", side=side, **more, **entry),
        request(f"{name}-stop", side=out, leg="stop_loss", type="stop", stop_price=stop, **more),
        request(f"{name}-target", side=out, leg="take_profit", type="limit", limit_price=target, **more),
    ]


# -- requests ----------------------------------------------------------------------------------------------------------


def test_an_order_that_is_sent_twice_is_taken_once() -> None:
    desk = Desk()
    assert desk.submit(request(), request()) == ["acknowledged o"]
    assert desk.submit(request()) == []
    assert desk.apply(trade(100)) == ["fill o 1@100"]
    assert desk.submit(request()) == []
    assert desk.book.report("o").state is OrderState.FILLED


def test_what_cannot_be_an_order_is_rejected_by_name() -> None:
    cases = {
        "wrong_client": request("1", client="other"),
        "unknown_symbol": request("2", symbol="Y"),
        "bad_quantity": request("3", quantity="0.15"),
        "bad_price": request("4", type="limit"),
        "no_expiry": request("5", time_in_force="day"),
    }
    desk = Desk()
    assert desk.submit(*cases.values()) == [f"rejected {one.client_order_id} {name}" for name, one in cases.items()]
    odd = [request(f"n{n}", quantity=n) for n in ("NaN", "sNaN", "Infinity", "-1", "0")]
    odd += [request(f"p{n}", type="stop", stop_price=n) for n in ("NaN", "sNaN", "100.001")]
    assert all(told.startswith("rejected") for told in desk.submit(*odd))
    assert desk.apply(trade(100)) == []
    assert {report.reason for _, report in desk.book.state.finished.values()} <= REASONS.keys()


def test_what_has_more_lots_or_ticks_than_can_be_counted_is_rejected_by_name() -> None:
    """It ended the OMS of all clients: the trail with the next record, so in every life again."""
    desk, trailed = Desk(), {"side": "sell", "type": "stop"}
    desk.apply(trade(100))
    assert desk.submit(
        request("quantity", quantity="1E+28"),
        request("price", type="limit", limit_price="1E+28"),
        request("trail", trail="1E+28", **trailed),
        request("sound", trail="5", **trailed),
    ) == [
        "rejected quantity bad_quantity",
        "rejected price bad_price",
        "rejected trail bad_price",
        "acknowledged sound",
    ]
    assert desk.book.modify(OrderChange(client_order_id="sound", quantity=D("1E+28"))) == (None, "bad_quantity")
    assert desk.book.modify(OrderChange(client_order_id="sound", stop_price=D("1E+28"))) == (None, "bad_price")
    assert desk.apply(trade(100), trade(94)) == ["fill sound 1@94"]


def test_all_that_is_held_may_be_closed_though_the_lot_is_larger_now() -> None:
    desk = Desk()
    desk.submit(request(quantity="2.5"))
    desk.apply(trade(100))
    desk.book = PaperBook(desk.book.state, {"X": msgspec.structs.replace(INSTRUMENTS["X"], lot_size=D(1))}, TOUCH)
    out = {"side": "sell", "leg": "flatten", "reduce_only": True}
    told = desk.submit(
        request("part", quantity="0.5", **out),
        request("more", quantity="3.5", **out),
        request("open", quantity="2.5", side="sell"),
        request("nan", quantity="sNaN", **out),
        request("all", quantity="2.5", **out),
    )
    assert told == [*(f"rejected {name} bad_quantity" for name in ("part", "more", "open", "nan")), "acknowledged all"]
    assert desk.apply(trade(100)) == ["fill all 2.5@100"]


def test_a_price_may_change_of_an_order_whose_lot_is_larger_now() -> None:
    desk = Desk()
    desk.submit(request(quantity="2.5", type="limit", limit_price=99))
    desk.book = PaperBook(desk.book.state, {"X": msgspec.structs.replace(INSTRUMENTS["X"], lot_size=D(1))}, TOUCH)
    assert desk.book.modify(OrderChange(client_order_id="o", quantity=D("1.5"))) == (None, "bad_quantity")
    desk.keep(desk.book.modify(OrderChange(client_order_id="o", limit_price=D(98)))[0])
    assert desk.apply(trade(98.5), trade(98)) == ["fill o 2.5@98"]


def test_a_cancelled_order_is_not_filled_any_more() -> None:
    desk = Desk()
    desk.submit(request())
    assert desk.cancel("o", "nobody") == ["cancelled o asked"]
    assert desk.cancel("o") == []
    assert desk.apply(trade(100)) == []


def test_a_modified_order_fills_at_its_new_price_and_up_to_its_new_quantity() -> None:
    desk = Desk()
    desk.submit(request(type="limit", limit_price=90))
    desk.apply(trade(100))
    entry, reason = desk.book.modify(OrderChange(client_order_id="o", quantity=D(3), limit_price=D(99)))
    assert reason == ""
    assert desk.keep(entry) == ["modified o"]
    assert desk.book.modify(OrderChange(client_order_id="o", quantity=D(3))) == (None, ""), "it is already so"
    assert desk.book.modify(OrderChange(client_order_id="o", limit_price=D("99.001"))) == (None, "bad_price")
    assert desk.book.modify(OrderChange(client_order_id="nobody", quantity=D(3))) == (None, "unknown_order")
    assert desk.apply(trade(98.5)) == ["fill o 3@98.5"]


def test_a_modification_below_what_is_filled_is_refused() -> None:
    desk = Desk()
    desk.submit(request(quantity=5))
    desk.apply(quote(99, 100, ask_size=2.0))
    assert desk.book.modify(OrderChange(client_order_id="o", quantity=D(1))) == (None, "below_filled")
    desk.keep(desk.book.modify(OrderChange(client_order_id="o", quantity=D(2)))[0])
    assert desk.book.report("o").state is OrderState.FILLED


def test_a_record_that_was_seen_before_a_restart_fills_nothing_again() -> None:
    desk = Desk()
    desk.submit(request())
    desk.apply(trade(100, 1), trade(101, 2))
    desk.submit(request("next"))
    assert desk.book.apply(0, trade(100, 1)) is None
    assert desk.apply(trade(102, 3)) == ["fill next 1@102"]


def test_an_order_that_was_forgotten_is_not_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_state, "FINISHED_KEPT", 2)
    desk = Desk()
    for number in range(4):
        desk.submit(request(str(number), event_ns=NOW + number))
        desk.apply(trade(100, number + 1))
    assert desk.book.report("0") is None
    assert desk.submit(request("0", event_ns=NOW)) == ["rejected 0 too_old"]
    assert desk.submit(request("3", event_ns=NOW + 3)) == [], "this one is remembered"
    assert desk.held() == 4


# -- brackets ----------------------------------------------------------------------------------------------------------


def test_exits_wait_for_the_entry_and_one_cancels_the_other() -> None:
    desk = Desk()
    desk.submit(*bracket(type="limit", limit_price=100))
    assert desk.apply(trade(106, 1), trade(94.99, 2)) == ["fill b-entry 10@100"], "no exit before there is an entry"
    assert desk.apply(trade(105, 3)) == ["fill b-target 10@105", "cancelled b-stop other_exit_filled"]
    assert desk.held() == 0


def test_exits_close_what_the_entry_has_filled_and_end_the_rest_of_it() -> None:
    desk = Desk()
    desk.submit(*bracket(type="limit", limit_price=100))
    desk.apply(quote(99, 100, 1, ask_size=4.0))
    assert desk.apply(quote(94, 95, 2, bid_size=3.0, ask_size=0.0)) == [
        "fill b-stop 3@94",
        "cancelled b-entry exit_ended_it",
    ]
    assert desk.apply(quote(93, 95, 3)) == [
        "fill b-stop 1@93",
        "cancelled b-stop other_exit_filled",
        "cancelled b-target other_exit_filled",
    ]
    assert desk.held() == 0


def test_exits_leave_alone_what_other_orders_of_the_strategy_hold() -> None:
    desk = Desk()
    desk.submit(request("other", quantity=20))
    desk.apply(trade(101, 1))
    desk.submit(*bracket(type="limit", limit_price=100))
    desk.apply(quote(99, 100, 2, ask_size=4.0))
    assert desk.apply(trade(94, 3))[0] == "fill b-stop 4@94"
    assert desk.held() == 20


def test_an_exit_meets_a_bar_once_even_if_more_of_its_entry_fills_in_it() -> None:
    desk = Desk()
    desk.submit(*bracket(type="limit", limit_price=98))
    desk.apply(quote(97, 98, 1, ask_size=4.0))
    assert desk.apply(bar(99, 101, 97, 99, 1), bar(99, 106, 97, 99, 2)) == [
        "fill b-entry 6@98",
        "fill b-target 10@105",
        "cancelled b-stop other_exit_filled",
    ]


def test_exits_go_with_an_entry_that_never_filled() -> None:
    desk = Desk()
    desk.submit(*bracket(type="limit", limit_price=90))
    assert desk.cancel("b-entry") == [
        "cancelled b-entry asked",
        "cancelled b-stop entry_ended",
        "cancelled b-target entry_ended",
    ]
    assert desk.book.state.orders == {}, "a bracket that is over leaves the book"


def test_exits_are_rejected_with_their_entry() -> None:
    desk = Desk()
    assert desk.submit(*bracket(symbol="X", type="limit")) == [
        "rejected b-entry bad_price",
        "rejected b-stop entry_rejected",
        "rejected b-target entry_rejected",
    ]


def test_an_entry_at_a_bars_open_has_the_whole_bar_before_it_and_the_stop_comes_first() -> None:
    desk = Desk()
    desk.submit(*bracket())
    assert desk.apply(bar(100, 106, 94, 100)) == [
        "fill b-entry 10@100",
        "fill b-stop 10@95",
        "cancelled b-target other_exit_filled",
    ]


def test_an_entry_within_a_bar_can_be_stopped_in_it_and_not_take_its_profit() -> None:
    desk = Desk()
    desk.submit(*bracket(type="limit", limit_price=98))
    assert desk.apply(bar(106, 107, 97, 106)) == ["fill b-entry 10@98"]
    desk = Desk()
    desk.submit(*bracket(type="limit", limit_price=98))
    assert desk.apply(bar(100, 101, 94, 100))[:2] == ["fill b-entry 10@98", "fill b-stop 10@95"]


@pytest.mark.parametrize(
    ("side", "limit", "fell"), [("buy", 100, bar(110, 110, 99, 106)), ("sell", 100, bar(90, 101, 90, 94))]
)
def test_a_stop_that_wakes_within_a_bar_trails_no_price_of_before_its_entry(side: str, limit: int, fell: Bar) -> None:
    """The bar opened at its best: nobody who entered at the limit has seen that."""
    entry, stop, _ = bracket(side=side, type="limit", limit_price=limit)
    desk = Desk()
    desk.submit(entry, msgspec.structs.replace(stop, trail=D(5)))
    assert desk.apply(fell) == ["fill b-entry 10@100"]
    assert desk.book.state.orders["b-stop"].work.stop == fell.close + (-5 if side == "buy" else 5)
    desk = Desk()
    desk.submit(entry, msgspec.structs.replace(stop, trail=D(5)))
    assert desk.apply(msgspec.structs.replace(fell, close=104.0 if side == "buy" else 96.0)) == ["fill b-entry 10@100"]


def test_an_order_that_only_reduces_never_opens_or_turns_a_position() -> None:
    desk = Desk()
    desk.submit(request("in", quantity=3), request("out", side="sell", quantity=5, reduce_only=True, leg="exit"))
    assert desk.apply(trade(100)) == ["fill in 3@100", "fill out 3@100", "cancelled out position_closed"]
    desk.submit(request("more", side="sell", quantity=5, reduce_only=True, leg="flatten"))
    assert desk.apply(trade(100, 2)) == ["cancelled more nothing_to_reduce"]
    assert desk.held() == 0


def test_closing_a_position_by_hand_takes_its_exits_along() -> None:
    desk = Desk()
    desk.submit(*bracket())
    desk.apply(trade(100))
    desk.submit(request("hand", side="sell", quantity=10, leg="exit"))
    assert desk.apply(trade(101, 2)) == [
        "fill hand 10@101",
        "cancelled b-stop position_closed",
        "cancelled b-target position_closed",
    ]


@pytest.mark.parametrize("by_its_entry", [True, False])
def test_exits_of_an_entry_that_only_made_the_position_flat_meet_no_later_position(by_its_entry: bool) -> None:
    desk = Desk()
    desk.submit(request("in", quantity=10 if by_its_entry else 30))
    desk.apply(trade(100))
    desk.submit(*bracket(side="sell"))
    ended = ["cancelled b-stop position_closed", "cancelled b-target position_closed"]
    if by_its_entry:
        assert desk.apply(trade(100, 2)) == ["fill b-entry 10@100", *ended]
    else:
        assert desk.apply(trade(100, 2)) == ["fill b-entry 10@100"]
        desk.submit(request("hand", side="sell", quantity=20, leg="exit"))
        assert desk.apply(trade(100, 3)) == ["fill hand 20@100", *ended]
    desk.submit(request("short", side="sell", quantity=10))
    assert desk.apply(trade(100, 4), trade(106, 5)) == ["fill short 10@100"]


def test_exits_of_an_entry_that_made_the_position_flat_and_still_fills_stay_until_it_ends() -> None:
    desk = Desk(FillSettings(participation=1.0))
    desk.submit(request("in", quantity=2))
    desk.apply(trade(100))
    desk.submit(*bracket(side="sell"))
    assert desk.apply(trade(100, 2, 2.0)) == ["fill b-entry 2@100"]
    assert desk.held() == 0
    assert desk.cancel("b-entry") == [
        "cancelled b-entry asked",
        "cancelled b-stop position_closed",
        "cancelled b-target position_closed",
    ]


def test_strategies_of_one_client_do_not_meet() -> None:
    desk = Desk(FillSettings(participation=0.1))
    desk.submit(request("1", strategy="one"), request("2", strategy="two"))
    assert desk.apply(trade(100, 1, 10.0)) == ["fill 1 1@100", "fill 2 1@100"]


def test_strategies_are_filled_in_the_order_of_their_names_whoever_came_first() -> None:
    desk = Desk()
    desk.submit(request("2", strategy="two"), request("1", strategy="one"))
    assert desk.apply(trade(100)) == ["fill 1 1@100", "fill 2 1@100"]


# -- money -------------------------------------------------------------------------------------------------------------


def test_an_account_begins_with_its_cash_and_pays_fees_and_funding() -> None:
    desk = Desk(FillSettings(fees=FeeSettings(taker=D("0.001"), minimum=D(1))), opening={"main": {"USD": D(10_000)}})
    desk.submit(request(quantity=10))
    desk.apply(quote(99, 100, 1, ask_size=5.0), quote(99, 101, 2, ask_size=9.0))
    assert desk.apply(Funding("X", NOW + 3 * SECOND, 0.0001)) == ["funding -0.100000000000"]
    assert desk.book.state.accounts["main"].cash == {"USD": D(10_000) - 1005 - D("1.005") - D("0.1")}
    assert desk.apply(Funding("X", NOW + 4 * SECOND, float("nan"))) == []


# -- any orders and any market -----------------------------------------------------------------------------------------

PRICES = st.integers(90, 110)
REQUESTS = st.fixed_dictionaries(
    {
        "strategy": st.sampled_from(["one", "two"]),
        "side": st.sampled_from(["buy", "sell"]),
        "type": st.sampled_from(["market", "limit", "stop", "stop_limit"]),
        "quantity": st.integers(1, 9),
        "limit_price": PRICES,
        "stop_price": PRICES,
        "trail": st.none() | st.none() | st.integers(1, 4),
        "time_in_force": st.sampled_from(["gtc", "gtc", "ioc", "day"]),
        "expires_ns": st.just(NOW + 8 * MINUTE),
        "reduce_only": st.booleans(),
    }
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), REQUESTS),
        st.tuples(st.just("bracket"), REQUESTS),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("modify"), st.tuples(st.integers(0, 30), st.integers(1, 12), PRICES)),
        st.tuples(st.just("trade"), st.tuples(PRICES, st.integers(1, 20))),
        st.tuples(st.just("quote"), st.tuples(PRICES, st.integers(1, 6), st.integers(1, 6))),
        st.tuples(st.just("bar"), st.tuples(PRICES, PRICES, PRICES, PRICES, st.integers(1, 40))),
        st.tuples(st.just("funding"), st.integers(-20, 20)),
    ),
    min_size=8,
    max_size=50,
)
MARKETS = st.sampled_from(
    [
        TOUCH,
        FillSettings(participation=0.3, slippage_ticks=2),
        FillSettings(queue="behind", queue_size=7.0, impact=0.1, fees=FeeSettings(taker=D("0.001"), minimum=D(1))),
        FillSettings(latency_ns=30 * SECOND, slippage_bps=3.0, assumed_spread=0.001),
    ]
)


class Script:
    """Plays steps on a desk, a minute each."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.minute, self.ids = desk, 0, list[str]()
        self.requests: dict[str, OrderRequest] = {}

    def play(self, steps: list[tuple[str, Any]]) -> None:
        for kind, given_ in steps:
            self.minute += kind in ("trade", "quote", "bar", "funding")
            getattr(self, kind)(given_)

    def submit(self, fields: dict[str, Any]) -> None:
        self._submit([request(f"r{len(self.ids)}", event_ns=NOW + self.minute * MINUTE, **fields)])

    def bracket(self, fields: dict[str, Any]) -> None:
        fields = {**fields, "reduce_only": False, "event_ns": NOW + self.minute * MINUTE}
        quantity, side = fields.pop("quantity"), fields.pop("side")
        orders = bracket(f"b{len(self.ids)}", quantity, side, **fields)
        same = {"strategy": fields["strategy"], "event_ns": fields["event_ns"]}
        self._submit([msgspec.structs.replace(order, **same) for order in orders])

    def _submit(self, orders: list[OrderRequest]) -> None:
        self.ids += [order.client_order_id for order in orders]
        self.requests |= {order.client_order_id: order for order in orders}
        self.desk.submit(*orders)

    def cancel(self, which: int) -> None:
        self.desk.cancel(*self.ids[which : which + 1])

    def modify(self, change: tuple[int, int, int]) -> None:
        for order_id in self.ids[change[0] : change[0] + 1]:
            asked = OrderChange(client_order_id=order_id, quantity=D(change[1]), limit_price=D(change[2]))
            self.desk.keep(self.desk.book.modify(asked)[0])

    def trade(self, row: tuple[int, int]) -> None:
        self.desk.apply(trade(row[0], self.minute * 60, row[1]))

    def quote(self, row: tuple[int, int, int]) -> None:
        self.desk.apply(quote(row[0], row[0] + 1, self.minute * 60, row[1], row[2]))

    def bar(self, row: tuple[int, ...]) -> None:
        prices = row[:4]
        self.desk.apply(bar(prices[0], max(prices), min(prices), prices[3], self.minute, row[4]))

    def funding(self, rate: int) -> None:
        self.desk.apply(Funding("X", NOW + self.minute * MINUTE, rate / 10_000))


@given(STEPS, MARKETS)
@settings(max_examples=100, deadline=None)
def test_any_orders_in_any_market_keep_the_rules(steps: list[tuple[str, Any]], market: FillSettings) -> None:
    desk = Desk(market)
    script = Script(desk)
    script.play(steps)
    events = [event for entry in desk.entries for event in entry.events]
    assert [event.number for event in events] == list(range(len(events)))

    held: dict[str, Decimal] = {}
    filled: dict[str, Decimal] = {}
    cash = D(0)
    for event in events:
        if event.amount is not None:
            cash += event.amount
        if event.report is not None:
            assert event.report.filled <= event.report.quantity
        if event.fill is None:
            continue
        fill, asked = event.fill, script.requests[event.fill.client_order_id]
        change = fill.quantity if fill.side == "buy" else -fill.quantity
        before = held.get(fill.strategy, D(0))
        held[fill.strategy] = before + change
        filled[fill.client_order_id] = filled.get(fill.client_order_id, D(0)) + fill.quantity
        cash -= change * fill.price + fill.fee
        assert event.report is not None and event.report.filled == filled[fill.client_order_id]
        if asked.reduce_only or asked.leg in ("stop_loss", "take_profit"):
            assert before * change < 0 and abs(change) <= abs(before), "it opened or turned a position"
        if asked.type in ("limit", "stop_limit") and not any(e.kind == "modified" for e in events):
            assert asked.limit_price is not None
            assert fill.price <= asked.limit_price if fill.side == "buy" else fill.price >= asked.limit_price
    for name in {asked.bracket for asked in script.requests.values()} - {""}:
        left = filled.get(f"{name}-stop", D(0)) + filled.get(f"{name}-target", D(0))
        assert left <= filled.get(f"{name}-entry", D(0)), "exits closed more than their entry opened"
    assert {p.strategy: p.quantity for p in desk.book.positions()} == held
    account = desk.book.state.accounts.get("main")
    assert (account.cash.get("USD", D(0)) if account else D(0)) == cash


@given(STEPS, MARKETS)
@settings(max_examples=40, deadline=None)
def test_what_a_book_keeps_beside_its_state_is_what_its_state_makes_of_it(
    steps: list[tuple[str, Any]], market: FillSettings
) -> None:
    script = Script(Desk(market))
    for step in steps:
        script.play([step])
        book = script.desk.book
        anew = PaperBook(msgspec.structs.replace(book.state), INSTRUMENTS, market)
        assert vars(book.state.index) == vars(anew.state.index)
        assert (book._lanes, book._positions) == (anew._lanes, anew._positions)


@given(STEPS, MARKETS)
@settings(max_examples=40, deadline=None)
def test_a_journal_makes_the_same_book_at_each_of_its_entries(
    steps: list[tuple[str, Any]], market: FillSettings
) -> None:
    desk = Desk(market)
    Script(desk).play(steps)
    for entries in range(len(desk.entries) + 1):
        book = desk.refolded(entries)
        assert msgspec.msgpack.encode(book.state, order="sorted") == desk.states[entries]


@given(STEPS, MARKETS, st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_a_book_restarted_anywhere_fills_what_it_would_have_filled(
    steps: list[tuple[str, Any]], market: FillSettings, cut: int
) -> None:
    """Killed after any step: folded from its entries and given the records since the last one again."""
    whole = Desk(market)
    Script(whole).play(steps)

    desk = Desk(market)
    script = Script(desk)
    records: list[tuple[int, Any]] = []
    apply = desk.apply

    def recorded(*events: Any) -> list[str]:
        records.extend((desk.seq + n, event) for n, event in enumerate(events))
        return apply(*events)

    desk.apply = recorded  # type: ignore[method-assign]  # a tape beside the desk
    script.play(steps[:cut])
    desk.book = desk.refolded(len(desk.entries))
    for seq, event in records:
        if seq >= (desk.entries[-1].seq if desk.entries else 0):
            assert desk.book.apply(seq, event) is None, "a fill came out of records that had given none"
            desk.book.pass_to(seq + 1)
    script.play(steps[cut:])
    assert desk.entries == whole.entries
