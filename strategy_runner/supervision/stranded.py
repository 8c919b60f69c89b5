"""Stranded positions: what workers hold that, with their files as they are now, no order of theirs could close.

What would send orders to where nothing is held is refused; of the rest people are told before and after it is done.
"""

from collections.abc import Iterable, Iterator

from strategy_runner.config.home import Home
from strategy_runner.config.spec import RouterSpec
from strategy_runner.errors import SafetyRefusal, sparing
from strategy_runner.model.names import WorkerKey
from strategy_runner.model.position import Position
from strategy_runner.router.order_journal import read_book
from strategy_runner.supervision.process import SIMULATION, Process


def refuse_other_accounts(home: Home, processes: Iterable[Process]) -> None:
    """Raises SafetyRefusal for a worker that holds something in another account than its orders would go to: a close would open
    the other side there, and what protects the position stays where it is."""
    for router in _routers(processes):
        if router.oms is None:
            continue
        for name, held in _held(home, router):
            account = router.oms.accounts[held.symbol]
            if held.account != account:
                raise SafetyRefusal(
                    f"{router.client}: accounts.{held.symbol}.account: expected {held.account}, where {name} holds "
                    f"{held.quantity.normalize():f}, found {account}: make it flat first, with the account as it was: "
                    f"`strategy-runner flatten {name} --reason WHY`"
                )


def stranded(home: Home, processes: Iterable[Process]) -> list[str]:
    """A line for each worker that holds something and has no orders any more, or holds what is no multiple of its lot."""
    return [line for router in _routers(processes) for line in _of_client(home, router)]


def _of_client(home: Home, router: RouterSpec) -> Iterator[str]:
    for name, held in _held(home, router):
        quantity = f"{held.quantity.normalize():f}"
        flatten = f"`strategy-runner flatten {name} --reason WHY`"
        if router.oms is None:
            yield f"{name} holds {quantity}, and goes on without orders: {flatten} only works while it has the route oms"
            continue
        instrument = router.instruments[held.symbol]
        closed = instrument.rounded_quantity(abs(held.quantity))
        if closed != abs(held.quantity):
            yield (
                f"{name} holds {quantity}, of which its strategy can close {closed:f} in lots of "
                f"{instrument.lot_size.normalize():f}: {flatten} asks the OMS to close the rest too"
            )


def _routers(processes: Iterable[Process]) -> Iterator[RouterSpec]:
    """Those that go on with what is held; a simulation begins anew."""
    for process in processes:
        spec = process.spec
        if isinstance(spec, RouterSpec) and spec.mode != SIMULATION and not spec.bulk:
            yield spec


def _held(home: Home, router: RouterSpec) -> Iterator[tuple[str, Position]]:
    """What the router's workers hold in each account; nothing where its journal cannot be read, on which no router starts."""
    found: list[Position] = []
    with sparing([]):
        found += read_book(home.router(router.client, router.mode), router.client, router.instruments).positions()
    for one in found:
        if one.quantity and f"{one.strategy}.{one.symbol}" in router.workers:
            yield WorkerKey(router.client, one.strategy, one.symbol).name, one
