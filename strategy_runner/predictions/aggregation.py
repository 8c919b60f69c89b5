"""Aggregation: the predictions of several models of one bar become one, once every configured model has spoken.

Score, confidence and threshold are means weighted by the models' weights. A model that is silent about a bar is never
guessed: that bar has no combined prediction, and the model is counted as missing when a later bar comes.
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from math import frexp, fsum, isfinite, ldexp

import msgspec

from strategy_runner.config.spec import ModelSpec
from strategy_runner.model.event import Prediction
from strategy_runner.model.signal import ModelVote

COMBINED = "combined"
FAULTS_KEPT_MAX = 256

NOT_FINITE = "prediction_not_finite"
OUT_OF_RANGE = "prediction_out_of_range"
UNKNOWN_MODEL = "prediction_of_unknown_model"
REPEATED = "prediction_repeated"
LATE = "prediction_late"
MISSING = "prediction_missing"
REASONS = {
    NOT_FINITE: "score or confidence is NaN or infinite",
    OUT_OF_RANGE: "score lies outside [-1, 1] or confidence outside [0, 1]",
    UNKNOWN_MODEL: "the strategy does not listen to this model",
    REPEATED: "the model has already spoken of this bar",
    LATE: "a prediction of a later bar has already come",
    MISSING: "a later bar came before the model spoke of this one",
}


class Combined(msgspec.Struct, frozen=True):
    """What all models together said of a bar. `votes` are in configured order."""

    prediction: Prediction
    threshold: float
    votes: tuple[ModelVote, ...]


class Fault(msgspec.Struct, frozen=True):
    """A prediction that was refused, or did not come: `reason` is one of REASONS."""

    model: str
    symbol: str
    event_ns: int
    reason: str


class Aggregator:
    """Combines the predictions of one strategy's models; each symbol by itself. All state is in `self`, and pickles."""

    def __init__(self, models: Sequence[ModelSpec]) -> None:
        """`models` have names of their own and weights above 0; there may be none."""
        assert len({model.id for model in models}) == len(models), "every model is configured once"
        assert all(isfinite(model.weight) and model.weight > 0.0 for model in models), "weights are above 0"
        self._models = {model.id: model for model in models}
        self._threshold = _mean((model.weight, model.confidence_threshold) for model in models) if models else 0.0
        self._event_ns: dict[str, int] = {}
        self._votes: dict[str, dict[str, ModelVote]] = {}
        self._latest: dict[tuple[str, str], deque[Prediction]] = {}
        self._faults: deque[Fault] = deque(maxlen=FAULTS_KEPT_MAX)
        self.counts: Counter[tuple[str, str]] = Counter()
        """How often each (model, reason) happened."""

    def add(self, prediction: Prediction, stream: str, ordinal: int) -> Combined | None:
        """Takes one prediction in; the combination if it was the last one its bar waited for."""
        symbol, model = prediction.symbol, prediction.model
        reason = self._refusal(prediction)
        if reason:
            self._fault(model, symbol, prediction.event_ns, reason)
            return None
        self.advance(symbol, prediction.event_ns)
        votes = self._votes[symbol]
        votes[model] = ModelVote(
            model=model,
            score=prediction.score,
            confidence=prediction.confidence,
            weight=self._models[model].weight,
            stream=stream,
            ordinal=ordinal,
            event_ns=prediction.event_ns,
        )
        self._remember(prediction)
        return self._combine(prediction) if len(votes) == len(self._models) else None

    def advance(self, symbol: str, event_ns: int) -> None:
        """A bar closed at `event_ns`: a model still silent about an earlier one is missing there, and not waited for.

        `add` does this by itself; called for every bar it also finds a bar of which no model spoke at all.
        """
        before = self._event_ns.get(symbol)
        if before is not None and event_ns <= before:
            return
        if before is not None:
            for model in self._models:
                if model not in self._votes[symbol]:
                    self._fault(model, symbol, before, MISSING)
        self._event_ns[symbol] = event_ns
        self._votes[symbol] = {}

    def latest(self, model: str, symbol: str) -> tuple[Prediction, ...]:
        """The last `lookback_window` predictions taken in, oldest first. Raises ValueError for a model that is not configured."""
        if model not in self._models:
            raise ValueError(f"expected a model of {', '.join(self._models) or 'none'}, found {model!r}")
        return tuple(self._latest.get((model, symbol), ()))

    @property
    def has_faults(self) -> bool:
        """Whether there are any since they were taken last."""
        return bool(self._faults)

    def take_faults(self) -> tuple[Fault, ...]:
        """The faults since the last call, at most FAULTS_KEPT_MAX of them; `counts` has them all."""
        faults = tuple(self._faults)
        self._faults.clear()
        return faults

    # -- inside --------------------------------------------------------------------------------------------------------

    def _refusal(self, prediction: Prediction) -> str:
        score, confidence = prediction.score, prediction.confidence
        event_ns = self._event_ns.get(prediction.symbol, prediction.event_ns)
        if prediction.model not in self._models:
            return UNKNOWN_MODEL
        if not (isfinite(score) and isfinite(confidence)):
            return NOT_FINITE
        if not (-1.0 <= score <= 1.0 and 0.0 <= confidence <= 1.0):
            return OUT_OF_RANGE
        if prediction.event_ns < event_ns:
            return LATE
        if prediction.event_ns == event_ns and prediction.model in self._votes.get(prediction.symbol, ()):
            return REPEATED
        return ""

    def _fault(self, model: str, symbol: str, event_ns: int, reason: str) -> None:
        self._faults.append(Fault(model, symbol, event_ns, reason))
        self.counts[model, reason] += 1

    def _remember(self, prediction: Prediction) -> None:
        key = (prediction.model, prediction.symbol)
        if key not in self._latest:
            self._latest[key] = deque(maxlen=self._models[prediction.model].lookback_window)
        self._latest[key].append(prediction)

    def _combine(self, last: Prediction) -> Combined:
        by_model = self._votes[last.symbol]
        votes = tuple(by_model[model] for model in self._models)
        prediction = Prediction(
            symbol=last.symbol,
            model=COMBINED if len(votes) > 1 else last.model,
            timeframe=last.timeframe,
            event_ns=last.event_ns,
            score=_mean((vote.weight, vote.score) for vote in votes),
            confidence=_mean((vote.weight, vote.confidence) for vote in votes),
        )
        return Combined(prediction, self._threshold, votes)


def _mean(weighted: Iterable[tuple[float, float]]) -> float:
    """Mean of (weight, value), which never leaves the range of its values by rounding: one value is its own mean.

    Sums are exact (math.fsum), and weights are scaled by a power of two, also exact, so that none is too large to add.
    """
    pairs = list(weighted)
    values = [value for _, value in pairs]
    _, exponent = frexp(max(weight for weight, _ in pairs))
    scaled = [ldexp(weight, -exponent) for weight, _ in pairs]
    mean = fsum(weight * value for weight, value in zip(scaled, values, strict=True)) / fsum(scaled)
    return min(max(mean, min(values)), max(values))
