"""A live source gone mad: whatever rows it gives for one symbol, the streams of another are what they were without it."""

import contextlib
import math
import random
from collections.abc import Iterable
from typing import Any

import pytest

from strategy_runner.feed.derive import Derivation
from strategy_runner.feed.screen import Screen
from strategy_runner.feed.sources.interface import Raw
from strategy_runner.model.record import Kind
from strategy_runner.model.stream import Stream, trades

SECOND = 1_000_000_000
NOW = 1_800_000_000 * SECOND
STREAMS = ("trade", "quote", "clock.1s", "bar.1s", "prediction.m1.1s")
WILD: tuple[Any, ...] = (
    *(math.nan, math.inf, -math.inf, 0.0, -0.0, -1.0, 1e-320, 1e308, 100.0, 1_000.0, 2**70, None, "100", b"", True),
)
Emitted = tuple[str, int, str]


class Feed:
    """What a feed does with rows, without the tape."""

    def __init__(self, *, is_screened: bool = True) -> None:
        self.emitted: list[Emitted] = []
        self._screen = Screen({}) if is_screened else None
        self._derivations = {symbol: self._derivation(symbol) for symbol in ("CLEAN", "MAD")}

    def _derivation(self, symbol: str) -> Derivation:
        handles = {Stream.parse(f"{symbol}/{name}"): f"{symbol}/{name}" for name in STREAMS}
        return Derivation(trades(symbol), handles, emit=self._emit, seed=1)

    def _emit(self, handle: Any, event_ns: int, *values: float) -> None:
        self.emitted.append((handle, event_ns, repr(values)))

    def take(self, rows: Iterable[Raw], now_ns: int) -> None:
        kept = self._screen.judge(rows, self._derivations, now_ns) if self._screen else rows
        for symbol, kind, event_ns, v0, v1, v2, v3, _ in kept:
            if kind == Kind.TRADE:
                self._derivations[symbol].trade(event_ns, v0, v1, v2)
            elif kind == Kind.QUOTE:
                self._derivations[symbol].quote(event_ns, v0, v1, v2, v3)

    def of(self, symbol: str) -> list[Emitted]:
        return [one for one in self.emitted if one[0].startswith(f"{symbol}/")]


def clean_rows(count: int, luck: random.Random) -> list[Raw]:
    rows: list[Raw] = []
    for n in range(count):
        at_ns, price = NOW + n * SECOND // 5, round(luck.uniform(90.0, 110.0), 2)
        if n % 4:
            rows.append(("CLEAN", int(Kind.TRADE), at_ns, price, 1.0 + n % 3, 1.0, 0.0, 0.0))
        else:
            rows.append(("CLEAN", int(Kind.QUOTE), at_ns, price, price + 0.5, 1.0 + n, 2.0, 0.0))
    return rows


def mad_row(at_ns: int, luck: random.Random) -> Raw:
    """Now and then a sound one; else some of its fields are anything."""
    row: list[Any] = ["MAD", luck.choice((int(Kind.TRADE), int(Kind.QUOTE))), at_ns, 100.0, 101.0, 1.0, 1.0, 0.0]
    for _ in range(luck.choice((0, 1, 1, 1, 2, 4))):
        match luck.randrange(8):
            case 0:
                row[0] = luck.choice(("NOBODY", "", "MAD ", None, 5, "clean"))
            case 1:
                row[1] = luck.choice((0, 77, -1, None, 1.0, "trade"))
            case 2:
                row[2] = luck.choice(
                    (0, -at_ns, 2 * at_ns, at_ns - 10 * SECOND, at_ns + 3_600 * SECOND, 10**30, 0.5, None)
                )
            case _:
                row[luck.randrange(3, 8)] = luck.choice(WILD)
    return tuple(row)  # type: ignore[return-value]


def mixed(clean: list[Raw], bad: int, luck: random.Random) -> Iterable[list[Raw]]:
    """The clean rows in batches, each with many mad ones between them."""
    each = bad // len(clean)
    for row in clean:
        batch = [mad_row(row[2], luck) for _ in range(each)]
        batch.insert(luck.randrange(len(batch) + 1), row)
        yield batch


def fuzz(bad: int, seed: int) -> Feed:
    print(f"seed {seed}")
    luck = random.Random(seed)
    clean = clean_rows(1_000, luck)
    undisturbed, feed = Feed(), Feed()
    for row in clean:
        undisturbed.take([row], row[2])
    for batch in mixed(clean, bad, luck):
        feed.take(batch, max(row[2] for row in batch if row[0] == "CLEAN"))
    assert feed.of("CLEAN") == undisturbed.of("CLEAN") and len(undisturbed.emitted) > 1_500
    return feed


def is_sound(emitted: list[Emitted]) -> bool:
    """Trades and quotes of positive numbers; in each stream time does not go back."""
    last: dict[str, int] = {}
    for name, event_ns, words in emitted:
        values = eval(words, {"nan": math.nan, "inf": math.inf})
        if not isinstance(event_ns, int) or event_ns < last.get(name, 0):
            return False
        if name.endswith(("trade", "quote")) and not all(
            isinstance(value, float) and math.isfinite(value) and value > 0 for value in values[:2]
        ):
            return False
        last[name] = event_ns
    return True


def test_mad_rows_of_one_symbol_leave_the_other_alone_and_only_sound_ones_pass() -> None:
    feed = fuzz(20_000, 17)
    assert is_sound(feed.of("MAD")) and len(feed.of("MAD")) > 100


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_million_mad_rows() -> None:
    assert is_sound(fuzz(1_000_000, random.randrange(1 << 32)).of("MAD"))


def test_without_the_screen_they_would_have_passed() -> None:
    luck, feed = random.Random(17), Feed(is_screened=False)
    with contextlib.suppress(TypeError, ValueError, KeyError, OverflowError, ZeroDivisionError):
        for batch in mixed(clean_rows(200, luck), 4_000, luck):
            feed.take(batch, NOW)
    assert not is_sound(feed.emitted)
