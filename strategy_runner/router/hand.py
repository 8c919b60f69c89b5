"""The operator's hand on the desk: cancelling, flattening, and reconciling with the OMS. And that of an open breaker.

An action has a number, and is durable in the desk's journal before it is said to be done. The ids of its orders come of that
number: an action that is carried on after a kill sends none twice.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import msgspec

from strategy_runner.model.fill import Fill
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import OmsEvent, OrderRequest, Side, client_order_id
from strategy_runner.model.position import ZERO, Position
from strategy_runner.oms.interface import Oms
from strategy_runner.oms.order_machine import Cancelled, advance, report_of
from strategy_runner.risk.breakers import BREAKERS
from strategy_runner.risk.working import PROTECTIVE_LEGS
from strategy_runner.router.order_book import closes_now
from strategy_runner.router.order_entry import (
    OWN,
    Acted,
    CancelWanted,
    Compared,
    Flattened,
    Intended,
    OrderEntry,
    Scope,
    Settled,
)
from strategy_runner.router.order_flow import OrderFlow
from strategy_runner.router.order_index import DeskOrder
from strategy_runner.router.order_journal import OrderJournal
from strategy_runner.router.reconciliation import Difference, Reconciliation, differences, write_reconciliation
from strategy_runner.router.testimony import is_summable

FLATTEN_ROUNDS_MAX = 5
COMPARE_AGAIN_S = 1.0
LOOK_TWICE_S = 0.2  # until a difference is one
NOT_AT_OMS = "not_at_oms"
FLATTENED = "flattened"
REASONS: dict[str, str] = {
    NOT_AT_OMS: "an operator accepted that the OMS has no such order any more",
    FLATTENED: "the order was cancelled to make flat what it belonged to",
}

log = logging.getLogger(__name__)


class Cancel(msgspec.Struct, frozen=True):
    action: int
    scope: Scope


class Flatten(msgspec.Struct, frozen=True):
    action: int
    scope: Scope


class Reconcile(msgspec.Struct, frozen=True):
    action: int
    accept: bool = False


class Withdraw(msgspec.Struct, frozen=True):
    """Entries that a breaker has stopped, by client order id with its reason. Asked again until they are over."""

    entries: dict[str, str]


Wish = Cancel | Flatten | Reconcile | Withdraw


class Hand:
    """Of one life of the desk. `is_reconciled` once a comparison with the OMS was possible."""

    def __init__(
        self,
        journal: OrderJournal,
        oms: Oms,
        flow: OrderFlow,
        folder: Path,
        instruments: Mapping[str, Instrument],
        event_ns: Callable[[], int],
    ) -> None:
        self.differences: tuple[Difference, ...] = ()
        self.is_reconciled = False
        self._book = journal.book
        self._oms = oms
        self._flow = flow
        self._folder = folder
        self._instruments = instruments
        self._event_ns = event_ns
        self._compare_at: float | None = 0.0
        self._suspected: tuple[Difference, ...] = ()
        self._refused: tuple[Difference, ...] = ()

    def take(self, wish: Wish) -> None:
        """Makes an action durable; `turn` carries it out."""
        at_ns = time.time_ns()
        if isinstance(wish, Withdraw):
            self._withdraw(wish, at_ns)
            return
        if wish.action <= self._book.acted:
            return
        match wish:
            case Cancel():
                entries = [one for one in self._open(wish.scope) if not one.order.request.reduce_only]
                cancels = _cancels(entries, at_ns, BREAKERS["operator"].refusal)
                self._flow.want([*cancels, Acted(at_ns=at_ns, action=wish.action)])
            case Flatten():
                acted = Acted(at_ns=at_ns, action=wish.action, flatten=wish.scope)
                cancels = _cancels(self._open(wish.scope), at_ns, FLATTENED)
                self._flow.want([*cancels, acted, *self._round(wish.action, wish.scope, 0, at_ns)])
            case Reconcile():
                self._flow.want([Acted(at_ns=at_ns, action=wish.action, reconcile=wish.accept)])
                self._compare_at = 0.0

    def turn(self) -> bool:
        """Raises OmsUnavailable, OmsRefused."""
        worked = self._flatten()
        if self._compare_at is None and self._is_contradicted_anew():
            self._compare_at = 0.0
        if self._compare_at is not None and time.monotonic() >= self._compare_at and self._flow.is_settled:
            worked |= self._reconcile()
        return worked

    # -- cancelling and flattening -------------------------------------------------------------------------------------------

    def _withdraw(self, wish: Withdraw, at_ns: int) -> None:
        """Exits and what protects a position stay; of a bracket whose entry goes they end with it."""
        known = ((self._book.orders.get(order_id), why) for order_id, why in wish.entries.items())
        cancels: list[OrderEntry] = [
            CancelWanted(at_ns=at_ns, client_order_id=one.order.id, reason=why)
            for one, why in known
            if one is not None and not one.cancel and not one.order.request.reduce_only
        ]
        if cancels:
            self._flow.want(cancels)

    def _open(self, scope: Scope) -> list[DeskOrder]:
        """The open orders of a scope but for those that protect a position: they stay until it is closed."""
        return [
            one
            for one in self._book.orders.values()
            if one.order.request.leg not in PROTECTIVE_LEGS
            and scope.covers(one.order.request.strategy, one.order.request.symbol)
        ]

    def _flatten(self) -> bool:
        """The next round of each flattening whose orders are over: what was filled meanwhile, or could not be exited. Orders that
        strategies have made since then wait for their prices as long as they like, but what closes now is waited for."""
        worked = False
        for action, flattening in list(self._book.flattening.items()):
            if any(one.decision < flattening.below or closes_now(one) for one in self._open(flattening.scope)):
                continue
            at_ns = time.time_ns()
            self._flow.want(self._round(action, flattening.scope, flattening.rounds, at_ns))
            worked = True
        return worked

    def _round(self, action: int, scope: Scope, number: int, at_ns: int) -> list[OrderEntry]:
        held = [one for one in self._book.positions() if one.quantity and scope.covers(one.strategy, one.symbol)]
        if number >= FLATTEN_ROUNDS_MAX and held:
            names = ", ".join(f"{one.strategy}.{one.symbol} {one.quantity}" for one in held)
            log.error("action %d: expected to be flat after %d tries, found %s", action, number, names)
            held = []
        orders: list[OrderEntry] = [Intended(at_ns=at_ns, order=self._exit(one, f"{action}/{number}")) for one in held]
        is_over = not held and number > 0
        return [*orders, Flattened(at_ns=at_ns, action=action, is_over=is_over)]

    def _exit(self, held: Position, name: str) -> OrderRequest:
        side: Side = "sell" if held.quantity > 0 else "buy"
        signal_id = f"{held.client}:operator/{name}/{held.account}/{held.strategy}.{held.symbol}"
        return OrderRequest(
            client_order_id=client_order_id(signal_id, "flatten"),
            client=held.client,
            account=held.account,
            venue="",
            strategy=held.strategy,
            symbol=held.symbol,
            signal_id=signal_id,
            leg="flatten",
            side=side,
            type="market",
            quantity=self._closed(held),
            event_ns=self._event_ns(),
            reduce_only=True,
        )

    def _closed(self, held: Position) -> Decimal:
        """What a round closes: whole lots, and what is less than one by itself, which an OMS may not take. The lot may have been
        another when it was bought."""
        instrument, quantity = self._instruments.get(held.symbol), abs(held.quantity)
        return (instrument.rounded_quantity(quantity) if instrument else ZERO) or quantity

    # -- reconciling ---------------------------------------------------------------------------------------------------------

    def _is_contradicted_anew(self) -> bool:
        """Whether the desk stops entries in a symbol for a contradiction that nobody has been told of."""
        told = {one.symbol for one in self.differences if one.kind == "contradiction"}
        return not self._book.contradicted.keys() <= told

    def _reconcile(self) -> bool:
        positions, orders = self._oms.positions(), self._oms.open_orders()
        if self._flow.take_events():
            return True  # they may be younger than what was read before: compare again
        book = self._book
        found = differences(book.positions(), positions, book.orders, orders, book.contradicted)
        if found not in (self.differences, self._suspected):
            # an order may be over there while its event cannot be told yet
            self._suspected, self._compare_at = found, time.monotonic() + LOOK_TWICE_S if found else 0.0
            if found:
                return True
        action, accepts = next(iter(book.reconciling.items()), (0, False))
        if accepts and found and found != self._refused:
            self._refused = found  # so that what cannot be accepted is not tried for ever
            self._accept(action, found, positions)
            return True
        for one in found:
            if one not in self.differences:
                log.error("not reconciled: %s", one)
        if self.differences and not found:
            log.warning("reconciled: orders and positions are those of the OMS")
        self.differences, self.is_reconciled = found, True
        write_reconciliation(self._folder, Reconciliation(at_ns=time.time_ns(), action=action, differences=found))
        if action:
            self._flow.want([Compared(at_ns=time.time_ns(), action=action)])
            self._refused = ()
        if not book.reconciling:
            self._compare_at = time.monotonic() + COMPARE_AGAIN_S if found else None
        return True

    def _accept(self, action: int, found: tuple[Difference, ...], theirs: list[Position]) -> None:
        """What the OMS says becomes the truth here: quantities as if filled at its average price, orders as over; an order that
        nobody here knows is cancelled there."""
        told = {(one.account, one.strategy, one.symbol): one for one in theirs}
        events: list[OmsEvent] = []
        for one in found:
            known = self._book.orders.get(one.client_order_id)
            if one.kind == "position":
                events += self._adjustment(action, one, told.get((one.account, one.strategy, one.symbol)))
            elif one.kind == "order" and known is not None:
                events.append(self._gone(known))
            elif one.kind == "order":
                self._oms.cancel(one.client_order_id)
        self._flow.happen(events)
        next_event = self._flow.events_known() if "" in self._book.contradicted else None
        self._flow.want([Settled(at_ns=time.time_ns(), next_event=next_event)])

    def _adjustment(self, action: int, one: Difference, theirs: Position | None) -> list[OmsEvent]:
        """Nothing where no price is known: a price of 0 would be an invented gain. And nothing to a quantity that is none."""
        ours = self._book.position(one.account, one.strategy, one.symbol)
        told = theirs.quantity if theirs else ZERO
        if not is_summable(told):
            log.error("cannot accept: %s: expected a quantity that can be counted", one)
            return []
        change = told - ours.quantity
        prices = [held.average_price for held in (theirs, ours) if held is not None]
        price = next((one for one in [*prices, self._last_price(one.symbol)] if one), None)
        if price is None or one.symbol not in self._instruments:
            log.error("cannot accept: %s: expected a price and an instrument, found none", one)
            return []
        fill = Fill(
            fill_id=f"reconciliation/{action}/{one.account}/{one.strategy}.{one.symbol}",
            client_order_id="",
            signal_id="",
            client=self._book.client,
            account=one.account,
            strategy=one.strategy,
            symbol=one.symbol,
            side="buy" if change > 0 else "sell",
            price=price,
            quantity=abs(change),
            fee=ZERO,
            currency=self._instruments[one.symbol].currency,
            liquidity="taker",
            event_ns=self._event_ns(),
        )
        return [self._own(fill.event_ns, one.account, one.strategy, one.symbol, fill=fill)]

    def _last_price(self, symbol: str) -> Decimal | None:
        """At which an order of a symbol was filled."""
        for order in reversed(self._book.finished.values()):
            if order.request.symbol == symbol and order.filled:
                return order.turnover / order.filled
        return None

    def _gone(self, known: DeskOrder) -> OmsEvent:
        request = known.order.request
        report = report_of(advance(known.order, Cancelled(NOT_AT_OMS)))
        event = self._own(self._event_ns(), request.account, request.strategy, request.symbol)
        return msgspec.structs.replace(event, kind="cancelled", report=report)

    def _own(self, event_ns: int, account: str, strategy: str, symbol: str, fill: Fill | None = None) -> OmsEvent:
        return OmsEvent(
            number=OWN,
            client=self._book.client,
            kind="fill",
            event_ns=event_ns,
            seq=-1,
            fill=fill,
            account=account,
            strategy=strategy,
            symbol=symbol,
        )


def _cancels(orders: Sequence[DeskOrder], at_ns: int, reason: str) -> list[OrderEntry]:
    return [CancelWanted(at_ns=at_ns, client_order_id=one.order.id, reason=reason) for one in orders]
