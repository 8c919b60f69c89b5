"""What can happen to a client's risk state: a small set of events. The state is what they make of it, and nothing else.

Each is a Struct with a tag, so that a log of them is read back as it was written; `at_ns` is the moment it was taken in.
"""

from decimal import Decimal
from typing import Literal

import msgspec

from strategy_runner.model.fill import Fill
from strategy_runner.model.order import OrderChange, OrderReport, OrderRequest
from strategy_runner.risk.limits import Limits

Authority = Literal["operator", "reconciliation"]
Stop = Literal["reducing", "halted"]


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    at_ns: int


class Configured(Event, frozen=True, kw_only=True, tag="configured"):
    """The limits changed. The first event of a client also says what it begins with; later ones leave its cash alone."""

    limits: Limits
    day: int
    starting_cash: Decimal


class CashMoved(Event, frozen=True, kw_only=True, tag="cash_moved"):
    """Money put in (positive) or taken out: neither profit nor loss."""

    amount: Decimal


class Rated(Event, frozen=True, kw_only=True, tag="rated"):
    """What one unit of a currency is worth in the client's."""

    currency: str
    rate: Decimal


class Marked(Event, frozen=True, kw_only=True, tag="marked"):
    """A price of a symbol. One of a symbol that nobody holds changes nothing, and need not be kept."""

    symbol: str
    price: Decimal


class Filled(Event, frozen=True, kw_only=True, tag="filled"):
    """Each fill once: the OMS numbers its events densely, and who reads them keeps count."""

    fill: Fill


class Paid(Event, frozen=True, kw_only=True, tag="paid"):
    """A funding payment on a strategy's position, positive when received, in the instrument's currency."""

    strategy: str
    symbol: str
    amount: Decimal


class Signalled(Event, frozen=True, kw_only=True, tag="signalled"):
    """A worker's signal came to be decided while it was fresh, whatever was decided: what a runaway is counted by. One that comes
    too late to be traded, as hundreds may after a long stop, is none."""

    strategy: str
    symbol: str


class Ordered(Event, frozen=True, kw_only=True, tag="ordered"):
    """An order became an intent, while `price` was the last of its symbol; None if there was none, as may be for an exit."""

    order: OrderRequest
    price: Decimal | None


class Changed(Event, frozen=True, kw_only=True, tag="changed"):
    """An open order is to be changed, or with `is_made` has been: the OMS says so."""

    change: OrderChange
    is_made: bool = False


class Reported(Event, frozen=True, kw_only=True, tag="reported"):
    """What the OMS knows of an order now. With `has_fill` the fill is taken in next, which works the exposure out."""

    report: OrderReport
    has_fill: bool = False


class DayRolled(Event, frozen=True, kw_only=True, tag="day_rolled"):
    """A trading day began, see day.py. One that is not later than the state's own changes nothing."""

    day: int


class Stopped(Event, frozen=True, kw_only=True, tag="stopped"):
    """Somebody with the authority stops a client, a strategy, a symbol or a worker; "" is all of them. `action` is the number of
    the operator's, 0 if it is no operator's; the state keeps the last, so that none is taken in twice."""

    authority: Authority
    posture: Stop
    strategy: str = ""
    symbol: str = ""
    reason: str = ""
    action: int = 0


class Resumed(Event, frozen=True, kw_only=True, tag="resumed"):
    """Lifts what this authority may lift in exactly this scope. `action` as of a Stopped."""

    authority: Authority
    strategy: str = ""
    symbol: str = ""
    reason: str = ""
    action: int = 0


RiskEvent = (
    Configured
    | CashMoved
    | Rated
    | Marked
    | Filled
    | Paid
    | Signalled
    | Ordered
    | Changed
    | Reported
    | DayRolled
    | Stopped
    | Resumed
)
