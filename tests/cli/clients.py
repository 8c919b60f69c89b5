"""Client files for the tests of the command line."""

# One built-in strategy on one symbol of the mock market, which speaks within seconds.
CROSSOVER = """
routes = ["quantconnect"]

[accounts]
BTC-USD = { venue = "binance", account = "acme-main" }

[[strategies]]
id = "cross"
strategy = "moving_average_crossover"
symbols = ["BTC-USD"]
timeframe = "10s"
time_to_live_s = 60.0
on_restart = "resume"
params = { fast = 2, slow = 4 }
size = 0.5
stop_loss_fraction = 0.01
"""

# A model that is never sure enough: each of its entries is refused, and recorded.
DOUBTFUL = """
[[strategies]]
id = "doubtful"
strategy = "swing_low"
symbols = ["BTC-USD"]
timeframe = "10s"
models = [{ id = "unsure", confidence_threshold = 0.999, lookback_window = 5, weight = 1.0 }]
params = { lookback_bars = 2, exit_after_bars = 2 }
"""

# Secrets, as references.
KEYS = """
[quantconnect]
project_id = { env = "ACME_PROJECT" }
api_key = { file = "/nowhere/key" }
"""

# Limits that live mode wants written down.
LIVE_LIMITS = """
[limits]
memory_limit_mb = 256
cpu_limit = 1.0

[risk]
starting_cash = 100_000.0
max_position_notional = 100_000.0
max_position_size = { BTC-USD = 1.0 }
max_order_value = 50_000.0
max_daily_loss = 500.0
max_drawdown = 0.1
max_losing_trades = 8
max_orders_per_second = 5
max_orders_per_minute = 60
max_open_orders = 20
price_collar = 0.05
duplicate_window_s = 1.0
runaway_signals = 100
runaway_window_s = 10.0
max_rejects = 5
rejects_window_s = 60.0
cooldown_s = 300.0
"""
