"""Broken files, each with the exact words it is answered with."""

import os
from pathlib import Path

import pytest

from strategy_runner.config.home import Home
from strategy_runner.config.load import load_client, load_environment
from strategy_runner.errors import ConfigurationError

ENVIRONMENT = """\
environment = "local-dev"
mode = "mock"
routes = ["quantconnect"]
log_level = "info"

[storage]
kind = "duckdb"

[messaging]
kind = "local"

[limits]
memory_limit_mb = 256
cpu_limit = 1.0

[mock]
seed = 7
speed = 60.0
start = "2026-01-05T00:00:00Z"
trades_per_s = 2.0
quotes_per_s = 1.0

[instruments.BTC-USD]
asset_class = "crypto"
price = 92_000.0
tick_size = 0.01
lot_size = 0.00001

[instruments.ETH-USD]
asset_class = "crypto"
price = 3_150.0
tick_size = 0.01
lot_size = 0.0001
"""

CLIENT = """\
mode = "mock"
routes = ["quantconnect"]

[accounts]
BTC-USD = { venue = "binance", account = "main" }
ETH-USD = { venue = "binance", account = "main" }

[risk]
max_drawdown = 0.1

[quantconnect]
api_key = { env = "QC_API_KEY" }

[[strategies]]
id = "high"
strategy = "swing_high"
symbols = ["BTC-USD", "ETH-USD"]
timeframe = "1m"
models = [{ id = "first", confidence_threshold = 0.8, lookback_window = 20, weight = 1.0 }]
params = { exit_after_bars = 10 }

[[strategies]]
id = "ride"
strategy = "momentum_rider"
symbols = ["BTC-USD"]
timeframe = "5m"
"""

LIMITS_NOT_GIVEN = (
    "starting_cash",
    "max_position_notional",
    "max_order_value",
    "max_daily_loss",
    "max_losing_trades",
    "max_orders_per_second",
    "max_orders_per_minute",
    "max_open_orders",
    "price_collar",
    "duplicate_window_s",
    "runaway_signals",
    "runaway_window_s",
    "max_rejects",
    "rejects_window_s",
    "cooldown_s",
    "max_position_size.BTC-USD",
    "max_position_size.ETH-USD",
)

# (what is replaced, by what, the problems without the file's name, in order)
BROKEN_ENVIRONMENTS: list[tuple[str, str, list[str]]] = [
    (
        'environment = "local-dev"\n',
        "",
        ['environment: expected one of "cloud", "integration", "local-dev", found nothing'],
    ),
    (
        'environment = "local-dev"',
        'environment = "cloud"',
        ['environment: expected "local-dev" as in the file\'s name, found "cloud"'],
    ),
    (
        'environment = "local-dev"',
        'environment = "local"',
        ['environment: expected one of "cloud", "integration", "local-dev", found "local"'],
    ),
    (
        'mode = "mock"',
        'mode = "mok"',
        ['mode: expected one of "historical", "live", "mock", "simulation", found "mok"; did you mean "mock"?'],
    ),
    ('mode = "mock"', "mode = 1", ['mode: expected one of "historical", "live", "mock", "simulation", found 1']),
    (
        'log_level = "info"',
        'log_level = "verbose"',
        ['log_level: expected one of "debug", "error", "info", "warning", found "verbose"'],
    ),
    (
        'log_level = "info"',
        'loglevel = "info"',
        ['loglevel: expected a known key, found "loglevel"; did you mean log_level?'],
    ),
    (
        'log_level = "info"',
        'log_level = "info"\nmemory_limit_mb = 12',
        ['memory_limit_mb: expected a known key, found "memory_limit_mb"; did you mean limits.memory_limit_mb?'],
    ),
    ('routes = ["quantconnect"]', 'routes = "quantconnect"', ['routes: expected a list, found "quantconnect"']),
    (
        'routes = ["quantconnect"]',
        'routes = ["quantconect"]',
        [
            'routes[0]: expected one of "bigquery", "oms", "quantconnect", found "quantconect"; did you mean '
            '"quantconnect"?'
        ],
    ),
    (
        'routes = ["quantconnect"]',
        'routes = ["quantconnect", "quantconnect"]',
        ['routes[1]: expected each route once, found "quantconnect" again'],
    ),
    (
        'kind = "duckdb"',
        'kind = "bigquery"',
        [
            'storage.project: expected a Google Cloud project id, since storage.kind is "bigquery", found nothing',
            'storage.dataset: expected the name of a dataset, since storage.kind is "bigquery", found nothing',
        ],
    ),
    (
        'kind = "duckdb"',
        'kind = "bigquery"\nproject = "X"\ndataset = "my-set"',
        [
            'storage.project: expected a Google Cloud project id, found "X"',
            'storage.dataset: expected a dataset name of letters, digits and _, found "my-set"',
        ],
    ),
    (  # more digits than the paper OMS of all clients counts with
        "lot_size = 0.0001\n",
        "lot_size = 0.0001\nmultiplier = 1e300\n",
        ["instruments.ETH-USD.multiplier: expected a number in (0, 1000000000], found 1e+300"],
    ),
    (
        'kind = "local"',
        'kind = "redis"',
        ['messaging.url: expected a URL like redis://HOST:PORT/0, since messaging.kind is "redis", found nothing'],
    ),
    (
        'kind = "local"',
        'kind = "pubsub"',
        ['messaging.project: expected a Google Cloud project id, since messaging.kind is "pubsub", found nothing'],
    ),
    (
        'kind = "local"',
        'kind = "local"\nqueue_size = 10_000',
        ['messaging.queue_size: expected a known key, found "queue_size"; it never had an effect: remove it'],
    ),
    (
        'kind = "local"',
        'kind = "redis"\nurl = "http://redis"',
        [
            "messaging.url: expected a URL like redis://HOST:PORT/0 without user or password, found something"
            " else (not shown)"
        ],
    ),
    (
        "memory_limit_mb = 256",
        "memory_limit_mb = 0",
        ["limits.memory_limit_mb: expected an integer in [16, 1048576], found 0"],
    ),
    (
        "memory_limit_mb = 256",
        "memory_limit_mb = 256.5",
        ["limits.memory_limit_mb: expected an integer in [16, 1048576], found 256.5"],
    ),
    (
        "memory_limit_mb = 256",
        'memory_limit_mb = "256"',
        ['limits.memory_limit_mb: expected an integer in [16, 1048576], found "256"'],
    ),
    (
        "memory_limit_mb = 256",
        "memory_limit_mb = true",
        ["limits.memory_limit_mb: expected an integer in [16, 1048576], found true"],
    ),
    ("cpu_limit = 1.0", "cpu_limit = inf", ["limits.cpu_limit: expected a finite number in (0, 1024], found inf"]),
    ("cpu_limit = 1.0", "cpu_limit = nan", ["limits.cpu_limit: expected a finite number in (0, 1024], found nan"]),
    ("seed = 7", "seed = -1", ["mock.seed: expected an integer in [0, 4294967295], found -1"]),
    (
        "seed = 7",
        "seed = 123456789012345678901234567890",
        ["mock.seed: expected an integer in [0, 4294967295], found an integer of more than 64 bits"],
    ),
    ("speed = 60.0", "speed = -inf", ["mock.speed: expected a finite number >= 0, found -inf"]),
    (
        'start = "2026-01-05T00:00:00Z"',
        'start = "yesterday"',
        ['mock.start: expected "now" or a time in quotes such as "2026-01-05T00:00:00Z", found "yesterday"'],
    ),
    (
        'start = "2026-01-05T00:00:00Z"',
        "start = 2026-01-05T00:00:00Z",
        [
            'mock.start: expected "now" or a time in quotes such as "2026-01-05T00:00:00Z", found '
            "2026-01-05T00:00:00+00:00"
        ],
    ),
    (
        'start = "2026-01-05T00:00:00Z"',
        'start = "2026-13-05T00:00:00Z"',
        ['mock.start: expected "now" or a time in quotes such as "2026-01-05T00:00:00Z", found "2026-13-05T00:00:00Z"'],
    ),
    (
        "trades_per_s = 2.0\nquotes_per_s = 1.0",
        "trades_per_s = 0\nquotes_per_s = 0",
        ["mock.trades_per_s: expected a number > 0 here or in mock.quotes_per_s, found 0 in both"],
    ),
    (
        "[mock]",
        "mock = 5\n[mocking]",
        [
            'limits.mock: expected a known key, found "mock"; did you mean mock?',
            'mocking: expected a known key, found "mocking"; did you mean mock?',
        ],
    ),
    (
        "[mock]",
        "[feed]\nbeat_interval_s = 2.5\n[mock]",
        ["feed.stale_after_s: expected more than two beats of feed.beat_interval_s, 2.5 each, found 5.0"],
    ),
    ("price = 3_150.0", "price = 0", ["instruments.ETH-USD.price: expected a number > 0, found 0"]),
    ("price = 3_150.0\n", "", ["instruments.ETH-USD.price: expected a number > 0, found nothing"]),
    (
        "[instruments.ETH-USD]",
        '[instruments."ETH/USD"]',
        ['instruments."ETH/USD": expected a symbol such as BTC-USD as key, found "ETH/USD"'],
    ),
    (
        '[instruments.ETH-USD]\nasset_class = "crypto"',
        '[instruments.ETH-USD]\nvenue = "binance"\nasset_class = "crypto"',
        ['instruments.ETH-USD.venue: expected a known key, found "venue"; it never had an effect: remove it'],
    ),
    (
        '[instruments.ETH-USD]\nasset_class = "crypto"',
        '[instruments.ETH-USD]\nasset_class = "coin"',
        [
            'instruments.ETH-USD.asset_class: expected one of "commodity", "crypto", "equity", "etf", '
            '"future", "fx", "index", "option", found "coin"'
        ],
    ),
    (
        "[mock]",
        "[strategies]\n[mock]",
        ['strategies: expected a known key, found "strategies"; strategies belongs into clients/CLIENT/client.toml'],
    ),
    (
        "[mock]",
        "[tape]\nsegment_records = 10\ndurable_interval_ms = 0\n[feed]\nbeat_interval_s = 61\n[mock]",
        [
            "tape.segment_records: expected an integer in [1024, 50000000], found 10",
            "tape.durable_interval_ms: expected a number in (0, 10000], found 0",
            "feed.beat_interval_s: expected a number in (0, 60], found 61",
        ],
    ),
    (
        "[mock]",
        '[models]\nprovider = "oracle"\n[history]\nfolder = ""\n[mock]',
        [
            'models.provider: expected "mock", found "oracle"',
            'history.folder: expected a text that is not empty, found ""',
        ],
    ),
    ("[mock]", "[mock", ["line 16, column 6: expected TOML, found: expected ']' at the end of a table declaration"]),
    ("seed = 7", "seed = 7\nseed = 8", ["line 18, column 9: expected TOML, found: cannot overwrite a value"]),
]

BROKEN_CLIENTS: list[tuple[str, str, list[str]]] = [
    (
        'mode = "mock"',
        'mode = "liv"',
        ['mode: expected one of "historical", "live", "mock", "simulation", found "liv"; did you mean "live"?'],
    ),
    ('mode = "mock"', 'moode = "mock"', ['moode: expected a known key, found "moode"; did you mean mode?']),
    (
        'mode = "mock"',
        'mode = "live"',
        [
            *(f"risk.{limit}: expected a limit, since mode is live, found nothing" for limit in LIMITS_NOT_GIVEN),
            "strategies[0].time_to_live_s (high): expected a limit, since mode is live, found nothing",
            'strategies[0].on_restart (high): expected "resume", "hold", "flatten" or "ask", since mode is live, found nothing',
            "strategies[1].time_to_live_s (ride): expected a limit, since mode is live, found nothing",
            'strategies[1].on_restart (ride): expected "resume", "hold", "flatten" or "ask", since mode is live, found nothing',
        ],
    ),
    (
        'mode = "mock"',
        "max_drawdown = 0.1",
        ['max_drawdown: expected a known key, found "max_drawdown"; did you mean risk.max_drawdown?'],
    ),
    (
        'mode = "mock"',
        "[instruments.BTC-USD]\nprice = 1",
        ['instruments: expected a known key, found "instruments"; instruments belongs into configs/local-dev.toml'],
    ),
    (
        'mode = "mock"',
        "zzz = 1",
        [
            'zzz: expected a known key, found "zzz"; known here: mode, posture, routes, log_level, limits, storage, '
            "messaging, oms, paper, accounts, risk, quantconnect, strategies"
        ],
    ),
    ("max_drawdown = 0.1", "max_drawdown = 10", ["risk.max_drawdown: expected a number in (0, 1], found 10"]),
    ("max_drawdown = 0.1", "max_drawdown = 0", ["risk.max_drawdown: expected a number in (0, 1], found 0"]),
    ("max_drawdown = 0.1", "max_daily_loss = -2_000.0", ["risk.max_daily_loss: expected a number > 0, found -2000.0"]),
    (
        "max_drawdown = 0.1",
        "max_position_notional = inf",
        ["risk.max_position_notional: expected a finite number > 0, found inf"],
    ),
    (
        "max_drawdown = 0.1",
        'max_position_notional = "50k"',
        ['risk.max_position_notional: expected a number > 0, found "50k"'],
    ),
    (
        "[risk]\nmax_drawdown = 0.1",
        "risk = { }\n[[risks]]\nmax_drawdown = 0.1",
        [
            "accounts.risk.venue: expected a word of at most 64 letters, digits, . _ -, found nothing",
            "accounts.risk.account: expected a word of at most 64 letters, digits, . _ -, found nothing",
            'risks: expected a known key, found "risks"; did you mean risk?',
        ],
    ),
    (
        "max_drawdown = 0.1",
        "runaway_signals = 5\nrejects_window_s = 1",
        [
            "risk.runaway_window_s: expected a value, since risk.runaway_signals is given, found nothing",
            "risk.max_rejects: expected a value, since risk.rejects_window_s is given, found nothing",
        ],
    ),
    (
        "max_drawdown = 0.1",
        "max_rejects = 5",
        [
            "risk.rejects_window_s: expected a value, since risk.max_rejects is given, found nothing",
            "risk.cooldown_s: expected a value, since risk.max_rejects is given, found nothing",
        ],
    ),
    (
        "max_drawdown = 0.1",
        "shares = { hgih = 0.5, ride = 1.5 }\nmax_position_size = { BTCUSD = 1 }",
        [
            "risk.shares.ride: expected a number in (0, 1], found 1.5",
            'risk.shares.hgih: expected the id of a strategy, found "hgih"; did you mean "high"?',
            'risk.max_position_size.BTCUSD: expected a symbol that a strategy trades, found "BTCUSD"; '
            'did you mean "BTC-USD"?',
        ],
    ),
    (
        "max_drawdown = 0.1",
        'aggregation = "priority"',
        [
            "risk.priorities: expected ids of strategies, the first of which counts most, since risk.aggregation is "
            '"priority", found nothing'
        ],
    ),
    (
        "max_drawdown = 0.1",
        'aggregation = "loudest"\npriorities = ["ride", "ride", "hi"]',
        [
            'risk.aggregation: expected one of "all", "confidence", "net", "priority", "vote", found "loudest"',
            'risk.priorities[2]: expected the id of a strategy, found "hi"',
            'risk.priorities[1]: expected each strategy once, found "ride" again',
        ],
    ),
    (
        "max_drawdown = 0.1",
        'allow_symbols = ["BTC-USD"]\ndeny_symbols = ["BTC-USD"]',
        ['risk.deny_symbols[0]: expected a symbol that risk.allow_symbols does not allow, found "BTC-USD"'],
    ),
    (
        "max_drawdown = 0.1",
        'timezone = "Mars/Olympus"\nday_starts = "24:00"\ncurrency = "dollar"',
        [
            'risk.day_starts: expected a time of day in quotes such as "17:00", found "24:00"',
            'risk.currency: expected a currency such as USD or USDT, found "dollar"',
            'risk.timezone: expected a time zone such as "America/New_York", found "Mars/Olympus"',
        ],
    ),
    (
        'timeframe = "5m"',
        'timeframe = "5m"\nsizing = { kind = "kelly", fraction = 0.5, win_rate = 0.6 }',
        [
            "strategies[1].sizing.max_fraction (ride): expected a number, since strategies[1].sizing.kind is "
            '"kelly", found nothing',
            "strategies[1].sizing.payoff (ride): expected a number, since strategies[1].sizing.kind is "
            '"kelly", found nothing',
        ],
    ),
    (
        'timeframe = "5m"',
        'timeframe = "5m"\nsizing = { fraction = 0.5 }',
        [
            "strategies[1].sizing.fraction (ride): expected nothing, since strategies[1].sizing.kind is "
            '"fixed", found 0.5'
        ],
    ),
    (
        'ETH-USD = { venue = "binance", account = "main" }\n',
        "",
        ["accounts.ETH-USD: expected { venue, account } for a symbol of high, found nothing"],
    ),
    (
        'ETH-USD = { venue = "binance", account = "main" }',
        'ETHUSD = { venue = "binance", account = "main" }',
        [
            "accounts.ETH-USD: expected { venue, account } for a symbol of high, found nothing; accounts has "
            "ETHUSD, which no strategy trades"
        ],
    ),
    (
        'ETH-USD = { venue = "binance", account = "main" }',
        'ETH-USD = "main"',
        ['accounts.ETH-USD: expected a table with venue, account, found "main"'],
    ),
    (
        'ETH-USD = { venue = "binance", account = "main" }',
        'ETH-USD = { venue = "binance" }',
        ["accounts.ETH-USD.account: expected a word of at most 64 letters, digits, . _ -, found nothing"],
    ),
    (
        'ETH-USD = { venue = "binance", account = "main" }',
        'ETH-USD = { venue = "binance", account = "main acc" }',
        ['accounts.ETH-USD.account: expected a word of at most 64 letters, digits, . _ -, found "main acc"'],
    ),
    (
        'api_key = { env = "QC_API_KEY" }',
        'api_key = "abc"',
        [
            'quantconnect.api_key: expected a reference, { env = "NAME" }, { file = "PATH" } or { credential '
            '= "NAME" }, found a literal string (not shown); a secret never stands in a configuration'
        ],
    ),
    (
        'api_key = { env = "QC_API_KEY" }',
        "api_key = 5",
        [
            'quantconnect.api_key: expected a reference, { env = "NAME" }, { file = "PATH" } or { credential '
            '= "NAME" }, found another value (not shown); a secret never stands in a configuration'
        ],
    ),
    (
        'api_key = { env = "QC_API_KEY" }',
        "api_key = { }",
        [
            "quantconnect.api_key: expected a reference with exactly one of file, env and credential, found "
            "an empty table"
        ],
    ),
    (
        'api_key = { env = "QC_API_KEY" }',
        'api_key = { env = "A", file = "/b" }',
        ["quantconnect.api_key: expected a reference with exactly one of file, env and credential, found env, file"],
    ),
    (
        'api_key = { env = "QC_API_KEY" }',
        'api_key = { vault = "A" }',
        ["quantconnect.api_key: expected a reference with exactly one of file, env and credential, found vault"],
    ),
    (
        'api_key = { env = "QC_API_KEY" }',
        'api_key = { env = "not a name" }',
        ["quantconnect.api_key: expected the name of a variable after env =, found something else (not shown)"],
    ),
    (
        'api_key = { env = "QC_API_KEY" }',
        'apikey = { env = "A" }',
        ['quantconnect.apikey: expected a known key, found "apikey"; did you mean api_key?'],
    ),
    (
        'id = "ride"',
        'id = "high"',
        ['strategies[1].id (high): expected an id of its own, found "high" as in strategies[0]'],
    ),
    ('id = "ride"\n', "", ["strategies[1].id: expected a name of at most 48 letters, digits, _ and -, found nothing"]),
    (
        'id = "ride"',
        'id = "ride.fast"',
        ['strategies[1].id (ride.fast): expected a name of at most 48 letters, digits, _ and -, found "ride.fast"'],
    ),
    (
        'id = "ride"',
        f'id = "{"a" * 49}"',
        [f'strategies[1].id: expected a name of at most 48 letters, digits, _ and -, found "{"a" * 49}"'],
    ),
    (
        'strategy = "momentum_rider"',
        'strategi = "momentum_rider"',
        [
            'strategies[1].strategi (ride): expected a known key, found "strategi"; did you mean strategy?',
            "strategies[1].strategy (ride): expected a name of at most 48 letters, digits, _ and -, found nothing",
        ],
    ),
    (
        'symbols = ["BTC-USD"]',
        "symbols = []",
        ["strategies[1].symbols (ride): expected a list with at least one item, found an empty list"],
    ),
    (
        'symbols = ["BTC-USD"]',
        'symbols = "BTC-USD"',
        ['strategies[1].symbols (ride): expected a list, found "BTC-USD"'],
    ),
    (
        'symbols = ["BTC-USD"]',
        'symbols = ["BTC-USD", "BTC-USD"]',
        ['strategies[1].symbols[1] (ride): expected each symbol once, found "BTC-USD" again'],
    ),
    (
        'symbols = ["BTC-USD"]',
        'symbols = ["BTC/USD"]',
        ['strategies[1].symbols[0] (ride): expected a symbol such as BTC-USD, found "BTC/USD"'],
    ),
    (
        'symbols = ["BTC-USD"]',
        'symbols = ["BTC-USD", 5]',
        ["strategies[1].symbols[1] (ride): expected a symbol such as BTC-USD, found 5"],
    ),
    (
        'symbols = ["BTC-USD"]',
        'symbols = ["BTC-USD"]\nextra_symbols = ["ETH-USDT"]',
        [
            "strategies[1].extra_symbols[0] (ride): expected an instrument of configs/local-dev.toml, found "
            '"ETH-USDT"; did you mean "ETH-USD"?'
        ],
    ),
    (
        'symbols = ["BTC-USD"]',
        'symbols = ["DOGE-X"]',
        [
            "accounts.DOGE-X: expected { venue, account } for a symbol of ride, found nothing",
            "strategies[1].symbols[0] (ride): expected an instrument of configs/local-dev.toml, found "
            '"DOGE-X"; it has BTC-USD, ETH-USD',
        ],
    ),
    (
        'timeframe = "5m"',
        'timeframe = "0m"',
        ['strategies[1].timeframe (ride): expected a timeframe such as 1s, 5m, 1h or 1d, found "0m"'],
    ),
    (
        'timeframe = "5m"',
        'timeframe = "10000d"',
        ['strategies[1].timeframe (ride): expected a timeframe such as 1s, 5m, 1h or 1d, found "10000d"'],
    ),
    (
        'timeframe = "5m"',
        "timeframe = 5",
        ["strategies[1].timeframe (ride): expected a timeframe such as 1s, 5m, 1h or 1d, found 5"],
    ),
    ('timeframe = "5m"', 'timeframe = "5m"\nsize = 0', ["strategies[1].size (ride): expected a number > 0, found 0"]),
    (
        'timeframe = "5m"',
        'timeframe = "5m"\nstop_loss_fraction = 1.0\ntake_profit_fraction = 0',
        [
            "strategies[1].stop_loss_fraction (ride): expected a number in (0, 1), found 1.0",
            "strategies[1].take_profit_fraction (ride): expected a number > 0, found 0",
        ],
    ),
    (
        'timeframe = "5m"',
        'timeframe = "5m"\nparams = { threshold = nan, fast = [1, inf] }',
        [
            "strategies[1].params.threshold (ride): expected a finite number, found nan",
            "strategies[1].params.fast[1] (ride): expected a finite number, found inf",
        ],
    ),
    (
        'timeframe = "5m"',
        'timeframe = "5m"\nparams = { seed = 9_223_372_036_854_775_808 }',
        [
            "strategies[1].params.seed (ride): expected an integer of at most 64 bits, found 9223372036854775808",
        ],
    ),
    ('timeframe = "5m"', 'timeframe = "5m"\nparams = 5', ["strategies[1].params (ride): expected a table, found 5"]),
    (
        'timeframe = "5m"',
        'timeframe = "5m"\nlimits = { memory_limit_mb = 1 }\nlog_level = "trace"',
        [
            "strategies[1].limits.memory_limit_mb (ride): expected an integer in [16, 1048576], found 1",
            'strategies[1].log_level (ride): expected one of "debug", "error", "info", "warning", found "trace"',
        ],
    ),
    (
        'timeframe = "5m"',
        'timeframe = "5m"\nmodels = [{ model_id = "m", id = "m" }]',
        ["strategies[1].models[0].id (ride): expected it once, found model_id and id"],
    ),
    (
        'timeframe = "5m"',
        'timeframe = "5m"\nmodels = [{ id = "m" }, { id = "m", weight = 0 }]',
        [
            "strategies[1].models[1].weight (ride): expected a number > 0, found 0",
            'strategies[1].models[1].id (ride): expected each model once, found "m" again',
        ],
    ),
    (
        'timeframe = "5m"',
        'timeframe = "5m"\nmodels = ["m"]',
        ['strategies[1].models[0] (ride): expected a table with id, found "m"'],
    ),
    (
        "confidence_threshold = 0.8",
        "confidence_threshold = 80",
        ["strategies[0].models[0].confidence_threshold (high): expected a number in [0, 1], found 80"],
    ),
    (
        "lookback_window = 20",
        "lookback_window = 0",
        ["strategies[0].models[0].lookback_window (high): expected an integer in [1, 100000], found 0"],
    ),
    (
        "weight = 1.0",
        "wieght = 1.0",
        ['strategies[0].models[0].wieght (high): expected a known key, found "wieght"; did you mean weight?'],
    ),
    (
        '[[strategies]]\nid = "ride"',
        '[[strategy]]\nid = "ride"',
        ['strategy: expected a known key, found "strategy"; did you mean strategies?'],
    ),
    (
        '[[strategies]]\nid = "ride"',
        '[strategies]\nid = "ride"',
        ["line 22, column 12: expected TOML, found: cannot declare ('strategies',) twice"],
    ),
    (
        'timeframe = "5m"',
        "timeframe = 5m",
        ["line 26, column 14: expected TOML, found: expected newline or end of document after a statement"],
    ),
]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    write(tmp_path / "configs" / "local-dev.toml", ENVIRONMENT)
    write(tmp_path / "clients" / "ikenna" / "client.toml", CLIENT)
    return Home(tmp_path)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def broken(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"{old!r} must stand in the file once"
    return text.replace(old, new)


def environment_problems(home: Home) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as raised:
        load_environment(home, "local-dev", environ={})
    return raised.value.problems


def client_problems(home: Home) -> tuple[str, ...]:
    environment = load_environment(home, "local-dev", environ={})
    with pytest.raises(ConfigurationError) as raised:
        load_client(home, "ikenna", environment, environ={})
    return raised.value.problems


def test_the_files_that_the_table_breaks_are_whole(home: Home) -> None:
    environment = load_environment(home, "local-dev", environ={})
    assert load_client(home, "ikenna", environment, environ={}).value.mode == "mock"


@pytest.mark.parametrize(("old", "new", "problems"), BROKEN_ENVIRONMENTS, ids=lambda value: str(value)[:40])
def test_a_broken_environment_file_says_what_is_wrong(home: Home, old: str, new: str, problems: list[str]) -> None:
    write(home.environment_config("local-dev"), broken(ENVIRONMENT, old, new))

    assert environment_problems(home) == tuple(f"configs/local-dev.toml: {problem}" for problem in problems)


@pytest.mark.parametrize(("old", "new", "problems"), BROKEN_CLIENTS, ids=lambda value: str(value)[:40])
def test_a_broken_client_file_says_what_is_wrong(home: Home, old: str, new: str, problems: list[str]) -> None:
    write(home.client_config("ikenna"), broken(CLIENT, old, new))

    assert client_problems(home) == tuple(f"clients/ikenna/client.toml: {problem}" for problem in problems)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('api_key = { env = "QC_API_KEY" }', 'api_key = "hunter2-very-secret"'),
        ('api_key = { env = "QC_API_KEY" }', 'api_key = { env = "hunter2-very-secret" }'),
        ('api_key = { env = "QC_API_KEY" }', 'api_key = { value = "hunter2-very-secret" }'),
        ('api_key = { env = "QC_API_KEY" }', 'api_key = { credential = "../hunter2-very-secret" }'),
        ('api_key = { env = "QC_API_KEY" }', 'api_key = ["hunter2-very-secret"]'),
        ('api_key = { env = "QC_API_KEY" }', 'apikey = "hunter2-very-secret"'),
        ("[risk]", '[messaging]\nkind = "redis"\nurl = "redis://:hunter2-very-secret@host:6379"\n[risk]'),
    ],
)
def test_a_secret_written_into_a_file_is_refused_and_never_repeated(home: Home, old: str, new: str) -> None:
    write(home.client_config("ikenna"), broken(CLIENT, old, new))

    problems = client_problems(home)

    assert problems
    assert "hunter2" not in "\n".join(problems)


def test_every_problem_of_a_file_is_found_in_one_go(home: Home) -> None:
    text = broken(CLIENT, "max_drawdown = 0.1", "max_drawdown = 10\nmax_dailyloss = 5")
    text = broken(text, 'timeframe = "5m"', 'timeframe = "5 minutes"\nsize = -1')
    text = broken(text, 'ETH-USD = { venue = "binance", account = "main" }\n', "")
    write(home.client_config("ikenna"), text)

    assert client_problems(home) == (
        "clients/ikenna/client.toml: risk.max_drawdown: expected a number in (0, 1], found 10",
        "clients/ikenna/client.toml: risk.max_dailyloss: expected a known key, "
        'found "max_dailyloss"; did you mean max_daily_loss?',
        "clients/ikenna/client.toml: strategies[1].timeframe (ride): "
        'expected a timeframe such as 1s, 5m, 1h or 1d, found "5 minutes"',
        "clients/ikenna/client.toml: strategies[1].size (ride): expected a number > 0, found -1",
        "clients/ikenna/client.toml: accounts.ETH-USD: expected { venue, account } for a symbol of high, found nothing",
    )


@pytest.mark.parametrize("text", ["", "# a client\n"])
def test_an_empty_file_is_no_client_that_trades_nothing(home: Home, text: str) -> None:
    write(home.client_config("ikenna"), text)

    assert client_problems(home) == (
        "clients/ikenna/client.toml: expected what the client trades, found an empty file",
    )


def test_a_file_that_is_not_there_names_the_path_it_should_have(home: Home) -> None:
    home.client_config("ikenna").unlink()

    path = home.client_config("ikenna")
    assert client_problems(home) == (
        f"clients/ikenna/client.toml: expected a readable file at {path}, found: no such file or directory",
    )


def test_an_environment_that_is_not_there_is_answered_with_the_nearest_that_is(home: Home) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load_environment(home, "local_dev", environ={})

    path = home.environment_config("local_dev")
    assert raised.value.problems == (
        f"configs/local_dev.toml: expected a file at {path}, found nothing; did you mean local-dev?",
    )


@pytest.mark.parametrize("name", ["../local-dev", "", "Local", "a/b", "local-dev\n"])
def test_an_environment_name_that_would_leave_its_folder_is_refused(home: Home, name: str) -> None:
    with pytest.raises(ConfigurationError, match="environment: expected a name of a-z"):
        load_environment(home, name, environ={})


@pytest.mark.parametrize("client", ["all", "market", "oms", "monitor", "supervisor"])
def test_a_client_cannot_have_a_name_that_means_something_else(home: Home, client: str) -> None:
    environment = load_environment(home, "local-dev", environ={})
    write(home.client_config(client), CLIENT)

    with pytest.raises(ConfigurationError) as raised:
        load_client(home, client, environment, environ={})

    assert str(raised.value) == f'clients/{client}: expected a name that is not reserved, found "{client}"'


@pytest.mark.parametrize("client", ["Ikenna", "1st", "with space", "../odum", "a" * 33, "ikenna\n"])
def test_a_client_name_that_cannot_be_a_program_name_is_refused(home: Home, client: str) -> None:
    environment = load_environment(home, "local-dev", environ={})

    with pytest.raises(ConfigurationError, match="expected a name of at most 32 of a-z"):
        load_client(home, client, environment, environ={})


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b'mode = "mock"\nroutes = [\n', "line 3, end of file: expected TOML, found: invalid value"),
        (b"mode = \xff\n", "line 1: expected UTF-8 text, found other bytes"),
        (b"a." * 40 + b"b = 1\n", "expected at most 32 tables and lists inside each other, found more"),
    ],
)
def test_a_file_that_is_no_toml_says_where(home: Home, raw: bytes, problem: str) -> None:
    home.client_config("ikenna").write_bytes(raw)

    assert client_problems(home) == (f"clients/ikenna/client.toml: {problem}",)


def test_lists_in_lists_without_end_are_refused_and_crash_nothing(home: Home) -> None:
    home.client_config("ikenna").write_text("routes = " + "[" * 100_000)

    (problem,) = client_problems(home)
    assert problem.startswith("clients/ikenna/client.toml: expected TOML of sensible size, found: ")


def test_a_byte_order_mark_before_the_first_line_does_no_harm(home: Home) -> None:
    home.client_config("ikenna").write_bytes(b"\xef\xbb\xbf" + CLIENT.encode())
    environment = load_environment(home, "local-dev", environ={})

    assert load_client(home, "ikenna", environment, environ={}).value.routes == ("quantconnect",)


def test_a_pipe_in_the_place_of_a_file_is_told_and_not_waited_for(tmp_path: Path) -> None:
    """`status`, `check` and `apply` of all clients waited there."""
    home = Home(tmp_path)
    path = home.environment_config("local-dev")
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    with pytest.raises(ConfigurationError) as refused:
        load_environment(home, "local-dev", environ={})
    assert refused.value.problems == (f"configs/local-dev.toml: expected a readable file at {path}, found a pipe",)
