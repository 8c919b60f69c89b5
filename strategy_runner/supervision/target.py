"""What a command is aimed at: CLIENT, CLIENT:STRATEGY, CLIENT:STRATEGY:SYMBOL, a program's own name, or all. Where it stands for
a client or strategy, `all` or `*` means each: `all:*:BTC-USD`.
"""

import msgspec

from strategy_runner.errors import UsageError
from strategy_runner.model.names import OMS_NAME

ANY = "*"


class Target(msgspec.Struct, frozen=True):
    """None stands for every one. `program` is set for a name that is no worker: router, feed, watchdog, the paper OMS."""

    client: str | None = None
    strategy: str | None = None
    symbol: str | None = None
    program: str | None = None

    @property
    def is_client(self) -> bool:
        return self.client is not None and self.strategy is None and self.symbol is None and self.program is None

    def matches(self, name: str) -> bool:
        """Whether a program's name (`client:strategy.symbol`, `client:router`, `market:feed`) is meant."""
        group, _, rest = name.partition(":")
        if self.client is not None and group != self.client:
            return False
        if self.program is not None:
            return rest == self.program
        strategy, dot, symbol = rest.partition(".")
        if self.strategy is not None and (not dot or strategy != self.strategy):
            return False
        return self.symbol is None or symbol == self.symbol

    def __str__(self) -> str:
        strategy = self.program or self.strategy or (ANY if self.symbol else None)
        parts = (self.client or ("all" if strategy else None), strategy, self.symbol)
        return ":".join(part for part in parts if part is not None) or "all"


def parse_target(text: str) -> Target:
    """Raises UsageError for what cannot be a target."""
    if text == "all":
        return Target()
    client, _, rest = text.partition(":")
    strategy, colon, symbol = rest.partition(":")
    if not colon and "." in strategy:
        strategy, _, symbol = strategy.partition(".")
    if not client or (":" in text and not strategy) or (colon and not symbol):
        raise UsageError(f"target: expected CLIENT, CLIENT:STRATEGY, CLIENT:STRATEGY:SYMBOL or all, found {text!r}")
    if (strategy in ("router", "feed", "watchdog") or text == OMS_NAME) and not symbol:
        return Target(client=client, program=strategy)
    return Target(
        client=None if client in ("all", ANY) else client,
        strategy=None if strategy in ("", ANY) else strategy,
        symbol=None if symbol in ("", ANY) else symbol,
    )


def split_symbols(text: str | None) -> tuple[str, ...]:
    """Symbols separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else ()
