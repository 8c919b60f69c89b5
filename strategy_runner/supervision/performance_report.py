"""A report of clients' performance: by client, strategy, symbol and model, from their fills, signals and last prices."""

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Literal

import msgspec

from strategy_runner.analytics.attribution import NO_MODEL, parts
from strategy_runner.analytics.performance import Performance, performance
from strategy_runner.analytics.trades import Open, Trade, Trades, trades_of
from strategy_runner.config.home import Home
from strategy_runner.errors import StrategyRunnerError, sparing
from strategy_runner.model.names import WorkerKey
from strategy_runner.model.order import OmsEvent
from strategy_runner.model.position import ZERO
from strategy_runner.model.private import PrivateEntry, decode_private
from strategy_runner.model.signal import ModelVote, decode_body
from strategy_runner.router.journal import decision_log, read_decisions
from strategy_runner.supervision.holdings import LastPrices, fill_logs, prices_of_runs
from strategy_runner.supervision.target import Target
from strategy_runner.supervision.wishes import instruments_in_use
from strategy_runner.tape.logs import read_log, refuse_garbage

Level = Literal["client", "strategy", "symbol", "model"]
LEVELS: tuple[Level, ...] = ("client", "strategy", "symbol", "model")
_PLACES: dict[Level, int] = {"client": 0, "strategy": 1, "symbol": 2}


class ReportRow(msgspec.Struct, frozen=True, kw_only=True):
    """One group and currency. `closed` measures the trades that ended, after fees and with funding; `open` is what the others
    have come to so far at the last price, None where there is no price. `fees` and `fills` are of all of them; of a model they
    are None, since a trade has one fee and several models."""

    client: str
    level: Level
    name: str
    currency: str
    fills: int | None
    closed: Performance
    open: Decimal | None
    fees: Decimal | None

    @property
    def profit(self) -> Decimal | None:
        return None if self.open is None else self.closed.result + self.open


def report(
    home: Home,
    runs: Mapping[str, str],
    target: Target,
    environ: Mapping[str, str],
    faults: list[StrategyRunnerError],
) -> list[ReportRow]:
    """`runs` says by client which mode's run is read. A client with a damaged log is left out, and `faults` gets why. Raises
    ConfigurationError."""
    instruments = instruments_in_use(home, environ)
    prices = prices_of_runs(home, runs)
    rows: list[ReportRow] = []
    for client, mode in runs.items():
        with sparing(faults):
            entries = [entry for entry in _entries(home, client, mode) if _is_meant(target, entry.event)]
            trades = trades_of(entries, instruments)
            signal_ids = {one.signal_id for one in trades.ended} | {one.signal_id for one in trades.open}
            votes = _votes(home, client, mode, signal_ids)
            rows += _rows(client, trades, votes, prices[client])
    return rows


def _rows(
    client: str, trades: Trades, votes: Mapping[str, tuple[ModelVote, ...]], prices: LastPrices
) -> Iterator[ReportRow]:
    currencies = dict.fromkeys([one.currency for one in trades.ended] + [one.currency for one in trades.open])
    for currency in currencies:
        ended = [one for one in trades.ended if one.currency == currency]
        opened = [one for one in trades.open if one.currency == currency]
        workers = {(one.strategy, one.symbol) for one in ended} | {(one.strategy, one.symbol) for one in opened}
        for level, index in _PLACES.items():
            for name in sorted({(client, *worker)[index] for worker in workers}):
                own = {worker for worker in workers if (client, *worker)[index] == name}
                yield ReportRow(
                    client=client,
                    level=level,
                    name=name,
                    currency=currency,
                    fills=sum(trades.fills.get((client, *worker, currency), 0) for worker in own),
                    closed=performance([one.result for one in ended if (one.strategy, one.symbol) in own]),
                    open=_open([one for one in opened if (one.strategy, one.symbol) in own], prices),
                    fees=sum((trades.fees.get((client, *worker, currency), ZERO) for worker in own), ZERO),
                )
        yield from _models(client, currency, ended, opened, votes, prices)


def _models(
    client: str,
    currency: str,
    ended: list[Trade],
    opened: list[Open],
    votes: Mapping[str, tuple[ModelVote, ...]],
    prices: LastPrices,
) -> Iterator[ReportRow]:
    """A trade counts for each of its models, with that model's part of the result."""
    results: dict[str, list[Decimal]] = {}
    so_far: dict[str, Decimal | None] = {}
    for one in ended:
        for model, part in parts(one.result, votes.get(one.signal_id, ())).items():
            results.setdefault(model, []).append(part)
    for held in opened:
        value = _open([held], prices)
        for model, part in parts(value or ZERO, votes.get(held.signal_id, ())).items():
            before = so_far.get(model, ZERO)
            so_far[model] = None if value is None or before is None else before + part
    if set(results) | set(so_far) <= {NO_MODEL}:
        return
    for model in sorted({*results, *so_far}):
        yield ReportRow(
            client=client,
            level="model",
            name=model,
            currency=currency,
            fills=None,
            closed=performance(results.get(model, [])),
            open=so_far.get(model, ZERO),
            fees=None,
        )


def _open(held: Iterable[Open], prices: LastPrices) -> Decimal | None:
    total = ZERO
    for one in held:
        price = prices.of(one.symbol)
        if price is None:
            return None
        total += one.result_at(price)
    return total


def _entries(home: Home, client: str, mode: str) -> Iterator[PrivateEntry]:
    for path in fill_logs(home, client, mode):
        yield from map(decode_private, read_log(path))


def _is_meant(target: Target, event: OmsEvent) -> bool:
    return target.matches(WorkerKey(event.client, event.strategy, event.symbol).name)


def _votes(home: Home, client: str, mode: str, signal_ids: set[str]) -> dict[str, tuple[ModelVote, ...]]:
    path = decision_log(home.router(client, mode))
    refuse_garbage(path)
    return {
        decision.signal_id: decode_body(decision.body).models
        for decision in read_decisions(path)
        if decision.signal_id in signal_ids
    }
