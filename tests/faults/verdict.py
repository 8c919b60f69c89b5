"""The oracle's verdict: what was expected and is not there, is there twice, or was not expected."""

from collections import Counter
from collections.abc import Iterable

import msgspec

DIFFERENCES_MAX = 10


class Verdict(msgspec.Struct, kw_only=True):
    """What was found. `signals`, `orders`, `fills` and `answers` to fills say how much there was to compare; `differences` names
    the first few."""

    signals: int = 0
    orders: int = 0
    fills: int = 0
    answers: int = 0
    lost: int = 0
    doubled: int = 0
    alien: int = 0
    differences: list[str] = []

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.alien or self.differences)

    def add(self, other: "Verdict") -> None:
        self.signals += other.signals
        self.orders += other.orders
        self.fills += other.fills
        self.answers += other.answers
        self.lost += other.lost
        self.doubled += other.doubled
        self.alien += other.alien
        self.differences += other.differences

    def note(self, text: str) -> None:
        if len(self.differences) < DIFFERENCES_MAX:
            self.differences.append(text)

    def compare(self, where: str, expected: dict[str, bytes], found: Iterable[tuple[str, bytes]]) -> None:
        """`found` are (id, what stands there) in the order in which they stand."""
        times: Counter[str] = Counter()
        for one, raw in found:
            times[one] += 1
            if times[one] > 1:
                self.doubled += 1
                self.note(f"{where}: {one}: expected once, found {times[one]} times")
            elif one not in expected:
                self.alien += 1
                self.note(f"{where}: {one}: expected no such thing, found {_shown(raw)}")
            elif raw != expected[one]:
                self.alien += 1
                self.lost += 1
                self.note(f"{where}: {one}: expected {_shown(expected[one])}, found {_shown(raw)}")
        for one in expected.keys() - times.keys():
            self.lost += 1
            self.note(f"{where}: {one}: expected {_shown(expected[one])}, found nothing")


def _shown(raw: bytes) -> str:
    return raw.decode(errors="replace")
