"""Reconciliation: what a client's desk believes to hold and to have open, against what the OMS says. Pure, but for the file in
which people read the outcome.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path

import msgspec

from strategy_runner.model.order import OrderReport
from strategy_runner.model.position import ZERO, Position
from strategy_runner.router.order_index import DeskOrder
from strategy_runner.small_files import read_whole, replace_file
from strategy_runner.tape.files import is_full

UNRECONCILED = "not_reconciled"


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """`kind` is position, order or contradiction; `ours` and `theirs` say what each side has."""

    kind: str
    symbol: str
    ours: str
    theirs: str
    account: str = ""
    strategy: str = ""
    client_order_id: str = ""

    @property
    def whose(self) -> str:
        return self.client_order_id or f"{self.account} {self.strategy}".strip()

    @property
    def name(self) -> str:
        return " ".join(filter(None, (self.symbol, self.kind, self.whose)))

    def __str__(self) -> str:
        return f"{self.name}: expected {self.ours}, found {self.theirs}"


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """Of the moment `at_ns`; `action` is the operator's who asked for it, 0 where nobody did."""

    at_ns: int
    action: int
    differences: tuple[Difference, ...] = ()


def differences(
    ours: Iterable[Position],
    theirs: Iterable[Position],
    our_orders: Mapping[str, DeskOrder],
    their_orders: Iterable[OrderReport],
    contradicted: Mapping[str, str],
) -> tuple[Difference, ...]:
    """Positions by quantity, orders by whether they are open. Intents that never left are nobody's business but ours."""
    found = [
        Difference(kind="contradiction", symbol=symbol, ours="news that follow each other", theirs=problem)
        for symbol, problem in sorted(contradicted.items())
    ]
    held, told = _quantities(ours), _quantities(theirs)
    for key in sorted(held.keys() | told.keys()):
        mine, other = held.get(key, ZERO), told.get(key, ZERO)
        if not (other.is_finite() and mine == other):  # sNaN takes part in no comparison
            account, strategy, symbol = key
            found.append(
                Difference(
                    kind="position",
                    symbol=symbol,
                    account=account,
                    strategy=strategy,
                    ours=str(mine),
                    theirs=str(other),
                )
            )
    reported = {report.client_order_id: report for report in their_orders}
    for order_id in sorted(our_orders.keys() | reported.keys()):
        known, report = our_orders.get(order_id), reported.get(order_id)
        if known is not None and known.order.is_known and report is None:
            symbol = known.order.request.symbol
            state = known.order.state.value
            found.append(
                Difference(kind="order", symbol=symbol, client_order_id=order_id, ours=state, theirs="no open order")
            )
        elif known is None and report is not None:
            found.append(
                Difference(
                    kind="order", symbol="", client_order_id=order_id, ours="no open order", theirs=report.state.value
                )
            )
    return tuple(found)


def write_reconciliation(folder: Path, outcome: Reconciliation) -> None:
    """Raises OSError, but for a full disk: what people read may be of an hour ago, and says so."""
    try:
        replace_file(_path(folder), msgspec.json.format(msgspec.json.encode(outcome)), synced="nothing")
    except OSError as error:
        if not is_full(error):
            raise


def read_reconciliation(folder: Path) -> Reconciliation | None:
    """None before the first."""
    try:
        return msgspec.json.decode(read_whole(_path(folder)), type=Reconciliation)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _quantities(positions: Iterable[Position]) -> dict[tuple[str, str, str], Decimal]:
    return {(one.account, one.strategy, one.symbol): one.quantity for one in positions if one.quantity}


def _path(folder: Path) -> Path:
    return folder / "reconciliation.json"
