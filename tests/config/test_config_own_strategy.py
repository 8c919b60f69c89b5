"""Christian's own strategy fades moves on a wide spread, and nothing else."""

from pathlib import Path

from strategy_runner.model.event import Quote
from strategy_runner.strategies.interface import Strategy
from strategy_runner.strategies.registry import load_client_strategies

FOLDER = Path(__file__).parents[2] / "clients" / "christian" / "strategies"


def watcher() -> Strategy:
    strategy = load_client_strategies(FOLDER)["spread_watch"]
    params = strategy.Params(window=3, entry_ratio=1.5)  # type: ignore[call-arg]  # its own Params, known by name only
    watch = strategy(params, symbol="XAUUSD", timeframe="1m")
    watch.on_start()
    return watch


def actions(watch: Strategy, *quotes: tuple[float, float]) -> list[str]:
    for number, (bid, ask) in enumerate(quotes):
        watch.on_quote(Quote("XAUUSD", number, bid, ask))
    return [proposal.action for proposal in watch._proposals]


CALM = [(99.5, 100.5)] * 3


def test_a_fall_on_a_wide_spread_is_bought_and_a_rise_sold() -> None:
    assert actions(watcher(), *CALM, (97.0, 99.0)) == ["buy"]
    assert actions(watcher(), *CALM, (101.0, 103.0)) == ["sell"]


def test_nothing_is_asked_while_the_spread_is_usual_or_the_window_not_full() -> None:
    assert actions(watcher(), *CALM, (97.0, 98.0)) == []
    assert actions(watcher(), *CALM[:2], (97.0, 99.0)) == []


def test_a_crossed_or_missing_side_is_passed_by() -> None:
    nan = float("nan")
    assert actions(watcher(), *CALM, (101.0, 100.0), (nan, 100.0), (90.0, nan)) == []


def test_what_is_held_is_closed_once_the_spread_is_back() -> None:
    watch = watcher()
    watch.position = 1.0
    assert actions(watch, *CALM, (97.0, 99.0), (99.0, 99.9)) == ["close"]
