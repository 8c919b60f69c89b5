"""What clients hold and what it has gained, from their fill logs: each worker's positions, at the last prices of its run."""

import heapq
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import cache
from pathlib import Path

import msgspec

from strategy_runner.config.home import Home
from strategy_runner.config.spec import WorkerSpec
from strategy_runner.errors import NotRunningError, StrategyRunnerError, sparing
from strategy_runner.history.last_price import last_prices
from strategy_runner.model.fill import Fill
from strategy_runner.model.instrument import Instrument, decimal_of
from strategy_runner.model.names import WorkerKey
from strategy_runner.model.position import Position
from strategy_runner.model.private import decode_private
from strategy_runner.oms.ledger import unrealised
from strategy_runner.router.market import Market
from strategy_runner.router.order_journal import read_book
from strategy_runner.router.unprotected import Unprotected, unprotected
from strategy_runner.small_files import paths_below
from strategy_runner.supervision.process import HISTORICAL
from strategy_runner.supervision.target import Target
from strategy_runner.supervision.wishes import instruments_in_use
from strategy_runner.tape.logs import read_log, refuse_garbage


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """One worker's in one account. Money in `currency`. `profit` is realised and unrealised, less fees, with funding; what rests
    on a price is None where there is none: the position of an instrument that the environment has lost."""

    client: str
    strategy: str
    symbol: str
    account: str
    fills: int
    quantity: Decimal
    average_price: Decimal
    last_price: Decimal | None
    realised: Decimal
    unrealised: Decimal | None
    fees: Decimal
    funding: Decimal
    profit: Decimal | None
    currency: str | None

    @property
    def key(self) -> WorkerKey:
        return WorkerKey(self.client, self.strategy, self.symbol)


class LastPrices:
    """What each symbol cost last in a run. Each is looked up once: the market goes on meanwhile, and rows of one answer that
    stand for the same position must agree."""

    def __init__(self, look: Callable[[str], float | None]) -> None:
        self._look = look
        self._known: dict[str, Decimal | None] = {}

    def of(self, symbol: str) -> Decimal | None:
        """None where there is none yet."""
        if symbol not in self._known:
            price = self._look(symbol)
            self._known[symbol] = None if price is None else decimal_of(price)
        return self._known[symbol]


def prices_of_runs(home: Home, runs: Mapping[str, str]) -> dict[str, LastPrices]:
    """By client: those of the tape, which all clients of a mode share, or of the history that its own workers have read."""
    tapes = {mode: LastPrices(_on_tape(home, mode)) for mode in set(runs.values())}
    return {
        client: LastPrices(last_prices(home.client_state(client, mode) / "workers"))
        if mode == HISTORICAL
        else tapes[mode]
        for client, mode in runs.items()
    }


def _on_tape(home: Home, mode: str) -> Callable[[str], float | None]:
    @cache
    def market() -> Market | None:
        try:
            return Market(home.market(mode) / "tape")
        except NotRunningError:
            return None

    return lambda symbol: None if (found := market()) is None else found.price(symbol)


def holdings(
    home: Home,
    runs: Mapping[str, str],
    target: Target,
    environ: Mapping[str, str],
    faults: list[StrategyRunnerError],
) -> list[Holding]:
    """`runs` says by client which mode's run is read. A client with a damaged log is left out, and `faults` gets why. Raises
    ConfigurationError."""
    instruments = instruments_in_use(home, environ)
    prices = prices_of_runs(home, runs)
    found: list[Holding] = []
    for client, mode in runs.items():
        held: list[tuple[Position, int]] = []
        with sparing(faults):
            held = _positions(fill_logs(home, client, mode))
        for position, fills in held:
            if target.matches(WorkerKey(client, position.strategy, position.symbol).name):
                price = prices[client].of(position.symbol)
                found.append(_holding(position, fills, instruments.get(position.symbol), price))
    return sorted(found, key=lambda holding: holding.key)


def positions_of_run(home: Home, client: str, mode: str) -> list[Position]:
    """What each worker of a client holds by its fills. Raises StateError for a damaged log."""
    return [position for position, _ in _positions(fill_logs(home, client, mode))]


def unprotected_of(
    home: Home,
    runs: Mapping[str, str],
    target: Target,
    environ: Mapping[str, str],
    faults: list[StrategyRunnerError],
) -> dict[str, Unprotected]:
    """What workers hold whose stop loss has ended, by worker; of `runs` as `holdings`."""
    instruments = instruments_in_use(home, environ)
    found: dict[str, Unprotected] = {}
    for client, mode in runs.items():
        with sparing(faults):
            for one in unprotected(read_book(home.router(client, mode), client, instruments)):
                name = WorkerKey(client, one.strategy, one.symbol).name
                if target.matches(name):
                    found[name] = one
    return found


def held_by(home: Home, workers: Iterable[WorkerSpec]) -> dict[str, Decimal]:
    """What these workers' orders at an OMS have left them, by worker; who holds nothing is left out, and so is a client whose
    fill log is damaged."""
    runs: dict[tuple[str, str], set[str]] = {}
    for worker in workers:
        if worker.fills:
            runs.setdefault((worker.client, worker.mode), set()).add(worker.key.name)
    found: dict[str, Decimal] = {}
    for (client, mode), names in runs.items():
        with sparing([]):
            for position in positions_of_run(home, client, mode):
                name = WorkerKey(client, position.strategy, position.symbol).name
                if name in names and position.quantity:
                    found[name] = position.quantity
    return found


def fill_logs(home: Home, client: str, mode: str) -> list[Path]:
    """The client's, or those of its workers where each filled its own orders. Raises CorruptRecordError for one that is none."""
    own = home.fills(client, mode)
    logs = [own] if own.exists() else paths_below(home.client_state(client, mode) / "workers", "*/fills.log")
    for path in logs:
        refuse_garbage(path)
    return logs


def fills_told(home: Home, client: str, mode: str) -> list[Fill]:
    """A client's fills in the order in which they were told: as its log has them, by event time where each worker has a log.

    Raises StateError for a damaged log.
    """
    logs = [
        [fill for payload in read_log(path) if (fill := decode_private(payload).event.fill) is not None]
        for path in fill_logs(home, client, mode)
    ]
    return list(heapq.merge(*logs, key=lambda fill: fill.event_ns))


def _positions(logs: Iterable[Path]) -> list[tuple[Position, int]]:
    """The last position of each worker in each account that it ever had, and how many fills made it."""
    last: dict[tuple[str, str], Position] = {}
    fills: dict[tuple[str, str], int] = {}
    for path in logs:
        for entry in map(decode_private, read_log(path)):
            key = entry.worker, entry.position.account
            last[key] = entry.position
            fills[key] = fills.get(key, 0) + (entry.event.fill is not None)
    return [(position, fills[key]) for key, position in last.items()]


def _holding(position: Position, fills: int, instrument: Instrument | None, last: Decimal | None) -> Holding:
    gain: Decimal | None = None
    if not position.quantity:
        gain = Decimal(0)
    elif last is not None and instrument is not None:
        gain = unrealised(position, last, instrument)
    return Holding(
        client=position.client,
        strategy=position.strategy,
        symbol=position.symbol,
        account=position.account,
        fills=fills,
        quantity=position.quantity,
        average_price=position.average_price,
        last_price=last,
        realised=position.realised,
        unrealised=gain,
        fees=position.fees,
        funding=position.funding,
        profit=None if gain is None else position.realised + gain - position.fees + position.funding,
        currency=instrument.currency if instrument else None,
    )
