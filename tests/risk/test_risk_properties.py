"""Whatever happens in whatever order: states are replayed equal, latches hold, and exits only reduce."""

from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from risk_desk import CLIENT, SECOND_NS, Desk

from strategy_runner.model.order import Leg, OrderChange, OrderRequest, OrderState, Side, signed
from strategy_runner.risk import events
from strategy_runner.risk.breakers import REASONS as BREAKER_REASONS
from strategy_runner.risk.checks import REASONS
from strategy_runner.risk.limits import Rate
from strategy_runner.risk.reasons import REASONS as ALL_REASONS
from strategy_runner.risk.state import RiskState, decode_state, encode_state, profits
from strategy_runner.risk.window import Window

LIMITS: dict[str, Any] = {
    "max_position_notional": 3_000.0,
    "max_position_size": {"BTC-USD": 25.0},
    "max_order_value": 1_500.0,
    "max_daily_loss": 150.0,
    "max_drawdown": 0.01,
    "max_losing_trades": 3,
    "max_orders_per_second": 3,
    "max_open_orders": 4,
    "price_collar": 0.2,
    "duplicate_window_s": 0.5,
    "runaway_signals": 4,
    "runaway_window_s": 1.0,
    "max_rejects": 2,
    "rejects_window_s": 5.0,
    "cooldown_s": 3.0,
    "shares": {"low": 0.5},
}
SIDES: tuple[Side, ...] = ("buy", "sell")
LEGS: tuple[Leg, ...] = ("entry", "exit", "flatten")
SYMBOLS = st.sampled_from(("BTC-USD", "DAX"))
STRATEGIES = st.sampled_from(("high", "low"))
QUANTITIES = st.sampled_from(("1", "5", "14.999", "40", "NaN", "Infinity", "0", "-2", "0.0005"))
PRICES = st.sampled_from(("80", "95.5", "100", "101", "130"))
OPEN = st.tuples(st.just("order"), STRATEGIES, st.sampled_from(SIDES), st.sampled_from(LEGS), QUANTITIES, PRICES)
STEPS = st.one_of(
    OPEN,
    OPEN,
    st.tuples(
        st.just("end"), st.integers(0, 5), st.sampled_from(("filled", "cancelled", "rejected", "unknown")), PRICES
    ),
    st.tuples(st.just("mark"), PRICES),
    st.tuples(st.just("signals"), STRATEGIES, st.integers(1, 4)),
    st.tuples(st.just("later"), st.sampled_from((0.0, 0.1, 1.0, 10.0, -3_600.0))),
    st.tuples(st.just("day"), st.integers(1, 4)),
    st.tuples(st.just("stop"), st.sampled_from(("", "high")), st.sampled_from(("reducing", "halted"))),
    st.tuples(st.just("resume"), st.sampled_from(("", "high"))),
)


class Trading:
    """Does what is drawn, as a router would: only what passes its check is ordered, and only what was ordered is filled."""

    def __init__(self) -> None:
        self.desk = Desk(cash="10000", **LIMITS)
        self.working: list[Any] = []
        self.refusals: set[str] = set()

    def step(self, step: tuple[Any, ...]) -> None:
        desk = self.desk
        match step:
            case ("order", strategy, side, leg, quantity, price):
                order = desk.order(side, quantity, strategy=strategy, leg=leg)
                refusal = desk.send(order, price)
                if refusal is None:
                    self.working.append(order)
                else:
                    self.refusals.add(refusal)
            case ("end", index, how, price) if self.working:
                order = self.working.pop(index % len(self.working))
                if how == "filled":
                    desk.fill(order.side, str(order.quantity), price, strategy=order.strategy, fee="0.1")
                if how == "unknown":
                    self.working.append(order)
                desk.report(order, OrderState(how), str(order.quantity) if how == "filled" else "0")
            case ("mark", price):
                desk.mark(price)
            case ("signals", strategy, number):
                desk.signals(number, strategy)
            case ("later", seconds):
                desk.later(seconds)
            case ("day", day):
                desk.day(day)
            case ("stop", strategy, posture):
                desk.stop(posture, strategy)
            case ("resume", strategy):
                desk.resume(strategy)


def sizes(trading: Trading) -> dict[str, Decimal]:
    return {key: abs(book.quantity) for key, book in trading.desk.state.books.items()}


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_a_replay_of_the_events_gives_an_equal_state_and_equity_is_what_it_was_made_of(
    steps: list[tuple[Any, ...]],
) -> None:
    trading = Trading()
    for step in steps:
        trading.step(step)
    assert trading.desk.replayed() == encode_state(trading.desk.state)
    assert trading.refusals <= REASONS.keys() <= ALL_REASONS.keys()
    gained = profits(trading.desk.state)
    assert gained is not None
    assert trading.desk.state.equity == trading.desk.state.cash + sum(gained.values(), Decimal(0))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(
                STRATEGIES,
                SYMBOLS,
                st.sampled_from(SIDES),
                st.sampled_from(LEGS),
                st.integers(1, 9),
                st.integers(90, 110),
            ),
            st.tuples(st.integers(0, 9), st.sampled_from(("acknowledged", "unknown", "cancelled", "filled"))),
            st.tuples(st.sampled_from(("EUR", "USD")), st.integers(1, 3)),
            st.tuples(st.integers(0, 9), st.integers(90, 130), st.booleans()),
        ),
        max_size=30,
    )
)
def test_totals_are_what_orders_and_exposures_add_up_to(steps: list[tuple[Any, ...]]) -> None:
    desk = Desk(cash="10000", **LIMITS)
    working: list[OrderRequest] = []
    for step in steps:
        match step:
            case (str(strategy), str(symbol), side, leg, quantity, price):
                working.append(desk.order(side, str(quantity), strategy=strategy, symbol=symbol, leg=leg))
                desk.take(events.Ordered(at_ns=desk.now_ns, order=working[-1], price=Decimal(price)))
            case (index, price, bool(is_made)):
                if working:
                    changed_id = working[index % len(working)].client_order_id
                    change = OrderChange(client_order_id=changed_id, limit_price=Decimal(price))
                    desk.take(events.Changed(at_ns=desk.now_ns, change=change, is_made=is_made))
            case (str(currency), rate):
                desk.take(events.Rated(at_ns=desk.now_ns, currency=currency, rate=Decimal(rate)))
            case (index, state) if working:
                order = working[index % len(working)]
                if state == "filled":
                    desk.fill(order.side, str(order.quantity), "101", strategy=order.strategy, symbol=order.symbol)
                desk.report(order, OrderState(state), "0.5")
        again = decode_state(encode_state(desk.state), CLIENT, "mock")
        assert added_up(again) == added_up(desk.state)
        assert again == desk.state


def added_up(state: RiskState) -> list[Any]:
    """All totals, of which 0 is as good as none."""
    totals = state.totals
    return [
        (totals.entries, totals.unpriced, totals.ungained, totals.worth),
        *({key: one for key, one in found.items() if one} for found in (totals.unknown, totals.worths, totals.sizes)),
        totals.gains,
        totals.places,
        [
            (one.orders, one.buys, one.sells, one.closing, one.price)
            for one in (totals.of(key) for key in state.exposures)
        ],
    ]


@settings(max_examples=100, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_a_latch_goes_by_its_own_rule_and_no_other(steps: list[tuple[Any, ...]]) -> None:
    trading = Trading()
    for step in steps:
        before, day = (
            {(one.breaker, one.strategy, one.symbol): one for one in trading.desk.state.latches},
            (trading.desk.state.day),
        )
        trading.step(step)
        for scope in before.keys() - trading.desk.open():
            latch = before[scope]
            match latch.reset:
                case "next_day":
                    assert trading.desk.state.day > day
                case "operator":
                    assert step == ("resume", latch.strategy)
                case "cooldown":
                    assert latch.until_ns <= trading.desk.now_ns
                case _:
                    raise AssertionError(latch)


@settings(max_examples=100, deadline=None)
@given(st.lists(OPEN, min_size=1, max_size=8), st.sampled_from(("reducing", "halted")), st.lists(STEPS, max_size=30))
def test_while_it_is_stopped_no_position_grows_or_turns(
    opening: list[tuple[Any, ...]], posture: str, steps: list[tuple[Any, ...]]
) -> None:
    trading = Trading()
    for step in opening:
        trading.step(step)
    for order in trading.working:
        trading.desk.fill(order.side, str(order.quantity), "100", strategy=order.strategy)
        trading.desk.report(order, OrderState.FILLED, str(order.quantity))
    trading.working.clear()
    trading.desk.stop(posture)  # type: ignore[arg-type]  # one of the two
    held = {key: book.quantity for key, book in trading.desk.state.books.items()}
    for step in steps:
        if step[0] in ("resume", "stop"):
            continue
        trading.step(step)
        for key, book in trading.desk.state.books.items():
            was = held.get(key, Decimal(0))
            assert abs(book.quantity) <= abs(was)
            assert book.quantity * was >= 0
            held[key] = book.quantity


@settings(max_examples=100, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_no_order_that_is_not_finite_and_no_position_above_its_limit_gets_through(steps: list[tuple[Any, ...]]) -> None:
    trading = Trading()
    for step in steps:
        trading.step(step)
        state = trading.desk.state
        assert all(order.quantity.is_finite() and order.quantity > 0 for order in state.orders.values())
        assert sum(sizes(trading).values(), Decimal(0)) <= 25
        assert sum(order.is_entry for order in state.orders.values()) <= 4
        over_all = [one for one in state.latches if not one.strategy and one.breaker != "rejects"]
        if over_all:
            assert trading.desk.check(trading.desk.order()) in BREAKER_REASONS


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(SIDES), st.integers(1, 9), st.integers(90, 110), st.integers(0, 2)), max_size=30)
)
def test_what_a_book_gained_is_what_was_paid_and_received(fills: list[tuple[Side, int, int, int]]) -> None:
    """Realised and unrealised together are the cash that flowed and the worth of what is left, however it was traded."""
    desk = Desk()
    cash = quantity = Decimal(0)
    for side, size, price, fee in fills:
        desk.fill(side, str(size), str(price), fee=str(fee))
        change = signed(side, Decimal(size))
        cash -= change * price + fee
        quantity += change
    if not fills:
        return
    book = desk.state.books["high/BTC-USD"]
    assert book.quantity == quantity
    assert abs(book.realised + book.unrealised(Decimal(100)) - (cash + quantity * 100)) < Decimal("1e-18")


@given(st.lists(st.tuples(st.integers(0, SECOND_NS), st.integers(1, 6)), max_size=40))
def test_a_window_says_what_counting_all_moments_would_say(steps: list[tuple[int, int]]) -> None:
    rate = Rate(4, SECOND_NS)
    window, now_ns = Window(), 0
    all_ns: list[int] = []
    for step_ns, tries in steps:
        now_ns += step_ns
        for _ in range(tries):
            assert window.is_full(rate, now_ns) == (sum(now_ns - at < SECOND_NS for at in all_ns) >= rate.count)
            if not window.is_full(rate, now_ns):
                window.add(rate, now_ns)
                all_ns.append(now_ns)
