"""What clients hold, as their fill logs tell it."""

from decimal import Decimal
from pathlib import Path

from oms.paper_build import X, fill

from strategy_runner.config.home import Home
from strategy_runner.model.order import OmsEvent
from strategy_runner.model.private import PrivateEntry, encode_private
from strategy_runner.oms.ledger import Account, after_fill, place
from strategy_runner.supervision.holdings import positions_of_run
from strategy_runner.tape.logs import AppendLog


def test_a_worker_whose_account_was_changed_is_shown_with_what_it_holds_in_each(tmp_path: Path) -> None:
    home = Home(tmp_path)
    path = home.fills("acme", "mock")
    path.parent.mkdir(parents=True)
    log = AppendLog(path)
    for number, (name, quantity) in enumerate({"before": Decimal(3), "now": Decimal(2)}.items()):
        one = fill("o", number, account=name, quantity=quantity)
        position = after_fill(Account(client="acme", account=name), one, X).positions[place("swing", "X")]
        event = OmsEvent(
            number=number,
            client="acme",
            kind="fill",
            event_ns=one.event_ns,
            seq=-1,
            fill=one,
            account=name,
            strategy="swing",
            symbol="X",
        )
        log.append(encode_private(PrivateEntry(number, "swing.X", event, position)))
    log.close()
    held = {one.account: one.quantity for one in positions_of_run(home, "acme", "mock")}
    assert held == {"before": 3, "now": 2}
