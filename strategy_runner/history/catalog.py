"""The catalogue of a history folder: which recorded series a symbol has, and which of them everything is made from.

A folder holds trades/SYMBOL.parquet, quotes/SYMBOL.parquet and bars_<timeframe>/SYMBOL.parquet. Bars, clock and
predictions of a symbol are made from one series only, its base; otherwise two recordings of one market would be mixed.
"""

import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from strategy_runner.errors import ConfigurationError, UsageError, reason_of
from strategy_runner.model.names import SYMBOL_PATTERN
from strategy_runner.model.record import Kind
from strategy_runner.model.stream import Stream, bars, quotes, trades
from strategy_runner.model.timeframe import timeframe_ns

_BARS_PREFIX = "bars_"
# quotes/SYMBOL-1m.parquet is the last quote of each minute: a summary, not the series of quotes
_SAMPLED_SUFFIX = "-1m"
_MAGIC = b"PAR1"


class Series(msgspec.Struct, frozen=True):
    """One recorded file. `interval_ns` is the length of a bar, 0 for trades and quotes, which have no grid."""

    stream: Stream
    path: Path
    interval_ns: int


class SymbolHistory(msgspec.Struct, frozen=True):
    """What a folder holds for a symbol: the `base` everything is made from, and `others` that are only passed on."""

    symbol: str
    base: Series
    others: tuple[Series, ...]

    def makes_bars(self, timeframe: str) -> bool:
        """Whether bars of this timeframe can be made: of trades and quotes all, of bars only what they add up to."""
        return not self.base.interval_ns or timeframe_ns(timeframe) % self.base.interval_ns == 0


def find_series(folder: Path, symbol: str) -> SymbolHistory:
    """The series of a symbol: base is trades, else the finest bars, else quotes; quotes accompany trades.

    Raises UsageError if the folder does not exist, ConfigurationError if it has nothing for the symbol.
    """
    if not folder.is_dir():
        raise UsageError(
            f"{folder}: history folder: expected a folder, found {'a file' if folder.exists() else 'nothing'}"
        )
    found = [series for series in all_series(folder) if series.stream.symbol == symbol]
    if not found:
        raise ConfigurationError(_nothing_found(folder, symbol))
    return _history(symbol, found)


def all_histories(folder: Path) -> dict[str, SymbolHistory]:
    """What the folder holds for each symbol of it, found in one look."""
    found: dict[str, list[Series]] = {}
    for series in all_series(folder):
        found.setdefault(series.stream.symbol, []).append(series)
    return {symbol: _history(symbol, series) for symbol, series in found.items()}


def unreadable(series: Series) -> str:
    """Why a file is certainly no Parquet file, "" if it may be one: it begins and ends with a magic word. Reads eight bytes."""
    try:
        with series.path.open("rb") as file:
            begin = file.read(len(_MAGIC))
            file.seek(max(0, file.seek(0, os.SEEK_END) - len(_MAGIC)))
            found = "" if begin == file.read() == _MAGIC else f"{file.tell()} bytes that are none"
    except OSError as error:
        found = reason_of(error)
    return found and f"{series.path}: expected a readable Parquet file, found: {found}"


def all_series(folder: Path) -> Iterator[Series]:
    """Every series of the folder, ordered by folder and file name."""
    for path in sorted(folder.glob("*/*.parquet")):
        if re.fullmatch(SYMBOL_PATTERN, path.stem):
            try:
                stream = stream_of(path.parent.name, path.stem)
            except ValueError:
                continue  # funding/ and other folders are not series a symbol is traded from
            if not is_sampled(stream):
                yield Series(stream, path, _interval_ns(stream))


def stream_of(kind: str, symbol: str) -> Stream:
    """The stream of a folder's name such as trades, quotes or bars_1m. Raises ValueError for any other name."""
    if kind == "trades":
        return trades(symbol)
    if kind == "quotes":
        return quotes(symbol)
    if kind.startswith(_BARS_PREFIX):
        timeframe = kind.removeprefix(_BARS_PREFIX)
        timeframe_ns(timeframe)
        return bars(symbol, timeframe)
    raise ValueError(f"expected trades, quotes or bars_<timeframe> such as bars_1m, found {kind!r}")


def is_sampled(stream: Stream) -> bool:
    """Whether the name says that these are not all quotes, but one of each minute."""
    return stream.kind is Kind.QUOTE and stream.symbol.endswith(_SAMPLED_SUFFIX)


def series_of(folder: Path, kind: str, symbol: str) -> Series:
    """The place a series has in the folder, whether it exists or not. Raises ValueError for an unknown kind."""
    stream = stream_of(kind, symbol)
    return Series(stream, folder / kind / f"{symbol}.parquet", _interval_ns(stream))


def _history(symbol: str, series: list[Series]) -> SymbolHistory:
    found = {one.stream: one for one in series}
    printed, quoted = found.get(trades(symbol)), found.get(quotes(symbol))
    finest_bars = min((one for one in series if one.interval_ns), key=lambda one: one.interval_ns, default=None)
    base = printed or finest_bars or quoted
    assert base is not None, symbol
    return SymbolHistory(symbol, base, (quoted,) if quoted is not None and base is printed else ())


def _interval_ns(stream: Stream) -> int:
    return timeframe_ns(stream.timeframe) if stream.kind is Kind.BAR else 0


def _nothing_found(folder: Path, symbol: str) -> str:
    close = difflib.get_close_matches(symbol, sorted(all_histories(folder)), n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return (
        f"{folder}: history of {symbol}: expected trades/{symbol}.parquet, bars_<timeframe>/{symbol}.parquet "
        f"or quotes/{symbol}.parquet, found none of them{hint}"
    )
