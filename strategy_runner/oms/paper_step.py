"""One step of a paper book: what follows from one event or one request, collected over a state that it does not change.

Here are the rules that tie orders together. Exits of a bracket wait for the entry's fills and share what it filled: a fill of
one leaves less for the other, and none left cancels it. The first fill of an exit cancels what is left of the entry. An order
that only reduces takes at most the position of its strategy, and is cancelled once there is none.
"""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, localcontext

import msgspec

from strategy_runner.model.fill import Fill
from strategy_runner.model.fill_settings import FillSettings, fee_due, raw_fee
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import OmsEvent, OmsEventKind, OrderState, Side
from strategy_runner.model.position import ZERO
from strategy_runner.oms.fill_model import Execution, Lapse, Move, Outcome
from strategy_runner.oms.ledger import EXACT, place
from strategy_runner.oms.order_machine import Cancelled, Expired, Filled, News, advance, report_of
from strategy_runner.oms.paper_state import BookState, Entry, PaperOrder

_KINDS: dict[type, OmsEventKind] = {Cancelled: "cancelled", Expired: "expired", Filled: "fill"}


class Step:
    """`seq` is the tape's next record after the step, `event_ns` when it happens."""

    def __init__(
        self,
        state: BookState,
        *,
        seq: int,
        event_ns: int,
        instruments: Mapping[str, Instrument],
        settings: Callable[[str], FillSettings],
    ) -> None:
        self._state = state
        self._seq = seq
        self._event_ns = event_ns
        self._instruments = instruments
        self._settings = settings
        self.touched: dict[str, PaperOrder] = {}
        self.events: list[OmsEvent] = []
        self.opened: dict[str, dict[str, Decimal]] = {}
        self._held: dict[tuple[str, str, str], Decimal] = {}

    def entry(self) -> Entry:
        return Entry(
            seq=self._seq,
            event_ns=self._event_ns,
            orders=tuple(self.touched.values()),
            events=tuple(self.events),
            opened=self.opened,
        )

    # -- orders ----------------------------------------------------------------------------------------------------------

    def get(self, order_id: str) -> PaperOrder:
        return self.touched.get(order_id) or self._state.orders[order_id]

    def put(self, paper: PaperOrder) -> None:
        self.touched[paper.order.id] = paper

    def tell(self, kind: OmsEventKind, paper: PaperOrder, fill: Fill | None = None) -> None:
        """Puts an order and what happened to it."""
        self.put(paper)
        request = paper.order.request
        self.events.append(
            OmsEvent(
                number=self._state.number + len(self.events),
                client=self._state.client,
                kind=kind,
                event_ns=self._event_ns,
                seq=self._seq - 1,
                report=report_of(paper.order),
                fill=fill,
                account=request.account,
                strategy=request.strategy,
                symbol=request.symbol,
            )
        )

    def pay_funding(self, lane: tuple[str, str, str], amount: Decimal) -> None:
        account, strategy, symbol = lane
        self.events.append(
            OmsEvent(
                number=self._state.number + len(self.events),
                client=self._state.client,
                kind="funding",
                event_ns=self._event_ns,
                seq=self._seq - 1,
                amount=amount,
                account=account,
                strategy=strategy,
                symbol=symbol,
            )
        )

    def end(self, paper: PaperOrder, news: Cancelled | Expired) -> None:
        """An open order ends unfilled, and its bracket follows."""
        self._advance(paper, news)
        self.settle(paper.order.request.bracket)

    # -- the market ------------------------------------------------------------------------------------------------------

    def take(self, outcomes: list[Outcome]) -> list[Execution]:
        """What the fill model found for one lane. Returns the executions that were not taken back by an earlier one."""
        executed = []
        for outcome in outcomes:
            if isinstance(outcome, Move):
                paper = self.get(outcome.order.id)
                if not paper.order.is_final:
                    work = msgspec.structs.replace(outcome.order, remaining=paper.work.remaining)
                    self.put(msgspec.structs.replace(paper, work=work))
            elif isinstance(outcome, Lapse):
                paper = self.get(outcome.id)
                if not paper.order.is_final:
                    self.end(paper, Expired(outcome.reason))
            elif self._execute(outcome):
                executed.append(outcome)
        return executed

    def _execute(self, execution: Execution) -> bool:
        paper = self.get(execution.id)
        order, request = paper.order, paper.order.request
        if order.is_final:
            return False
        quantity = min(execution.quantity, paper.work.remaining)
        if only_reduces(paper):
            quantity = min(quantity, self._reducible(paper))
        if quantity <= 0:
            self.end(paper, Cancelled("nothing_to_reduce"))
            return False
        instrument = self._instruments[request.symbol]
        fees = self._settings(request.symbol).fees
        with localcontext(EXACT):
            notional = execution.price * quantity * instrument.multiplier
            raw = raw_fee(fees, notional, quantity, execution.liquidity)
            fee = fee_due(fees, paper.raw_fees if order.filled else None, raw)
        fill = Fill(
            fill_id=f"{order.id}-{len(order.fills)}",
            client_order_id=order.id,
            signal_id=request.signal_id,
            client=request.client,
            account=request.account,
            strategy=request.strategy,
            symbol=request.symbol,
            side=request.side,
            price=execution.price,
            quantity=quantity,
            fee=fee,
            currency=instrument.currency,
            liquidity=execution.liquidity,
            event_ns=self._event_ns,
        )
        before = self.held(paper.lane)
        after = before + (quantity if request.side == "buy" else -quantity)
        self._held[paper.lane] = after
        self._advance(msgspec.structs.replace(paper, raw_fees=paper.raw_fees + raw), Filled(fill))
        self._entry_ends(paper)
        self.settle(request.bracket)
        if before and (after == 0 or (before > 0) != (after > 0)):
            self._position_closed(paper.lane, request.side, is_flat=not after)
        return True

    def _advance(self, paper: PaperOrder, news: News) -> None:
        order = advance(paper.order, news)
        work = msgspec.structs.replace(paper.work, remaining=order.remaining)
        fill = news.fill if isinstance(news, Filled) else None
        self.tell(_KINDS[type(news)], msgspec.structs.replace(paper, order=order, work=work, waits=False), fill)

    # -- what ties orders together ---------------------------------------------------------------------------------------

    def held(self, lane: tuple[str, str, str]) -> Decimal:
        """The position of a lane, signed."""
        if lane in self._held:
            return self._held[lane]
        account = self._state.accounts.get(lane[0])
        position = account.positions.get(place(lane[1], lane[2])) if account else None
        return position.quantity if position else ZERO

    def settle(self, bracket: str) -> None:
        """Gives the open exits of a bracket what they may take now: all that was entered and not yet left. They end with an entry
        that ends when nothing is held."""
        if not bracket:
            return
        members = self.members(bracket)
        entry = next((paper for paper in members if paper.order.request.leg == "entry"), None)
        exits = [paper for paper in members if paper is not entry]
        left = sum((paper.order.filled for paper in exits), ZERO)
        entered = entry.order.filled if entry else max((paper.order.quantity for paper in exits), default=ZERO)
        pool = entered - left
        is_over = entry is not None and entry.order.is_final
        for paper in exits:
            if paper.order.is_final:
                continue
            if pool <= 0 and (entry is None or is_over):
                self._advance(paper, Cancelled("other_exit_filled" if left else "entry_ended"))
                continue
            if is_over and not self.held(paper.lane):
                self._advance(paper, Cancelled("position_closed"))
                continue
            remaining, waits = min(paper.order.remaining, pool), pool <= 0
            if (remaining, waits) != (paper.work.remaining, paper.waits):
                work = msgspec.structs.replace(paper.work, remaining=remaining)
                self.put(msgspec.structs.replace(paper, work=work, waits=waits))

    def _entry_ends(self, paper: PaperOrder) -> None:
        """An exit has begun to close what the entry opened: the rest of the entry is not wanted any more."""
        if not paper.order.request.bracket or paper.order.request.leg == "entry":
            return
        for member in self.members(paper.order.request.bracket):
            if member.order.request.leg == "entry" and not member.order.is_final:
                self._advance(member, Cancelled("exit_ended_it"))

    def _position_closed(self, lane: tuple[str, str, str], side: Side, *, is_flat: bool) -> None:
        """Nothing is left that orders of this side could reduce; and the rest of an entry they protected is not wanted. With
        `is_flat` orders of the other side have nothing to reduce either, unless their entry may still be filled."""
        mine = self._among(self._state.index.lanes.get(lane, {}), lambda paper: paper.lane == lane)
        for known in mine:
            paper = self.get(known.order.id)
            is_over = paper.order.request.side == side or (is_flat and not self._is_entering(paper))
            if is_over and only_reduces(paper) and not (paper.waits or paper.order.is_final):
                self._advance(paper, Cancelled("position_closed"))
                self._entry_ends(paper)
                self.settle(paper.order.request.bracket)

    def _is_entering(self, paper: PaperOrder) -> bool:
        bracket = paper.order.request.bracket
        members = self.members(bracket) if bracket else []
        return any(one.order.request.leg == "entry" and not one.order.is_final for one in members)

    def _reducible(self, paper: PaperOrder) -> Decimal:
        held = self.held(paper.lane)
        return max(ZERO, -held if paper.order.request.side == "buy" else held)

    def members(self, bracket: str) -> list[PaperOrder]:
        """The orders of a bracket that were taken."""
        known = self._state.index.brackets.get(bracket, {})
        papers = self._among(known, lambda paper: paper.order.request.bracket == bracket)
        return [paper for paper in papers if paper.order.state is not OrderState.REJECTED]

    def _among(self, ids: Iterable[str], holds: Callable[[PaperOrder], bool]) -> list[PaperOrder]:
        """Orders as they stand in this step, by age: those of the book by id, and those of the step that hold."""
        known = [self.get(order_id) for order_id in ids]
        known += [
            paper for order_id, paper in self.touched.items() if order_id not in self._state.orders and holds(paper)
        ]
        return sorted(known, key=lambda paper: paper.age)


def only_reduces(paper: PaperOrder) -> bool:
    """A stop loss or take profit never opens a position, whatever the request says."""
    request = paper.order.request
    return request.reduce_only or request.leg in ("stop_loss", "take_profit")
