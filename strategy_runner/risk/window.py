"""A window: the moments of the last so many things, enough to tell whether one more would be too many."""

import msgspec

from strategy_runner.risk.limits import Rate


class Window(msgspec.Struct, kw_only=True):
    """The last `rate.count` moments, a ring of which `at` is the oldest. Exact, and of bounded size whatever comes."""

    times_ns: list[int] = []
    at: int = 0

    def is_full(self, rate: Rate, now_ns: int) -> bool:
        """Whether one more now would be more than the rate allows. A clock that went back counts against it until
        `move_back` has told."""
        return len(self.times_ns) >= rate.count and now_ns - self._oldest(rate) < rate.span_ns

    def used(self, span_ns: int, now_ns: int) -> int:
        """How many of the moments lie within the span before now."""
        return sum(now_ns - moment < span_ns for moment in self.times_ns)

    def add(self, rate: Rate, now_ns: int) -> None:
        if len(self.times_ns) > rate.count or (self.at and len(self.times_ns) < rate.count):
            self._fit(rate)
        if len(self.times_ns) < rate.count:
            self.times_ns.append(now_ns)
            return
        self.times_ns[self.at] = now_ns
        self.at = (self.at + 1) % rate.count

    def move_back(self, by_ns: int) -> None:
        """The clock was set back by so much."""
        self.times_ns = [moment - by_ns for moment in self.times_ns]

    def _oldest(self, rate: Rate) -> int:
        """Of the last `rate.count` moments, which are all there are unless the rate has just been lowered."""
        return self.times_ns[(self.at + len(self.times_ns) - rate.count) % len(self.times_ns)]

    def _fit(self, rate: Rate) -> None:
        """The rate changed: the youngest moments stay, the oldest first."""
        ordered = self.times_ns[self.at :] + self.times_ns[: self.at]
        self.times_ns = ordered[-rate.count :]
        self.at = 0
