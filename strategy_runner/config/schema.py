"""What an environment file and a client file may say: every key, its type, its range and its built-in default.

The Structs are the contract; `decode.py` reads a file against them and explains every fault. Fractions are of 1, prices in
the instrument's quote currency. A field that is None was not given.
"""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from strategy_runner.config.secret import SecretReference
from strategy_runner.config.times import time_ns
from strategy_runner.model.names import MODEL_PATTERN, STRATEGY_PATTERN, SYMBOL_PATTERN
from strategy_runner.model.timeframe import PATTERN as TIMEFRAME_PATTERN

EnvironmentKind = Literal["local-dev", "integration", "cloud"]
Mode = Literal["mock", "live", "simulation", "historical"]
Route = Literal["oms", "quantconnect", "bigquery"]
LogLevel = Literal["debug", "info", "warning", "error"]

Symbol = Annotated[str, Meta(pattern=SYMBOL_PATTERN, description="a symbol such as BTC-USD")]
StrategyName = Annotated[str, Meta(pattern=STRATEGY_PATTERN, description="a name of letters, digits, _ and -")]
ModelName = Annotated[str, Meta(pattern=MODEL_PATTERN, description="a name of letters, digits, _ and -")]
Timeframe = Annotated[str, Meta(pattern=TIMEFRAME_PATTERN, description="a timeframe such as 1s, 5m, 1h or 1d")]
# an account or venue is written into file names and orders, so it is one plain word
Word = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="a word of letters, digits, . _ -")
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
Moment = Annotated[
    str, Meta(min_length=1, max_length=64, description='"now" or a time in quotes such as "2026-01-05T00:00:00Z"')
]
Text = Annotated[str, Meta(min_length=1, max_length=4096)]

Fraction = Annotated[float, Meta(gt=0, le=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Seed = Annotated[int, Meta(ge=0, le=2**32 - 1)]
MemoryMb = Annotated[int, Meta(ge=16, le=1_048_576)]
Cores = Annotated[float, Meta(gt=0, le=1024)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a file. `aliases` are other words a key may be written with."""

    aliases: ClassVar[dict[str, str]] = {}


# -- sections of both files --------------------------------------------------------------------------------------------


class LimitsConfig(Section, frozen=True, kw_only=True):
    """What one process may use; `cpu_limit` in cores."""

    memory_limit_mb: MemoryMb = 512
    cpu_limit: Cores = 1.0


class StorageConfig(Section, frozen=True, kw_only=True):
    """Where signals are analysed. DuckDB needs nothing; BigQuery needs a project and a dataset."""

    kind: Literal["duckdb", "bigquery"] = "duckdb"
    project: BigQueryProject | None = None
    dataset: BigQueryDataset | None = None


class MessagingConfig(Section, frozen=True, kw_only=True):
    """How records come into the host and signals leave it. Inside the host it is always tape and ZeroMQ."""

    kind: Literal["local", "redis", "pubsub"] = "local"
    queue_size: Annotated[int, Meta(ge=1, le=10_000_000)] = 10_000
    url: RedisUrl | None = None
    password: SecretReference | None = None
    project: BigQueryProject | None = None


# -- the environment file ----------------------------------------------------------------------------------------------


class TapeConfig(Section, frozen=True, kw_only=True):
    """`retention_hours` and `retention_gb`: whichever is reached first lets the oldest segments go."""

    segment_records: Annotated[int, Meta(ge=1_024, le=50_000_000)] = 1_048_576
    durable_interval_ms: Annotated[float, Meta(gt=0, le=10_000)] = 5.0
    retention_hours: Positive = 168.0
    retention_gb: Positive = 20.0


class FeedConfig(Section, frozen=True, kw_only=True):
    """A lost last doorbell is noticed within one beat."""

    beat_interval_s: Annotated[float, Meta(gt=0, le=60)] = 1.0


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
    """One symbol. `price` is where the mock market starts."""

    price: Positive
    tick_size: Positive
    lot_size: Positive
    asset_class: Literal["crypto", "fx", "equity", "etf", "commodity", "index", "future", "option"]
    venue: Word | None = None


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
    mock: MockConfig = MockConfig()
    history: HistoryConfig = HistoryConfig()
    models: ModelProviderConfig = ModelProviderConfig()
    live: LiveConfig = LiveConfig()
    instruments: dict[Symbol, InstrumentConfig] = {}


# -- the client file ---------------------------------------------------------------------------------------------------


class AccountConfig(Section, frozen=True, kw_only=True):
    """Where a symbol is traded, and on which of the client's accounts."""

    venue: Word
    account: Word


class RiskConfig(Section, frozen=True, kw_only=True):
    """A client's limits, checked by its router. Notional and loss in the account's currency. Live mode wants all of them."""

    max_position_notional: Positive | None = None
    max_daily_loss: Positive | None = None
    max_drawdown: Fraction | None = None
    max_orders_per_second: Positive | None = None


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


class StrategyConfig(Section, frozen=True, kw_only=True):
    """A strategy and its symbols, each of which becomes one worker. `strategy` names a class of the registry."""

    id: StrategyName
    strategy: StrategyName
    symbols: Annotated[tuple[Symbol, ...], Meta(min_length=1)]
    timeframe: Timeframe
    models: tuple[ModelConfig, ...] = ()
    params: dict[str, Any] = {}
    size: Positive = 1.0
    stop_loss_fraction: Annotated[float, Meta(gt=0, lt=1)] | None = None
    take_profit_fraction: Positive | None = None
    extra_symbols: tuple[Symbol, ...] = ()
    log_level: LogLevel | None = None
    limits: StrategyLimitsConfig = StrategyLimitsConfig()


class ClientConfig(Section, frozen=True, kw_only=True):
    """clients/X/client.toml, with everything it inherits from its environment filled in."""

    mode: Mode
    routes: tuple[Route, ...] = ()
    log_level: LogLevel
    limits: LimitsConfig
    storage: StorageConfig
    messaging: MessagingConfig
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
        )

    def log_level_of(self, strategy: StrategyConfig) -> LogLevel:
        return strategy.log_level or self.log_level
