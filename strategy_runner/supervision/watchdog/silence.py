"""Markets that are silent: a feed that does not beat, a symbol without records while its market is open."""

import logging
import time
from pathlib import Path

from strategy_runner.config.spec import FeedSpec, WatchdogSpec
from strategy_runner.errors import StrategyRunnerError
from strategy_runner.model.record import Kind
from strategy_runner.model.session import is_open
from strategy_runner.model.stream import Stream
from strategy_runner.model.timeframe import timeframe_ns
from strategy_runner.router.market import Market
from strategy_runner.tape.boot import this_boot
from strategy_runner.tape.files import head_path
from strategy_runner.tape.head import Head

_RAW = frozenset({Kind.TRADE, Kind.QUOTE})
_BARS_MISSED = 2

log = logging.getLogger(__name__)


class MarketWatch:
    """One feed's tape. Opened when there is one, and again when there is another."""

    def __init__(self, feed: FeedSpec, spec: WatchdogSpec) -> None:
        self.mode = feed.mode
        self._folder = Path(feed.market.tape)
        self._feed_stale_s = spec.feed_stale_s
        self._trading_hours = spec.trading_hours
        # recorded history has gaps of its own, so that a symbol's silence says nothing in it
        self._limits_s = _limits_s(feed, spec.symbol_stale_s) if feed.replay is None else {}
        self._market: Market | None = None
        self._head: Head | None = None
        self._inode = 0

    def silent(self) -> dict[str, tuple[str, int]]:
        """(what is so, since when) of each that is silent for too long: "" stands for the feed, else a symbol.

        While the feed is silent it alone is named. Since when is wall clock in nanoseconds.
        """
        market = self._opened()
        if market is None:
            return {}
        try:
            return self._silent(market)
        except StrategyRunnerError as error:
            # whoever reads its records halts at what is damaged on it; what the others do is still to be watched
            log.warning("%s: cannot tell who is silent: %s", self._folder, error)
            self._market = None
            return {}

    def _silent(self, market: Market) -> dict[str, tuple[str, int]]:
        now_ns, feed_ns = time.time_ns(), market.feed_silence_ns()
        if feed_ns > self._feed_stale_s * 1e9:
            return {"": ("the feed is silent", now_ns - feed_ns)}
        event_ns, found = market.event_ns(), {}
        for symbol, limit_s in self._limits_s.items():
            silence_ns = market.silence_ns(symbol)
            if silence_ns is None or silence_ns <= limit_s * 1e9:
                continue
            if is_open(self._trading_hours.get(symbol, "crypto"), event_ns):
                found[symbol] = (f"{symbol}: no trade, quote or bar", now_ns - silence_ns)
        return found

    def count(self) -> int:
        """Records on the tape; 0 while there is none."""
        self._opened()
        return self._head.count if self._head is not None else 0

    def look_for_another(self) -> None:
        """A simulation begins with an empty folder: its tape is another file of the same name."""
        try:
            inode = head_path(self._folder).stat().st_ino
        except FileNotFoundError:
            inode = 0
        if inode != self._inode:
            self._market, self._head, self._inode = None, None, 0

    def _opened(self) -> Market | None:
        if self._market is None:
            try:
                self._inode = head_path(self._folder).stat().st_ino
                head = Head(head_path(self._folder))
                if head.boot != this_boot():
                    return None  # its feed has still to cut off what a power cut may have taken
                self._head, self._market = head, Market(self._folder)
            except (StrategyRunnerError, OSError):
                return None  # no tape yet; the feed's own state says what is wrong with one
        return self._market


def _limits_s(feed: FeedSpec, symbol_stale_s: float) -> dict[str, float]:
    """By symbol. Where nothing but bars is carried, silence of less than two of them says nothing."""
    limits: dict[str, float] = {}
    finest_s: dict[str, float] = {}
    for stream in map(Stream.parse, feed.streams):
        if stream.kind in _RAW:
            finest_s[stream.symbol] = 0.0
        elif stream.kind is Kind.BAR:
            bar_s = timeframe_ns(stream.timeframe) / 1e9
            finest_s[stream.symbol] = min(finest_s.get(stream.symbol, bar_s), bar_s)
    for symbol, bar_s in finest_s.items():
        limits[symbol] = max(symbol_stale_s, _BARS_MISSED * bar_s)
    return limits
