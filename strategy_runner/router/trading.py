"""Trading: what a router does beside deciding when its client has a route to an OMS. It keeps the risk record up to date with
fills, prices, days and limits, rules on signals by it, and hands what is accepted to the order desk.
"""

import time
from collections.abc import Sequence

from strategy_runner.config.spec import RouterSpec
from strategy_runner.model.counted import counted
from strategy_runner.model.decision import Decision
from strategy_runner.model.instrument import decimal_of
from strategy_runner.risk import events
from strategy_runner.risk.breakers import entries_to_cancel
from strategy_runner.risk.day import trading_day
from strategy_runner.risk.limits import limits_of
from strategy_runner.risk.state import limits_in_force
from strategy_runner.router.appraiser import Appraiser
from strategy_runner.router.desk import Desk
from strategy_runner.router.intake import Arrival
from strategy_runner.router.market import Market
from strategy_runner.router.right_of_way import GiveWay
from strategy_runner.router.risk_record import RiskRecord, standing_wish
from strategy_runner.router.ruling import Judge, Ruling

MARK_INTERVAL_S = 0.5
RECONCILE_WAIT_S = 2.0  # so long nothing is decided at the start, for the OMS to be compared with
DIFFERENCES_SHOWN = 3


class Trading:
    """`record` and `desk` are the router's own; the operator's turn may ask things of both. `is_heard` once the record has what
    the OMS had to tell at the start, or it was waited for long enough."""

    def __init__(self, spec: RouterSpec, record: RiskRecord, desk: Desk, market: Market) -> None:
        self.record = record
        self.desk = desk
        self.is_heard = False
        self._spec = spec
        self._market = market
        self._appraiser: Appraiser | None = None
        self._next_mark = 0.0
        self._withdrawn: set[str] = set()
        self._wait_until = 0.0

    def start(self, judge: Judge, synced: int, give_way: GiveWay) -> None:
        """Takes in the limits of now, and lets the desk begin; `synced` is how much of the decision log is durable."""
        self._appraiser = Appraiser(self._spec, judge, self.record, self._market)
        self._configure()
        self.desk.advance(synced)
        self.desk.start(limits_in_force(self.record.state).instruments, give_way)
        self._wait_until = time.monotonic() + RECONCILE_WAIT_S

    def reload(self, spec: RouterSpec) -> None:
        assert self._appraiser is not None
        self._spec = spec
        self._appraiser.reload(spec)
        self.desk.reload(spec)
        self._configure()

    def turn(self) -> bool:
        """Takes in what has happened meanwhile. False while nothing should be decided yet. Raises OSError, StateError."""
        if self.desk.broken is not None:
            raise self.desk.broken
        now, at_ns = time.monotonic(), time.time_ns()
        was_heard, is_heard = self.is_heard, self.desk.reconciled.is_set() or now >= self._wait_until
        if self.desk.written:
            self.record.follow(self.desk.written)
        self.is_heard = is_heard
        if is_heard and now >= self._next_mark:  # what was filled while no router ran was not held at the prices of now
            self._next_mark = now + MARK_INTERVAL_S
            self._roll_day(at_ns)
            self._mark(at_ns)
            self._withdrawn.clear()
        self._latch(at_ns)
        self.record.keep()
        self._withdraw(at_ns)
        self.record.note()
        return was_heard  # what is configured for positions that are there now comes before the first decision

    def rule(self, ready: Sequence[Arrival], at_ns: int) -> list[Ruling]:
        assert self._appraiser is not None
        return self._appraiser.rule(ready, at_ns, reconciled=self.desk.reconciled.is_set())

    def decided(self, decisions: Sequence[Decision], ready: Sequence[Arrival], synced: int) -> None:
        """Decisions on these signals are durable."""
        for decision, arrival in zip(decisions, ready, strict=True):
            self.record.decided(decision, standing_wish(decision.orders, arrival.body.confidence))
        self.record.keep()
        self.desk.advance(synced, is_asked=any(one.verdict == "accepted" for one in decisions))

    def faults(self) -> list[str]:
        """What people should know, the gravest first."""
        found = [f"not reconciled: {one}" for one in self.desk.differences[:DIFFERENCES_SHOWN]]
        found += [f"unprotected: {one}" for one in self.desk.unprotected[:DIFFERENCES_SHOWN]]
        if self.desk.fault:
            found.append(f"OMS: {self.desk.fault}")
        if self.desk.unknown:
            found.append(f"OMS: the outcome of {counted(self.desk.unknown, 'order')} is not known")
        return found

    def stop(self, timeout_s: float) -> None:
        self.desk.stop(timeout_s)
        self.record.follow()
        self.record.note(force=True)
        self.record.close()

    # -- inside ------------------------------------------------------------------------------------------------------------

    def _configure(self) -> None:
        """Limits and rates that differ from those in force. Instruments are only ever added."""
        state, risk, at_ns = self.record.state, self._spec.risk, time.time_ns()
        known = state.limits.instruments if state.limits is not None else {}
        limits = limits_of(risk, {**known, **self._spec.instruments})
        if limits != state.limits:
            cash = decimal_of(risk.starting_cash)
            self.record.take(events.Configured(at_ns=at_ns, limits=limits, day=self._day(), starting_cash=cash))
        for currency, rate in self._spec.rates.items():
            if state.rates.get(currency) != rate:
                self.record.take(events.Rated(at_ns=at_ns, currency=currency, rate=rate))
        self.record.keep()

    def _day(self) -> int:
        """Of tape time: the days of a market that is played faster are over sooner. 0 before the first record, which may be of
        any year."""
        event_ns = self._market.event_ns()
        return trading_day(event_ns, self._spec.risk.day_starts, self._spec.risk.timezone) if event_ns else 0

    def _roll_day(self, at_ns: int) -> None:
        day = self._day()
        if day > self.record.state.day and self.record.state.equity is not None:
            self._mark(at_ns)
            self.record.take(events.DayRolled(at_ns=at_ns, day=day))

    def _mark(self, at_ns: int) -> None:
        """Prices of what is held: losses open breakers without a signal."""
        for symbol in {book.symbol for book in self.record.state.books.values() if book.quantity}:
            price = self._market.price(symbol)
            if price is not None:
                self.record.mark(at_ns, symbol, decimal_of(price))

    def _withdraw(self, at_ns: int) -> None:
        """The entries that are still working when a breaker has opened, which is durable by now. Asked again at every look, so
        that it is done whatever died meanwhile."""
        if not self.record.state.latches:
            return
        wanted = entries_to_cancel(self.record.state, at_ns)
        new = {order_id: why for order_id, why in wanted.items() if order_id not in self._withdrawn}
        if new:
            self._withdrawn |= new.keys()
            self.desk.withdraw(new)

    def _latch(self, at_ns: int) -> None:
        """Differences with the OMS stop entries in their symbol, or in all for one that names none, until they are settled."""
        if not self.desk.reconciled.is_set():
            return
        latches = {one.symbol: one for one in self.record.state.latches if one.breaker == "reconciliation"}
        found: dict[str, str] = {}
        for one in self.desk.differences:
            found.setdefault(one.symbol, str(one))
        for symbol, text in found.items():
            if symbol not in latches or latches[symbol].facts != text:
                stopped = events.Stopped(
                    at_ns=at_ns, authority="reconciliation", posture="reducing", symbol=symbol, reason=text
                )
                self.record.take(stopped)
        for symbol in latches.keys() - found.keys():
            self.record.take(events.Resumed(at_ns=at_ns, authority="reconciliation", symbol=symbol))
