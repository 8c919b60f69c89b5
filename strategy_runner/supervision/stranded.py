"""Stranded positions: what workers hold that, with their files as they are now, no order of theirs could close.

What would send orders to where nothing is held is refused, and so is what its limits would be measured against in two currencies;
of the rest people are told before and after it is done.
"""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

from strategy_runner.config.home import Home
from strategy_runner.config.spec import RouterSpec, WorkerSpec
from strategy_runner.errors import SafetyRefusal, sparing
from strategy_runner.model.instrument import decimal_of
from strategy_runner.model.names import WorkerKey
from strategy_runner.model.order import OrderRequest
from strategy_runner.model.position import Position
from strategy_runner.risk.state import RiskState, limits_in_force
from strategy_runner.router.order_book import OrderBook
from strategy_runner.router.order_journal import read_book
from strategy_runner.router.risk_record import read_risk
from strategy_runner.supervision.process import SIMULATION, Process


def refuse_other_books(home: Home, processes: Sequence[Process]) -> None:
    """Raises SafetyRefusal for a worker that holds something, or is entering it, in another account or at another venue than its
    orders would go to: a close would open the other side there, and what protects the position stays where it is. And for a
    client whose cash, highest equity and first equity of the day were counted in another currency."""
    workers = [process.spec for process in processes if isinstance(process.spec, WorkerSpec)]
    planned_venues = {WorkerKey(one.client, one.strategy, one.symbol).name: one.venue for one in workers}
    for router in _routers(processes):
        if router.oms is None:
            continue
        _refuse_other_currency(router, _counted(home, router))
        book = _book(home, router)
        there = [
            (name, one.account, book.venues.get(f"{one.strategy}.{one.symbol}"), f"holds {_plain(one.quantity)}")
            for name, one in _held(book, router)
        ]
        entering = [
            (name, one.account, one.venue, f"is entering {_plain(one.quantity)}")
            for name, one in _entering(book, router)
        ]
        for name, account, venue, what in [*there, *entering]:
            symbol = WorkerKey.parse(name).symbol
            planned_venue = planned_venues.get(name)
            _refuse_other(
                f"{router.client}: accounts.{symbol}.account", account, router.oms.accounts[symbol], name, what
            )
            if venue and planned_venue:  # of a book of an earlier version nobody knows it
                _refuse_other(f"{router.client}: accounts.{symbol}.venue", venue, planned_venue, name, what)


def _refuse_other(key: str, expected: str, found: str, name: str, what: str) -> None:
    if found != expected:
        raise SafetyRefusal(
            f"{key}: expected {expected}, where {name} {what}, found {found}: make it flat first, "
            f"with the {key.rpartition('.')[2]} as it was: `strategy-runner flatten {name} --reason WHY`"
        )


def stranded(home: Home, processes: Iterable[Process]) -> list[str]:
    """A line for each worker that holds something and has no orders any more, or holds what is no multiple of its lot; and for a
    client whose cash is another than it began with."""
    return [line for router in _routers(processes) for line in _of_client(home, router)]


def _of_client(home: Home, router: RouterSpec) -> Iterator[str]:
    state = _counted(home, router) if router.oms is not None else None
    if state is not None and state.cash != decimal_of(router.risk.starting_cash):
        began, now = _plain(state.cash), _plain(decimal_of(router.risk.starting_cash))
        yield (
            f"{router.client}: risk.starting_cash is {now} now, and it began with {began}: its limits and its account at the OMS "
            "go on with that until it begins anew (docs/runbook.md)"
        )
    for name, held in _held(_book(home, router), router):
        quantity = _plain(held.quantity)
        flatten = f"`strategy-runner flatten {name} --reason WHY`"
        if router.oms is None:
            yield f"{name} holds {quantity}, and goes on without orders: {flatten} only works while it has the route oms"
            continue
        instrument = router.instruments[held.symbol]
        closed = instrument.rounded_quantity(abs(held.quantity))
        if closed != abs(held.quantity):
            asks = "asks the OMS to take"
            how = (
                f"a close takes {closed:f}, and the next one {asks} the rest" if closed else f"a close of it {asks} it"
            )
            yield f"{name} holds {quantity}, and its lot is {_plain(instrument.lot_size)}: {how}, as {flatten} does"


def _routers(processes: Iterable[Process]) -> Iterator[RouterSpec]:
    """Those that go on with what is held; a simulation begins anew."""
    for process in processes:
        spec = process.spec
        if isinstance(spec, RouterSpec) and spec.mode != SIMULATION and not spec.bulk:
            yield spec


def _held(book: OrderBook, router: RouterSpec) -> Iterator[tuple[str, Position]]:
    """What the router's workers hold in each account."""
    for one in book.positions():
        if one.quantity and f"{one.strategy}.{one.symbol}" in router.workers:
            yield WorkerKey(router.client, one.strategy, one.symbol).name, one


def _entering(book: OrderBook, router: RouterSpec) -> Iterator[tuple[str, OrderRequest]]:
    """Their open orders that may open a position."""
    for known in book.orders.values():
        one = known.order.request
        if not one.reduce_only and f"{one.strategy}.{one.symbol}" in router.workers:
            yield WorkerKey(router.client, one.strategy, one.symbol).name, one


def _refuse_other_currency(router: RouterSpec, state: RiskState | None) -> None:
    known = router.risk.currency if state is None else limits_in_force(state).currency
    if known != router.risk.currency:
        raise SafetyRefusal(
            f"{router.client}: risk.currency: expected {known}, in which its cash and profits were counted so far, "
            f"found {router.risk.currency}: put it back, or let the client begin anew (docs/runbook.md)"
        )


def _counted(home: Home, router: RouterSpec) -> RiskState | None:
    """What its limits are measured by; None before there are any, and where it cannot be read, on which no router starts."""
    with sparing([]):
        state = read_risk(home.router(router.client, router.mode), router.client, router.mode)
        return state if state is not None and state.limits is not None else None
    return None


def _book(home: Home, router: RouterSpec) -> OrderBook:
    """An empty one where its journal cannot be read, on which no router starts."""
    with sparing([]):
        return read_book(home.router(router.client, router.mode), router.client, router.instruments)
    return OrderBook(client=router.client)


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"
