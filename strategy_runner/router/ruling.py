"""Ruling: what a router decides on one signal, by the worker's word, its age, and the market data behind it.

A signal that is too old is recorded and never traded. While the market data is silent no entry is let through, but exits
are: nobody should be held in a position by a fault of the feed.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Protocol

import msgspec

from strategy_runner.config.spec import FreshnessSpec
from strategy_runner.model.decision import Verdict
from strategy_runner.model.order import OrderRequest
from strategy_runner.model.session import is_open, next_change
from strategy_runner.router.intake import Arrival
from strategy_runner.router.market import Market
from strategy_runner.router.position import Position

REASONS: dict[str, str] = {
    "late": "older than the strategy's `time_to_live_s`, counted from the feed's receipt of the record that caused it",
    "feed_stale": "an entry while the feed is silent for longer than `feed.stale_after_s`; exits pass",
    "symbol_stale": "an entry while no trade, quote or bar of its symbol has come for too long in an open market; exits pass",
    "never_entered": "an exit of a position whose entries were all expired or refused by the router: it would open another",
}


class Ruling(msgspec.Struct, frozen=True, gc=False):
    """See Decision for the fields."""

    verdict: Verdict
    reason: str = ""
    age_ns: int = 0
    limit_ns: int = 0
    orders: tuple[OrderRequest, ...] = ()
    expires_ns: int = 0
    price: Decimal | None = None
    detail: str = ""
    size: float | None = None


ACCEPTED = Ruling("accepted")


class Stop(Protocol):
    def __call__(self, strategy: str, symbol: str, *, is_exit: bool) -> str:
        """The reason for which a worker is stopped, "" if it is not."""


class Judge:
    """Rules on signals in the order in which they are decided.

    `freshness` holds each worker's limits. Without a `market`, or for a worker without limits, nothing grows old: nobody can be
    late where history runs as fast as it goes. `stop` is asked of each signal that is in time.
    """

    def __init__(self, market: Market | None, freshness: Mapping[str, FreshnessSpec], stop: Stop | None = None) -> None:
        self._market = market
        self._freshness = dict(freshness)
        self._feed_limit_ns = self._least_feed_limit_ns()
        self._stop = stop

    def reload(self, freshness: Mapping[str, FreshnessSpec]) -> None:
        """New limits; a worker that left the plan keeps its own, for its log may hold more."""
        self._freshness.update(freshness)
        self._feed_limit_ns = self._least_feed_limit_ns()

    def feed_silence_ns(self) -> int:
        """How long the feed has been silent, once that is long enough to refuse entries; else 0."""
        if self._market is None or self._feed_limit_ns is None:
            return 0
        silence_ns = self._market.feed_silence_ns()
        return silence_ns if silence_ns > self._feed_limit_ns else 0

    def moment(self) -> "Moment | None":
        """The market now; None where nothing grows old."""
        return Moment(self._market) if self._market is not None else None

    def limits_of(self, worker: str) -> FreshnessSpec | None:
        return self._freshness.get(worker)

    def rule(
        self, arrivals: Sequence[Arrival], positions: Mapping[str, Position]
    ) -> tuple[list[Ruling], dict[str, Position]]:
        """A ruling for each signal, and the positions of their workers after them."""
        moment = self.moment()
        changed: dict[str, Position] = {}
        rulings: list[Ruling] = []
        for arrival in arrivals:
            worker, body = arrival.worker, arrival.body
            if body.refusal is not None:
                rulings.append(Ruling("refused", body.refusal))
                continue
            position = changed.get(worker) or positions.get(worker, Position())
            position = position.of(arrival.logged.envelope.generation)
            ruling = _rule(arrival, position, moment, self._freshness.get(worker), self._stop)
            changed[worker] = position.after(body, accepted=ruling.verdict == "accepted", size=ruling.size)
            rulings.append(ruling)
        return rulings, changed

    def _least_feed_limit_ns(self) -> int | None:
        limits_s = [one.feed_stale_after_s for one in self._freshness.values() if one.feed_stale_after_s is not None]
        return _ns(min(limits_s)) if limits_s else None


class Moment:
    """The market at the time of one batch: asked once for each thing."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._silence_ns: dict[str, int | None] = {}
        self.clock_ns = market.clock_ns()
        self.feed_silence_ns = market.feed_silence_ns()
        self.event_ns = market.event_ns()

    def silence_ns(self, symbol: str) -> int | None:
        if symbol not in self._silence_ns:
            self._silence_ns[symbol] = self._market.silence_ns(symbol)
        return self._silence_ns[symbol]


def _rule(
    arrival: Arrival, position: Position, moment: Moment | None, limits: FreshnessSpec | None, stop: Stop | None
) -> Ruling:
    body = arrival.body
    late = late_ruling(arrival, moment, limits)
    if late is not None:
        return late
    if position.was_never_entered(body):
        return Ruling("refused", "never_entered")
    left = position.left_of(body)
    is_exit = left is not None or position.is_exit(body)
    stopped = stop(body.strategy, body.symbol, is_exit=is_exit) if stop is not None else ""
    if stopped:
        return Ruling("refused", stopped)
    if left is not None:
        return Ruling("accepted", detail=f"{left:.9g} of it, which is all that was let through", size=left)
    if is_exit:
        return ACCEPTED
    return stale_ruling(arrival, moment, limits) or ACCEPTED


def late_ruling(arrival: Arrival, moment: Moment | None, limits: FreshnessSpec | None) -> Ruling | None:
    """For a signal that is too old. What only cancels never is."""
    if arrival.body.action == "cancel":
        return None
    received_ns = arrival.logged.envelope.received_ns
    if moment is None or limits is None or not received_ns:
        return None
    age_ns, limit_ns = moment.clock_ns - received_ns, _ns(limits.time_to_live_s)
    return Ruling("expired", "late", age_ns, limit_ns) if age_ns > limit_ns else None


def expires_ns(arrival: Arrival, limits: FreshnessSpec | None) -> int:
    """From when on a signal is too old, by the feed's clock; 0 for never."""
    received_ns = arrival.logged.envelope.received_ns
    return received_ns + _ns(limits.time_to_live_s) + 1 if limits is not None and received_ns else 0


def stale_ruling(arrival: Arrival, moment: Moment | None, limits: FreshnessSpec | None) -> Ruling | None:
    """For an entry while the market data is silent."""
    if moment is None or limits is None:
        return None
    return _feed_stale(moment, limits) or _symbol_stale(arrival, moment, limits)


def _feed_stale(moment: Moment, limits: FreshnessSpec) -> Ruling | None:
    if limits.feed_stale_after_s is None or moment.feed_silence_ns <= _ns(limits.feed_stale_after_s):
        return None
    return Ruling("refused", "feed_stale", moment.feed_silence_ns, _ns(limits.feed_stale_after_s))


def _symbol_stale(arrival: Arrival, moment: Moment, limits: FreshnessSpec) -> Ruling | None:
    """Silence counts only in a market that has been open for as long: before its first record of the day nothing is late."""
    if limits.symbol_stale_after_s is None:
        return None
    limit_ns, event_ns = _ns(limits.symbol_stale_after_s), max(moment.event_ns, arrival.body.cause.event_ns)
    silence_ns = moment.silence_ns(arrival.body.symbol)
    if silence_ns is None or silence_ns <= limit_ns:
        return None
    opened_ns = event_ns - limit_ns
    change_ns = next_change(limits.asset_class, opened_ns)
    if not is_open(limits.asset_class, opened_ns) or (change_ns is not None and change_ns <= event_ns):
        return None
    return Ruling("refused", "symbol_stale", silence_ns, limit_ns)


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
