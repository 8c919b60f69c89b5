"""The bare loops that historical mode is compared with: the same rules in plain Python, columns in memory, nothing around.

As `Sma` and `Ema` of the peers' benchmark: one bound-method call an event, a count in place of each order.
"""

FAST_BARS, SLOW_BARS = 20, 50
EMA_TRADES, HOLD_TRADES = 100, 5_000


class Sma:
    """Rolling sums over a ring; long while the fast mean is above the slow one."""

    def __init__(self) -> None:
        self.ring = [0.0] * SLOW_BARS
        self.at = self.seen = self.position = self.orders = 0
        self.fast_sum = self.slow_sum = 0.0

    def on_bar(self, ts: int, close: float) -> None:
        at = self.at
        ring = self.ring
        self.slow_sum += close - ring[at]
        self.fast_sum += close - ring[at - FAST_BARS]
        ring[at] = close
        at += 1
        self.at = at if at < SLOW_BARS else 0
        if self.seen < SLOW_BARS - 1:
            self.seen += 1
            return
        fast = self.fast_sum / FAST_BARS
        slow = self.slow_sum / SLOW_BARS
        if fast > slow:
            if not self.position:
                self.position = 1
                self.orders += 1
        elif fast < slow and self.position:
            self.position = 0
            self.orders += 1


class Ema:
    """Long while the price is above its exponential mean, at most one order each `HOLD_TRADES` trades."""

    def __init__(self, first: float) -> None:
        self.alpha = 2.0 / (EMA_TRADES + 1.0)
        self.mean = first
        self.since = self.position = self.orders = 0

    def on_trade(self, ts: int, price: float, size: float) -> None:
        self.mean = mean = self.mean + self.alpha * (price - self.mean)
        if self.since < HOLD_TRADES:
            self.since += 1
            return
        if self.position == 0:
            if price > mean:
                self.position, self.since = 1, 1
                self.orders += 1
        elif price < mean:
            self.position, self.since = 0, 1
            self.orders += 1
