"""What can happen to a desk's orders: the entries of its journal. The desk's order book is what they make of it.

Each is a Struct with a tag, so that the journal is read back as it was written; `at_ns` is the wall clock when it was.
"""

import msgspec

from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import OmsEvent, OrderChange, OrderReport, OrderRequest
from strategy_runner.oms.order_machine import News

OWN = -1  # the decision of an order, or the number of an event, that is of the desk's own making


class Scope(msgspec.Struct, frozen=True):
    """Some of a client's workers; "" is every strategy, or every symbol."""

    strategy: str = ""
    symbol: str = ""

    def covers(self, strategy: str, symbol: str) -> bool:
        return (not self.strategy or self.strategy == strategy) and (not self.symbol or self.symbol == symbol)


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    at_ns: int


class Intended(Entry, frozen=True, kw_only=True, tag="intended"):
    """An order is wanted. On the disk before it may be sent, which is not at or after `expires_ns` of the feed's clock (0:
    whenever)."""

    order: OrderRequest
    decision: int = OWN
    expires_ns: int = 0


class Leaving(Entry, frozen=True, kw_only=True, tag="leaving"):
    """Intents that are sent together, now."""

    client_order_ids: tuple[str, ...]


class Told(Entry, frozen=True, kw_only=True, tag="told"):
    """What is known of an order otherwise than by an event: what the OMS answered, or that it did not. `report` is what it
    then comes to."""

    news: News
    report: OrderReport


class Happened(Entry, frozen=True, kw_only=True, tag="happened"):
    """An event of the OMS, or one of the desk's own: an order that never left. `fills` is how many entries the fill log has
    with it. What `counts` is sound; what is not has changed nothing but the number of events. `instrument` is what its money
    and that of its symbol from here on is counted with, where that is another than before: no later configuration changes
    money that was counted."""

    event: OmsEvent
    fills: int
    counts: bool = True
    instrument: Instrument | None = None


class Heard(Entry, frozen=True, kw_only=True, tag="heard"):
    """Events of the OMS below `next_event` that no entry tells only said what its answers had said before."""

    next_event: int


class CancelWanted(Entry, frozen=True, kw_only=True, tag="cancel_wanted"):
    """`reason` is the stable name of why; "" where only the desk's own order is kept."""

    client_order_id: str
    reason: str = ""


class ModifyWanted(Entry, frozen=True, kw_only=True, tag="modify_wanted"):
    """A strategy wants an open order changed; forgotten once the OMS has said what it makes of it. `decision` is carried out
    with this entry, OWN if others of it follow."""

    change: OrderChange
    decision: int


class Modified(Entry, frozen=True, kw_only=True, tag="modified"):
    """What the OMS has made of a wished modification, if it `is_made`; `report` is its answer."""

    change: OrderChange
    report: OrderReport
    is_made: bool


class Contradicted(Entry, frozen=True, kw_only=True, tag="contradicted"):
    """News that cannot be true of a symbol: no entries there until a person has settled it."""

    symbol: str
    problem: str


class Acted(Entry, frozen=True, kw_only=True, tag="acted"):
    """An operator's action is durable here; with `flatten` its scope is made flat until it is, with `reconcile` positions and
    orders are compared with the OMS's until that could be done, and what it says accepted if that is True."""

    action: int
    flatten: Scope | None = None
    reconcile: bool | None = None


class Flattened(Entry, frozen=True, kw_only=True, tag="flattened"):
    """A round of an operator's flattening: its orders are in the entries before, or with `is_over` none is needed any more."""

    action: int
    is_over: bool = False


class Compared(Entry, frozen=True, kw_only=True, tag="compared"):
    """What an operator's reconciliation came to stands where people read it."""

    action: int


class Settled(Entry, frozen=True, kw_only=True, tag="settled"):
    """A person has accepted what the OMS says; contradictions so far are forgotten. `next_event` is given for an OMS that knows
    of fewer events than the desk: from there on they are taken in."""

    next_event: int | None = None


OrderEntry = (
    Intended
    | Leaving
    | Told
    | Happened
    | Heard
    | CancelWanted
    | ModifyWanted
    | Modified
    | Contradicted
    | Acted
    | Flattened
    | Compared
    | Settled
)
