"""Writes the tables of docs/reference.md from the code, so that they cannot go stale; a test compares the two.

    python docs/reference_tables.py          rewrites every block between <!-- table NAME --> and <!-- end -->

Meanings of keys and fields stand here, since a Struct has no place for them; what has no meaning here is an error.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import duckdb
import msgspec
import msgspec.inspect as inspect

from strategy_runner import errors
from strategy_runner.cli.main import every_verb
from strategy_runner.cli.signals import flat
from strategy_runner.config.expectation import plain
from strategy_runner.config.schema import ClientConfig, EnvironmentConfig
from strategy_runner.config.secret import SecretReference
from strategy_runner.history import quality
from strategy_runner.model.decision import Decision
from strategy_runner.model.record import DTYPE, Kind
from strategy_runner.model.signal import Cause, Envelope, ModelVote, SignalBody
from strategy_runner.pipeline.pipeline import REASONS
from strategy_runner.predictions import aggregation
from strategy_runner.risk import reasons as risk_reasons
from strategy_runner.risk.breakers import BREAKERS, RESETS
from strategy_runner.router import reasons as router_reasons
from strategy_runner.sinks.duckdb_schema import CREATE
from strategy_runner.supervision.fleet import FleetRow

PAGE = Path(__file__).with_name("reference.md")
_BLOCK = re.compile(r"(<!-- table (?P<name>[a-z_]+) -->\n).*?(<!-- end -->)", re.DOTALL)

KEYS = {
    "environment": "Which kind of environment the file describes; the file is named after it.",
    "mode": "Where records come from: see the modes in [architecture.md](architecture.md#modes).",
    "posture": "`observation`: strategies run and are recorded, nothing is routed, not even later; as `start --observe`.",
    "routes": "Where decisions go beside the client's DuckDB file. `bigquery` is refused until it exists.",
    "log_level": "Least level that is logged.",
    "storage.kind": "Where signals are analysed. `bigquery` is refused until it exists.",
    "storage.project": "Google Cloud project, for `bigquery`.",
    "storage.dataset": "Dataset, for `bigquery`.",
    "messaging.kind": "How records come in and signals go out, beside tape and ZeroMQ. `redis` and `pubsub` are refused so far.",
    "messaging.url": "Redis server, for `redis`; without user and password.",
    "messaging.password": "Password, for `redis`.",
    "messaging.project": "Google Cloud project, for `pubsub`.",
    "limits.memory_limit_mb": "Private memory that a worker's strategy may use; beyond it it gets a MemoryError at a record.",
    "limits.cpu_limit": "Cores of one process; a worker over it for ten seconds runs at the lowest priority until it is calm.",
    "limits.crash_limit": "A worker that ends uncleanly more often within `crash_window_s` is parked; see `resume`.",
    "limits.crash_window_s": "Seconds in which unclean ends of one worker count together.",
    "tape.segment_records": "Records in one file of the tape, 80 bytes each; taken when a tape is made.",
    "tape.durable_interval_ms": "Time between two syncs of the tape: a signal waits at most so long at the gate, and the sync.",
    "tape.reserve_mb": "Space that the tape holds back, beside one segment, so that a full disk halts the feed before it "
    "publishes what it could not keep; the feed goes on by itself when so much is free again.",
    "tape.retention_hours": "Segments older than this are deleted, unless a worker still needs them.",
    "tape.retention_gb": "Segments beyond this size are deleted, the oldest first, unless a worker still needs them.",
    "feed.beat_interval_s": "Time between two beats of the feed; a lost doorbell is noticed within one.",
    "feed.stale_after_s": "Silence of the feed after which routers let no entry through; more than two beats.",
    "feed.symbol_stale_after_s": "The same for a symbol while its market is open; of bars alone it takes two to be missed.",
    "watchdog.look_interval_s": "Time between two looks of the watchdog at all status pages.",
    "watchdog.hang_s": "A process that makes no progress for so long is killed, and begins anew; a worker counts its tries.",
    "watchdog.start_s": "The same for a process that has not said yet that it is ready.",
    "watchdog.log_limit_mb": "A log of a process over this size is copied to one older file, LOG.1, and emptied.",
    "mock.seed": "The same seed makes the same market.",
    "mock.speed": "Times real time; 0 is as fast as it goes.",
    "mock.start": "Event time of the first record.",
    "mock.records": "Trades and quotes before the source ends; 0 is without end.",
    "mock.trades_per_s": "Trades a second of market time, for each symbol.",
    "mock.quotes_per_s": "Quotes a second of market time, for each symbol.",
    "history.folder": "Recorded history for simulation and historical mode; a relative folder lies below the home.",
    "models.provider": "Who makes predictions: the mock model, a pure function of bars and seed.",
    "models.seed": "Seed of the mock model.",
    "live.source": "Where live records come from. No source exists yet, so live mode is refused.",
    "oms.kind": "Who takes the orders of the route `oms`: the paper OMS of this host, also in each simulation, or one over gRPC.",
    "oms.address": "Of the OMS, for `grpc`. A mock market sends its orders to none but this host.",
    "oms.token": "Says to the OMS who asks, for `grpc`.",
    "oms.tls.root": "PEM of whom to trust, for `grpc`; else the authorities of this host. Another host is asked over TLS alone.",
    "oms.tls.certificate": "PEM that says who asks.",
    "oms.tls.key": "PEM of its key.",
    "oms.nats.server": "Of NATS JetStream, if an OMS over gRPC tells its events and positions there; `tls://` for another host.",
    "oms.nats.user": "Says who asks, with the password.",
    "oms.nats.password": "See above.",
    "oms.nats.token": "In place of user and password.",
    "oms.nats.credentials": "In place of user and password: the text of a credentials file.",
    "oms.nats.tls.root": "PEM of whom to trust; without it the authorities of this host.",
    "oms.nats.tls.certificate": "PEM that says who asks.",
    "oms.nats.tls.key": "PEM of its key.",
    "paper.latency_ms": "Time of the market from the record that caused an order until the market sees it.",
    "paper.slippage_ticks": "Ticks that market orders and stops pay on top; a sale above 0 never falls below one tick.",
    "paper.slippage_bps": "As above, in hundredths of a percent of the price.",
    "paper.assumed_spread": "Fraction of the price, half of which they pay where there are no quotes to trade at.",
    "paper.impact": "They also pay this times the square of the share of the volume that they take.",
    "paper.participation": "Share of a size or volume that a strategy may take; without it, or without a volume, "
    "trades and bars are bottomless.",
    "paper.queue": "When a trade at its very price fills a limit order: at once, never, or behind `queue_size` that waits there.",
    "paper.queue_size": "See above.",
    "paper.fees.maker": "Fraction of what a resting order trades; below 0 it is a rebate.",
    "paper.fees.taker": "Fraction of what any other order trades.",
    "paper.fees.per_share": "Money per unit of quantity.",
    "paper.fees.minimum": "Money per order.",
    "paper.cash": "By account and currency, what it begins with: in all `risk.starting_cash`. Needed with several accounts.",
    "paper.symbols.SYMBOL.latency_ms": "Instead of the above, for one symbol.",
    "paper.symbols.SYMBOL.slippage_ticks": "Instead of the above, for one symbol.",
    "paper.symbols.SYMBOL.slippage_bps": "Instead of the above, for one symbol.",
    "paper.symbols.SYMBOL.assumed_spread": "Instead of the above, for one symbol.",
    "paper.symbols.SYMBOL.impact": "Instead of the above, for one symbol.",
    "paper.symbols.SYMBOL.participation": "Instead of the above, for one symbol.",
    "paper.symbols.SYMBOL.queue": "Instead of the above, for one symbol.",
    "paper.symbols.SYMBOL.queue_size": "Instead of the above, for one symbol.",
    "paper.symbols.SYMBOL.fees.maker": "Instead of the above, all four, for one symbol.",
    "paper.symbols.SYMBOL.fees.taker": "Instead of the above, all four, for one symbol.",
    "paper.symbols.SYMBOL.fees.per_share": "Instead of the above, all four, for one symbol.",
    "paper.symbols.SYMBOL.fees.minimum": "Instead of the above, all four, for one symbol.",
    "instruments.SYMBOL.price": "Where the mock market starts.",
    "instruments.SYMBOL.tick_size": "Smallest step of an order's price.",
    "instruments.SYMBOL.lot_size": "Smallest step of an order's quantity.",
    "instruments.SYMBOL.asset_class": "Kind of instrument: its trading hours, and its currency where none is given.",
    "instruments.SYMBOL.currency": "What its prices are quoted in; the second half of a pair (BTC-USD, EURUSD), else USD.",
    "instruments.SYMBOL.multiplier": "Worth of one unit of quantity per unit of price.",
    "instruments.SYMBOL.margin_fraction": "Share of its value that a position binds; 1 is fully paid.",
    "instruments.SYMBOL.calendar": "Asset class whose trading hours hold instead of its own.",
    "accounts.SYMBOL.venue": "Where the client trades the symbol; stands in every signal.",
    "accounts.SYMBOL.account": "The client's account there. Every traded symbol needs one.",
    "risk.currency": "What all money of this table is in.",
    "risk.rates": "What one unit of another currency is worth in `currency`; needed for each that is traded, or in `paper.cash`.",
    "risk.starting_cash": "What the client begins with. Equity is cash and what positions have gained. Live mode wants it given.",
    "risk.max_position_notional": "Worth of all positions, each strategy's own, long and short added up.",
    "risk.max_position_size": "By symbol, in its units: `{ BTC-USD = 0.5 }`. In live mode every traded symbol needs one.",
    "risk.max_order_value": "Worth of one order.",
    "risk.max_daily_loss": "From the day's first equity; then exits only until the next day.",
    "risk.max_drawdown": "From the highest equity, a fraction: 0.10 is 10 %; then exits only until an operator resumes.",
    "risk.max_losing_trades": "In a row, of one strategy; then its exits only until the next day.",
    "risk.max_orders_per_second": "Entries; exits have a limit of their own, ten times as high. 0.5 is one in two seconds.",
    "risk.max_orders_per_minute": "As above.",
    "risk.max_open_orders": "Working at a time; exits are not counted.",
    "risk.price_collar": "Between the price of an order and the last price, a fraction of the last price.",
    "risk.duplicate_window_s": "A worker's entry with side, quantity and price of another is refused for so long.",
    "risk.runaway_signals": "Fresh signals of one worker within `runaway_window_s`; one more halts it until an operator resumes.",
    "risk.runaway_window_s": "See above.",
    "risk.max_rejects": "Rejected orders of one symbol within `rejects_window_s`; then exits only for `cooldown_s`.",
    "risk.rejects_window_s": "See above.",
    "risk.cooldown_s": "See above.",
    "risk.allow_symbols": "If given, entries in these symbols only.",
    "risk.deny_symbols": "No entries in these symbols.",
    "risk.shares": "By strategy id: its part of `max_position_notional` and `max_daily_loss`; 1 where not named.",
    "risk.aggregation": "When strategies disagree on a symbol; see [why a signal is refused](#why-a-signal-is-refused).",
    "risk.priorities": "Ids of strategies; the first counts most, those not named least.",
    "risk.day_starts": "When a trading day begins, in `timezone`.",
    "risk.timezone": "See above.",
    "quantconnect.project_id": "Needed only for an upload, which does not exist yet.",
    "quantconnect.api_key": "As above.",
    "strategies[].id": "Name of the strategy within the client; part of its workers' names. Unique.",
    "strategies[].strategy": "A built-in strategy, or one of `clients/CLIENT/strategies/*.py`.",
    "strategies[].symbols": "One worker for each.",
    "strategies[].timeframe": "Of its bars and predictions, such as 1s, 5m, 1h, 1d.",
    "strategies[].models[].id": "The model's name; `model_id` is the same key.",
    "strategies[].models[].confidence_threshold": "Its part in the weighted threshold that entries must reach.",
    "strategies[].models[].lookback_window": "Predictions that the strategy may look back at (`predictions_of`).",
    "strategies[].models[].weight": "Relative to the other models of the strategy.",
    "strategies[].params": "The strategy's own parameters, checked against its `Params`.",
    "strategies[].size": "Of an entry that names none, in units of the instrument.",
    "strategies[].sizing.kind": "How large that entry is. `fixed` is `size`; formulas stand in `strategy_runner/risk/sizing.py`.",
    "strategies[].sizing.fraction": "Of equity: bought, or lost at the stop (`fixed_risk`); for `kelly` of the full bet.",
    "strategies[].sizing.max_fraction": "The most to buy, as a multiple of equity.",
    "strategies[].sizing.target_volatility": "Yearly, a fraction: 0.2 is 20 % of equity.",
    "strategies[].sizing.win_rate": "Part of the trades that win, for `kelly`.",
    "strategies[].sizing.payoff": "Average win divided by average loss, for `kelly`.",
    "strategies[].stop_loss_fraction": "Of the entry price, where the strategy gives no stop loss.",
    "strategies[].take_profit_fraction": "Of the entry price, where the strategy gives no take profit.",
    "strategies[].extra_symbols": "More symbols that its workers read, for strategies of the client's own.",
    "strategies[].time_to_live_s": "From the feed's receipt of a record: a signal decided later is recorded as expired and "
    "not traded. Live mode wants it given.",
    "strategies[].on_restart": "What becomes of a position that is there when router or worker comes back: `resume` goes on, "
    "`hold` lets no entry through until an operator resumes, `flatten` exits it and goes on, `ask` holds and `status` says "
    "what to type. Needs the route `oms`; live mode wants it given.",
    "strategies[].log_level": "Instead of the client's.",
    "strategies[].limits.memory_limit_mb": "Instead of the client's.",
    "strategies[].limits.cpu_limit": "Instead of the client's.",
    "strategies[].limits.crash_limit": "Instead of the client's.",
    "strategies[].limits.crash_window_s": "Instead of the client's.",
}

FIELDS = {
    "id": "`CLIENT:STRATEGY.SYMBOL@GENERATION/n`: derived, never random.",
    "client": "Client.",
    "strategy": "Strategy id in the client's file.",
    "symbol": "Symbol.",
    "venue": "From the client's `accounts`.",
    "timeframe": "From the strategy's entry.",
    "action": "`buy`, `sell`, `close`, `modify` or `cancel`.",
    "size": "In units of the instrument.",
    "entry_price": "The strategy's, else the last price of the symbol that the worker has seen.",
    "stop_loss": "A price.",
    "take_profit": "A price.",
    "confidence": "From 0 to 1: the strategy's own, else the models' weighted one.",
    "strength": "From 0 to 1, if the strategy gives one.",
    "strategy_type": "The registry's name of its class.",
    "models": "The predictions used: see ModelVote.",
    "cause": "The record that made the strategy speak: see Cause.",
    "reasons": "The strategy's words; a close ends with `closes:long` or `closes:short`.",
    "refusal": "Name of the refusal if the pipeline refused it.",
    "terms": "How the order is placed, if not at the market until it is cancelled: `limit_price`, `stop_price`, `trail`, "
    "`time_in_force`. Left out where null, as are its fields.",
    "of": "Of a modification or cancellation: the id of the signal whose orders it concerns. Left out where empty.",
    "cause.stream": "Name of the record's stream.",
    "cause.ordinal": "The record's number in its stream, from 0.",
    "cause.event_ns": "When it happened.",
    "cause.values": "What it said: the prices, sizes, scores of the event.",
    "vote.model": "Model id.",
    "vote.score": "From -1 (down) to 1 (up).",
    "vote.confidence": "From 0 to 1.",
    "vote.weight": "From the client's file.",
    "vote.stream": "Name of the prediction's stream.",
    "vote.ordinal": "The prediction's number in its stream, from 0.",
    "vote.event_ns": "Close of the bar it speaks of.",
    "envelope.n": "Number of the signal in its worker and generation, dense from 0.",
    "envelope.seq": "Seq of the record that caused it; -1 in historical mode.",
    "envelope.epoch": "How many times the feed had started.",
    "envelope.mode": "Mode of the run.",
    "envelope.received_ns": "When the feed received that record, by the feed's clock; 0 in historical mode.",
    "envelope.recorded_ns": "Wall clock of the worker when it recorded the signal.",
    "envelope.is_observed": "Its worker is only observed, and it is routed nowhere; left out where it is not.",
    "envelope.generation": "Hash of everything that decides what the worker signals.",
    "signals.event_ns": "Event time of the cause.",
    "signals.decision": "`accepted`, `refused` or `expired`.",
    "signals.reason": 'Name of the refusal, `""` when accepted.',
    "signals.decided_ns": "Wall clock of the router when it decided.",
    "signals.mode": "Mode of the run.",
    "signals.seq": "Seq of the record that caused it; -1 in historical mode.",
    "status.client": "Client; null for feed, watchdog and paper OMS.",
    "status.name": "`CLIENT:STRATEGY.SYMBOL`, `CLIENT:router`, `market:feed`, `monitor:watchdog` or `oms:paper`.",
    "status.strategy": "Strategy id; null for all but workers.",
    "status.symbol": "Symbol; null for all but workers.",
    "status.mode": "Mode of the run.",
    "status.process_state": "supervisord's word: RUNNING, STARTING, BACKOFF, STOPPING, STOPPED, EXITED, FATAL; else UNKNOWN.",
    "status.trading_state": "The process's own word: see below.",
    "status.reason": 'Why it is in that state, `""` if there is nothing to say.',
    "status.pid": "Process id; null when there is none.",
    "status.memory_mb": "Proportional set size (PSS).",
    "status.lag_ms": "From the feed's receipt of the worker's last record to its being handled; null without one.",
    "status.last_seq": "Seq of the last record read; for a router the number of its decisions.",
    "status.records": "Records handled; for a router the number of its decisions.",
    "status.signals": "Signals recorded; for a router decided.",
    "status.refusals": "Of these, refused.",
    "status.last_signal": "Id of the last signal since the process began.",
    "status.last_signal_age_s": "Its age, also where a worker has only derived it again.",
    "status.since_s": "How long it has been in its trading state.",
    "status.last_error": "The last error it met.",
}

EXIT_CODES = {
    0: "done",
    1: "something failed; the message says what",
    2: "the command line asks for something that does not exist, or is wrong",
    3: "the daemon, a client or a worker is not running",
    5: "it did not happen within the time given",
    6: "a configuration file must be edited: the message names file, key, expected and found",
    8: "a safety rule says no",
    130: "interrupted by Ctrl-C, which is 0 where `-f` follows",
}


def main() -> int:
    PAGE.write_text(filled(PAGE.read_text()))
    return 0


def filled(text: str) -> str:
    """The page with every block made anew. Raises KeyError for a block nobody makes, ValueError for a missing block."""
    found = [match["name"] for match in _BLOCK.finditer(text)]
    missing = TABLES.keys() - set(found)
    if missing:
        raise ValueError(f"{PAGE.name}: expected blocks for {', '.join(sorted(missing))}, found none")
    return _BLOCK.sub(lambda match: f"{match[1]}{TABLES[match['name']]()}{match[3]}", text)


# -- the command line --------------------------------------------------------------------------------------------------


def commands() -> str:
    parts = []
    for name, command in sorted(every_verb().items()):
        context = click.Context(command, info_name=name)
        usage = " ".join(["strategy-runner", name, *command.collect_usage_pieces(context)])
        parts.append(f"### {name}\n\n`{usage}`\n\n{_paragraph(command.help or '')}\n")
        options = [one for one in command.params if isinstance(one, click.Option) and "--home" not in one.opts]
        if options:
            rows = [[f"`{_spelled(one)}`", _type(one), _default(one), _paragraph(one.help or "")] for one in options]
            parts.append(_table(["option", "value", "default", "what it does"], rows))
    return "\n".join(parts)


def _spelled(option: click.Option) -> str:
    return ", ".join([*option.opts, *option.secondary_opts])


def _type(option: click.Option) -> str:
    if option.is_flag:
        return ""
    if isinstance(option.type, click.Choice):
        return ", ".join(f"`{choice}`" for choice in option.type.choices)
    kind = {"integer range": "integer", "float range": "number", "float": "number", "function": "moment"}
    return option.metavar or kind.get(option.type.name, option.type.name)


def _default(option: click.Option) -> str:
    if option.is_flag:
        return ""
    if option.required:
        return "required"
    return f"`{option.default}`" if option.show_default and option.default not in (None, "") else ""


def exit_codes() -> str:
    kinds = [one for one in vars(errors).values() if isinstance(one, type)]
    unknown = {one.exit_code for one in kinds if issubclass(one, errors.StrategyRunnerError)} - EXIT_CODES.keys()
    if unknown:
        raise KeyError(f"exit codes without a meaning: {unknown}")
    return _table(["code", "meaning"], [[str(code), meaning] for code, meaning in EXIT_CODES.items()])


# -- configuration -----------------------------------------------------------------------------------------------------


def environment_keys() -> str:
    return _keys(EnvironmentConfig)


def client_keys() -> str:
    return _keys(ClientConfig)


def _keys(schema: type[msgspec.Struct]) -> str:
    rows = [[f"`{path}`", kind, default, KEYS[path]] for path, kind, default in config_keys(schema)]
    return _table(["key", "type", "default", "meaning"], rows)


def config_keys(schema: type[msgspec.Struct]) -> Iterator[tuple[str, str, str]]:
    """(path, type, default) of every key that holds a value, in the order of the schema."""
    yield from _walk(inspect.type_info(schema), "", inherited=schema is ClientConfig)


def _walk(kind: inspect.Type, path: str, *, inherited: bool) -> Iterator[tuple[str, str, str]]:
    assert isinstance(kind, inspect.StructType)
    for field in kind.fields:
        inner = f"{path}.{field.name}" if path else field.name
        bare = _bare(field.type)
        if isinstance(bare, inspect.StructType) and bare.cls is not SecretReference:
            yield from _walk(bare, inner, inherited=inherited and field.required)
        elif isinstance(bare, inspect.DictType) and isinstance(_bare(bare.value_type), inspect.StructType):
            yield from _walk(_bare(bare.value_type), f"{inner}.SYMBOL", inherited=False)
        elif isinstance(bare, inspect.VarTupleType) and isinstance(_bare(bare.item_type), inspect.StructType):
            yield from _walk(_bare(bare.item_type), f"{inner}[]", inherited=False)
        else:
            from_environment = inherited and (field.required or bool(path) or field.name == "routes")
            yield inner, _described(field.type), "the environment's" if from_environment else _value(field)


def _value(field: inspect.Field) -> str:
    if field.required:
        return "required"
    default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    return "" if default is None else f"`{_toml(default)}`"


def _toml(value: Any) -> str:
    return "{}" if value == {} else msgspec.json.encode(value).decode()


def _described(kind: inspect.Type) -> str:
    bare = _bare(kind)
    match bare:
        case inspect.LiteralType(values=values):
            return ", ".join(f"`{value}`" for value in values)
        case inspect.VarTupleType(item_type=item):
            return f"list of {_described(item)}"
        case inspect.StructType():
            return "secret reference"
        case inspect.DictType():
            return "table"
        case inspect.StrType():
            return _description(kind) or "text"
        case inspect.IntType() | inspect.FloatType():
            word = "integer" if isinstance(bare, inspect.IntType) else "number"
            bounds = [f"{sign} {limit:,}" for sign, limit in _bounds(bare) if limit is not None]
            return " ".join([word, *(["and".join(f" {bound} " for bound in bounds).strip()] if bounds else [])])
    raise TypeError(f"no words for {bare}")


def _bounds(kind: inspect.IntType | inspect.FloatType) -> list[tuple[str, float | int | None]]:
    limits = {">": kind.gt, ">=": kind.ge, "<": kind.lt, "<=": kind.le}
    return [(sign, plain(limit)) for sign, limit in limits.items()]


def _description(kind: inspect.Type) -> str:
    """What Meta(description=...) says, also behind `| None`."""
    if isinstance(kind, inspect.Metadata):
        return str((kind.extra_json_schema or {}).get("description", ""))
    if isinstance(kind, inspect.UnionType):
        return next((found for option in kind.types if (found := _description(option))), "")
    return ""


def _bare(kind: inspect.Type) -> inspect.Type:
    while True:
        if isinstance(kind, inspect.Metadata):
            kind = kind.type
        elif isinstance(kind, inspect.UnionType):
            (kind,) = (option for option in kind.types if not isinstance(option, inspect.NoneType))
        else:
            return kind


# -- signals, records and what is wrong with them ----------------------------------------------------------------------


def refusals() -> str:
    return _reasons(REASONS)


def router_refusals() -> str:
    return _reasons(router_reasons.REASONS)


def risk_refusals() -> str:
    return _reasons(risk_reasons.REASONS)


def breakers() -> str:
    rows = [
        [f"`{one.name}`", one.scope, one.posture or "as it says", f"`{one.formula}`", RESETS[one.reset]]
        for one in BREAKERS.values()
    ]
    return _table(["breaker", "scope", "state", "opens when", "closes"], rows)


def prediction_faults() -> str:
    return _reasons(aggregation.REASONS)


def quality_rules() -> str:
    """The comments beside the names are the only place where the rules are told."""
    source = Path(quality.__file__).read_text()
    told = {ast.literal_eval(word): text for word, text in re.findall(r'^[A-Z_]+ = ("[a-z_]+")  # (.+)$', source, re.M)}
    return _reasons({rule: told[rule] for rule in (*quality.RULES, quality.UNPARSABLE)})


def _reasons(reasons: Mapping[str, str]) -> str:
    return _table(["name", "meaning"], [[f"`{name}`", text] for name, text in reasons.items()])


def signal_body() -> str:
    return _struct(SignalBody, "")


def cause() -> str:
    return _struct(Cause, "cause.")


def model_vote() -> str:
    return _struct(ModelVote, "vote.")


def envelope() -> str:
    return _struct(Envelope, "envelope.")


def status_json() -> str:
    return _struct(FleetRow, "status.")


def signals_json() -> str:
    cause = Cause(stream="", ordinal=0, event_ns=0, values=())
    empty: dict[str, Any] = {field.name: None for field in msgspec.structs.fields(SignalBody)}
    body = SignalBody(**{**empty, "cause": cause})
    decision = Decision(
        number=0,
        signal_id="",
        verdict="accepted",
        reason="",
        decided_ns=0,
        envelope=Envelope(n=0, seq=0, epoch=0, mode="", received_ns=0, recorded_ns=0, generation=""),
        body=b"",
    )
    return _table(["key", "meaning"], [[f"`{key}`", _meaning("signals.", key)] for key in flat(decision, body)])


def _struct(struct: type[msgspec.Struct], prefix: str) -> str:
    rows = [
        [f"`{field.name}`", _json_type(inspect.type_info(field.type)), _meaning(prefix, field.name)]
        for field in msgspec.structs.fields(struct)
    ]
    return _table(["field", "type", "meaning"], rows)


def _meaning(prefix: str, name: str) -> str:
    return FIELDS[f"{prefix}{name}" if f"{prefix}{name}" in FIELDS else name]


def _json_type(kind: inspect.Type) -> str:
    match kind:
        case inspect.UnionType(types=types):
            words = [_json_type(option) for option in types if not isinstance(option, inspect.NoneType)]
            return f"{' or '.join(words)} or null"
        case inspect.VarTupleType(item_type=item):
            return f"list of {_json_type(item)}"
        case inspect.StructType(cls=cls):
            return cls.__name__
        case inspect.FloatType():
            return "number"
        case inspect.IntType():
            return "integer"
        case inspect.BoolType():
            return "boolean"
    return "text"


def record_layout() -> str:
    fields = DTYPE.fields
    assert fields is not None
    return _table(["field", "offset", "type"], [[f"`{name}`", str(fields[name][1]), _dtype(name)] for name in fields])


def _dtype(name: str) -> str:
    kind = DTYPE[name]
    return f"{kind.shape[0]} x {kind.base}" if kind.shape else str(kind)


def record_kinds() -> str:
    return _table(["kind", "number", "values"], [[kind.name.lower(), str(int(kind)), _told(kind)] for kind in Kind])


def _told(kind: Kind) -> str:
    from strategy_runner.model import record

    match = re.search(rf"^    {kind.name} = {int(kind)}  # (.+)$", Path(record.__file__).read_text(), re.M)
    assert match is not None, kind
    return match[1]


def duckdb_tables() -> str:
    with duckdb.connect(":memory:") as database:
        for statement in CREATE:
            database.execute(statement)
        names = [name for one in CREATE for name in re.findall(r"CREATE (?:TABLE|VIEW) (\w+)", one)]
        rows = []
        for name in names:
            columns = [f"{column[0]} {column[1]}" for column in database.execute(f"DESCRIBE {name}").fetchall()]
            rows.append([f"`{name}`", ", ".join(columns)])
    return _table(["table or view", "columns"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "commands": commands,
    "exit_codes": exit_codes,
    "environment_keys": environment_keys,
    "client_keys": client_keys,
    "refusals": refusals,
    "router_refusals": router_refusals,
    "risk_refusals": risk_refusals,
    "breakers": breakers,
    "prediction_faults": prediction_faults,
    "quality_rules": quality_rules,
    "signal_body": signal_body,
    "cause": cause,
    "model_vote": model_vote,
    "envelope": envelope,
    "status_json": status_json,
    "signals_json": signals_json,
    "record_layout": record_layout,
    "record_kinds": record_kinds,
    "duckdb_tables": duckdb_tables,
}


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _paragraph(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    sys.exit(main())
