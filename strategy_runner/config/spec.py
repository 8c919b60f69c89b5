"""What one process is told: its whole configuration, resolved, in one JSON file of its own.

The plan writes these files; a process reads its own and nothing else. Paths are absolute, secrets stay references.
"""

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from strategy_runner.config.schema import NatsConfig, RiskConfig, SizingConfig, TlsConfig
from strategy_runner.config.secret import SecretReference
from strategy_runner.errors import ConfigurationError, naming, reason_of
from strategy_runner.model.fill_settings import FillSettings
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.names import WorkerKey
from strategy_runner.model.stream import private
from strategy_runner.small_files import paths_below, read_whole, replace_file


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A model a strategy listens to. `lookback_window` counts predictions kept for the strategy."""

    id: str
    confidence_threshold: float
    lookback_window: int
    weight: float


class ProtectionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Stop loss and take profit as fractions of the entry price; None leaves the choice to the strategy."""

    stop_loss_fraction: float | None = None
    take_profit_fraction: float | None = None


class LimitsSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What one process may use, and how often a worker may end uncleanly within so many seconds before it is parked."""

    memory_limit_mb: int
    cpu_limit: float
    crash_limit: int = 5
    crash_window_s: float = 600.0


class MarketSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Where the shared records are: the tape's folder, and the feed's ZeroMQ addresses; at `private` order desks ring."""

    tape: str
    doorbell: str
    frames: str
    private: str = ""


class ReplaySpec(msgspec.Struct, frozen=True, kw_only=True):
    """Recorded history. `speed` 0 is as fast as it goes; `from_ns` and `to_ns` 0 are the ends of the files."""

    folder: str
    speed: float
    from_ns: int
    to_ns: int


class ModelProviderSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Who makes predictions: the mock model, a pure function of bars and `seed`."""

    provider: str
    seed: int


class PaperSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker that runs flat out fills its own orders."""

    fills: FillSettings
    instrument: Instrument


class WorkerSpec(msgspec.Struct, frozen=True, kw_only=True, tag="worker"):
    """One worker. `strategy_type` names a class in the registry, or in the folder `code` of the client's own strategies.

    `from_start` begins at the tape's first record instead of now; `history` is set in historical mode, where the worker makes
    its records itself, and at most `parallel` of them run at a time, each holding a lock in the folder `slots`. With
    `checked_bars` it takes bars at once there, if its strategy can, and so many of the first of them one by one as well; with
    `spare_core` another process may count its fills.

    `fills` is the client's fill log, "" for a client without an OMS. `paper` is set instead where its orders go to no OMS
    because nobody waits for one; with neither a position is what the worker's own signals ask for. `is_observed` marks a worker
    of a client that is only observed, which has a generation of its own. `versions` are those that its generation names.
    """

    client: str
    strategy: str
    symbol: str
    strategy_type: str
    code: str
    params: dict[str, Any]
    timeframe: str
    models: tuple[ModelSpec, ...]
    extra_symbols: tuple[str, ...]
    venue: str
    account: str
    size: float
    protection: ProtectionSpec
    streams: tuple[str, ...]
    mode: str
    generation: str
    market: MarketSpec
    router_doorbell: str
    folder: str
    log: str
    log_level: str
    limits: LimitsSpec
    from_start: bool
    history: ReplaySpec | None
    slots: str
    parallel: int
    predictor: ModelProviderSpec
    fills: str = ""
    paper: PaperSpec | None = None
    checked_bars: int | None = None
    is_observed: bool = False
    spare_core: bool = False
    versions: dict[str, str] = {}

    @property
    def key(self) -> WorkerKey:
        return WorkerKey(self.client, self.strategy, self.symbol)

    @property
    def heard(self) -> tuple[str, ...]:
        """The streams it is woken for: those it reads of the market, and what its own orders become."""
        return (*self.streams, private(self.key).name) if self.fills else self.streams


class QuantConnectSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Where the CSV files and the reader go. Keys stay references until an upload needs them."""

    folder: str
    project_id: dict[str, str] | None = None
    api_key: dict[str, str] | None = None


class FreshnessSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How old a worker's signals may be, and for how long the feed and its symbol may be silent when it enters a position.

    None is no limit; silence of the symbol counts while the asset class trades (model/session.py).
    """

    time_to_live_s: float
    feed_stale_after_s: float | None
    symbol_stale_after_s: float | None
    asset_class: str


class OmsSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Where a client's orders go: the `kind` of the OMS and where it answers, the account of each symbol, the client's fill log
    (`fills`), and the feed's bell that is rung when it has grown (`doorbell`; "" without a feed). `token` is a reference.
    Events come over `nats` if it names a server."""

    kind: str
    endpoint: str
    accounts: dict[str, str]
    fills: str
    doorbell: str = ""
    token: SecretReference | None = None
    tls: TlsConfig = TlsConfig()
    nats: NatsConfig = NatsConfig()


class SizingSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How large a strategy's entries are: `size` is what its workers fill in where it names none."""

    size: float
    sizing: SizingConfig = SizingConfig()


class RouterSpec(msgspec.Struct, frozen=True, kw_only=True, tag="router"):
    """One client's router: the workers (by folder name) whose signal logs it tails, and the sinks it feeds.

    `ordered` releases signals in the order of the tape, waiting for the slowest worker: recorded history gives one order of
    decisions. At the market's pace nobody waits for anybody. `bulk` waits until all workers have ended, and then ends too.
    `freshness` is by worker; where records come as fast as they go nothing can be late, and it is empty.

    `oms` is None without a route to one, and what follows it without use then: the limits, `sizing` by strategy, `instruments`
    by symbol, and `rates`, what one unit of a currency is worth in the client's. `on_restart` says by strategy what becomes of a
    position that is there when trading comes back. `is_observed` marks decisions that go to no route, not even later.
    """

    client: str
    mode: str
    workers: tuple[str, ...]
    freshness: dict[str, FreshnessSpec]
    ordered: bool
    bulk: bool
    routes: tuple[str, ...]
    market: MarketSpec
    doorbell: str
    sql: str
    folder: str
    workers_folder: str
    duckdb: str
    quantconnect: QuantConnectSpec
    log: str
    log_level: str
    oms: OmsSpec | None = None
    risk: RiskConfig = RiskConfig()
    sizing: dict[str, SizingSpec] = {}
    instruments: dict[str, Instrument] = {}
    rates: dict[str, Decimal] = {}
    on_restart: dict[str, str] = {}
    is_observed: bool = False


class MockSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The seeded generator. `speed` 0 is as fast as it goes; `start_ns` 0 is now; `records` 0 is without end."""

    seed: int
    speed: float
    start_ns: int
    records: int
    trades_per_s: float
    quotes_per_s: float
    prices: tuple[tuple[str, float], ...]


class TapeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How the tape is kept. `reserve_mb` are held back beside one segment."""

    segment_records: int
    durable_interval_ms: float
    reserve_mb: float
    retention_hours: float
    retention_gb: float


class PrivateSource(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A client's fill log, whose entries get a record each."""

    client: str
    path: str


class FeedSpec(msgspec.Struct, frozen=True, kw_only=True, tag="feed"):
    """The feed: every stream somebody needs, and the one source they come from (at most one of mock and replay).

    `readers` are globs of the status files of workers, and of the paper OMS, whose place on the tape retention must respect.
    `private` are the fill logs of the clients with an OMS.
    """

    mode: str
    streams: tuple[str, ...]
    mock: MockSpec | None
    replay: ReplaySpec | None
    models: ModelProviderSpec
    tape: TapeSpec
    market: MarketSpec
    beat_interval_s: float
    readers: tuple[str, ...]
    folder: str
    log: str
    log_level: str
    private: tuple[PrivateSource, ...] = ()


class WatchdogSpec(msgspec.Struct, frozen=True, kw_only=True, tag="watchdog"):
    """The watchdog. What it watches stands in the folder `specs`, so that one more worker does not change its own spec.

    `trading_hours` is the asset class by symbol; `home` is the root of all.
    """

    home: str
    specs: str
    look_interval_s: float
    hang_s: float
    start_s: float
    log_limit_mb: float
    feed_stale_s: float
    symbol_stale_s: float
    trading_hours: dict[str, str]
    folder: str
    log: str
    log_level: str

    @property
    def mode(self) -> str:
        """It has none: it watches the processes of all modes."""
        return ""


class PaperOmsSpec(msgspec.Struct, frozen=True, kw_only=True, tag="paper_oms"):
    """The paper OMS: where each client asks it (`endpoints`, one socket by client), what it trades, how it fills, and the cash
    with which accounts begin (`opening`, by client, account and currency).

    `fills_by_symbol` (by client and symbol) holds where `fills` does not.
    """

    mode: str
    endpoints: dict[str, str]
    instruments: dict[str, Instrument]
    fills: FillSettings
    fills_by_symbol: dict[str, dict[str, FillSettings]]
    opening: dict[str, dict[str, dict[str, Decimal]]]
    market: MarketSpec
    folder: str
    log: str
    log_level: str


Spec = WorkerSpec | RouterSpec | FeedSpec | WatchdogSpec | PaperOmsSpec


def write_spec(path: Path, spec: Spec) -> None:
    """Whole or not at all, also over a power cut. Waits for the disk. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path):
        replace_file(path, msgspec.json.format(msgspec.json.encode(spec, order="sorted")), synced="content")


def read_spec(path: Path) -> Spec:
    """Raises ConfigurationError naming the file if it is missing, unreadable or not a spec."""
    try:
        spec: Spec = msgspec.json.decode(read_whole(path), type=Spec)
        return spec
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: expected a process specification, found no file") from None
    except OSError as error:
        reason = reason_of(error)
        raise ConfigurationError(f"{path}: expected a process specification, found: {reason}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: expected a process specification, found: {error}") from error


def read_specs(folder: Path) -> tuple[dict[str, Spec], dict[str, str]]:
    """What processes are told, by their names, and of each whose file is damaged why: that is its own trouble, and no other's.

    `folder` is HOME/var/daemon/specs. As damaged counts what came with a copy of another home: it would write there.
    """
    specs: dict[str, Spec] = {}
    damaged: dict[str, str] = {}
    below = f"{folder.parents[1]}/"
    for path in paths_below(folder, "*/*.json"):
        name = f"{path.parent.name}:{path.stem}"
        try:
            spec = read_spec(path)
        except ConfigurationError as error:
            if path.exists():  # else it went meanwhile
                damaged[name] = str(error)
            continue
        if spec.folder.startswith(below):
            specs[name] = spec
        else:  # the same words for each, so that they are said once
            origin = spec.folder.rpartition("/var/")[0]
            damaged[name] = (
                f"{folder}: expected specifications of this home, found those of {origin}, from which it was copied or moved; "
                "`strategy-runner up` writes them anew"
            )
    return specs, damaged
