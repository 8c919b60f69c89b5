"""A strategy restored from its pickle goes on as if nothing had happened, wherever it was cut."""

import pickle
import random

import pytest

from strategy_runner.model.event import Bar, Event, Prediction
from strategy_runner.strategies import strategy_state
from strategy_runner.strategies.interface import Proposal, Strategy
from strategy_runner.strategies.params import build_params
from strategy_runner.strategies.registry import BUILTIN
from strategy_runner.strategies.testing import bars, feed

PARAMS: dict[str, dict[str, float]] = {
    "mean_reversion": {"window": 7, "entry_z": 1.2},
    "momentum_rider": {"lookback_bars": 3, "threshold": 0.001, "exit_after_bars": 4},
    "moving_average_crossover": {"fast": 3, "slow": 8},
    "swing_high": {"lookback_bars": 4, "exit_after_bars": 3},
    "swing_low": {"lookback_bars": 4, "exit_after_bars": 3},
}


def market(seed: int, count: int) -> list[Event]:
    rng = random.Random(seed)
    closes = [100.0]
    for _ in range(count - 1):
        closes.append(closes[-1] * (1.0 + rng.gauss(0.0, 0.003)))
    events: list[Event] = []
    for bar in bars(*closes):
        events.append(bar)
        events.append(Prediction("TEST", "model", "1m", bar.event_ns, rng.uniform(-1.0, 1.0), rng.random()))
    return events


def fresh(name: str) -> Strategy:
    strategy = BUILTIN[name](build_params(BUILTIN[name], PARAMS[name], name), symbol="TEST", timeframe="1m")
    strategy.on_start()
    return strategy


def play(strategy: Strategy, events: list[Event]) -> list[Proposal]:
    return [proposal for event in events for proposal in feed(strategy, event)]


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_every_cut_gives_the_proposals_of_an_uncut_run(name: str) -> None:
    assert set(PARAMS) == set(BUILTIN)
    events = market(seed=5, count=120)
    running = fresh(name)
    states: list[tuple[bytes, int]] = []
    uncut: list[Proposal] = []
    for event in events:
        states.append((pickle.dumps(running, protocol=5), len(uncut)))
        uncut += feed(running, event)
    assert {proposal.action for proposal in uncut} >= {"close"}, "the series must make the strategy act"
    for cut, (state, spoken) in enumerate(states):
        assert play(pickle.loads(state), events[cut:]) == uncut[spoken:], f"cut before event {cut}"


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_every_reason_has_a_number_and_every_strength_lies_above_0_up_to_1(name: str) -> None:
    proposals = play(fresh(name), market(seed=6, count=400))
    assert proposals
    for proposal in proposals:
        assert proposal.reasons
        assert all(any(letter.isdigit() for letter in reason) for reason in proposal.reasons)
        assert proposal.size is None
        if proposal.action == "close":
            assert proposal.strength is None
        else:
            assert proposal.strength is not None
            assert 0.0 < proposal.strength <= 1.0


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_no_strategy_asks_to_close_what_it_does_not_hold_or_to_enter_twice(name: str) -> None:
    strategy = fresh(name)
    for event in market(seed=7, count=400):
        before = strategy.position
        for proposal in feed(strategy, event):
            assert (proposal.action == "close") == (before != 0.0)


def test_bars_alone_are_enough_for_the_strategies_that_declare_only_bars() -> None:
    only_bars = [event for event in market(seed=5, count=120) if isinstance(event, Bar)]
    for name, strategy in BUILTIN.items():
        assert bool(play(fresh(name), list(only_bars))) == (not strategy.inputs.predictions)


def test_a_state_written_when_its_own_place_was_another_still_names_the_strategy() -> None:
    written = (
        b"\x80\x05\x95?\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x02me\x94\x8c%strategy_runner.worker.strategy_state"
        b"\x94\x8c\x06itself\x94\x93\x94)R\x94s."
    )
    strategy = fresh("swing_low")
    assert strategy_state.loads(written, strategy) == {"me": strategy}
    assert strategy_state.loads(strategy_state.dumps({"me": strategy}, strategy), strategy) == {"me": strategy}
