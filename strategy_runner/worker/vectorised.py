"""Bars at once: a strategy's `on_bars` in place of its `on_bar`, with everything else as it is.

The strategy says at which bars it may speak, by what it holds there. Between two of them nothing happens, so the worker goes
from one to the next: there it judges, logs, makes orders and lets them meet each bar that follows, as long as one is open. So
`position` comes of real fills here too, and no strategy has to guess them.
"""

import numpy as np
import numpy.typing as npt

from strategy_runner.errors import StrategyError
from strategy_runner.model.event import Bar
from strategy_runner.model.record import Kind
from strategy_runner.oms.fill_model import Band
from strategy_runner.strategies.client_code import raised
from strategy_runner.strategies.interface import Bars, Strategy
from strategy_runner.worker.machine import RAISED, Machine, describe
from strategy_runner.worker.subscription import Subscription

_LOOK_BARS = 64  # ahead for what touches an order, and then twice as many


def reason_against(machine: Machine) -> str:
    """Why a worker cannot take bars at once; "" if it can."""
    if getattr(machine.strategy.on_bars, "__func__", None) is Strategy.on_bars:
        return "its strategy has no on_bars"
    if machine.spec.models:
        return "it has models"
    kinds = [subscription.kind for subscription in machine.subscriptions]
    return "" if kinds == [Kind.BAR] else "it reads more than the bars of its timeframe"


def apply_bars(machine: Machine, subscription: Subscription, first_ordinal: int, bars: Bars) -> None:
    """As `Machine.apply_block` over the same bars. Raises StrategyError as it does."""
    try:
        _apply(machine, subscription, first_ordinal, bars)
    finally:
        if machine.paper is not None:
            machine.keep_filled(machine.paper)


def _apply(machine: Machine, subscription: Subscription, first_ordinal: int, bars: Bars) -> None:
    strategy, count = machine.strategy, len(bars.event_ns)
    if not count:
        return
    try:
        speak, *masks = strategy.on_bars(bars)
        flat, long, short = (_following(mask, count) for mask in masks)
    except RAISED as error:
        where = f"{subscription.name} ordinals {first_ordinal} to {first_ordinal + count - 1}"
        raise StrategyError(f"{where}: on_bars: {raised(error)}") from error
    paper = machine.paper if subscription.is_market else None
    left = machine.warming.get(subscription.name, 0)
    # a memoryview gives Python's own numbers, faster than numpy does
    columns = [column.data for column in bars]
    symbol, timeframe = subscription.stream.symbol, subscription.stream.timeframe
    at = 0
    while True:
        meets = paper is not None and paper.waits
        band = paper.band if paper is not None and meets else None
        if not meets or band is not None:
            candidate = _of(strategy.position, flat, long, short)[at]
            at = candidate if band is None else _first_outside(band, bars, at, candidate)
        if at >= count:
            break
        event = Bar(symbol, timeframe, *[column[at] for column in columns])
        if meets:
            assert paper is not None
            if at:
                machine.note_price(Bar(symbol, timeframe, *[column[at - 1] for column in columns]))
            machine.meet_soon(paper, event)
        if not meets or _of(strategy.position, flat, long, short)[at] == at:
            if machine.warming and at >= left:
                del machine.warming[subscription.name]
            strategy.now_ns = event.event_ns
            try:
                speak(at)
            except RAISED as error:
                raise StrategyError(describe(subscription, first_ordinal + at, event, error)) from error
            machine.note_price(event)
            machine.judge_all(subscription, first_ordinal + at, event)
        at += 1
    if machine.warming:
        machine.warming[subscription.name] = left - count
        if left <= count:
            del machine.warming[subscription.name]
    last = Bar(symbol, timeframe, *[column[-1] for column in columns])
    strategy.now_ns = last.event_ns
    machine.note_price(last)


def _of(
    position: float, flat: "memoryview[int]", long: "memoryview[int]", short: "memoryview[int]"
) -> "memoryview[int]":
    if position > 0.0:
        return long
    return short if position < 0.0 else flat


def _first_outside(band: Band, bars: Bars, begin: int, end: int) -> int:
    """The first bar from `begin` on, and before `end`, that touches an order; `end` if there is none."""
    low, high = band
    look = _LOOK_BARS
    while begin < end:
        part = slice(begin, min(end, begin + look))
        inside = (bars.low[part] > low) & (bars.high[part] < high)
        for column in (bars.open[part], bars.close[part]):
            inside &= (column > low) & (column < high)
        if not inside.all():
            return begin + int(inside.argmin())
        begin, look = begin + look, 2 * look
    return end


def _following(mask: "npt.NDArray[np.bool_] | None", count: int) -> "memoryview[int]":
    """For each bar the first candidate at or behind it, `count` where there is none; and for the place behind the last."""
    following = np.full(count + 1, count)
    if mask is not None:
        if mask.shape != (count,) or mask.dtype != np.bool_:
            raise ValueError(f"expected masks of {count} bools, found {mask.dtype} of shape {mask.shape}")
        following[:count][mask] = np.flatnonzero(mask)
        np.minimum.accumulate(following[::-1], out=following[::-1])
    return following.data
