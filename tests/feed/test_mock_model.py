"""The mock model: predictions are a pure function of the bars, the seed and what the model is called."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from strategy_runner.predictions.mock_model import WINDOW_BARS, MockModel

MINUTE = 60_000_000_000
closes_of_a_day = st.lists(st.floats(0.01, 1e6), max_size=40)


def predict(closes: list[float], *, seed: int = 1, name: str = "m", symbol: str = "A") -> list[tuple[float, float]]:
    model = MockModel(seed, name, symbol, "1m")
    return [model.predict(i * MINUTE, close) for i, close in enumerate(closes)]


@settings(max_examples=60, deadline=None)
@given(closes=closes_of_a_day)
def test_the_same_bars_give_the_same_predictions_within_their_bounds(closes: list[float]) -> None:
    predictions = predict(closes)
    assert predictions == predict(closes)
    assert all(-1.0 <= score <= 1.0 and 0.0 <= confidence <= 1.0 for score, confidence in predictions)


@settings(max_examples=60, deadline=None)
@given(closes=closes_of_a_day, cut=st.integers(0, 40))
def test_the_closes_a_model_remembers_are_all_its_state(closes: list[float], cut: int) -> None:
    model = MockModel(1, "m", "A", "1m")
    for i, close in enumerate(closes[:cut]):
        model.predict(i * MINUTE, close)
    assert len(model.closes) <= WINDOW_BARS
    restored = MockModel(1, "m", "A", "1m")
    restored.closes = list(model.closes)
    later = [restored.predict(i * MINUTE, close) for i, close in enumerate(closes) if i >= cut]
    assert later == predict(closes)[cut:]


def test_seed_name_and_symbol_make_different_models() -> None:
    rng = random.Random(3)
    closes = [100.0 + rng.gauss(0.0, 1.0) for _ in range(20)]
    found = [predict(closes), predict(closes, seed=2), predict(closes, name="n"), predict(closes, symbol="B")]
    assert len({tuple(each) for each in found}) == 4


def test_a_model_says_up_when_prices_rise_and_down_when_they_fall() -> None:
    rising, falling = predict([float(i) for i in range(1, 60)]), predict([float(60 - i) for i in range(1, 60)])
    assert all(score > 0.5 for score, _ in rising[1:])
    assert all(score < -0.5 for score, _ in falling[1:])
