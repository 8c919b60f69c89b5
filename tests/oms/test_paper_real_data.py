"""The paper book on real recorded markets: cash, position and profit are what a few lines make of the fills alone."""

import math
import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
from oms.paper_build import INSTRUMENTS, D, Desk, request

from strategy_runner.model.event import Bar, Quote, Trade
from strategy_runner.model.fill import Fill
from strategy_runner.model.fill_settings import FeeSettings, FillSettings
from strategy_runner.model.instrument import decimal_of
from strategy_runner.oms.ledger import valuation
from strategy_runner.oms.paper_state import BookState

CENT = Fraction(1, 100)
MARKET = FillSettings(
    participation=0.2,
    slippage_bps=0.5,
    latency_ns=50_000_000,
    fees=FeeSettings(maker=D("0.0002"), taker=D("0.0005"), minimum=D("0.01")),
)


def recorded(path: Path, limit: int) -> Iterator[Any]:
    kind = path.parent.name
    with duckdb.connect() as engine:
        rows = engine.execute(f"SELECT * EXCLUDE (ts), ts FROM '{path}' ORDER BY ts LIMIT {limit}").fetchall()
    for row in rows:
        if kind == "trades":
            yield Trade("X", row[-1], row[0], row[1])
        elif kind == "quotes":
            yield Quote("X", row[-1], *row[:4])
        else:
            yield Bar("X", "1m", row[-1], *row[:5])


def last_price(event: Any, before: float) -> float:
    price = event.price if isinstance(event, Trade) else event.mid if isinstance(event, Quote) else event.close
    return price if math.isfinite(price) else before


def recomputed(fills: list[Fill]) -> tuple[Fraction, Fraction, Fraction]:
    """(cash, position, realised profit) of fills, at average cost."""
    cash = position = average = realised = Fraction(0)
    for fill in fills:
        change = Fraction(fill.quantity) * (1 if fill.side == "buy" else -1)
        price = Fraction(fill.price)
        cash -= change * price + Fraction(fill.fee)
        if position * change < 0:
            closed = min(abs(position), abs(change)) * (1 if position > 0 else -1)
            realised += closed * (price - average)
            if abs(change) > abs(position):
                average = price
        else:
            average = (average * position + price * change) / (position + change)
        position += change
    return cash, position, realised


@pytest.mark.parametrize("kind", ["trades", "quotes", "bars_1m"])
def test_the_books_agree_to_the_cent_with_a_recomputation_from_the_fills(recorded_data: Path, kind: str) -> None:
    files = sorted((recorded_data / kind).glob("*.parquet"))
    assert files
    luck, events, filled = random.Random(1), 0, 0
    for path in files[:2]:
        desk = Desk(MARKET, keep_states=False)
        price = 0.0
        for number, event in enumerate(recorded(path, 3_000)):
            desk.apply(event)
            price = last_price(event, price)
            if number % 40 == 0 and price > 1:
                quantity = decimal_of(luck.randint(1, 20)) / 10
                side = luck.choice(["buy", "sell"])
                entry = {"side": side, "event_ns": event.event_ns, "quantity": quantity, "bracket": f"b{number}"}
                out = {**entry, "side": "sell" if side == "buy" else "buy", "type": "stop", "leg": "stop_loss"}
                sign = 1 if side == "buy" else -1
                stop, target = (str(round(price * (1 + sign * share), 2)) for share in (-0.003, 0.004))
                desk.submit(
                    request(f"e{number}", **entry),
                    request(f"s{number}", **out, stop_price=stop),
                    request(f"t{number}", **{**out, "type": "limit", "leg": "take_profit"}, limit_price=target),
                )
        fills = [event.fill for entry in desk.entries for event in entry.events if event.fill is not None]
        cash, position, realised = recomputed(fills)
        if fills:
            account = desk.book.state.accounts["main"]
            held = account.positions["swing/X"]
            assert Fraction(account.cash["USD"]) == cash
            assert Fraction(held.quantity) == position
            assert abs(Fraction(held.realised) - realised) < CENT / 100
            last = decimal_of(desk.book.state.prices["X"])
            value = valuation(account, "USD", prices={"X": last}, rates={}, instruments=INSTRUMENTS)
            assert Fraction(value.equity) == cash + position * Fraction(last)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(desk.book.state), type=BookState) == desk.book.state
        events, filled = events + number, filled + len(fills)
    assert events > 1_000
    assert filled > 50


@pytest.mark.parametrize("symbol", ["EURUSD", "XAUUSD"])
def test_a_recording_without_volumes_fills_what_a_share_of_them_is_asked_for(recorded_data: Path, symbol: str) -> None:
    desk, asked = Desk(MARKET, keep_states=False), 0
    for number, event in enumerate(recorded(recorded_data / "bars_1m" / f"{symbol}.parquet", 2_000)):
        assert event.volume == 0
        desk.apply(event)
        if number % 20 == 0:
            desk.submit(request(f"o{number}", side="sell" if number % 40 else "buy", event_ns=event.event_ns))
            asked += 1
    fills = [event.fill for entry in desk.entries for event in entry.events if event.fill is not None]
    assert asked - 1 <= len(fills) <= asked
    assert len(desk.book.open_orders()) <= 1
