"""The deterministic core of a worker: records in, strategy, pipeline, signals out.

No clock, no file, no socket: the loop that follows the tape and the one that runs over history both drive this machine, so
the same records give the same signals. Everything it remembers is in `state`.

Where orders go to an OMS, what became of them are records too, of the worker's private stream; where a worker runs flat out
it fills its orders itself (paper.py), and makes these events itself. What the strategy asks for when it is told of one has
that record as its cause.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import compress, repeat
from math import isfinite
from operator import length_hint
from typing import Any

import msgspec

from strategy_runner.config.spec import WorkerSpec
from strategy_runner.errors import StateError, StrategyError
from strategy_runner.model.event import Bar, Event, Prediction, Quote, Timer, Trade
from strategy_runner.model.private import PrivateEvent
from strategy_runner.model.record import Kind
from strategy_runner.model.signal import ORDERING, Cause, SignalBody, signal_id
from strategy_runner.model.stream import Stream, bars, private
from strategy_runner.model.timeframe import timeframe_ns
from strategy_runner.pipeline.draft import Moment
from strategy_runner.pipeline.pipeline import judge
from strategy_runner.predictions.aggregation import Aggregator, Combined, Fault
from strategy_runner.strategies.client_code import raised
from strategy_runner.strategies.interface import Proposal, Strategy
from strategy_runner.strategies.strategy_state import dumps, kept_by, loads
from strategy_runner.worker.feedback import tell
from strategy_runner.worker.paper import PaperDesk, fill_streams
from strategy_runner.worker.run import Block
from strategy_runner.worker.subscription import Subscription
from strategy_runner.worker.wish import draft_of, leave_out_not_finite, position_after

NAN = float("nan")
_MANY = 1 << 62
Record = Callable[[int, SignalBody, int], None]
Keep = Callable[[bytes], None]
# what a strategy's code may do wrong: a sys.exit in it must not look like a clean end of the worker
RAISED = (Exception, SystemExit)
# which field of an event is the first of its numbers
_FIRST_VALUE: dict[type[Event], int] = {Trade: 2, Quote: 2, Bar: 3, Prediction: 4, Timer: 2}


class Machine:
    """One strategy instance with its subscriptions. `record(n, body, seq)` is called for each signal, dense n from 0; `keep`
    for each entry of the fill log of a worker that fills its orders itself. `private` makes the event of a private record.

    `seq` is the tape's seq of the record at hand (-1 without a tape). `live` is False while the loop reads what lies before
    the worker's beginning: until then, and until each bar stream of its symbol gave `warmup_bars`, signals are refused.
    `listens` is whether the strategy wants to be told of its orders.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        strategy: Strategy,
        record: Record,
        *,
        private: Callable[..., PrivateEvent] | None = None,
        keep: Keep = lambda payload: None,
    ) -> None:
        self.spec = spec
        self.strategy = strategy
        self.n = 0
        self.seq = -1
        self.live = True
        self._record = record
        self._name = spec.key.name
        self._proposals = strategy._proposals
        self._aggregator = Aggregator(spec.models)
        strategy._predictions_of = self._predictions_of
        self._combined: Combined | None = None
        self._price = NAN
        self._prediction_life_ns = timeframe_ns(spec.timeframe)
        self._keep = keep
        self.paper = PaperDesk(spec.paper, spec.key, spec.account) if spec.paper else None
        self._told_of_fills = bool(spec.fills or spec.paper)
        self.listens = any(
            getattr(getattr(strategy, name), "__func__", None) is not getattr(Strategy, name)
            for name in ("on_fill", "on_position", "on_order")
        )
        self._private = _private_subscription(spec, private)
        self.subscriptions = self._subscribe_all([Stream.parse(name) for name in spec.streams])
        self._awaited_by_models = self._own_bars() if spec.models else None
        self.warming = self._bars_to_warm_up()

    def start(self) -> None:
        """The first start of a worker's life. Raises StrategyError if the strategy does."""
        self._tell("on_start", self.strategy.on_start)

    def stop(self) -> None:
        """A clean end. What the strategy changes now is not in its state. Raises StrategyError if the strategy does."""
        self._tell("on_stop", self.strategy.on_stop)

    def apply(self, subscription: Subscription, ordinal: int, event: Event | PrivateEvent) -> None:
        """One record. Raises StrategyError, naming the record, if the strategy does."""
        if isinstance(event, PrivateEvent):
            self._apply_private(subscription, ordinal, event)
            return
        if self.paper is not None and self.paper.waits and subscription.is_market:
            self.meet(self.paper, event)
        self.strategy.now_ns = event.event_ns
        if subscription is self._awaited_by_models:
            self._aggregator.advance(self.spec.symbol, event.event_ns)
        try:
            if subscription.kind is Kind.PREDICTION:
                self._predict(subscription, ordinal, event)
            else:
                subscription.callback(event)
        except RAISED as error:
            raise StrategyError(describe(subscription, ordinal, event, error)) from error
        self.note_price(event)
        if self._proposals:
            self.judge_all(subscription, ordinal, event)
        if self.warming:
            self._warm_up(subscription)

    def apply_block(self, subscription: Subscription, first_ordinal: int, events: Iterable[Event]) -> int:
        """A run of records of one stream that is no prediction stream; returns how many. As `apply`, in fewer steps."""
        if self.warming or subscription is self._awaited_by_models:
            return self._apply_one_by_one(subscription, first_ordinal, events)
        paper = self.paper if self._meets_orders(subscription) else None
        strategy, callback, proposals = self.strategy, subscription.callback, self._proposals
        # counts the events in place of `enumerate`, which would make a number for each and not for those alone that have a signal
        left = repeat(True, _MANY)
        coming = compress(events, left)
        event: Event | None = None
        judging = False
        try:
            while True:
                if paper is not None and paper.waits:
                    # the worker's own orders meet each record before the strategy sees it
                    for event in coming:
                        if not paper.is_passed_by(event):  # type: ignore[arg-type]  # as in `meet`
                            judging = True
                            self.meet_soon(paper, event)
                            judging = False
                        strategy.now_ns = event.event_ns
                        callback(event)
                        judging = True
                        self.note_price(event)
                        if proposals:
                            self.judge_all(subscription, _newest(first_ordinal, left), event)
                        judging = False
                        if not paper.waits:
                            break
                    else:
                        break
                for event in coming:
                    strategy.now_ns = event.event_ns
                    callback(event)
                    if proposals:
                        judging = True
                        self.note_price(event)
                        self.judge_all(subscription, _newest(first_ordinal, left), event)
                        judging = False
                        if paper is not None and paper.waits:
                            break
                else:
                    break
        except RAISED as error:
            if judging:  # not the strategy's fault: a divergence, a full disk
                raise
            raise StrategyError(describe(subscription, _newest(first_ordinal, left), event, error)) from error
        finally:
            if paper is not None:
                self.keep_filled(paper)
        if event is not None:
            self.note_price(event)
        return _MANY - length_hint(left)

    def needs_each(self, subscription: Subscription) -> bool:
        """Whether something is to be done at each record of a stream besides the strategy's callback."""
        return bool(self.warming) or subscription is self._awaited_by_models or self._meets_orders(subscription)

    def apply_run(
        self,
        subscription: Subscription,
        first_ordinal: int,
        block: Block,
        hand: memoryview,
        note: Callable[[Block, int], None],
    ) -> None:
        """As `apply_block`, for records of a tape and a stream that does not need each.

        `hand[0]` is set to the mark of each record before the strategy has it: who finds this process gone knows where it was.
        `note(block, at)` is called before a signal is recorded: it sets `seq`.
        """
        assert not self.needs_each(subscription)
        strategy, callback, proposals = self.strategy, subscription.callback, self._proposals
        event: Event | None = None
        judging = False
        try:
            for hand[0], strategy.now_ns, event in zip(block.marks, block.times, block.events, strict=True):
                callback(event)
                if proposals:
                    judging = True
                    at = bisect_left(block.marks, hand[0])
                    note(block, at)
                    self.note_price(event)
                    self.judge_all(subscription, first_ordinal + at, event)
                    judging = False
        except RAISED as error:
            if judging:
                raise
            ordinal = first_ordinal + bisect_left(block.marks, hand[0])
            raise StrategyError(describe(subscription, ordinal, event, error)) from error
        if event is not None:
            self.note_price(event)

    def meet(self, paper: PaperDesk, event: Event) -> None:
        """The worker's own orders meet a record of their symbol, before the strategy sees it."""
        if paper.is_passed_by(event):  # type: ignore[arg-type]  # what a stream of `is_market` gives
            return
        for told in paper.meet(event):  # type: ignore[arg-type]  # as above
            self._keep(told.payload)
            if self.listens:
                self._apply_private(self._private, told.entry.number, told.as_record())
        if not self.listens:
            self.strategy.position = float(paper.held)

    def meet_soon(self, paper: PaperDesk, event: Event) -> None:
        """As `meet`; where nobody listens, what is told of it is kept no later than at `keep_filled`."""
        if self.listens or not paper.fill_alone(event):  # type: ignore[arg-type]  # as in `meet`
            self.meet(paper, event)
        else:
            held = paper.held
            self.strategy.position = float(held) if held else 0.0  # a Decimal becomes a float by way of its text

    def keep_filled(self, paper: PaperDesk) -> None:
        """The fills of `meet_soon` go where fills are kept."""
        for told in paper.tell_filled():
            self._keep(told.payload)

    @property
    def last_price(self) -> float | None:
        """Of the worker's symbol; None if there is none that is a number."""
        return self._price if isfinite(self._price) and self._price > 0 else None

    def note_price(self, event: Event) -> None:
        """What signals are judged by from now on, if it is a price of the worker's symbol."""
        kind = type(event)
        if kind is Bar:
            price = event.close  # type: ignore[union-attr]  # the exact type was just checked, faster than isinstance
        elif kind is Trade:
            price = event.price  # type: ignore[union-attr]
        elif kind is Quote:
            price = event.mid  # type: ignore[union-attr]
        else:
            return
        if event.symbol == self.spec.symbol:  # type: ignore[union-attr]
            self._price = price

    def judge_all(self, subscription: Subscription, ordinal: int, event: Event | PrivateEvent) -> None:
        """Everything that the strategy has asked for of a record."""
        proposals = self._proposals[:]
        self._proposals.clear()
        passed = []
        for proposal in proposals:
            body = self._judge(proposal, subscription, ordinal, event)
            if body.refusal is None:
                passed.append(body)
        if passed and self.paper is not None:
            self.paper.submit(*passed)

    @property
    def has_faults(self) -> bool:
        return self._aggregator.has_faults

    def take_faults(self) -> tuple[Fault, ...]:
        """Predictions that were refused or did not come since the last call, the newest few hundred of them."""
        return self._aggregator.take_faults()

    def state(self) -> bytes:
        """Everything the machine remembers, for the snapshot. Raises StrategyError naming what cannot be kept."""
        kept = kept_by(self.strategy)
        paper = self.paper.state() if self.paper else None
        return dumps((self.n, self._price, self.warming, self._aggregator, self._combined, paper, kept), self.strategy)

    def restore(self, state: bytes) -> None:
        """Raises StateError if it is not the state of this strategy."""
        try:
            self.n, self._price, self.warming, self._aggregator, self._combined, paper, kept = loads(
                state, self.strategy
            )
            if self.paper is not None:
                self.paper.restore(paper)
        except Exception as error:
            raise StateError(f"snapshot: expected the state of {self.spec.key.name}, found: {error!r}") from error
        for name, value in kept.items():
            object.__setattr__(self.strategy, name, value)

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _predictions_of(self, model: str) -> tuple[Prediction, ...]:
        return self._aggregator.latest(model, self.spec.symbol)

    def _meets_orders(self, subscription: Subscription) -> bool:
        return self.paper is not None and subscription.is_market

    def _subscribe_all(self, streams: list[Stream]) -> list[Subscription]:
        market = fill_streams(streams, self.spec.symbol) if self.spec.paper else set()
        found = [self._subscribe(stream, is_market=stream in market) for stream in streams]
        return [*found, self._private] if self.spec.fills else found

    def _subscribe(self, stream: Stream, *, is_market: bool) -> Subscription:
        strategy = self.strategy
        callbacks: dict[Kind, Callable[[Any], None]] = {
            Kind.TRADE: strategy.on_trade,
            Kind.QUOTE: strategy.on_quote,
            Kind.BAR: strategy.on_bar,
            Kind.PREDICTION: strategy.on_prediction,
            Kind.CLOCK: strategy.on_timer,
        }
        return Subscription(stream, callbacks[stream.kind], is_market=is_market)

    def _own_bars(self) -> Subscription | None:
        """The bars that the models speak of."""
        own = bars(self.spec.symbol, self.spec.timeframe)
        return next((subscription for subscription in self.subscriptions if subscription.stream == own), None)

    def _bars_to_warm_up(self) -> dict[str, int]:
        """How many more bars of which streams the strategy must see before its signals may leave."""
        warmup_bars, symbol = self.strategy.inputs.warmup_bars, self.spec.symbol
        own = [s for s in self.subscriptions if s.kind == Kind.BAR and s.stream.symbol == symbol]
        return {subscription.name: warmup_bars for subscription in own if warmup_bars}

    def _warm_up(self, subscription: Subscription) -> None:
        left = self.warming.get(subscription.name)
        if left is None:
            return
        if left > 1:
            self.warming[subscription.name] = left - 1
        else:
            del self.warming[subscription.name]

    def _tell(self, callback: str, call: Callable[[], None]) -> None:
        try:
            call()
        except RAISED as error:
            raise StrategyError(f"{callback}: {raised(error)}") from error
        self._proposals.clear()

    def _apply_one_by_one(self, subscription: Subscription, first_ordinal: int, events: Iterable[Event]) -> int:
        ordinal = first_ordinal - 1
        for ordinal, event in enumerate(events, first_ordinal):
            self.apply(subscription, ordinal, event)
        return ordinal + 1 - first_ordinal

    def _apply_private(self, subscription: Subscription, ordinal: int, told: PrivateEvent) -> None:
        """Time does not go back for the strategy: what it is told of may have happened before the record it saw last. Of another
        account, in which the worker traded before, it is told nothing."""
        if told.entry.position.account != self.spec.account:
            return
        strategy = self.strategy
        strategy.now_ns = max(strategy.now_ns, told.event_ns)
        try:
            tell(strategy, told.entry)
        except RAISED as error:
            raise StrategyError(describe(subscription, ordinal, told, error)) from error
        if self._proposals:
            self.judge_all(subscription, ordinal, told)

    def _predict(self, subscription: Subscription, ordinal: int, event: Event) -> None:
        assert isinstance(event, Prediction)
        combined = self._aggregator.add(event, subscription.name, ordinal)
        if combined is not None:
            self._combined = combined
            self.strategy.on_prediction(combined.prediction)

    def _fresh(self, now_ns: int) -> Combined | None:
        """The models' last word, while it is at most one bar old: the prediction of a bar follows the bar itself."""
        combined = self._combined
        if combined is None or now_ns - combined.prediction.event_ns > self._prediction_life_ns:
            return None
        return combined

    def _judge(
        self, proposal: Proposal, subscription: Subscription, ordinal: int, event: Event | PrivateEvent
    ) -> SignalBody:
        spec, strategy = self.spec, self.strategy
        combined = None if self._combined is None else self._fresh(event.event_ns)
        moment = Moment(
            price=self._price,
            position=strategy.position,
            default_size=spec.size,
            protection=spec.protection,
            votes=combined.votes if combined else (),
            confidence=combined.prediction.confidence if combined else None,
            threshold=combined.threshold if combined else None,
            needs_models=bool(spec.models),
            warm=self.live and not self.warming,
            has_oms=self._told_of_fills,
            worker=self._name,
        )
        try:
            draft = draft_of(proposal)
        except (TypeError, ValueError, OverflowError) as error:
            raise StrategyError(describe(subscription, ordinal, event, error)) from error
        refusal = judge(draft, moment)
        if refusal is not None:
            leave_out_not_finite(draft)
        n, self.n = self.n, self.n + 1
        body = SignalBody(
            id=signal_id(self._name, spec.generation, n),
            client=spec.client,
            strategy=spec.strategy,
            symbol=spec.symbol,
            venue=spec.venue,
            timeframe=spec.timeframe,
            action=draft.action,
            size=draft.size,
            entry_price=draft.entry_price,
            stop_loss=draft.stop_loss,
            take_profit=draft.take_profit,
            confidence=draft.confidence,
            strength=draft.strength,
            strategy_type=spec.strategy_type,
            models=moment.votes,
            cause=Cause(stream=subscription.name, ordinal=ordinal, event_ns=event.event_ns, values=_values(event)),
            reasons=tuple(draft.reasons),
            refusal=refusal,
            terms=draft.terms,
            of=draft.of,
        )
        if refusal is None and draft.action in ORDERING:
            strategy.last_signal = body.id
        if refusal is None and not self._told_of_fills:
            strategy.position = position_after(draft, strategy.position)
        self._record(n, body, self.seq)
        return body


def _private_subscription(spec: WorkerSpec, make: Callable[..., PrivateEvent] | None) -> Subscription:
    """The worker's private stream: of the tape, or of the worker's own making where there is no OMS to tell of."""
    assert make is not None or not spec.fills, "a worker with a fill log needs what reads it"

    return Subscription(private(spec.key), _never, make or _never)


def _newest(first_ordinal: int, left: "repeat[bool]") -> int:
    """The ordinal of the event that came last, of which `left` was one."""
    return first_ordinal + _MANY - length_hint(left) - 1


def _never(*_: Any) -> Any:
    raise AssertionError("no private record is on a tape for a worker that fills its own orders")


def _values(event: Event | PrivateEvent) -> tuple[float | None, ...]:
    """The numbers of the record; what is not finite is None."""
    if isinstance(event, PrivateEvent):
        return event.slot
    numbers = msgspec.structs.astuple(event)[_FIRST_VALUE[type(event)] :]
    if isfinite(sum(numbers)):  # then all of them are
        return numbers
    return tuple([number if isfinite(number) else None for number in numbers])


def describe(subscription: Subscription, ordinal: int, event: Event | PrivateEvent | None, error: BaseException) -> str:
    return f"{subscription.name} ordinal {ordinal}: {raised(error)} (record: {event})"
