"""Orders as a strategy wants them placed, and its hand on those it has: in a worker that fills its own."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from oms.paper_build import X
from worker.build import START_NS, Recorded, Row, worker_spec

from strategy_runner.config.spec import PaperSpec, ProtectionSpec, WorkerSpec
from strategy_runner.model.event import Fill, OrderUpdate, Trade
from strategy_runner.model.fill_settings import FillSettings
from strategy_runner.model.instrument import Instrument
from strategy_runner.strategies.interface import Inputs, Strategy

NAN = float("nan")


def spec(*, fills: bool = True, instrument: Instrument = X) -> WorkerSpec:
    paper = PaperSpec(fills=FillSettings(queue="touch"), instrument=instrument) if fills else None
    return worker_spec(Path("unused"), streams=("X/trade",), paper=paper, protection=ProtectionSpec())


def trades(*prices: float) -> list[Row]:
    return [("X/trade", START_NS + number * 1_000_000_000, (price, 5.0, 1.0)) for number, price in enumerate(prices, 1)]


class Script(Strategy):
    """Does at each trade what the test's script says for it."""

    inputs = Inputs(trades=True)
    script: tuple[Any, ...] = ()

    def on_start(self) -> None:
        self.count = 0
        self.fills: list[tuple[float, float]] = []
        self.updates: list[tuple[str, str, str]] = []

    def on_trade(self, trade: Trade) -> None:
        wish = self.script[self.count] if self.count < len(self.script) else None
        self.count += 1
        if wish is not None:
            getattr(self, wish[0])("as told", **wish[1])

    def on_fill(self, fill: Fill) -> None:
        self.fills.append((fill.price, fill.size))

    def on_order(self, order: OrderUpdate) -> None:
        self.updates.append((order.leg, order.state, order.reason))


def run(script: tuple[Any, ...], *prices: float, fills: bool = True, instrument: Instrument = X) -> Recorded:
    made = Recorded(spec(fills=fills, instrument=instrument), type("Told", (Script,), {"script": script}))
    made.machine.start()
    made.apply(trades(*prices))
    return made


def told(made: Recorded) -> Script:
    strategy = made.strategy
    assert isinstance(strategy, Script)
    return strategy


def refusals(made: Recorded) -> list[str | None]:
    return [body.refusal for body in made.bodies]


def test_a_limit_entry_waits_for_its_price_and_a_stop_entry_for_the_other_side() -> None:
    limit = run((("buy", {"limit_price": 99.0, "size": 1.0}),), 100.0, 100.0, 99.5, 99.0, 98.0)
    assert told(limit).fills == [(99.0, 1.0)]
    stop = run((("buy", {"stop_price": 101.0, "size": 1.0}),), 100.0, 100.5, 101.5, 102.0)
    assert told(stop).fills == [(101.5, 1.0)]


def test_an_entry_is_protected_from_the_price_that_it_waits_for_whatever_its_strategy_expects() -> None:
    wish = {"entry_price": 100.0, "limit_price": 90.0}
    refused = run((("buy", {**wish, "stop_loss": 95.0}),), 100.0, 90.0, 90.0)
    assert [body.refusal for body in refused.bodies] == ["stop_loss_on_wrong_side"]
    trailing = run((("buy", {**wish, "trail": 2.0}),), 100.0, 90.0, 90.0)
    assert [(body.entry_price, body.stop_loss) for body in trailing.bodies] == [(100.0, 88.0)]
    assert told(trailing).fills == [(90.0, 2.0)]


def test_a_stop_limit_entry_is_protected_from_whichever_of_its_prices_is_nearer_to_its_stop_loss() -> None:
    wish = {"stop_price": 103.0, "limit_price": 108.0}
    trailing = run((("buy", {**wish, "trail": 2.0}),), 100.0, 103.5, 103.5, 103.5)
    assert [body.stop_loss for body in trailing.bodies] == [101.0]
    assert told(trailing).fills == [(103.5, 2.0)]
    refused = run((("buy", {**wish, "stop_loss": 105.0}),), 100.0)
    assert [body.refusal for body in refused.bodies] == ["stop_loss_on_wrong_side"]
    short = run((("sell", {"stop_price": 97.0, "limit_price": 95.0, "trail": 2.0}),), 100.0)
    assert [body.stop_loss for body in short.bodies] == [99.0]


def test_an_order_that_must_fill_at_once_ends_if_it_does_not() -> None:
    made = run((("buy", {"limit_price": 99.0, "time_in_force": "ioc"}),), 100.0, 100.0, 99.0)
    assert told(made).fills == []
    assert told(made).updates == [("entry", "expired", "ioc")]


def test_a_trailing_stop_follows_the_best_price_and_leaves_at_its_distance() -> None:
    made = run((("buy", {"trail": 2.0, "size": 1.0}),), 100.0, 100.0, 105.0, 104.0, 102.5, 90.0)
    assert told(made).fills == [(100.0, 1.0), (102.5, -1.0)]


def test_an_order_is_modified_and_cancelled_by_the_last_signal() -> None:
    script = (("buy", {"limit_price": 95.0, "size": 2.0}), ("modify", {"limit_price": 99.0, "size": 1.0}))
    assert told(run(script, 100.0, 100.0, 99.5, 98.0)).fills == [(99.0, 1.0)]
    script = (("buy", {"limit_price": 95.0, "size": 2.0}), ("cancel", {}))
    cancelled = run(script, 100.0, 100.0, 90.0, 90.0)
    assert told(cancelled).fills == []
    assert told(cancelled).updates == [("entry", "cancelled", "asked")]
    assert [body.of for body in cancelled.bodies] == ["", cancelled.bodies[0].id]


def test_a_modification_that_would_enlarge_an_order_changes_nothing_as_with_a_router() -> None:
    """The stop would protect a part of the position alone."""
    script = (
        ("buy", {"limit_price": 99.0, "size": 1.0, "stop_loss": 95.0}),
        ("modify", {"limit_price": 99.5, "size": 2.0}),
    )
    made = run(script, 100.0, 100.0, 99.2, 99.0, 98.0, 94.0)
    assert told(made).fills == [(99.0, 1.0), (94.0, -1.0)]
    assert made.strategy.position == 0


def test_the_stop_of_a_position_is_moved() -> None:
    script = (("buy", {"stop_loss": 90.0, "size": 1.0}), None, ("modify", {"stop_loss": 99.0}))
    made = run(script, 100.0, 100.0, 100.0, 98.0)
    assert told(made).fills == [(100.0, 1.0), (98.0, -1.0)]


@pytest.mark.parametrize(
    ("wish", "refusal"),
    [
        (("buy", {"limit_price": NAN}), "terms_not_finite"),
        (("buy", {"stop_price": -1.0}), "terms_not_positive"),
        (("buy", {"trail": 0.0}), "terms_not_positive"),
        (("buy", {"limit_price": 99.0, "stop_loss": 99.5}), "stop_loss_on_wrong_side"),
        (("buy", {"size": 1e30}), "number_too_large"),
        (("buy", {"take_profit": 1e30}), "number_too_large"),
        (("buy", {"limit_price": 1e40}), "number_too_large"),
        (("modify", {"limit_price": 99.0}), "no_order_to_change"),
        (("modify", {"limit_price": 99.0, "of": "rival:talk.X@0/0"}), "no_order_to_change"),
        (("modify", {"of": "acme:talk.X@0badcafe/0"}), "nothing_to_change"),
        (("cancel", {}), "no_order_to_change"),
    ],
)
def test_what_cannot_be_placed_or_changed_is_refused_by_name(wish: Any, refusal: str) -> None:
    assert refusals(run((wish,), 100.0)) == [refusal]


@pytest.mark.parametrize("step", [5e-324, 1e-20, 0.12345678901234567, 1.7e308])
@pytest.mark.parametrize("size", [1e-300, 0.1, 1e15])
def test_no_number_that_passes_and_no_step_of_an_instrument_ends_a_worker(step: float, size: float) -> None:
    grid = Decimal(repr(step))
    instrument = msgspec.structs.replace(X, tick_size=grid, lot_size=grid)
    script = (
        ("buy", {"size": size}),
        ("sell", {"size": size, "stop_loss": 1e15, "take_profit": 1e-300}),
        ("modify", {"size": 1e-300, "stop_loss": 1e-300, "take_profit": 1e15}),
        ("buy", {"size": size, "limit_price": 1e15, "trail": 1e14}),
        ("close", {}),
        ("close", {"trail": 1e15}),
    )
    assert refusals(run(script, *[100.0] * 8, instrument=instrument))[:4] == [None] * 4


@pytest.mark.parametrize(
    "wish", [("buy", {"limit_price": 99.0}), ("buy", {"time_in_force": "day"}), ("cancel", {"of": "x"})]
)
def test_without_an_oms_nobody_could_place_it(wish: Any) -> None:
    assert refusals(run((wish,), 100.0, fills=False)) == ["terms_need_oms"]
