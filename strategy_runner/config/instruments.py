"""The instruments of an environment: from what its file says to the exact nouns that orders are made with."""

from collections.abc import Mapping

from strategy_runner.config.schema import InstrumentConfig
from strategy_runner.model.instrument import Instrument, decimal_of

_CURRENCY_CHARS = 3
_OTHER_CURRENCY = "USD"


def instruments_of(configured: Mapping[str, InstrumentConfig]) -> dict[str, Instrument]:
    """By symbol. Decimals are those written in the file: 0.1 is 0.1."""
    return {symbol: _instrument(symbol, one) for symbol, one in configured.items()}


def currency_of(symbol: str, one: InstrumentConfig) -> str:
    """What prices are quoted in: as given, else the second half of a pair, else USD."""
    if one.currency is not None:
        return one.currency
    if one.asset_class in ("crypto", "fx"):
        base, dash, quote = symbol.partition("-")
        quote = quote.partition("-")[0]  # BTC-USDT-PERP is quoted in USDT
        if dash and base and quote.isalnum() and quote.isupper():
            return quote
        if one.asset_class == "fx" and len(symbol) == 2 * _CURRENCY_CHARS and symbol.isalpha() and symbol.isupper():
            return symbol[_CURRENCY_CHARS:]
    return _OTHER_CURRENCY


def _instrument(symbol: str, one: InstrumentConfig) -> Instrument:
    return Instrument(
        symbol=symbol,
        asset_class=one.asset_class,
        currency=currency_of(symbol, one),
        tick_size=decimal_of(one.tick_size),
        lot_size=decimal_of(one.lot_size),
        multiplier=decimal_of(one.multiplier),
        margin_fraction=decimal_of(one.margin_fraction),
        calendar=one.calendar,
    )
