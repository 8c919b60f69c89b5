"""The screen before the tape, and the checkpoints of a feed: what may not be trusted."""

import math
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from strategy_runner.feed.checkpoint import Checkpoint, newest_checkpoint, write_checkpoint
from strategy_runner.feed.screen import Screen
from strategy_runner.feed.sources.interface import Raw
from strategy_runner.model.record import Kind

SECOND = 1_000_000_000
NOW = 1_800_000_000 * SECOND
NAN, INF = math.nan, math.inf


def trade(at_s: float, price: float = 100.0, size: float = 1.0) -> Raw:
    return "A", int(Kind.TRADE), NOW + int(at_s * SECOND), price, size, 1.0, 0.0, 0.0


def quote(at_s: float, bid: float = 100.0, ask: float = 101.0, *sizes: float) -> Raw:
    return ("A", int(Kind.QUOTE), NOW + int(at_s * SECOND), bid, ask, *(sizes or (NAN, 1.0)), 0.0)  # type: ignore[return-value]


def bar(at_s: float, open_: float, high: float, low: float, close: float, volume: float) -> Raw:
    return "A", int(Kind.BAR), NOW + int(at_s * SECOND), open_, high, low, close, volume


def judge(*rows: Raw, last_ns: Mapping[tuple[str, int], int] = {}) -> tuple[list[Raw], dict[str, int]]:
    screen = Screen(last_ns)
    kept = screen.judge(rows, {"A": Kind.BAR, "OF TRADES": Kind.TRADE}, NOW)
    return kept, {reason: count for (_, reason), count in screen.counts.items()}


@pytest.mark.parametrize(
    "row, reason",
    [
        (("B", *trade(0)[1:]), "unknown"),
        (("A", 99, *trade(0)[2:]), "unknown"),
        (("OF TRADES", *bar(0, 1.0, 2.0, 0.5, 1.5, 1.0)[1:]), "unknown"),
        (trade(0)[:7], "malformed"),
        ((["A"], *trade(0)[1:]), "malformed"),
        (("A", "1", *trade(0)[2:]), "malformed"),
        (None, "malformed"),
        (trade(0, NAN), "not_finite"),
        (trade(0, INF), "not_finite"),
        (trade(0, 1.0, NAN), "not_finite"),
        (trade(0, 0.0), "not_positive"),
        (trade(0, 1e16), "implausible_price"),
        (quote(0, 100.0, 1e16), "implausible_price"),
        (bar(0, 1.0, 1e300, 0.5, 1.5, 1.0), "implausible_price"),
        (trade(0, -1.0), "not_positive"),
        (trade(0, 1.0, 0.0), "not_positive"),
        (quote(0, NAN), "not_finite"),
        (quote(0, 100.0, 101.0, INF, 1.0), "not_finite"),
        (quote(0, 0.0), "not_positive"),
        (quote(0, 102.0), "crossed"),
        (quote(0, 100.0, 101.0, -1.0, 1.0), "negative_volume"),
        (bar(0, 1.0, 2.0, 1.5, 1.6, 1.0), "crossed"),
        (bar(0, 1.0, 2.0, 0.0, 1.6, 1.0), "not_positive"),
        (bar(0, 1.0, 2.0, 1.0, 1.6, INF), "not_finite"),
        (bar(0, 1.0, 2.0, 1.0, 1.6, -1.0), "negative_volume"),
        (trade(86_401), "implausible_time"),
        (trade(-NOW / SECOND), "implausible_time"),
        (("A", int(Kind.TRADE), NOW + 0.5, 1.0, 1.0, 1.0, 0.0, 0.0), "no_number"),
        (("A", int(Kind.TRADE), NOW, None, 1.0, 1.0, 0.0, 0.0), "no_number"),
    ],
)
def test_a_row_that_cannot_be_is_dropped_for_this_reason(row: Raw, reason: str) -> None:
    assert judge(row) == ([], {reason: 1})


def test_sound_rows_stay_as_they_are() -> None:
    rows = [
        trade(0),
        trade(0),
        quote(0),
        quote(1),
        trade(1),
        bar(2, 1.0, 2.0, 0.5, 1.5, 0.0),
        bar(3, 1.0, 2.0, 0.5, 1.5, NAN),
        trade(60),
    ]
    assert judge(*rows) == (rows, {}), "equal trades are real; each series has an order of its own"


def test_a_row_that_is_ahead_alone_is_dropped_and_silences_nobody() -> None:
    kept, counts = judge(trade(0), trade(3_600), trade(1), trade(3_600), quote(3_600), trade(2))
    assert (kept, counts) == ([trade(0), trade(1), trade(2)], {"leap": 3})


def test_two_rows_that_are_ahead_together_are_believed_and_so_is_what_follows_them() -> None:
    kept, counts = judge(trade(0), trade(3_600), trade(3_601), trade(3_602), trade(3_650))
    assert (kept, counts) == ([trade(0), trade(3_601), trade(3_602), trade(3_650)], {"leap": 1})
    before = {("A", int(Kind.TRADE)): NOW + 3_600 * SECOND}
    assert judge(trade(3_610), last_ns=before) == ([trade(3_610)], {}), "also after a restart"


def test_bars_of_a_day_that_follow_one_another_do_not_leap() -> None:
    rows = [bar(day * 86_400, 1.0, 2.0, 0.5, 1.5, 1.0) for day in (-2, -1, 0)]
    assert judge(*rows) == (rows, {})


def test_a_quote_or_bar_that_is_the_last_one_again_is_dropped() -> None:
    assert judge(quote(0), quote(0), quote(1)) == ([quote(0), quote(1)], {"duplicate": 1})
    first = bar(0, 1.0, 2.0, 0.5, 1.5, 1.0)
    assert judge(first, bar(0, 1.0, 3.0, 0.5, 1.5, 1.0)) == ([first], {"duplicate": 1})
    assert judge(first, last_ns={("A", int(Kind.BAR)): NOW}) == ([], {"duplicate": 1}), "also one from before a restart"


def test_a_row_is_late_for_a_second_and_out_of_order_after_that() -> None:
    kept, counts = judge(trade(10), trade(9, 5.0), trade(8.9, 6.0), trade(11))
    assert kept == [trade(10), trade(10, 5.0), trade(11)]
    assert counts == {"late": 1, "out_of_order": 1}
    early = bar(9.5, 1.0, 2.0, 0.5, 1.5, 1.0)
    assert judge(bar(10, 1.0, 2.0, 0.5, 1.5, 1.0), early)[1] == {"out_of_order": 1}


def test_what_was_kept_never_goes_back_whatever_comes() -> None:
    luck = random.Random(4)
    rows = [trade(luck.uniform(-20, 20), luck.choice((1.0, NAN, -1.0, INF))) for _ in range(2_000)]
    kept, counts = judge(*rows)
    times = [row[2] for row in kept]
    assert times == sorted(times)
    assert len(kept) + sum(counts.values()) - counts["late"] == len(rows)


def test_the_1st_2nd_4th_row_of_a_reason_is_told(caplog: pytest.LogCaptureFixture) -> None:
    judge(*[trade(0, NAN)] * 1_000)
    assert len(caplog.records) == 10


@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_bit_of_the_newest_checkpoint_leaves_the_older_one(tmp_path: Path, seed: int) -> None:
    luck = random.Random(seed)
    for seq in (100, 200):
        checkpoint = Checkpoint(seq=seq, streams=("A/trade",), source={"n": seq}, derivations={}, clock_ns=seq)
        write_checkpoint(tmp_path, checkpoint, durable=200)
    newest = tmp_path / f"{200:015d}.checkpoint"
    raw = bytearray(newest.read_bytes())
    bit = luck.randrange(8 * len(raw))
    raw[bit // 8] ^= 1 << bit % 8
    newest.write_bytes(raw)
    found = newest_checkpoint(tmp_path, 300)
    assert found is not None
    assert found.seq == 100
