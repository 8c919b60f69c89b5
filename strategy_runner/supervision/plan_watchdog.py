"""The watchdog's part of the plan: one for all that a daemon runs."""

from collections.abc import Sequence

from strategy_runner.config.home import Home
from strategy_runner.config.schema import EnvironmentConfig
from strategy_runner.config.spec import WatchdogSpec
from strategy_runner.model.names import WATCHDOG_NAME
from strategy_runner.supervision.process import Process, new_process


def watchdog_process(home: Home, config: EnvironmentConfig, others: Sequence[Process]) -> Process | None:
    """None where there is nothing to watch. Its spec does not depend on what there is: it looks for itself."""
    if not others:
        return None
    instruments = sorted(config.instruments.items())
    spec = WatchdogSpec(
        home=str(home.root),
        specs=str(home.daemon / "specs"),
        look_interval_s=config.watchdog.look_interval_s,
        hang_s=config.watchdog.hang_s,
        start_s=config.watchdog.start_s,
        log_limit_mb=config.watchdog.log_limit_mb,
        feed_stale_s=config.feed.stale_after_s,
        symbol_stale_s=config.feed.symbol_stale_after_s,
        trading_hours={symbol: one.calendar or one.asset_class for symbol, one in instruments},
        folder=str(home.monitor),
        log=str(home.log(WATCHDOG_NAME)),
        log_level=config.log_level,
    )
    return new_process(home, WATCHDOG_NAME, "watchdog", spec)
