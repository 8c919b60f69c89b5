"""Spread watch: fade a move that was made on thin liquidity.

When the spread is `entry_ratio` times its mean of the last `window` quotes, few others are in the market and the price has
been pushed: expect the mid to come back to its own mean. Closes once the spread is back at its mean.

Quotes come faster than fills: what was asked for is asked for again only when `patience_s` have passed without a fill.
"""

from collections import deque
from math import isfinite
from typing import Annotated

from msgspec import Meta

from strategy_runner.model.event import Position, Quote
from strategy_runner.strategies.interface import Inputs, Params, Strategy


class SpreadWatchParams(Params, frozen=True):
    window: Annotated[int, Meta(ge=2, le=100_000)] = 120
    entry_ratio: Annotated[float, Meta(gt=1.0)] = 1.5
    patience_s: Annotated[float, Meta(ge=0.0, le=3600.0)] = 30.0


class SpreadWatch(Strategy):
    Params = SpreadWatchParams
    inputs = Inputs(quotes=True)
    params: SpreadWatchParams

    def on_start(self) -> None:
        self._spreads: deque[float] = deque(maxlen=self.params.window)
        self._mids: deque[float] = deque(maxlen=self.params.window)
        self._quiet_until_ns = 0

    def on_quote(self, quote: Quote) -> None:
        spread = quote.ask - quote.bid
        if not isfinite(spread) or spread <= 0.0:  # a crossed or missing side says nothing about liquidity
            return
        if len(self._spreads) == self.params.window and quote.event_ns >= self._quiet_until_ns:
            self._judge(spread, quote.mid)
        self._spreads.append(spread)
        self._mids.append(quote.mid)

    def on_position(self, position: Position) -> None:
        self._quiet_until_ns = 0

    def _judge(self, spread: float, mid: float) -> None:
        usual = sum(self._spreads) / len(self._spreads)
        fair = sum(self._mids) / len(self._mids)
        ratio = spread / usual
        if self.position and ratio <= 1.0:
            self.close(f"spread back at {ratio:.2f} of its mean")
            self._wait()
        elif not self.position and ratio >= self.params.entry_ratio and mid != fair:
            ask = self.buy if mid < fair else self.sell
            ask(f"spread {ratio:.2f} times its mean, mid {abs(mid - fair):.6g} away from its own", entry_price=mid)
            self._wait()

    def _wait(self) -> None:
        self._quiet_until_ns = self.now_ns + round(self.params.patience_s * 1e9)
