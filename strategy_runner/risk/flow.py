"""Events of the flow: signals and orders as they come and go, what they are counted by, and which breakers that opens."""

import msgspec

from strategy_runner.model.order import FINAL_STATES, OrderRequest, OrderState
from strategy_runner.risk import events
from strategy_runner.risk.book import ZERO
from strategy_runner.risk.exposure import refresh
from strategy_runner.risk.latching import latch
from strategy_runner.risk.limits import EXIT_RATE_FACTOR, Rate
from strategy_runner.risk.money import is_positive
from strategy_runner.risk.state import RiskState, limits_in_force
from strategy_runner.risk.window import Window
from strategy_runner.risk.working import PROTECTIVE_LEGS, OpenOrder, worker_key

ENTRIES, EXITS = "entries", "exits"  # what windows of order rates are named by


def signalled(state: RiskState, event: events.Signalled) -> None:
    rate = limits_in_force(state).runaway
    if rate is None:
        return
    window = _window(state, f"signals {worker_key(event.strategy, event.symbol)}")
    is_runaway = window.is_full(rate, event.at_ns)
    window.add(rate, event.at_ns)
    if is_runaway:
        facts = f"more than {rate.count} signals within {rate.span_ns / 1e9:g} s"
        latch(state, "runaway", event.at_ns, facts, strategy=event.strategy, symbol=event.symbol)


def ordered(state: RiskState, event: events.Ordered) -> None:
    order, limits = event.order, limits_in_force(state)
    if order.client_order_id in state.orders:
        return
    prices = (event.price, order.limit_price, order.stop_price)
    working = OpenOrder(
        strategy=order.strategy,
        symbol=order.symbol,
        side=order.side,
        leg=order.leg,
        quantity=order.quantity,
        price=max((price for price in prices if price is not None and is_positive(price)), default=ZERO),
        is_entry=not order.reduce_only,
        waits=order.type != "market",
        limit_price=order.limit_price,
        stop_price=order.stop_price,
    )
    state.put_order(order.client_order_id, working)
    refresh(state, order.strategy, order.symbol)
    if order.leg in PROTECTIVE_LEGS:
        return  # they come with an entry, or for a position that is there
    for per, rate in limits.order_rates:
        _window(state, rate_name(order, per)).add(rate_for(order, rate), event.at_ns)
    if not order.reduce_only and limits.duplicate_window_ns is not None:
        _note_recent(state, fingerprint(order), event.at_ns, limits.duplicate_window_ns)


def changed(state: RiskState, event: events.Changed) -> None:
    """The dearest price that was ever asked for counts until the order is over: rather too much than too little, since nobody
    here knows when the OMS changes it."""
    change = event.change
    order = state.orders.get(change.client_order_id)
    if order is None:
        return
    asked = [price for price in (change.limit_price, change.stop_price) if price is not None]
    after = msgspec.structs.replace(order, price=max([order.price, *asked]))
    if event.is_made:
        limit = order.limit_price if change.limit_price is None else change.limit_price
        stop = order.stop_price if change.stop_price is None else change.stop_price
        after = msgspec.structs.replace(after, limit_price=limit, stop_price=stop)
    state.put_order(change.client_order_id, after)
    if after.price != order.price:
        refresh(state, order.strategy, order.symbol)


def reported(state: RiskState, event: events.Reported) -> None:
    """Reports of orders that are over, or nobody's, change nothing. Numbers that are none leave those that are known: the desk
    takes in no such report, but journals of before it asked may have some."""
    report = event.report
    order = state.orders.get(report.client_order_id)
    if order is None:
        return
    if report.state not in FINAL_STATES:
        changed = msgspec.structs.replace(order, state=report.state)
        if is_positive(report.quantity) and report.filled.is_finite():
            changed = msgspec.structs.replace(changed, quantity=report.quantity, filled=report.filled)
        state.put_order(report.client_order_id, changed)
        if not event.has_fill and (changed.quantity, changed.filled) != (order.quantity, order.filled):
            refresh(state, order.strategy, order.symbol)
        return
    state.end_order(report.client_order_id)
    if not event.has_fill:
        refresh(state, order.strategy, order.symbol)
    rate = limits_in_force(state).rejects
    if report.state is OrderState.REJECTED and rate is not None:
        window = _window(state, f"rejects {order.symbol}")
        window.add(rate, event.at_ns)
        if window.is_full(rate, event.at_ns):
            facts = f"{rate.count} rejected orders within {rate.span_ns / 1e9:g} s, the last for {report.reason or 'no reason'}"
            latch(state, "rejects", event.at_ns, facts, symbol=order.symbol)


def rate_name(order: OrderRequest, per: str) -> str:
    """Exits are counted apart, so that entries never use up what an exit needs."""
    return f"{EXITS if order.reduce_only else ENTRIES} {per}"


def rate_for(order: OrderRequest, rate: Rate) -> Rate:
    return rate.times(EXIT_RATE_FACTOR) if order.reduce_only else rate


def fingerprint(order: OrderRequest) -> str:
    """What two entries of one worker have in common when one is the other's duplicate."""
    prices = f"{order.limit_price!s}/{order.stop_price!s}"  # !s: a Decimal is formatted thrice as slowly
    return f"{worker_key(order.strategy, order.symbol)}/{order.side}/{order.type}/{order.quantity!s}/{prices}"


def _note_recent(state: RiskState, name: str, at_ns: int, window_ns: int) -> None:
    """The oldest come first, and leave once nothing can be their duplicate."""
    recent = state.recent
    while recent and recent[oldest := next(iter(recent))] <= at_ns - window_ns:
        del recent[oldest]
    recent.pop(name, None)
    recent[name] = at_ns


def _window(state: RiskState, name: str) -> Window:
    window = state.windows.get(name)
    if window is None:
        window = state.windows[name] = Window()
    return window
