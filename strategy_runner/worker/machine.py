"""The deterministic core of a worker: records in, strategy, pipeline, signals out.

No clock, no file, no socket: the loop that follows the tape and the one that runs over history both drive this machine, so
the same records give the same signals. Everything it remembers is in `state`.
"""

import pickle
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from strategy_runner.config.spec import WorkerSpec
from strategy_runner.errors import StrategyError
from strategy_runner.model.event import Bar, Event, Prediction, Quote, Timer, Trade
from strategy_runner.model.record import Kind
from strategy_runner.model.signal import Cause, SignalBody, signal_id
from strategy_runner.model.stream import Stream
from strategy_runner.model.timeframe import timeframe_ns
from strategy_runner.pipeline.draft import Draft, Moment
from strategy_runner.pipeline.pipeline import judge
from strategy_runner.predictions.aggregation import Aggregator, Combined
from strategy_runner.strategies.interface import Proposal, Strategy

NAN = float("nan")
Record = Callable[[int, SignalBody, int], None]


class Subscription:
    """One stream of a worker: how its records become events, and which callback they go to."""

    __slots__ = ("callback", "kind", "make", "name", "stream")

    def __init__(self, stream: Stream, callback: Callable[[Any], None]) -> None:
        self.stream = stream
        self.name = stream.name
        self.kind = stream.kind
        self.callback = callback
        self.make: Callable[..., Event] = _MAKERS[stream.kind](stream)


class Machine:
    """One strategy instance with its subscriptions. `record(n, body, seq)` is called for each signal, dense n from 0."""

    def __init__(self, spec: WorkerSpec, strategy: Strategy, record: Record) -> None:
        self.spec = spec
        self.strategy = strategy
        self.n = 0
        self.seq = -1
        self.warm = True
        self._record = record
        self._proposals = strategy._proposals
        self._aggregator = Aggregator(spec.models)
        self._combined: Combined | None = None
        self._price = NAN
        self._prediction_life_ns = timeframe_ns(spec.timeframe)
        self.subscriptions = [self._subscribe(Stream.parse(name)) for name in spec.streams]

    def start(self) -> None:
        """The first start of a worker's life."""
        self.strategy.on_start()
        self._proposals.clear()

    def stop(self) -> None:
        self.strategy.on_stop()
        self._proposals.clear()

    def apply(self, subscription: Subscription, ordinal: int, event: Event) -> None:
        """One record. Raises StrategyError, naming the record, if the strategy does."""
        strategy = self.strategy
        strategy.now_ns = event.event_ns
        try:
            if subscription.kind == Kind.PREDICTION:
                self._predict(subscription, ordinal, event)
            else:
                subscription.callback(event)
        except Exception as error:
            raise StrategyError(_describe(subscription, ordinal, event, error)) from error
        self._note_price(event)
        if self._proposals:
            self._judge_all(subscription, ordinal, event)

    def apply_block(self, subscription: Subscription, first_ordinal: int, events: Iterable[Event]) -> int:
        """A run of records of one stream that is no prediction stream; returns how many. As `apply`, in fewer steps."""
        strategy, callback, proposals = self.strategy, subscription.callback, self._proposals
        ordinal = first_ordinal - 1
        event: Event | None = None
        try:
            for ordinal, event in enumerate(events, first_ordinal):
                strategy.now_ns = event.event_ns
                callback(event)
                if proposals:
                    self._note_price(event)
                    self._judge_all(subscription, ordinal, event)
        except StrategyError:
            raise
        except Exception as error:
            raise StrategyError(_describe(subscription, ordinal, event, error)) from error
        if event is not None:
            self._note_price(event)
        return ordinal + 1 - first_ordinal

    def state(self) -> bytes:
        """Everything the machine remembers, for the snapshot."""
        kept = {name: value for name, value in vars(self.strategy).items() if name not in ("_proposals", "params")}
        return pickle.dumps((self.n, self._price, self._aggregator, self._combined, kept), protocol=5)

    def restore(self, state: bytes) -> None:
        self.n, self._price, self._aggregator, self._combined, kept = pickle.loads(state)
        vars(self.strategy).update(kept)

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _subscribe(self, stream: Stream) -> Subscription:
        strategy = self.strategy
        callbacks: dict[Kind, Callable[[Any], None]] = {
            Kind.TRADE: strategy.on_trade,
            Kind.QUOTE: strategy.on_quote,
            Kind.BAR: strategy.on_bar,
            Kind.PREDICTION: strategy.on_prediction,
            Kind.CLOCK: strategy.on_timer,
        }
        return Subscription(stream, callbacks[stream.kind])

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

    def _note_price(self, event: Event) -> None:
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

    def _judge_all(self, subscription: Subscription, ordinal: int, event: Event) -> None:
        proposals = self._proposals[:]
        self._proposals.clear()
        for proposal in proposals:
            self._judge(proposal, subscription, ordinal, event)

    def _judge(self, proposal: Proposal, subscription: Subscription, ordinal: int, event: Event) -> None:
        spec, strategy, combined = self.spec, self.strategy, self._fresh(event.event_ns)
        moment = Moment(
            price=self._price,
            position=strategy.position,
            default_size=spec.size,
            protection=spec.protection,
            votes=combined.votes if combined else (),
            confidence=combined.prediction.confidence if combined else None,
            threshold=combined.threshold if combined else None,
            needs_models=bool(spec.models),
            warm=self.warm,
        )
        draft = Draft(
            action=proposal.action,
            size=proposal.size,
            entry_price=proposal.entry_price,
            stop_loss=proposal.stop_loss,
            take_profit=proposal.take_profit,
            confidence=proposal.confidence,
            strength=proposal.strength,
            reasons=list(proposal.reasons),
        )
        refusal = judge(draft, moment)
        n, self.n = self.n, self.n + 1
        body = SignalBody(
            id=signal_id(spec.key.name, spec.generation, n),
            client=spec.client,
            strategy=spec.strategy,
            symbol=spec.symbol,
            venue=spec.venue,
            timeframe=spec.timeframe,
            action=draft.action,
            size=draft.size if draft.size is not None else NAN,
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
        )
        if refusal is None:
            strategy.position = _position_after(draft, strategy.position)
        self._record(n, body, self.seq)


def _position_after(draft: Draft, position: float) -> float:
    assert draft.size is not None, "an accepted draft has a size"
    if draft.action == "buy":
        return position + draft.size
    if draft.action == "sell":
        return position - draft.size
    return position - draft.size if position > 0 else position + draft.size


def _values(event: Event) -> tuple[float, ...]:
    if isinstance(event, Timer):
        return ()
    return tuple(value for value in msgspec.structs.astuple(event) if isinstance(value, float))


def _describe(subscription: Subscription, ordinal: int, event: Event | None, error: Exception) -> str:
    return f"{subscription.name} ordinal {ordinal}: {type(error).__name__}: {error} (record: {event})"


def _make_trade(stream: Stream) -> Callable[..., Event]:
    symbol = stream.symbol
    return lambda event_ns, v0, v1, v2, v3, v4: Trade(symbol, event_ns, v0, v1, v2)


def _make_quote(stream: Stream) -> Callable[..., Event]:
    symbol = stream.symbol
    return lambda event_ns, v0, v1, v2, v3, v4: Quote(symbol, event_ns, v0, v1, v2, v3)


def _make_bar(stream: Stream) -> Callable[..., Event]:
    symbol, timeframe = stream.symbol, stream.timeframe
    return lambda event_ns, v0, v1, v2, v3, v4: Bar(symbol, timeframe, event_ns, v0, v1, v2, v3, v4)


def _make_prediction(stream: Stream) -> Callable[..., Event]:
    symbol, model, timeframe = stream.symbol, stream.model, stream.timeframe
    return lambda event_ns, v0, v1, v2, v3, v4: Prediction(symbol, model, timeframe, event_ns, v0, v1)


def _make_timer(stream: Stream) -> Callable[..., Event]:
    interval_ns = timeframe_ns(stream.timeframe)
    return lambda event_ns, v0, v1, v2, v3, v4: Timer(event_ns, interval_ns)


_MAKERS: dict[Kind, Callable[[Stream], Callable[..., Event]]] = {
    Kind.TRADE: _make_trade,
    Kind.QUOTE: _make_quote,
    Kind.BAR: _make_bar,
    Kind.PREDICTION: _make_prediction,
    Kind.CLOCK: _make_timer,
}
