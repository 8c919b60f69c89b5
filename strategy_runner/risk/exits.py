"""Exits: an order that may only reduce. It passes where entries are stopped, and never asks for more than is held."""

from strategy_runner.model.order import OrderRequest, signed
from strategy_runner.risk.state import RiskState, held
from strategy_runner.risk.working import PROTECTIVE_LEGS, worker_key

NOTHING_TO_EXIT = "nothing_to_exit"
WRONG_SIDE = "exit_on_wrong_side"
MORE_THAN_HELD = "exit_exceeds_position"
MORE_THAN_ENTRY = "protection_exceeds_entry"
REASONS = {
    NOTHING_TO_EXIT: "an exit while the strategy holds nothing of the symbol, or all of it is being closed already",
    WRONG_SIDE: "an exit on the side that would add to the position",
    MORE_THAN_HELD: "an exit of more than the strategy holds, less what other exits are closing already",
    MORE_THAN_ENTRY: "a stop loss or take profit of more than the entry it protects",
}


def exit_refusal(order: OrderRequest, state: RiskState) -> str | None:
    """Stops and take profits do not count as closing already: the OMS cancels what is left of them with the position."""
    position = held(state, order.strategy, order.symbol)
    if position == 0:
        return NOTHING_TO_EXIT
    if signed(order.side, order.quantity) * position > 0:
        return WRONG_SIDE
    free = abs(position)
    if order.leg not in PROTECTIVE_LEGS:
        free -= state.totals.of(worker_key(order.strategy, order.symbol)).closing
        if free <= 0:
            return NOTHING_TO_EXIT
    return MORE_THAN_HELD if order.quantity > free else None


def protection_refusal(order: OrderRequest, entry: OrderRequest) -> str | None:
    """For a stop loss or take profit that is sent together with its entry, before anything is held."""
    if order.side == entry.side or order.symbol != entry.symbol or order.strategy != entry.strategy:
        return WRONG_SIDE
    return MORE_THAN_ENTRY if order.quantity > entry.quantity else None
