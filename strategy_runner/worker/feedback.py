"""Feedback: what a strategy is told of an entry of its fill log, in the numbers that strategies count with."""

from typing import Any

from strategy_runner.model.event import Fill, OrderUpdate, Position
from strategy_runner.model.order import signed
from strategy_runner.model.private import PrivateEntry
from strategy_runner.strategies.interface import Strategy


def tell(strategy: Strategy, entry: PrivateEntry) -> None:
    """The position first: whatever is told, `self.position` is what is held now. Raises what the strategy raises."""
    event, held = entry.event, entry.position
    symbol, event_ns = held.symbol, event.event_ns
    strategy.position = float(held.quantity)
    if event.fill is not None:
        fill = event.fill
        size = float(signed(fill.side, fill.quantity))
        strategy.on_fill(Fill(symbol, event_ns, fill.signal_id, float(fill.price), size, float(fill.fee)))
    if event.fill is not None or event.amount is not None:
        gains: list[Any] = [held.average_price, held.realised, held.fees, held.funding]
        strategy.on_position(Position(symbol, event_ns, strategy.position, *map(float, gains)))
    if event.report is not None:
        report = event.report
        sizes = float(report.quantity), float(report.filled)
        strategy.on_order(
            OrderUpdate(symbol, event_ns, entry.signal_id, entry.leg, report.state.value, *sizes, report.reason)
        )
