"""What things may be called, and how a worker's name is put together.

One string names a worker everywhere: the program under supervisord, its log file, its metric labels, a CLI target.
"""

import msgspec

CLIENT_PATTERN = r"^[a-z][a-z0-9_-]{0,31}$"
STRATEGY_PATTERN = r"^[A-Za-z][A-Za-z0-9_-]{0,47}$"
SYMBOL_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$"
MODEL_PATTERN = r"^[A-Za-z][A-Za-z0-9_-]{0,47}$"

MARKET_GROUP = "market"
FEED_NAME = "market:feed"
MONITOR_GROUP = "monitor"
WATCHDOG_NAME = "monitor:watchdog"
OMS_GROUP = "oms"
OMS_NAME = "oms:paper"
RESERVED_CLIENTS = frozenset({"all", MARKET_GROUP, OMS_GROUP, MONITOR_GROUP, "supervisor"})


class WorkerKey(msgspec.Struct, frozen=True, order=True):
    """Identity of a worker: one client, one strategy, one symbol."""

    client: str
    strategy: str
    symbol: str

    @property
    def name(self) -> str:
        """`client:strategy.symbol`: strategy ids hold no dot, so the first dot ends the strategy."""
        return f"{self.client}:{self.strategy}.{self.symbol}"

    @property
    def folder(self) -> str:
        return f"{self.strategy}.{self.symbol}"

    @classmethod
    def parse(cls, name: str) -> "WorkerKey":
        client, _, rest = name.partition(":")
        strategy, dot, symbol = rest.partition(".")
        if not (client and strategy and dot and symbol):
            raise ValueError(f"expected CLIENT:STRATEGY.SYMBOL, found {name!r}")
        return cls(client, strategy, symbol)


def router_name(client: str) -> str:
    return f"{client}:router"
