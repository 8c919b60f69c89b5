"""What an environment file and a client file may say: every key, its type, its range and its built-in default.

The Structs are the contract; `decode.py` reads a file against them and explains every fault. Fractions are of 1, prices in
the instrument's quote currency. A field that is None was not given.
"""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from strategy_runner.config.secret import SecretReference
from strategy_runner.config.times import time_ns
from strategy_runner.model.instrument import AssetClass
from strategy_runner.model.names import MODEL_PATTERN, STRATEGY_PATTERN, SYMBOL_PATTERN
from strategy_runner.model.timeframe import PATTERN as TIMEFRAME_PATTERN

EnvironmentKind = Literal["local-dev", "integration", "cloud"]
Mode = Literal["mock", "live", "simulation", "historical"]
Route = Literal["oms", "quantconnect", "bigquery"]
LogLevel = Literal["debug", "info", "warning", "error"]

Symbol = Annotated[str, Meta(pattern=SYMBOL_PATTERN, description="a symbol such as BTC-USD")]
StrategyName = Annotated[
    str, Meta(pattern=STRATEGY_PATTERN, description="a name of at most 48 letters, digits, _ and -")
]
ModelName = Annotated[str, Meta(pattern=MODEL_PATTERN, description="a name of at most 48 letters, digits, _ and -")]
Timeframe = Annotated[str, Meta(pattern=TIMEFRAME_PATTERN, description="a timeframe such as 1s, 5m, 1h or 1d")]
# an account or venue is written into file names and orders, so it is one plain word
Word = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="a word of at most 64 letters, digits, . _ -")
]
BigQueryProject = Annotated[
    str, Meta(pattern=r"^([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$", description="a Google Cloud project id")
]
BigQueryDataset = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_]{1,1024}$", description="a dataset name of letters, digits and _")
]
# a password in a URL would be shown by everything that shows the URL; one written here by mistake is not repeated
RedisUrl = Annotated[
    str,
    Meta(
        pattern=r"^rediss?://[^@\s]+$",
        description="a URL like redis://HOST:PORT/0 without user or password",
        extra={"hidden": True},
    ),
]
Address = Annotated[
    str, Meta(pattern=r"^[^\s/@]+:[^\s@]+$", description="an address such as HOST:PORT", extra={"hidden": True})
]
NatsUrl = Annotated[
    str,
    Meta(
        pattern=r"^(nats|tls)://[^@\s/]+$",
        description="a URL like tls://HOST:PORT without user or password",
        extra={"hidden": True},
    ),
]
Currency = Annotated[str, Meta(pattern=r"^[A-Z][A-Z0-9]{2,7}$", description="a currency such as USD or USDT")]
TimeOfDay = Annotated[
    str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", description='a time of day in quotes such as "17:00"')
]
TimeZone = Annotated[
    str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_+/-]{0,63}$", description='a time zone such as "UTC" or "America/New_York"')
]
Moment = Annotated[
    str, Meta(min_length=1, max_length=64, description='"now" or a time in quotes such as "2026-01-05T00:00:00Z"')
]
Text = Annotated[str, Meta(min_length=1, max_length=4096)]

Fraction = Annotated[float, Meta(gt=0, le=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
# the paper OMS counts for all clients with so many digits and no more: one number beyond them would end it
Cash = Annotated[float, Meta(gt=0, le=10**15)]
Cost = Annotated[float, Meta(ge=0, le=10**15)]
SlippageBps = Annotated[float, Meta(ge=0, le=10_000)]
Impact = Annotated[float, Meta(ge=0, le=100)]
Multiplier = Annotated[float, Meta(gt=0, le=10**9)]
Count = Annotated[int, Meta(ge=1, le=100_000)]
OrderRate = Annotated[float, Meta(gt=0, le=100_000)]
Seconds = Annotated[float, Meta(gt=0, le=604_800)]
Latency = Annotated[float, Meta(ge=0, le=60_000)]
Ticks = Annotated[int, Meta(ge=0, le=10_000)]
Queue = Literal["touch", "through", "behind"]
Seed = Annotated[int, Meta(ge=0, le=2**32 - 1)]
MemoryMb = Annotated[int, Meta(ge=16, le=1_048_576)]
Cores = Annotated[float, Meta(gt=0, le=1024)]
# no more ends than a worker keeps in mind (worker/parking.py)
CrashLimit = Annotated[int, Meta(ge=1, le=999)]
CrashWindow = Annotated[float, Meta(gt=0, le=86_400)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a file. `aliases` are other words a key may be written with; `gone` are keys that older versions took."""

    aliases: ClassVar[dict[str, str]] = {}
    gone: ClassVar[frozenset[str]] = frozenset()


# -- sections of both files --------------------------------------------------------------------------------------------


class LimitsConfig(Section, frozen=True, kw_only=True):
    """What one process may use; `cpu_limit` in cores. A worker that ends uncleanly more than `crash_limit` times within
    `crash_window_s` is parked."""

    memory_limit_mb: MemoryMb = 512
    cpu_limit: Cores = 1.0
    crash_limit: CrashLimit = 5
    crash_window_s: CrashWindow = 600.0


class StorageConfig(Section, frozen=True, kw_only=True):
    """Where signals are analysed. DuckDB needs nothing; BigQuery needs a project and a dataset."""

    kind: Literal["duckdb", "bigquery"] = "duckdb"
    project: BigQueryProject | None = None
    dataset: BigQueryDataset | None = None


class MessagingConfig(Section, frozen=True, kw_only=True):
    """How records come into the host and signals leave it. Inside the host it is always tape and ZeroMQ."""

    gone: ClassVar[frozenset[str]] = frozenset({"queue_size"})

    kind: Literal["local", "redis", "pubsub"] = "local"
    url: RedisUrl | None = None
    password: SecretReference | None = None
    project: BigQueryProject | None = None


class TlsConfig(Section, frozen=True, kw_only=True):
    """All PEM. `root` is whom to trust, without it the authorities of this host; `certificate` and `key` say who asks."""

    root: SecretReference | None = None
    certificate: SecretReference | None = None
    key: SecretReference | None = None

    @property
    def is_given(self) -> bool:
        return self != TlsConfig()


class NatsConfig(Section, frozen=True, kw_only=True):
    """Where an OMS over gRPC tells its events and positions, if it does so over NATS JetStream. At most one way to say who asks:
    user and password, a token, or the text of a credentials file."""

    server: NatsUrl | None = None
    user: Word | None = None
    password: SecretReference | None = None
    token: SecretReference | None = None
    credentials: SecretReference | None = None
    tls: TlsConfig = TlsConfig()


class OmsConfig(Section, frozen=True, kw_only=True):
    """Who takes the orders of the route `oms`: the paper OMS of this host, or one over gRPC at `address`."""

    kind: Literal["paper", "grpc"] = "paper"
    address: Address | None = None
    token: SecretReference | None = None
    tls: TlsConfig = TlsConfig()
    nats: NatsConfig = NatsConfig()


class FeesConfig(Section, frozen=True, kw_only=True):
    """`maker` and `taker` are fractions of what is traded (a maker's may be negative: a rebate), `per_share` is money per unit
    of quantity, `minimum` per order; money in the instrument's currency."""

    maker: Annotated[float, Meta(gt=-1, lt=1)] = 0.0
    taker: Share = 0.0
    per_share: Cost = 0.0
    minimum: Cost = 0.0


class PaperSymbolConfig(Section, frozen=True, kw_only=True):
    """What is different for one symbol; see PaperConfig. What is None is as everywhere; `fees` are all four or none."""

    latency_ms: Latency | None = None
    slippage_ticks: Ticks | None = None
    slippage_bps: SlippageBps | None = None
    assumed_spread: Share | None = None
    impact: Impact | None = None
    participation: Fraction | None = None
    queue: Queue | None = None
    queue_size: NotNegative | None = None
    fees: FeesConfig | None = None


class PaperConfig(Section, frozen=True, kw_only=True):
    """How the paper market fills, and what it costs; model/fill_settings.py says what each number does. `cash` is what accounts
    begin with, by account and currency."""

    latency_ms: Latency = 0.0
    slippage_ticks: Ticks = 0
    slippage_bps: SlippageBps = 0.0
    assumed_spread: Share = 0.0
    impact: Impact = 0.0
    participation: Fraction | None = None
    queue: Queue = "through"
    queue_size: NotNegative = 0.0
    fees: FeesConfig = FeesConfig()
    cash: dict[Word, dict[Currency, Cash]] = {}
    symbols: dict[Symbol, PaperSymbolConfig] = {}


# -- the environment file ----------------------------------------------------------------------------------------------


class TapeConfig(Section, frozen=True, kw_only=True):
    """`retention_hours` and `retention_gb`: whichever is reached first lets the oldest segments go. `reserve_mb`, and one
    segment, are space held back: without it the feed takes no records."""

    segment_records: Annotated[int, Meta(ge=1_024, le=50_000_000)] = 1_048_576
    durable_interval_ms: Annotated[float, Meta(gt=0, le=10_000)] = 2.0
    reserve_mb: Annotated[float, Meta(ge=1, le=100_000)] = 64.0
    retention_hours: Positive = 168.0
    retention_gb: Positive = 20.0


class FeedConfig(Section, frozen=True, kw_only=True):
    """A lost last doorbell is noticed within one beat. While the feed or a symbol is silent for longer than these, routers let
    no entry through; for a symbol of which only bars are read it takes at least two of them."""

    beat_interval_s: Annotated[float, Meta(gt=0, le=60)] = 1.0
    stale_after_s: Seconds = 5.0
    symbol_stale_after_s: Seconds = 60.0


class WatchdogConfig(Section, frozen=True, kw_only=True):
    """When the watchdog acts: `hang_s` without progress ends a process, `start_s` one that begins."""

    look_interval_s: Annotated[float, Meta(gt=0, le=10)] = 0.5
    hang_s: Annotated[float, Meta(ge=0.5, le=3600)] = 5.0
    start_s: Annotated[float, Meta(ge=1, le=86_400)] = 120.0
    log_limit_mb: Annotated[float, Meta(ge=0.1, le=100_000)] = 64.0


class MockConfig(Section, frozen=True, kw_only=True):
    """The seeded market. `speed` is x real time, 0 as fast as it goes; `records` 0 is without end; rates are per symbol."""

    seed: Seed = 1
    speed: NotNegative = 1.0
    start: Moment = "now"
    records: Annotated[int, Meta(ge=0, le=10**15)] = 0
    trades_per_s: Annotated[float, Meta(ge=0, le=1_000_000)] = 1.0
    quotes_per_s: Annotated[float, Meta(ge=0, le=1_000_000)] = 1.0

    @property
    def start_ns(self) -> int:
        """Nanoseconds UTC of the first record; 0 means now."""
        return 0 if self.start == "now" else time_ns(self.start)


class HistoryConfig(Section, frozen=True, kw_only=True):
    """Recorded history for simulation and historical mode; a relative folder lies below the home."""

    folder: Text | None = None


class ModelProviderConfig(Section, frozen=True, kw_only=True):
    """Who makes predictions."""

    provider: Literal["mock"] = "mock"
    seed: Seed = 1


class LiveConfig(Section, frozen=True, kw_only=True):
    """Where live records come from."""

    source: StrategyName | None = None


class InstrumentConfig(Section, frozen=True, kw_only=True):
    """One symbol. `price` is where the mock market starts; `currency`, where not given, is the second half of a pair (BTC-USD,
    EURUSD) and else USD; `calendar` names the asset class whose trading hours hold instead of its own."""

    gone: ClassVar[frozenset[str]] = frozenset({"venue"})

    price: Positive
    tick_size: Positive
    lot_size: Positive
    asset_class: AssetClass
    currency: Currency | None = None
    multiplier: Multiplier = 1.0
    margin_fraction: Fraction = 1.0
    calendar: AssetClass | None = None


class EnvironmentConfig(Section, frozen=True, kw_only=True):
    """configs/NAME.toml: what all clients of a host share, and the defaults they inherit."""

    environment: EnvironmentKind
    mode: Mode = "mock"
    routes: tuple[Route, ...] = ()
    log_level: LogLevel = "info"
    storage: StorageConfig = StorageConfig()
    messaging: MessagingConfig = MessagingConfig()
    limits: LimitsConfig = LimitsConfig()
    tape: TapeConfig = TapeConfig()
    feed: FeedConfig = FeedConfig()
    watchdog: WatchdogConfig = WatchdogConfig()
    mock: MockConfig = MockConfig()
    history: HistoryConfig = HistoryConfig()
    models: ModelProviderConfig = ModelProviderConfig()
    live: LiveConfig = LiveConfig()
    oms: OmsConfig = OmsConfig()
    paper: PaperConfig = PaperConfig()
    instruments: dict[Symbol, InstrumentConfig] = {}


# -- the client file ---------------------------------------------------------------------------------------------------


class AccountConfig(Section, frozen=True, kw_only=True):
    """Where a symbol is traded, and on which of the client's accounts."""

    venue: Word
    account: Word


class RiskConfig(Section, frozen=True, kw_only=True):
    """A client's limits, checked by its router. Money is in `currency`. What is None is no limit; live mode wants all of them.

    `rates` say what one unit of each other currency is worth in it.

    `max_position_size` is by symbol, in its units. `shares` are the part of `max_position_notional` and `max_daily_loss` that
    a strategy may use, the whole where it is not named. `priorities` are strategy ids, the first counts most.
    """

    currency: Currency = "USD"
    rates: dict[Currency, Positive] = {}
    starting_cash: Cash = 100_000.0
    max_position_notional: Positive | None = None
    max_position_size: dict[Symbol, Positive] = {}
    max_order_value: Positive | None = None
    max_daily_loss: Positive | None = None
    max_drawdown: Fraction | None = None
    max_losing_trades: Count | None = None
    max_orders_per_second: OrderRate | None = None
    max_orders_per_minute: OrderRate | None = None
    max_open_orders: Count | None = None
    price_collar: Fraction | None = None
    duplicate_window_s: Seconds | None = None
    runaway_signals: Count | None = None
    runaway_window_s: Seconds | None = None
    max_rejects: Count | None = None
    rejects_window_s: Seconds | None = None
    cooldown_s: Seconds | None = None
    allow_symbols: tuple[Symbol, ...] = ()
    deny_symbols: tuple[Symbol, ...] = ()
    shares: dict[StrategyName, Fraction] = {}
    aggregation: Literal["all", "priority", "net", "vote", "confidence"] = "all"
    priorities: tuple[StrategyName, ...] = ()
    day_starts: TimeOfDay = "00:00"
    timezone: TimeZone = "UTC"


class QuantConnectConfig(Section, frozen=True, kw_only=True):
    """Keys of the client's QuantConnect project, needed only for an upload."""

    project_id: SecretReference | None = None
    api_key: SecretReference | None = None


class ModelConfig(Section, frozen=True, kw_only=True):
    """A model a strategy listens to. `lookback_window` counts predictions, weights are relative to each other."""

    aliases: ClassVar[dict[str, str]] = {"model_id": "id"}

    id: ModelName
    confidence_threshold: Share = 0.0
    lookback_window: Annotated[int, Meta(ge=1, le=100_000)] = 1
    weight: Positive = 1.0


class StrategyLimitsConfig(Section, frozen=True, kw_only=True):
    """What a strategy's workers may use instead of the client's limits."""

    memory_limit_mb: MemoryMb | None = None
    cpu_limit: Cores | None = None
    crash_limit: CrashLimit | None = None
    crash_window_s: CrashWindow | None = None


class SizingConfig(Section, frozen=True, kw_only=True):
    """How large an entry is that names no size; the formulas stand in risk/sizing.py. `fixed` takes the strategy's `size`.

    `fraction` is of equity: what is bought (equity_fraction), what is lost at the stop (fixed_risk), or the part of the full
    Kelly bet that is taken (kelly). `max_fraction` caps what is bought, as a multiple of equity.
    """

    kind: Literal["fixed", "equity_fraction", "volatility_target", "fixed_risk", "kelly"] = "fixed"
    fraction: Fraction | None = None
    max_fraction: Annotated[float, Meta(gt=0, le=100)] | None = None
    target_volatility: Annotated[float, Meta(gt=0, le=10)] | None = None
    win_rate: Annotated[float, Meta(gt=0, lt=1)] | None = None
    payoff: Positive | None = None


class StrategyConfig(Section, frozen=True, kw_only=True):
    """A strategy and its symbols, each of which becomes one worker. `strategy` names a class of the registry.

    A signal whose record the feed received more than `time_to_live_s` ago is recorded and not traded; live mode wants it given,
    and `on_restart`: what becomes of a position that is there when the router or the worker comes back after it was down.
    """

    id: StrategyName
    strategy: StrategyName
    symbols: Annotated[tuple[Symbol, ...], Meta(min_length=1)]
    timeframe: Timeframe
    models: tuple[ModelConfig, ...] = ()
    params: dict[str, Any] = {}
    size: Positive = 1.0
    sizing: SizingConfig = SizingConfig()
    stop_loss_fraction: Annotated[float, Meta(gt=0, lt=1)] | None = None
    take_profit_fraction: Positive | None = None
    extra_symbols: tuple[Symbol, ...] = ()
    time_to_live_s: Seconds = 60.0
    on_restart: Literal["resume", "hold", "flatten", "ask"] = "resume"
    log_level: LogLevel | None = None
    limits: StrategyLimitsConfig = StrategyLimitsConfig()


class ClientConfig(Section, frozen=True, kw_only=True):
    """clients/X/client.toml, with everything it inherits from its environment filled in. In the posture `observation` its
    strategies run and are recorded, and nothing is routed."""

    mode: Mode
    posture: Literal["trading", "observation"] = "trading"
    routes: tuple[Route, ...] = ()
    log_level: LogLevel
    limits: LimitsConfig
    storage: StorageConfig
    messaging: MessagingConfig
    oms: OmsConfig
    paper: PaperConfig
    accounts: dict[Symbol, AccountConfig] = {}
    risk: RiskConfig = RiskConfig()
    quantconnect: QuantConnectConfig = QuantConnectConfig()
    strategies: tuple[StrategyConfig, ...] = ()

    def limits_of(self, strategy: StrategyConfig) -> LimitsConfig:
        """The strategy's own limits where it has them, else the client's."""
        own = strategy.limits
        return LimitsConfig(
            memory_limit_mb=self.limits.memory_limit_mb if own.memory_limit_mb is None else own.memory_limit_mb,
            cpu_limit=self.limits.cpu_limit if own.cpu_limit is None else own.cpu_limit,
            crash_limit=self.limits.crash_limit if own.crash_limit is None else own.crash_limit,
            crash_window_s=self.limits.crash_window_s if own.crash_window_s is None else own.crash_window_s,
        )

    def log_level_of(self, strategy: StrategyConfig) -> LogLevel:
        return strategy.log_level or self.log_level
