"""The order desk: one order at the venue for each intent, and every fill told once."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from oms.venue import Venue
from router.trade import TALK, D, Floor
from worker.build import short_folder

from strategy_runner.model.order import client_order_id


@pytest.fixture
def root() -> Iterator[Path]:
    with short_folder() as path:
        yield path


@pytest.fixture
def floor(root: Path) -> Iterator[Callable[..., Floor]]:
    made: list[Floor] = []

    def make(*workers: str, **changes: Any) -> Floor:
        made.append(Floor(root, *workers, **changes))
        return made[-1]

    yield make
    for one in made:
        one.close()


Make = Callable[..., Floor]


def test_an_accepted_signal_becomes_an_order_and_its_fill_is_told(root: Path, floor: Make) -> None:
    with Venue(root, fills=True) as venue:
        one = floor()
        one.start()
        signal_id = one.say(size=2.0)
        one.turn_until(lambda: len(one.fills()) == 1, "a fill")
        assert one.rulings() == [("accepted", "")]
        order_id = client_order_id(signal_id, "entry")
        assert venue.placed() == {order_id: 1}
        (entry,) = one.fills()
        assert (entry.number, entry.worker, entry.position.quantity) == (0, TALK, D(2))
        assert entry.event.fill is not None and entry.event.fill.signal_id == signal_id
        kinds = [type(entry).__name__ for entry in one.orders()]
        assert kinds[:2] == ["Intended", "Told"]
        one.turn_until(lambda: one.trading.record.state.books, "the fill in the risk state")
        assert one.trading.record.state.books["talk/X"].quantity == 2
