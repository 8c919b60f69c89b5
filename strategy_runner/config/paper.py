"""The paper market of a client: from what [paper] says to how orders are filled and what accounts begin with."""

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from strategy_runner.config.schema import ClientConfig, FeesConfig, PaperConfig, PaperSymbolConfig
from strategy_runner.model.fill_settings import FeeSettings, FillSettings
from strategy_runner.model.instrument import decimal_of

_MS_NS = 1_000_000


def fill_settings(paper: PaperConfig, symbol: str = "") -> FillSettings:
    """How orders in a symbol are filled; what `paper.symbols` says of it comes before what holds everywhere."""
    own = paper.symbols.get(symbol, PaperSymbolConfig())
    given = {name: value for name in own.__struct_fields__ if (value := getattr(own, name)) is not None}
    said = msgspec.structs.replace(paper, **given)
    return FillSettings(
        latency_ns=round(said.latency_ms * _MS_NS),
        slippage_ticks=said.slippage_ticks,
        slippage_bps=said.slippage_bps,
        assumed_spread=said.assumed_spread,
        impact=said.impact,
        participation=said.participation,
        queue=said.queue,
        queue_size=said.queue_size,
        fees=_fees(said.fees),
    )


def opening_cash(client: ClientConfig) -> dict[str, dict[str, Decimal]]:
    """By account and currency. Without [paper] cash the only account begins with all that [risk] says there is."""
    if client.paper.cash:
        return {account: exact(cash) for account, cash in client.paper.cash.items()}
    names = {one.account for one in client.accounts.values()}
    return {name: exact({client.risk.currency: client.risk.starting_cash}) for name in names if len(names) == 1}


def exact(numbers: Mapping[str, float]) -> dict[str, Decimal]:
    """Decimals as they are written in the file."""
    return {name: decimal_of(number) for name, number in numbers.items()}


def _fees(fees: FeesConfig) -> FeeSettings:
    return FeeSettings(
        maker=decimal_of(fees.maker),
        taker=decimal_of(fees.taker),
        per_share=decimal_of(fees.per_share),
        minimum=decimal_of(fees.minimum),
    )
